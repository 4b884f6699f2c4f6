"""A folder of ``.npy`` files: what is in it, and the digest that names its content."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from features.importing.arrays import Form, Stamp, read_array, read_form
from pipeline.errors import MediaError, UserError
from pipeline.files import object_digest, write_atomic
from pipeline.progress import Advance

__all__ = [
    "ArrayFile",
    "ArrayFolder",
    "hash_file",
    "list_arrays",
    "most_frequent",
    "pieces",
    "scan_arrays",
]

T = TypeVar("T")

SUFFIX = ".npy"
CACHE = "imports"
"""Folder of a store that remembers the digests of imported files by size and time."""
BLOCK = 256
"""Files handed to the threads at a time, so that an interruption is heeded."""
HASHED = 1 << 24
"""Bytes of a large file that are hashed at a time."""
READERS = 8
"""Threads: files on a network disk cost waiting, not work."""


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """One file of a folder.

    Attributes:
        path: Where it is.
        stamp: Its size and modification time.
        digest: SHA-256 of its bytes; empty where they cannot be read.
        form: What its header says, or None for a file that is no array of features.
        failure: Status and reason of such a file.
    """

    path: str
    stamp: Stamp = (0, 0)
    digest: str = ""
    form: Form | None = None
    failure: tuple[str, str] | None = None


@dataclass(frozen=True)
class ArrayFolder:
    """All files of a folder, hashed.

    Attributes:
        path: The folder.
        files: File by its name below the folder without ``.npy``.
        content: Digest over the sorted names and the files' digests.
    """

    path: Path
    files: Mapping[str, ArrayFile]
    content: str

    def form(self, name: str) -> Form:
        """What a file's header says.

        Raises:
            MediaError: If it is no array of features.
        """
        file = self.files[name]
        if file.form is None:
            raise MediaError(*(file.failure or ("decode_error", "the file cannot be read")))
        return file.form

    def common(self, *, shape: Sequence[int] | None = None) -> Form:
        """The most frequent shape of a step, and the most frequent type of such arrays.

        Args:
            shape: The shape, where it is known.

        Returns:
            A form without steps.

        Raises:
            UserError: If no file can be read, or none has that shape.
        """
        forms = [file.form for file in self.files.values() if file.form is not None]
        if not forms:
            name, file = next(iter(self.files.items()))
            raise UserError(
                f"None of the {len(self.files)} .npy files in {self.path} holds features; the "
                f"first, {name!r}: {(file.failure or ('', ''))[1]}."
            )
        if shape is None:
            shape = most_frequent(form.step for form in forms)
        fitting = [form.dtype for form in forms if form.step == tuple(shape)]
        if not fitting:
            raise UserError(
                f"No file in {self.path} has steps of shape {tuple(shape)}, the first has "
                f"{forms[0].step}; pass the folder of that feature, or its --shape."
            )
        return Form((0, *shape), most_frequent(fitting))

    def read(self, names: Sequence[str]) -> list[np.ndarray | MediaError]:
        """The arrays of some files, or a `MediaError` for each that cannot be read.

        Raises:
            UserError: If a file was changed since the folder was hashed.
        """

        def read(name: str) -> np.ndarray | MediaError:
            file = self.files[name]
            try:
                return read_array(file.path, file.stamp)
            except MediaError as error:
                return error

        with ThreadPoolExecutor(READERS, thread_name_prefix="import") as pool:
            return list(pool.map(read, names))


def most_frequent(values: Iterable[T]) -> T:
    """The most frequent value; the larger one of two that are equally frequent."""
    return max(Counter(values).items(), key=lambda item: (item[1], item[0]))[0]


def list_arrays(folder: Path, *, nested: bool = True) -> dict[str, str]:
    """Finds the ``.npy`` files of a folder. Links count as what they point at.

    Args:
        folder: Where to look.
        nested: Whether to look into its sub-folders too; those of sub-folders are left alone.

    Returns:
        Path by name below the folder without ``.npy``, sorted.

    Raises:
        UserError: If the folder cannot be read.
    """
    found: dict[str, str] = {}
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                found[entry.name.removesuffix(SUFFIX)] = entry.path
            elif nested and entry.is_dir():
                inner = list_arrays(Path(entry.path), nested=False)
                found |= {f"{entry.name}/{name}": path for name, path in inner.items()}
    except OSError as error:
        raise UserError(
            f"The folder {folder} cannot be read ({error.strerror}); correct its path."
        ) from error
    return dict(sorted(found.items()))


def scan_arrays(
    folder: Path, files: Mapping[str, str], store: Path, *, progress: Advance | None = None
) -> ArrayFolder:
    """Hashes all files of a folder and reads their headers.

    A file whose size and modification time are those of the last time is not read again.

    Args:
        folder: The folder.
        files: From `list_arrays`.
        store: Where digests are remembered.
        progress: Told of every file.
    """
    cache = _cache(folder, store)
    known = _read_cache(cache)
    scanned: dict[str, ArrayFile] = {}
    names = list(files)
    try:
        with ThreadPoolExecutor(READERS, thread_name_prefix="hash") as pool:
            for first in range(0, len(names), BLOCK):
                block = names[first : first + BLOCK]
                found = pool.map(lambda name: _scan(files[name], known.get(name)), block)
                for name, file in zip(block, found, strict=True):
                    scanned[name] = file
                    if progress is not None:
                        same = file is known.get(name)
                        status = "failed" if file.form is None else "skipped" if same else "ok"
                        progress.advance(status)
    finally:
        if any(scanned[name] is not known.get(name) for name in scanned):
            whole = len(scanned) == len(names)
            _write_cache(cache, scanned if whole else known | scanned)
    return ArrayFolder(folder, scanned, _content(scanned))


def _scan(path: str, known: ArrayFile | None) -> ArrayFile:
    try:
        status = os.stat(path)
        stamp = status.st_size, status.st_mtime_ns
        if known is not None and (known.path, known.stamp) == (path, stamp):
            return known
        if not stat.S_ISREG(status.st_mode):
            # Opening a pipe would wait for somebody to write into it.
            return ArrayFile(path, failure=("decode_error", "it is no regular file"))
        with open(path, "rb") as file:
            form, failure = None, None
            try:
                form = read_form(file, stamp[0])
            except MediaError as error:
                failure = error.status, error.reason
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        reason = f"the file cannot be read ({error.strerror or error})"
        return ArrayFile(path, failure=("missing" if gone else "decode_error", reason))
    return ArrayFile(path, stamp, digest, form, failure)


def _content(files: Mapping[str, ArrayFile]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        # Names are bytes on most disks and need not be text in any encoding.
        digest.update(os.fsencode(name) + b"\0" + files[name].digest.encode() + b"\n")
    return f"sha256:{digest.hexdigest()}"


def hash_file(path: Path, store: Path, *, progress: Advance) -> tuple[Stamp, str]:
    """Hashes one large file, unless its size and modification time are those of the last time.

    Args:
        path: The file.
        store: Where digests are remembered.
        progress: Told of every `HASHED` bytes.

    Returns:
        Its stamp, and its SHA-256.

    Raises:
        UserError: If it cannot be read.
    """
    cache = _cache(path, store)
    known = _read_cache(cache).get(path.name)
    try:
        with open(path, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            stamp = status.st_size, status.st_mtime_ns
            if known is not None and known.stamp == stamp:
                progress.advance("skipped", pieces(stamp[0]))
                return stamp, known.digest
            digest = hashlib.sha256()
            while block := file.read(HASHED):
                digest.update(block)
                progress.advance()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); correct its path.") from error
    _write_cache(cache, {path.name: ArrayFile(str(path), stamp, digest.hexdigest())})
    return stamp, digest.hexdigest()


def pieces(size: int) -> int:
    """How often `hash_file` tells of its progress on so many bytes."""
    return -(-size // HASHED)


def _cache(path: Path, store: Path) -> Path:
    # Hashed, so that no name of somebody else's decides where something is written.
    name = object_digest(os.fsencode(os.path.abspath(path)).hex(), 16)
    return store / CACHE / f"{name}.json"


def _read_cache(path: Path) -> dict[str, ArrayFile]:
    """What was known last time; nothing if the file is not there or damaged."""
    known: dict[str, ArrayFile] = {}
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError, AttributeError):
        for name, (place, stamp, digest, form, failure) in json.loads(path.read_bytes()).items():
            known[name] = ArrayFile(
                place,
                (int(stamp[0]), int(stamp[1])),
                digest,
                None if form is None else Form(tuple(form[0]), form[1]),
                None if failure is None else (failure[0], failure[1]),
            )
    return known


def _write_cache(path: Path, files: Mapping[str, ArrayFile]) -> None:
    value = {
        name: [file.path, file.stamp, file.digest, file.form, file.failure]
        for name, file in files.items()
        if file.digest
    }
    # Losing it costs hashing again; a full or read-only disk is told of when a shard is written.
    with contextlib.suppress(OSError):
        write_atomic(path, json.dumps(value))
