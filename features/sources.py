"""Which file a manifest row means: content digests of videos, remembered by size and time."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.files import file_digest, object_digest
from pipeline.manifest import Manifest, Row

try:
    import fcntl
except ImportError:  # Not a POSIX system; appends of a few lines are whole there in practice.
    fcntl = None  # type: ignore[assignment]

__all__ = ["Source", "Sources", "file_stamp", "missing_media"]

CACHE = "sources.jsonl"
HASH_BLOCK = 256
"""Files hashed before what was learnt is written down, so that an interruption loses little."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a row's media are.

    Attributes:
        media: What the row's features may be filed under, best first: the digest of the file;
            where the file is gone, the digest it had, then a pseudo digest that says so.
        path: The file, or None where there is none to read.
        stamp: Its size and modification time in nanoseconds.
        problem: Why there is nothing to read.
    """

    media: tuple[str, ...]
    path: str | None = None
    stamp: tuple[int, int] | None = None
    problem: str = ""


def missing_media(dataset: str, video: str) -> str:
    """The pseudo digest of a video that is not there; it is redone when the file appears."""
    return f"missing:{object_digest([dataset, video], 32)}"


def file_stamp(path: str) -> tuple[int, int]:
    """Size and modification time of a file.

    Raises:
        OSError: If there is none, or it is a folder or a device.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is no regular file")
    return status.st_size, status.st_mtime_ns


class Sources:
    """The digests of all videos that a store has met.

    A file is hashed when it is met for the first time or when its size or modification time has
    changed. The cache is a file of lines that are only ever appended; the last one counts.

    Args:
        store: The store's folder.
    """

    def __init__(self, store: Path) -> None:
        self.path = store / CACHE
        self._by_path: dict[str, tuple[tuple[int, int], str]] = {}
        self._by_name: dict[tuple[str, str], list[str]] = {}
        self._known: dict[tuple[str, str, str], Source] = {}
        self._resolved: dict[tuple[str, str], dict[str, Source]] = {}
        self._read_to = 0

    def resolve(self, manifest: Manifest, rows: Sequence[Row]) -> list[Source]:
        """Finds the media of some rows, hashing files as needed.

        Args:
            manifest: The manifest they belong to.
            rows: N rows.

        Returns:
            N sources.
        """
        self._catch_up()
        dataset = manifest.header.dataset
        root = os.path.abspath(manifest.media_root)
        # Trainers ask for the same rows once a feature and split.
        before = self._resolved.setdefault((dataset, root), {})
        found: dict[str, Source] = {}
        unknown: dict[str, tuple[str, tuple[int, int]]] = {}
        for video in dict.fromkeys(row.video for row in rows if row.video is not None):
            if video in before and _unchanged(before[video]):
                found[video] = before[video]
                continue
            path = video if os.path.isabs(video) else f"{root}{os.sep}{video}"
            try:
                stamp = file_stamp(path)
            except OSError as error:
                found[video] = self._gone(dataset, video, path, error)
                continue
            known = self._known.get((dataset, video, path))
            if known is not None and known.stamp == stamp:
                found[video] = known
            else:
                unknown[video] = path, stamp
        if unknown:
            found |= self._learn(dataset, unknown)
        before.update((video, source) for video, source in found.items() if source.path is not None)
        return [
            _without_video(dataset, row) if row.video is None else found[row.video] for row in rows
        ]

    def _learn(
        self, dataset: str, files: dict[str, tuple[str, tuple[int, int]]]
    ) -> dict[str, Source]:
        """Hashes what is new or changed, and writes it down; also the new name of a known file."""
        found: dict[str, Source] = {}
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for block in _blocks(list(files), HASH_BLOCK):
                lines = []
                for video, digest in zip(
                    block, pool.map(self._digest, [files[v] for v in block]), strict=True
                ):
                    path, stamp = files[video]
                    if isinstance(digest, OSError):
                        found[video] = self._gone(dataset, video, path, digest)
                    else:
                        lines.append(_line(dataset, video, path, stamp, digest))
                        found[video] = Source((digest,), path, stamp)
                self._remember(lines)
        return found

    def _digest(self, file: tuple[str, tuple[int, int]]) -> str | OSError:
        path, stamp = file
        known = self._by_path.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            return file_digest(path)
        except OSError as error:
            return error

    def _gone(self, dataset: str, video: str, path: str, error: OSError) -> Source:
        media = (*self._recorded(dataset, video, path), missing_media(dataset, video))
        return Source(media, problem=error.strerror or str(error))

    def _recorded(self, dataset: str, video: str, path: str) -> tuple[str, ...]:
        """The digest of a file that is gone: by its path, else by its name if that is unique."""
        if path in self._by_path:
            return (self._by_path[path][1],)
        known = self._by_name.get((dataset, video), [])
        return tuple(known) if len(known) == 1 else ()

    def _remember(self, lines: Sequence[dict[str, Any]]) -> None:
        if not lines:
            return
        for line in lines:
            self._note(line)
        # A store on a read-only disk can be read all the same; it only hashes again next time.
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _append(self.path, "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines))

    def _catch_up(self) -> None:
        """Reads what this and other processes have appended since."""
        with contextlib.suppress(FileNotFoundError), open(self.path, "rb") as file:
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read_to += len(line)
                # A line cut short by a full disk loses one digest, which is computed again.
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    self._note(json.loads(line))

    def _note(self, line: dict[str, Any]) -> None:
        dataset, video, path, digest = (line[k] for k in ("dataset", "video", "path", "sha256"))
        stamp = line["size"], line["mtime_ns"]
        self._by_path[path] = stamp, digest
        self._known[dataset, video, path] = Source((digest,), path, stamp)
        names = self._by_name.setdefault((dataset, video), [])
        if digest not in names:
            names.append(digest)


def _unchanged(source: Source) -> bool:
    try:
        status = os.stat(source.path)
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == source.stamp


def _without_video(dataset: str, row: Row) -> Source:
    return Source(
        (f"row:{object_digest([dataset, row.id], 32)}",), problem="the manifest names no video"
    )


def _line(
    dataset: str, video: str, path: str, stamp: tuple[int, int], digest: str
) -> dict[str, Any]:
    return {
        "path": path,
        "size": stamp[0],
        "mtime_ns": stamp[1],
        "sha256": digest,
        "dataset": dataset,
        "video": video,
    }


def _blocks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[n : n + size] for n in range(0, len(items), size))


def _last_byte(handle: int) -> bytes:
    os.lseek(handle, -1, os.SEEK_END)
    return os.read(handle, 1)


def _append(path: Path, text: str) -> None:
    """Appends whole lines in one write, under a lock where the platform has one."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        # A writer that died in mid-line must not swallow the first line of the next one.
        cut = os.lseek(handle, 0, os.SEEK_END) > 0 and _last_byte(handle) != b"\n"
        os.write(handle, (b"\n" if cut else b"") + text.encode())
    finally:
        os.close(handle)
