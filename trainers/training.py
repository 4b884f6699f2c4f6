"""What trained methods of every task share: first weights, optimisers, passes without gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import nn

from trainers.random import RandomState

__all__ = ["PREDICT_ROWS", "adam", "by_batches", "initialise", "step_lr"]

M = TypeVar("M")
T = TypeVar("T")
PREDICT_ROWS = 256
"""Clips or videos a pass without gradients: enough for products at full speed, and what they make
of ten steps each stays in the cache."""


def initialise(rng: RandomState, name: str, make: Callable[[], M]) -> M:
    """Builds something with a network whose first weights depend on the seed and a name only.

    Paired seeds of two methods then start the same network from the same weights, whatever else
    each of them builds, and building it again on resume moves no generator.

    Args:
        rng: The run's randomness.
        name: Two networks of one run that should differ need two names.
        make: Builds it on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        # The CPU generator alone: torch.manual_seed would also reset those of GPUs.
        torch.default_generator.manual_seed(rng.stream(f"init/{name}").initial_seed())
        return make()


def adam(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Adam:
    """Adam with PyTorch's defaults."""
    # Its other forms take a tenth of an update's time on a CPU.
    return torch.optim.Adam(parameters, lr=lr, fused=True)


def step_lr(
    optimizer: torch.optim.Optimizer, epoch: int, *, lr: float, step: float, gamma: float
) -> None:
    """Step decay as a pure function of the epoch (from 1); `step` need not be whole."""
    for group in optimizer.param_groups:
        group["lr"] = lr * gamma ** int((epoch - 1) / step)


def by_batches(
    net: nn.Module, inputs: Any, step: Callable[[Any], T], *, size: int = PREDICT_ROWS
) -> list[T]:
    """Walks rows in eval mode and without gradients, wherever network and features are.

    Args:
        net: Put back into the mode it was in.
        inputs: A task's inputs of N rows.
        step: Called with a part of them, on the network's device.
        size: Rows a call.

    Returns:
        What ``step`` returned, in order; at least one call is made, so that empty inputs work.
    """
    device = next(net.parameters()).device
    training = net.training
    net.eval()
    try:
        with torch.no_grad():
            return [
                step(inputs[start : start + size].to(device))
                for start in range(0, max(1, len(inputs)), size)
            ]
    finally:
        net.train(training)
