"""Cells of tables, of groups of runs with gaps."""

from __future__ import annotations

import pytest

from tests.made_results import noisy_result
from trainers.cells import cost, epochs, exact, mean_error, noise_names, one_of, realised, spread


def test_numbers_of_few_values() -> None:
    assert spread([]) == spread([None]) == (None, None, None)
    assert spread([3.0, None]) == (3.0, None, None)
    assert spread([1.0, None, 3.0]) == (2.0, pytest.approx(2**0.5), pytest.approx(1.0))
    assert [mean_error(v) for v in ([], [0.0], [1.0, 3.0])] == ["-", "0.00", "2.00 ± 1.00"]
    assert (exact(None), exact(1 / 3), exact(1 / 3, 2)) == ("", "0.3333", "0.33")


def test_noise_of_some_runs_and_of_none() -> None:
    runs = [noisy_result("ce", n, 40.0, noise_seed=n % 2) for n in range(3)]
    assert noise_names(runs) == ["0.4-0", "0.4-1"]
    assert noise_names(runs, 3) == ["0.4"]
    assert one_of(noise_names(runs)) == "0.4-0 and 1 more"
    assert (realised(runs), realised(runs, scale=1, digits=4)) == ("40.0", "0.4000")
    assert (one_of(noise_names([])), realised([])) == ("-", "-")


def test_an_injection_of_unknown_rate_keeps_its_place() -> None:
    runs = [noisy_result("ce", n, 40.0, noise_seed=n) for n in range(2)]
    for run in runs:
        run["noise"] = [{"kind": "drop", "id": "x"}, *run["noise"]]
    assert realised(runs) == "- + 40.0"


def test_cost_of_some_runs_and_of_none() -> None:
    runs = [noisy_result("ce", n, 40.0, noise_seed=n) for n in range(2)]
    runs[1] |= {"passes": 30, "seconds": 5.0}
    assert cost(runs) == ["30/60", "3.5", "noisy"]
    assert cost([runs[0] | {"needs": ["frames"]}]) == ["60", "2.0", "noisy, frames"]
    assert cost([]) == ["-", "-", "-"]
    assert [epochs(runs, epoch) for epoch in ("last", "selected", "oracle")] == ["", "3 3", "7 7"]
