"""Random state, fit state, selection rules and options."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from pipeline.errors import UserError
from trainers.fitting import FitState, Selection, copied
from trainers.options import add_options, demo_schedule, resolve
from trainers.random import RandomState


def test_streams_depend_on_seed_and_name_only() -> None:
    one, other = RandomState(3), RandomState(3)
    torch.rand(5, generator=one.stream("partners"))
    first = [b.tolist() for b in one.batches(10, 4)]
    assert first == [b.tolist() for b in other.batches(10, 4)]
    assert first != [b.tolist() for b in one.batches(10, 4)]
    assert [len(b) for b in first] == [4, 4, 2]
    assert sorted(i for batch in first for i in batch) == list(range(10))
    assert first != [b.tolist() for b in RandomState(4).batches(10, 4)]


def test_scope_leaves_the_default_generator_alone_and_state_round_trips() -> None:
    before = torch.get_rng_state()
    rng = RandomState(0)
    with rng.scope():
        torch.rand(3)
        rng.stream("a")
        saved = rng.state_dict()
        expected = torch.rand(4), torch.rand(4, generator=rng.stream("a"))
    assert torch.equal(before, torch.get_rng_state())
    again = RandomState(99)
    with again.scope():
        again.load_state_dict(saved)
        assert torch.equal(torch.rand(4), expected[0])
        assert torch.equal(torch.rand(4, generator=again.stream("a")), expected[1])


def test_epochs_already_done_are_not_walked_again() -> None:
    state = FitState()
    net = nn.Linear(2, 2)
    state.track(net=net)
    walked = []
    for epoch in state.epochs("train", 5):
        walked.append(epoch)
        state.values["epoch"] = epoch
        if epoch == 3:
            saved = state.state_dict()
            break
    saved = {**saved, "tracked": {"net": {k: v.clone() for k, v in net.state_dict().items()}}}
    again = FitState()
    again.load_state_dict(saved)
    fresh = nn.Linear(2, 2)
    assert not torch.equal(fresh.weight, net.weight)
    again.track(net=fresh)
    assert torch.equal(fresh.weight, net.weight)
    assert (walked, list(again.epochs("train", 5))) == ([1, 2, 3], [4, 5])
    assert again.values == {"epoch": 3}
    with pytest.raises(ValueError, match="tracked twice"):
        again.track(net=fresh)


class _Pair:
    """A stateful object that is more than one network: a nested state, and plain values."""

    def __init__(self) -> None:
        self.net, self.seen = nn.Linear(2, 2), [torch.zeros(2)]

    def state_dict(self) -> dict:
        return {"net": self.net.state_dict(), "seen": self.seen, "name": None, "count": 3}

    def load_state_dict(self, state_dict: dict) -> None:
        self.net.load_state_dict(state_dict["net"])


def test_what_is_kept_no_longer_changes_however_deep_it_lies() -> None:
    pair, state = _Pair(), FitState()
    state.keep("pair", pair)
    before = pair.net.weight.detach().clone()
    with torch.no_grad():
        pair.net.weight.add_(1)
        pair.seen[0].add_(1)
    kept = state.values["pair"]
    assert torch.equal(kept["net"]["weight"], before)
    assert not kept["net"]["weight"].requires_grad
    assert torch.equal(kept["seen"][0], torch.zeros(2))
    assert (kept["name"], kept["count"]) == (None, 3)
    assert copied({"never_visible": "Speech"}) == {"never_visible": "Speech"}


def test_ties_go_to_the_later_or_the_earlier_epoch() -> None:
    assert Selection("m").better(1.0, 1.0)
    assert not Selection("m", ties="earlier").better(1.0, 1.0)
    assert Selection("m", ties="earlier").better(1.1, 1.0)
    assert not Selection("m").better(0.9, 1.0)
    with pytest.raises(ValueError, match="ties"):
        Selection("m", ties="none")


@dataclass(frozen=True, kw_only=True)
class _Settings:
    epochs: int = field(default=40, metadata={"unit": "epochs"})
    batch_size: int = 16
    lr: float = 3e-4
    lr_step: int = field(default=10, metadata={"unit": "epochs"})
    warmup: float = field(default=0.9, metadata={"unit": "epochs"})
    cl: str = field(default="none", metadata={"choices": ["none", "ma"]})
    theta: float | None = None
    as_released: bool = False

    def steps_per_epoch(self, n: int) -> int:
        return -(-n // self.batch_size)


def _parse(*argv: str) -> dict:
    parser = argparse.ArgumentParser()
    add_options(parser, _Settings)
    return vars(parser.parse_args(argv))


def test_fields_become_options_and_only_given_ones_count() -> None:
    assert _parse() == {}
    given = _parse("--lr", "0.1", "--as-released", "--theta", "none", "--cl", "ma", "--epochs", "3")
    assert given == {"lr": 0.1, "as_released": True, "theta": None, "cl": "ma", "epochs": 3}
    assert resolve(_Settings(), given).epochs == 3
    with pytest.raises(UserError, match="'lr_step'"):
        resolve(_Settings(), {"lr_stepp": 1})


def test_the_demo_schedule_scales_everything_by_one_factor() -> None:
    demo = demo_schedule(_Settings(), 300)
    assert (demo.batch_size, demo.epochs) == (32, 30)
    assert demo.epochs * demo.steps_per_epoch(300) == 300
    assert demo.lr_step == round(10 * 30 / 40)
    assert demo.warmup == pytest.approx(0.9 * 30 / 40)
    assert demo.lr == 3e-4

    @dataclass(frozen=True)
    class Untrained:
        never_visible: str | None = None

    assert demo_schedule(Untrained(), 300) == Untrained()
    longer = demo_schedule(dataclasses.replace(_Settings(), epochs=10), 300)
    assert longer.epochs == 30
    assert longer.lr_step == 30
