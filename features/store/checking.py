"""Checking a store: every shard against its record, and every array against the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.store.layout import (
    DTYPES,
    RECORD,
    SHARD,
    Shard,
    ShardRecord,
    read_shard,
    shard_name,
)
from pipeline.errors import MEDIA_STATUSES
from pipeline.files import file_digest

__all__ = ["Damage", "check_feature"]


@dataclass(frozen=True)
class Damage:
    """A shard that is not what its record says."""

    feature: str
    shard: str
    problem: str

    def __str__(self) -> str:
        return f"{self.feature}/{self.shard}: {self.problem}"


def check_feature(
    folder: Path, spec_id: str, *, on_shard: Callable[[bool], None] | None = None
) -> Iterator[Damage]:
    """Checks all shards of one feature. Nothing is changed.

    Args:
        folder: The feature's folder.
        spec_id: Its spec id.
        on_shard: Told after every shard whether it is whole.

    Yields:
        What is damaged.
    """
    for path in sorted(folder.glob(f"*{RECORD}")):
        if path.stem == "spec" or path.name.startswith("."):
            continue
        problem = _check_shard(path, spec_id)
        if on_shard is not None:
            on_shard(problem is None)
        if problem is not None:
            yield Damage(folder.name, path.stem, problem)


def _check_shard(path: Path, spec_id: str) -> str | None:
    file = path.with_suffix(SHARD)
    try:
        record = ShardRecord.read(path)
    except (OSError, ValueError) as error:
        return f"the record cannot be read ({error})"
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        return "the record's file is gone"
    if size != record.size:
        return f"the file has {size} bytes, its record says {record.size}"
    try:
        if file_digest(file) != record.sha256:
            return "the file's digest is not its record's: its bytes were changed"
        shard, places = read_shard(file)
    except (OSError, KeyError, ValueError) as error:
        return f"the file cannot be read ({error})"
    return _check_arrays(shard, places, record, path.stem, spec_id)


def _check_arrays(
    shard: Shard, places: dict[str, int], record: ShardRecord, name: str, spec_id: str
) -> str | None:
    count, total = len(shard), int(shard.offset[-1]) if len(shard.offset) else -1
    if not len(shard.status) == len(shard.reason) == count or shard.offset.shape != (count + 1,):
        return "its arrays hold different numbers of rows"
    if shard.offset[0] != 0 or (np.diff(shard.offset) < 0).any():
        return "its offsets do not ascend from 0"
    if len(shard.x) != total or shard.t.shape != (total,):
        return f"x and t hold {len(shard.x)} and {len(shard.t)} steps, the offsets say {total}"
    if shard.x.dtype.name not in DTYPES or not np.isfinite(shard.x).all():
        return f"x is {shard.x.dtype} or not finite"
    for n, status in enumerate(shard.status):
        if status not in MEDIA_STATUSES or (status != "ok") != bool(shard.reason[n]):
            return f"row {n} has the status {status!r} and the reason {shard.reason[n]!r}"
        if (status == "ok") != (shard.offset[n + 1] > shard.offset[n]):
            return f"row {n} is {status} and has {shard.offset[n + 1] - shard.offset[n]} steps"
    told = (record.shard, record.keys, record.shape, record.dtype, record.lengths)
    found = (
        name,
        shard.keys,
        shard.x.shape[1:],
        shard.x.dtype.str,
        tuple(np.diff(shard.offset).tolist()),
    )
    if told != found or record.statuses() != list(shard.status):
        return "the record and the file tell of different rows"
    if total and {k: record.places[k] for k in places} != places:
        return "the record points at the wrong bytes of the file"
    if shard_name(spec_id, shard.keys) != name:
        return "the file's name is not the hash of its rows"
    return None
