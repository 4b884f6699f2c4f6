"""JoMoLD: in each batch, a label that one modality finds hard and the other easy is noise.

    python -m trainers.avvp --method jomold

Source: Cheng et al., "Joint-Modal Label Denoising for Weakly-Supervised Audio-Visual Video
Parsing", ECCV 2022; loss weights, dropout before the heads and the selection rule are those of the
released code. Shapes: N or B clips, C classes; ratios are (2, C), audio and visual.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from trainers.avvp.denoising import noise_mask, noise_ratios, warmup_factor
from trainers.avvp.interface import METHODS, Predictor, TrainView
from trainers.avvp.losses import CONTRASTIVE, bce_cells, contrastive, parsing_loss, smooth
from trainers.avvp.networks.han import HAN
from trainers.avvp.training import NetPredictor, NetworkHyperparameters
from trainers.fitting import FitState, OnEpoch, Selection
from trainers.options import option
from trainers.random import RandomState
from trainers.training import adam, initialise, step_lr

__all__ = ["JoMoLD", "JoMoLDHyperparameters"]


@dataclass(frozen=True, kw_only=True)
class JoMoLDHyperparameters(NetworkHyperparameters):
    """Settings of JoMoLD; defaults are the paper's."""

    lr: float = option(5e-4, "Adam's learning rate", low=0.0)
    batch_size: int = option(128, "clips an update", low=1)
    epochs: int = option(25, "passes over the training clips, for estimator and parser", low=0)
    lr_step: float = option(6.0, "epochs between decays", unit="epochs", low=1e-9)
    lr_gamma: float = option(0.25, "factor of a decay", low=0.0)
    warmup: float = option(0.9, "epochs until ratios are full; 0: none", unit="epochs", low=0.0)
    theta_audio: float = option(0.6, "a label is noise below this share of the mean", low=0.0)
    theta_visual: float = option(1.8, "the same for the visual modality", low=0.0)
    ratio: float | None = option(
        None, "one ratio for all classes in place of the estimator's", low=0.0, high=1.0
    )
    rule: str = option(
        "joint", "noise is hard here and easy there, or just hard here", choices=("joint", "intra")
    )
    modalities: str = option(
        "both", "which modality is denoised", choices=("both", "audio", "visual")
    )
    estimator_ca: bool = option(False, "cross-modal attention in the estimator")
    cl: str = option("none", "contrastive loss added with weight 1", choices=CONTRASTIVE)
    as_released: bool = option(
        False, "no ratio in the first epoch, ratios from scaled targets, JoMoLD's contrastive form"
    )
    cls_dropout: float = option(
        0.5, "dropout on the parser's visual stream before the heads", low=0.0, high=1.0
    )

    def steps_per_epoch(self, n: int) -> int:
        """Updates in one epoch over ``n`` training clips."""
        return math.ceil(n / self.batch_size)

    def updates(self, n: int) -> int:
        """Updates of the parser and, where ratios are estimated, of the estimator."""
        return super().updates(n) * (2 if self.ratio is None else 1)


@METHODS.add
class JoMoLD:
    """Joint-modal label denoising."""

    name = "jomold"
    title = "JoMoLD"
    paper = (
        "Joint-Modal Label Denoising for Weakly-Supervised Audio-Visual Video Parsing, ECCV 2022"
    )
    roles = frozenset({"audio", "visual", "motion"})
    needs = frozenset()
    supervision = "weak"
    filter = "modality"
    selections: ClassVar = {"estimate": Selection("event/audio"), "train": Selection("event/audio")}
    released = True
    published: ClassVar = {
        "segment": (60.6, 62.2, 56.0, 59.6, 58.6),
        "event": (53.1, 58.9, 49.4, 53.8, 51.4),
    }
    hyperparameters = JoMoLDHyperparameters

    def fit(
        self,
        view: TrainView,
        hp: JoMoLDHyperparameters,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> Predictor:
        """Estimates how noisy each class is, then trains on what is left of each batch's labels."""
        ratios = self.estimate(view, hp, rng=rng, state=state, on_epoch=on_epoch)  # (2, C)
        device = view.inputs.device
        build = partial(self.build, view.inputs.widths, view.classes, hp)
        predictor = initialise(rng, "net", build)
        net = predictor.net.to(device)
        optimizer = adam(net.parameters(), hp.lr)
        state.track(net=net, optimizer=optimizer)
        form = "jomold" if hp.as_released and hp.cl != "none" else hp.cl
        steps = hp.steps_per_epoch(len(view))

        for epoch in state.epochs("train", hp.epochs):
            step_lr(optimizer, epoch, lr=hp.lr, step=hp.lr_step, gamma=hp.lr_gamma)
            net.train()
            total = torch.zeros((), device=device)
            batches = rng.batches(len(view), hp.batch_size)
            for step, rows in enumerate(batches, start=(epoch - 1) * steps):
                rows = rows.to(device)  # (B,)
                embedded = net.embed(view.inputs[rows])  # (2, B, T, D)
                factor = warmup_factor(step, steps, hp.warmup, as_released=hp.as_released)
                with torch.no_grad():
                    judged = net.parse(embedded, with_ca=False)
                audio, visual = view.labels_audio[rows], view.labels_visual[rows]  # (B, C)
                clips = judged.audio_clip, judged.visual_clip  # (B, C) each
                noise = _noise(*clips, audio, visual, ratios * factor, hp)  # (B, C) each
                audio = audio.masked_fill(noise[0], 0.0)  # (B, C)
                visual = smooth(visual).masked_fill(noise[1], 0.0)  # (B, C)
                out = net.parse(embedded)
                loss = parsing_loss(out, audio, visual, view.labels[rows], weights=(2.0, 1.0, 1.0))
                loss = loss + contrastive(out, form)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(rows)
            on_epoch("train", epoch, predictor, loss=float(total) / len(view))
        return predictor

    def estimate(
        self,
        view: TrainView,
        hp: JoMoLDHyperparameters,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> Tensor:
        """Trains a parser without cross-modal attention and reads the noise ratios off it.

        Returns:
            (2, C) float64, also kept as ``state.values["noise_ratios"]``.
        """
        device = view.inputs.device
        if "noise_ratios" in state.values:
            return state.values["noise_ratios"].to(device)
        if hp.ratio is not None:
            shape = (2, len(view.classes))
            ratios = torch.full(shape, hp.ratio, dtype=torch.float64, device=device)
            state.values["noise_ratios"] = ratios
            return ratios
        build = partial(HAN, view.inputs.widths, len(view.classes), **hp.parser())
        net = initialise(rng, "estimator", build).to(device)
        optimizer = adam(net.parameters(), hp.lr)
        state.track(estimator=net, estimator_optimizer=optimizer)
        predictor = NetPredictor(net, with_ca=hp.estimator_ca)
        visual = smooth(view.labels_visual)  # (N, C)
        form = "jomold" if hp.as_released else "none"

        for epoch in state.epochs("estimate", hp.epochs):
            step_lr(optimizer, epoch, lr=hp.lr, step=hp.lr_step, gamma=hp.lr_gamma)
            net.train()
            total = torch.zeros((), device=device)
            for rows in rng.batches(len(view), hp.batch_size, "order/estimate"):
                rows = rows.to(device)  # (B,)
                out = net(view.inputs[rows], with_ca=hp.estimator_ca)
                loss = parsing_loss(out, view.labels_audio[rows], visual[rows], view.labels[rows])
                loss = loss + contrastive(out, form)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(rows)
            on_epoch("estimate", epoch, predictor, loss=float(total) / len(view))

        if (selected := state.selected("estimate")) is not None:
            predictor.load_state_dict(selected)
        prediction = predictor.predict(view.inputs)
        clip = np.stack((prediction.audio_clip, prediction.visual_clip), axis=1)  # (N, 2, C)
        ratios = noise_ratios(
            torch.from_numpy(clip).to(device),
            torch.stack((view.labels_audio, view.labels_visual), dim=1),
            (hp.theta_audio, hp.theta_visual),
            released_batches=hp.batch_size if hp.as_released else None,
        )  # (2, C)
        state.values["noise_ratios"] = ratios
        return ratios

    def build(
        self, widths: dict[str, int], classes: tuple[str, ...], hp: JoMoLDHyperparameters
    ) -> NetPredictor:
        """An untrained network of the right shape."""
        return NetPredictor(HAN(widths, len(classes), **hp.parser()))

    @torch.no_grad()
    def keep_scores(
        self, predictor: Predictor, view: TrainView, hp: JoMoLDHyperparameters, state: FitState
    ) -> dict[str, np.ndarray]:
        """1 where the rule keeps a label: the whole training set as one batch, in eval mode.

        The paper judges labels anew in every batch and publishes no list; this one is our choice.
        """
        prediction = NetPredictor(predictor.net, with_ca=False).predict(view.inputs)
        noise = _noise(
            view.labels.new_tensor(prediction.audio_clip),
            view.labels.new_tensor(prediction.visual_clip),
            view.labels_audio,
            view.labels_visual,
            state.values["noise_ratios"].to(view.labels.device),
            hp,
        )  # (N, C) each
        audio, visual = (1.0 - n.float().cpu().numpy() for n in noise)
        return {"audio": audio, "visual": visual}


def _noise(
    audio_clip: Tensor,
    visual_clip: Tensor,
    audio: Tensor,
    visual: Tensor,
    ratios: Tensor,
    hp: JoMoLDHyperparameters,
) -> tuple[Tensor, Tensor]:
    """The labels to remove from each modality, (B, C) bool, from clip probabilities and labels.

    Ranks are by loss, not by probability: the visual loss is least at 0.95. Where modalities have
    labels of their own, only those that both carry are compared.
    """
    noise_audio, noise_visual = noise_mask(
        bce_cells(audio_clip, audio),
        bce_cells(visual_clip, smooth(visual)),
        (audio > 0) & (visual > 0),
        ratios,
        rule=hp.rule,
    )
    none = torch.zeros_like(noise_audio)
    return (
        noise_audio if hp.modalities != "visual" else none,
        noise_visual if hp.modalities != "audio" else none,
    )
