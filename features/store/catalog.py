"""The store as a whole: which features it has, and reading them by manifest row."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from features.sources import Sources, row_media
from features.spec import FeatureSpec
from features.store.checking import Damage, check_feature
from features.store.commit import commit_shard
from features.store.index import FeatureIndex, Place
from features.store.layout import RowKey, Shard, ShardRecord
from features.store.reading import read_rows
from features.store.table import FeatureTable
from pipeline.errors import UserError
from pipeline.files import object_digest, store_dir
from pipeline.manifest import Manifest
from pipeline.manifest import Row as ManifestRow

__all__ = ["FeatureInfo", "Store"]


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

    def index(self, folder: Path | str) -> FeatureIndex | None:
        """The index of a feature's folder, up to date, or None if there is no such folder."""
        folder = self.path / folder
        if not folder.is_dir():
            return None
        if folder in self._indexes:
            return self._indexes[folder].refresh()
        self._indexes[folder] = FeatureIndex(folder)
        return self._indexes[folder]

    def features(self) -> list[FeatureInfo]:
        """Every feature with at least one committed shard, sorted by name and spec id.

        Raises:
            UserError: If there is no store, or a ``spec.json`` is damaged.
        """
        if not self.path.is_dir():
            raise UserError(
                f"There is no feature store at {self.path}; make one with python -m flows.extract "
                f"--manifest M --store {self.path} --features NAME ..., or correct --store."
            )
        infos = [self._info(path) for path in sorted(self.path.glob("*/spec.json"))]
        return sorted((i for i in infos if i.shards), key=lambda info: (info.name, info.id))

    def _info(self, path: Path) -> FeatureInfo:
        try:
            spec = json.loads(path.read_bytes())
            name, spec_id, values = spec["name"], spec["id"], spec["values"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error}); delete {path.parent} and extract it again."
            ) from error
        if object_digest(values) != spec_id or path.parent.name != f"{name}-{spec_id}":
            raise UserError(
                f"{path} was changed: its values are not those of {path.parent.name}; delete the "
                "folder and extract the feature again."
            )
        index = self.index(path.parent.name)
        records = () if index is None else index.records
        return FeatureInfo(
            name,
            spec_id,
            path.parent,
            values,
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
        places: list[Place] = []
        absent: list[str] = []
        for row, media in zip(rows, self.media(info, manifest, rows), strict=True):
            place = None if index is None else index.find(media, row.start, row.end)
            if place is None:
                absent.append(row.id)
            else:
                places.append(place)
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
        kind = info.values["imported"]["format"]
        what = "FILE" if kind == "hdf5" else "FOLDER"
        name = "" if kind == "llp" else f" --name {info.name}"
        return (
            f"import them with python -m features import-{kind} {what}{name} {where}, from the "
            f"{'file' if kind == 'hdf5' else 'folder'} that the others came from"
        )

    def verify(self, *, on_shard: Callable[[bool], None] | None = None) -> list[Damage]:
        """Hashes and opens every shard; nothing is changed.

        Args:
            on_shard: Told after every shard whether it is whole.

        Raises:
            UserError: If there is no store.
        """
        damage: list[Damage] = []
        self.features()
        for path in sorted(self.path.glob("*/spec.json")):
            spec_id = json.loads(path.read_bytes())["id"]
            damage += check_feature(path.parent, spec_id, on_shard=on_shard)
        return damage
