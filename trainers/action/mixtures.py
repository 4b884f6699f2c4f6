"""What DivideMix is made of: a mixture over losses, sharpened guesses, and mixed inputs.

Source: Li, Socher and Hoi, "DivideMix: Learning with Noisy Labels as Semi-supervised Learning",
ICLR 2020; constants of the mixture are those of the released code. Shapes: N videos, B of a batch,
K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.action.interface import TrainView
from trainers.random import RandomState

__all__ = [
    "TwoClips",
    "beta",
    "clean_posterior",
    "draw_two",
    "mix_up",
    "negative_entropy",
    "prior_penalty",
    "semi_supervised_loss",
    "sharpen",
    "two_clip_batches",
]


class TwoClips(NamedTuple):
    """B videos, each by two of its clips.

    Attributes:
        rows: (B,) int64 videos.
        visual, audio: Two of (B, D) each.
    """

    rows: Tensor
    visual: tuple[Tensor, Tensor]
    audio: tuple[Tensor, Tensor]


def clean_posterior(losses: Tensor, *, seed: int) -> Tensor:
    """How surely each loss is of the smaller of two kinds.

    Losses are scaled to 0..1, two Gaussians are fitted, and the one of lower mean counts as clean.

    Args:
        losses: (N,) mean loss of each video's label.
        seed: Of the fit's start.

    Returns:
        (N,) float32, 0 to 1; 0.5 throughout where all losses are equal and nothing can be told.
    """
    # Imported here: every command imports all methods, and scikit-learn takes a second.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    values = losses.detach().double().cpu().numpy()  # (N,)
    low, high = values.min(), values.max()
    if not high > low:
        return torch.full_like(losses, 0.5, dtype=torch.float32)
    scaled = ((values - low) / (high - low))[:, None]  # (N, 1)
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seed)
    with warnings.catch_warnings():
        # Ten steps are what the method prescribes, converged or not.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(scaled)
    posterior = mixture.predict_proba(scaled)[:, mixture.means_[:, 0].argmin()]
    return torch.from_numpy(posterior.astype(np.float32)).to(losses.device)


def sharpen(p: Tensor, temperature: float) -> Tensor:
    """Probabilities to the power 1/T, scaled to sum 1 again, (B, K)."""
    raised = p ** (1.0 / temperature)
    return raised / raised.sum(1, keepdim=True)


def beta(concentration: float, generator: torch.Generator) -> float:
    """A draw from Beta(c, c) or one minus it, whichever is larger: the first input weighs more."""
    # The ratio of two gamma variables; numpy draws them, from a seed that the stream gives.
    seed = int(torch.randint(2**62, (), generator=generator))
    draw = float(np.random.default_rng(seed).beta(concentration, concentration))
    return max(draw, 1.0 - draw)


def mix_up(arrays: Sequence[Tensor], share: float, order: Tensor) -> list[Tensor]:
    """Mixes rows of several arrays with the same other rows in the same share.

    Args:
        arrays: (M, ...) each.
        share: Weight of the row itself.
        order: (M,) permutation: the other row of each.
    """
    return [share * x + (1.0 - share) * x[order] for x in arrays]


def negative_entropy(logits: Tensor) -> Tensor:
    """Mean over the batch of sum p ln p: added to a loss it punishes confidence; a scalar."""
    log_p = logits.log_softmax(1)  # (B, K)
    return (log_p.exp() * log_p).sum(1).mean()


def prior_penalty(logits: Tensor) -> Tensor:
    """Divergence of the batch's mean prediction from the uniform prior, a scalar.

    sum_k pi_k ln(pi_k / mean p_k) with pi_k = 1/K: it keeps guesses from collapsing on few classes.
    """
    log_mean = logits.log_softmax(1).logsumexp(0) - np.log(len(logits))  # (K,)
    return -np.log(logits.shape[1]) - log_mean.mean()


def semi_supervised_loss(
    logits: Tensor, targets: Tensor, labelled: int, weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms of an update on mixed inputs.

    Args:
        logits: (M, K), the labelled rows first.
        targets: (M, K), mixed like the inputs.
        labelled: How many rows are labelled.
        weight: Of the second term.

    Returns:
        Cross-entropy of the labelled rows, ``weight`` times the squared error of the others'
        probabilities (a mean over rows and classes), and `prior_penalty` over all rows.
    """
    supervised = -(targets[:labelled] * logits[:labelled].log_softmax(1)).sum(1).mean()
    guessed = F.mse_loss(logits[labelled:].softmax(1), targets[labelled:])
    return supervised, weight * guessed, prior_penalty(logits)


def two_clip_batches(
    view: TrainView, rows: Tensor, size: int, count: int, rng: RandomState, stream: str
) -> Iterator[TwoClips]:
    """Full batches of some videos, in a new order whenever they have all been there."""
    generator = rng.stream(stream)
    order = rows[:0]
    for _ in range(count):
        if len(order) < size:
            order = rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
        chosen, order = order[:size], order[size:]
        first, second = draw_two(view.inputs.valid[chosen], generator)
        visual, audio = view.inputs.visual[chosen], view.inputs.audio[chosen]
        own = torch.arange(size, device=chosen.device)
        yield TwoClips(
            chosen,
            (visual[own, first], visual[own, second]),
            (audio[own, first], audio[own, second]),
        )


def draw_two(valid: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two different valid clips of each video, the same one twice where there is only one.

    Args:
        valid: (B, S) bool.
        generator: A CPU generator.

    Returns:
        (B,) int64 each.
    """
    chance = torch.rand(valid.shape, generator=generator).to(valid.device)
    best = chance.masked_fill(~valid, -1.0).topk(min(2, valid.shape[1]), dim=1).indices
    first, second = best[:, 0], best[:, -1]
    return first, torch.where(valid.sum(1) > 1, second, first)
