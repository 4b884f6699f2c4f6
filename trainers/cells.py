"""Cells of tables of runs: numbers, noise, cost and verdicts, as text.

What a group of runs has none of is `EMPTY`; a group may have no run at all.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from trainers.results import noise_ids, standard_error, summary
from trainers.tasks import AVVP, task_name

__all__ = [
    "EMPTY",
    "cost",
    "difference",
    "epochs",
    "exact",
    "mean_error",
    "noise_names",
    "number",
    "one_of",
    "realised",
    "signed",
    "spread",
    "verdict",
    "without_features",
]

Result = Mapping[str, Any]

EMPTY = "-"

SPLITS = {"train": "training", "val": "validation", "test": "test"}
"""Adjectives by split, in the order in which they are named."""


def number(value: float | None) -> str:
    """Two decimals."""
    return EMPTY if value is None else f"{value:.2f}"


def signed(value: float | None) -> str:
    """Two decimals and a sign."""
    return EMPTY if value is None else f"{value:+.2f}"


def exact(value: float | None, digits: int = 4) -> str:
    """For programs: some decimals, or a blank."""
    return "" if value is None else f"{value:.{digits}f}"


def spread(values: Sequence[float | None]) -> tuple[float | None, float | None, float | None]:
    """Mean, sample standard deviation and standard error; None where there are too few values."""
    mean, deviation = summary(values) or (None, None)
    return mean, deviation, standard_error(values)


def mean_error(values: Sequence[float | None]) -> str:
    """Mean ± standard error; the mean alone of one value."""
    mean, _, error = spread(values)
    return number(mean) if error is None else f"{number(mean)} ± {number(error)}"


def noise_names(results: Sequence[Result], length: int | None = None) -> list[str]:
    """The noise ids of some runs, each once; those of one manifest are joined by +.

    Args:
        results: Of the runs.
        length: Digits kept of an id; None for all.
    """
    names = ("+".join(name[:length] for name in noise_ids(result)) for result in results)
    return list(filter(None, dict.fromkeys(names)))


def one_of(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return names[0] + more if names else EMPTY


def realised(results: Sequence[Result], *, scale: float = 100, digits: int = 1) -> str:
    """Mean rate of every injection, oldest first: the share of training rows that it altered.

    Args:
        results: Of runs under the same kinds of noise.
        scale: What a rate of one is written as.
        digits: Decimals.
    """
    rates = []
    for step in zip(*(result.get("noise", ()) for result in results), strict=True):
        found = [entry.get("realised", {}).get("overall") for entry in step]
        known = [rate for rate in found if rate is not None]
        rates.append(f"{scale * statistics.fmean(known):.{digits}f}" if known else EMPTY)
    return " + ".join(rates) or EMPTY


def epochs(results: Sequence[Result], epoch: str) -> str:
    """Which epochs the numbers of some runs are from; blank for the last ones."""
    key = {"selected": "epoch", "oracle": "oracle_epoch"}.get(epoch)
    chosen = [result.get("selection", {}).get(key) for result in results] if key else []
    return " ".join(str(n) for n in chosen if n is not None)


def cost(results: Sequence[Result]) -> list[str]:
    """Passes over the training data, mean seconds of a run, and what its method uses."""
    passes = {str(r["passes"]) for r in results if r.get("passes") is not None}
    seconds = [r["seconds"] for r in results if r.get("seconds") is not None]
    uses = [results[0]["supervision"], *results[0].get("needs", ())] if results else []
    return [
        "/".join(sorted(passes)) or EMPTY,
        f"{statistics.fmean(seconds):.1f}" if seconds else EMPTY,
        ", ".join(map(str, uses)) or EMPTY,
    ]


def difference(found: Mapping[str, Any]) -> list[str]:
    """Mean and deviation of d, t, the t that is needed, the verdict, and d by seed.

    Args:
        found: What `trainers.results.paired` gives.
    """
    return [
        signed(found["mean"]),
        number(found["sd"]),
        signed(found["t"]),
        number(found["critical"]),
        verdict(found),
        " ".join(map(signed, found["differences"])) or EMPTY,
    ]


def verdict(found: Mapping[str, Any]) -> str:
    """What a paired comparison shows."""
    if not found["seeds"]:
        return "no seed shared"
    return "above" if found["above"] else "below" if found["below"] else "not shown"


def without_features(results: Sequence[Result]) -> list[str]:
    """How many rows had no features, and what numbers make of them: a note, or none.

    Args:
        results: Of one task; those of before rows were counted, and those that lack none, say
            nothing.
    """
    counts = {name: [r["failed"].get(name, 0) for r in results if "failed" in r] for name in SPLITS}
    lacking = {name: found for name, found in counts.items() if any(found)}
    if not lacking:
        return []
    parsing = task_name(results[0]) == AVVP.name
    text = ", ".join(f"{_span(found)} {SPLITS[name]}" for name, found in lacking.items())
    scored = " and ".join(SPLITS[name] for name in lacking if name != "train")
    verb = "are predicted as nothing" if parsing else "count as wrong"
    what = f"those in {scored} {verb}" if scored else "they are not trained on"
    return [f"Without features: {text} {'clips' if parsing else 'videos'}; {what}."]


def _span(numbers: Sequence[int]) -> str:
    """One number, or the least and the most of several."""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"
