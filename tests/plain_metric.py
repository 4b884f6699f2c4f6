"""The parsing metric once more, run by run in plain Python: slow, and nothing shared with ours."""

from __future__ import annotations

from itertools import groupby

import numpy as np


def plain_score(
    pred_audio: np.ndarray,
    pred_visual: np.ndarray,
    truth_audio: np.ndarray,
    truth_visual: np.ndarray,
) -> dict[str, float]:
    """Ten percentages from (N, T, C) bool, by the definition."""
    totals: dict[str, float] = {}
    clips = range(len(pred_audio))
    for clip in clips:
        pairs = {
            "audio": (pred_audio[clip], truth_audio[clip]),
            "visual": (pred_visual[clip], truth_visual[clip]),
        }
        pairs["audio_visual"] = tuple(
            np.logical_and(a, v) for a, v in zip(pairs["audio"], pairs["visual"], strict=True)
        )
        for level, count in (("segment", _count_segments), ("event", _count_events)):
            counts = {
                name: [
                    count(pred[:, c].tolist(), truth[:, c].tolist()) for c in range(pred.shape[1])
                ]
                for name, (pred, truth) in pairs.items()
            }
            scores = {name: _mean_f(classes) for name, classes in counts.items()}
            scores["type"] = (scores["audio"] + scores["visual"] + scores["audio_visual"]) / 3
            scores["event"] = _mean_f(
                [
                    tuple(x + y for x, y in zip(a, v, strict=True))
                    for a, v in zip(counts["audio"], counts["visual"], strict=True)
                ]
            )
            for name, value in scores.items():
                key = f"{level}/{name}"
                totals[key] = totals.get(key, 0.0) + value
    return {key: 100 * total / len(clips) for key, total in totals.items()}


def _mean_f(classes: list[tuple[int, ...]]) -> float:
    values = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in classes if tp + fp + fn]
    return sum(values) / len(values) if values else 1.0


def _count_segments(pred: list[bool], truth: list[bool]) -> tuple[int, int, int]:
    tp = sum(p and t for p, t in zip(pred, truth, strict=True))
    fp = sum(p and not t for p, t in zip(pred, truth, strict=True))
    fn = sum(t and not p for p, t in zip(pred, truth, strict=True))
    return tp, fp, fn


def _runs(values: list[bool]) -> list[set[int]]:
    groups = groupby(range(len(values)), key=lambda t: values[t])
    return [set(members) for on, members in groups if on]


def _count_events(pred: list[bool], truth: list[bool]) -> tuple[int, int, int]:
    predicted, true = _runs(pred), _runs(truth)

    def match(one: set[int], other: set[int]) -> bool:
        return len(one & other) / len(one | other) >= 0.5

    tp = sum(any(match(run, other) for other in true) for run in predicted)
    missed = sum(not any(match(run, other) for run in predicted) for other in true)
    return tp, len(predicted) - tp, missed
