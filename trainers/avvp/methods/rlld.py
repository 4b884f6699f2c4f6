"""RLLD: a policy removes labels and is rewarded with the parser's score on dense validation labels.

    python -m trainers.avvp --method rlld

Source: Gao et al., "Reinforced Label Denoising for Weakly-Supervised Audio-Visual Video Parsing",
arXiv 2412.19563. No code was released; what the paper leaves open is our choice and an option.
Shapes: N or B clips, S steps an episode, C classes; modality 0 is audio, 1 visual.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import UserError
from trainers.avvp.interface import METHODS, Inputs, Predictor, TrainView
from trainers.avvp.losses import CONTRASTIVE, contrastive, parsing_loss
from trainers.avvp.networks.denoiser import Denoiser
from trainers.avvp.networks.han import HAN
from trainers.avvp.overlap import OverlapQueue
from trainers.avvp.reinforcement import (
    LabelPolicy,
    TerminalReward,
    keep_probabilities,
    modality_labels,
)
from trainers.avvp.training import NetPredictor, NetworkHyperparameters
from trainers.fitting import FitState, OnEpoch, Selection
from trainers.options import option
from trainers.random import RandomState
from trainers.training import adam, initialise, step_lr

__all__ = ["RLLD", "RLLDHyperparameters"]


@dataclass(frozen=True, kw_only=True)
class RLLDHyperparameters(NetworkHyperparameters):
    """Settings of RLLD; defaults are the paper's, or our choice where it is silent."""

    lr: float = option(5e-4, "Adam's learning rate of the parser", low=0.0)
    policy_lr: float = option(1e-4, "Adam's learning rate of the policy", low=0.0)
    batch_size: int = option(128, "clips an update", low=1)
    overlap: float = option(0.25, "share of a batch that reappears in the next", low=0.0, high=0.9)
    episode_length: int = option(32, "parser updates an episode", low=1)
    epochs: int = option(25, "passes over the clips; episodes under --protocol fresh", low=0)
    lr_step: float = option(6.0, "epochs between decays", unit="epochs", low=1e-9)
    lr_gamma: float = option(0.25, "factor of a decay", low=0.0)
    protocol: str = option(
        "joint", "keep one parser, or a fresh one every episode", choices=("joint", "fresh")
    )
    subset: str = option(
        "all", "a random third, with fresh parsers a new one each time", choices=("all", "third")
    )
    validate_every: str = option(
        "episode", "when parser is validated, policy updated", choices=("episode", "step")
    )
    baseline: str = option("none", "subtracted from rewards", choices=("none", "ema", "loo"))
    empty_rule: str = option(
        "modality", "what must not be left without labels", choices=("modality", "video")
    )
    eps: float = option(0.05, "clipping of revised labels in R1", low=1e-12, high=0.5)
    divergence_weight: float = option(0.6, "weight of R1 in the soft reward; 0: without", low=0.0)
    cosine_weight: float = option(0.4, "weight of R2 in the soft reward; 0: without", low=0.0)
    terminal: str = option("percent", "unit of F in 0.1 F", choices=("percent", "fraction"))
    log_prob: str = option("positive", "classes rewarded", choices=("positive", "all"))
    pooling: str = option("mean", "of the policy over time", choices=("mean", "attention"))
    keep_bias: float = option(math.log(9), "initial logit of keeping a label")
    state_labels: bool = option(True, "whether the policy sees the labels")
    retrain: bool = option(False, "train a new parser on the final policy's labels")
    reward_split: bool = option(False, "reward on every other validation clip, select on the rest")
    cl: str = option("none", "contrastive loss of the parser, weight 1", choices=CONTRASTIVE)
    cls_dropout: float = option(0.5, "dropout on the parser's visual stream", low=0.0, high=1.0)

    def steps_per_epoch(self, n: int) -> int:
        """Parser updates in one epoch over ``n`` training clips."""
        if self.protocol == "fresh":
            return self.episode_length
        new = self.batch_size - round(self.batch_size * self.overlap)
        return math.ceil((n // 3 if self.subset == "third" else n) / new)

    def updates(self, n: int) -> int:
        """Updates of all parsers; the policy learns, beside them, once an episode."""
        again = self.epochs * math.ceil(n / self.batch_size) if self.retrain else 0
        return super().updates(n) + again

    def denoiser(self) -> dict[str, Any]:
        """Arguments of `trainers.avvp.networks.denoiser.Denoiser`."""
        policy = {"keep_bias": self.keep_bias, "state_labels": self.state_labels}
        return self.shape() | {"pooling": self.pooling} | policy


@METHODS.add
class RLLD:
    """Reinforced label denoising."""

    name = "rlld"
    title = "RLLD"
    paper = "Reinforced Label Denoising for Weakly-Supervised AVVP, arXiv 2412.19563"
    roles = frozenset({"audio", "visual", "motion"})
    needs = frozenset({"dense_val"})
    supervision = "weak + dense val"
    filter = "modality"
    # With `retrain`, the joint stage is "denoise" and the new parser's "train".
    selections: ClassVar = {"denoise": Selection("event/audio"), "train": Selection("event/audio")}
    released = False
    published: ClassVar = {
        "segment": (61.6, 64.6, 58.2, 61.5, 60.7),
        "event": (54.9, 60.1, 50.6, 55.2, 53.4),
    }
    hyperparameters = RLLDHyperparameters

    def fit(
        self,
        view: TrainView,
        hp: RLLDHyperparameters,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> Predictor:
        """Algorithm 1: the parser trains on revised labels, the policy learns once an episode.

        An epoch may end within an episode; what has passed of the episode is part of the state.
        ``state.values`` holds ``curves`` (a row an episode, see `CURVES`), ``removed`` (labels
        removed by the most probable actions, by modality and class) and, with ``reward_split``,
        ``selection_rows``: validation clips that no reward has seen.

        Raises:
            UserError: If there are no dense validation labels.
        """
        if view.dense_val is None:
            raise UserError(
                "RLLD is rewarded on dense validation labels and was given none; use a manifest "
                "that has them, or a weakly supervised method."
            )
        build = partial(self.build, view.inputs.widths, view.classes, hp)
        predictor = initialise(rng, "net", build)
        net = predictor.net.to(view.inputs.device)
        optimizer = adam(net.parameters(), hp.lr)
        untouched = copy.deepcopy(optimizer.state_dict())
        make = partial(Denoiser, view.inputs.widths, len(view.classes), **hp.denoiser())
        denoiser = initialise(rng, "policy", make).to(view.inputs.device)
        curves = state.values.setdefault("curves", [])
        policy = LabelPolicy(denoiser, view, hp, rng.stream("actions"), curves)
        queue = OverlapQueue(
            hp.batch_size, hp.overlap, length=hp.episode_length, generator=rng.stream("episodes")
        )
        state.track(net=net, optimizer=optimizer, policy=policy, queue=queue)
        reward = TerminalReward(view.dense_val, every=2 if hp.reward_split else 1)
        if hp.reward_split:
            state.values["selection_rows"] = reward.left_out
        phase, steps = "denoise" if hp.retrain else "train", hp.steps_per_epoch(len(view))

        for epoch in state.epochs(phase, hp.epochs):
            fresh = hp.protocol == "fresh"
            if fresh:
                net.load_state_dict(initialise(rng, f"net/{epoch}", build).state_dict())
                optimizer.load_state_dict(untouched)
            if fresh or epoch == 1:
                queue.restart(_pool(len(view), hp, rng.stream("pool")))
            step_lr(optimizer, 1 if fresh else epoch, lr=hp.lr, step=hp.lr_step, gamma=hp.lr_gamma)
            total, learnt = torch.zeros((), device=view.inputs.device), len(curves)
            for _ in range(steps):
                rows = queue.next().to(view.inputs.device)  # (B,)
                revised = policy.act(rows)  # (B, 2, C), Eqs. 1-5
                total += _parser_step(net, optimizer, view.inputs[rows], revised, hp.cl)
                if policy.episode_is_over:
                    policy.learn(reward(predictor))  # Eqs. 9-15
            on_epoch(phase, epoch, predictor, loss=float(total) / steps, **policy.means(learnt))

        state.keep("policy", denoiser)
        revised = policy.revised()  # (N, 2, C)
        state.values["removed"] = (policy.labels - revised).sum(0).tolist()  # (2, C)
        if not hp.retrain:
            return predictor
        return self._retrain(view, hp, revised, rng=rng, state=state, on_epoch=on_epoch)

    def _retrain(
        self,
        view: TrainView,
        hp: RLLDHyperparameters,
        revised: Tensor,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> Predictor:
        """A new parser on the final policy's labels (N, 2, C): does training jointly matter?"""
        build = partial(self.build, view.inputs.widths, view.classes, hp)
        predictor = initialise(rng, "net", build)
        net = predictor.net.to(view.inputs.device)
        optimizer = adam(net.parameters(), hp.lr)
        state.track(new_net=net, new_optimizer=optimizer)
        for epoch in state.epochs("train", hp.epochs):
            step_lr(optimizer, epoch, lr=hp.lr, step=hp.lr_step, gamma=hp.lr_gamma)
            total = torch.zeros((), device=view.inputs.device)
            for rows in rng.batches(len(view), hp.batch_size):
                rows = rows.to(view.inputs.device)  # (B,)
                loss = _parser_step(net, optimizer, view.inputs[rows], revised[rows], hp.cl)
                total += loss * len(rows)
            on_epoch("train", epoch, predictor, loss=float(total) / len(view))
        return predictor

    def build(
        self, widths: dict[str, int], classes: tuple[str, ...], hp: RLLDHyperparameters
    ) -> NetPredictor:
        """An untrained parser of the right shape."""
        return NetPredictor(HAN(widths, len(classes), **hp.parser()))

    def keep_scores(
        self, predictor: Predictor, view: TrainView, hp: RLLDHyperparameters, state: FitState
    ) -> dict[str, np.ndarray]:
        """The final policy's probability of keeping each label."""
        denoiser = Denoiser(view.inputs.widths, len(view.classes), **hp.denoiser())
        denoiser.load_state_dict(state.values["policy"])
        denoiser.to(view.inputs.device)
        keep = keep_probabilities(denoiser, view.inputs, modality_labels(view))  # (N, 2, C)
        audio, visual = keep.cpu().unbind(1)  # (N, C) each
        return {"audio": audio.numpy(), "visual": visual.numpy()}


def _parser_step(
    net: HAN, optimizer: torch.optim.Optimizer, inputs: Inputs, revised: Tensor, cl: str
) -> Tensor:
    """Eqs. 6-8 with the negative terms that the paper leaves out; labels (B, 2, C), unsmoothed."""
    net.train()
    audio, visual = revised.unbind(1)  # (B, C) each
    out = net(inputs)
    loss = parsing_loss(out, audio, visual, torch.maximum(audio, visual), weights=(2.0, 1.0, 1.0))
    loss = loss + contrastive(out, cl)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def _pool(n: int, hp: RLLDHyperparameters, generator: torch.Generator) -> Tensor:
    """Rows to train on: all, or a random third."""
    if hp.subset == "all":
        return torch.arange(n)
    return torch.randperm(n, generator=generator)[: max(1, n // 3)]
