"""HAN: weak labels for all, one smoothed target for the visual modality.

    python -m trainers.avvp --method han

Source: Tian, Li and Xu, "Unified Multisensory Perception: Weakly-Supervised Audio-Visual Video
Parsing", ECCV 2020. Label smoothing on the visual target alone, and the selection rule, are those
of the released code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch

from trainers.avvp.interface import METHODS, Predictor, TrainView
from trainers.avvp.losses import CONTRASTIVE, contrastive, parsing_loss, smooth
from trainers.avvp.networks.han import HAN
from trainers.avvp.training import NetPredictor, NetworkHyperparameters
from trainers.fitting import FitState, OnEpoch, Selection
from trainers.options import option
from trainers.random import RandomState
from trainers.training import adam, initialise, step_lr

__all__ = ["HANHyperparameters", "HANMethod"]


@dataclass(frozen=True, kw_only=True)
class HANHyperparameters(NetworkHyperparameters):
    """Settings of HAN; defaults are the paper's."""

    lr: float = option(3e-4, "Adam's learning rate", low=0.0)
    batch_size: int = option(16, "clips an update", low=1)
    epochs: int = option(40, "passes over the training clips", low=0)
    lr_step: float = option(10.0, "epochs between decays", unit="epochs", low=1e-9)
    lr_gamma: float = option(0.1, "factor of a decay", low=0.0)
    cl: str = option("none", "contrastive loss added with weight 1", choices=CONTRASTIVE)
    as_released: bool = option(
        False, "with more than one layer, every layer reads the encoder's input"
    )

    def steps_per_epoch(self, n: int) -> int:
        """Updates in one epoch over ``n`` training clips."""
        return math.ceil(n / self.batch_size)


@METHODS.add
class HANMethod:
    """The hybrid attention network on weak labels."""

    name = "han"
    title = "HAN"
    paper = (
        "Unified Multisensory Perception: Weakly-Supervised Audio-Visual Video Parsing, ECCV 2020"
    )
    roles = frozenset({"audio", "visual", "motion"})
    needs = frozenset()
    supervision = "weak"
    filter = "video"
    selections: ClassVar = {"train": Selection("segment/type")}
    released = True
    published: ClassVar = {
        "segment": (60.1, 52.9, 48.9, 54.0, 55.4),
        "event": (51.3, 48.9, 43.0, 47.7, 48.0),
    }
    hyperparameters = HANHyperparameters

    def fit(
        self,
        view: TrainView,
        hp: HANHyperparameters,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> Predictor:
        """Trains with BCE(P_a, y) + BCE(P_v, 0.9 y + 0.05) + BCE(P, y)."""
        device = view.inputs.device
        build = partial(self.build, view.inputs.widths, view.classes, hp)
        predictor = initialise(rng, "net", build)
        net = predictor.net.to(device)
        optimizer = adam(net.parameters(), hp.lr)
        state.track(net=net, optimizer=optimizer)
        visual = smooth(view.labels_visual)  # (N, C)

        for epoch in state.epochs("train", hp.epochs):
            step_lr(optimizer, epoch, lr=hp.lr, step=hp.lr_step, gamma=hp.lr_gamma)
            net.train()
            total = torch.zeros((), device=device)
            for rows in rng.batches(len(view), hp.batch_size):
                rows = rows.to(device)  # (B,)
                out = net(view.inputs[rows])
                loss = parsing_loss(out, view.labels_audio[rows], visual[rows], view.labels[rows])
                loss = loss + contrastive(out, hp.cl)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(rows)
            on_epoch("train", epoch, predictor, loss=float(total) / len(view))
        return predictor

    def build(
        self, widths: dict[str, int], classes: tuple[str, ...], hp: HANHyperparameters
    ) -> NetPredictor:
        """An untrained network of the right shape."""
        net = HAN(widths, len(classes), **hp.parser(), chained=not hp.as_released)
        return NetPredictor(net)

    def keep_scores(
        self, predictor: Predictor, view: TrainView, hp: HANHyperparameters, state: FitState
    ) -> dict[str, np.ndarray] | None:
        """None: HAN does not judge labels."""
        return None
