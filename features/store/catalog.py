"""The store as a whole: which features it has, and reading them by manifest row."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from features.sources import Sources, row_media
from features.spec import FeatureSpec
from features.store.checking import Damage, StoreCheck, check_store
from features.store.commit import commit_shard
from features.store.index import FeatureIndex, Place
from features.store.layout import RECORD, RowKey, Shard, ShardRecord
from features.store.leftovers import feature_folders, shard_files
from features.store.reading import read_rows
from features.store.table import FeatureTable
from pipeline.errors import UserError
from pipeline.files import store_dir
from pipeline.manifest import Manifest
from pipeline.manifest import Row as ManifestRow

__all__ = ["FeatureInfo", "Store", "import_command", "open_store"]


@dataclass(frozen=True)
class FeatureInfo:
    """One feature of a store: a name, a spec, and what is there of it.

    Attributes:
        name: The feature's name.
        id: Its spec id.
        folder: Where its shards are.
        values: Its spec.
        shape: Shape of one step; the last number is the feature's width.
        dtype: Type it is stored in.
        shards, rows, failed, steps, size: Committed shards, rows, rows without features, steps,
            and bytes on disk.
    """

    name: str
    id: str
    folder: Path
    values: Mapping[str, Any] = field(compare=False, repr=False)
    shape: tuple[int, ...] = ()
    dtype: str = ""
    shards: int = 0
    rows: int = 0
    failed: int = 0
    steps: int = 0
    size: int = 0

    @property
    def label(self) -> str:
        """The unambiguous name, ``name-specid``."""
        return f"{self.name}-{self.id}"

    @property
    def width(self) -> int:
        """Length of a step's last axis."""
        return self.shape[-1] if self.shape else 1

    @property
    def imported(self) -> bool:
        """Whether somebody else computed it: its rows are then keyed by manifest row."""
        return "imported" in self.values

    @property
    def hop(self) -> float | None:
        """Seconds from one segment to the next, where the spec states a regular grid."""
        hop = self.values.get("grid", {}).get("hop")
        return None if hop is None else float(hop)


def import_command(name: str, values: Mapping[str, Any], where: str) -> str:
    """The command that an imported feature's rows are imported with.

    Args:
        name: The feature.
        values: Its spec.
        where: The options that name manifest and store.
    """
    kind = values["imported"]["format"]
    if kind == "simulated":
        return "features.simulated.simulated_corpus, into the folder of the manifest"
    source = "file" if kind == "hdf5" else "folder"
    named = "" if kind == "llp" else f" --name {name}"
    return (
        f"python -m features import-{kind} {source.upper()}{named} {where}, from the {source} that "
        "the others came from"
    )


class Store:
    """A folder of features.

    Args:
        path: The folder; default `pipeline.files.store_dir`. It need not exist before something
            is committed.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self.path = store_dir() if path is None else Path(path)
        self.sources = Sources(self.path)
        self._indexes: dict[Path, FeatureIndex] = {}

    def index(self, folder: Path | str, *, refresh: bool = True) -> FeatureIndex | None:
        """The index of a feature's folder, or None if there is no such folder.

        Args:
            folder: The folder's name.
            refresh: Whether to look for what has changed since it was read, which costs a look at
                every file of the folder.
        """
        folder = self.path / folder
        known = self._indexes.get(folder)
        if known is not None and not refresh:
            return known
        if not folder.is_dir():
            return None
        self._indexes[folder] = FeatureIndex(folder) if known is None else known.refresh()
        return self._indexes[folder]

    def features(self) -> list[FeatureInfo]:
        """Every feature with at least one committed shard, sorted by name and spec id.

        Raises:
            UserError: If there is no store, or a ``spec.json`` is damaged.
        """
        self._must_exist()
        infos = [self._info(path) for path in sorted(self.path.glob("*/spec.json"))]
        return sorted((i for i in infos if i.shards), key=lambda info: (info.name, info.id))

    def _must_exist(self) -> None:
        if not self.path.is_dir():
            raise UserError(
                f"There is no feature store at {self.path}; make one with python -m flows.extract "
                f"--manifest M --store {self.path} --features NAME ..., or correct --store."
            )

    def _info(self, path: Path) -> FeatureInfo:
        try:
            spec = FeatureSpec.read(path)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} is damaged ({error}); python -m features verify {self.path} --repair "
                "writes it again."
            ) from error
        index = self.index(path.parent.name)
        records = () if index is None else index.records
        return FeatureInfo(
            spec.name,
            spec.id,
            path.parent,
            spec.values,
            records[0].shape if records else (),
            np.dtype(records[0].dtype).name if records else "",
            len(records),
            sum(len(record.keys) for record in records),
            sum(len(record.failures) for record in records),
            sum(sum(record.lengths) for record in records),
            sum(record.size for record in records),
        )

    def find(self, name: str) -> FeatureInfo:
        """One feature by name, or by ``name-specid`` where a name has several specs.

        Raises:
            UserError: If there is no store, no such feature, or more than one.
        """
        infos = self.features()
        exact = [info for info in infos if info.label == name]
        matches = exact or [info for info in infos if info.name == name]
        if len(matches) > 1:
            raise UserError(
                f"The store {self.path} has {len(matches)} specs of {name!r}; choose one of "
                f"{', '.join(info.label for info in matches)} (python -m features ls {self.path} "
                "tells how they differ)."
            )
        if not matches:
            there = ", ".join(sorted({info.name for info in infos})) or "nothing yet"
            raise UserError(
                f"The store {self.path} has no feature {name!r} (it has: {there}); extract it with "
                f"python -m flows.extract --manifest M --store {self.path} "
                f"--features {re.sub('-[0-9a-f]{12}$', '', name)}."
            )
        return matches[0]

    def rows(self, info: FeatureInfo) -> set[RowKey]:
        """Keys of all committed rows of a feature, failed ones too."""
        index = self.index(info.folder.name)
        return set() if index is None else set(index)

    def commit(
        self, spec: FeatureSpec, shard: Shard, *, environment: Mapping[str, Any] | None = None
    ) -> ShardRecord:
        """Commits a shard; see `features.store.commit.commit_shard`."""
        return commit_shard(self.path, spec, shard, environment=environment)

    def read(
        self, info: FeatureInfo, manifest: Manifest, rows: Sequence[ManifestRow]
    ) -> FeatureTable:
        """Reads the features of some manifest rows into memory.

        The videos need not be on this disk: a row whose file is gone is found by the data set
        and video name that were recorded when it was extracted.

        Args:
            info: The feature.
            manifest: The manifest that the rows belong to.
            rows: N rows, in any order, repeated or not.

        Returns:
            A table of N rows; failed rows have length 0 and a status.

        Raises:
            UserError: If rows were never extracted, or a shard is damaged.
        """
        index = self.index(info.folder.name)
        places: list[Place | None] = [None] * len(rows)
        if index is not None:
            media = self.media(info, manifest, rows)
            places = index.find_all(media, [row.start for row in rows], [row.end for row in rows])
        absent = [row.id for row, place in zip(rows, places, strict=True) if place is None]
        if index is None or absent:
            raise UserError(
                f"{len(absent)} of {len(rows)} rows have no {info.name} in the store {self.path} "
                f"(the first is {absent[0]!r}); {self._remedy(info, manifest)}."
            )
        return read_rows(index, [row.id for row in rows], places, name=info.label)

    def media(
        self, info: FeatureInfo, manifest: Manifest, rows: Sequence[ManifestRow]
    ) -> list[tuple[str, ...]]:
        """What a feature's rows may be filed under, best first.

        Media are looked at, and hashed where they are new, only for features that were computed
        from them; imported ones belong to the rows of a manifest.

        Args:
            info: The feature.
            manifest: The manifest that the rows belong to.
            rows: N rows.

        Returns:
            N tuples of digests.
        """
        if info.imported:
            dataset = manifest.header.dataset
            return [(row_media(dataset, row.id),) for row in rows]
        return [source.media for source in self.sources.resolve(manifest, rows)]

    def _remedy(self, info: FeatureInfo, manifest: Manifest) -> str:
        """How rows that a feature lacks are made."""
        where = f"--manifest {manifest.path} --store {self.path}"
        if not info.imported:
            return f"extract them with python -m flows.extract {where} --features {info.name}"
        return f"import them with {import_command(info.name, info.values, where)}"

    def verify(self, *, on_shard: Callable[[bool], None] | None = None) -> list[Damage]:
        """Hashes and opens every shard; nothing but caches is changed.

        Args:
            on_shard: Told after every shard whether it is whole.

        Raises:
            UserError: If there is no store.
        """
        return self.check(on_shard=on_shard).damage

    def count_shards(self) -> int:
        """Committed shards of all features, whole or not.

        Raises:
            UserError: If there is no store.
        """
        self._must_exist()
        return sum(len(shard_files(folder, RECORD)) for folder in feature_folders(self.path))

    def check(self, *, on_shard: Callable[[bool], None] | None = None) -> StoreCheck:
        """The same as `verify`, and what lies around besides.

        Args:
            on_shard: Told after every shard whether it is whole.

        Raises:
            UserError: If there is no store.
        """
        self._must_exist()
        check = check_store(self.path, on_shard=on_shard)
        # An index that was wrong on disk may have been read before.
        self._indexes.clear()
        return check


@lru_cache(maxsize=4)
def open_store(path: str) -> Store:
    """The store of a folder, one for a process: the shards of a run share its indexes."""
    return Store(path)
