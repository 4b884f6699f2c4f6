"""The tables of a sweep: our numbers, and those of a paper in columns of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.benchmarks.conditions import Condition, Variant
from flows.benchmarks.jobs import Outcome
from flows.benchmarks.plans import Sweep
from trainers.cells import (
    EMPTY,
    cost,
    difference,
    epochs,
    exact,
    mean_error,
    noise_names,
    number,
    realised,
    spread,
    without_features,
)
from trainers.results import over_seeds, paired
from trainers.tables import Sheet
from trainers.tasks import EPOCHS, Task, find_task

__all__ = ["Cell", "cells", "comparison_sheet", "data_sheet", "results_sheet"]

SHORT_ID = 6


@dataclass(frozen=True)
class Cell:
    """A method under a noise: a row of the table.

    Attributes:
        variant: The method.
        condition: The noise.
        results: What the runs found, by seed.
        missing: Seeds that have no finished run.
    """

    variant: Variant
    condition: Condition
    results: tuple[Mapping[str, Any], ...]
    missing: tuple[int, ...] = ()

    def values(self, epoch: str, metric: str) -> list[float]:
        """One a seed, in percent; empty where the metric does not apply."""
        found = (result["metrics"]["test"][epoch].get(metric) for result in self.results)
        return [value for value in found if value is not None]


def cells(
    sweep: Sweep, outcomes: Sequence[Outcome], read: Callable[[str], Mapping[str, Any]]
) -> list[Cell]:
    """Sorts outcomes into rows: noise by noise, in it method by method.

    Args:
        sweep: What was run.
        outcomes: What became of it.
        read: Reads the results of a run's folder.
    """
    paths = {(o.job.variant, o.job.condition, o.job.seed): o.path for o in outcomes}
    made = []
    for condition in sweep.conditions:
        for variant in sweep.variants:
            found = {seed: paths.get((str(variant), str(condition), seed)) for seed in sweep.seeds}
            done = tuple(read(path) for path in found.values() if path is not None)
            missing = tuple(seed for seed, path in found.items() if path is None)
            made.append(Cell(variant, condition, done, missing))
    return made


def results_sheet(sweep: Sweep, made: Sequence[Cell]) -> Sheet:
    """The table for readers: mean and standard error over seeds, beside the paper's numbers."""
    task = find_task(sweep.task)
    blocks = _paper_blocks(sweep, made)
    columns = ["method", "noise", "seeds"]
    columns += [f"ours {title}" for title in task.shown.values()]
    main = task.headings[task.metric]
    columns += [f"ours sd of {main}", f"ours oracle {main}", "oracle epoch"]
    columns += ["realised %", "noise ids", "passes", "seconds", "uses"]
    for place in range(blocks):
        columns += _paper_columns(sweep, task, place)
    rows = []
    for cell in made:
        row = [str(cell.variant), str(cell.condition), _seeds(cell)]
        row += [mean_error(cell.values(task.epoch, metric)) for metric in task.shown]
        row += [number(spread(cell.values(task.epoch, task.metric))[1])]
        row += [mean_error(cell.values("oracle", task.metric))]
        row += [epochs(cell.results, "oracle") or EMPTY, realised(cell.results)]
        row += [" ".join(noise_names(cell.results, SHORT_ID)) or EMPTY, *cost(cell.results)]
        rows.append(row + _paper_cells(sweep, task, cell, blocks))
    left = {"method", "noise", "noise ids", "uses", *(c for c in columns if c.endswith("data"))}
    return Sheet(sweep.title, columns, rows, _notes(sweep, made, blocks > 0), frozenset(left))


def data_sheet(sweep: Sweep, made: Sequence[Cell]) -> Sheet:
    """The table for programs: every epoch and metric with mean, deviation and standard error."""
    task = find_task(sweep.task)
    blocks = _paper_blocks(sweep, made)
    columns = ["task", "method", "noise", "data", "schedule", "seeds", "missing seeds"]
    columns += ["noise seeds", "noise ids", "realised", "passes", "updates", "seconds", "uses"]
    columns += ["oracle epoch"]
    measures = [(epoch, metric) for epoch in EPOCHS for metric in task.metrics]
    for epoch, metric in measures:
        columns += [f"ours {epoch} {metric} {what}" for what in ("mean", "sd", "se")]
    columns += ["paper", "paper table"]
    for place in range(blocks):
        columns += _paper_columns(sweep, task, place)
    rows = []
    for cell in made:
        first = cell.results[0] if cell.results else {}
        row = [sweep.task, str(cell.variant), str(cell.condition)]
        row += [first.get("dataset", ""), first.get("schedule", "")]
        row += [" ".join(str(r["seed"]) for r in cell.results), " ".join(map(str, cell.missing))]
        row += [_noise_seeds(cell), " ".join(noise_names(cell.results))]
        passes, seconds, uses = cost(cell.results)
        row += [realised(cell.results, scale=1, digits=4), passes]
        row += [str(first.get("updates", "")), seconds, uses, epochs(cell.results, "oracle")]
        for epoch, metric in measures:
            row += [exact(value, 2) for value in spread(cell.values(epoch, metric))]
        paper = sweep.published
        row += ["", ""] if paper is None else [paper.label, paper.table]
        rows.append(row + _paper_cells(sweep, task, cell, blocks))
    return Sheet(sweep.title, columns, [[_blank(text) for text in row] for row in rows])


def comparison_sheet(sweep: Sweep, made: Sequence[Cell]) -> Sheet | None:
    """Every method less the reference on the seeds that both have; None without a reference."""
    if sweep.reference is None:
        return None
    task = find_task(sweep.task)
    base = {cell.condition: cell for cell in made if str(cell.variant) == sweep.reference}
    columns = ["method", "noise", "seeds", "mean d", "sd d", "t", "needed", "verdict", "d by seed"]
    rows = []
    for cell in made:
        other = base[cell.condition]
        if cell is other or not cell.results or not other.results:
            continue
        theirs = over_seeds(other.results, cell.results)
        found = paired(cell.results, theirs, task.metric, epoch=task.epoch)
        if not found["seeds"]:
            continue
        n = str(len(found["seeds"]))
        rows.append([str(cell.variant), str(cell.condition), n, *difference(found)])
    title = f"difference to {sweep.reference}, {task.metric}, {task.epoch} test epoch, same noise"
    left = frozenset({"method", "noise", "verdict", "d by seed"})
    return Sheet(title, columns, rows, left=left)


def _notes(sweep: Sweep, made: Sequence[Cell], beside: bool) -> list[str]:
    task = find_task(sweep.task)
    ran = [result for cell in made for result in cell.results]
    data = ", ".join(sorted({str(r["dataset"]) for r in ran})) or "nothing finished"
    schedules = ", ".join(sorted({str(r["schedule"]) for r in ran}))
    notes = [
        f"ours: {data}; frozen features; schedule {schedules or EMPTY}; {task.epoch} test epoch, "
        "mean ± standard error over seeds, percent; sd: standard deviation; oracle: the best test "
        "epoch, for inspection only; realised: share of training rows that the noise altered.",
        *without_features(ran),
    ]
    if beside:
        shown = dict.fromkeys(level.beside for level in sweep.levels)
        names = ", ".join(sweep.published.datasets[name] for name in shown)
        notes.append(
            f"paper: {sweep.published.citation}; {names}; as printed, its epoch is not stated."
        )
        notes += sweep.published.remarks
    return [*notes, *sweep.remarks]


def _paper_blocks(sweep: Sweep, made: Sequence[Cell]) -> int:
    """The most data sets of the paper that stand beside one row."""
    return max((len(sweep.printed(c.variant, c.condition)) for c in made), default=0)


def _paper_columns(sweep: Sweep, task: Task, place: int) -> list[str]:
    name = "paper" if place == 0 else f"paper ({place + 1})"
    metrics = sweep.published.metrics if sweep.published else ()
    return [f"{name} data", *(f"{name} {task.headings.get(m, m)}" for m in metrics)]


def _paper_cells(sweep: Sweep, task: Task, cell: Cell, blocks: int) -> list[str]:
    printed = sweep.printed(cell.variant, cell.condition)
    metrics = sweep.published.metrics if sweep.published else ()
    row: list[str] = []
    for place in range(blocks):
        dataset, values = printed[place] if place < len(printed) else (EMPTY, {})
        row.append(dataset)
        row += [f"{values[m]:.2f}" if m in values else EMPTY for m in metrics]
    return row


def _seeds(cell: Cell) -> str:
    n, failed = len(cell.results), len(cell.missing)
    return f"{n} of {n + failed}" if failed else str(n)


def _noise_seeds(cell: Cell) -> str:
    """The noise seed of every run; those of several injections are equal."""
    seeds = ([str(entry.get("seed", "")) for entry in result["noise"]] for result in cell.results)
    return " ".join(filter(None, ("+".join(dict.fromkeys(some)) for some in seeds)))


def _blank(text: str) -> str:
    return "" if text == EMPTY else text
