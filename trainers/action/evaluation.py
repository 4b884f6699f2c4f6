"""From logits to the three numbers of a split.

Source: Han et al., "Noise-Tolerant Learning for Audio-Visual Action Recognition", IEEE TMM 2024:
accuracy over clips, and of a video whose clips' predictions are averaged. That probabilities are
averaged, not logits, is our choice.
"""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from trainers.action.interface import Prediction

__all__ = ["METRICS", "blank_metrics", "evaluate", "video_probabilities"]

METRICS = ("clip@1", "clip@5", "video@1")


def blank_metrics() -> dict[str, float | None]:
    """All three keys without a value: a split without videos."""
    return dict.fromkeys(METRICS)


def evaluate(prediction: Prediction, labels: np.ndarray) -> dict[str, float | None]:
    """Accuracy in percent; a video that has no valid clip counts as wrong with all its clips.

    Of equal scores the lower class wins, and logits that are no numbers are wrong.

    Args:
        prediction: Of N videos.
        labels: (N,) true classes.

    Returns:
        ``clip@1``, ``clip@5`` (of fewer than five classes: all of them) and ``video@1``.
    """
    valid = prediction.valid
    n, clips = valid.shape
    if n == 0 or clips == 0:
        return blank_metrics()
    rank = _rank(prediction.logits, labels[:, None].repeat(clips, 1))  # (N, S)
    # What was predicted as nothing is wrong, whatever stands in its place.
    nothing = ~valid.any(1)
    counted = np.where(nothing[:, None], True, valid)
    answered = valid[counted]
    rank = rank[counted]
    video = _rank(video_probabilities(prediction), labels)
    return {
        "clip@1": 100 * float(((rank < 1) & answered).mean()),
        "clip@5": 100 * float(((rank < 5) & answered).mean()),
        "video@1": 100 * float(((video < 1) & ~nothing).mean()),
    }


def video_probabilities(prediction: Prediction) -> np.ndarray:
    """Mean softmax over the valid clips, (N, K); zeros for videos without any."""
    weight = prediction.valid / prediction.valid.sum(1, keepdims=True).clip(min=1)  # (N, S)
    return np.einsum("nsk,ns->nk", softmax(prediction.logits, axis=2), weight)


def _rank(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes stand before the true one, (...), of scores (..., K)."""
    own = np.take_along_axis(scores, labels[..., None], -1)
    lower = np.arange(scores.shape[-1]) < labels[..., None]
    rank = ((scores > own) | ((scores == own) & lower)).sum(-1)
    # No number is larger than what is no number, which must not look like a win.
    return np.where(np.isfinite(scores).all(-1), rank, np.iinfo(rank.dtype).max)
