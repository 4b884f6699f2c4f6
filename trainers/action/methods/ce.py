"""CE: cross-entropy on the labels as they are given, the baseline of all others.

    python -m trainers.action --method ce

Source: Han et al., "Noise-Tolerant Learning for Audio-Visual Action Recognition", IEEE TMM 2024,
Eq. 1.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F

from trainers.action.interface import METHODS, TrainView, Verdict
from trainers.action.training import ActionHyperparameters, NetPredictor, build_net, visits
from trainers.fitting import FitState, OnEpoch, Selection
from trainers.random import RandomState
from trainers.training import adam, initialise

__all__ = ["CrossEntropy"]


@METHODS.add
class CrossEntropy:
    """The shared network on noisy labels."""

    name = "ce"
    title = "CE"
    paper = "Noise-Tolerant Learning for Audio-Visual Action Recognition, IEEE TMM 2024 (Eq. 1)"
    needs = frozenset()
    supervision = "noisy"
    selections: ClassVar = {"train": Selection("clip@1")}
    released = False
    hyperparameters = ActionHyperparameters

    def fit(
        self,
        view: TrainView,
        hp: ActionHyperparameters,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> NetPredictor:
        """Trains with L = mean_i CE(g(h_v, h_a), y_i)."""
        device = view.inputs.device
        predictor = initialise(
            rng, "net", partial(self.build, view.inputs.widths, view.classes, hp)
        )
        net = predictor.net.to(device)
        net.standardise(view.inputs)
        optimizer = adam(net.parameters(), hp.lr)
        state.track(net=net, optimizer=optimizer)
        steps = hp.steps_per_epoch(len(view))

        for epoch in state.epochs("train", hp.epochs):
            net.train()
            total = torch.zeros((), device=device)
            for visit in visits(view, hp.batch_size, rng):
                logits = net(visit.visual, visit.audio).logits  # (B, K)
                loss = F.cross_entropy(logits, visit.labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.detach()
            on_epoch("train", epoch, predictor, loss=float(total) / steps)
        return predictor

    def build(
        self, widths: dict[str, int], classes: tuple[str, ...], hp: ActionHyperparameters
    ) -> NetPredictor:
        """An untrained network of the right shape."""
        return NetPredictor(build_net(widths, len(classes), hp))

    def verdict(
        self,
        predictor: NetPredictor,
        view: TrainView,
        hp: ActionHyperparameters,
        state: FitState,
    ) -> Verdict | None:
        """None: CE judges no label and no pair."""
        return None
