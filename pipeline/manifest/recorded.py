"""What a header records of the noise in its rows, checked: trainers and reports count on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["check_noise"]

REMEDY = "make the noise again with python -m pipeline.noise, or mend the header"
COUNTS = ("changed", "count", "rows")


def check_noise(noise: Any) -> None:
    """Checks the ``noise`` of a header: a list, oldest first.

    Every entry has its ``kind`` and ``rate``, the share that was asked for. What else the writer
    records may be left out, and more may stand there: ``rates`` by class, what was ``realised``
    and, for a matrix, what is ``nominal``, both overall and by class; counts of rows.

    Raises:
        ValueError: Names the entry, what is wrong and how to mend it.
    """
    if not isinstance(noise, list) or not all(isinstance(n, dict) for n in noise):
        raise ValueError("noise must be a list of objects, oldest first")
    for number, entry in enumerate(noise, start=1):
        wrong = _wrong(entry)
        if wrong is not None:
            raise ValueError(f"entry {number} of noise: {wrong}; {REMEDY}")


def _wrong(entry: Mapping[str, Any]) -> str | None:
    """What is off in one entry, or None."""
    for key in ("kind", "rate"):
        if key not in entry:
            return f"it lacks {key!r}"
    if not isinstance(entry["kind"], str) or not entry["kind"]:
        return f"kind must be a text that is not empty, this is {entry['kind']!r:.40}"
    if not _is_share(entry["rate"]):
        return f"rate must be a share from 0 to 1, this is {entry['rate']!r:.40}"
    rates = entry.get("rates", {})
    if not isinstance(rates, dict) or not all(map(_is_share, rates.values())):
        return "rates must hold a share from 0 to 1 for each class"
    for key in ("realised", "nominal"):
        if key in entry and not _is_figure(entry[key]):
            return f"{key} must hold the share overall, from 0 to 1, and numbers by class"
    for key in COUNTS:
        if key in entry and not _is_count(entry[key]):
            return f"{key} must be a number of rows, this is {entry[key]!r:.40}"
    overlap = entry.get("overlap", {})
    if not isinstance(overlap, dict) or not all(map(_is_count, overlap.values())):
        return "overlap must hold numbers of rows"
    if not isinstance(entry.get("options", {}), dict | None):
        return "options must be an object"
    corpus = entry.get("corpus_truth", [])
    if not isinstance(corpus, list) or not all(isinstance(key, str) for key in corpus):
        return "corpus_truth must be a list of keys"
    return None


def _is_figure(value: Any) -> bool:
    """Whether a value is ``{"overall": share, "per_class": {class: number or null}}``."""
    if not isinstance(value, dict) or not _is_share(value.get("overall")):
        return False
    by_class = value.get("per_class", {})
    return isinstance(by_class, dict) and all(
        share is None or _is_number(share) for share in by_class.values()
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
