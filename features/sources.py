"""Which file a manifest row means: content digests of videos, remembered by size and time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import struct
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.files import append_lines, file_digest, object_digest
from pipeline.manifest import Manifest, Row

__all__ = ["NULL_MEDIA", "Source", "Sources", "file_stamp", "missing_media", "row_media"]

CACHE = "sources.jsonl"
HASH_BLOCK = 256
"""Files hashed before what was learnt is written down, so that an interruption loses little."""
HASH_PART = 8
"""Files hashed by one call of a thread: for small ones the call costs more than the work."""

NULL_MEDIA = "null://"
"""Videos whose name begins so need no file: planning and committing are rehearsed with them."""

_STAMP = struct.Struct("<qq")

_SENSELESS = (ValueError, KeyError, TypeError, AttributeError, struct.error)
"""What reading a line that makes no sense raises."""

# Dataset and media root; a video that is an absolute path has the root "".
_Place = tuple[str, str]


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


def row_media(dataset: str, row_id: str) -> str:
    """The pseudo digest of a manifest row, for features that come from no file of ours."""
    return f"row:{object_digest([dataset, row_id], 32)}"


def file_stamp(path: str) -> tuple[int, int]:
    """Size and modification time of a file.

    Raises:
        OSError: If there is none, or it is a folder, a pipe or a device.
    """
    if path.startswith(NULL_MEDIA):
        return 0, 0
    try:
        status = os.stat(path)
    except ValueError as error:
        # A zero byte, or half of a surrogate pair.
        raise OSError("no file can have such a name") from error
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is a folder, a pipe or a device and no regular file")
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
        # By place and video, stamp and digest as 48 bytes: a corpus has a million of them.
        self._places: dict[_Place, dict[str, bytes]] = {}
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
        found: dict[str, Source] = {}
        unknown: dict[str, tuple[str, tuple[int, int]]] = {}
        for video in dict.fromkeys(row.video for row in rows if row.video is not None):
            own_root, path = _find(root, video)
            known = self._places.get((dataset, own_root), {}).get(video)
            try:
                stamp = file_stamp(path)
            except OSError as error:
                found[video] = self._gone(dataset, video, path, error)
                continue
            if known is not None and known[: _STAMP.size] == _STAMP.pack(*stamp):
                found[video] = Source((_digest_of(known),), path, stamp)
            else:
                unknown[video] = path, stamp
        if unknown:
            found |= self._learn(dataset, unknown)
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
                parts = _blocks([files[video] for video in block], HASH_PART)
                digests = [digest for part in pool.map(self._hash, parts) for digest in part]
                for video, digest in zip(block, digests, strict=True):
                    path, stamp = files[video]
                    if isinstance(digest, OSError):
                        found[video] = self._gone(dataset, video, path, digest)
                    else:
                        lines.append(_line(dataset, video, path, stamp, digest))
                        found[video] = Source((digest,), path, stamp)
                self._remember(lines)
        return found

    def _hash(self, files: Sequence[tuple[str, tuple[int, int]]]) -> list[str | OSError]:
        digests: list[str | OSError] = []
        for path, stamp in files:
            known = self._known(path)
            if known is not None and known[: _STAMP.size] == _STAMP.pack(*stamp):
                digests.append(_digest_of(known))
                continue
            try:
                digests.append(_content_digest(path))
            except OSError as error:
                digests.append(error)
        return digests

    def _known(self, path: str) -> bytes | None:
        """What is known of a file under whatever name."""
        for (_, root), videos in self._places.items():
            video = path[len(root) + 1 :] if root and path.startswith(f"{root}{os.sep}") else path
            if (known := videos.get(video)) is not None and _find(root, video)[1] == path:
                return known
        return None

    def _gone(self, dataset: str, video: str, path: str, error: OSError) -> Source:
        media = (*self._recorded(dataset, video, path), missing_media(dataset, video))
        return Source(media, problem=error.strerror or str(error))

    def _recorded(self, dataset: str, video: str, path: str) -> tuple[str, ...]:
        """The digest of a file that is gone: by its path, else by its name if that is unique."""
        known = self._known(path)
        if known is not None:
            return (_digest_of(known),)
        digests = {
            _digest_of(videos[video])
            for (name, _), videos in self._places.items()
            if name == dataset and video in videos
        }
        return tuple(digests) if len(digests) == 1 else ()

    def _remember(self, lines: Sequence[dict[str, Any]]) -> None:
        if not lines:
            return
        for line in lines:
            self._note(line)
        # A store on a read-only disk can be read all the same; it only hashes again next time.
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_lines(self.path, (json.dumps(line, ensure_ascii=False) for line in lines))

    def _catch_up(self) -> None:
        """Reads what this and other processes have appended since."""
        read = json.JSONDecoder().raw_decode
        with contextlib.suppress(FileNotFoundError), open(self.path, "rb") as file:
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read_to += len(line)
                # A line cut short by a full disk loses one digest, which is computed again.
                with contextlib.suppress(*_SENSELESS):
                    self._note(read(line.decode())[0])

    def names(self, media: Collection[str]) -> dict[str, str]:
        """The video that each of some digests belongs to, where it was ever met."""
        self._catch_up()
        return {
            digest: video
            for videos in self._places.values()
            for video, known in videos.items()
            if (digest := _digest_of(known)) in media
        }

    def _note(self, line: dict[str, Any]) -> None:
        dataset, video, path = line["dataset"], line["video"], line["path"]
        digest = bytes.fromhex(line["sha256"])
        if not path.endswith(video) or len(digest) != 32:
            raise ValueError("not a line of this cache")
        root = path[: -len(video) - 1]
        known = _STAMP.pack(line["size"], line["mtime_ns"]) + digest
        self._places.setdefault((dataset, root), {})[video] = known


def _find(root: str, video: str) -> tuple[str, str]:
    """The root that a video's path really begins with, and the path."""
    if os.path.isabs(video) or video.startswith(NULL_MEDIA):
        return "", video
    return root, f"{root}{os.sep}{video}"


def _digest_of(known: bytes) -> str:
    return known[_STAMP.size :].hex()


def _content_digest(path: str) -> str:
    if path.startswith(NULL_MEDIA):
        return hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()
    return file_digest(path)


def _without_video(dataset: str, row: Row) -> Source:
    return Source((row_media(dataset, row.id),), problem="the manifest names no video")


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


def _blocks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[n : n + size] for n in range(0, len(items), size))
