"""How well a denoiser's verdict agrees with a known truth. Evaluation only: trainers never look."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import UserError
from pipeline.manifest import Manifest

__all__ = ["detection_metrics", "truth_path"]


def truth_path(manifest: Manifest) -> Path | None:
    """The truth file beside a manifest, if there is one."""
    if manifest.path is None:
        return None
    path = manifest.path.with_name(f"{manifest.path.stem}.truth.jsonl")
    return path if path.is_file() else None


def detection_metrics(
    manifest: Manifest, ids: Sequence[str], keep: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Scores the detection of labels that do not hold in a modality.

    The cells are the given labels (positive weak labels, audio and visual); a cell is noisy if
    the truth does not hold it, and the detector's score is 1 - keep-score.

    Args:
        manifest: The noisy manifest; its truth file is looked for beside it.
        ids: N training clips.
        keep: Keep-scores by modality, (N, C).

    Returns:
        ``detect/auroc``, ``detect/ap`` and ``detect/precision`` (among as many top-scored cells as
        are noisy) in percent; empty where no truth of the modalities is known.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    path = truth_path(manifest)
    if path is None:
        return {}
    truth = _read_truth(path)
    rows = [manifest[row_id] for row_id in ids]
    column = {name: c for c, name in enumerate(manifest.classes)}
    noisy, score = [], []
    for modality, kept in keep.items():
        given = manifest.label_matrix(rows, modality)
        holds = np.zeros_like(given)
        for n, row_id in enumerate(ids):
            entry = truth.get(row_id, {})
            if f"labels_{modality}" not in entry:
                return {}
            for label in entry[f"labels_{modality}"]:
                holds[n, column[label]] = True
        noisy.append(~holds[given])
        score.append(1 - np.asarray(kept)[given])
    y, s = np.concatenate(noisy), np.concatenate(score)
    if y.all() or not y.any():
        return {}
    top = np.argsort(-s, kind="stable")[: int(y.sum())]
    return {
        "detect/auroc": 100 * float(roc_auc_score(y, s)),
        "detect/ap": 100 * float(average_precision_score(y, s)),
        "detect/precision": 100 * float(y[top].mean()),
    }


def _read_truth(path: Path) -> dict[str, dict[str, list[str]]]:
    entries = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = json.loads(line)
            entries[entry["id"]] = entry
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path.name} line {number} is no truth entry; make the manifest again."
            ) from error
    return entries
