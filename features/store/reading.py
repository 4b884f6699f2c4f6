"""Reading rows out of shards: one system call for each run of rows that lie together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from features.store.index import FeatureIndex, Place
from features.store.layout import SHARD, ShardRecord
from features.store.table import FeatureTable
from pipeline.errors import UserError

__all__ = ["read_rows"]

THREADS = 4


def read_rows(
    index: FeatureIndex, ids: Sequence[str], places: Sequence[Place], *, name: str
) -> FeatureTable:
    """Reads rows into one new array.

    Args:
        index: The feature's index.
        ids: N row ids.
        places: Where the N rows lie.
        name: The feature, for errors.

    Returns:
        A table of N rows in the order of ``places``.

    Raises:
        UserError: If a shard vanished or is shorter than its record says.
    """
    fine = ("ok", "")
    failures = [record.failures.get(n, fine) for record, n in places]
    lengths = np.array([record.lengths[n] for record, n in places], dtype=np.int64)
    offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    records = {record.shard: record for record, _ in places}.values() or index.records
    shape, dtype = _common_shape(index, records, name)
    x = np.empty((int(offset[-1]), *shape), dtype=dtype)
    t = np.empty(int(offset[-1]), dtype=np.float64)

    def fill(shard: tuple[ShardRecord, list[list[int]]]) -> None:
        path = index.folder / f"{shard[0].shard}{SHARD}"
        _read_runs(path, *shard, offset, (("x", x), ("t", t)))

    # Reading into memory needs no Python, and what costs time is touching new pages.
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, _runs(places).values()))
    return FeatureTable(
        tuple(ids),
        x,
        offset,
        t,
        np.array([status for status, _ in failures], dtype="U12"),
        np.array([reason for _, reason in failures], dtype=object),
        name,
    )


def _common_shape(
    index: FeatureIndex, records: Iterable[ShardRecord], name: str
) -> tuple[tuple[int, ...], str]:
    kinds = {(record.shape, record.dtype) for record in records}
    if len(kinds) != 1:
        raise UserError(
            f"The shards of {name} differ in shape ({sorted(map(str, kinds))}); delete "
            f"{index.folder} and extract the feature again."
        )
    return kinds.pop()


def _runs(
    places: Sequence[Place],
) -> dict[str, tuple[ShardRecord, list[list[int]]]]:
    """Groups wanted rows by shard into runs [row in shard, row in table, count]."""
    runs: dict[str, tuple[ShardRecord, list[list[int]]]] = {}
    previous: tuple[str, int] | None = None
    for wanted, (record, n) in enumerate(places):
        if previous == (record.shard, n - 1):
            runs[record.shard][1][-1][2] += 1
        else:
            runs.setdefault(record.shard, (record, []))[1].append([n, wanted, 1])
        previous = (record.shard, n)
    return runs


def _read_runs(
    path: Path,
    record: ShardRecord,
    runs: Sequence[Sequence[int]],
    offset: np.ndarray,
    arrays: Sequence[tuple[str, np.ndarray]],
) -> None:
    """Fills each run's part of ``arrays`` from a shard's file."""
    inner = np.concatenate([[0], np.cumsum(record.lengths)])
    try:
        with open(path, "rb", buffering=0) as file:
            for dataset, array in arrays:
                step = array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
                for n, wanted, count in runs:
                    part = array[offset[wanted] : offset[wanted + count]]
                    if part.size == 0:
                        continue
                    file.seek(record.places[dataset] + int(inner[n]) * step)
                    view = memoryview(part).cast("B")
                    while len(view):
                        done = file.readinto(view)
                        if not done:
                            raise EOFError
                        view = view[done:]
    except (OSError, EOFError) as error:
        raise UserError(
            f"The shard {path.name} of {path.parent.name} cannot be read "
            f"({getattr(error, 'strerror', None) or 'it is cut short'}); run "
            f"python -m features verify {path.parent.parent}, then extract again."
        ) from error
