"""What was before the noise: ``<stem>.truth.jsonl`` beside a noisy manifest.

One line a changed row: its id and, under every key that changed, the original value. Trainers never
open it; the evaluation of noise detection does. A rendered corpus may bring a truth of its own (the
modalities and events of every clip), which is carried along as it is.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.files import json_bytes, write_atomic
from pipeline.manifest import Row

__all__ = [
    "FIELDS",
    "Truth",
    "differs",
    "original",
    "read_truth",
    "truth_path",
    "update",
    "write_truth",
]

FIELDS = ("labels", "audio_id", "labels_audio", "labels_visual")
"""What noise can change, in the order in which it stands in a line."""

Truth = dict[str, dict[str, Any]]
"""Lines by row id, in file order."""


def truth_path(manifest: Path | str) -> Path:
    """Where the truth of a manifest stands."""
    path = Path(manifest)
    return path.with_name(f"{path.stem}.truth.jsonl")


def read_truth(path: Path | str) -> Truth:
    """Reads a truth file.

    Raises:
        UserError: If it cannot be read or is none; names the line.
    """
    path = Path(path)
    truth: Truth = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    entry = json.loads(line)
                    truth[entry["id"]] = entry
                    wrong = next((field for field in FIELDS if not _fits(field, entry)), None)
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(
                        f"{path.name} line {number} is no truth entry; make the manifest again."
                    ) from error
                if wrong is not None:
                    must = "an id" if wrong == "audio_id" else "a list of class names"
                    raise UserError(
                        f"{path.name} line {number}: {wrong} must be {must}, this is "
                        f"{entry[wrong]!r:.40}; make the manifest again."
                    )
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"The truth {path} cannot be read ({error}); put the file that was written with the "
            "manifest beside it."
        ) from error
    return truth


def _fits(field: str, entry: Mapping[str, Any]) -> bool:
    """Whether an entry leaves a field out or gives it a value of the right type."""
    value = entry.get(field, [])
    if field == "audio_id":
        return field not in entry or isinstance(value, str)
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def write_truth(truth: Truth, path: Path | str) -> Path:
    """Writes a truth file, empty where nothing changed."""
    lines = "".join(f"{json.dumps(entry, ensure_ascii=False)}\n" for entry in truth.values())
    return write_atomic(path, json_bytes(lines))


def original(row: Row, entry: Mapping[str, Any], field: str) -> Any:
    """The value that a row had before any noise.

    Labels of one modality are those of the clip where the row has none of its own.
    """
    if field in entry:
        return entry[field]
    value = getattr(row, field)
    if value is None:
        return original(row, entry, "labels")
    return value


def differs(rows: Sequence[Row], truth: Truth, fields: Sequence[str]) -> np.ndarray:
    """Which rows have another value than before any noise in one of some fields.

    Args:
        rows: N rows of a noisy manifest.
        truth: Its truth.
        fields: Out of `FIELDS`.

    Returns:
        (N,) bool.
    """
    mask = np.zeros(len(rows), dtype=bool)
    for n, row in enumerate(rows):
        entry = truth.get(row.id)
        if entry is not None:
            mask[n] = any(not _same(original(row, {}, f), original(row, entry, f)) for f in fields)
    return mask


def update(
    truth: Truth,
    rows: Mapping[str, Row],
    changed: Mapping[str, Mapping[str, Any]],
    corpus: Collection[str],
) -> Truth:
    """The truth after one more noise.

    The oldest original of a value stays. A value that is back to its original leaves the truth, and
    so does a row without any other.

    Args:
        truth: The truth of the parent.
        rows: Changed rows of the parent, by id.
        changed: Their new values: id to field to value.
        corpus: Keys that the corpus itself states; where a row has them, they stay as they are.
    """
    result = dict(truth)
    for row_id, values in changed.items():
        row, old = rows[row_id], truth.get(row_id, {})
        entry = {"id": row_id, **old}
        for field in FIELDS:
            if field not in values or (field in corpus and field in old):
                continue
            before = original(row, old, field)
            if _same(before, values[field]):
                entry.pop(field, None)
            else:
                entry[field] = before if isinstance(before, str) else list(before)
        if entry.keys() - {"id"}:
            result[row_id] = entry
        else:
            result.pop(row_id, None)
    return result


def _same(first: Any, second: Any) -> bool:
    """Equal values; lists of labels have no order."""
    if isinstance(first, str) or isinstance(second, str):
        return first == second
    return set(first) == set(second)
