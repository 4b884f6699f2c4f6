"""Writing files that are either there and whole or not there, and naming content by its hash."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

__all__ = [
    "canonical_json",
    "data_dir",
    "file_digest",
    "fsync_dir",
    "object_digest",
    "runs_dir",
    "store_dir",
    "write_atomic",
]


def data_dir() -> Path:
    """Where corpora are rendered: ``$AVNOISE_DATA`` or ``./data``."""
    return Path(os.environ.get("AVNOISE_DATA", "data"))


def store_dir() -> Path:
    """Where feature shards are kept: ``$AVNOISE_STORE`` or ``./store``."""
    return Path(os.environ.get("AVNOISE_STORE", "store"))


def runs_dir() -> Path:
    """Where training runs are kept: ``$AVNOISE_RUNS`` or ``./runs``."""
    return Path(os.environ.get("AVNOISE_RUNS", "runs"))


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, no NaN. What ids are hashed from."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def object_digest(value: Any, length: int = 12) -> str:
    """The first ``length`` hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


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
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    payload = data.encode() if isinstance(data, str) else data
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
    return path
