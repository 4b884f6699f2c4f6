"""Losses that parsing methods share. Shapes: B clips, T segments, C classes, D model width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.avvp.networks.han import Parsing

__all__ = ["CONTRASTIVE", "bce", "bce_cells", "contrastive", "parsing_loss", "smooth"]

EPSILON = 1e-7
CONTRASTIVE = ("none", "ma", "jomold")


def smooth(labels: Tensor) -> Tensor:
    """Label smoothing: 1 becomes 0.95 and 0 becomes 0.05."""
    return 0.9 * labels + 0.05


def bce_cells(p: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of every cell, probabilities clamped to [1e-7, 1 - 1e-7] first.

    The clamp is needed for more than logarithms: the clip probability of MMIL pooling may exceed 1.

    Args:
        p: (B, C) probabilities.
        target: (B, C), hard or soft.

    Returns:
        (B, C).
    """
    inside = p.clamp(EPSILON, 1 - EPSILON)
    # What is no number must come out as such: torch ends in an error, on a GPU without a return.
    return F.binary_cross_entropy(inside.nan_to_num(), target, reduction="none") + 0 * p


def bce(p: Tensor, target: Tensor) -> Tensor:
    """Mean of `bce_cells`, a scalar."""
    inside = p.clamp(EPSILON, 1 - EPSILON)
    return F.binary_cross_entropy(inside.nan_to_num(), target) + 0 * p.sum()


def parsing_loss(
    out: Parsing,
    audio: Tensor,
    visual: Tensor,
    clip: Tensor,
    *,
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Weighted sum of the cross-entropies of both modalities and of the clip.

    Args:
        out: A network's output for B clips.
        audio, visual, clip: (B, C) targets.
        weights: Of audio, visual and clip.

    Returns:
        A scalar.
    """
    pairs = ((out.audio_clip, audio), (out.visual_clip, visual), (out.clip, clip))
    return sum(w * bce(p, target) for w, (p, target) in zip(weights, pairs, strict=True))


def contrastive(out: Parsing, form: str, *, temperature: float = 0.2) -> Tensor:
    """Cross-modal contrastive loss between segments of one clip, audio to visual.

    A segment's positive is the same second of the other modality, its negatives the clip's other
    seconds; the target is 0.9 there and 0.1 spread over them.

    - ``ma`` (Wu and Yang, CVPR 2021): audio after hybrid attention against visual before it;
      cross-entropy between the target and the softmax.
    - ``jomold`` (Cheng et al., ECCV 2022): both after it; minus the logarithm of the target's
      inner product with the softmax. Never above the other on equal logits.

    Args:
        out: A network's output for B clips.
        form: ``"none"`` (zero), ``"ma"`` or ``"jomold"``.
        temperature: Divides the cosines.

    Returns:
        A scalar.
    """
    if form == "none":
        return out.clip.new_zeros(())
    visual = out.visual_in if form == "ma" else out.visual_out  # (B, T, D)
    cosine = F.normalize(out.audio_out, dim=-1) @ F.normalize(visual, dim=-1).mT  # (B, T, T)
    log_q = torch.log_softmax(cosine / temperature, dim=-1)  # (B, T, T)
    segments = log_q.shape[-1]
    target = torch.full_like(log_q[0], 0.1 / max(1, segments - 1)).fill_diagonal_(0.9)  # (T, T)
    if form == "ma":
        return -(target * log_q).sum(-1).mean()
    return -torch.logsumexp(target.log() + log_q, dim=-1).mean()
