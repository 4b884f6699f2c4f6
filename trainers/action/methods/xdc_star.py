"""XDC*: each modality learns the clusters of the other, and labels are corrected by neighbours.

    python -m trainers.action --method xdc_star

Source: the baseline of Han et al., "Noise-Tolerant Learning for Audio-Visual Action Recognition",
IEEE TMM 2024, on Alwassel et al., "Self-Supervised Learning by Cross-Modal Audio-Video Clustering",
NeurIPS 2020. The former says no more of it than that label correction was added, and no training
code of either was released. Our definition: NTL's warm-up and rounds, with a pass of cross-modal
cluster prediction in place of the contrastive one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.action.clusters import kmeans
from trainers.action.correction import (
    CorrectionHyperparameters,
    alpha_at,
    ask_neighbours,
    embed_training_set,
    supervised_pass,
)
from trainers.action.correspondence import video_embedding
from trainers.action.interface import METHODS, Embedding, TrainView, Verdict
from trainers.action.training import NetPredictor, build_net, visits
from trainers.fitting import FitState, OnEpoch, Selection
from trainers.options import option
from trainers.random import RandomState
from trainers.training import adam, initialise

__all__ = ["XDCStar", "XDCStarHyperparameters"]


@dataclass(frozen=True, kw_only=True)
class XDCStarHyperparameters(CorrectionHyperparameters):
    """Settings of XDC*; those of label correction are NTL's."""

    clusters: int | None = option(None, "k of k-means; none: the number of classes", low=1)


@METHODS.add
class XDCStar:
    """Cross-modal deep clustering with label correction."""

    name = "xdc_star"
    title = "XDC*"
    paper = (
        "Self-Supervised Learning by Cross-Modal Audio-Video Clustering, NeurIPS 2020, with the "
        "label correction of Noise-Tolerant Learning for Audio-Visual Action Recognition, "
        "IEEE TMM 2024"
    )
    needs = frozenset()
    supervision = "noisy"
    selections: ClassVar = {"train": Selection("clip@1")}
    released = False
    hyperparameters = XDCStarHyperparameters

    def fit(
        self,
        view: TrainView,
        hp: XDCStarHyperparameters,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> NetPredictor:
        """Warm-up, then rounds of cluster prediction and of the hybrid pass."""
        device, classes = view.inputs.device, len(view.classes)
        predictor = initialise(
            rng, "net", partial(self.build, view.inputs.widths, view.classes, hp)
        )
        net = predictor.net.to(device)
        net.standardise(view.inputs)
        optimizer = adam(net.parameters(), hp.lr)
        state.track(net=net, optimizer=optimizer)

        for epoch in state.epochs("train", hp.epochs):
            if epoch <= hp.warmup:
                loss = supervised_pass(net, optimizer, view, hp, rng)
                on_epoch("train", epoch, predictor, loss=loss)
                continue
            z = embed_training_set(predictor, view.inputs, hp, rng)  # (N, d) each
            clusters = cluster_both(z, hp.clusters or classes, rng, state)  # (N,) each
            heads = initialise(
                rng, f"heads/{epoch}", partial(_heads, hp.width, hp.clusters or classes)
            ).to(device)
            loss_clusters = cluster_pass(net, heads, optimizer, clusters, view, hp, rng)
            z = embed_training_set(predictor, view.inputs, hp, rng)
            voted = ask_neighbours(z, view.labels, classes, hp).label  # (N,)
            alpha = alpha_at(hp, epoch - hp.warmup - 1)
            loss = supervised_pass(net, optimizer, view, hp, rng, voted=voted, alpha=alpha)
            log = {"alpha": alpha, "changed": float((voted != view.labels).float().mean())}
            on_epoch("train", epoch, predictor, loss=loss, loss_clusters=loss_clusters, **log)
        return predictor

    def build(
        self, widths: dict[str, int], classes: tuple[str, ...], hp: XDCStarHyperparameters
    ) -> NetPredictor:
        """An untrained network of the right shape."""
        return NetPredictor(build_net(widths, len(classes), hp))

    def verdict(
        self,
        predictor: NetPredictor,
        view: TrainView,
        hp: XDCStarHyperparameters,
        state: FitState,
    ) -> Verdict:
        """Votes from all clips, whatever ``--embed`` says; pairs are not weighed."""
        z = video_embedding(predictor, view.inputs)
        votes = ask_neighbours(z, view.labels, len(view.classes), hp)
        keep = votes.given_share.cpu().numpy().astype(np.float32)
        return Verdict({"vote": keep}, corrected=votes.label.cpu().numpy())


def cluster_both(
    z: Embedding, count: int, rng: RandomState, state: FitState
) -> tuple[Tensor, Tensor]:
    """Clusters of pictures and of sounds, (N,) each, from where the last round's centroids were."""
    found = []
    for name, side in (("visual", z.visual), ("audio", z.audio)):
        cluster, centroids = kmeans(
            side,
            count,
            generator=rng.stream(f"clusters/{name}"),
            start=state.values.get(f"centroids/{name}"),
        )
        state.values[f"centroids/{name}"] = centroids
        found.append(cluster)
    visual, audio = found
    return visual, audio


def cluster_pass(
    net: nn.Module,
    heads: nn.ModuleDict,
    optimizer: torch.optim.Optimizer,
    clusters: tuple[Tensor, Tensor],
    view: TrainView,
    hp: XDCStarHyperparameters,
    rng: RandomState,
) -> float:
    """One pass in which pictures predict sounds' clusters and the reverse; gives the mean loss.

    Numbers of clusters mean nothing between rounds, so the heads start anew with every clustering
    and so does their optimiser.
    """
    net.train()
    heads_optimizer = adam(heads.parameters(), hp.lr)
    visual, audio = clusters
    total = torch.zeros((), device=visual.device)
    # A stream of its own leaves the hybrid pass the batches that ce meets.
    for visit in visits(view, hp.batch_size, rng, stream="order/clusters"):
        h_v, h_a = net.project(visit.visual, visit.audio)  # (B, d)
        loss = F.cross_entropy(heads["visual"](h_v), audio[visit.rows])
        loss = loss + F.cross_entropy(heads["audio"](h_a), visual[visit.rows])
        optimizer.zero_grad(set_to_none=True)
        heads_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        heads_optimizer.step()
        total += loss.detach()
    return float(total) / hp.steps_per_epoch(len(view))


def _heads(width: int, clusters: int) -> nn.ModuleDict:
    """One linear head a modality."""
    return nn.ModuleDict({name: nn.Linear(width, clusters) for name in ("visual", "audio")})
