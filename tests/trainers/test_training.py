"""What trained methods of all tasks share: options, initialisation, decay."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from pipeline.errors import UserError
from trainers.random import RandomState
from trainers.training import check_options, initialise, option, step_lr


def test_initialisation_depends_on_seed_and_name_alone() -> None:
    def weights(seed: int, name: str, *, before: bool = False) -> torch.Tensor:
        rng = RandomState(seed)
        with rng.scope():
            if before:
                initialise(rng, "another", lambda: torch.nn.Linear(7, 7))
                torch.rand(5)
            return initialise(rng, name, lambda: torch.nn.Linear(4, 4)).weight.detach()

    assert torch.equal(weights(0, "net"), weights(0, "net", before=True))
    assert not torch.equal(weights(0, "net"), weights(1, "net"))
    assert not torch.equal(weights(0, "net"), weights(0, "estimator"))


def test_initialisation_moves_no_generator() -> None:
    rng = RandomState(0)
    before = torch.get_rng_state()
    first = initialise(rng, "net", lambda: torch.nn.Linear(4, 4)).weight
    assert torch.equal(before, torch.get_rng_state())
    again = initialise(rng, "net", lambda: torch.nn.Linear(4, 4)).weight
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(2.0, [1, 1, 0.5, 0.5, 0.25]), (2.5, [1, 1, 1, 0.5, 0.5]), (0.5, [1, 0.25, 0.0625])],
)
def test_step_decay(step: float, expected: list[float]) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=9.0)
    for epoch, factor in enumerate(expected, start=1):
        step_lr(optimizer, epoch, lr=3e-4, step=step, gamma=0.5)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(3e-4 * factor)


@dataclass(frozen=True, kw_only=True)
class _Options:
    cl: str = option("none", "which", choices=("none", "ma"))
    lr_step: float = option(1.0, "when", low=0.5)
    ratio: float | None = option(None, "share", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check_options(self)


def test_options_are_held_to_choices_and_limits() -> None:
    assert _Options(cl="ma", lr_step=0.5, ratio=1.0).ratio == 1.0
    with pytest.raises(UserError, match="--cl 'mma' is not known; choose one of none, ma"):
        _Options(cl="mma")
    with pytest.raises(UserError, match=r"--lr-step 0.1 is out of range; give at least 0.5"):
        _Options(lr_step=0.1)
    with pytest.raises(UserError, match=r"give at least 0.0 and at most 1.0"):
        _Options(ratio=2.0)
