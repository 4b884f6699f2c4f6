"""Labels for a folder of videos: from a table, or from its sub-folders.

A table is CSV or TSV with a header row: ``file`` (name or path inside the folder, with or without
extension), ``labels`` and, if wanted, ``split``. Several labels stand in one cell, separated by
semicolons (or by commas where the cell has no semicolon), or in several rows of the same file. A
file whose cell is empty is a clip without any label.
"""

from __future__ import annotations

import csv
import difflib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import UserError
from pipeline.manifest.schema import SPLITS

__all__ = ["FileLabels", "LabelTable", "read_folders", "read_labels"]

REQUIRED = ("file", "labels")
OPTIONAL = ("split",)

SPLIT_FOLDERS = {name: name for name in SPLITS} | {"valid": "val", "validation": "val"}
"""Names of folders that hold a split, in lower case."""


@dataclass(frozen=True)
class FileLabels:
    """What the table says of one file; a split of None leaves it to the caller."""

    labels: tuple[str, ...] = ()
    split: str | None = None


@dataclass(frozen=True)
class LabelTable:
    """A table read against the files that are there.

    Attributes:
        files: By path inside the folder.
        absent: Names in the table that no file has.
    """

    files: dict[str, FileLabels]
    absent: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """All labels, sorted."""
        return tuple(sorted({label for entry in self.files.values() for label in entry.labels}))


def read_labels(path: Path | str, files: Sequence[str], *, absent: str = "error") -> LabelTable:
    """Reads a label table.

    Args:
        path: The table.
        files: Paths inside the folder, with ``/``.
        absent: ``error``, or ``skip`` to collect names that no file has.

    Raises:
        UserError: If the table is broken, a name fits several files or, unless skipped, none.
    """
    path = Path(path)
    find = _Finder(files)
    entries: dict[str, FileLabels] = {}
    lost: dict[str, str] = {}
    for place, row in _read(path):
        matches = find(row["file"])
        if len(matches) > 1:
            raise UserError(
                f"{place}: {row['file']!r} fits {' and '.join(map(repr, matches[:2]))}; "
                "write the path with its extension."
            )
        if not matches:
            lost.setdefault(row["file"], place)
            continue
        entries[matches[0]] = _merge(place, entries.get(matches[0]), row)
    if lost and absent == "error":
        name, place = next(iter(lost.items()))
        near = difflib.get_close_matches(name, files, n=1)
        more = f", and {len(lost) - 1} more are not there" if len(lost) > 1 else ""
        raise UserError(
            f"{place}: there is no file {name!r}{f' (is it {near[0]!r}?)' if near else ''}{more}; "
            "correct the table or pass --absent skip."
        )
    return LabelTable(entries, tuple(lost))


def read_folders(files: Sequence[str]) -> LabelTable:
    """Takes every file's label from where it lies: ``<label>/...`` or ``<split>/<label>/...``.

    A folder is a split if it is named as one and the file lies in another folder inside it. A
    file that lies in no folder has no label.

    Args:
        files: Paths inside the folder, with ``/``.
    """
    entries = {}
    for file in files:
        folders = PurePosixPath(file).parts[:-1]
        split = SPLIT_FOLDERS.get(folders[0].lower()) if len(folders) > 1 else None
        if folders:
            entries[file] = FileLabels((folders[0 if split is None else 1],), split)
    return LabelTable(entries)


def _read(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Place and named cells of every line that is not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(
            f"The label table {path} cannot be read ({error.strerror}); check --labels."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"The label table {path} is not UTF-8 text; save it as UTF-8.") from error
    lines = text.splitlines()
    lines_of = csv.reader(lines, delimiter="\t" if lines and "\t" in lines[0] else ",")
    columns = [cell.strip().lower() for cell in next(lines_of, [])]
    if not set(REQUIRED) <= set(columns) or not set(columns) <= {*REQUIRED, *OPTIONAL}:
        raise UserError(
            f"{path.name} line 1: the columns must be file, labels and, if wanted, split, "
            f"separated by commas or tabs; this has {', '.join(columns) or 'none'}."
        )
    for cells in lines_of:
        place = f"{path.name} line {lines_of.line_num}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            raise UserError(
                f"{place}: {len(cells)} columns instead of {len(columns)}; separate several labels "
                "by semicolons."
            )
        row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
        if not row["file"]:
            raise UserError(f"{place}: the file is not named; fill it in or delete the line.")
        yield place, row


def _merge(place: str, known: FileLabels | None, row: dict[str, str]) -> FileLabels:
    split = row.get("split") or None
    if split is not None and split not in SPLITS:
        raise UserError(f"{place}: split {split!r} is unknown; use one of {', '.join(SPLITS)}.")
    cell = row["labels"]
    labels = (label.strip() for label in cell.split(";" if ";" in cell else ","))
    labels = tuple(label for label in labels if label)
    if known is None:
        return FileLabels(tuple(dict.fromkeys(labels)), split)
    if known.split != split:
        raise UserError(
            f"{place}: {row['file']!r} stands in split {split} here and in {known.split} above; "
            "keep one."
        )
    return FileLabels(tuple(dict.fromkeys(known.labels + labels)), split)


class _Finder:
    """Files by path, path without extension, name, name without extension; in this order."""

    def __init__(self, files: Iterable[str]) -> None:
        self._levels: tuple[dict[str, list[str]], ...] = ({}, {}, {}, {})
        for file in files:
            path = PurePosixPath(_normal(file))
            keys = (path, path.with_suffix(""), path.name, path.stem)
            for level, key in zip(self._levels, keys, strict=True):
                level.setdefault(str(key), []).append(file)

    def __call__(self, name: str) -> list[str]:
        key = str(PurePosixPath(_normal(name)))
        return next((level[key] for level in self._levels if key in level), [])


def _normal(name: str) -> str:
    # macOS stores names decomposed and spreadsheets compose them; Windows tables have backslashes.
    return unicodedata.normalize("NFC", name).replace("\\", "/")
