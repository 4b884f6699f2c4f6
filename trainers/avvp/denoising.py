"""JoMoLD's rules for noisy labels: how noisy a class is, and which labels of a batch are.

Source: Cheng et al., "Joint-Modal Label Denoising for Weakly-Supervised Audio-Visual Video
Parsing", ECCV 2022. Shapes: B or N clips, C classes; ratios are (2, C), audio and visual.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["noise_mask", "noise_ratios", "warmup_factor"]


def noise_ratios(
    clip: Tensor,
    labels: Tensor,
    theta: tuple[float, float],
    *,
    released_batches: int | None = None,
) -> Tensor:
    """Eq. 1: the share of a class's labels whose probability is low against the class's mean.

    Args:
        clip: (N, 2, C) the estimator's clip probabilities by modality.
        labels: (N, 2, C) labels by modality, 0 or 1.
        theta: Thresholds of audio and visual.
        released_batches: As released: probabilities are scaled by the smoothed visual target, and
            the mean is a mean of means over batches of this size, however small the last.

    Returns:
        (2, C) float64; 0 for a class without labels.
    """
    clip, positive = clip.double(), labels > 0
    if released_batches is None:
        scored, mean = clip, clip.mean(0)  # (N, 2, C), (2, C)
    else:
        scale = clip.new_tensor([[1.0], [0.95]])  # (2, 1)
        scored = clip * scale
        mean = torch.stack([b.mean(0) for b in clip.split(released_batches)]).mean(0)  # (2, C)
    low = scored / mean < clip.new_tensor(theta)[:, None]  # (N, 2, C)
    return (low & positive).sum(0) / positive.sum(0).clamp(min=1).double()  # (2, C)


def warmup_factor(step: int, steps: int, warmup: float, *, as_released: bool = False) -> float:
    """What ratios are multiplied with at a step.

    Args:
        step: Updates done, counted from 0 over all epochs.
        steps: Updates an epoch.
        warmup: W, in epochs.
        as_released: Each epoch starts from the full ratio and every step multiplies what the step
            before left: nothing is removed in epoch 1, and W has no effect up to 1.
    """
    length = warmup * steps
    if length <= 0:
        return 1.0
    first = step - step % steps if as_released else step
    return math.prod(min(1.0, s / length) for s in range(first, step + 1))


def noise_mask(
    loss_audio: Tensor,
    loss_visual: Tensor,
    positive: Tensor,
    ratios: Tensor,
    *,
    rule: str = "joint",
) -> tuple[Tensor, Tensor]:
    """Algorithm 1, lines 4-9: which labels of a batch are noise.

    Among the n clips labelled with a class, visual noise is in the int(r_v n) largest visual and
    the int(r_v n) smallest audio losses; audio noise the other way round. Equal losses rank by
    position, in one order for both ends, so that a label stays in one modality at least unless
    both counts together exceed n.

    Args:
        loss_audio, loss_visual: (B, C) loss of every cell.
        positive: (B, C) bool, the labels in question.
        ratios: (2, C) float64.
        rule: ``"joint"``, or ``"intra"``: the modality's own loss alone.

    Returns:
        Audio and visual noise, each (B, C) bool.
    """
    losses = torch.stack((loss_audio, loss_visual))  # (2, B, C)
    losses = losses.masked_fill(~positive, torch.inf)
    ranks = losses.argsort(dim=1, stable=True).argsort(dim=1, stable=True)  # (2, B, C)
    n = positive.sum(0)  # (C,)
    counts = (ratios * n).long()[:, None]  # (2, 1, C)
    noise = positive & (ranks >= n - counts)  # (2, B, C), hard in the modality itself
    if rule == "joint":
        noise &= ranks.flip(0) < counts  # easy in the other
    return noise[0], noise[1]
