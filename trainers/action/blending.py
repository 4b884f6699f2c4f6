"""How much each of several losses should count: by how well its network generalises.

Source: Wang, Tran and Feiszli, "What Makes Training Multi-Modal Classification Networks Hard?",
CVPR 2020 (overfitting-to-generalisation ratio); the rule for signs and small values is that of
third-party code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.errors import UserError

__all__ = ["LEAST_OVERFITTING", "Blend", "blend", "hold_out"]

LEAST_OVERFITTING = 1e-4
"""Least squared overfitting that a gain is divided by."""


@dataclass(frozen=True)
class Blend:
    """Weights of losses and what they follow from.

    Attributes:
        gain: (M,), fall of the loss on held-out videos, Delta G.
        overfitting: (M,), growth of the gap between held-out and training loss, Delta O.
        weights: (M,), at least 0, of sum 1.
    """

    gain: Tensor
    overfitting: Tensor
    weights: Tensor


def blend(before: Tensor, after: Tensor, *, needed: int | None = None) -> Blend:
    """w_k proportional to max(Delta G_k, 0) / max(Delta O_k^2, 1e-4).

    Weights are equal if all are zero or, where a loss is needed, if that one is.

    Args:
        before: (2, M) losses on training and on held-out videos, before networks were trained.
        after: (2, M), after.
        needed: A loss that must not be left out; our choice, the rule knows of none.
    """
    gain = before[1] - after[1]  # (M,)
    overfitting = (after[1] - after[0]) - (before[1] - before[0])  # (M,)
    raw = gain.clamp(min=0) / overfitting.square().clamp(min=LEAST_OVERFITTING)
    useful = raw.sum() if needed is None else raw[needed]
    weights = raw / raw.sum() if float(useful) > 0 else torch.full_like(raw, 1 / len(raw))
    return Blend(gain, overfitting, weights)


def hold_out(groups: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sets whole groups aside, in random order, until they hold a share of the videos.

    Args:
        groups: (N,) int64.
        share: Least share of videos to hold out, rounded down; one group at least is, and one is
            not.
        generator: A CPU generator.

    Returns:
        Rows to train on and rows held out, int64, each in order.

    Raises:
        UserError: If all videos are of one group.
    """
    _, index, sizes = groups.cpu().unique(return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise UserError(
            "All training videos are of one group, so none can be held out; give groups in the "
            "manifest, or constant weights by --blend constant."
        )
    order = torch.randperm(len(sizes), generator=generator)
    filled = sizes[order].cumsum(0)  # (G,)
    # The sum forgives the rounding of shares such as 0.1.
    wanted = int(share * len(groups) + 1e-9)
    count = int((filled < wanted).sum()) + 1
    chosen = torch.zeros(len(sizes), dtype=torch.bool)
    chosen[order[: min(count, len(sizes) - 1)]] = True
    held = chosen[index]  # (N,)
    rows = torch.arange(len(groups))
    return rows[~held], rows[held]
