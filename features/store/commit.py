"""Committing a shard: after a crash at any moment it is either there and whole, or not there."""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.spec import FeatureSpec
from features.store.claims import STALE, held
from features.store.layout import (
    BAD,
    CLAIM,
    RECORD,
    SHARD,
    Shard,
    ShardRecord,
    cannot_write,
    shard_name,
    write_shard,
)
from pipeline.files import file_digest, fsync_dir, sealed_json, write_atomic

__all__ = ["commit_shard", "find_committed", "prepare_folder", "set_aside"]

_TEMPORARY = re.compile(r"\.([0-9a-f]{16})\.(?:h5|json)\..+\.tmp")

_CLEARED: set[Path] = set()
"""Folders that this process has cleared of what killed ones left there."""


def prepare_folder(store: Path, spec: FeatureSpec) -> Path:
    """Makes a feature's folder with its ``spec.json``.

    Raises:
        UserError: If the store cannot be written.
    """
    folder = store / spec.folder
    path = folder / "spec.json"
    if not path.exists():
        try:
            write_atomic(path, sealed_json(spec.to_json(), indent=2))
        except OSError as error:
            raise cannot_write(store, error) from error
    return folder


def find_committed(folder: Path, name: str) -> ShardRecord | None:
    """The record of a committed shard, or None.

    A record without its file, with a file of another size, or that cannot be read, is set aside
    together with the file: the shard's rows are missing again.
    """
    path, file = folder / f"{name}{RECORD}", folder / f"{name}{SHARD}"
    try:
        record = ShardRecord.read(path)
        if file.stat().st_size == record.size:
            return record
    except FileNotFoundError:
        if not path.exists():
            return None
    except ValueError:
        pass
    set_aside(folder, name)
    return None


def set_aside(folder: Path, name: str) -> None:
    """Renames a damaged shard and its record, so that it no longer counts and can be looked at."""
    # The record goes first: what has no record does not exist, so a crash between is harmless.
    for suffix in (RECORD, SHARD):
        path = folder / f"{name}{suffix}"
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, path.with_name(path.name + BAD))


def commit_shard(
    store: Path,
    spec: FeatureSpec,
    shard: Shard,
    *,
    environment: Mapping[str, Any] | None = None,
) -> ShardRecord:
    """Writes a shard: temporary file, flush, fsync, digest, rename; then its record the same way.

    A shard that is already committed is left as it is.

    Args:
        store: The store's folder.
        spec: The feature.
        shard: N rows.
        environment: What to record beside it.

    Raises:
        UserError: If the store cannot be written.
    """
    folder = prepare_folder(store, spec)
    name = shard_name(spec.id, shard.keys)
    committed = find_committed(folder, name)
    if committed is not None:
        return committed
    # Beside every shard as well: a damaged spec.json is written again from what stands here.
    how = {} if spec.request is None else {"request": dict(spec.request)}
    try:
        return _write(folder, name, spec, shard, dict(environment or {}) | how)
    except OSError as error:
        raise cannot_write(store, error) from error


def _write(
    folder: Path, name: str, spec: FeatureSpec, shard: Shard, environment: dict[str, Any]
) -> ShardRecord:
    path = folder / f"{name}{SHARD}"
    _clear_left_overs(folder, name)
    temporary = folder / f".{name}{SHARD}.{uuid.uuid4().hex}.tmp"
    try:
        places = write_shard(temporary, shard, feature=spec.name, spec_id=spec.id)
        _sync(temporary)
        record = ShardRecord(
            shard=name,
            size=temporary.stat().st_size,
            sha256=file_digest(temporary),
            shape=tuple(shard.x.shape[1:]),
            dtype=shard.x.dtype.str,
            places=places,
            keys=shard.keys,
            lengths=tuple(int(n) for n in shard.offset[1:] - shard.offset[:-1]),
            failures={
                n: (status, reason)
                for n, (status, reason) in enumerate(zip(shard.status, shard.reason, strict=True))
                if status != "ok"
            },
            environment=environment,
        )
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_dir(folder)
    write_atomic(folder / f"{name}{RECORD}", sealed_json(record.to_json()))
    return record


def _clear_left_overs(folder: Path, name: str) -> None:
    """Deletes what processes that were killed left half written, before a process's first commit.

    Only then: a folder of thousands of shards takes longer to list than a shard takes to commit.
    Other runs' shards in the making are left alone.
    """
    if folder in _CLEARED:
        return
    _CLEARED.add(folder)
    live = set(held(folder)) - {name}
    with os.scandir(folder) as listing:
        for entry in listing:
            match = _TEMPORARY.fullmatch(entry.name)
            if match is None or match[1] in live:
                continue
            with contextlib.suppress(OSError):
                orphan = match[1] == name or (folder / f"{match[1]}{CLAIM}").exists()
                if orphan or time.time() - entry.stat().st_mtime > STALE:
                    os.unlink(entry.path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
