"""Which rows a damaged shard held: told by its record or file, or found by its name.

A shard's name is the hash of its spec and its rows, so rows that hash to the name are the right
ones, wherever they come from.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from features.store.layout import BAD, RECORD, SHARD, RowKey, ShardRecord, read_shard, shard_name
from pipeline.files import canonical_json

__all__ = ["LONGEST", "failure_reasons", "find_runs", "recorded_digest", "shard_keys"]

LONGEST = 512
"""Rows of a shard up to which `find_runs` looks."""


def shard_keys(
    folder: Path, name: str, spec_id: str, *, suffix: str = ""
) -> tuple[RowKey, ...] | None:
    """The rows of a shard of which one half is damaged.

    Args:
        folder: The feature's folder.
        name: The shard.
        spec_id: The feature's spec.
        suffix: `BAD` for a shard that was set aside.

    Returns:
        N keys, or None if neither half tells them.
    """
    for read, half in ((_keys_of_record, RECORD), (_keys_of_file, SHARD)):
        # Damaged bytes make these readers fail in more ways than they document.
        with contextlib.suppress(Exception):
            keys = read(folder / f"{name}{half}{suffix}")
            if shard_name(spec_id, keys) == name:
                return keys
    return None


def find_runs(
    spec_id: str, names: Collection[str], keys: Sequence[RowKey]
) -> Iterator[tuple[str, int, int]]:
    """Looks for shards among rows in manifest order: a plan puts neighbours into one shard.

    Args:
        spec_id: The feature's spec.
        names: Shards whose rows are not known.
        keys: N rows that no other shard holds.

    Yields:
        A shard's name and its rows' first and past-the-last number.
    """
    head, tail = canonical_json([spec_id, []]).encode()[:-2], b"]]"
    texts = [canonical_json(list(key)).encode("utf-8", "surrogatepass") for key in keys]
    wanted, low = set(names), 0
    while wanted and low < len(keys):
        growing = hashlib.sha256(head)
        for high, text in enumerate(texts[low : low + LONGEST], start=low + 1):
            growing.update(text if high == low + 1 else b"," + text)
            whole = growing.copy()
            whole.update(tail)
            name = whole.hexdigest()[:16]
            if name in wanted:
                wanted.remove(name)
                yield name, low, high
                low = high - 1
                break
        low += 1


def failure_reasons(folder: Path, name: str) -> dict[int, str]:
    """Reasons of a damaged shard's failed rows by row number, as far as its record tells."""
    reasons: dict[int, str] = {}
    for value in _raw_records(folder, name):
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
            reasons = {int(n): str(reason) for n, (_, reason) in value["failures"].items()}
    return reasons


def recorded_digest(folder: Path, name: str) -> str | None:
    """The digest that a shard's file had, by its own record or one that was set aside."""
    for suffix in (RECORD, RECORD + BAD):
        with contextlib.suppress(OSError, ValueError):
            return ShardRecord.read(folder / f"{name}{suffix}").sha256
    return None


def _raw_records(folder: Path, name: str) -> Iterator[Any]:
    for suffix in (RECORD + BAD, RECORD):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            yield json.loads((folder / f"{name}{suffix}").read_bytes())


def _keys_of_record(path: Path) -> tuple[RowKey, ...]:
    return tuple(RowKey(*key) for key in json.loads(path.read_bytes())["keys"])


def _keys_of_file(path: Path) -> tuple[RowKey, ...]:
    return read_shard(path)[0].keys
