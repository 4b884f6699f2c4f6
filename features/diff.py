"""Why two features differ: their specs, and how far apart their values are, clip by clip."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from features.naming import name_rows
from features.spec import dotted
from features.store import FeatureInfo, FeatureTable, RowKey, Store
from features.store.index import FeatureIndex, Place
from features.store.reading import read_rows
from pipeline.manifest import Manifest

__all__ = ["ClipDiff", "FeatureDiff", "SpecChange", "compare_features", "compare_specs"]

BLOCK = 256
"""Rows of a manifest that are in memory at a time."""


@dataclass(frozen=True)
class SpecChange:
    """A value that two specs do not share.

    Attributes:
        key: Its dotted key.
        side: ``"a"`` or ``"b"`` where only one spec has it, ``"both"`` where both do.
        a, b: The values, None where there is none.
    """

    key: str
    side: str
    a: Any = None
    b: Any = None


@dataclass(frozen=True)
class ClipDiff:
    """How far apart the values of one clip are.

    Attributes:
        clip: What the clip is called.
        cosine: Of all its values as one vector; of two zero vectors 1.
        deviation: Largest absolute difference of two values.
    """

    clip: str
    cosine: float
    deviation: float


@dataclass
class FeatureDiff:
    """What two features share and do not share.

    Attributes:
        a, b: Their stores and names.
        spec: Values of the specs that differ.
        rows_a, rows_b: Rows of each.
        shared: Rows of the same media and interval, or of the same manifest row.
        compared: Shared rows with values of equal shape on both sides.
        statuses: By ``"status in a, status in b"``, shared rows whose statuses differ.
        steps: By ``"steps in a, steps in b"``, shared rows of other lengths.
        shapes: The shapes of a step on both sides, where they differ; nothing is compared then.
        cosine_mean, cosine_min: Over compared rows; None where there are none.
        deviation: Largest absolute difference of two values.
        seconds: Largest difference of two steps' times.
        worst: Compared rows of the least cosine.
    """

    a: str
    b: str
    spec: list[SpecChange]
    rows_a: int = 0
    rows_b: int = 0
    shared: int = 0
    compared: int = 0
    statuses: dict[str, int] = field(default_factory=Counter)
    steps: dict[str, int] = field(default_factory=Counter)
    shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    cosine_mean: float | None = None
    cosine_min: float | None = None
    deviation: float | None = None
    seconds: float | None = None
    worst: list[ClipDiff] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        plain = replace(self, statuses=dict(self.statuses), steps=dict(self.steps))
        return asdict(plain)


def compare_specs(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[SpecChange]:
    """The values that two specs do not share, in the order of their keys."""
    left, right = dict(dotted(a)), dict(dotted(b))
    changes = []
    for key in sorted(left.keys() | right.keys()):
        if key not in right:
            changes.append(SpecChange(key, "a", a=left[key]))
        elif key not in left:
            changes.append(SpecChange(key, "b", b=right[key]))
        elif left[key] != right[key]:
            changes.append(SpecChange(key, "both", left[key], right[key]))
    return changes


def compare_features(
    a: tuple[Store, FeatureInfo],
    b: tuple[Store, FeatureInfo],
    *,
    manifests: Sequence[Manifest] = (),
    worst: int = 10,
) -> FeatureDiff:
    """Compares two features, in memory one shard or block of rows at a time.

    Rows are joined by media digest and interval. With manifests they are joined by manifest row,
    which also joins imported features, whose rows are filed under manifest rows, to computed ones.

    Args:
        a, b: A store and a feature of it; the stores may be one.
        manifests: Which rows to compare; none for all.
        worst: How many clips of least cosine to list.

    Raises:
        UserError: If a shard is damaged.
    """
    (store_a, info_a), (store_b, info_b) = a, b
    indexes = store_a.index(info_a.folder.name), store_b.index(info_b.folder.name)
    changes = compare_specs(info_a.values, info_b.values)
    diff = FeatureDiff(*(f"{store.path}:{info.label}" for store, info in (a, b)), spec=changes)
    diff.rows_a, diff.rows_b = info_a.rows, info_b.rows
    if info_a.shape != info_b.shape:
        diff.shapes = info_a.shape, info_b.shape
    tally = _Tally(worst)
    pairs = _pairs_by_manifest(a, b, indexes, manifests) if manifests else _pairs_by_key(*indexes)
    for keys, places_a, places_b in pairs:
        diff.shared += len(keys)
        ids = [""] * len(keys)
        table_a = read_rows(indexes[0], ids, places_a, name=info_a.label)
        table_b = read_rows(indexes[1], ids, places_b, name=info_b.label)
        for n, key in enumerate(keys):
            _compare_row(diff, tally, key, table_a, table_b, n)
    tally.write(diff, store_a, manifests)
    return diff


class _Tally:
    """Sums over clips; of single clips only the worst are kept."""

    def __init__(self, worst: int) -> None:
        self._most = worst
        self._heap: list[tuple[float, int, RowKey, float]] = []
        self.count = 0
        self.cosines = 0.0
        self.least = np.inf
        self.deviation = 0.0
        self.seconds = 0.0

    def add(self, key: RowKey, cosine: float, deviation: float, seconds: float) -> None:
        self.count += 1
        self.cosines += cosine
        self.least = min(self.least, cosine)
        self.deviation = max(self.deviation, deviation)
        self.seconds = max(self.seconds, seconds)
        # Equal cosines keep their order: the first clips are listed.
        heapq.heappush(self._heap, (-cosine, -self.count, key, deviation))
        if len(self._heap) > self._most:
            heapq.heappop(self._heap)

    def write(self, diff: FeatureDiff, store: Store, manifests: Sequence[Manifest]) -> None:
        diff.compared = self.count
        if not self.count:
            return
        diff.cosine_mean, diff.cosine_min = self.cosines / self.count, float(self.least)
        diff.deviation, diff.seconds = self.deviation, self.seconds
        names = name_rows(store, {key for _, _, key, _ in self._heap}, manifests)
        diff.worst = [
            ClipDiff(names[key], -cosine, deviation)
            for cosine, _, key, deviation in sorted(self._heap, reverse=True)
        ]


def _pairs_by_key(
    a: FeatureIndex, b: FeatureIndex
) -> Iterator[tuple[list[RowKey], list[Place], list[Place]]]:
    """Rows that both have, a shard of ``a`` at a time."""
    for record in a.records:
        # Of a row that two shards hold, the one that readers get counts.
        media, start, end = zip(*record.keys, strict=True)
        own, other = (index.find_all([(m,) for m in media], start, end) for index in (a, b))
        both = [
            (key, mine, theirs)
            for n, (key, mine, theirs) in enumerate(zip(record.keys, own, other, strict=True))
            if theirs is not None
            and mine is not None
            and (mine[0].shard, mine[1]) == (record.shard, n)
        ]
        if both:
            keys, places_a, places_b = zip(*both, strict=True)
            yield list(keys), list(places_a), list(places_b)


def _pairs_by_manifest(
    a: tuple[Store, FeatureInfo],
    b: tuple[Store, FeatureInfo],
    indexes: tuple[FeatureIndex, FeatureIndex],
    manifests: Sequence[Manifest],
) -> Iterator[tuple[list[RowKey], list[Place], list[Place]]]:
    """Rows that both have, a block of a manifest at a time."""
    seen: set[RowKey] = set()
    for manifest in manifests:
        for low in range(0, len(manifest.rows), BLOCK):
            rows = manifest.rows[low : low + BLOCK]
            times = [row.start for row in rows], [row.end for row in rows]
            places = [
                index.find_all(store.media(info, manifest, rows), *times)
                for (store, info), index in zip((a, b), indexes, strict=True)
            ]
            both = []
            for mine, theirs in zip(*places, strict=True):
                if mine is not None and theirs is not None:
                    key = mine[0].keys[mine[1]]
                    if key not in seen:
                        seen.add(key)
                        both.append((key, mine, theirs))
            if both:
                keys, places_a, places_b = zip(*both, strict=True)
                yield list(keys), list(places_a), list(places_b)


def _compare_row(
    diff: FeatureDiff, tally: _Tally, key: RowKey, a: FeatureTable, b: FeatureTable, n: int
) -> None:
    if a.status[n] != b.status[n]:
        diff.statuses[f"{a.status[n]}, {b.status[n]}"] += 1
        return
    if a.status[n] != "ok" or diff.shapes is not None:
        return
    if a.lengths[n] != b.lengths[n]:
        diff.steps[f"{a.lengths[n]}, {b.lengths[n]}"] += 1
        return
    x, y = (table.row(n).ravel().astype(np.float64) for table in (a, b))
    times = (table.t[table.offset[n] : table.offset[n + 1]] for table in (a, b))
    seconds = float(np.abs(np.subtract(*times)).max())
    tally.add(key, _cosine(x, y), float(np.abs(x - y).max()), seconds)


def _cosine(x: np.ndarray, y: np.ndarray) -> float:
    """Cosine of two vectors; a zero vector is like another zero vector and like nothing else."""
    if np.array_equal(x, y):
        return 1.0
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.clip(x @ y / size, -1.0, 1.0)) if size else 0.0
