"""Writing files that are either there and whole or not there, and naming content by its hash."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import WriteError

try:
    import fcntl
except ImportError:  # Not a POSIX system; appends of a few lines are whole there in practice.
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "append_lines",
    "canonical_json",
    "claim_file",
    "data_dir",
    "file_digest",
    "fsync_dir",
    "json_bytes",
    "object_digest",
    "read_sealed",
    "runs_dir",
    "sealed_json",
    "store_dir",
    "write_atomic",
]


_DIGEST = b'"digest": "%s"'


def data_dir() -> Path:
    """Where corpora are rendered: ``$AVNOISE_DATA`` or ``./data``."""
    return Path(os.environ.get("AVNOISE_DATA", "data"))


def store_dir() -> Path:
    """Where feature shards are kept: ``$AVNOISE_STORE`` or ``./store``."""
    return Path(os.environ.get("AVNOISE_STORE", "store"))


def runs_dir() -> Path:
    """Where training runs are kept: ``$AVNOISE_RUNS`` or ``./runs``."""
    return Path(os.environ.get("AVNOISE_RUNS", "runs"))


# Made once: making an encoder takes longer than encoding what ids are hashed from.
_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, no NaN. What ids are hashed from."""
    return _CANONICAL.encode(value)


def object_digest(value: Any, length: int = 12) -> str:
    """The first ``length`` hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    # File names that are no UTF-8 reach Python with lone surrogates in them.
    text = canonical_json(value).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:length]


def json_bytes(text: str) -> bytes:
    """JSON text as UTF-8; lone surrogates, of file names that are no UTF-8, become escapes."""
    return text.encode("utf-8", "backslashreplace")


def sealed_json(value: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """A JSON object whose last entry, ``digest``, is hashed from all its other bytes.

    `read_sealed` then refuses it when any byte was changed, also where the rest is still JSON.
    """
    text = json.dumps({**value, "digest": ""}, ensure_ascii=False, indent=indent)
    head, _, tail = json_bytes(f"{text}\n").rpartition(_DIGEST % b"")
    return head + _DIGEST % _seal(head, tail) + tail


def read_sealed(data: bytes) -> dict[str, Any]:
    """Reads what `sealed_json` gave, without its digest; an object that has none is not checked.

    Raises:
        ValueError: If it is no JSON object, or not the one that was written.
    """
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    if "digest" in value:
        digest = str(value.pop("digest")).encode()
        head, _, tail = data.rpartition(_DIGEST % digest)
        if _seal(head, tail) != digest:
            raise ValueError("its text was changed")
    return value


def _seal(head: bytes, tail: bytes) -> bytes:
    return hashlib.sha256(head + b"\0" + tail).hexdigest()[:16].encode()


def file_digest(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: If the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_dir(path: Path) -> None:
    """Makes a rename in ``path`` survive a power cut, where the platform can."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path | str, data: bytes | str) -> Path:
    """Writes a file so that readers see the old content or the new one, never a part.

    Args:
        path: The file; its folder is made if needed.
        data: The whole content; text is written as UTF-8.

    Returns:
        The path written.

    Raises:
        WriteError: If it cannot be written; the old content is then still there.
    """
    path = Path(path)
    payload = data.encode() if isinstance(data, str) else data
    try:
        _replace(path, payload)
    except OSError as error:
        # Named after the file that was wanted: the temporary one is gone, and some have no name.
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from error
    return path


def _replace(path: Path, payload: bytes) -> None:
    """Writes a temporary file and renames it.

    Raises:
        OSError: If a step fails; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        # A file stands where a folder should: that it exists would explain nothing.
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; a result is as readable as any other file of the user.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Appends lines of JSON in one write, under a lock where the platform has one.

    Args:
        path: The file; made if needed. A link is not followed: what is appended to is a cache
            inside a folder that may come from a stranger.
        lines: Texts without their line ends.

    Raises:
        OSError: If the file cannot be written.
    """
    text = json_bytes("".join(f"{line}\n" for line in lines))
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, flags, 0o666)
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        # A writer that died in mid-line must not swallow the first line of the next one.
        cut = os.lseek(handle, 0, os.SEEK_END) > 0 and _last_byte(handle) != b"\n"
        rest = memoryview((b"\n" if cut else b"") + text)
        while rest:
            rest = rest[os.write(handle, rest) :]
    finally:
        os.close(handle)


@contextmanager
def claim_file(path: Path, *, taken: Callable[[], None]) -> Iterator[None]:
    """Holds a file against other processes; whatever ends this one gives it back.

    Where the platform or the file system has no locks, nothing is held.

    Args:
        path: Made if needed, and left there.
        taken: Called once if another process holds it, before waiting for that.

    Raises:
        WriteError: If the file cannot be made.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from error
    try:
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                taken()
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                    raise
        yield
    finally:
        os.close(handle)


def _last_byte(handle: int) -> bytes:
    os.lseek(handle, -1, os.SEEK_END)
    return os.read(handle, 1)
