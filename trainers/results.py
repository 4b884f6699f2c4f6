"""Results of finished runs: grouped over seeds, summed up, compared in pairs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.files import canonical_json

__all__ = [
    "METRIC_TITLES",
    "SHOWN",
    "Shown",
    "cell_identity",
    "group_seeds",
    "noise_ids",
    "paired",
    "print_table",
    "results_table",
    "shown",
    "standard_error",
    "summary",
]

METRIC_TITLES = {
    f"{level}/{key}": title
    for level in ("segment", "event")
    for key, title in (
        ("audio", "A"),
        ("visual", "V"),
        ("audio_visual", "AV"),
        ("type", "Type"),
        ("event", "Event"),
    )
}

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """What tables show of a task's results.

    Attributes:
        metrics: Heading by key.
        metric: The one that comparisons are made by.
        epoch: The test epoch that ranks: ``"last"`` or ``"selected"``.
    """

    metrics: Mapping[str, str]
    metric: str
    epoch: str


SHOWN = {
    "avvp": Shown(METRIC_TITLES, "segment/type", "selected"),
    "action": Shown({"clip@1": "C@1", "clip@5": "C@5", "video@1": "V@1"}, "clip@1", "last"),
}
"""By task."""


def shown(result: Result) -> Shown:
    """What tables show of a result; results older than their task's name are of parsing."""
    return SHOWN[result.get("task", "avvp")]


def noise_ids(result: Result) -> tuple[str, ...]:
    """The noise that a result was trained under, oldest first; paired runs have the same."""
    return tuple(str(entry.get("id", "")) for entry in result.get("noise", ()))


def cell_identity(result: Result) -> dict[str, Any]:
    """What results have in common that differ in nothing but training seed and noise seed.

    Other draws of one noise leave another manifest, with other ids and realised rates; its kind,
    options and nominal rate, and the clean manifest that all draws began with, stay.
    """
    identity = dict(result["identity"])
    noise = identity.get("noise") or ()
    if noise:
        identity["noise"] = [
            {
                # Rates by class say it all; their mean depends on what was drawn before.
                key: entry.get(key)
                for key in ("kind", "options", "rates" if entry.get("rates") else "rate")
            }
            for entry in noise
        ]
        identity["manifest"] = noise[0].get("parent") or identity.get("manifest")
        # Whose sound is borrowed differs, and with it which videos have features.
        identity.pop("rows", None)
    return identity


def group_seeds(results: Iterable[Result]) -> list[list[Result]]:
    """Groups results that differ in nothing but seeds, in order of first appearance.

    See `cell_identity`; a group is sorted by training seed, then noise.
    """
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(canonical_json(cell_identity(result)), []).append(result)
    return [sorted(group, key=lambda r: (r["seed"], noise_ids(r))) for group in groups.values()]


def standard_error(values: Sequence[float | None]) -> float | None:
    """Standard deviation of the mean; None with fewer than two values."""
    known = [v for v in values if v is not None]
    return statistics.stdev(known) / len(known) ** 0.5 if len(known) > 1 else None


def summary(values: Sequence[float | None]) -> tuple[float, float | None] | None:
    """Mean and sample standard deviation; None where a metric does not apply."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    return statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None


def _cell(values: Sequence[float | None]) -> str:
    found = summary(values)
    if found is None:
        return "-"
    mean, deviation = found
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


def _metrics(result: Result, split: str, epoch: str, which: str) -> Mapping[str, Any]:
    metrics = result[which]
    return metrics["val"] if split == "val" else metrics["test"][epoch]


def results_table(
    results: Iterable[Result],
    *,
    split: str = "test",
    epoch: str = "selected",
    which: str = "metrics",
    title: str | None = None,
) -> Table:
    """A table of the ten parsing numbers.

    Args:
        results: Contents of ``results.json`` files.
        split: ``"val"`` or ``"test"``.
        epoch: ``"last"``, ``"selected"`` or ``"oracle"`` (test only).
        which: ``"metrics"``, ``"metrics_modality"`` or ``"metrics_never_visible"``.
        title: Heading; None writes one.
    """
    heading = title or f"{split}, {epoch} epoch, F-scores in percent"
    table = Table(title=heading, title_justify="left", show_lines=False)
    table.add_column("method", no_wrap=True)
    table.add_column("seeds", justify="right")
    for key, name in METRIC_TITLES.items():
        prefix = "seg" if key.startswith("segment") else "ev"
        table.add_column(f"{prefix} {name}", justify="right", no_wrap=True)
    table.add_column("uses", no_wrap=True)
    for group in group_seeds(results):
        first = group[0]
        name = first["method"] + (" (as released)" if first["as_released"] else "")
        cells = [
            _cell([_metrics(r, split, epoch, which).get(key) for r in group])
            for key in METRIC_TITLES
        ]
        uses = first["supervision"]
        table.add_row(name, str(len(group)), *cells, uses)
    return table


def paired(
    ours: Sequence[Result],
    reference: Sequence[Result],
    metric: str,
    *,
    epoch: str = "selected",
    which: str = "metrics",
) -> dict[str, Any]:
    """Compares two methods on the seeds and the noise that both have (test split).

    With d the difference a seed, a claim "ours is above" holds if mean(d) / (sd(d) / sqrt(n))
    exceeds the two-sided 5 % point of Student's t with n - 1 degrees of freedom (2.78 for n = 5).

    Args:
        ours, reference: Results of two methods, one a seed.
        metric: Key such as ``"segment/type"``; runs where it is blank are left out.
        epoch: ``"selected"`` or ``"last"``; rules of selection differ between methods, and can
            decide a comparison alone.
        which: ``"metrics"`` (each under its method's own filter) or ``"metrics_modality"`` (both
            under one).

    Returns:
        ``seeds, differences, mean, sd, t, critical, above, below``; ``t`` is None with fewer than
        two seeds or equal differences.
    """
    from scipy.stats import t as student

    def values(results: Sequence[Result]) -> dict[tuple[int, tuple[str, ...]], float]:
        found = {_pair(r): r[which]["test"][epoch][metric] for r in results}
        # A blank is no number to compare.
        return {pair: value for pair, value in found.items() if value is not None}

    mine, theirs = values(ours), values(reference)
    pairs = {pair: mine[pair] - theirs[pair] for pair in mine.keys() & theirs.keys()}
    differences = [pairs[pair] for pair in sorted(pairs)]
    n = len(differences)
    mean = statistics.fmean(differences) if n else float("nan")
    sd = statistics.stdev(differences) if n > 1 else None
    t = mean / (sd / n**0.5) if sd else None
    critical = round(float(student.ppf(0.975, n - 1)), 2) if n > 1 else None
    return {
        "seeds": [seed for seed, _ in sorted(pairs)],
        "differences": differences,
        "mean": mean,
        "sd": sd,
        "t": t,
        "critical": critical,
        "above": t is not None and critical is not None and t > critical,
        "below": t is not None and critical is not None and t < -critical,
    }


def _pair(result: Result) -> tuple[int, tuple[str, ...]]:
    """What two runs must share to be a pair: the training seed and the noise."""
    return result["seed"], noise_ids(result)


def print_table(table: Table) -> None:
    """Prints a table at full width, also where the output is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=220)
    console.print(table)
