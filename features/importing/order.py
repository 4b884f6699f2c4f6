"""Which clip a row of somebody's HDF5 file is: lists of ids, AVE's annotations, index files.

Source of the formats: Tian et al., "Audio-Visual Event Localization in Unconstrained Videos", ECCV
2018 (YapengTian/AVE-ECCV18).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from pipeline.errors import UserError

__all__ = ["read_order"]

INDEX = "order"
"""Name of the one data set of AVE's index files."""
FIELDS = 5
"""``Category&VideoID&Quality&StartTime&EndTime``; the times are the event's, inside the clip."""
HEADER = "VideoID"


def read_order(order: Sequence[Path], annotations: Path | None, rows: int) -> list[str]:
    """Reads the id of every row.

    Args:
        order: One text file (an id a line, or AVE's ``Annotations.txt``), or index files
            (``train_order.h5`` and its like), which pick lines of the annotations.
        annotations: ``Annotations.txt`` or a list of ids, for index files only.
        rows: Rows of the HDF5 file.

    Returns:
        An id a row. A file with as many rows as there are annotations holds all of them in their
        order, whatever the index files pick; else it holds what they pick, in their order.

    Raises:
        UserError: If a file cannot be read or makes no sense, or the numbers do not fit.
    """
    indexed = [path for path in order if _is_hdf5(path)]
    if not indexed:
        if len(order) != 1 or annotations is not None:
            raise UserError(
                "--order takes one text file, or index files such as train_order.h5 together with "
                "--annotations; leave out the rest."
            )
        ids = _read_ids(order[0])
        _check_count(len(ids), rows, str(order[0]))
        return ids
    if len(indexed) < len(order) or annotations is None:
        raise UserError(
            f"The index file {indexed[0]} picks lines of a list; name that list, such as AVE's "
            "Annotations.txt, with --annotations, and index files only with --order."
        )
    ids = _read_ids(annotations)
    picked = np.concatenate([_read_index(path, len(ids), annotations) for path in indexed])
    if rows == len(ids):
        return ids
    _check_count(len(picked), rows, f"{' + '.join(map(str, indexed))} (or {annotations})")
    return [ids[n] for n in picked]


def _is_hdf5(path: Path) -> bool:
    try:
        return h5py.is_hdf5(path)
    except OSError:
        return False


def _read_ids(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"The list {path} cannot be read ({reason}); correct its path.") from error
    ids = []
    for number, line in enumerate(lines, 1):
        # A category may hold anything but the last four fields are of a fixed kind.
        fields = line.strip().rsplit("&", FIELDS - 1)
        name = fields[1] if len(fields) == FIELDS else line.strip()
        if not name:
            raise UserError(f"{path.name} line {number}: the line is blank; delete it.")
        if number > 1 or name != HEADER:
            ids.append(name)
    return ids


def _read_index(path: Path, count: int, annotations: Path) -> np.ndarray:
    try:
        with h5py.File(path, "r") as file:
            key = INDEX if INDEX in file else next(iter(file), INDEX)
            index = np.asarray(file[key][()])
    except (OSError, KeyError, TypeError) as error:
        raise UserError(
            f"The index file {path} has no data set {INDEX!r}; pass one such as AVE's "
            "train_order.h5."
        ) from error
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise UserError(f"{path} holds no list of whole numbers; pass an index file.")
    if len(index) and not 0 <= index.min() <= index.max() < count:
        raise UserError(
            f"{path} picks line {index.max()} of the {count} in {annotations}; pass the list that "
            "belongs to it."
        )
    return index.astype(np.int64)


def _check_count(count: int, rows: int, what: str) -> None:
    if count != rows:
        raise UserError(
            f"The HDF5 file has {rows} rows and {what} names {count}; pass the order of that file."
        )
