"""What trained methods of all tasks share: initialisation, decay, passes without gradients."""

from __future__ import annotations

import pytest
import torch

from trainers.random import RandomState
from trainers.training import by_batches, initialise, step_lr


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


def test_a_pass_over_batches_leaves_no_trace_and_meets_every_row_once() -> None:
    net = torch.nn.Linear(2, 2).train()
    modes = []

    def step(part: torch.Tensor) -> torch.Tensor:
        modes.append((net.training, torch.is_grad_enabled()))
        return net(part)

    x = torch.randn(7, 2)
    parts = by_batches(net, x, step, size=3)
    assert [len(part) for part in parts] == [3, 3, 1]
    torch.testing.assert_close(torch.cat(parts), net(x))
    assert set(modes) == {(False, False)}
    assert net.training
    assert [len(part) for part in by_batches(net, x[:0], step)] == [0]

    def broken(part: torch.Tensor) -> None:
        raise RuntimeError("made to fail")

    with pytest.raises(RuntimeError):
        by_batches(net, x, broken)
    assert net.training, "put back whatever happens"
