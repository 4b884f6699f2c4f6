"""AdaMML: a policy learns which modality to use in which part of a video.

    python -m trainers.action --method adamml

Source: Panda et al., "AdaMML: Adaptive Multi-Modal Learning for Efficient Video Recognition", ICCV
2021; constants are those of the released code but for the optimiser, which all methods share, and
for decisions in prediction, which are the likelier ones and not sampled. Shapes: N or B videos, S
segments, M modalities, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F

from pipeline.errors import UserError
from trainers.action.interface import METHODS, TrainView, Verdict
from trainers.action.networks.adamml import MODALITIES, AdaMMLNet, hard_gumbel
from trainers.action.policies import SequencePredictor, policy_loss, sequences
from trainers.action.training import ActionHyperparameters, build_net
from trainers.fitting import FitState, OnEpoch, Selection
from trainers.options import option
from trainers.random import RandomState
from trainers.training import adam, initialise

__all__ = ["AdaMML", "AdaMMLHyperparameters"]


@dataclass(frozen=True, kw_only=True)
class AdaMMLHyperparameters(ActionHyperparameters):
    """Settings of AdaMML: 5 passes, 20 alternations of two passes each, 10 passes."""

    cls_input: str = option("proj", "AdaMML classifies projections", choices=("proj",))
    epochs: int = option(55, "passes in all three stages, two in an alternation", low=0)
    main_epochs: int | None = option(None, "passes before the policy learns; none: 5 of 55", low=0)
    final_epochs: int | None = option(
        None, "passes after the policy has learned; none: 10 of 55", low=0
    )
    segments: int = option(5, "clips of a video that training reads, in time order", low=1)
    dropout: float = option(0.5, "in the classifier of each modality", low=0.0, high=0.999)
    policy_width: int = option(512, "width of the policy's first layers", low=1)
    policy_hidden: int = option(256, "width of the policy's LSTM", low=1)
    policy_lr: float | None = option(
        None, "Adam's learning rate of the policy (released code: 0.01); none: --lr", low=0.0
    )
    temperature: float = option(5.0, "of the sampled decisions' gradient, at first", low=1e-6)
    temperature_decay: float = option(0.965, "its factor after each alternation", low=1e-6)
    cost_visual: float = option(1.0, "price of using the picture", low=0.0)
    cost_audio: float = option(0.05, "price of using the sound", low=0.0)
    gamma: float = option(10.0, "penalty of a wrong prediction; without gradient", low=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.main_epochs or 0) + (self.final_epochs or 0) > self.epochs:
            raise UserError(
                f"--main-epochs and --final-epochs are more than --epochs {self.epochs} together; "
                "give fewer."
            )

    def stages(self) -> tuple[int, int, int]:
        """Passes before, alternations, passes after."""
        main, final = self.main_epochs, self.final_epochs
        if main is None:
            main = min(round(self.epochs * 5 / 55), self.epochs - (final or 0))
        if final is None:
            least = min(self.epochs - main, max(1, round(self.epochs * 10 / 55)))
            # What no alternation can use goes to the last stage.
            final = least + (self.epochs - main - least) % 2
        return main, (self.epochs - main - final) // 2, final

    def passes(self) -> int:
        """Passes over the training videos in the whole run."""
        main, alternations, final = self.stages()
        return main + 2 * alternations + final

    def costs(self) -> tuple[float, float]:
        """c_m, visual and audio."""
        return self.cost_visual, self.cost_audio


@METHODS.add
class AdaMML:
    """Adaptive multi-modal learning."""

    name = "adamml"
    title = "AdaMML"
    paper = "AdaMML: Adaptive Multi-Modal Learning for Efficient Video Recognition, ICCV 2021"
    needs = frozenset()
    supervision = "noisy"
    selections: ClassVar = {phase: Selection("clip@1") for phase in ("main", "alternate", "final")}
    # Its code trains whole backbones; what remains of it here is the algorithm.
    released = False
    hyperparameters = AdaMMLHyperparameters

    def fit(
        self,
        view: TrainView,
        hp: AdaMMLHyperparameters,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> SequencePredictor:
        """Trains the main network, then it and the policy in turn, then the main network."""
        device = view.inputs.device
        predictor = initialise(
            rng, "net", partial(self.build, view.inputs.widths, view.classes, hp)
        )
        net = predictor.net.to(device)
        net.standardise(view.inputs)
        policy_lr = hp.lr if hp.policy_lr is None else hp.policy_lr
        main, policy = adam(net.main_parameters(), hp.lr), adam(net.policy.parameters(), policy_lr)
        state.track(net=net, optimizer=main, policy_optimizer=policy)

        stages = hp.stages()
        for phase, epochs in zip(self.selections, stages, strict=True):
            for epoch in state.epochs(phase, epochs):
                decays = {"main": 0, "alternate": epoch - 1, "final": max(0, stages[1] - 1)}
                temperature = hp.temperature * hp.temperature_decay ** decays[phase]
                log = self.learn(net, main, view, hp, rng, temperature)
                if phase == "alternate":
                    log |= self.learn_policy(net, policy, view, hp, rng, temperature)
                log |= {"temperature": temperature, "fusion_visual": float(net.fusion.detach()[0])}
                on_epoch(phase, epoch, predictor, **log)
        return predictor

    def learn(
        self,
        net: AdaMMLNet,
        optimizer: torch.optim.Optimizer,
        view: TrainView,
        hp: AdaMMLHyperparameters,
        rng: RandomState,
        temperature: float,
    ) -> dict[str, float]:
        """One pass of the main network; the policy is frozen, but it samples."""
        net.train()
        totals = torch.zeros(1 + len(MODALITIES), device=view.inputs.device)
        for visual, audio, valid, labels in sequences(view, hp.batch_size, hp.segments, rng):
            with torch.no_grad():
                choices = net.policy_logits(visual, audio, valid)  # (B, S, M, 2)
                decisions = hard_gumbel(choices, temperature, rng.stream("decisions"))
            modality = net.modality_logits(visual, audio)  # (B, S, M, K)
            logits = net.gate(modality, decisions).mean(1)  # (B, K)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            totals += torch.cat((loss.detach()[None], decisions.mean((0, 1))))
        loss, visual, audio = (totals / hp.steps_per_epoch(len(view))).tolist()
        return {"loss": loss, "usage_visual": visual, "usage_audio": audio}

    def learn_policy(
        self,
        net: AdaMMLNet,
        optimizer: torch.optim.Optimizer,
        view: TrainView,
        hp: AdaMMLHyperparameters,
        rng: RandomState,
        temperature: float,
    ) -> dict[str, float]:
        """One pass of the policy; the main network is frozen, its dropout off."""
        net.eval()
        total = torch.zeros((), device=view.inputs.device)
        batches = sequences(view, hp.batch_size, hp.segments, rng, stream="order/policy")
        for visual, audio, valid, labels in batches:
            with torch.no_grad():
                modality = net.modality_logits(visual, audio)  # (B, S, M, K)
            choices = net.policy_logits(visual, audio, valid)  # (B, S, M, 2)
            decisions = hard_gumbel(choices, temperature, rng.stream("decisions"))
            logits = net.gate(modality, decisions).mean(1)  # (B, K)
            loss = policy_loss(logits, labels, decisions.mean(1), hp.costs(), hp.gamma)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return {"policy_loss": float(total) / hp.steps_per_epoch(len(view))}

    def build(
        self, widths: dict[str, int], classes: tuple[str, ...], hp: AdaMMLHyperparameters
    ) -> SequencePredictor:
        """An untrained network of the right shape."""
        return SequencePredictor(
            AdaMMLNet(
                build_net(widths, len(classes), hp),
                widths,
                len(classes),
                width=hp.width,
                dropout=hp.dropout,
                policy_width=hp.policy_width,
                policy_hidden=hp.policy_hidden,
            )
        )

    def verdict(
        self,
        predictor: SequencePredictor,
        view: TrainView,
        hp: AdaMMLHyperparameters,
        state: FitState,
    ) -> Verdict | None:
        """None: AdaMML judges no label, and its policy no pair."""
        return None
