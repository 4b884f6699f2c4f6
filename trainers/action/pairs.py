"""Two networks of one run that teach each other: DivideMix and Co-teaching share them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from trainers.action.interface import Embedding, Inputs, Prediction, TrainView
from trainers.action.networks.heads import AudioVisualNet
from trainers.action.training import NetPredictor
from trainers.random import RandomState
from trainers.training import initialise

__all__ = ["COMBINATIONS", "PairPredictor", "initialise_pair"]

COMBINATIONS = ("logits", "softmax")
"""What is added up: the networks' logits, or their probabilities."""


class PairPredictor:
    """Predicts with two networks together.

    Args:
        first, second: The networks; training goes on in them.
        combine: One of `COMBINATIONS`; of probabilities the mean is taken, and its logarithm
            stands for logits.
    """

    def __init__(self, first: AudioVisualNet, second: AudioVisualNet, *, combine: str) -> None:
        if combine not in COMBINATIONS:
            raise ValueError(f"combine is {' or '.join(COMBINATIONS)}, not {combine!r}")
        self.nets = nn.ModuleList((first, second))
        self.combine = combine

    def singles(self) -> tuple[NetPredictor, NetPredictor]:
        """Predictors of each network alone."""
        first, second = (NetPredictor(net) for net in self.nets)
        return first, second

    def predict(self, inputs: Inputs) -> Prediction:
        """Combined logits of every clip; those of clips that are not valid are zero."""
        first, second = (single.predict(inputs) for single in self.singles())
        if self.combine == "logits":
            return Prediction(first.logits + second.logits, first.valid)
        log_p = [F.log_softmax(torch.from_numpy(p.logits), -1) for p in (first, second)]
        mean = (torch.logaddexp(*log_p) - math.log(2.0)).numpy()  # (N, S, K)
        return Prediction(np.where(first.valid[..., None], mean, np.float32(0.0)), first.valid)

    def embed(self, inputs: Inputs) -> Embedding:
        """Both networks' z side by side, (N, S, 2d): a cosine is the mean of their cosines."""
        first, second = (single.embed(inputs) for single in self.singles())
        half = math.sqrt(0.5)
        return Embedding(
            *(torch.cat(sides, -1) * half for sides in zip(first, second, strict=True))
        )

    def state_dict(self) -> dict[str, Any]:
        """The weights and statistics of both networks."""
        return self.nets.state_dict()

    def load_state_dict(self, state_dict: Any) -> Any:
        """Puts the weights and statistics of both networks back."""
        return self.nets.load_state_dict(state_dict)


def initialise_pair(
    rng: RandomState, make: Callable[[], AudioVisualNet], view: TrainView, *, combine: str
) -> PairPredictor:
    """Two networks that differ in their first weights only, on the view's device.

    The first starts like the one network of other methods with the same seed.
    """
    nets = [initialise(rng, name, make).to(view.inputs.device) for name in ("net", "net/2")]
    for net in nets:
        net.standardise(view.inputs)
    return PairPredictor(*nets, combine=combine)
