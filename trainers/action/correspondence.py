"""How surely the sound of a video belongs to its picture, from embeddings of the training set.

Source: Han et al., "Noise-Tolerant Learning for Audio-Visual Action Recognition", IEEE TMM 2024,
Eq. 2-6. A video whose neighbours by sound also look like it probably has the right sound.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.action.interface import Embedding, Inputs, Predictor
from trainers.action.neighbours import nearest, strip_rows
from trainers.training import PREDICT_ROWS

__all__ = [
    "NEIGHBOURS",
    "WEIGHTINGS",
    "correspondence_weights",
    "near_videos",
    "pool_clips",
    "video_embedding",
]

NEIGHBOURS, KINETICS_NEIGHBOURS = 16, 32
"""How many videos are near another; the paper's for UCF101 and for Kinetics."""

WEIGHTINGS = ("clamp", "raw", "minmax", "rank", "ones")
"""How a mean cosine becomes a weight."""


def near_videos(dataset: str) -> int:
    """How many videos are near another in a data set, and in sets drawn from it, by its name."""
    return KINETICS_NEIGHBOURS if "kinetics" in dataset.lower() else NEIGHBOURS


def pool_clips(z: Tensor, valid: Tensor) -> Tensor:
    """One unit vector a video: the mean over its valid clips, normalised again.

    The paper embeds videos and does not say from which clips; this is our choice.

    Args:
        z: (N, S, d) of norm 1.
        valid: (N, S) bool.

    Returns:
        (N, d) of norm 1.
    """
    # The sum has the direction of the mean. One small product a video would cost eight times as
    # much as multiplying everything.
    there = z if valid.all() else z * valid[..., None]
    return F.normalize(there.sum(1), dim=1)


@torch.no_grad()
def video_embedding(
    predictor: Predictor, inputs: Inputs, *, batch_size: int = PREDICT_ROWS
) -> Embedding:
    """Embeds N videos by `pool_clips`, without ever holding the vectors of all their clips.

    Returns:
        (N, d) of both modalities.
    """
    parts = []
    for start in range(0, len(inputs), batch_size):
        batch = inputs[start : start + batch_size]
        parts.append([pool_clips(z, batch.valid) for z in predictor.embed(batch)])
    visual, audio = (torch.cat(z) for z in zip(*parts, strict=True))
    return Embedding(visual, audio)


@torch.no_grad()
def correspondence_weights(
    z_v: Tensor,
    z_a: Tensor,
    *,
    neighbours: int = NEIGHBOURS,
    thresholds: tuple[float, float] | None = None,
    self_included: bool = False,
    how: str = "clamp",
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The weights omega^v and omega^a of Eq. 2-6, over a whole training set at once.

    omega_i^v is the mean cosine between picture i and the pictures of those videos whose **sound**
    is near sound i; omega_i^a is the same with the modalities exchanged.

    Args:
        z_v: (N, d) embeddings of pictures, of norm 1.
        z_a: (N, d) embeddings of sounds, of norm 1.
        neighbours: How many videos are near.
        thresholds: The least cosines (eps_v, eps_a) in place of ``neighbours``: eps_v bounds the
            sounds that count for omega^v, eps_a the pictures that count for omega^a. Where nothing
            is near, the mean is 0.
        self_included: Whether a video is near itself.
        how: ``clamp`` (negative means become 0), ``raw``, ``minmax`` (scaled to 0..1 over the
            set), ``rank`` (0..1), ``ones``.
        chunk: Rows of the similarity matrix in memory at once, by default
            `trainers.action.neighbours.strip_rows`.

    Returns:
        (N,) omega^v and (N,) omega^a.

    Raises:
        ValueError: If ``how`` is none of `WEIGHTINGS`.
    """
    if how not in WEIGHTINGS:
        raise ValueError(f"how must be one of {', '.join(WEIGHTINGS)}, not {how!r}")
    if how == "ones":
        return torch.ones_like(z_v[:, 0]), torch.ones_like(z_a[:, 0])
    chunk = strip_rows(len(z_v)) if chunk is None else chunk
    if thresholds is None:
        means = (
            _mean_over_nearest(own, other, neighbours, self_included, chunk)
            for own, other in ((z_v, z_a), (z_a, z_v))
        )
    else:
        means = (
            _mean_above(own, other, threshold, self_included, chunk)
            for own, other, threshold in zip((z_v, z_a), (z_a, z_v), thresholds, strict=True)
        )
    w_v, w_a = (_weight(mean, how) for mean in means)
    return w_v, w_a


def _mean_over_nearest(
    own: Tensor, other: Tensor, count: int, self_included: bool, chunk: int
) -> Tensor:
    """Mean cosine in one modality with the nearest in the other, (N,)."""
    near = nearest(other, count, self_included=self_included, strip=chunk).index  # (N, k)
    mean = torch.zeros_like(own[:, 0])
    if near.shape[1] == 0:
        return mean
    for start in range(0, len(own), chunk):
        rows = slice(start, start + chunk)
        # The mean of cosines is the cosine with the mean vector: k d numbers a row, not N.
        centre = F.embedding_bag(near[rows], own, mode="mean")  # (c, d)
        mean[rows] = (centre * own[rows]).sum(1)
    return mean


def _mean_above(
    own: Tensor, other: Tensor, threshold: float, self_included: bool, chunk: int
) -> Tensor:
    """Mean cosine in one modality with all that are at least as near in the other, (N,)."""
    mean = torch.zeros_like(own[:, 0])
    for start in range(0, len(own), chunk):
        rows = slice(start, start + chunk)
        near = other[rows] @ other.T >= threshold  # (c, N)
        if not self_included:
            near.diagonal(start).fill_(False)
        total = ((own[rows] @ own.T) * near).sum(1)
        mean[rows] = total / near.sum(1).clamp(min=1)
    return mean


def _weight(mean: Tensor, how: str) -> Tensor:
    """A mean cosine as a weight, (N,)."""
    if how == "clamp":
        return mean.clamp(min=0.0)
    if how == "raw":
        return mean
    if how == "rank":
        rank = torch.empty_like(mean)
        order = mean.argsort(stable=True)
        rank[order] = torch.linspace(0.0, 1.0, len(mean), dtype=mean.dtype, device=mean.device)
        return rank
    low, high = mean.aminmax()
    # Where all pairs look alike, none is worth more than another.
    return (mean - low) / (high - low) if high > low else torch.ones_like(mean)
