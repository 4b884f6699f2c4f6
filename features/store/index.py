"""The index of a feature: its records in one file, a cache that is rebuilt whenever it is off.

For a corpus of 650,000 clips a feature has some 5,000 shards. What is kept of a row in memory is
its key and its length, about a hundred bytes, and of the cache only what is new is written.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from features.store.commit import set_aside
from features.store.layout import RECORD, SHARD, RowKey, RowKeys, ShardRecord
from pipeline.files import append_lines, json_bytes, write_atomic

__all__ = ["FeatureIndex", "Place"]

INDEX = "index.jsonl"

Place = tuple[ShardRecord, int]
"""A shard and the number of a row in it."""

Stamp = list[int]
"""Size and modification time of a record's file."""


class FeatureIndex:
    """The committed shards of one feature and where each row lies.

    Args:
        folder: The feature's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: dict[str, tuple[Stamp, ShardRecord]] = {}
        self._damaged: tuple[str, ...] = ()
        self._rows: _Rows | None = None
        lines, cached = self._read_cache()
        self._refresh(cached, lines)

    def refresh(self) -> FeatureIndex:
        """Compares with the folder and reads the records that are new or changed."""
        self._refresh(self._entries, len(self._entries))
        return self

    def _refresh(self, known: dict[str, tuple[Stamp, ShardRecord]], lines: int) -> None:
        """Brings the entries up to date.

        Args:
            known: What is known already.
            lines: Lines of the cache, or -1 if it has to be written anew.
        """
        records, files = self._scan()
        entries: dict[str, tuple[Stamp, ShardRecord]] = {}
        fresh: list[str] = []
        damaged = []
        for name, stamp in sorted(records.items()):
            entry = known.get(name)
            if entry is None or entry[0] != stamp:
                try:
                    entry = (stamp, self._read(name))
                except FileNotFoundError:
                    continue
                except ValueError:
                    damaged.append(name)
                    continue
                fresh.append(name)
            if files.get(name) == entry[1].size:
                entries[name] = entry
            else:
                damaged.append(name)
        self._damaged = tuple(damaged)
        if fresh or entries.keys() != self._entries.keys():
            self._rows = None
        self._entries = entries
        self._write_cache([name for name in fresh if name in entries], lines)

    def _read(self, name: str) -> ShardRecord:
        record = ShardRecord.read(self.folder / f"{name}{RECORD}")
        if record.shard != name:
            raise ValueError(f"the record of {name} calls its shard {record.shard}")
        # What a reader does not need stays in the record.
        return replace(record, environment={})

    def _scan(self) -> tuple[dict[str, Stamp], dict[str, int]]:
        """Records by (size, mtime) and shard files by size."""
        records: dict[str, Stamp] = {}
        files: dict[str, int] = {}
        with os.scandir(self.folder) as listing:
            for entry in listing:
                name, suffix = os.path.splitext(entry.name)
                if name.startswith(".") or suffix not in (RECORD, SHARD) or name == "spec":
                    continue
                with contextlib.suppress(FileNotFoundError):
                    stat = entry.stat()
                    if suffix == RECORD:
                        records[name] = [stat.st_size, stat.st_mtime_ns]
                    else:
                        files[name] = stat.st_size
        return records, files

    def _read_cache(self) -> tuple[int, dict[str, tuple[Stamp, ShardRecord]]]:
        """Reads the cache; returns its number of lines, -1 if one makes no sense, and entries."""
        lines, entries = 0, {}
        try:
            with open(self.folder / INDEX, "rb") as file:
                for lines, line in enumerate(file, start=1):  # noqa: B007
                    stamp, record = _from_line(line)
                    entries[record.shard] = (stamp, record)
        except FileNotFoundError:
            return 0, {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return -1, entries
        return lines, entries

    def _write_cache(self, fresh: Sequence[str], lines: int) -> None:
        """Appends what is new, or writes the cache anew when half of it is no longer true."""
        known = len(self._entries) - len(fresh)
        # A store on a read-only disk works too, only without the cache.
        with contextlib.suppress(OSError):
            if not 0 <= lines <= 2 * known:
                every = [_line(*entry) + "\n" for entry in self._entries.values()]
                write_atomic(self.folder / INDEX, json_bytes("".join(every)))
            elif fresh:
                append_lines(self.folder / INDEX, (_line(*self._entries[n]) for n in fresh))

    def set_aside_damaged(self) -> tuple[str, ...]:
        """Renames shards whose record and file do not fit together; returns their names."""
        for name in self._damaged:
            set_aside(self.folder, name)
        damaged, self._damaged = self._damaged, ()
        return damaged

    @property
    def records(self) -> tuple[ShardRecord, ...]:
        """Committed shards, sorted by name."""
        return tuple(record for _, record in self._entries.values())

    @property
    def _table(self) -> _Rows:
        if self._rows is None:
            keys = RowKeys.join([record.keys for record in self.records])
            low = 0
            for name, (stamp, record) in self._entries.items():
                high = low + len(record.keys)
                # Views, so that a corpus of keys is in memory once.
                self._entries[name] = stamp, replace(record, keys=keys[low:high])
                low = high
            self._rows = _Rows(self.records, keys)
        return self._rows

    def __len__(self) -> int:
        return self._table.distinct

    def __contains__(self, key: object) -> bool:
        return isinstance(key, tuple) and self.find((key[0],), key[1], key[2]) is not None

    def __iter__(self) -> Iterator[RowKey]:
        # Two runs with other shard sizes may hold one row twice.
        return iter(dict.fromkeys(key for record in self.records for key in record.keys))

    def find_all(
        self, media: Sequence[Sequence[str]], start: Sequence[float], end: Sequence[float]
    ) -> list[Place | None]:
        """Where many rows lie, at a small part of the price of as many `find`.

        Args:
            media: For each of N rows what it may be filed under, best first.
            start, end: N times in seconds.

        Returns:
            N places, None for a row that is not there.
        """
        places: list[Place | None] = [None] * len(media)
        left, choice = list(range(len(media))), 0
        while left := [n for n in left if len(media[n]) > choice]:
            keys = RowKeys.of(
                (media[n][choice] for n in left),
                (start[n] for n in left),
                (end[n] for n in left),
            )
            for n, place in zip(left, self._table.locate(keys), strict=True):
                places[n] = place
            left, choice = [n for n in left if places[n] is None], choice + 1
        return places

    def find(self, media: Sequence[str], start: float, end: float) -> Place | None:
        """Where the first of some candidates lies: its shard and its number in it."""
        return self.find_all([media], [start], [end])[0]

    def status(self, key: RowKey) -> tuple[str, str]:
        """A row's status and reason.

        Raises:
            KeyError: If it is not there.
        """
        place = self.find((key.media,), key.start, key.end)
        if place is None:
            raise KeyError(key)
        return place[0].failures.get(place[1], ("ok", ""))


class _Rows:
    """Rows of some shards, found by their keys: sorted hashes, and the keys to compare with."""

    def __init__(self, records: Sequence[ShardRecord], keys: RowKeys) -> None:
        self.records = records
        self.keys = keys
        counts = [len(record.lengths) for record in records]
        self.first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        hashes = self.keys.hashes()
        self.order = np.argsort(hashes, kind="stable").astype(np.int64)
        self.hashes = hashes[self.order]
        # Rows that are there twice hold the same values; the shard first by name counts.
        _, first = np.unique(hashes, return_index=True)
        self.distinct = len(first) if len(first) == len(hashes) else len(set(self.keys))

    def locate(self, keys: RowKeys) -> list[Place | None]:
        wanted = keys.hashes()
        found = np.full(len(keys), -1, dtype=np.int64)
        at = np.searchsorted(self.hashes, wanted)
        open_ = np.arange(len(keys))
        while True:
            # Different keys of one hash stand beside each other.
            open_ = open_[at[open_] < len(self.hashes)]
            open_ = open_[self.hashes[at[open_]] == wanted[open_]]
            if not len(open_):
                break
            row = self.order[at[open_]]
            same = (
                (self.keys.media[row] == keys.media[open_])
                & (self.keys.start[row] == keys.start[open_])
                & (self.keys.end[row] == keys.end[open_])
            )
            found[open_[same]] = row[same]
            open_ = open_[~same]
            at[open_] += 1
        shard = np.searchsorted(self.first, found, side="right") - 1
        number = found - self.first[shard]
        return [
            None if row < 0 else (self.records[s], n)
            for row, s, n in zip(found.tolist(), shard.tolist(), number.tolist(), strict=True)
        ]


def _line(stamp: Stamp, record: ShardRecord) -> str:
    """A line of the cache: columns are read several times as fast as a list a row."""
    keys = record.keys
    media = [text.decode("utf-8", "surrogatepass") for text in keys.media.tolist()]
    columns = {"media": media, "start": keys.start.tolist(), "end": keys.end.tolist()}
    value = replace(record, keys=()).to_json() | {"keys": columns, "stamp": stamp}
    return json.dumps(value, ensure_ascii=False)


def _from_line(line: bytes) -> tuple[Stamp, ShardRecord]:
    value: dict[str, Any] = json.loads(line)
    size, moment = value["stamp"]
    return [size, moment], ShardRecord.from_columns(value, **value["keys"])
