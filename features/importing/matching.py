"""Which file, or which row of an HDF5 file, belongs to which manifest row."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.manifest import Manifest, Row
from pipeline.manifest.llp import NAME

__all__ = ["Matches", "match_rows"]


@dataclass(frozen=True)
class Matches:
    """What belongs together.

    Attributes:
        names: Name by row id; rows without one are not in it.
        strangers: Names that belong to no row.
    """

    names: Mapping[str, str]
    strangers: tuple[str, ...]


def match_rows(manifest: Manifest, names: Iterable[str], *, what: str) -> Matches:
    """Finds the name of every manifest row: its id, its video's name, or its YouTube id.

    A name may have folders before it (``train/4YdbENYcIyE``); they tell apart what has the same
    name in two folders, and are needed only then. The YouTube id is that of LLP's ids,
    ``<11 characters>_<start>_<end>``; it may hold and begin with ``-`` and ``_``.

    Args:
        manifest: The rows.
        names: Names of files, without suffix, or ids.
        what: What is imported, for errors.

    Raises:
        UserError: If nothing fits, or something fits several rows that are different clips.
    """
    names = list(names)
    book = _Book(names)
    by_id = {row.id: name for row in manifest.rows if (name := book.find(row.id)) is not None}
    taken: dict[str, Row] = {name: manifest[row_id] for row_id, name in by_id.items()}
    found: dict[str, str] = dict(by_id)
    sharing: dict[str, list[Row]] = {}
    for row in manifest.rows:
        if row.id in found:
            continue
        name = next((n for key in _other_names(row) if (n := book.find(key)) is not None), None)
        if name is None or (name in taken and _clip(taken[name]) != _clip(row)):
            continue
        found[row.id] = name
        sharing.setdefault(name, []).append(row)
    for name, rows in sharing.items():
        _refuse_different(name, rows, what)
    lost = (row for row in manifest.rows if row.id not in found)
    for row in lost:
        _refuse_ambiguous(row, book, what)
    if not found:
        if not names or not manifest.rows:
            raise UserError(f"{manifest.path if names else what} is empty; correct its path.")
        raise UserError(
            f"Nothing in {what} belongs to a row of {manifest.path}: names are such as "
            f"{names[0]!r} and row ids such as {manifest.rows[0].id!r}; name the features by row "
            "id or by video, or pass the manifest they belong to."
        )
    used = set(found.values())
    return Matches(found, tuple(name for name in names if name not in used))


class _Book:
    """Names, found whole or by their last part, where that is unique."""

    def __init__(self, names: Sequence[str]) -> None:
        self._whole: dict[str, list[str]] = {}
        self._ends: dict[str, list[str]] = {}
        for name in names:
            self._whole.setdefault(_same(name), []).append(name)
            self._ends.setdefault(_same(name).rpartition("/")[2], []).append(name)

    def candidates(self, key: str) -> list[str]:
        """What a key could mean."""
        key = _same(key)
        return self._whole.get(key) or self._ends.get(key, [])

    def find(self, key: str) -> str | None:
        """What a key means, or None where that is nothing or not clear."""
        found = self.candidates(key)
        return found[0] if len(found) == 1 else None


def _same(name: str) -> str:
    """One form of a name: disks of some systems take accented letters apart."""
    return unicodedata.normalize("NFC", name)


def _other_names(row: Row) -> Iterator[str]:
    """Names that a row may go by, beside its id, the most particular first."""
    if row.video is not None:
        folder, _, name = row.video.rpartition("/")
        stem = name.rpartition(".")[0] or name
        if folder:
            yield f"{folder}/{stem}"
            yield f"{folder.rpartition('/')[2]}/{stem}"
        yield stem
    if (match := NAME.fullmatch(row.id)) is not None:
        yield match["video"]


def _clip(row: Row) -> tuple[str, float, float]:
    return row.video or row.id, row.start, row.end


def _refuse_different(name: str, rows: Sequence[Row], what: str) -> None:
    other = next((row for row in rows if _clip(row) != _clip(rows[0])), None)
    if other is not None:
        raise UserError(
            f"{name!r} in {what} could belong to {rows[0].id!r} and to {other.id!r}, which are "
            "different clips; name the features by row id."
        )


def _refuse_ambiguous(row: Row, book: _Book, what: str) -> None:
    for key in (row.id, *_other_names(row)):
        if len(both := book.candidates(key)) > 1:
            raise UserError(
                f"The row {row.id!r} could be {both[0]!r} or {both[1]!r} in {what}; import one "
                "folder at a time, or name the features by row id."
            )
