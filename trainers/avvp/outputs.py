"""Files that a parsing run leaves for other programs: predictions, kept labels, event tables."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.files import write_atomic
from trainers.avvp.data import HOP, EvalSplit
from trainers.avvp.interface import Prediction

__all__ = [
    "EVENT_COLUMNS",
    "event_rows",
    "write_events",
    "write_labels",
    "write_predictions",
    "write_verdict",
]

EVENT_COLUMNS = ("id", "modality", "onset", "offset", "label", "probability")


def _write_h5(path: Path, fill: object) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(temporary, "w") as file:
            fill(file)  # type: ignore[operator]
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_predictions(
    path: Path,
    splits: Mapping[str, EvalSplit],
    predictions: Mapping[str, Mapping[str, Prediction]],
) -> None:
    """Writes ``/<split>/<last|selected>/`` with ``id`` and all probabilities before a threshold."""

    def fill(file: h5py.File) -> None:
        for epoch, by_split in predictions.items():
            for name, prediction in by_split.items():
                group = file.create_group(f"{name}/{epoch}")
                group.create_dataset("id", data=list(splits[name].ids), dtype=h5py.string_dtype())
                for field in dataclasses.fields(prediction):
                    group.create_dataset(field.name, data=getattr(prediction, field.name))

    _write_h5(path, fill)


def write_labels(
    path: Path, ids: Sequence[str], classes: Sequence[str], keep: Mapping[str, np.ndarray]
) -> None:
    """Writes a denoiser's verdict: ``id``, ``classes``, and keep-scores (N, C) by modality."""

    def fill(file: h5py.File) -> None:
        file.create_dataset("id", data=list(ids), dtype=h5py.string_dtype())
        file.create_dataset("classes", data=list(classes), dtype=h5py.string_dtype())
        for modality, scores in keep.items():
            file.create_dataset(modality, data=np.asarray(scores, dtype=np.float32))

    _write_h5(path, fill)


def write_verdict(path: Path, classes: Sequence[str], values: Mapping[str, Any]) -> None:
    """Writes what a denoiser found out about the labels, if it says so.

    Args:
        path: JSON to write.
        classes: C names.
        values: `trainers.fitting.FitState.values`. Read are ``noise_ratios`` (2, C) of JoMoLD,
            ``removed`` (2, C) and ``curves`` (a row an episode) of RLLD; modality 0 is audio.
    """
    found: dict[str, Any] = {}
    for key in ("noise_ratios", "removed"):
        if key in values:
            rows = np.asarray(values[key]).tolist()
            found[key] = {
                modality: dict(zip(classes, row, strict=True))
                for modality, row in zip(("audio", "visual"), rows, strict=True)
            }
    if "curves" in values:
        found["curves"] = values["curves"]
    if found:
        write_atomic(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def event_rows(
    row_id: str,
    modality: str,
    positive: np.ndarray,
    probability: np.ndarray,
    classes: Sequence[str],
) -> list[tuple[str, str, float, float, str, float]]:
    """Events of one clip in one modality: maximal runs of positive segments.

    Args:
        row_id: The clip.
        modality: ``"audio"`` or ``"visual"``.
        positive: (T, C) bool after the filter.
        probability: (T, C); an event's is the mean over its segments.
        classes: C names.

    Returns:
        (id, modality, onset, offset, label, probability), times in seconds of the clip.
    """
    rows = []
    for c in np.flatnonzero(positive.any(0)):
        padded = np.concatenate([[False], positive[:, c], [False]])
        edges = np.flatnonzero(padded[1:] != padded[:-1])
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            mean = float(probability[begin:end, c].mean())
            rows.append((row_id, modality, begin * HOP, end * HOP, classes[c], mean))
    return sorted(rows, key=lambda r: (r[2], r[4]))


def write_events(path: Path, rows: Sequence[tuple[str, str, float, float, str, float]]) -> None:
    """Writes an event table (TSV); its first five columns are those of dense annotations."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    writer.writerow(EVENT_COLUMNS)
    for row_id, modality, onset, offset, label, probability in rows:
        writer.writerow(
            (row_id, modality, f"{onset:g}", f"{offset:g}", label, f"{probability:.4f}")
        )
    write_atomic(path, buffer.getvalue())
