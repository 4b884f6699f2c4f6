"""Random numbers of noise are the same for ever, and counts are exact."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.noise.rates import Nominal, first_by_class, whole
from pipeline.noise.streams import Streams


def test_streams_never_change() -> None:
    streams = Streams("symmetric", {"inclusive": False}, 0, "0123456789abcdef")
    assert streams.words("rows", 3).tolist() == [
        1871927888466404732,
        7539959743915574337,
        3443379746447807890,
    ]
    assert streams.order("rows", 8).tolist() == [0, 2, 7, 1, 4, 3, 5, 6]
    assert streams.below("values", 10, 8).tolist() == [7, 3, 0, 0, 1, 4, 9, 6]


def test_streams_of_other_purposes_and_contexts_are_others() -> None:
    streams = Streams("a", 0)
    drawn = [streams.words(p, 50) for p in ("rows", "values", "donors")]
    drawn += [Streams("a", 1).words("rows", 50), Streams("b", 0).words("rows", 50)]
    assert len(np.unique(np.concatenate(drawn))) == 5 * 50
    assert streams.words("rows", 80)[:50].tolist() == drawn[0].tolist()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 10**6), min_size=1, max_size=40))
def test_bounds_hold(seed: int, bounds: list[int]) -> None:
    drawn = Streams(seed).below("x", np.array(bounds), len(bounds))
    assert (drawn >= 0).all()
    assert (drawn < bounds).all()
    order = Streams(seed).order("x", len(bounds))
    assert sorted(order) == list(range(len(bounds)))


def test_draws_are_uniform() -> None:
    counts = np.bincount(Streams(1).below("x", 7, 70_000))
    assert abs(counts - 10_000).max() < 4 * np.sqrt(10_000 * 6 / 7)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 100), st.integers(0, 10**6))
def test_percentages_are_counted_exactly(percent: int, n: int) -> None:
    assert whole(percent / 100, n) == percent * n // 100


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**6), st.data())
def test_a_fraction_of_n_counts_its_numerator(n: int, data: st.DataObject) -> None:
    part = data.draw(st.integers(0, n))
    assert whole(part / n, n) == part
    rate = data.draw(st.floats(0, 1))
    assert 0 <= whole(rate, n) <= n
    assert abs(Fraction(rate) * n - whole(rate, n)) <= 1


def test_the_product_that_rounds_down() -> None:
    assert 0.29 * 100 < 29
    assert whole(0.29, 100) == 29


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=30), st.data())
def test_first_of_each_class(classes: list[int], data: st.DataObject) -> None:
    order = np.array(data.draw(st.permutations(range(len(classes)))))
    quotas = np.array(data.draw(st.lists(st.integers(0, 9), min_size=4, max_size=4)))
    chosen = first_by_class(order, np.array(classes), quotas)
    expected = {n for c in range(4) for n in [n for n in order if classes[n] == c][: quotas[c]]}
    assert set(chosen.tolist()) == expected
    assert len(chosen) == len(expected)


def test_rates_are_checked() -> None:
    assert Nominal.make(0.1, {"b": 0.5}, ("a", "b")).by_class == {"a": 0.1, "b": 0.5}
    with pytest.raises(UserError, match="leaves out 1 of 2 classes, first 'a'"):
        Nominal.make(None, {"b": 0.5}, ("a", "b"))
    with pytest.raises(UserError, match="did you mean 'Archery'"):
        Nominal.make(0.1, {"Archary": 0.5}, ("Archery",))
    with pytest.raises(UserError, match="pass --rate"):
        Nominal.make(None, None, ("a",))
    for rate in (-0.1, 1.1, float("nan"), True, "0.4"):
        with pytest.raises(UserError, match="share from 0 to 1"):
            Nominal.make(rate, None, ("a",))
        with pytest.raises(UserError, match="share from 0 to 1"):
            Nominal.make(None, {"a": rate}, ("a",))
