"""Tables of finished runs for reading and for programs: results, noise found, paired differences.

Every row states what a number can depend on: the noise that was asked for, what came of it and its
id, passes over the data, seconds, and what the method uses beyond noisy labels.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainers.figures import noise_title
from trainers.results import group_seeds, noise_ids, shown, standard_error, summary
from trainers.tables import Sheet

__all__ = [
    "DETECTED",
    "detection_sheet",
    "paired_sheet",
    "results_sheet",
    "variant_names",
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


def variant_names(groups: Sequence[Sequence[Result]]) -> list[str]:
    """A name for each group of runs: the method, and settings by which its groups differ.

    Args:
        groups: As `trainers.results.group_seeds` gives them.
    """
    settings: dict[str, list[Mapping[str, Any]]] = {}
    for group in groups:
        settings.setdefault(group[0]["method"], []).append(_settings(group[0]))
    names = []
    for group in groups:
        method, own = group[0]["method"], _settings(group[0])
        others = settings[method]
        moved = [key for key in own if any(other.get(key) != own[key] for other in others)]
        words = [f"{key}={own[key]}" for key in sorted(moved)]
        if group[0]["as_released"]:
            words = ["as released", *(word for word in words if "as_released" not in word)]
        names.append(f"{method} ({', '.join(words)})" if words else method)
    return names


def results_sheet(
    results: Iterable[Result],
    *,
    epoch: str | None = None,
    split: str = "test",
    which: str = "metrics",
    title: str | None = None,
    separate: bool = False,
) -> Sheet:
    """A row for each method, setting and noise; mean and standard error over seeds.

    Args:
        results: Of one task, with identity.
        epoch: ``"last"``, ``"selected"`` or ``"oracle"``; None takes the one that ranks.
        split: ``"val"`` or ``"test"``.
        which: ``"metrics"`` or, of parsing, ``"metrics_modality"``, ``"metrics_never_visible"``.
        title: Heading; None writes one.
        separate: Mean, standard error and standard deviation of every metric in columns of their
            own, and all noise ids, for programs.
    """
    results = list(results)
    first = results[0]
    what = shown(first)
    epoch = epoch or what.epoch
    groups = group_seeds(results)
    rows = []
    for name, group in sorted(zip(variant_names(groups), groups, strict=True), key=_place):
        values = {
            key: [_block(r, split, epoch, which).get(key) for r in group] for key in what.metrics
        }
        rows.append(
            [
                name,
                *_noise_cells(group, every=separate),
                str(len(group)),
                *_metric_cells(values, what.metric, separate=separate),
                _epochs(group, epoch),
                *_cost_cells(group),
            ]
        )
    columns = [
        "method",
        *("noise", "realised %", "noise id"),
        "runs",
        *_metric_columns(what.metrics, what.metric, separate=separate),
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


def detection_sheet(results: Iterable[Result], *, separate: bool = False) -> Sheet | None:
    """How well wrong labels and foreign sounds were found in training data, after the last epoch.

    Args:
        results: Of one task.
        separate: See `results_sheet`.

    Returns:
        None where no run knows the truth.
    """
    known = [r for r in results if r["metrics"].get("train")]
    keys = [key for key in DETECTED if any(key in r["metrics"]["train"] for r in known)]
    if not keys:
        return None
    groups = group_seeds(known)
    rows = []
    for name, group in sorted(zip(variant_names(groups), groups, strict=True), key=_place):
        values = {key: [r["metrics"]["train"].get(key) for r in group] for key in keys}
        cells = _metric_cells(values, None, separate=separate)
        rows.append([name, *_noise_cells(group, every=separate), str(len(group)), *cells])
    titles = {key: DETECTED[key] for key in keys}
    return Sheet(
        _title(known[0], "noise found in the training data, last epoch"),
        ["method", "noise", "realised %", "noise id", "runs",
         *_metric_columns(titles, None, separate=separate)],
        rows,
        notes=(
            f"Percent. {AVERAGED}. own: the method's criterion; loss: cross-entropy of the given "
            "label; pair: 1 - (w_v + w_a)/2 against altered sounds.",
        ),
        left=frozenset({"method", "noise", "noise id"}),
    )  # fmt: skip


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
    cells = []
    for row in rows:
        verdict = "above" if row["above"] else "below" if row["below"] else "not shown"
        cells.append(
            [
                row.get("name", row["method"]),
                row.get("noise", EMPTY),
                str(len(row["seeds"])),
                *(_signed(row[key]) for key in ("mean", "sd", "t", "critical")),
                verdict,
                " ".join(f"{d:+.2f}" for d in row["differences"]),
            ]
        )
    how = f", {filter_name} filter" if filter_name else ""
    return Sheet(
        f"difference to {reference}, {metric}, test, {epoch} epoch{how}",
        ["method", "noise", "seeds", "mean d", "sd d", "t", "needed", "verdict", "d by seed"],
        cells,
        notes=(
            "d: difference of two runs with the same seed and noise; it is shown to be above (or "
            "below) zero if |t| exceeds the two-sided 5 % point of Student's t.",
        ),
        left=frozenset({"method", "noise", "verdict", "d by seed"}),
    )


def _settings(result: Result) -> Mapping[str, Any]:
    """What may differ between two groups of one method, in one flat mapping."""
    identity = result["identity"]
    plain = {key: identity[key] for key in ("filter", "schedule") if key in identity}
    return plain | dict(identity.get("hyperparameters", {}))


def _place(named: tuple[str, Sequence[Result]]) -> tuple[str, str]:
    """Rows of one noise stand together."""
    name, group = named
    return noise_title(group[0].get("noise", ())), name


def _block(result: Result, split: str, epoch: str, which: str) -> Mapping[str, Any]:
    metrics = result[which]
    return metrics["val"] if split == "val" else metrics["test"][epoch]


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


def _noise_cells(group: Sequence[Result], *, every: bool) -> list[str]:
    """The noise asked for, realised rates, and ids (one, and how many more, or all)."""
    noise = group[0].get("noise", ())
    rates = []
    for place in range(len(noise)):
        found = [r["noise"][place].get("realised", {}).get("overall") for r in group]
        known = [rate for rate in found if rate is not None]
        rates.append(f"{100 * statistics.fmean(known):.1f}" if known else EMPTY)
    ids = list(dict.fromkeys("+".join(noise_ids(r)) for r in group)) if noise else []
    if every:
        name = " ".join(ids)
    else:
        name = ids[0] + (f" and {len(ids) - 1} more" if len(ids) > 1 else "") if ids else ""
    return [noise_title(noise), " + ".join(rates) or EMPTY, name or EMPTY]


def _metric_columns(titles: Mapping[str, str], primary: str | None, *, separate: bool) -> list[str]:
    columns = []
    for key, name in titles.items():
        # Headings repeat between the two levels of parsing.
        short = {"segment": "seg ", "event": "ev "}.get(key.partition("/")[0], "") + name
        if separate:
            columns += [key, f"{key} se", f"{key} sd"]
        else:
            columns += [short, "sd"] if key == primary else [short]
    return columns


def _metric_cells(
    values: Mapping[str, Sequence[float | None]], primary: str | None, *, separate: bool
) -> list[str]:
    cells = []
    for key, numbers in values.items():
        found, error = summary(numbers), standard_error(numbers)
        mean, deviation = (None, None) if found is None else found
        if separate:
            cells += ["" if x is None else f"{x:.4f}" for x in (mean, error, deviation)]
            continue
        text = EMPTY if mean is None else f"{mean:.2f}"
        cells.append(text if error is None else f"{text} ± {error:.2f}")
        if key == primary:
            cells.append(EMPTY if deviation is None else f"{deviation:.2f}")
    return cells


def _epochs(group: Sequence[Result], epoch: str) -> str:
    """Which epochs the numbers are from."""
    key = {"selected": "epoch", "oracle": "oracle_epoch"}.get(epoch)
    if key is None:
        return EMPTY
    chosen = [r.get("selection", {}).get(key) for r in group]
    return " ".join(str(number) for number in chosen if number is not None) or EMPTY


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
