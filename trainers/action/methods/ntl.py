"""NTL: contrastive phases that distrust mismatched pairs, and labels corrected by neighbours.

    python -m trainers.action --method ntl

Source: Han et al., "Noise-Tolerant Learning for Audio-Visual Action Recognition", IEEE TMM 2024,
Algorithm 1. No code was released. Two epochs of cross-entropy, then rounds of two passes each:
A, contrastive, weighted by how surely picture and sound belong together; B, cross-entropy against
a mixture of the given label and the one that the neighbours vote for.

The algorithm's line for A names the classifier among what is updated and leaves the prototypes
out; the loss reaches the prototypes and not the classifier, and so does this.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import UserError
from trainers.action.categories import BatchAutoencoder, category_bounds, category_losses
from trainers.action.correction import (
    CorrectionHyperparameters,
    alpha_at,
    ask_neighbours,
    embed_training_set,
    supervised_pass,
)
from trainers.action.correspondence import WEIGHTINGS, correspondence_weights, video_embedding
from trainers.action.interface import METHODS, Embedding, TrainView, Verdict
from trainers.action.prototypes import SINKHORN_EPSILON, Prototypes, assign, instance_loss
from trainers.action.training import NetPredictor, build_net, visits
from trainers.fitting import FitState, OnEpoch, Selection
from trainers.options import option
from trainers.random import RandomState
from trainers.training import adam, initialise

__all__ = ["NTL", "NTLHyperparameters"]


@dataclass(frozen=True, kw_only=True)
class NTLHyperparameters(CorrectionHyperparameters):
    """Settings of NTL; what the paper leaves open is an option, our choice its default."""

    contrast: str = option("full", "losses of phase A", choices=("full", "ins", "cat", "none"))
    neighbors: str = option(
        "topk", "near: so many, or above a cosine", choices=("topk", "threshold")
    )
    eps_v: float = option(0.8, "least cosine of sounds that count for pictures", low=-1.0, high=1.0)
    eps_a: float = option(0.8, "least cosine of pictures that count for sounds", low=-1.0, high=1.0)
    self: str = option("exclude", "is a video near itself", choices=("exclude", "include"))
    omega: str = option("clamp", "weight of a pair from its mean cosine", choices=WEIGHTINGS)
    temperature: float = option(0.1, "of probabilities over prototypes", low=1e-6)
    sinkhorn_epsilon: float = option(SINKHORN_EPSILON, "entropy's weight", low=0.025)
    sinkhorn_iterations: int = option(3, "of balancing assignments", low=1)
    queue: int = option(0, "past vectors assigned together with a batch", low=0)
    cat_softmax: str = option(
        "temperature", "columns at the temperature or at 1", choices=("temperature", "plain")
    )
    ae: str = option("tied", "decoder: transposed or its own", choices=("tied", "untied"))
    optim: str = option("one", "Adams for both phases", choices=("one", "two"))

    def passes(self) -> int:
        """Two passes a round; without contrastive losses one."""
        if self.contrast == "none":
            return self.epochs
        return super().passes()

    def check(self, view: TrainView) -> None:
        """Refuses a batch that the classes outnumber; see `check_batch`."""
        super().check(view)
        check_batch(view, self)


class Contrast(nn.Module):
    """All that phase A trains beside the projections.

    Args:
        classes: K.
        hp: Settings.
    """

    def __init__(self, classes: int, hp: NTLHyperparameters) -> None:
        super().__init__()
        self.prototypes = Prototypes(classes, hp.width)
        self.category_prototypes = Prototypes(classes, hp.width)
        self.autoencoder = BatchAutoencoder(hp.batch_size, kind=hp.ae)


@METHODS.add
class NTL:
    """Noise-tolerant learning."""

    name = "ntl"
    title = "NTL"
    paper = "Noise-Tolerant Learning for Audio-Visual Action Recognition, IEEE TMM 2024"
    needs = frozenset()
    supervision = "noisy"
    selections: ClassVar = {"train": Selection("clip@1")}
    released = False
    hyperparameters = NTLHyperparameters

    def fit(
        self,
        view: TrainView,
        hp: NTLHyperparameters,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> NetPredictor:
        """Algorithm 1: warm-up, then rounds of a contrastive and a hybrid pass."""
        device, classes = view.inputs.device, len(view.classes)
        check_batch(view, hp)
        predictor = initialise(
            rng, "net", partial(self.build, view.inputs.widths, view.classes, hp)
        )
        net = predictor.net.to(device)
        net.standardise(view.inputs)
        contrast = initialise(rng, "contrast", partial(Contrast, classes, hp)).to(device)
        optimizer_b = adam((*net.parameters(), *contrast.parameters()), hp.lr)
        state.track(net=net, contrast=contrast, optimizer=optimizer_b)
        optimizer_a = optimizer_b
        if hp.optim == "two":
            optimizer_a = adam((*net.parameters(), *contrast.parameters()), hp.lr)
            state.track(contrast_optimizer=optimizer_a)

        for epoch in state.epochs("train", hp.epochs):
            if epoch <= hp.warmup:
                loss = supervised_pass(net, optimizer_b, view, hp, rng)
                on_epoch("train", epoch, predictor, loss=loss)
                continue
            log = {}
            if hp.contrast != "none":
                z = embed_training_set(predictor, view.inputs, hp, rng)  # (N, d) each
                log = contrastive_pass(net, contrast, optimizer_a, z, view, hp, rng)
            z = embed_training_set(predictor, view.inputs, hp, rng)
            voted = ask_neighbours(z, view.labels, classes, hp).label  # (N,)
            alpha = alpha_at(hp, epoch - hp.warmup - 1)
            loss = supervised_pass(net, optimizer_b, view, hp, rng, voted=voted, alpha=alpha)
            changed = float((voted != view.labels).float().mean())
            on_epoch("train", epoch, predictor, loss=loss, alpha=alpha, changed=changed, **log)
        return predictor

    def build(
        self, widths: dict[str, int], classes: tuple[str, ...], hp: NTLHyperparameters
    ) -> NetPredictor:
        """An untrained network of the right shape."""
        return NetPredictor(build_net(widths, len(classes), hp))

    def verdict(
        self, predictor: NetPredictor, view: TrainView, hp: NTLHyperparameters, state: FitState
    ) -> Verdict:
        """Votes and weights of pairs from all clips, whatever ``--embed`` says."""
        z = video_embedding(predictor, view.inputs)
        votes = ask_neighbours(z, view.labels, len(view.classes), hp)
        weights = None
        if hp.contrast in ("full", "ins") and hp.omega != "ones":
            weights = torch.stack(pair_weights(z, hp), dim=1).cpu().numpy()  # (N, 2)
        keep = votes.given_share.cpu().numpy().astype(np.float32)
        return Verdict({"vote": keep}, weights, votes.label.cpu().numpy())


def contrastive_pass(
    net: nn.Module,
    contrast: Contrast,
    optimizer: torch.optim.Optimizer,
    z: Embedding,
    view: TrainView,
    hp: NTLHyperparameters,
    rng: RandomState,
) -> dict[str, float]:
    """Phase A: L_c = L_ins + L_cat over projections, prototypes and autoencoder.

    Args:
        z: (N, d) embeddings of the training set before the pass.

    Returns:
        What to log: mean losses, how unbalanced assignments are, weights and bounds.
    """
    net.train()
    w_v, w_a = pair_weights(z, hp)  # (N,) each
    first = torch.randperm(len(view), generator=rng.stream("queue"))[: hp.queue].to(w_v.device)
    past = torch.stack([side[first] for side in z])  # (2, Q, d)
    zero = torch.zeros((), device=w_v.device)
    sums = dict.fromkeys(("loss_ins", "loss_cat", "imbalance"), zero)
    # A stream of its own leaves phase B the batches that ce meets.
    for visit in visits(view, hp.batch_size, rng, stream="order/contrast"):
        h = net.project(visit.visual, visit.audio)
        batch = F.normalize(torch.stack(h), dim=-1)  # (2, B, d)
        instance = category = zero
        if hp.contrast in ("full", "ins"):
            scores = contrast.prototypes(batch)  # (2, B, K)
            log_p = F.log_softmax(scores / hp.temperature, dim=-1)  # Eq. 7
            q, off = assign(
                scores,
                contrast.prototypes.past(past),
                epsilon=hp.sinkhorn_epsilon,
                iterations=hp.sinkhorn_iterations,
            )  # (2, B, K)
            instance = instance_loss(log_p, q, (w_v[visit.rows], w_a[visit.rows]))
            sums["imbalance"] = sums["imbalance"] + off
        if hp.contrast in ("full", "cat"):
            scores = contrast.category_prototypes(batch)  # (2, B, K)
            tau = hp.temperature if hp.cat_softmax == "temperature" else 1.0
            columns = F.softmax(scores / tau, dim=-1).mT  # (2, K, B), Eq. 11
            category = category_losses(columns, contrast.autoencoder(columns)).mean()
        optimizer.zero_grad(set_to_none=True)
        (instance + category).backward()
        optimizer.step()
        past = torch.cat((past, batch.detach()), dim=1)[:, hp.batch_size :]
        sums["loss_ins"] = sums["loss_ins"] + instance.detach()
        sums["loss_cat"] = sums["loss_cat"] + category.detach()
    log = {name: float(value) / hp.steps_per_epoch(len(view)) for name, value in sums.items()}
    for name, w in (("omega_v", w_v), ("omega_a", w_a)):
        log |= {f"{name}_mean": float(w.mean()), f"{name}_std": float(w.std(correction=0))}
    log["loss_cat_start"], log["loss_cat_best"] = category_bounds(len(view.classes))
    return log


def pair_weights(z: Embedding, hp: NTLHyperparameters) -> tuple[Tensor, Tensor]:
    """omega^v and omega^a, (N,), as the options say (Eq. 2-6)."""
    return correspondence_weights(
        *z,
        neighbours=hp.neighbor_count,
        thresholds=(hp.eps_v, hp.eps_a) if hp.neighbors == "threshold" else None,
        self_included=hp.self == "include",
        how=hp.omega,
    )


def check_batch(view: TrainView, hp: NTLHyperparameters) -> None:
    """Holds the batch to the paper's limit: classes cannot outnumber what is assigned to them.

    Raises:
        UserError: Naming batch and queue.
    """
    assigned, classes = hp.batch_size + min(hp.queue, len(view)), len(view.classes)
    if hp.contrast != "none" and assigned < classes:
        raise UserError(
            f"a batch of {hp.batch_size} cannot be assigned to {classes} classes evenly; give "
            f"--batch-size {classes} or more, or --queue {classes - hp.batch_size} or more."
        )
