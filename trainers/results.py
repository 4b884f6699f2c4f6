"""Results of finished runs: grouped over seeds, named, summed up, compared in pairs."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from pipeline.files import canonical_json, object_digest
from pipeline.noise import KINDS
from trainers.tasks import task_name

__all__ = [
    "by_data",
    "cell_identity",
    "group_seeds",
    "named_groups",
    "noise_ids",
    "noise_title",
    "over_seeds",
    "paired",
    "standard_error",
    "summary",
    "variant_names",
]

NOT_SETTINGS = (
    *("task", "method", "seed", "dataset", "manifest", "rows", "noise"),
    *("annotations", "features", "hyperparameters"),
)
"""Keys of a configuration that are no setting, or are spelt out one by one."""

ROUNDING = 1e-9
"""Differences that spread by less than this share of the values they are of are equal."""

SHORT = 6
"""Digits of a digest that tell the few of one table apart."""

Result = Mapping[str, Any]


def noise_ids(result: Result) -> tuple[str, ...]:
    """The noise that a result was trained under, oldest first; paired runs have the same."""
    return tuple(str(entry.get("id", "")) for entry in result.get("noise", ()))


def noise_title(noise: Sequence[Mapping[str, Any]]) -> str:
    """A manifest's noise in words, such as ``asymmetric 40 % (half), correspondence 20 %``.

    Options stand in brackets where they are not the default; of a matrix, a map, a pool and rates
    by class there is the beginning of a digest.

    Args:
        noise: As results hold it, oldest first.
    """
    return ", ".join(map(_step_title, noise)) or "no added noise"


def _step_title(entry: Mapping[str, Any]) -> str:
    kind, rates, options = str(entry["kind"]), entry.get("rates"), entry.get("options") or {}
    title = kind
    if rates:
        low, high = (f"{100 * rate:g}" for rate in (min(rates.values()), max(rates.values())))
        title += f" {low} % by class" if low == high else f" {low} to {high} % by class"
    elif entry.get("rate") is not None:
        title += f" {100 * entry['rate']:g} %"
    defaults = (
        {field.name: field.default for field in dataclasses.fields(KINDS[kind])}
        if kind in KINDS
        else {}
    )
    words = [
        _option(name, value)
        for name, value in options.items()
        if value not in (None, False) and value != defaults.get(name)
    ]
    words += [_option("rates", rates)] if rates else []
    return f"{title} ({', '.join(words)})" if words else title


def _option(name: str, value: Any) -> str:
    """An option of noise in words: its value, or its name where the value alone says nothing."""
    name = name.replace("_", " ")
    if value is True:
        return name
    if isinstance(value, Mapping):
        return f"{name} {object_digest(dict(value))[:SHORT]}"
    return f"{name} {value[:SHORT]}" if name in ("matrix", "pool") else str(value)


def cell_identity(result: Result) -> dict[str, Any]:
    """What results have in common that differ in nothing but training seed and noise seed.

    Other draws of one noise leave another manifest, with other ids and realised rates; its kind,
    options and nominal rate, and the clean manifest that all draws began with, stay.
    """
    identity = dict(result["identity"])
    noise = identity.get("noise") or result.get("noise") or ()
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


def by_data(results: Iterable[Result]) -> dict[tuple[str, str, str], list[Result]]:
    """Sorts results by what they can be compared on.

    Returns:
        Lists by task, data set and digest of the clean manifest, in the order of these.
    """
    found: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        root = str(cell_identity(result)["manifest"])
        key = (task_name(result), str(result["dataset"]), root)
        found.setdefault(key, []).append(result)
    return dict(sorted(found.items()))


def group_seeds(results: Iterable[Result]) -> list[list[Result]]:
    """Groups results that differ in nothing but seeds, in order of first appearance.

    See `cell_identity`; a group is sorted by training seed, then noise. A run that is there twice
    (a copied folder, a seed named twice) counts once.
    """
    groups: dict[str, dict[str, Result]] = {}
    for result in results:
        group = groups.setdefault(canonical_json(cell_identity(result)), {})
        group.setdefault(canonical_json([result["identity"], *_pair(result)]), result)
    return [sorted(group.values(), key=_pair) for group in groups.values()]


def variant_names(
    groups: Sequence[Sequence[Result]],
    *,
    among: Sequence[Sequence[Result]] | None = None,
    without: Collection[str] = (),
) -> list[str]:
    """A name for each group of runs: the method, and settings by which its groups differ.

    Args:
        groups: As `group_seeds` gives them.
        among: All groups that the names tell apart; None for these.
        without: Settings that are stated elsewhere.
    """
    settings: dict[str, list[Mapping[str, Any]]] = {}
    for group in groups if among is None else among:
        settings.setdefault(group[0]["method"], []).append(_settings(group[0]))
    names = []
    for group in groups:
        method, own = group[0]["method"], _settings(group[0])
        others = settings[method]
        moved = [key for key in own if any(other.get(key) != own[key] for other in others)]
        words = [f"{key}={own[key]}" for key in sorted(moved) if key not in without]
        if group[0].get("as_released"):
            words = ["as released", *(word for word in words if "as_released" not in word)]
        names.append(f"{method} ({', '.join(words)})" if words else method)
    return names


def named_groups(
    results: Iterable[Result], *, among: Iterable[Result] | None = None
) -> list[tuple[str, list[Result]]]:
    """The rows of a table: groups of results and their names, sorted by noise and name.

    Args:
        results: Of one data set; see `by_data`.
        among: All results of the data set, so that each of its tables gives the same names; None
            for these.
    """
    groups = group_seeds(results)
    names = variant_names(groups, among=None if among is None else group_seeds(among))
    return sorted(
        zip(names, groups, strict=True),
        key=lambda named: (noise_title(named[1][0].get("noise", ())), named[0]),
    )


def _settings(result: Result) -> dict[str, Any]:
    """What may differ between two groups of one method, in one flat mapping."""
    identity = result["identity"]
    settings = {key: value for key, value in identity.items() if key not in NOT_SETTINGS}
    if identity.get("annotations"):
        settings["annotations"] = str(identity["annotations"])[:12]
    for role, name in (identity.get("features") or {}).items():
        settings[f"features.{role}"] = name
    return settings | dict(identity.get("hyperparameters", {}))


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
        ``seeds, of, noise_ids, differences, mean, sd, t, critical, above, below``. ``seeds`` has
        one entry a pair and ``of`` says how many pairs there were if neither side lacked any;
        ``mean`` is None without a pair, ``t`` with fewer than two or with equal differences.
    """
    from scipy.stats import t as student

    def values(results: Sequence[Result]) -> dict[tuple[int, tuple[str, ...]], float | None]:
        return {_pair(r): _value(r, metric, epoch, which) for r in results}

    mine, theirs = values(ours), values(reference)
    # A blank is no number to compare.
    shared = sorted(p for p in mine if mine[p] is not None and theirs.get(p) is not None)
    differences = [mine[pair] - theirs[pair] for pair in shared]
    n = len(shared)
    mean = statistics.fmean(differences) if n else None
    sd = statistics.stdev(differences) if n > 1 else None
    if sd is not None:
        largest = max(abs(side[pair]) for side in (mine, theirs) for pair in shared)
        # What is left of equal differences is rounding, and t of it would be any number.
        sd = 0.0 if sd <= ROUNDING * largest else sd
    t = mean / (sd / n**0.5) if sd else None
    critical = round(float(student.ppf(0.975, n - 1)), 2) if n > 1 else None
    return {
        "seeds": [seed for seed, _ in shared],
        "of": len(mine.keys() | theirs.keys()),
        "noise_ids": list(dict.fromkeys("+".join(ids) for _, ids in shared if ids)),
        "differences": differences,
        "mean": mean,
        "sd": sd,
        "t": t,
        "critical": critical,
        "above": t is not None and critical is not None and t > critical,
        "below": t is not None and critical is not None and t < -critical,
    }


def _value(result: Result, metric: str, epoch: str, which: str) -> float | None:
    """A test metric; blank where the result has no such block."""
    return result[which]["test"][epoch].get(metric) if which in result else None


def over_seeds(reference: Sequence[Result], group: Sequence[Result]) -> list[Result]:
    """A reference's results for the seeds of a group that `paired` compares with it.

    A reference that trains nothing has the same numbers for every training seed, so each of its
    results stands for all seeds under its noise.
    """
    if reference[0]["updates"]:
        return list(reference)
    return [
        {**base, "seed": result["seed"]}
        for result in group
        for base in reference
        if noise_ids(base) == noise_ids(result)
    ]


def _pair(result: Result) -> tuple[int, tuple[str, ...]]:
    """What two runs must share to be a pair: the training seed and the noise."""
    return result["seed"], noise_ids(result)
