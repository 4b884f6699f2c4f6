"""Checking a store: every shard against its record, and every array against the others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from features.spec import FeatureSpec
from features.store.claims import held
from features.store.index import INDEX, FeatureIndex
from features.store.layout import (
    BAD,
    DTYPES,
    RECORD,
    SHARD,
    RowKey,
    Shard,
    ShardRecord,
    read_shard,
    shard_name,
)
from features.store.leftovers import (
    Leftover,
    feature_folders,
    find_leftovers,
    shard_files,
    spec_id_of,
)
from features.store.lost import shard_keys
from pipeline.errors import MEDIA_STATUSES
from pipeline.files import file_digest

__all__ = ["SPEC", "Damage", "StoreCheck", "check_shard", "check_store", "find_strays"]

SPEC = "spec.json"


@dataclass(frozen=True)
class Damage:
    """A shard that is not what its record says, or a feature's spec that is not readable.

    Attributes:
        feature: The feature's folder.
        shard: The shard's name, or `SPEC`.
        problem: What is wrong.
        keys: The rows that are in it, or None where nothing readable tells; for a spec, None.
    """

    feature: str
    shard: str
    problem: str
    keys: tuple[RowKey, ...] | None = None

    def __str__(self) -> str:
        return f"{self.feature}/{self.shard}: {self.problem}"


@dataclass
class StoreCheck:
    """What a check found.

    Attributes:
        shards: Committed shards that were looked at.
        damage: What has to be repaired.
        leftovers: Files that do no harm.
        indexes: Features whose index told of other shards than there are; it was made anew.
    """

    shards: int = 0
    damage: list[Damage] = field(default_factory=list)
    leftovers: list[Leftover] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)


def check_store(store: Path, *, on_shard: Callable[[bool], None] | None = None) -> StoreCheck:
    """Hashes and opens every shard of a store. Only caches are ever changed.

    Args:
        store: The store's folder.
        on_shard: Told after every committed shard whether it is whole.
    """
    check = StoreCheck(leftovers=find_leftovers(store))
    for folder in feature_folders(store):
        _check_feature(folder, check, on_shard or (lambda whole: None))
    return check


def _check_feature(folder: Path, check: StoreCheck, on_shard: Callable[[bool], None]) -> None:
    names, spec_id = sorted(shard_files(folder, RECORD)), spec_id_of(folder)
    if problem := _spec_problem(folder, bool(names)):
        check.damage.append(Damage(folder.name, SPEC, problem))
    index = FeatureIndex(folder)
    known = {record.shard: record for record in index.records}
    true_index = True
    for name in names:
        record, problem = check_shard(folder, name, spec_id)
        on_shard(problem is None)
        if problem is not None:
            keys = shard_keys(folder, name, spec_id) if record is None else tuple(record.keys)
            check.damage.append(Damage(folder.name, name, problem, keys))
        elif name in known:
            true_index &= known[name] == replace(record, environment={})
    check.shards += len(names)
    if not true_index:
        with contextlib.suppress(OSError):
            (folder / INDEX).unlink()
        index = FeatureIndex(folder)
        check.indexes.append(folder.name)
    leftovers, damage = find_strays(folder, index)
    check.leftovers += leftovers
    check.damage += damage


def find_strays(folder: Path, index: FeatureIndex) -> tuple[list[Leftover], list[Damage]]:
    """Looks at shards without a record, and at what was set aside.

    Args:
        folder: The feature's folder.
        index: Its index.

    Returns:
        What is harmless, because its rows are in shards that have a record, and what is not.
    """
    leftovers: list[Leftover] = []
    damage: list[Damage] = []
    strays = [(name, "") for name in shard_files(folder, SHARD) - set(held(folder))]
    aside = shard_files(folder, RECORD + BAD) | shard_files(folder, SHARD + BAD)
    strays += [(name, BAD) for name in aside]
    for name, suffix in sorted(strays):
        # Looked at last: a run beside this one may have committed it meanwhile.
        if (folder / f"{name}{RECORD}").exists():
            if suffix:
                leftovers += _leftovers(folder, name, suffix, "set aside and redone")
            continue
        keys = shard_keys(folder, name, spec_id_of(folder), suffix=suffix)
        if keys is not None and all(key in index for key in keys):
            leftovers += _leftovers(folder, name, suffix, "its rows are in other shards")
        elif not suffix:
            lost = "the file has no record, so its rows do not count"
            damage.append(Damage(folder.name, name, lost, keys))
        elif keys is None:
            leftovers += _leftovers(folder, name, suffix, "set aside, nothing tells its rows")
        elif not (folder / f"{name}{SHARD}").exists():
            lost = "it was set aside, and its rows are in no other shard"
            damage.append(Damage(folder.name, name, lost, keys))
    return leftovers, damage


def _leftovers(folder: Path, name: str, suffix: str, kind: str) -> Iterator[Leftover]:
    for half in (RECORD, SHARD):
        path = folder / f"{name}{half}{suffix}"
        with contextlib.suppress(FileNotFoundError):
            yield Leftover(path, kind, path.lstat().st_size)


def _spec_problem(folder: Path, needed: bool) -> str | None:
    try:
        FeatureSpec.read(folder / SPEC)
    except FileNotFoundError:
        return "it is gone" if needed else None
    except (OSError, ValueError) as error:
        return f"it cannot be read ({error})"
    return None


def check_shard(folder: Path, name: str, spec_id: str) -> tuple[ShardRecord | None, str | None]:
    """Hashes and opens one shard.

    Args:
        folder: The feature's folder.
        name: The shard.
        spec_id: The feature's spec.

    Returns:
        Its record, if that can be read, and what is wrong with the shard.
    """
    try:
        record = ShardRecord.read(folder / f"{name}{RECORD}")
    except (OSError, ValueError) as error:
        return None, f"the record cannot be read ({error})"
    return record, _check_file(folder / f"{name}{SHARD}", record, spec_id)


def _check_file(file: Path, record: ShardRecord, spec_id: str) -> str | None:
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
    return _check_arrays(shard, places, record, file.stem, spec_id)


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
