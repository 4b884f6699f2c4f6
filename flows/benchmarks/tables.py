"""The tables of a sweep: our numbers, and those of a paper in columns of their own."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.benchmarks.conditions import Condition, Variant
from flows.benchmarks.jobs import Outcome
from flows.benchmarks.plans import Sweep
from flows.benchmarks.tasks import Task, find_task
from trainers.results import noise_ids, paired, standard_error
from trainers.tables import Sheet

__all__ = ["Cell", "cells", "comparison_sheet", "data_sheet", "results_sheet"]

EPOCHS = ("last", "selected", "oracle")
EMPTY = "-"
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

    def noise(self, read: Callable[[Mapping[str, Any]], Any]) -> list[list[Any]]:
        """Something of every injection, oldest first: what it is for each seed."""
        steps = zip(*(result["noise"] for result in self.results), strict=True)
        return [[read(entry) for entry in step] for step in steps]


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
    columns += [f"ours {title}" for title in task.metrics.values()]
    main = task.metrics[task.metric]
    columns += [f"ours sd of {main}", f"ours oracle {main}", "oracle epoch"]
    columns += ["realised %", "noise ids", "passes", "seconds", "uses"]
    for number in range(blocks):
        columns += _paper_columns(sweep, task, number)
    rows = []
    for cell in made:
        row = [str(cell.variant), str(cell.condition), _seeds(cell)]
        row += [_mean_error(cell.values(task.epoch, metric)) for metric in task.metrics]
        row += [_statistics(cell.values(task.epoch, task.metric))[1] or EMPTY]
        row += [_mean_error(cell.values("oracle", task.metric)), _oracle_epochs(cell)]
        row += [_realised(cell), _ids(cell, SHORT_ID), *_cost(cell), _uses(cell)]
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
    for number in range(blocks):
        columns += _paper_columns(sweep, task, number)
    rows = []
    for cell in made:
        first = cell.results[0] if cell.results else {}
        row = [sweep.task, str(cell.variant), str(cell.condition)]
        row += [first.get("dataset", ""), first.get("schedule", "")]
        row += [" ".join(str(r["seed"]) for r in cell.results), " ".join(map(str, cell.missing))]
        row += [_noise_seeds(cell), _ids(cell), _realised(cell, scale=1, digits=4)]
        row += [_cost(cell)[0], str(first.get("updates", "")), _cost(cell)[1], _uses(cell)]
        row += [_oracle_epochs(cell)]
        for epoch, metric in measures:
            row += _statistics(cell.values(epoch, metric))
        paper = sweep.published
        row += ["", ""] if paper is None else [f"arXiv {paper.paper['arxiv']}", paper.table]
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
        theirs = other.results
        if not theirs[0].get("updates", 1):
            # A reference without randomness is the same number for every seed.
            theirs = tuple({**theirs[0], "seed": r["seed"]} for r in cell.results)
        found = paired(cell.results, theirs, task.metric, epoch=task.epoch)
        if not found["seeds"]:
            continue
        verdict = "above" if found["above"] else "below" if found["below"] else "not shown"
        numbers = [_signed(found["mean"]), _number(found["sd"])]
        numbers += [_signed(found["t"]), _number(found["critical"])]
        by_seed = " ".join(map(_signed, found["differences"]))
        n = str(len(found["seeds"]))
        rows.append([str(cell.variant), str(cell.condition), n, *numbers, verdict, by_seed])
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
        "epoch, for inspection only; realised: share of training rows that the noise altered."
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


def _paper_columns(sweep: Sweep, task: Task, number: int) -> list[str]:
    name = "paper" if number == 0 else f"paper ({number + 1})"
    metrics = sweep.published.metrics if sweep.published else ()
    return [f"{name} data", *(f"{name} {task.metrics.get(m, m)}" for m in metrics)]


def _paper_cells(sweep: Sweep, task: Task, cell: Cell, blocks: int) -> list[str]:
    printed = sweep.printed(cell.variant, cell.condition)
    metrics = sweep.published.metrics if sweep.published else ()
    row: list[str] = []
    for number in range(blocks):
        dataset, values = printed[number] if number < len(printed) else (EMPTY, {})
        row.append(dataset)
        row += [f"{values[m]:.2f}" if m in values else EMPTY for m in metrics]
    return row


def _seeds(cell: Cell) -> str:
    n, failed = len(cell.results), len(cell.missing)
    return f"{n} of {n + failed}" if failed else str(n)


def _mean_error(values: Sequence[float]) -> str:
    mean, _, error = _statistics(values)
    return EMPTY if not mean else mean if not error else f"{mean} ± {error}"


def _statistics(values: Sequence[float]) -> list[str]:
    """Mean, sample standard deviation and standard error; empty where there are too few."""
    if not values:
        return ["", "", ""]
    mean = f"{statistics.fmean(values):.2f}"
    if len(values) == 1:
        return [mean, "", ""]
    return [mean, f"{statistics.stdev(values):.2f}", f"{standard_error(values):.2f}"]


def _realised(cell: Cell, *, scale: float = 100, digits: int = 1) -> str:
    rates = cell.noise(lambda entry: entry.get("realised", {}).get("overall"))
    known = [statistics.fmean(step) for step in rates if None not in step]
    return " + ".join(f"{scale * rate:.{digits}f}" for rate in known) or EMPTY


def _ids(cell: Cell, length: int | None = None) -> str:
    """The noise ids: steps joined by +, seeds apart by spaces, equal ones once."""
    by_seed = ("+".join(name[:length] for name in noise_ids(r)) for r in cell.results)
    return " ".join(filter(None, dict.fromkeys(by_seed))) or EMPTY


def _noise_seeds(cell: Cell) -> str:
    steps = cell.noise(lambda entry: str(entry.get("seed", "")))
    return " ".join("+".join(dict.fromkeys(seeds)) for seeds in zip(*steps, strict=True))


def _oracle_epochs(cell: Cell) -> str:
    epochs = [result["selection"].get("oracle_epoch") for result in cell.results]
    return " ".join(str(epoch) for epoch in epochs if epoch is not None) or EMPTY


def _cost(cell: Cell) -> list[str]:
    """Passes over the training data, and mean seconds of a run."""
    passes = {str(r["passes"]) for r in cell.results if r.get("passes") is not None}
    seconds = [result["seconds"] for result in cell.results]
    return [
        "/".join(sorted(passes)) or EMPTY,
        f"{statistics.fmean(seconds):.1f}" if seconds else EMPTY,
    ]


def _uses(cell: Cell) -> str:
    if not cell.results:
        return EMPTY
    first = cell.results[0]
    return ", ".join([str(first["supervision"]), *first["needs"]])


def _number(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return EMPTY if value is None else f"{value:+.2f}"


def _blank(text: str) -> str:
    return "" if text == EMPTY else text
