"""Files that a recognition run leaves for other programs: kept labels, tables of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from trainers.action.evaluation import video_probabilities
from trainers.action.interface import Prediction, Verdict
from trainers.outputs import write_h5, write_tsv

__all__ = ["PREDICTION_COLUMNS", "write_labels", "write_table"]

PREDICTION_COLUMNS = ("id", "rank", "label", "probability")
TOP = 5


def write_labels(
    path: Path,
    ids: Sequence[str],
    classes: Sequence[str],
    verdict: Verdict,
    loss: np.ndarray,
) -> None:
    """Writes what a method thinks of the training data.

    Args:
        path: ``labels.h5``: ``id``, ``classes`` (K), ``loss`` (N,), and what there is of ``keep``
            (N,) by the method's own criterion (1: the label is surely right), ``keep_<name>`` (N,)
            by its others, ``weight_visual`` and ``weight_audio`` (N,), ``corrected`` (N,).
        ids: N ids.
        classes: K names.
        verdict: The method's.
        loss: (N,) cross-entropy of each label.
    """
    scores = dict(verdict.keep)
    first = next(iter(scores), None)

    def fill(file: h5py.File) -> None:
        file.create_dataset("id", data=list(ids), dtype=h5py.string_dtype())
        file.create_dataset("classes", data=list(classes), dtype=h5py.string_dtype())
        file.create_dataset("loss", data=np.asarray(loss, dtype=np.float32))
        for name, values in scores.items():
            key = "keep" if name == first else f"keep_{name}"
            file.create_dataset(key, data=np.asarray(values, dtype=np.float32))
        if verdict.weights is not None:
            for column, modality in enumerate(("visual", "audio")):
                weight = np.asarray(verdict.weights[:, column], dtype=np.float32)
                file.create_dataset(f"weight_{modality}", data=weight)
        if verdict.corrected is not None:
            file.create_dataset("corrected", data=np.asarray(verdict.corrected, dtype=np.int64))

    write_h5(path, fill)


def write_table(
    path: Path, ids: Sequence[str], prediction: Prediction, classes: Sequence[str]
) -> None:
    """Writes the likeliest classes of every video, at most five, as TSV.

    Args:
        path: The table.
        ids: N ids.
        prediction: Of N videos.
        classes: K names.
    """
    rows = []
    for row_id, shares in zip(ids, video_probabilities(prediction), strict=True):
        for rank, c in enumerate(np.argsort(-shares, kind="stable")[:TOP], start=1):
            rows.append((row_id, rank, classes[c], f"{shares[c]:.4f}"))
    write_tsv(path, PREDICTION_COLUMNS, rows)
