"""Co-teaching: two networks, each learning from what the other finds easy.

    python -m trainers.action --method coteaching --forget 0.4

Source: Han et al., "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy
Labels", NeurIPS 2018, Algorithm 1, on the shared audio-visual network. The released code divides
the mean loss again by the number of kept samples, and lowers Adam's beta1 half-way; neither is in
the paper's algorithm, and neither is done here. Shapes: B videos of a batch, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import UserError
from trainers.action.interface import METHODS, TrainView, Verdict
from trainers.action.pairs import PairPredictor, initialise_pair
from trainers.action.training import ActionHyperparameters, build_net, per_video_loss, visits
from trainers.fitting import FitState, OnEpoch, Selection
from trainers.options import option
from trainers.random import RandomState
from trainers.training import adam

__all__ = ["CoTeaching", "CoTeachingHyperparameters", "kept_count", "small_loss"]


@dataclass(frozen=True, kw_only=True)
class CoTeachingHyperparameters(ActionHyperparameters):
    """Settings of Co-teaching; defaults are the paper's where it has any."""

    forget: float | None = option(
        None, "share of each batch left out in the end; none: the true noise rate (privileged)",
        low=0.0, high=1.0,
    )  # fmt: skip
    ramp: float = option(
        10.0, "epochs until that share is left out (T_k); 0: at once", unit="epochs", low=0.0
    )

    def check(self, view: TrainView) -> None:
        """Refuses a rate that is not known or leaves nothing to learn from."""
        super().check(view)
        _forget_rate(view, self)

    def spared(self) -> frozenset[str]:
        """The noise level, where a rate is given."""
        return frozenset() if self.forget is None else frozenset({"noise_level"})


@METHODS.add
class CoTeaching:
    """Small-loss samples, exchanged between two networks."""

    name = "coteaching"
    title = "Co-teaching"
    paper = (
        "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels, "
        "NeurIPS 2018 (adapted)"
    )
    needs = frozenset({"noise_level"})
    supervision = "noisy"
    selections: ClassVar = {"train": Selection("clip@1")}
    # Its code trains another network on images; what remains of it here is the algorithm.
    released = False
    hyperparameters = CoTeachingHyperparameters

    def fit(
        self,
        view: TrainView,
        hp: CoTeachingHyperparameters,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> PairPredictor:
        """Per batch, each network keeps its small losses for the other to learn from."""
        forget = _forget_rate(view, hp)
        make = partial(build_net, view.inputs.widths, len(view.classes), hp)
        predictor = initialise_pair(rng, make, view, combine="softmax")
        first, second = predictor.nets
        optimizers = [adam(net.parameters(), hp.lr) for net in (first, second)]
        state.track(pair=predictor.nets, optimizer=optimizers[0], optimizer_2=optimizers[1])
        steps = hp.steps_per_epoch(len(view))

        for epoch in state.epochs("train", hp.epochs):
            predictor.nets.train()
            kept = kept_count(hp.batch_size, forget, epoch - 1, hp.ramp)
            total = torch.zeros(2, device=view.inputs.device)
            for visit in visits(view, hp.batch_size, rng):
                losses = [
                    F.cross_entropy(
                        net(visit.visual, visit.audio).logits, visit.labels, reduction="none"
                    )
                    for net in (first, second)
                ]  # (B,) each
                easy = [small_loss(loss, kept) for loss in losses]  # (kept,) each
                taught = [losses[0][easy[1]].mean(), losses[1][easy[0]].mean()]
                for loss, optimizer in zip(taught, optimizers, strict=True):
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                total += torch.stack(taught).detach()
            mean = total / steps
            on_epoch(
                "train",
                epoch,
                predictor,
                loss=float(mean.mean()),
                loss_2=float(mean[1]),
                forget=forget,
                kept=float(kept),
            )
        return predictor

    def build(
        self, widths: dict[str, int], classes: tuple[str, ...], hp: CoTeachingHyperparameters
    ) -> PairPredictor:
        """Two untrained networks of the right shape."""
        nets = (build_net(widths, len(classes), hp) for _ in range(2))
        return PairPredictor(*nets, combine="softmax")

    def verdict(
        self,
        predictor: PairPredictor,
        view: TrainView,
        hp: CoTeachingHyperparameters,
        state: FitState,
    ) -> Verdict | None:
        """The probability of the given label, as both networks see it: small losses are kept."""
        losses = [
            per_video_loss(single.predict(view.inputs), view.labels)
            for single in predictor.singles()
        ]
        return Verdict(keep={"small_loss": np.exp(-np.mean(losses, axis=0))})


def _forget_rate(view: TrainView, hp: CoTeachingHyperparameters) -> float:
    rate = hp.forget
    if rate is None:
        if view.noise is None:
            raise UserError("The noise rate is not known; name it with --forget.")
        rate = view.noise.rate
    if kept_count(hp.batch_size, rate, 1, 0.0) == 0:
        raise UserError(
            f"A forget rate of {rate:g} leaves nothing of a batch of {hp.batch_size} to learn "
            "from; give a lower one with --forget."
        )
    return rate


def kept_count(batch: int, forget: float, epoch: int, ramp: float) -> int:
    """floor(R(e) B) with R(e) = 1 - r min(e / T_k, 1).

    Args:
        batch: B.
        forget: r.
        epoch: e, from 0.
        ramp: T_k; 0 forgets at once.
    """
    share = min(epoch / ramp, 1.0) if ramp > 0 else 1.0
    # 0.6 of 50 is 29.999999999999996 in floating point.
    return int((1.0 - forget * share) * batch + 1e-6)


def small_loss(losses: Tensor, count: int) -> Tensor:
    """The samples of smallest loss, in the order of the batch, (count,) int64.

    Args:
        losses: (B,); among equal ones the earlier samples come first.
        count: How many.
    """
    # In the batch's own order a mean over all of it is to the bit that of plain training.
    return losses.detach().argsort(stable=True)[:count].sort().values
