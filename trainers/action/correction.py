"""Labels corrected by the votes of neighbours, and the pass that learns them with the given ones.

Source: Han et al., "Noise-Tolerant Learning for Audio-Visual Action Recognition", IEEE TMM 2024,
Eq. 16 and 17, and the second half of a round of Algorithm 1. NTL and XDC* share it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import UserError
from trainers.action.correspondence import NEIGHBOURS, near_videos, video_embedding
from trainers.action.interface import Embedding, Inputs, TrainView
from trainers.action.neighbours import TIES, Vote, nearest, vote
from trainers.action.training import ActionHyperparameters, NetPredictor, draw_clips, visits
from trainers.options import option
from trainers.random import RandomState

__all__ = [
    "CorrectionHyperparameters",
    "alpha_at",
    "ask_neighbours",
    "embed_training_set",
    "hybrid_loss",
    "supervised_pass",
]

ALPHA_FIRST, ALPHA_LAST = 0.6, 0.8


@dataclass(frozen=True, kw_only=True)
class CorrectionHyperparameters(ActionHyperparameters):
    """Settings of warm-up, votes and hybrid loss; defaults are the paper's for UCF101."""

    warmup: int = option(2, "epochs of plain cross-entropy first", unit="epochs", low=0)
    neighbor_count: int = option(NEIGHBOURS, "videos that are near another (Kinetics: 32)", low=1)
    knn: int | None = option(None, "videos that vote; none: as --neighbor-count", low=1)
    ties: str = option(
        "similarity", "of equally frequent labels the more similar or the first wins", choices=TIES
    )
    alpha: str = option(
        "linear", "weight of the voted label: linear or step from 0.6 to 0.8, or a number"
    )
    alpha_rounds: int = option(20, "rounds until alpha is 0.8", unit="epochs", low=1)
    embed: str = option(
        "mean", "a video's vector: over its clips, or one drawn", choices=("mean", "random")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha not in ("linear", "step"):
            _constant(self.alpha)

    @classmethod
    def published(cls, dataset: str) -> Self:
        """32 near videos for Kinetics and sets drawn from it, 16 elsewhere."""
        return cls(neighbor_count=near_videos(dataset))

    def check(self, view: TrainView) -> None:
        """Refuses a warm-up that leaves no round."""
        super().check(view)
        if 0 < self.epochs <= self.warmup:
            raise UserError(
                f"--warmup {self.warmup} leaves none of {self.epochs} epochs to correct labels in; "
                "lower it, or raise --epochs."
            )

    def rounds(self) -> int:
        """Rounds after the warm-up."""
        return max(0, self.epochs - self.warmup)

    def passes(self) -> int:
        """Passes over the training videos: one an epoch of warm-up, two a round."""
        return min(self.warmup, self.epochs) + 2 * self.rounds()


def _constant(alpha: str) -> float:
    """A constant alpha.

    Raises:
        UserError: If it is no number from 0 to 1.
    """
    try:
        value = float(alpha)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 1.0:
        raise UserError(
            f"--alpha {alpha!r} is not known; give linear, step or a number from 0 to 1."
        )
    return value


def alpha_at(hp: CorrectionHyperparameters, number: int) -> float:
    """The weight of the voted label in a round, counted from 0."""
    if hp.alpha == "linear":
        return ALPHA_FIRST + (ALPHA_LAST - ALPHA_FIRST) * min(1.0, number / hp.alpha_rounds)
    if hp.alpha == "step":
        return ALPHA_FIRST if number < hp.alpha_rounds else ALPHA_LAST
    return _constant(hp.alpha)


def embed_training_set(
    predictor: NetPredictor, inputs: Inputs, hp: CorrectionHyperparameters, rng: RandomState
) -> Embedding:
    """One vector a video and modality, (N, d), in eval mode, by ``--embed``."""
    if hp.embed == "mean":
        return video_embedding(predictor, inputs)
    rows = torch.arange(len(inputs), device=inputs.device)
    clips = draw_clips(inputs.valid, rows, rng.stream("embed"))  # (N,)
    one = Inputs(
        inputs.visual[rows, clips, None],  # (N, 1, Dv)
        inputs.audio[rows, clips, None],
        inputs.valid[rows, clips, None],
    )
    return video_embedding(predictor, one)


def ask_neighbours(
    z: Embedding, labels: Tensor, classes: int, hp: CorrectionHyperparameters
) -> Vote:
    """The votes of the videos that are nearest in picture and sound together (Eq. 16).

    A video never votes for itself, and the voters' labels are always the given ones.
    """
    # Both halves have norm 1: a cosine of pairs is the mean of the two cosines.
    pair = torch.cat(z, dim=1) * math.sqrt(0.5)  # (N, 2d)
    near = nearest(pair, hp.neighbor_count if hp.knn is None else hp.knn)
    return vote(near, labels, classes, ties=hp.ties)


def hybrid_loss(logits: Tensor, labels: Tensor, voted: Tensor, alpha: float) -> Tensor:
    """Cross-entropy against (1 - alpha) onehot(y) + alpha onehot(y-hat) (Eq. 17).

    Args:
        logits: (B, K).
        labels: (B,) given labels.
        voted: (B,) voted labels.
        alpha: 0 to 1; at 0 this is `torch.nn.functional.cross_entropy` to the bit.
    """
    loss = (1.0 - alpha) * F.cross_entropy(logits, labels)
    return loss + alpha * F.cross_entropy(logits, voted) if alpha else loss


def supervised_pass(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    view: TrainView,
    hp: CorrectionHyperparameters,
    rng: RandomState,
    *,
    voted: Tensor | None = None,
    alpha: float = 0.0,
) -> float:
    """One pass of the hybrid loss over the batches that ``ce`` would meet; gives the mean loss.

    Args:
        net: The shared network.
        optimizer: Updates it; parameters that this loss does not reach are left alone.
        view: Training data.
        hp: Gives the batch size.
        rng: The run's randomness.
        voted: (N,) voted labels; without them this is a pass of ``ce``.
        alpha: Their weight.
    """
    net.train()
    total = torch.zeros((), device=view.inputs.device)
    voted = view.labels if voted is None else voted
    for visit in visits(view, hp.batch_size, rng):
        logits = net(visit.visual, visit.audio).logits  # (B, K)
        loss = hybrid_loss(logits, visit.labels, voted[visit.rows], alpha)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return float(total) / hp.steps_per_epoch(len(view))
