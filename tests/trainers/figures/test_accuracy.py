"""Figures of accuracy against a hyper-parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from pipeline.errors import UserError
from trainers.figures import Line, accuracy_figure, accuracy_lines


def _results(*settings: tuple[str, str, int, float]) -> list[dict[str, Any]]:
    return [
        {
            "method": "ntl",
            "seed": seed,
            "dataset": "made",
            "noise": [{"kind": kind, "rate": 0.4}],
            "metrics": {"test": {"last": {"clip@1": value}}},
            "identity": {"manifest": "m", "hyperparameters": {"alpha": alpha}},
        }
        for kind, alpha, seed, value in settings
    ]


def test_lines_sort_runs_by_noise_and_setting() -> None:
    results = _results(
        ("symmetric", "0.8", 0, 60.0),
        ("symmetric", "0.2", 0, 40.0),
        ("symmetric", "0.2", 1, 50.0),
        ("symmetric", "linear", 0, 65.0),
        ("asymmetric", "0.2", 0, 30.0),
    )
    asymmetric, symmetric = accuracy_lines(results, "alpha", "clip@1")
    assert asymmetric.points == {0.2: [30.0]}
    assert list(symmetric.points.items()) == [(0.2, [40.0, 50.0]), (0.8, [60.0])]
    assert symmetric.elsewhere == {"linear": [65.0]}
    assert (symmetric.name, symmetric.noise) == ("ntl, made", "symmetric 40 %")
    assert accuracy_lines(results, "warmup", "clip@1") == []


def test_other_settings_and_options_of_noise_are_lines_of_their_own() -> None:
    results = _results(*(("asymmetric", "0.2", n, 40.0 + n) for n in range(5)))
    results[1]["identity"]["hyperparameters"]["contrast"] = "ins"
    results[2]["identity"]["hyperparameters"]["contrast"] = "none"
    results[3]["noise"] = [{"kind": "asymmetric", "rate": 0.4, "options": {"flip": "half"}}]
    results[4]["identity"]["manifest"] = "another"
    lines = accuracy_lines(results, "alpha", "clip@1")
    assert {(line.name, line.noise): line.points[0.2] for line in lines} == {
        ("ntl, made (m)", "asymmetric 40 %"): [40.0],
        ("ntl (contrast=ins), made (m)", "asymmetric 40 %"): [41.0],
        ("ntl (contrast=none), made (m)", "asymmetric 40 %"): [42.0],
        ("ntl, made (m)", "asymmetric 40 % (half)"): [43.0],
        ("ntl, made (another)", "asymmetric 40 %"): [44.0],
    }
    (line,) = accuracy_lines([results[0], dict(results[0])], "alpha", "clip@1")
    assert line.points == {0.2: [40.0]}, "a run that is there twice is one seed"


def test_an_unknown_metric_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"no metric 'nope'; known: clip@1"):
        accuracy_lines(_results(("symmetric", "0.2", 0, 40.0)), "alpha", "nope")


def test_lines_of_one_setting_are_left_out_and_a_long_legend_has_room(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    lines = [Line(f"method {n}", "x" * 40, {0.2: [40.0 + n], 0.8: [50.0]}, {}) for n in range(9)]
    fixed = Line("ce", "y", {0.2: [40.0]}, {})
    accuracy_figure([*lines, fixed], tmp_path / "x.png", against="alpha", metric="clip@1")
    (axes,) = drawn[0].axes
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert names == [f"{line.name}, {line.noise}" for line in lines]
    looks = {(bar.lines[0].get_color(), bar.lines[0].get_marker()) for bar in axes.containers}
    assert len(looks) == len(lines), "no two lines look alike"
    assert drawn[0].get_figheight() > 4.5


def test_the_accuracy_figure_shows_means_and_standard_errors(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    line = Line("ntl", "symmetric 40 %", {0.2: [40.0, 50.0], 0.8: [60.0]}, {"linear": [65.0, 67.0]})
    accuracy_figure([line], tmp_path / "alpha.png", against="alpha", metric="clip@1")
    (axes,) = drawn[0].axes
    (bars,) = axes.containers
    assert bars.lines[0].get_xydata().tolist() == [[0.2, 45.0], [0.8, 60.0]]
    low, high = bars.lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((40.0, 50.0))
    dashed = [x for x in axes.lines if x.get_linestyle() == "--" and len(x.get_ydata())]
    assert [x.get_ydata()[0] for x in dashed] == [66.0]
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert set(names) == {"symmetric 40 %", "alpha: linear"}
    assert axes.get_xlabel() == "alpha"
    assert "clip@1 (%)" in axes.get_ylabel()


def test_one_point_is_no_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least two"):
        accuracy_figure(
            [Line("ntl", "none", {0.2: [40.0]}, {})],
            tmp_path / "x.png",
            against="alpha",
            metric="clip@1",
        )
