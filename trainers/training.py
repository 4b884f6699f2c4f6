"""What trained methods of every task share: options, first weights, optimisers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import Field, field, fields
from typing import Any, TypeVar

import torch
from torch import nn

from pipeline.errors import UserError
from trainers.random import RandomState

__all__ = ["adam", "check_options", "initialise", "option", "step_lr"]

M = TypeVar("M")


def option(default: Any, help: str, **metadata: Any) -> Any:
    """A hyper-parameter's field.

    Args:
        default: The paper's value.
        help: For ``--help``.
        **metadata: ``choices``; ``unit="epochs"`` for what the demo schedule scales; ``low`` and
            ``high``, the inclusive limits that `check_options` holds it to.
    """
    return field(default=default, metadata={"help": help, **metadata})


def check_options(hp: Any) -> None:
    """Holds a dataclass made of `option` fields to their choices and limits.

    Raises:
        UserError: Naming the option and what it takes.
    """
    for f in fields(hp):
        value, flag = getattr(hp, f.name), f"--{f.name.replace('_', '-')}"
        choices = f.metadata.get("choices")
        if choices is not None and value not in choices:
            raise UserError(f"{flag} {value!r} is not known; choose one of {', '.join(choices)}.")
        if value is not None and not _within(value, f):
            raise UserError(f"{flag} {value} is out of range; give {_range(f)}.")


def _within(value: Any, f: Field[Any]) -> bool:
    low, high = f.metadata.get("low"), f.metadata.get("high")
    return (low is None or value >= low) and (high is None or value <= high)


def _range(f: Field[Any]) -> str:
    low, high = f.metadata.get("low"), f.metadata.get("high")
    return f"at least {low}" if high is None else f"at least {low} and at most {high}"


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
