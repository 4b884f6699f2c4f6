"""G-Blend: three losses, weighted by how well a network trained on each alone generalises.

    python -m trainers.action --method gblend

Source: Wang, Tran and Feiszli, "What Makes Training Multi-Modal Classification Networks Hard?",
CVPR 2020. The released code has constant weights (``--blend constant``); how they are estimated is
told in `trainers.action.blending`. Shapes: N or B videos, K classes, 3 heads.

Held-out labels are noisy too: after a few epochs the loss on them is often above that of an
untrained network, and the rule then gives the fusion head, which predicts, no weight at all. It
would stay untrained and predict by chance; instead weights are equal (``--zero-fusion``).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import UserError
from trainers.action.blending import Blend, blend, hold_out
from trainers.action.interface import METHODS, Inputs, Prediction, TrainView, Verdict
from trainers.action.networks.gblend import HEADS, BlendNet
from trainers.action.training import (
    ActionHyperparameters,
    NetPredictor,
    build_net,
    per_video_loss,
    visits,
)
from trainers.fitting import FitState, OnEpoch, Selection
from trainers.options import option
from trainers.random import RandomState
from trainers.training import adam, by_batches, initialise

__all__ = ["GBlend", "GBlendHyperparameters"]

BLENDS = ("offline", "online", "constant")


@dataclass(frozen=True, kw_only=True)
class GBlendHyperparameters(ActionHyperparameters):
    """Settings of G-Blend; estimations come on top of its epochs."""

    blend: str = option(
        "offline", "estimate weights once, every --period epochs, or not at all", choices=BLENDS
    )
    estimate_epochs: int = option(
        10, "epochs of each network in an estimation", unit="epochs", low=1
    )
    period: int = option(10, "epochs between online estimations", unit="epochs", low=1)
    held_out: float = option(
        0.1, "share of videos that estimations hold out, by group", low=1e-6, high=0.9
    )
    zero_fusion: str = option(
        "equal", "weights if the estimate gives the fusion head none: equal, or kept so",
        choices=("equal", "keep"),
    )  # fmt: skip
    visual_weight: float = option(1 / 3, "constant weight of the visual loss", low=0.0, high=1.0)
    audio_weight: float = option(
        1 / 3, "constant weight of the audio loss; fusion has the rest", low=0.0, high=1.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.visual_weight + self.audio_weight > 1 + 1e-9:
            raise UserError("--visual-weight and --audio-weight exceed 1 together; lower them.")

    def constants(self) -> Tensor:
        """(3,) weights that are not estimated."""
        fusion = max(0.0, 1 - self.visual_weight - self.audio_weight)
        return torch.tensor([self.visual_weight, self.audio_weight, fusion])

    def stops(self) -> list[int]:
        """Epochs after which weights are set anew, and the last one."""
        period = max(1, self.period if self.blend == "online" else self.epochs)
        return [min(start + period, self.epochs) for start in range(0, self.epochs, period)]

    def passes(self) -> int:
        """Passes in the whole run; those of estimations, over the videos not held out, count."""
        estimations = 0 if self.blend == "constant" else len(self.stops())
        return self.epochs + estimations * len(HEADS) * self.estimate_epochs


@METHODS.add
class GBlend:
    """Gradient blending."""

    name = "gblend"
    title = "G-Blend"
    paper = "What Makes Training Multi-Modal Classification Networks Hard?, CVPR 2020"
    needs = frozenset()
    supervision = "noisy"
    selections: ClassVar = {"estimate": Selection("clip@1"), "train": Selection("clip@1")}
    # Its code trains whole backbones with constant weights: --blend constant.
    released = False
    hyperparameters = GBlendHyperparameters

    def fit(
        self,
        view: TrainView,
        hp: GBlendHyperparameters,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> NetPredictor:
        """Trains with L = w_v L_v + w_a L_a + w_av L_av."""
        device = view.inputs.device
        predictor = initialise(
            rng, "net", partial(self.build, view.inputs.widths, view.classes, hp)
        )
        net = predictor.net.to(device)
        net.standardise(view.inputs)
        optimizer = adam(net.parameters(), hp.lr)
        state.track(net=net, optimizer=optimizer)
        estimator = None if hp.blend == "constant" else _Estimator(net, view, hp, rng, state)
        steps = hp.steps_per_epoch(len(view))

        for stop in hp.stops():
            weights = hp.constants() if estimator is None else estimator.run(net, on_epoch)
            weights = weights.to(device)  # (3,)
            for epoch in state.epochs("train", stop):
                net.train()
                totals = torch.zeros(len(HEADS), device=device)
                for visit in visits(view, hp.batch_size, rng):
                    losses = torch.stack(
                        [
                            F.cross_entropy(logits, visit.labels)
                            for logits in net.heads(visit.visual, visit.audio)
                        ]
                    )  # (3,)
                    optimizer.zero_grad()
                    (weights @ losses).backward()
                    optimizer.step()
                    totals += losses.detach()
                log = {"loss": float(weights @ totals) / steps}
                log |= _named("loss", totals / steps) | _named("w", weights)
                state.values["updates"] = epoch * steps  # of the network that predicts
                on_epoch("train", epoch, predictor, **log)
        return predictor

    def build(
        self, widths: dict[str, int], classes: tuple[str, ...], hp: GBlendHyperparameters
    ) -> NetPredictor:
        """An untrained network of the right shape; its fusion head predicts."""
        base = build_net(widths, len(classes), hp)
        return NetPredictor(BlendNet(base, len(classes), width=hp.width))

    def verdict(
        self, predictor: NetPredictor, view: TrainView, hp: GBlendHyperparameters, state: FitState
    ) -> Verdict | None:
        """None: G-Blend judges no label and no pair."""
        return None


class _Estimator:
    """Trains one network for each head from the same state and compares how they generalise.

    Args:
        net: The network that is trained; copies of it are made.
        view: Training data, of which some groups are held out with their noisy labels.
        hp: Settings.
        rng: The run's randomness.
        state: Keeps what an interrupted estimation needs.
    """

    def __init__(
        self,
        net: BlendNet,
        view: TrainView,
        hp: GBlendHyperparameters,
        rng: RandomState,
        state: FitState,
    ) -> None:
        self.view, self.hp, self.rng, self.state = view, hp, rng, state
        self.nets = [copy.deepcopy(net) for _ in HEADS]
        self.optimizers = [adam(n.parameters(), hp.lr) for n in self.nets]
        for head, twin, optimizer in zip(HEADS, self.nets, self.optimizers, strict=True):
            state.track(**{f"estimate/{head}": twin, f"estimate/optimizer/{head}": optimizer})
        if "estimate/rows" not in state.values:
            rows = hold_out(view.groups, hp.held_out, rng.stream("held out"))
            state.values["estimate/rows"] = list(rows)
        self.rows = state.values["estimate/rows"]
        self.finished = 0

    def run(self, net: BlendNet, on_epoch: OnEpoch) -> Tensor:
        """Estimates from the network as it stands; an estimation that was finished is skipped.

        Returns:
            (3,) weights, in the order of `HEADS`.
        """
        hp, first = self.hp, self.finished * self.hp.estimate_epochs + 1
        self.finished += 1
        predictor = NetPredictor(self.nets[HEADS.index("fusion")])
        for epoch in self.state.epochs("estimate", self.finished * hp.estimate_epochs):
            if epoch == first:
                for twin, optimizer in zip(self.nets, self.optimizers, strict=True):
                    twin.load_state_dict(net.state_dict())
                    optimizer.state.clear()
                self.state.values["estimate/before"] = self.losses()
            log = self.learn()
            if epoch == self.finished * hp.estimate_epochs:
                needed = HEADS.index("fusion") if hp.zero_fusion == "equal" else None
                before = self.state.values["estimate/before"].cpu()
                found = blend(before, self.losses(), needed=needed)
                self.state.values["estimate/weights"] = found.weights
                log |= _described(found)
            on_epoch("estimate", epoch, predictor, **log)
        return self.state.values["estimate/weights"]

    def learn(self) -> dict[str, float]:
        """One pass of each network over the videos that are not held out."""
        batches = visits(
            self.view, self.hp.batch_size, self.rng, stream="order/estimate", rows=self.rows[0]
        )
        totals = torch.zeros(len(HEADS), device=self.view.inputs.device)
        for twin in self.nets:
            twin.train()
        for visit in batches:
            for i, (head, twin) in enumerate(zip(HEADS, self.nets, strict=True)):
                logits = twin.head(head, visit.visual, visit.audio)  # (B, K)
                loss = F.cross_entropy(logits, visit.labels)
                self.optimizers[i].zero_grad()
                loss.backward()
                self.optimizers[i].step()
                totals[i] += loss.detach()
        losses = totals / self.hp.steps_per_epoch(len(self.rows[0]))
        return {"loss": float(losses.mean())} | _named("loss", losses)

    def losses(self) -> Tensor:
        """Mean loss of each head on the training and on the held-out videos, (2, 3)."""
        columns = []
        for head, twin in zip(HEADS, self.nets, strict=True):

            def step(part: Inputs, head: str = head, twin: BlendNet = twin) -> Prediction:
                logits = twin.head(head, part.visual, part.audio)  # (n, S, K)
                return Prediction(logits.float().cpu().numpy(), part.valid.cpu().numpy())

            prediction = Prediction.concatenate(by_batches(twin, self.view.inputs, step))
            loss = torch.from_numpy(per_video_loss(prediction, self.view.labels))  # (N,)
            columns.append(torch.stack([loss[rows.cpu()].mean() for rows in self.rows]))
        return torch.stack(columns, 1)


def _named(name: str, values: Tensor) -> dict[str, float]:
    """(3,) values under the heads' names."""
    return {f"{name}_{head}": value for head, value in zip(HEADS, values.tolist(), strict=True)}


def _described(found: Blend) -> dict[str, float]:
    """What an estimation logs."""
    return (
        _named("gain", found.gain)
        | _named("overfitting", found.overfitting)
        | _named("w", found.weights)
    )
