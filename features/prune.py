"""Removing from a store what no longer counts, and nothing else.

pruning = plan_prune(Store("store"))
print(pruning)
pruning.carry_out()
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from features.sources import row_media
from features.store import Store
from features.store.checking import check_shard, find_strays
from features.store.claims import held
from features.store.index import FeatureIndex
from features.store.layout import BAD, RECORD, SHARD
from features.store.leftovers import feature_folders, find_leftovers, spec_id_of
from pipeline.errors import UserError, unknown_name
from pipeline.files import fsync_dir
from pipeline.manifest import Manifest

__all__ = ["Pruning", "Removal", "plan_prune"]

BLOCK = 4096
"""Manifest rows that are looked up at a time."""


@dataclass(frozen=True)
class Removal:
    """Files that go together.

    Attributes:
        paths: In the order they are removed: a record before its shard, so that after a crash
            between the two the shard does not count.
        why: What they are, for the user.
        size: Their bytes.
    """

    paths: tuple[Path, ...]
    why: str
    size: int


@dataclass(frozen=True)
class Pruning:
    """What pruning a store removes. Nothing is removed before `carry_out`.

    Attributes:
        removals: What goes.
        folders: Folders that go when they are empty.
        kept: What was set aside or has no record, and stays because its rows are nowhere else.
    """

    removals: tuple[Removal, ...]
    folders: tuple[Path, ...] = ()
    kept: tuple[Path, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that are gained."""
        return sum(removal.size for removal in self.removals)

    def carry_out(self) -> None:
        """Removes what is listed.

        Raises:
            UserError: If another run is at work on a feature, or a file cannot be removed.
        """
        _refuse_busy({path.parent for removal in self.removals for path in removal.paths})
        try:
            for removal in self.removals:
                for path in removal.paths:
                    path.unlink(missing_ok=True)
                    if path.name.endswith(RECORD):
                        fsync_dir(path.parent)
            for folder in self.folders:
                # What somebody else put there is not ours to remove.
                with contextlib.suppress(OSError):
                    folder.rmdir()
        except OSError as error:
            raise UserError(
                f"{error.filename} cannot be removed ({error.strerror}); mend its permissions and "
                "prune again."
            ) from error


def plan_prune(
    store: Store, *, features: Sequence[str] = (), keep: Sequence[Manifest] = ()
) -> Pruning:
    """Finds what no longer counts. Links out of the store are never followed.

    That is: what was set aside and redone, temporary files, claims without an owner, and shards all
    of whose rows are in other whole shards.

    Args:
        store: The store.
        features: Features (``name-specid``) to remove altogether.
        keep: Manifests; shards of which no row belongs to any of them go too. None: all rows stay.

    Raises:
        UserError: If there is no such feature, or another run is at work on one that is concerned.
    """
    store.count_shards()
    folders = {path.name: path for path in feature_folders(store.path) if not path.is_symlink()}
    for name in features:
        if name not in folders:
            raise unknown_name(f"feature of {store.path} named", name, folders)
    wanted = _keys(store, keep) if keep else None
    removals: list[Removal] = []
    kept: list[Path] = []
    for name, folder in folders.items():
        if name in features:
            removals += _whole_feature(folder)
        else:
            removals += _in_feature(folder, wanted, kept)
    gone = {path for removal in removals for path in removal.paths}
    for leftover in find_leftovers(store.path):
        if leftover.path not in gone:
            removals.append(Removal((leftover.path,), leftover.kind, leftover.size))
    _refuse_busy({path.parent for removal in removals for path in removal.paths})
    return Pruning(tuple(removals), tuple(folders[name] for name in features), tuple(kept))


def _refuse_busy(folders: Collection[Path]) -> None:
    for folder in sorted(folders):
        if live := held(folder):
            raise UserError(
                f"Another run is at work on {folder.name} (shard {live[0]}); prune when it has "
                "ended."
            )


def _keys(store: Store, manifests: Sequence[Manifest]) -> set[tuple[str, float, float]]:
    """Everything that rows of some manifests may be filed under."""
    keys: set[tuple[str, float, float]] = set()
    for manifest in manifests:
        dataset = manifest.header.dataset
        for low in range(0, len(manifest.rows), BLOCK):
            rows = manifest.rows[low : low + BLOCK]
            for row, source in zip(rows, store.sources.resolve(manifest, rows), strict=True):
                for media in (*source.media, row_media(dataset, row.id)):
                    keys.add((media, row.start, row.end))
    return keys


def _whole_feature(folder: Path) -> Iterator[Removal]:
    """Every file of a feature that is one of ours: records, then shards, then the rest."""
    ours = [path for path in sorted(folder.iterdir()) if path.is_symlink() or path.is_file()]
    order = {RECORD: 0, SHARD: 1}
    for path in sorted(ours, key=lambda path: order.get(path.suffix, 2)):
        yield Removal((path,), "the feature is removed", path.lstat().st_size)


def _in_feature(
    folder: Path, wanted: set[tuple[str, float, float]] | None, kept: list[Path]
) -> Iterator[Removal]:
    """What goes of a feature that stays."""
    index = FeatureIndex(folder)
    going: set[str] = set()
    if wanted is not None:
        for record in index.records:
            if not any(key in wanted for key in record.keys):
                going.add(record.shard)
                yield _shard(folder, record.shard, "no row of it is in the manifests")
    for name in _repeated(folder, index, going):
        yield _shard(folder, name, "all its rows are in other shards")
    leftovers, lost = find_strays(folder, index)
    for leftover in leftovers:
        yield Removal((leftover.path,), leftover.kind, leftover.size)
    for item in lost:
        paths = [
            folder / f"{item.shard}{half}{end}" for half in (RECORD, SHARD) for end in ("", BAD)
        ]
        paths = [path for path in paths if path.exists()]
        unwanted = wanted is not None and item.keys is not None
        if unwanted and not any(key in wanted for key in item.keys):
            size = sum(path.lstat().st_size for path in paths)
            yield Removal(tuple(paths), "no row of it is in the manifests", size)
        else:
            kept += paths


def _shard(folder: Path, name: str, why: str) -> Removal:
    paths = tuple(folder / f"{name}{half}" for half in (RECORD, SHARD))
    return Removal(paths, why, sum(path.lstat().st_size for path in paths))


def _repeated(folder: Path, index: FeatureIndex, going: set[str]) -> Iterator[str]:
    """Shards all of whose rows are in shards that stay and are whole, the smallest first."""
    records = [record for record in index.records if record.shard not in going]
    if len(index) == sum(len(record.keys) for record in index.records):
        return
    counts = Counter(key for record in records for key in record.keys)
    spec_id = spec_id_of(folder)
    whole: dict[str, bool] = {}
    for record in sorted(records, key=lambda record: (len(record.keys), record.shard)):
        if not all(counts[key] > 1 for key in record.keys):
            continue
        others = [
            other
            for other in records
            if other is not record
            and other.shard not in going
            and not set(other.keys).isdisjoint(record.keys)
        ]
        for other in others:
            if other.shard not in whole:
                whole[other.shard] = check_shard(folder, other.shard, spec_id)[1] is None
        sound = {key for other in others if whole[other.shard] for key in other.keys}
        if sound.issuperset(record.keys):
            going.add(record.shard)
            counts.subtract(record.keys)
            yield record.shard
