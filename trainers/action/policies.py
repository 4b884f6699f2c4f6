"""Videos as sequences of segments, the loss of a policy that chooses modalities, and prediction.

Source: Panda et al., "AdaMML: Adaptive Multi-Modal Learning for Efficient Video Recognition", ICCV
2021. Shapes: N or B videos, S clips, M modalities, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.action.interface import Embedding, Inputs, Prediction, TrainView
from trainers.action.networks.adamml import AdaMMLNet
from trainers.action.training import NetPredictor, visits
from trainers.random import RandomState
from trainers.training import by_batches

__all__ = ["SequencePredictor", "Sequences", "draw_segments", "policy_loss", "sequences"]


class Sequences(NamedTuple):
    """A batch of clips in time order.

    Attributes:
        visual: (B, S, Dv) float32.
        audio: (B, S, Da) float32.
        valid: (B, S) bool; all are.
        labels: (B,) int64 training labels.
    """

    visual: Tensor
    audio: Tensor
    valid: Tensor
    labels: Tensor


def sequences(
    view: TrainView, size: int, segments: int, rng: RandomState, *, stream: str = "order"
) -> Iterator[Sequences]:
    """One pass over the training videos in the order of `trainers.action.training.visits`.

    Args:
        view: Training data.
        size: B.
        segments: S, clips drawn from each video.
        rng: The run's randomness.
        stream: See there; segments come from ``<stream>/segments``.
    """
    inputs = view.inputs
    for visit in visits(view, size, rng, stream=stream):
        clips = draw_segments(inputs.valid, visit.rows, segments, rng.stream(f"{stream}/segments"))
        rows = visit.rows[:, None]  # (B, 1)
        yield Sequences(
            inputs.visual[rows, clips],
            inputs.audio[rows, clips],
            inputs.valid[rows, clips],
            visit.labels,
        )


def draw_segments(valid: Tensor, rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Cuts each video's valid clips into ``count`` equal parts and draws a clip from each.

    Args:
        valid: (N, S) bool.
        rows: (B,).
        count: Parts; where there are fewer clips, some come repeatedly.
        generator: A CPU generator.

    Returns:
        (B, count) int64 clip indices in time order.
    """
    there = valid[rows].cumsum(1)  # (B, S)
    chance = torch.rand(len(rows), count, generator=generator, dtype=torch.float64)
    share = (torch.arange(count) + chance).to(valid.device) / count  # (B, count) in [0, 1)
    total = there[:, -1:]
    wanted = (share * total).long().clamp(max=total - 1) + 1
    return torch.searchsorted(there, wanted)


def policy_loss(
    logits: Tensor, labels: Tensor, used: Tensor, costs: tuple[float, float], gamma: float
) -> Tensor:
    """CE + sum_m c_m mean_i(correct_i u_m,i^2) + mean_i gamma (1 - correct_i).

    Args:
        logits: (B, K) of videos.
        labels: (B,).
        used: (B, M), u: the share of segments in which a modality is used.
        costs: c_m.
        gamma: Weight of the last term, which has no gradient.

    Returns:
        A scalar.
    """
    correct = (logits.argmax(1) == labels).to(logits)  # (B,)
    price = used.new_tensor(costs)  # (M,)
    usage = (correct[:, None] * used.square()).mean(0) @ price
    return F.cross_entropy(logits, labels) + usage + gamma * (1 - correct).mean()


class SequencePredictor:
    """Predicts a video's clips in one pass in time order, each by the modalities it was given.

    Args:
        net: The network; training goes on in it, a prediction leaves no trace.
    """

    def __init__(self, net: AdaMMLNet) -> None:
        self.net = net
        self._plain = NetPredictor(net)

    def predict(self, inputs: Inputs) -> Prediction:
        """Gated logits of every clip; a modality is used where that is the likelier choice."""

        def step(part: Inputs) -> Prediction:
            out = self.net(part.visual, part.audio, part.valid)
            decisions = out.policy.argmax(-1)  # (N, S, M)
            logits = self.net.gate(out.modality, decisions) * part.valid[..., None]  # (N, S, K)
            return Prediction(logits.float().cpu().numpy(), part.valid.cpu().numpy())

        return Prediction.concatenate(by_batches(self.net, inputs, step))

    def embed(self, inputs: Inputs) -> Embedding:
        """z of every clip: the first layers of the main network at norm 1, (N, S, d)."""
        return self._plain.embed(inputs)

    def state_dict(self) -> dict[str, Any]:
        """The network's weights and statistics."""
        return self.net.state_dict()

    def load_state_dict(self, state_dict: Any) -> Any:
        """Puts the network's weights and statistics back."""
        return self.net.load_state_dict(state_dict)
