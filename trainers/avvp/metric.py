"""The ten numbers of audio-visual video parsing: segment and event level, A, V, AV, Type, Event.

Source: Tian, Li and Xu, "Unified Multisensory Perception", ECCV 2020, section 5, and its released
evaluation. A video's score is the mean F over the classes that stand in its truth or prediction,
1.0 if there is none; a split's score is the mean over its videos. An event is a maximal run of
positive segments; a predicted run is right if its IoU with a true run is at least one half.

Shapes: N clips, T segments, C classes. Scores are percent, float64.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import numpy as np

__all__ = ["KEYS", "LEVELS", "TABLE_SEGMENTS", "Truth", "score"]

LEVELS = ("segment", "event")
_COLUMNS = ("audio", "visual", "audio_visual", "type", "event")
KEYS = tuple(f"{level}/{column}" for level in LEVELS for column in _COLUMNS)
"""Keys of the ten numbers, in the order in which papers print them."""

TABLE_SEGMENTS = 10
"""Longest clip whose (clip, class) rows are looked up as integers; longer ones are compared."""

Counts = tuple[np.ndarray, np.ndarray]
"""True positives and (predicted + true) positives, each (N, C) int64: F is 2 TP / the second."""


def score(
    pred_audio: np.ndarray,
    pred_visual: np.ndarray,
    truth_audio: np.ndarray,
    truth_visual: np.ndarray,
) -> dict[str, float]:
    """Scores binary predictions against dense annotations.

    Args:
        pred_audio, pred_visual: (N, T, C) bool.
        truth_audio, truth_visual: (N, T, C) bool.

    Returns:
        Ten percentages under `KEYS`.

    Raises:
        ValueError: If shapes differ, there is no clip, or the values are not bool.
    """
    return Truth(truth_audio, truth_visual).score(pred_audio, pred_visual)


class Truth:
    """Dense annotations in the form in which predictions are compared with them.

    Keep one for a split that is scored again and again.

    Args:
        audio, visual: (N, T, C) bool.

    Raises:
        ValueError: If shapes differ, there is no clip, or the values are not bool.
    """

    def __init__(self, audio: np.ndarray, visual: np.ndarray) -> None:
        audio, visual = np.asarray(audio), np.asarray(visual)
        self.shape = audio.shape
        if len(self.shape) != 3 or 0 in self.shape:
            raise ValueError(f"truth must be (N, T, C) with at least one clip, not {self.shape}")
        self._rows: _Rows = _Coded() if self.shape[1] <= TABLE_SEGMENTS else _Compared()
        self._audio, self._visual = self._encode(audio), self._encode(visual)

    def score(self, pred_audio: np.ndarray, pred_visual: np.ndarray) -> dict[str, float]:
        """The ten numbers of a prediction, in percent; see `score`."""
        audio, visual = self._encode(pred_audio), self._encode(pred_visual)
        pairs = (
            (audio, self._audio),
            (visual, self._visual),
            (audio & visual, self._audio & self._visual),
        )
        result = {}
        for level, count in zip(LEVELS, (self._rows.segments, self._rows.events), strict=True):
            counts = [count(pred, truth) for pred, truth in pairs]
            numbers = [_mean_f(*c) for c in counts]
            numbers.append(sum(numbers) / 3)
            (tp_a, positives_a), (tp_v, positives_v) = counts[:2]
            numbers.append(_mean_f(tp_a + tp_v, positives_a + positives_v))
            result |= {f"{level}/{c}": n for c, n in zip(_COLUMNS, numbers, strict=True)}
        return result

    def segment_audio(self, pred_audio: np.ndarray) -> float:
        """``segment/audio`` alone, in percent."""
        return _mean_f(*self._rows.segments(self._encode(pred_audio), self._audio))

    def event_visual(self, pred_visual: np.ndarray) -> float:
        """``event/visual`` alone, in percent."""
        return _mean_f(*self._rows.events(self._encode(pred_visual), self._visual))

    def _encode(self, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values)
        if values.shape != self.shape:
            raise ValueError(f"shapes differ: {values.shape} against {self.shape}")
        if values.dtype != bool:
            # Probabilities would be scored without complaint, each above 0 as a prediction.
            raise ValueError(f"give bool, not {values.dtype}; threshold the prediction first")
        return self._rows.encode(values)


def _mean_f(tp: np.ndarray, positives: np.ndarray) -> float:
    """Mean over clips of the mean F over counted classes, in percent; (N, C) int64 each."""
    counted = positives > 0  # (N, C)
    f = 2.0 * tp / np.maximum(positives, 1)  # (N, C)
    classes = counted.sum(axis=1)  # (N,)
    clip = np.where(classes > 0, f.sum(axis=1) / np.maximum(classes, 1), 1.0)  # (N,)
    return float(100.0 * clip.mean())


class _Rows(Protocol):
    """Two exact ways to count; both keep ``&`` meaningful on what `encode` gives."""

    def encode(self, values: np.ndarray) -> Any:
        """The form of (N, T, C) bool that the counts take."""

    def segments(self, pred: np.ndarray, truth: np.ndarray) -> Counts:
        """Counts over segments."""

    def events(self, pred: np.ndarray, truth: np.ndarray) -> Counts:
        """Counts over runs."""


class _Coded:
    """A (clip, class) row of up to ten segments as an integer; events are looked up."""

    def encode(self, values: np.ndarray) -> np.ndarray:
        codes = np.zeros((values.shape[0], values.shape[2]), dtype=np.uint16)  # (N, C)
        for t in range(values.shape[1]):
            codes |= values[:, t].astype(np.uint16) << np.uint16(t)
        return codes

    def segments(self, pred: np.ndarray, truth: np.ndarray) -> Counts:
        ones = _tables()[0]
        return ones[pred & truth], ones[pred] + ones[truth]

    def events(self, pred: np.ndarray, truth: np.ndarray) -> Counts:
        _, runs, matched = _tables()
        return matched[pred, truth], runs[pred] + runs[truth]


@cache
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positives (1024,), runs (1024,) and matched runs (predicted, true) (1024, 1024), int64.

    Runs of one row are disjoint and have a gap between them, so a run can share half of itself
    with one other at most: matching is one-to-one and one table serves precision and recall.
    """
    size = 1 << TABLE_SEGMENTS
    bits = np.arange(size)[:, None] >> np.arange(TABLE_SEGMENTS) & 1  # (1024, 10)
    spans = [
        (a, b) for a in range(TABLE_SEGMENTS) for b in range(a + 1, TABLE_SEGMENTS + 1)
    ]  # 55 possible runs [a, b)
    fenced = np.pad(bits, ((0, 0), (1, 1)))  # (1024, 12)
    has_run = np.stack(
        [(fenced[:, a] == 0) & bits[:, a:b].all(1) & (fenced[:, b + 1] == 0) for a, b in spans], 1
    )  # (1024, 55)
    onset, offset = np.array(spans).T
    shared = np.minimum(offset[:, None], offset) - np.maximum(onset[:, None], onset)  # (55, 55)
    lengths = (offset - onset)[:, None] + (offset - onset)
    match = (2 * shared >= lengths - shared) & (shared > 0)
    # float32 takes the fast matrix product and holds counts up to five exactly.
    weights = has_run.astype(np.float32)
    matched = (weights @ match.astype(np.float32) @ weights.T).astype(np.int64)
    return bits.sum(1), has_run.sum(1), matched


class _Compared:
    """Rows of any length, run by run."""

    def encode(self, values: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(values.transpose(0, 2, 1))  # (N, C, T)

    def segments(self, pred: np.ndarray, truth: np.ndarray) -> Counts:
        return (pred & truth).sum(-1), pred.sum(-1) + truth.sum(-1)

    def events(self, pred: np.ndarray, truth: np.ndarray) -> Counts:
        n, c, segments = pred.shape
        (pred_run, pred_length), (true_run, true_length) = _number_runs(pred), _number_runs(truth)
        both = np.flatnonzero(pred & truth)
        pairs = np.stack([pred_run[both], true_run[both]])  # (2, shared segments)
        pairs, first, shared = np.unique(pairs, axis=1, return_index=True, return_counts=True)
        lengths = pred_length[pairs[0]] + true_length[pairs[1]]
        row = both[first[2 * shared >= lengths - shared]] // segments
        tp = np.bincount(row, minlength=n * c).reshape(n, c)
        return tp, _count_runs(pred) + _count_runs(truth)


def _starts(values: np.ndarray) -> np.ndarray:
    """Where a run begins, (N, C, T) bool."""
    starts = values.copy()
    starts[..., 1:] &= ~values[..., :-1]
    return starts


def _count_runs(values: np.ndarray) -> np.ndarray:
    return _starts(values).sum(-1)  # (N, C)


def _number_runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of the run each positive segment is in, (N * C * T,), and each run's length."""
    number = np.cumsum(_starts(values).ravel()) - 1
    return number, np.bincount(number[values.ravel()], minlength=max(0, number[-1] + 1))
