"""RLLD's machinery: the policy and its memory of an episode, rewards, the policy gradient.

Source: Gao et al., "Reinforced Label Denoising for Weakly-Supervised Audio-Visual Video Parsing",
arXiv 2412.19563, Eqs. 9-15. What the paper leaves open is marked as our choice.
Shapes: B clips a batch, S steps an episode, C classes; modality 0 is audio, 1 visual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.avvp.filters import apply_filter
from trainers.avvp.interface import DenseVal, Inputs, TrainView
from trainers.avvp.losses import smooth
from trainers.avvp.metric import Truth
from trainers.avvp.networks.denoiser import Denoiser
from trainers.avvp.training import NetPredictor
from trainers.training import adam

if TYPE_CHECKING:
    from trainers.avvp.methods.rlld import RLLDHyperparameters

__all__ = [
    "CURVES",
    "LabelPolicy",
    "TerminalReward",
    "advantages",
    "keep_probabilities",
    "modality_labels",
    "policy_gradient",
    "revise",
    "soft_reward",
]

CURVES = (
    "val_segment_audio",
    "val_event_visual",
    "reward_audio",
    "reward_visual",
    "removed_audio",
    "removed_visual",
)
"""What is recorded of an episode: F in percent, mean rewards, shares of labels removed."""


def revise(
    labels: Tensor, actions: Tensor, *, empty_rule: str = "modality"
) -> tuple[Tensor, Tensor]:
    """Eq. 5 and the rule for labels that were all removed: they come back, at a reward of -1.

    Args:
        labels: (..., 2, C) float, the labels before.
        actions: (..., 2, C) bool, True keeps.
        empty_rule: ``"modality"``: each modality by itself (our choice); ``"video"``: only where
            both modalities are left empty.

    Returns:
        The revised labels (..., 2, C), and (..., 2) bool, where the rule was applied.
    """
    kept = labels * actions  # (..., 2, C)
    emptied = (kept.sum(-1) == 0) & (labels.sum(-1) > 0)  # (..., 2)
    if empty_rule == "video":
        nothing = kept.sum((-2, -1), keepdim=True).squeeze(-1) == 0  # (..., 1)
        emptied = emptied & nothing  # (..., 2)
    return torch.where(emptied[..., None], labels, kept), emptied


def soft_reward(
    labels: Tensor,
    revised: Tensor,
    *,
    weights: tuple[float, float] = (0.6, 0.4),
    eps: float = 0.05,
) -> Tensor:
    """Eq. 9: how close revised labels stay to the smoothed labels, by divergence and by angle.

    Args:
        labels, revised: (..., C) float.
        weights: Of the two parts, R1 and R2.
        eps: Revised labels are clipped to [eps, 1 - eps] in R1; 0.05 makes R1 one where nothing
            was removed (our choice, the paper gives none).

    Returns:
        (...,).
    """
    s = smooth(labels)  # (..., C)
    clipped = revised.clamp(eps, 1 - eps)  # (..., C)
    # The two divergences share the logarithm of the quotient.
    divergence = ((s - clipped) * (s / clipped).log()).sum(-1)  # (...,)
    r1 = torch.exp(-0.5 * divergence)  # (...,)
    r2 = F.cosine_similarity(s, revised, dim=-1)  # (...,)
    return weights[0] * r1 + weights[1] * r2


def advantages(rewards: Tensor, baseline: str, running: Tensor | None) -> Tensor:
    """Rewards less a baseline that does not depend on the action.

    Args:
        rewards: (S, B, 2).
        baseline: ``"none"``, ``"ema"`` (the running mean) or ``"loo"`` (the mean over the batch's
            other clips).
        running: (2,) mean reward by modality of earlier episodes; None in the first.

    Returns:
        (S, B, 2).
    """
    if baseline == "ema":
        return rewards - (rewards.mean((0, 1)) if running is None else running)
    if baseline == "loo":
        others = max(1, rewards.shape[1] - 1)
        return rewards - (rewards.sum(1, keepdim=True) - rewards) / others
    return rewards


def policy_gradient(
    policy: Denoiser,
    inputs: Inputs,
    labels: Tensor,
    rows: Tensor,
    actions: Tensor,
    advantage: Tensor,
    *,
    log_prob: str = "positive",
    chunk: int = 256,
) -> None:
    """Eqs. 12-15: adds the gradient of minus the expected reward to the policy's parameters.

    The objective is the mean over steps and clips of the sum over modalities of advantage times log
    probability. A clip met several times in an episode is computed once, its weights summed.

    Args:
        policy: Its parameters' ``grad`` is added to.
        inputs: Features of all N training clips.
        labels: (N, 2, C) float.
        rows: (S, B) int64.
        actions: (S, B, 2, C) bool.
        advantage: (S, B, 2).
        log_prob: ``"positive"``: over the labels a clip has, since other actions have no effect
            (our choice); ``"all"``: over all C.
        chunk: Clips a pass.
    """
    unique, where = rows.flatten().unique(return_inverse=True)  # (U,), (S*B,)
    actions = actions.flatten(0, 1)  # (S*B, 2, C)
    weight = (advantage.flatten(0, 1) / rows.numel())[..., None].expand(actions.shape)
    if log_prob == "positive":
        weight = weight * labels[rows.flatten()]  # (S*B, 2, C)
    zeros = weight.new_zeros(len(unique), *actions.shape[1:])  # (U, 2, C)
    keep = zeros.index_add(0, where, weight * actions)  # (U, 2, C)
    drop = zeros.index_add(0, where, weight * ~actions)  # (U, 2, C)
    for some, w_keep, w_drop in zip(
        unique.split(chunk), keep.split(chunk), drop.split(chunk), strict=True
    ):
        logits = policy(inputs[some], labels[some])  # (u, 2, C)
        loss = -(w_keep * F.logsigmoid(logits) + w_drop * F.logsigmoid(-logits)).sum()
        loss.backward()


class TerminalReward:
    """F of a parser on the validation split: segment-level audio, event-level visual.

    All clips go through the network in one pass and only these two numbers are computed.

    Args:
        val: The split with its dense labels.
        every: 2 uses every other clip and leaves the rest for selection.
    """

    def __init__(self, val: DenseVal, *, every: int = 1) -> None:
        self.inputs = val.inputs[::every]
        self.truth = Truth(val.audio[::every], val.visual[::every])
        self.left_out = [i for i in range(len(val.audio)) if i % every]

    def __call__(self, predictor: NetPredictor) -> tuple[float, float]:
        """F of audio and of visual, in percent."""
        whole = NetPredictor(predictor.net, batch_size=len(self.inputs))
        audio, visual = apply_filter("modality", whole.predict(self.inputs))
        return self.truth.segment_audio(audio), self.truth.event_visual(visual)


class LabelPolicy:
    """The denoiser with its optimiser and what it remembers of the episode.

    A state is a clip's features and labels, so that its row stands for it in memory.

    Args:
        denoiser: The policy's network.
        view: Training data.
        hp: RLLD's settings.
        generator: Draws actions.
        curves: Gets one row an episode, see `CURVES`; its owner saves it.

    Attributes:
        labels: (N, 2, C) float.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        view: TrainView,
        hp: RLLDHyperparameters,
        generator: torch.Generator,
        curves: list[list[float]],
    ) -> None:
        self.denoiser = denoiser
        self.optimizer = adam(denoiser.parameters(), hp.policy_lr)
        self.inputs = view.inputs
        self.labels = modality_labels(view)  # (N, 2, C)
        self.hp = hp
        self.generator = generator
        self.curves = curves
        self._rows: list[Tensor] = []
        self._actions: list[Tensor] = []
        self._running: Tensor | None = None

    @property
    def episode_is_over(self) -> bool:
        """Whether it is time to validate and to learn."""
        return len(self._rows) == (
            self.hp.episode_length if self.hp.validate_every == "episode" else 1
        )

    def act(self, rows: Tensor) -> Tensor:
        """Samples which labels of clips (B,) are kept, remembers it, and gives them (B, 2, C)."""
        labels = self.labels[rows]  # (B, 2, C)
        with torch.no_grad():
            keep = torch.sigmoid(self.denoiser(self.inputs[rows], labels))  # (B, 2, C), Eq. 4
        draw = torch.rand(keep.shape, generator=self.generator).to(keep.device)  # (B, 2, C)
        actions = draw < keep  # (B, 2, C), Eq. 5
        self._rows.append(rows)
        self._actions.append(actions)
        return revise(labels, actions, empty_rule=self.hp.empty_rule)[0]

    def learn(self, scores: tuple[float, float]) -> None:
        """Updates the denoiser from the episode and forgets it.

        Args:
            scores: F of audio and of visual after the episode, percent.
        """
        rows, actions = torch.stack(self._rows), torch.stack(self._actions)  # (S, B), (S, B, 2, C)
        self._rows, self._actions = [], []
        labels = self.labels[rows]  # (S, B, 2, C)
        revised, emptied = revise(labels, actions, empty_rule=self.hp.empty_rule)
        rewards = self._rewards(labels, revised, emptied, scores)  # (S, B, 2)
        advantage = advantages(rewards, self.hp.baseline, self._running)  # (S, B, 2)
        mean = rewards.mean((0, 1))  # (2,)
        self._running = mean if self._running is None else 0.9 * self._running + 0.1 * mean
        self.optimizer.zero_grad()
        policy_gradient(
            self.denoiser,
            self.inputs,
            self.labels,
            rows,
            actions,
            advantage,
            log_prob=self.hp.log_prob,
        )
        self.optimizer.step()
        removed = (labels - revised).sum((0, 1, 3)) / labels.sum((0, 1, 3)).clamp(min=1)  # (2,)
        self.curves.append([*scores, *mean.tolist(), *removed.tolist()])

    def _rewards(
        self, labels: Tensor, revised: Tensor, emptied: Tensor, scores: tuple[float, float]
    ) -> Tensor:
        hp = self.hp
        unit = 0.1 if hp.terminal == "percent" else 0.001
        weights = (hp.divergence_weight, hp.cosine_weight)
        inner = soft_reward(labels, revised, weights=weights, eps=hp.eps)  # (S, B, 2)
        return (inner + unit * inner.new_tensor(scores)).masked_fill(emptied, -1.0)

    def means(self, first: int) -> dict[str, float]:
        """Mean curves of the episodes from ``first`` on, for a log; empty if there is none."""
        part = self.curves[first:]
        return {
            name: sum(row[i] for row in part) / len(part) for i, name in enumerate(CURVES) if part
        }

    def revised(self) -> Tensor:
        """Labels under the most probable actions, (N, 2, C)."""
        keep = keep_probabilities(self.denoiser, self.inputs, self.labels)  # (N, 2, C)
        return revise(self.labels, keep >= 0.5, empty_rule=self.hp.empty_rule)[0]

    def state_dict(self) -> dict[str, Any]:
        """Network, optimiser, running reward and the unfinished episode."""
        return {
            "denoiser": self.denoiser.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rows": list(self._rows),
            "actions": list(self._actions),
            "running": self._running,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.denoiser.load_state_dict(state_dict["denoiser"])
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self._rows = list(state_dict["rows"])
        self._actions = list(state_dict["actions"])
        self._running = state_dict["running"]


def modality_labels(view: TrainView) -> Tensor:
    """Labels of both modalities, (N, 2, C)."""
    return torch.stack((view.labels_audio, view.labels_visual), dim=1)


@torch.no_grad()
def keep_probabilities(
    denoiser: Denoiser, inputs: Inputs, labels: Tensor, *, chunk: int = 256
) -> Tensor:
    """Probabilities of keeping each label, (N, 2, C), for N clips with labels (N, 2, C)."""
    parts = [
        torch.sigmoid(denoiser(inputs[start : start + chunk], labels[start : start + chunk]))
        for start in range(0, len(labels), chunk)
    ]
    return torch.cat(parts)
