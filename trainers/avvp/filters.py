"""Prediction filters: how probabilities become the binary table that is scored.

Methods differ in this step alone by several points, so a filter's name stands beside every result.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.errors import unknown_name
from trainers.avvp.interface import Prediction

__all__ = ["FILTERS", "THRESHOLD", "apply_filter"]

THRESHOLD = 0.5
"""A probability at the threshold counts as positive."""

Binary = tuple[np.ndarray, np.ndarray]


def _video(prediction: Prediction) -> Binary:
    """A segment counts where the whole clip, both modalities together, has the class."""
    clip = prediction.clip[:, None, :] >= THRESHOLD  # (N, 1, C)
    return (prediction.audio >= THRESHOLD) & clip, (prediction.visual >= THRESHOLD) & clip


def _modality(prediction: Prediction) -> Binary:
    """A segment counts where the clip has the class in the segment's own modality."""
    audio = prediction.audio_clip[:, None, :] >= THRESHOLD  # (N, 1, C)
    visual = prediction.visual_clip[:, None, :] >= THRESHOLD  # (N, 1, C)
    return (prediction.audio >= THRESHOLD) & audio, (prediction.visual >= THRESHOLD) & visual


FILTERS: dict[str, Callable[[Prediction], Binary]] = {"modality": _modality, "video": _video}
"""Filters by name. ``video``: HAN's released evaluation; ``modality``: MA's and JoMoLD's."""


def apply_filter(name: str, prediction: Prediction) -> Binary:
    """Turns probabilities into predictions.

    Args:
        name: One of `FILTERS`.
        prediction: Probabilities of N clips.

    Returns:
        Audio and visual predictions, each (N, T, C) bool.

    Raises:
        UserError: If there is no filter of that name.
    """
    if name not in FILTERS:
        raise unknown_name("filter", name, FILTERS)
    return FILTERS[name](prediction)
