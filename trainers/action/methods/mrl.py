"""MRL: complementary class learning and a contrastive loss between the modalities.

    python -m trainers.action --method mrl

Source: Hu et al., "Learning Cross-Modal Retrieval with Noisy Labels", CVPR 2021; constants are
those of the released code. It retrieves; that classes are predicted by the sum of both modalities'
probabilities is our choice. Shapes: B videos, d the width of the common space, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from trainers.action.interface import METHODS, TrainView, Verdict
from trainers.action.networks.mrl import MRLNet
from trainers.action.training import ActionHyperparameters, NetPredictor, visits
from trainers.fitting import FitState, OnEpoch, Selection
from trainers.options import option
from trainers.random import RandomState
from trainers.training import initialise

__all__ = ["CEILING", "MRL", "MRLHyperparameters", "multimodal_contrast", "robust_clustering"]

CEILING = 1 - 1e-6
"""Probabilities are held below it: ln(1 - p) is unbounded."""


@dataclass(frozen=True, kw_only=True)
class MRLHyperparameters(ActionHyperparameters):
    """Settings of MRL; learning rate and epochs are those that all methods share."""

    proj: str = option("mlp", "MRL has networks of its own", choices=("mlp",))
    cls_input: str = option("norm", "MRL compares unit vectors", choices=("norm",))
    mrl_hidden: int = option(512, "width of the hidden layers (released code: 4096)", low=1)
    beta: float = option(0.5, "weight of RC; MC has the rest", low=0.0, high=1.0)
    tau: float = option(1.0, "temperature of both losses", low=1e-6)
    beta1: float = option(0.5, "Adam's first decay", low=0.0, high=0.999999)
    beta2: float = option(0.999, "Adam's second decay", low=0.0, high=0.999999)


def robust_clustering(log_p: Tensor, labels: Tensor) -> Tensor:
    """RC of one modality: mean_i ln(1 - p_i(y_i)), to be minimised.

    Its gradient with respect to the label's logit is -p: samples that already agree pull most.

    Args:
        log_p: (B, K), ln p.
        labels: (B,).

    Returns:
        A scalar, at most 0.
    """
    given = log_p.gather(-1, labels[:, None]).squeeze(-1)  # (B,)
    return torch.log1p(-given.exp().clamp(max=CEILING)).mean()


def multimodal_contrast(u_v: Tensor, u_a: Tensor, tau: float) -> Tensor:
    """MC: every one of 2B vectors should find its partner among the 2B - 1 others.

    Args:
        u_v, u_a: (B, d) of norm 1.
        tau: Temperature.

    Returns:
        Twice the mean of -ln(exp(s(r, partner) / tau) / sum_{t != r} exp(s(r, t) / tau)).
    """
    n = len(u_v)
    u = torch.cat((u_v, u_a))  # (2B, d)
    similarity = u @ u.T / tau  # (2B, 2B)
    itself = torch.eye(2 * n, dtype=torch.bool, device=u.device)
    others = similarity.masked_fill(itself, -math.inf).logsumexp(1)  # (2B,)
    partner = similarity.diagonal(n)  # (B,), the same for both of a pair
    return 2 * (others - partner.repeat(2)).mean()


@METHODS.add
class MRL:
    """Multimodal robust learning."""

    name = "mrl"
    title = "MRL"
    paper = "Learning Cross-Modal Retrieval with Noisy Labels, CVPR 2021"
    needs = frozenset()
    supervision = "noisy"
    selections: ClassVar = {"train": Selection("clip@1")}
    # Its code differs in widths and rates, which are options.
    released = False
    hyperparameters = MRLHyperparameters

    def fit(
        self,
        view: TrainView,
        hp: MRLHyperparameters,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> NetPredictor:
        """Trains with L = beta (RC_v + RC_a) + (1 - beta) MC."""
        device = view.inputs.device
        predictor = initialise(
            rng, "net", partial(self.build, view.inputs.widths, view.classes, hp)
        )
        net = predictor.net.to(device)
        net.standardise(view.inputs)
        optimizer = torch.optim.Adam(
            net.parameters(), lr=hp.lr, betas=(hp.beta1, hp.beta2), fused=True
        )
        state.track(net=net, optimizer=optimizer)
        steps = hp.steps_per_epoch(len(view))

        for epoch in state.epochs("train", hp.epochs):
            for group in optimizer.param_groups:
                group["lr"] = cosine_lr(hp.lr, epoch, hp.epochs)
            net.train()
            totals = torch.zeros(2, device=device)
            for visit in visits(view, hp.batch_size, rng):
                out = net(visit.visual, visit.audio)
                rc = sum(
                    robust_clustering(net.log_probabilities(u), visit.labels)
                    for u in (out.z_v, out.z_a)
                )
                mc = multimodal_contrast(out.z_v, out.z_a, hp.tau)
                loss = hp.beta * rc + (1 - hp.beta) * mc
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                # After the step rather than before the next: predictions need unit vectors too.
                net.renormalise()
                totals += torch.stack((rc.detach(), mc.detach()))
            rc, mc = (float(total) / steps for total in totals)
            loss = hp.beta * rc + (1 - hp.beta) * mc
            on_epoch("train", epoch, predictor, loss=loss, rc=rc, mc=mc)
        return predictor

    def build(
        self, widths: dict[str, int], classes: tuple[str, ...], hp: MRLHyperparameters
    ) -> NetPredictor:
        """An untrained network of the right shape."""
        net = MRLNet(widths, len(classes), width=hp.width, hidden=hp.mrl_hidden, tau=hp.tau)
        return NetPredictor(net)

    def verdict(
        self, predictor: NetPredictor, view: TrainView, hp: MRLHyperparameters, state: FitState
    ) -> Verdict | None:
        """None: MRL judges no label and no pair."""
        return None


def cosine_lr(lr: float, epoch: int, epochs: int) -> float:
    """The learning rate of an epoch (from 1): half a cosine, 0 after the last one."""
    return lr * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs))
