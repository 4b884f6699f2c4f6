"""Accuracy against a hyper-parameter."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError, unknown_name
from pipeline.files import canonical_json
from trainers.figures.drawing import COLOURS, MARKERS, check_suffix, new_axes, save
from trainers.results import by_data, cell_identity, group_seeds, noise_title, variant_names

__all__ = ["Line", "accuracy_figure", "accuracy_lines"]

HALF = 48
"""Letters of a legend's entry that fit beside another one."""


@dataclass(frozen=True)
class Line:
    """A line of `accuracy_figure`.

    Attributes:
        name: Method, the settings by which its lines differ, and data set.
        noise: Their noise, in words.
        points: Values by seed at each place on the horizontal axis.
        elsewhere: Values of settings that have no place on it, such as a schedule, by their name.
    """

    name: str
    noise: str
    points: Mapping[float, Sequence[float]]
    elsewhere: Mapping[str, Sequence[float]]


def accuracy_lines(
    results: Iterable[Mapping[str, Any]], against: str, metric: str, *, epoch: str = "last"
) -> list[Line]:
    """Sorts finished runs into lines, on each of which one hyper-parameter and seeds vary.

    Args:
        results: What `trainers.finished.read_results` gives.
        against: The hyper-parameter on the horizontal axis; runs without it are left out.
        metric: Key such as ``"clip@1"``.
        epoch: ``"last"``, ``"selected"`` or ``"oracle"``.

    Raises:
        UserError: If no run knows the metric.
    """
    results = list(results)
    known = {key for r in results for key in r["metrics"]["test"].get(epoch, {})}
    if known and metric not in known:
        raise unknown_name("metric", metric, known)
    placed = [
        r
        for r in results
        if against in r["identity"].get("hyperparameters", {})
        and r["metrics"]["test"][epoch].get(metric) is not None
    ]
    lines: dict[str, list[list[Mapping[str, Any]]]] = {}
    for group in group_seeds(placed):
        lines.setdefault(_line_key(group[0], against), []).append(group)
    names = variant_names([groups[0] for groups in lines.values()], without={against})
    data = by_data(placed)
    datasets = [dataset for _, dataset, _ in data]
    made = []
    for name, groups in zip(names, lines.values(), strict=True):
        first = groups[0][0]
        points: dict[float, list[float]] = {}
        elsewhere: dict[str, list[float]] = {}
        for group in groups:
            setting = group[0]["identity"]["hyperparameters"][against]
            values = [r["metrics"]["test"][epoch][metric] for r in group]
            try:
                points[float(setting)] = values
            except (TypeError, ValueError):
                elsewhere[str(setting)] = values
        dataset, noise = first["dataset"], noise_title(first["noise"])
        if datasets.count(dataset) > 1:
            dataset += f" ({next(key[2] for key, mine in data.items() if first in mine)})"
        made.append(Line(f"{name}, {dataset}", noise, dict(sorted(points.items())), elsewhere))
    return sorted(made, key=lambda line: (line.name, line.noise))


def _line_key(result: Mapping[str, Any], against: str) -> str:
    """What the runs of a line have in common: all but the axis and seeds."""
    identity = cell_identity(result)
    settings = {k: v for k, v in identity["hyperparameters"].items() if k != against}
    return canonical_json(
        [{**identity, "hyperparameters": settings}, result["method"], result["dataset"]]
    )


def accuracy_figure(lines: Sequence[Line], out: Path, *, against: str, metric: str) -> Path:
    """Draws accuracy against a hyper-parameter (figure 6), with standard errors over seeds.

    Settings that have no place on the axis, such as a schedule, are dashed lines. Lines of one
    setting are left out.

    Args:
        lines: See `accuracy_lines`.
        out: The picture; ``.png``, ``.svg`` or ``.pdf``.
        against: What the horizontal axis is.
        metric: What the vertical axis is, in percent.

    Returns:
        ``out``.

    Raises:
        UserError: If no line has two points.
    """
    check_suffix(out)
    if not any(len(line.points) > 1 for line in lines):
        raise UserError(
            f"A figure against {against} needs finished runs with at least two of its values; "
            "train them or name another with --against."
        )
    # What never varied on this axis would only hide what did.
    lines = [line for line in lines if len(line.points) + len(line.elsewhere) > 1]
    names = dict.fromkeys(line.name for line in lines)
    labels = [x.noise if len(names) == 1 else f"{x.name}, {x.noise}" for x in lines]
    columns = 2 if max(map(len, labels)) <= HALF else 1
    figure, axes = new_axes(entries=len(lines) // columns)
    dashed: dict[str, None] = {}
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        shown = [_mean_error(values) for values in line.points.values()]
        axes.errorbar(
            list(line.points), [mean for mean, _ in shown], yerr=[error for _, error in shown],
            color=colour, marker=MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
            markersize=5, capsize=3, linewidth=1.5, label=labels[number],
        )  # fmt: skip
        for setting, values in line.elsewhere.items():
            axes.axhline(_mean_error(values)[0], color=colour, linestyle="--", linewidth=1)
            dashed[setting] = None
    if dashed:
        settings = ", ".join(dashed)
        axes.plot([], [], color="0.4", linestyle="--", linewidth=1, label=f"{against}: {settings}")
    axes.set_xlabel(against)
    axes.set_ylabel(f"{metric} (%), mean ± standard error")
    axes.set_title(", ".join(names) if len(names) == 1 else "", fontsize="medium", loc="left")
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize="small")
    return save(figure, out)


def _mean_error(values: Sequence[float]) -> tuple[float, float]:
    n = len(values)
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(n) if n > 1 else 0.0
