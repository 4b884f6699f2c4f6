"""The index of a feature: its records in one file, a cache that is rebuilt whenever it is off."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from features.store.commit import set_aside
from features.store.layout import RECORD, SHARD, RowKey, ShardRecord
from pipeline.files import write_atomic

__all__ = ["FeatureIndex", "Place"]

INDEX = "index.jsonl"

Place = tuple[ShardRecord, int]
"""A shard and the number of a row in it."""


class FeatureIndex:
    """The committed shards of one feature and where each row lies.

    Args:
        folder: The feature's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: dict[str, tuple[list[int], ShardRecord]] = {}
        self._places: dict[tuple[str, float, float], Place] = {}
        self._damaged: tuple[str, ...] = ()
        self._read_cache()
        self.refresh()

    def refresh(self) -> FeatureIndex:
        """Compares with the folder and reads the records that are new or changed."""
        records, files = self._scan()
        entries: dict[str, tuple[list[int], ShardRecord]] = {}
        damaged = []
        for name, stamp in sorted(records.items()):
            known = self._entries.get(name)
            if known is not None and known[0] == stamp:
                entry = known
            else:
                try:
                    entry = (stamp, ShardRecord.read(self.folder / f"{name}{RECORD}"))
                except FileNotFoundError:
                    continue
                except ValueError:
                    damaged.append(name)
                    continue
            if files.get(name) == entry[1].size:
                entries[name] = entry
            else:
                damaged.append(name)
        self._damaged = tuple(damaged)
        if entries != self._entries:
            self._entries = entries
            self._write_cache()
            self._places = {}
        if not self._places:
            # Two runs with other shard sizes may hold one row twice; both hold the same values.
            for _, record in reversed(entries.values()):
                self._places.update((key, (record, n)) for n, key in enumerate(record.keys))
        return self

    def _scan(self) -> tuple[dict[str, list[int]], dict[str, int]]:
        """Records by (size, mtime) and shard files by size."""
        records: dict[str, list[int]] = {}
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

    def _read_cache(self) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            for line in (self.folder / INDEX).read_bytes().splitlines():
                value = json.loads(line)
                record = ShardRecord.from_json(value["record"])
                self._entries[record.shard] = (value["stamp"], record)

    def _write_cache(self) -> None:
        lines = []
        for stamp, record in self._entries.values():
            # What a reader does not need stays in the record: the index is read at every start.
            value = record.to_json() | {"environment": {}}
            lines.append(json.dumps({"stamp": stamp, "record": value}, ensure_ascii=False))
        # A store on a read-only disk works too, only without the cache.
        with contextlib.suppress(OSError):
            write_atomic(self.folder / INDEX, "\n".join(lines) + "\n" if lines else "")

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

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[RowKey]:
        return iter(self._places)

    def find(self, media: Sequence[str], start: float, end: float) -> Place | None:
        """Where the first of some candidates lies: its shard and its number in it."""
        for digest in media:
            # A plain tuple equals a RowKey and is made much faster, which a corpus notices.
            if (place := self._places.get((digest, start, end))) is not None:
                return place
        return None

    def status(self, key: RowKey) -> tuple[str, str]:
        """A row's status and reason."""
        record, n = self._places[key]
        return record.failures.get(n, ("ok", ""))
