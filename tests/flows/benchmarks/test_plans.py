"""What a sweep runs: texts of methods and noise, and mistakes in them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.benchmarks.conditions import Condition, Variant
from flows.benchmarks.plans import Sweep, pair_noise_seeds
from flows.benchmarks.tasks import read_values
from pipeline.errors import UserError


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("ntl", "ntl"),
        ("ntl:contrast=ins", "ntl:contrast=ins"),
        (" ntl : warm-up=2 , alpha=0.4", "ntl:alpha=0.4,warm_up=2"),
    ],
)
def test_a_variant_is_written_in_one_way(text: str, written: str) -> None:
    assert str(Variant.parse(text)) == written
    assert Variant.parse(written) == Variant.parse(text)


@pytest.mark.parametrize("text", ["", ":a=1", "ntl:ins", "ntl:a=1,a=2", "ntl:=1", "ntl:a="])
def test_what_is_no_variant_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        Variant.parse(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("none", "none"),
        ("symmetric:0.40", "symmetric:0.4"),
        ("symmetric:0.4+correspondence:0.2", "symmetric:0.4+correspondence:0.2"),
        ("none+correspondence:1", "correspondence:1"),
        ("asymmetric:0.2,half-exact,flip=half", "asymmetric:0.2,flip=half,half_exact=true"),
        ("symmetric:rates=r.csv", "symmetric:rates=r.csv"),
    ],
)
def test_a_condition_is_written_in_one_way(text: str, written: str) -> None:
    assert str(Condition.parse(text)) == written
    assert Condition.parse(written) == Condition.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "symmetric", "symmetric:1.5", "symmetric:-0.1", ":0.2", "symmetric:0.2,0.3", "a:0.1+"],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="KIND:RATE"):
        Condition.parse(text)


def _sweep(*methods: str) -> Sweep:
    return Sweep("avvp", "made", tuple(map(Variant.parse, methods)), (Condition(),))


def test_mistakes_are_found_before_any_work() -> None:
    _sweep("han", "han:epochs=2").check()
    with pytest.raises(UserError, match="did you mean 'han'"):
        _sweep("hann").check()
    with pytest.raises(UserError, match="did you mean '--epochs'"):
        _sweep("han:epoch=2").check()
    with pytest.raises(UserError, match="names han twice"):
        _sweep("han", "han").check()
    with pytest.raises(UserError, match="names a seed twice"):
        replace(_sweep("han"), seeds=(1, 1)).check()
    for seeds in ({"seeds": (-1,)}, {"noise_seeds": (2**63,)}):
        with pytest.raises(UserError, match="use whole numbers from 0"):
            replace(_sweep("han"), **seeds).check()
    with pytest.raises(UserError, match="no method of this table 'jomold'"):
        replace(_sweep("han"), reference="jomold").check()


def test_values_are_converted_as_on_the_command_line() -> None:
    values = read_values("avvp", "jomold", {"epochs": "3", "lr": "0.1", "as_released": "true"})
    assert values == {"epochs": 3, "lr": 0.1, "as_released": True}


def test_noise_seeds_follow_the_training_seeds_unless_given() -> None:
    assert pair_noise_seeds((3, 4), None) == (3, 4)
    assert pair_noise_seeds((0, 1, 2), [7, 8]) == (7, 8, 7)


def test_noise_seeds_that_no_training_seed_takes_are_refused() -> None:
    assert pair_noise_seeds((0, 1), [5]) == (5, 5)
    assert pair_noise_seeds((0, 1), [5, 6]) == (5, 6)
    with pytest.raises(UserError, match=r"3 seeds for 2 training seeds \(0 1\); leave 7 out"):
        pair_noise_seeds((0, 1), [5, 6, 7])
