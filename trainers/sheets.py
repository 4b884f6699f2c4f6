"""Tables of finished runs for reading and for programs: results, noise found, paired differences.

Every row states what a number can depend on: the noise that was asked for, what came of it and its
id, passes over the data, seconds, and what the method uses beyond noisy labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from trainers.cells import (
    EMPTY,
    cost,
    difference,
    epochs,
    exact,
    mean_error,
    noise_names,
    number,
    one_of,
    realised,
    spread,
    verdict,
    without_features,
)
from trainers.results import by_data, named_groups, noise_title
from trainers.tables import Sheet
from trainers.tasks import EPOCHS, TASKS, Task, find_task, task_name

__all__ = [
    "DETECTED",
    "data_sheet",
    "detection_sheet",
    "paired_data_sheet",
    "paired_sheet",
    "results_sheet",
]

Result = Mapping[str, Any]

DETECTED = {
    "detect/auroc": "own AUROC",
    "detect/ap": "own AP",
    "detect/label/auroc": "loss AUROC",
    "detect/label/ap": "loss AP",
    "detect/pair/auroc": "pair AUROC",
    "detect/pair/ap": "pair AP",
    "given/overall": "given right",
    "corrected/overall": "corrected right",
    "corrected/flipped": "of the flipped",
}
"""Headings of noise detection, by key of ``metrics.train``."""

DETAILS = frozenset({"noise", "realised %", "noise id", "epoch", "passes", "seconds"})
"""Columns that a narrow table of results leaves out."""

VARIED = tuple(v.column for task in TASKS.values() for v in task.variations)
"""Columns of the table for programs that say what was altered in the data."""

AVERAGED = "Mean ± standard error over runs that differ in training and noise seed only"


def results_sheet(
    results: Iterable[Result],
    *,
    epoch: str | None = None,
    split: str = "test",
    which: str = "metrics",
    title: str | None = None,
    among: Iterable[Result] | None = None,
    narrow: bool = False,
) -> Sheet:
    """A row for each method, setting and noise; mean and standard error over seeds.

    Args:
        results: Of one task and data set, with identity.
        epoch: ``"last"``, ``"selected"`` or ``"oracle"``; None takes the one that ranks.
        split: ``"val"`` or ``"test"``.
        which: Block of the results: ``"metrics"``, or one of its task's filters or variations.
        title: Heading; None writes one.
        among: See `trainers.results.named_groups`.
        narrow: Whether to leave out noise, epochs and cost.
    """
    results = list(results)
    first = results[0]
    task = find_task(task_name(first))
    epoch = epoch or task.epoch
    rows = []
    for name, group in named_groups(results, among=among):
        values = {
            key: [_block(r, split, epoch, which).get(key) for r in group] for key in task.shown
        }
        rows.append(
            [
                name,
                *_noise_cells(group),
                str(len(group)),
                *_metric_cells(values, task.metric),
                epochs(group, epoch) or EMPTY,
                *cost(group),
            ]
        )
    columns = [
        "method",
        *("noise", "realised %", "noise id"),
        "runs",
        *_metric_columns(task.shown, task.metric),
        "epoch",
        *("passes", "seconds", "uses"),
    ]
    sheet = Sheet(
        title or _title(first, f"{split}, {epoch} epoch"),
        columns,
        rows,
        notes=_notes(results, epoch, task.metrics[task.metric]),
        left=frozenset({"method", "noise", "noise id", "uses"}),
    )
    return sheet.without(DETAILS) if narrow else sheet


def detection_sheet(
    results: Iterable[Result], *, among: Iterable[Result] | None = None
) -> Sheet | None:
    """How well wrong labels and foreign sounds were found in training data, after the last epoch.

    Args:
        results: Of one task and data set.
        among: See `trainers.results.named_groups`.

    Returns:
        None where no run knows the truth.
    """
    known = [r for r in results if r["metrics"].get("train")]
    keys = [key for key in DETECTED if any(key in r["metrics"]["train"] for r in known)]
    if not keys:
        return None
    rows = []
    for name, group in named_groups(known, among=among):
        values = {key: [r["metrics"]["train"].get(key) for r in group] for key in keys}
        rows.append([name, *_noise_cells(group), str(len(group)), *_metric_cells(values, None)])
    titles = {key: DETECTED[key] for key in keys}
    return Sheet(
        _title(known[0], "noise found in the training data, last epoch"),
        ["method", "noise", "realised %", "noise id", "runs", *_metric_columns(titles, None)],
        rows,
        notes=(
            f"Percent. {AVERAGED}. own: the method's criterion; loss: cross-entropy of the given "
            "label; pair: 1 - (w_v + w_a)/2 against altered sounds.",
        ),
        left=frozenset({"method", "noise", "noise id"}),
    )


def data_sheet(results: Iterable[Result]) -> Sheet:
    """All numbers in one tidy table for programs.

    A row is a method with its settings under one noise, on one split after one epoch. Validation
    has numbers of the selected epoch; the split ``train`` has those of noise detection.

    Args:
        results: Of any tasks, with identity.
    """
    data = by_data(results)
    tasks = {task: find_task(task) for task, _, _ in data}
    keys = [key for task in tasks.values() for key in task.metrics]
    ran = [r for mine in data.values() for r in mine]
    keys += [key for key in DETECTED if any(key in (r["metrics"].get("train") or {}) for r in ran)]
    columns = [
        *("task", "dataset", "manifest", "schedule", "features", "method", "uses"),
        *("split", "epoch", "filter", *VARIED),
        *("noise", "noise id", "realised %", "runs", "seeds", "epochs", "passes", "seconds"),
        *(f"{key}{what}" for key in keys for what in ("", " se", " sd")),
    ]
    rows = []
    for (task, dataset, root), mine in data.items():
        for name, group in named_groups(mine):
            first = group[0]
            features = " ".join(f"{k}={v}" for k, v in (first.get("features") or {}).items())
            passes, seconds, uses = cost(group)
            head = [task, dataset, root, first.get("schedule"), features, name, uses]
            noise, rates, _ = _noise_cells(group)
            for split, epoch, altered, blocks in _blocks(tasks[task], group):
                row = [*head, split, epoch, first.get("filter")]
                row += [altered.get(column) for column in VARIED]
                row += [noise, " ".join(noise_names(group)), rates, str(len(group))]
                row += [" ".join(str(r["seed"]) for r in group), epochs(group, epoch)]
                row += [passes, seconds]
                for key in keys:
                    mean, deviation, error = spread([block.get(key) for block in blocks])
                    row += [exact(mean), exact(error), exact(deviation)]
                rows.append(["" if cell in (None, EMPTY) else str(cell) for cell in row])
    return Sheet("results", columns, rows)


def paired_sheet(
    rows: Sequence[Mapping[str, Any]], reference: str, metric: str, epoch: str, filter_name: str
) -> Sheet:
    """What `trainers.report.compare` found.

    Args:
        rows: Its rows.
        reference: The method that the others are compared with.
        metric: Key compared.
        epoch: Of test.
        filter_name: ``"own"`` or ``"modality"``, of parsing; "" for tasks without filters.
    """
    several = len({row["data"] for row in rows}) > 1
    columns = ["data"] if several else []
    columns += ["method", "noise", "noise id", "seeds", "mean d", "sd d", "t", "needed"]
    cells = []
    for row in rows:
        n, possible = len(row["seeds"]), row["of"]
        cells.append(
            [
                *([row["data"]] if several else []),
                row["name"],
                row["noise"],
                one_of(row["noise_ids"]),
                str(n) if n == possible else f"{n} of {possible}",
                *difference(row),
            ]
        )
    how = f", {filter_name} filter" if filter_name else ""
    notes = [
        "d: difference of two runs with the same seed and noise; it is shown to be above (or "
        "below) zero if |t| exceeds the two-sided 5 % point of Student's t; n of m seeds: the "
        "other m - n are missing on one side or have no number."
    ]
    if not rows:
        notes = [f"No other method was run on the data and the noise of {reference}."]
    return Sheet(
        f"difference to {reference}, {metric}, test, {epoch} epoch{how}",
        [*columns, "verdict", "d by seed"],
        cells,
        notes=notes,
        left=frozenset({"data", "method", "noise", "noise id", "verdict", "d by seed"}),
    )


def paired_data_sheet(
    rows: Sequence[Mapping[str, Any]], metric: str, epoch: str, filter_name: str
) -> Sheet:
    """What `trainers.report.compare` found, for programs; arguments as for `paired_sheet`."""
    columns = [
        *("task", "dataset", "manifest", "method", "reference", "noise", "noise id"),
        *("metric", "split", "epoch", "filter", "seeds", "shared", "of"),
        *("mean d", "sd d", "t", "needed", "verdict", "d by seed"),
    ]
    cells = []
    for row in rows:
        cell = [row[key] for key in ("task", "dataset", "manifest", "name", "reference", "noise")]
        cell += [" ".join(row["noise_ids"]), metric, "test", epoch, filter_name]
        cell += [" ".join(map(str, row["seeds"])), len(row["seeds"]), row["of"]]
        cell += [exact(row[key]) for key in ("mean", "sd", "t", "critical")]
        cell += [verdict(row), " ".join(map(exact, row["differences"]))]
        cells.append(list(map(str, cell)))
    return Sheet("paired differences", columns, cells)


def _block(result: Result, split: str, epoch: str, which: str) -> Mapping[str, Any]:
    metrics = result[which]
    return metrics["val"] if split == "val" else metrics["test"][epoch]


def _blocks(
    task: Task, group: Sequence[Result]
) -> Iterator[tuple[str, str, dict[str, str], list[Mapping[str, Any]]]]:
    """Split, epoch, what was altered by its column, and the numbers of each run."""
    places = [("test", epoch) for epoch in EPOCHS] + [("val", "selected")]
    for split, epoch in places:
        yield split, epoch, {}, [_block(r, split, epoch, "metrics") for r in group]
    for variation in task.variations:
        names = [variation.name(r) for r in group]
        if None in names:
            continue
        for split, epoch in places:
            blocks = [_block(r, split, epoch, variation.key) for r in group]
            yield split, epoch, {variation.column: names[0]}, blocks
    trained = [r["metrics"].get("train") or {} for r in group]
    if any(key in block for block in trained for key in DETECTED):
        yield "train", "last", {}, trained


def _title(first: Result, what: str) -> str:
    features = "frozen features" if first.get("features") else "no features"
    return f"{first['dataset']}: {what}, percent, {features}"


def _notes(results: Sequence[Result], epoch: str, primary: str) -> list[str]:
    first = results[0]
    notes = [f"{AVERAGED}; sd: standard deviation of {primary}."]
    features = ", ".join(f"{role} {name}" for role, name in (first.get("features") or {}).items())
    if features:
        notes.append(f"Frozen features: {features}. Schedule: {first.get('schedule', EMPTY)}.")
    notes += without_features(results)
    if epoch == "oracle":
        notes.append("The oracle epoch is chosen on test; nothing is to be ranked on it.")
    return notes


def _noise_cells(group: Sequence[Result]) -> list[str]:
    """The noise asked for, realised rates, and ids."""
    return [noise_title(group[0].get("noise", ())), realised(group), one_of(noise_names(group))]


def _metric_columns(headings: Mapping[str, str], primary: str | None) -> list[str]:
    columns = []
    for key, name in headings.items():
        columns += [name, "sd"] if key == primary else [name]
    return columns


def _metric_cells(values: Mapping[str, Sequence[float | None]], primary: str | None) -> list[str]:
    cells = []
    for key, numbers in values.items():
        cells.append(mean_error(numbers))
        if key == primary:
            cells.append(number(spread(numbers)[1]))
    return cells
