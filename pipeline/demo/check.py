"""Is the corpus neither trivial nor hopeless? Measured before any method is trained on it.

Two baselines bound its difficulty: a linear classifier on the mean of a clip's features must find
most labels but not all, and knowing the true labels of each modality must not be enough to parse
a clip in time.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.demo.timelines import SECONDS
from pipeline.errors import UserError
from pipeline.manifest import Manifest, dense_matrices, read_manifest
from pipeline.progress import Advance

__all__ = [
    "Figure",
    "check_corpus",
    "clip_descriptor",
    "describe_all",
    "linear_map",
    "segment_descriptors",
    "segment_type",
]

MAP_RANGE = (30.0, 85.0)
ORACLE_TYPE_RANGE = (0.0, 90.0)


@dataclass(frozen=True)
class Figure:
    """One measured number and the range in which it may lie, in percent."""

    name: str
    value: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether the number lies in its range."""
        return self.low <= self.value <= self.high

    def __str__(self) -> str:
        verdict = "ok" if self.passed else "OUT OF RANGE"
        return f"{self.name}: {self.value:.1f} (allowed {self.low:g} to {self.high:g}) {verdict}"


def check_corpus(
    manifest_path: Path, *, workers: int = 1, progress: Advance | None = None
) -> list[Figure]:
    """Measures a rendered corpus from its files.

    Args:
        manifest_path: The corpus's manifest.
        workers: Processes that decode.
        progress: Hears of every clip described.

    Returns:
        The mean average precision of the linear classifier on the labels of validation clips, and
        segment-level Type of the true labels of each modality held for the whole clip, on
        validation and test.

    Raises:
        UserError: If a split has no clips.
        MediaError: If a file cannot be decoded.
    """
    manifest = read_manifest(manifest_path)
    train, val = manifest.split("train"), manifest.split("val")
    if not (train and val and manifest.split("test")):
        raise UserError("The check needs clips of every split; build the corpus with some of each.")
    paths = [manifest.media_root / row.video for row in (*train, *val)]
    features = describe_all(clip_descriptor, paths, workers=workers, progress=progress)
    labels = manifest.label_matrix((*train, *val))
    n = len(train)
    precision = linear_map(features[:n], labels[:n], features[n:], labels[n:])
    figures = [Figure("logistic regression on mean features, val mAP", 100 * precision, *MAP_RANGE)]
    for split in ("val", "test"):
        value = _oracle_type(manifest, split)
        figures.append(Figure(f"oracle_modality, {split} segment Type", value, *ORACLE_TYPE_RANGE))
    return figures


def clip_descriptor(path: Path) -> np.ndarray:
    """Mean over time of both descriptors of a clip, (AUDIO_WIDTH + VISUAL_WIDTH,) float32."""
    return segment_descriptors(path).mean(axis=0)


def segment_descriptors(path: Path) -> np.ndarray:
    """Both descriptors of every second of a clip, decoded from its file.

    Returns:
        (SECONDS, AUDIO_WIDTH + VISUAL_WIDTH) float32, audio first.

    Raises:
        MediaError: If the file cannot be decoded.
    """
    from pipeline.decode import open_decoder, read_audio
    from pipeline.descriptors import (
        AUDIO_RATE,
        FRAMES_PER_SEGMENT,
        audio_descriptor,
        visual_descriptor,
    )
    from pipeline.grid import SegmentGrid

    times = SegmentGrid(frames=FRAMES_PER_SEGMENT).frame_times(0.0, SECONDS)
    parts = [
        np.repeat(frame[None], where.stop - where.start, axis=0)
        for where, frame in open_decoder("pyav").frames(path, times.ravel())
    ]
    frames = np.concatenate(parts)
    visual = visual_descriptor(frames.reshape(*times.shape, *frames.shape[1:]))
    audio = audio_descriptor(read_audio(path, 0.0, SECONDS, AUDIO_RATE), segments=SECONDS)
    return np.concatenate([audio, visual], axis=1)


def describe_all(
    describe: Callable[[Path], np.ndarray],
    paths: Sequence[Path],
    *,
    workers: int = 1,
    progress: Advance | None = None,
) -> np.ndarray:
    """What a function of this module gives for many clips, stacked in order.

    Args:
        describe: `clip_descriptor` or `segment_descriptors`.
        paths: N clips.
        workers: Processes that decode.
        progress: Hears of every clip.
    """
    rows = []
    if workers <= 1:
        found = map(describe, paths)
        for row in found:
            rows.append(row)
            if progress is not None:
                progress.advance()
        return np.stack(rows)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(paths)), mp_context=context) as pool:
        for row in pool.map(describe, paths, chunksize=4):
            rows.append(row)
            if progress is not None:
                progress.advance()
    return np.stack(rows)


def linear_map(
    train: np.ndarray, train_labels: np.ndarray, val: np.ndarray, val_labels: np.ndarray
) -> float:
    """Mean average precision of one logistic regression a class on standardised features.

    Args:
        train, val: Features (N, D) and (M, D).
        train_labels, val_labels: (N, C) and (M, C) bool.

    Returns:
        The mean over classes that some clips of both splits have and some have not, 0 to 1.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    train, val = scaler.transform(train), scaler.transform(val)
    precisions = []
    for truth, wanted in zip(train_labels.T, val_labels.T, strict=True):
        if truth.all() or not truth.any() or not wanted.any():
            continue
        model = LogisticRegression(max_iter=500).fit(train, truth)
        precisions.append(average_precision_score(wanted, model.decision_function(val)))
    if not precisions:
        raise UserError("No class has clips in both splits; build a larger corpus.")
    return float(np.mean(precisions))


def _oracle_type(manifest: Manifest, split: str) -> float:
    """Segment Type of every modality's true labels held for the whole clip, in percent."""
    truth = dense_matrices(manifest, manifest.split(split), segments=SECONDS)
    held = [np.repeat(m.any(axis=1, keepdims=True), SECONDS, axis=1) for m in truth]
    return segment_type(*held, *truth)


def segment_type(
    audio: np.ndarray, visual: np.ndarray, true_audio: np.ndarray, true_visual: np.ndarray
) -> float:
    """Segment-level Type@AV (Tian, Li and Xu 2020), straight from its definition.

    For sound, picture and both together: F of every class over a clip's segments, their mean over
    the classes that are predicted or true, 1 for a clip without any, then the mean over clips.

    Args:
        audio, visual: Predictions, each (N, T, C) bool.
        true_audio, true_visual: Truth, each (N, T, C) bool.

    Returns:
        The mean of the three, in percent.
    """
    pairs = (
        (audio, true_audio),
        (visual, true_visual),
        (audio & visual, true_audio & true_visual),
    )
    return 100 * float(np.mean([_segment_f(p, t) for p, t in pairs]))


def _segment_f(predicted: np.ndarray, truth: np.ndarray) -> float:
    hits = (predicted & truth).sum(axis=1)  # (N, C)
    total = predicted.sum(axis=1) + truth.sum(axis=1)
    counted = total > 0
    f = np.divide(2 * hits, total, out=np.zeros(hits.shape), where=counted)
    classes = counted.sum(axis=1)
    means = np.divide(f.sum(axis=1), classes, out=np.ones(len(f)), where=classes > 0)
    return float(means.mean())
