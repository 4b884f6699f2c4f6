"""AdaMML's networks: a classifier for each modality, and a policy that says which of them to run.

Source: Panda et al., "AdaMML: Adaptive Multi-Modal Learning for Efficient Video Recognition", ICCV
2021. Shapes: B videos, S segments (clips in time order), M = 2 modalities (visual, audio), K
classes, d the width of the projections.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.action.interface import Inputs
from trainers.action.networks.heads import AudioVisualNet

__all__ = ["MODALITIES", "AdaMMLNet", "Gated", "Policy", "hard_gumbel"]

MODALITIES = ("visual", "audio")


def hard_gumbel(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Samples whether to use a modality, with the gradient of the softened sample.

    Args:
        logits: (..., 2) of leaving it out and of using it.
        temperature: Of the softened sample.
        generator: A CPU generator.

    Returns:
        (...), exactly 0 or 1.
    """
    # Double precision: single draws an exact zero, whose noise is infinite, now and then.
    draws = torch.empty(logits.shape, dtype=torch.float64).exponential_(generator=generator)
    noise = -draws.clamp(min=1e-300).log()
    soft = F.softmax((logits + noise.to(logits)) / temperature, -1)[..., 1]
    # The difference is exactly zero: only its gradient counts.
    return (soft > 0.5).to(soft) + (soft - soft.detach())


class Gated(NamedTuple):
    """What the main network makes of clips.

    Attributes:
        modality: (B, S, M, K) logits of each modality alone.
        policy: (B, S, M, 2) logits of leaving a modality out and of using it.
    """

    modality: Tensor
    policy: Tensor


class Policy(nn.Module):
    """Reads both modalities of a video's clips one after the other.

    Args:
        inner: Width of both features together.
        width: Of the two layers before the LSTM.
        hidden: Of the LSTM.
    """

    def __init__(self, inner: int, *, width: int, hidden: int) -> None:
        super().__init__()
        choices = 2 * len(MODALITIES)
        self.trunk = nn.Sequential(
            nn.Linear(inner, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.cell = nn.LSTMCell(width + choices, hidden)
        self.head = nn.Linear(hidden, choices)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Gives the logits of all choices; clips that are not valid leave no trace.

        Args:
            x: (B, S, D).
            valid: (B, S) bool.

        Returns:
            (B, S, M, 2).
        """
        x = self.trunk(x)  # (B, S, width)
        h = c = x.new_zeros(len(x), self.cell.hidden_size)
        logits = x.new_zeros(len(x), self.head.out_features)
        steps = []
        for s in range(x.shape[1]):
            there = valid[:, s, None]  # (B, 1)
            new_h, new_c = self.cell(torch.cat((x[:, s], logits), -1), (h, c))
            h, c = torch.where(there, new_h, h), torch.where(there, new_c, c)
            logits = torch.where(there, self.head(h), logits)  # (B, 2M)
            steps.append(logits)
        # A split without videos has no clips either.
        found = torch.stack(steps, 1) if steps else logits[:, None][:, :0]
        return found.unflatten(-1, (len(MODALITIES), 2))


class AdaMMLNet(nn.Module):
    """The main network (a classifier for each modality and their fusion) and the policy.

    Args:
        base: Gives the projections, the first layers of the main network; its own classifier is
            taken off.
        widths: ``{"visual": Dv, "audio": Da}``.
        classes: K.
        width: d.
        dropout: Between the layers of each modality's classifier.
        policy_width, policy_hidden: See `Policy`.
    """

    def __init__(
        self,
        base: AudioVisualNet,
        widths: dict[str, int],
        classes: int,
        *,
        width: int,
        dropout: float,
        policy_width: int,
        policy_hidden: int,
    ) -> None:
        super().__init__()
        base.g = nn.Identity()
        self.base = base
        self.head_v, self.head_a = (
            nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, classes))
            for _ in MODALITIES
        )
        m = len(MODALITIES)
        self.free = nn.Parameter(torch.full((m - 1,), 1.0 / m))
        self.policy = Policy(sum(widths.values()), width=policy_width, hidden=policy_hidden)

    def standardise(self, inputs: Inputs) -> None:
        """Sets the statistics of both inputs from the training videos."""
        self.base.standardise(inputs)

    def project(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """h_v and h_a, (..., d)."""
        return self.base.project(visual, audio)

    def main_parameters(self) -> Iterator[nn.Parameter]:
        """Everything but the policy's."""
        return (p for name, p in self.named_parameters() if not name.startswith("policy."))

    @property
    def fusion(self) -> Tensor:
        """alpha, (M,): all but the last are free, their sum is 1."""
        return torch.cat((self.free, 1 - self.free.sum(0, keepdim=True)))

    def modality_logits(self, visual: Tensor, audio: Tensor) -> Tensor:
        """(B, S, M, K) from features (B, S, Dv) and (B, S, Da)."""
        h_v, h_a = self.project(visual, audio)
        return torch.stack((self.head_v(h_v), self.head_a(h_a)), -2)

    def policy_logits(self, visual: Tensor, audio: Tensor, valid: Tensor) -> Tensor:
        """(B, S, M, 2) from features and (B, S) bool."""
        x = torch.cat((self.base.standardise_v(visual), self.base.standardise_a(audio)), -1)
        return self.policy(x, valid)

    def gate(self, modality: Tensor, decisions: Tensor) -> Tensor:
        """Logits of segments, sum_m alpha_m decision_m logits_m: (B, S, M, K) -> (B, S, K)."""
        return ((self.fusion * decisions)[..., None] * modality).sum(-2)

    def forward(self, visual: Tensor, audio: Tensor, valid: Tensor) -> Gated:
        """Maps a video's clips in time order to the logits of modalities and of choices."""
        return Gated(self.modality_logits(visual, audio), self.policy_logits(visual, audio, valid))
