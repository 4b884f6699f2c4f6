"""Tables of finished runs for reading and for programs: results, noise found, paired differences.

Every row states what a number can depend on: the noise that was asked for, what came of it and its
id, passes over the data, seconds, and what the method uses beyond noisy labels.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from trainers.results import (
    SHOWN,
    by_data,
    named_groups,
    noise_ids,
    noise_title,
    shown,
    standard_error,
    summary,
)
from trainers.tables import Sheet

__all__ = [
    "DETECTED",
    "data_sheet",
    "detection_sheet",
    "paired_data_sheet",
    "paired_sheet",
    "results_sheet",
]

Result = Mapping[str, Any]
EMPTY = "-"

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

AVERAGED = "Mean ± standard error over runs that differ in training and noise seed only"


def results_sheet(
    results: Iterable[Result],
    *,
    epoch: str | None = None,
    split: str = "test",
    which: str = "metrics",
    title: str | None = None,
    among: Iterable[Result] | None = None,
) -> Sheet:
    """A row for each method, setting and noise; mean and standard error over seeds.

    Args:
        results: Of one task and data set, with identity.
        epoch: ``"last"``, ``"selected"`` or ``"oracle"``; None takes the one that ranks.
        split: ``"val"`` or ``"test"``.
        which: ``"metrics"`` or, of parsing, ``"metrics_modality"``, ``"metrics_never_visible"``.
        title: Heading; None writes one.
        among: See `trainers.results.named_groups`.
    """
    results = list(results)
    first = results[0]
    what = shown(first)
    epoch = epoch or what.epoch
    rows = []
    for name, group in named_groups(results, among=among):
        values = {
            key: [_block(r, split, epoch, which).get(key) for r in group] for key in what.metrics
        }
        rows.append(
            [
                name,
                *_noise_cells(group),
                str(len(group)),
                *_metric_cells(values, what.metric),
                _epochs(group, epoch) or EMPTY,
                *_cost_cells(group),
            ]
        )
    columns = [
        "method",
        *("noise", "realised %", "noise id"),
        "runs",
        *_metric_columns(what.metrics, what.metric),
        "epoch",
        *("passes", "seconds", "uses"),
    ]
    heading = title or _title(first, f"{split}, {epoch} epoch")
    return Sheet(
        heading,
        columns,
        rows,
        notes=_notes(first, epoch, what.metrics[what.metric]),
        left=frozenset({"method", "noise", "noise id", "uses"}),
    )


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
    keys = [key for task in dict.fromkeys(key[0] for key in data) for key in SHOWN[task].metrics]
    ran = [r for mine in data.values() for r in mine]
    keys += [key for key in DETECTED if any(key in (r["metrics"].get("train") or {}) for r in ran)]
    columns = [
        *("task", "dataset", "manifest", "schedule", "features", "method", "uses"),
        *("split", "epoch", "filter", "never visible"),
        *("noise", "noise id", "realised %", "runs", "seeds", "epochs", "passes", "seconds"),
        *(f"{key}{what}" for key in keys for what in ("", " se", " sd")),
    ]
    rows = []
    for (task, dataset, root), mine in data.items():
        for name, group in named_groups(mine):
            first = group[0]
            features = " ".join(f"{k}={v}" for k, v in (first.get("features") or {}).items())
            passes, seconds, uses = _cost_cells(group)
            head = [task, dataset, root, first.get("schedule"), features, name, uses]
            title, realised, _ = _noise_cells(group)
            for split, epoch, hidden, blocks in _blocks(group):
                row = [*head, split, epoch, first.get("filter"), hidden]
                row += [title, " ".join(_ids(group)), realised, str(len(group))]
                row += [" ".join(str(r["seed"]) for r in group), _epochs(group, epoch)]
                row += [passes, seconds]
                for key in keys:
                    row += _statistics([block.get(key) for block in blocks])
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
                _some(row["noise_ids"]),
                str(n) if n == possible else f"{n} of {possible}",
                _signed(row["mean"]),
                _number(row["sd"]),
                _signed(row["t"]),
                _number(row["critical"]),
                _verdict(row),
                " ".join(map(_signed, row["differences"])) or EMPTY,
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
        cell += [_exact(row[key]) for key in ("mean", "sd", "t", "critical")]
        cell += [_verdict(row), " ".join(map(_exact, row["differences"]))]
        cells.append(list(map(str, cell)))
    return Sheet("paired differences", columns, cells)


def _verdict(row: Mapping[str, Any]) -> str:
    if not row["seeds"]:
        return "no seed shared"
    return "above" if row["above"] else "below" if row["below"] else "not shown"


def _block(result: Result, split: str, epoch: str, which: str) -> Mapping[str, Any]:
    metrics = result[which]
    return metrics["val"] if split == "val" else metrics["test"][epoch]


def _blocks(group: Sequence[Result]) -> Iterator[tuple[str, str, str, list[Mapping[str, Any]]]]:
    """Split, epoch, class that is deleted from the picture, and the numbers of each run."""
    places = [("test", epoch) for epoch in ("last", "selected", "oracle")] + [("val", "selected")]
    for split, epoch in places:
        yield split, epoch, "", [_block(r, split, epoch, "metrics") for r in group]
    if group[0]["updates"] and all("metrics_never_visible" in r for r in group):
        hidden = str(group[0]["metrics_never_visible"]["class"])
        for split, epoch in places:
            blocks = [_block(r, split, epoch, "metrics_never_visible") for r in group]
            yield split, epoch, hidden, blocks
    trained = [r["metrics"].get("train") or {} for r in group]
    if any(key in block for block in trained for key in DETECTED):
        yield "train", "last", "", trained


def _title(first: Result, what: str) -> str:
    features = "frozen features" if first.get("features") else "no features"
    return f"{first['dataset']}: {what}, percent, {features}"


def _notes(first: Result, epoch: str, primary: str) -> list[str]:
    notes = [f"{AVERAGED}; sd: standard deviation of {primary}."]
    features = ", ".join(f"{role} {name}" for role, name in (first.get("features") or {}).items())
    if features:
        notes.append(f"Frozen features: {features}. Schedule: {first.get('schedule', EMPTY)}.")
    if epoch == "oracle":
        notes.append("The oracle epoch is chosen on test; nothing is to be ranked on it.")
    return notes


def _ids(group: Sequence[Result]) -> list[str]:
    """The noise ids of some runs, each once; those of one manifest are joined by +."""
    return list(dict.fromkeys("+".join(noise_ids(r)) for r in group if noise_ids(r)))


def _some(ids: Sequence[str]) -> str:
    """One, and how many more."""
    more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
    return ids[0] + more if ids else EMPTY


def _noise_cells(group: Sequence[Result]) -> list[str]:
    """The noise asked for, realised rates, and ids."""
    noise = group[0].get("noise", ())
    rates = []
    for place in range(len(noise)):
        found = [r["noise"][place].get("realised", {}).get("overall") for r in group]
        known = [rate for rate in found if rate is not None]
        rates.append(f"{100 * statistics.fmean(known):.1f}" if known else EMPTY)
    return [noise_title(noise), " + ".join(rates) or EMPTY, _some(_ids(group))]


def _metric_columns(titles: Mapping[str, str], primary: str | None) -> list[str]:
    columns = []
    for key, name in titles.items():
        # Headings repeat between the two levels of parsing.
        short = {"segment": "seg ", "event": "ev "}.get(key.partition("/")[0], "") + name
        columns += [short, "sd"] if key == primary else [short]
    return columns


def _metric_cells(values: Mapping[str, Sequence[float | None]], primary: str | None) -> list[str]:
    cells = []
    for key, numbers in values.items():
        found, error = summary(numbers), standard_error(numbers)
        mean, deviation = (None, None) if found is None else found
        text = _number(mean)
        cells.append(text if error is None else f"{text} ± {error:.2f}")
        if key == primary:
            cells.append(_number(deviation))
    return cells


def _statistics(values: Sequence[float | None]) -> list[str]:
    """Mean, standard error and standard deviation for programs; empty where there are too few."""
    mean, deviation = summary(values) or (None, None)
    return [_exact(x) for x in (mean, standard_error(values), deviation)]


def _epochs(group: Sequence[Result], epoch: str) -> str:
    """Which epochs the numbers are from."""
    key = {"selected": "epoch", "oracle": "oracle_epoch"}.get(epoch)
    chosen = [r.get("selection", {}).get(key) for r in group] if key else []
    return " ".join(str(number) for number in chosen if number is not None)


def _cost_cells(group: Sequence[Result]) -> list[str]:
    passes = {str(r["passes"]) for r in group if r.get("passes") is not None}
    seconds = [r["seconds"] for r in group if r.get("seconds") is not None]
    uses = [group[0]["supervision"], *group[0].get("needs", ())]
    return [
        "/".join(sorted(passes)) or EMPTY,
        f"{statistics.fmean(seconds):.1f}" if seconds else EMPTY,
        ", ".join(map(str, uses)),
    ]


def _signed(value: float | None) -> str:
    return EMPTY if value is None else f"{value:+.2f}"


def _number(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.2f}"


def _exact(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
