"""Files that a parsing run leaves for other programs: kept labels, event tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.files import write_atomic
from trainers.avvp.data import HOP
from trainers.outputs import write_h5, write_tsv

__all__ = [
    "EVENT_COLUMNS",
    "event_rows",
    "write_events",
    "write_labels",
    "write_verdict",
]

EVENT_COLUMNS = ("id", "modality", "onset", "offset", "label", "probability")


def write_labels(
    path: Path, ids: Sequence[str], classes: Sequence[str], keep: Mapping[str, np.ndarray]
) -> None:
    """Writes a denoiser's verdict: ``id``, ``classes``, and keep-scores (N, C) by modality."""

    def fill(file: h5py.File) -> None:
        file.create_dataset("id", data=list(ids), dtype=h5py.string_dtype())
        file.create_dataset("classes", data=list(classes), dtype=h5py.string_dtype())
        for modality, scores in keep.items():
            file.create_dataset(modality, data=np.asarray(scores, dtype=np.float32))

    write_h5(path, fill)


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
    write_tsv(
        path,
        EVENT_COLUMNS,
        (
            (row_id, modality, f"{onset:g}", f"{offset:g}", label, f"{probability:.4f}")
            for row_id, modality, onset, offset, label, probability in rows
        ),
    )
