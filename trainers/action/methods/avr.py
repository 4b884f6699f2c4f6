"""AVR: features are rebuilt from a sparse dictionary, and the modalities are pushed apart.

    python -m trainers.action --method avr

Source: Tian and Xu, "Can Audio-Visual Integration Strengthen Robustness Under Multimodal
Attacks?", CVPR 2021; constants are those of the released code, FISTA takes the place of its ISTA.
Shapes: N or B videos, d the width of the projections.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F

from pipeline.errors import UserError
from trainers.action.interface import METHODS, TrainView, Verdict
from trainers.action.networks.avr import RobustNet
from trainers.action.training import (
    ActionHyperparameters,
    NetPredictor,
    build_net,
    draw_clips,
    visits,
)
from trainers.fitting import FitState, OnEpoch, Selection
from trainers.options import option
from trainers.random import RandomState
from trainers.training import adam, initialise

__all__ = ["AVRHyperparameters", "AVRobustness"]


@dataclass(frozen=True, kw_only=True)
class AVRHyperparameters(ActionHyperparameters):
    """Settings of AVR; of its 60 epochs the last 20 use the dictionaries."""

    cls_input: str = option("proj", "AVR classifies projections", choices=("proj",))
    robust_epochs: int | None = option(
        None, "epochs of all that use the dictionaries; none: the last third", low=0
    )
    atoms: int = option(1024, "training videos in a dictionary, all if there are fewer", low=1)
    penalty: float = option(0.1, "lambda, weight of the codes' L1 norm", low=0.0)
    mix: float = option(0.5, "a, share of the rebuilt features", low=0.0, high=1.0)
    cosine: float = option(1.0, "weight of the cosine between the modalities' features", low=0.0)
    avr_iters: int = option(50, "iterations of FISTA, in training and in prediction", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.robust_epochs or 0) > self.epochs:
            raise UserError(
                f"--robust-epochs {self.robust_epochs} are more than --epochs {self.epochs}; "
                "give fewer."
            )

    def stages(self) -> tuple[int, int]:
        """Epochs without and with dictionaries."""
        robust = -(-self.epochs // 3) if self.robust_epochs is None else self.robust_epochs
        return self.epochs - robust, robust


@METHODS.add
class AVRobustness:
    """Audio-visual robustness: first plain training, then with external feature memories."""

    name = "avr"
    title = "AV-R"
    paper = (
        "Can Audio-Visual Integration Strengthen Robustness Under Multimodal Attacks?, CVPR 2021"
    )
    needs = frozenset()
    supervision = "noisy"
    selections: ClassVar = {"plain": Selection("clip@1"), "robust": Selection("clip@1")}
    # Its code trains whole backbones; FISTA takes the place of its ISTA.
    released = False
    hyperparameters = AVRHyperparameters

    def fit(
        self,
        view: TrainView,
        hp: AVRHyperparameters,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> NetPredictor:
        """Trains with CE; then, from these weights, with CE(r') + mean cos(r'_v, r'_a)."""
        device = view.inputs.device
        predictor = initialise(
            rng, "net", partial(self.build, view.inputs.widths, view.classes, hp)
        )
        net = predictor.net.to(device)
        net.standardise(view.inputs)
        state.track(net=net)
        steps = hp.steps_per_epoch(len(view))

        for phase, epochs in zip(self.selections, hp.stages(), strict=True):
            optimizer = adam(net.parameters(), hp.lr)
            state.track(**{f"optimizer/{phase}": optimizer})
            for epoch in state.epochs(phase, epochs):
                if phase == "robust" and not len(net.dictionary_v):
                    self.memorise(net, view, hp, rng)
                net.train()
                total = torch.zeros((), device=device)
                for visit in visits(view, hp.batch_size, rng):
                    r_v, r_a = net.features(visit.visual, visit.audio)  # (B, d)
                    new_v, new_a = net.rebuild(r_v, r_a)  # (B, d)
                    loss = F.cross_entropy(net.classify(new_v, new_a), visit.labels)
                    if phase == "robust":
                        # Added, not subtracted: the modalities are to learn different things.
                        loss = loss + hp.cosine * F.cosine_similarity(new_v, new_a).mean()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    total += loss.detach()
                log = {"loss": float(total) / steps}
                if phase == "robust":
                    log["excess_visual"] = net.dictionary_v.excess(r_v.detach())
                    log["excess_audio"] = net.dictionary_a.excess(r_a.detach())
                on_epoch(phase, epoch, predictor, **log)
        return predictor

    @torch.no_grad()
    def memorise(
        self, net: RobustNet, view: TrainView, hp: AVRHyperparameters, rng: RandomState
    ) -> None:
        """Fills both dictionaries with the features of random training videos, a clip of each."""
        rows = torch.randperm(len(view), generator=rng.stream("atoms"))[: hp.atoms]
        clips = draw_clips(view.inputs.valid, rows, rng.stream("atoms/clips"))
        rows = rows.to(clips.device)
        net.eval()
        r_v, r_a = net.features(view.inputs.visual[rows, clips], view.inputs.audio[rows, clips])
        net.dictionary_v.fill(r_v.T)
        net.dictionary_a.fill(r_a.T)

    def build(
        self, widths: dict[str, int], classes: tuple[str, ...], hp: AVRHyperparameters
    ) -> NetPredictor:
        """An untrained network of the right shape, its dictionaries empty."""
        return NetPredictor(
            RobustNet(
                build_net(widths, len(classes), hp),
                len(classes),
                width=hp.width,
                atoms=hp.atoms,
                penalty=hp.penalty,
                mix=hp.mix,
                iterations=hp.avr_iters,
            )
        )

    def verdict(
        self, predictor: NetPredictor, view: TrainView, hp: AVRHyperparameters, state: FitState
    ) -> Verdict | None:
        """None: AVR judges no label and no pair."""
        return None
