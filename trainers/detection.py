"""How well a denoiser's verdict agrees with a known truth. Evaluation only: trainers never look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.manifest import Manifest
from pipeline.noise import original, truth_of

__all__ = ["detection_metrics", "detector_scores"]


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

    Raises:
        UserError: If the truth cannot be read, or is that of another manifest.
    """
    truth = truth_of(manifest)
    if truth is None:
        return {}
    rows = [manifest[row_id] for row_id in ids]
    column = {name: c for c, name in enumerate(manifest.classes)}
    noisy, score = [], []
    for modality, kept in keep.items():
        given = manifest.label_matrix(rows, modality)
        holds = np.zeros_like(given)
        field = f"labels_{modality}"
        if not any(field in entry for entry in truth.values()):
            return {}
        for n, row in enumerate(rows):
            for label in original(row, truth.get(row.id, {}), field):
                holds[n, column[label]] = True
        noisy.append(~holds[given])
        score.append(1 - np.asarray(kept)[given])
    return detector_scores("detect", np.concatenate(noisy), np.concatenate(score))


def detector_scores(name: str, noisy: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """How well a score tells noisy cases from clean ones.

    Args:
        name: What the keys begin with.
        noisy: (N,) bool truth.
        score: (N,), the larger, the more surely noisy.

    Returns:
        ``<name>/auroc``, ``<name>/ap`` and ``<name>/precision`` (among as many top-scored cases as
        are noisy) in percent; empty where all cases are of one kind.
    """
    count, of = int(noisy.sum()), len(noisy)
    if not 0 < count < of or not np.isfinite(score).all():
        return {}
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(noisy[order])  # (N,) noisy cases among the first 1, 2, ...
    # Cases of equal score can only be taken together.
    last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    taken, hits = last + 1, found[last]
    recall, false = hits / count, (taken - hits) / (of - count)
    ap = np.diff(recall, prepend=0) @ (hits / taken)
    auroc = np.trapezoid(np.append(0, recall), np.append(0, false))
    return {
        f"{name}/auroc": 100 * float(auroc),
        f"{name}/ap": 100 * float(ap),
        f"{name}/precision": 100 * float(found[count - 1] / count),
    }
