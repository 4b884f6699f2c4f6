"""Files of a store that no longer count: set aside, temporary, claims without an owner, orphans."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from features.store.claims import STALE, held
from features.store.layout import CLAIM

__all__ = ["Leftover", "feature_folders", "find_leftovers", "shard_files", "spec_id_of"]

_FOLDER = re.compile(r".+-([0-9a-f]{12})")
_NAME = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class Leftover:
    """A file that does no harm and counts for nothing.

    Attributes:
        path: The file.
        kind: What it is, for the user.
        size: Bytes.
    """

    path: Path
    kind: str
    size: int

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}: {self.kind}, {self.size} bytes"


def feature_folders(store: Path) -> list[Path]:
    """Every folder of a store that is named like a feature's, also without its spec."""
    return sorted(path for path in store.iterdir() if path.is_dir() and spec_id_of(path))


def spec_id_of(folder: Path) -> str:
    """The spec id in the name of a feature's folder; empty if it is none."""
    match = _FOLDER.fullmatch(folder.name)
    return match.group(1) if match else ""


def shard_files(folder: Path, suffix: str) -> set[str]:
    """Names of shards that have a file of this suffix."""
    names = (path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}"))
    return {name for name in names if _NAME.fullmatch(name)}


def find_leftovers(store: Path) -> list[Leftover]:
    """Temporary files and claims that nobody uses any more.

    What was set aside, and shards without a record, may hold rows that are nowhere else: see
    `features.store.checking`.
    """
    folders = [store, *(p for p in sorted(store.iterdir()) if p.is_dir() and not p.is_symlink())]
    return [leftover for folder in folders for leftover in _abandoned(folder)]


def _abandoned(folder: Path) -> Iterator[Leftover]:
    live = held(folder)
    for path in sorted(folder.iterdir()):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            if path.name.endswith(CLAIM) and path.stem not in live:
                yield Leftover(path, "a claim without owner", status.st_size)
            elif _temporary(path.name) and not live and time.time() - status.st_mtime > STALE:
                yield Leftover(path, "a temporary file", status.st_size)


def _temporary(name: str) -> bool:
    return name.startswith(".") and os.path.splitext(name)[1] in (".tmp", ".stale")
