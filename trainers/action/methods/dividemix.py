"""DivideMix: labels with large losses are thrown away and guessed anew, by two networks in turn.

    python -m trainers.action --method dividemix

Source: Li, Socher and Hoi, "DivideMix: Learning with Noisy Labels as Semi-supervised Learning",
ICLR 2020, Algorithm 1, on the shared audio-visual network; another clip of the same video stands
for another augmentation. The weight of the unlabelled loss is one for all kinds of noise: the
original tunes it for each. Shapes: N videos, B of a batch, D of features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.action.interface import METHODS, TrainView, Verdict
from trainers.action.mixtures import (
    TwoClips,
    beta,
    clean_posterior,
    mix_up,
    negative_entropy,
    semi_supervised_loss,
    sharpen,
    two_clip_batches,
)
from trainers.action.pairs import PairPredictor, initialise_pair
from trainers.action.training import ActionHyperparameters, build_net, per_video_loss, visits
from trainers.fitting import FitState, OnEpoch, Selection
from trainers.options import option
from trainers.random import RandomState
from trainers.training import adam

__all__ = ["DivideMix", "DivideMixHyperparameters"]


@dataclass(frozen=True, kw_only=True)
class DivideMixHyperparameters(ActionHyperparameters):
    """Settings of DivideMix; defaults are those of the paper or of its code."""

    warmup: int = option(5, "epochs of plain cross-entropy first", unit="epochs", low=0)
    ramp: float = option(
        16.0, "epochs over which the unlabelled loss comes in", unit="epochs", low=1e-9
    )
    lambda_u: float = option(25.0, "weight of the unlabelled loss", low=0.0)
    temperature: float = option(0.5, "T of sharpening", low=1e-6)
    alpha: float = option(4.0, "both parameters of MixUp's beta distribution", low=1e-6)
    threshold: float = option(0.5, "posterior above which a label is clean", low=0.0, high=1.0)
    penalty: str = option(
        "auto", "punish confidence in the warm-up; auto: if the noise is asymmetric (privileged)",
        choices=("auto", "on", "off"),
    )  # fmt: skip

    def spared(self) -> frozenset[str]:
        """The noise level, unless the penalty depends on it."""
        return frozenset() if self.penalty == "auto" else frozenset({"noise_level"})


@METHODS.add
class DivideMix:
    """Division by loss, then semi-supervised training, two networks dividing for each other."""

    name = "dividemix"
    title = "DivideMix"
    paper = "DivideMix: Learning with Noisy Labels as Semi-supervised Learning, ICLR 2020 (adapted)"
    needs = frozenset({"noise_level"})
    supervision = "noisy"
    selections: ClassVar = {"train": Selection("clip@1")}
    # Its code trains another network on images; what remains of it here is the algorithm.
    released = False
    hyperparameters = DivideMixHyperparameters

    def fit(
        self,
        view: TrainView,
        hp: DivideMixHyperparameters,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> PairPredictor:
        """Warms both networks up, then divides and trains once an epoch."""
        make = partial(build_net, view.inputs.widths, len(view.classes), hp)
        predictor = initialise_pair(rng, make, view, combine="logits")
        optimizers = [adam(net.parameters(), hp.lr) for net in predictor.nets]
        state.track(pair=predictor.nets, optimizer=optimizers[0], optimizer_2=optimizers[1])
        state.values.setdefault("mixture_seed", rng.stream("mixture").initial_seed() % 2**32)
        steps = hp.steps_per_epoch(len(view))
        state.values.setdefault("updates", 0)
        asymmetric = view.noise is not None and view.noise.kind == "asymmetric"
        penalty = hp.penalty == "on" or (hp.penalty == "auto" and asymmetric)

        for epoch in state.epochs("train", hp.epochs):
            predictor.nets.train()
            if epoch <= hp.warmup:
                losses = [
                    _warm_up(view, hp, net, optimizer, rng, stream, penalty) / steps
                    for net, optimizer, stream in zip(
                        predictor.nets, optimizers, ("order", "order/2"), strict=True
                    )
                ]
                state.values["updates"] = epoch * steps
                on_epoch("train", epoch, predictor, loss=float(sum(losses)) / 2)
                continue
            w = posteriors(predictor, view, state)  # (2, N), both before either network moves
            passes = [
                self.learn(view, hp, predictor, own, w[1 - own], optimizer, rng, epoch)
                for own, optimizer in enumerate(optimizers)
            ]  # the losses of each network's updates
            state.values["updates"] += len(passes[0])
            means = [sum(losses) / len(losses) for losses in passes if losses]
            on_epoch(
                "train",
                epoch,
                predictor,
                # With both passes left out there is no loss to tell.
                loss=sum(means) / max(1, len(means)),
                clean=float((w > hp.threshold).float().mean()),
                skipped=float(len(passes) - len(means)),
            )
        return predictor

    def learn(
        self,
        view: TrainView,
        hp: DivideMixHyperparameters,
        predictor: PairPredictor,
        own: int,
        w: Tensor,
        optimizer: torch.optim.Optimizer,
        rng: RandomState,
        epoch: int,
    ) -> list[float]:
        """One semi-supervised pass of one network, as long as the clean part lasts.

        Args:
            own: Which network learns, 0 or 1.
            w: (N,) posterior of a clean label by the **other** network's losses.
            epoch: From 1, for the ramp of the unlabelled loss.

        Returns:
            The loss of every update; none where a part has fewer than a batch of videos.
        """
        net, other = predictor.nets[own], predictor.nets[1 - own]
        clean, unclean = (
            torch.nonzero(part).squeeze(1) for part in (w > hp.threshold, w <= hp.threshold)
        )
        steps = len(clean) // hp.batch_size
        if steps == 0 or len(unclean) < hp.batch_size:
            return []
        stream = f"divide/{own}"
        labels = F.one_hot(view.labels, len(view.classes)).float()  # (N, K)
        found = []
        pairs = zip(
            two_clip_batches(view, clean, hp.batch_size, steps, rng, f"{stream}/clean"),
            two_clip_batches(view, unclean, hp.batch_size, steps, rng, f"{stream}/unclean"),
            strict=True,
        )
        for step, (x, u) in enumerate(pairs):
            with torch.no_grad():
                p = _guess([net], x)  # (B, K)
                sure = w[x.rows, None]  # (B, 1)
                target_x = sharpen(sure * labels[x.rows] + (1.0 - sure) * p, hp.temperature)
                target_u = sharpen(_guess([net, other], u), hp.temperature)
            targets = torch.cat((target_x, target_x, target_u, target_u))  # (4B, K)
            visual = torch.cat((*x.visual, *u.visual))  # (4B, Dv)
            audio = torch.cat((*x.audio, *u.audio))  # (4B, Da)
            share = beta(hp.alpha, rng.stream(f"{stream}/beta"))
            order = torch.randperm(len(targets), generator=rng.stream(f"{stream}/mix"))
            visual, audio, targets = mix_up(
                (visual, audio, targets), share, order.to(targets.device)
            )
            ramp = min((epoch - 1 - hp.warmup + step / steps) / hp.ramp, 1.0)
            loss = sum(
                semi_supervised_loss(
                    net(visual, audio).logits, targets, 2 * len(x.rows), hp.lambda_u * ramp
                )
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(float(loss.detach()))
        return found

    def build(
        self, widths: dict[str, int], classes: tuple[str, ...], hp: DivideMixHyperparameters
    ) -> PairPredictor:
        """Two untrained networks of the right shape."""
        nets = (build_net(widths, len(classes), hp) for _ in range(2))
        return PairPredictor(*nets, combine="logits")

    def verdict(
        self,
        predictor: PairPredictor,
        view: TrainView,
        hp: DivideMixHyperparameters,
        state: FitState,
    ) -> Verdict | None:
        """The posterior of a clean label, averaged over both networks."""
        return Verdict(keep={"mixture": posteriors(predictor, view, state).mean(0).cpu().numpy()})


def posteriors(predictor: PairPredictor, view: TrainView, state: FitState) -> Tensor:
    """The posterior of a clean label by each network's own losses, (2, N)."""
    seed = state.values["mixture_seed"]
    losses = [per_video_loss(p.predict(view.inputs), view.labels) for p in predictor.singles()]
    return torch.stack([clean_posterior(torch.from_numpy(loss), seed=seed) for loss in losses]).to(
        view.labels.device
    )


def _warm_up(
    view: TrainView,
    hp: DivideMixHyperparameters,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    rng: RandomState,
    stream: str,
    penalty: bool,
) -> Tensor:
    """One pass of cross-entropy, with a penalty on confidence or without; the sum of losses."""
    total = torch.zeros((), device=view.inputs.device)
    for visit in visits(view, hp.batch_size, rng, stream=stream):
        logits = net(visit.visual, visit.audio).logits  # (B, K)
        loss = F.cross_entropy(logits, visit.labels)
        if penalty:
            loss = loss + negative_entropy(logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total


def _guess(nets: list[nn.Module], batch: TwoClips) -> Tensor:
    """Mean probabilities of some networks over both clips, (B, K)."""
    clips = list(zip(batch.visual, batch.audio, strict=True))
    p = [net(visual, audio).logits.softmax(1) for net in nets for visual, audio in clips]
    return torch.stack(p).mean(0)
