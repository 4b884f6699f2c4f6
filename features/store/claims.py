"""Claims: who is working on a shard right now, so that two runs do not do the same work."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
import uuid
from pathlib import Path

from features.store.layout import CLAIM, cannot_write

__all__ = ["BEAT", "STALE", "Claim", "claim", "held"]

BEAT = 10.0
"""Seconds between two heartbeats of a claim that is held."""
STALE = 120.0
"""Seconds without a heartbeat after which a claim is taken over, wherever its owner ran."""


class Claim:
    """A claim that is held until `release`; a thread keeps its heartbeat.

    A claim only saves double work. Should two runs hold one after all (a machine that slept for
    minutes), both write the same bytes under the same name, and the later rename changes nothing.
    """

    def __init__(self, path: Path, token: str) -> None:
        self.path = path
        self._token = token
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"claim {path.stem}", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            # Only the owner's heartbeat counts: after a takeover the file is somebody else's.
            with contextlib.suppress(OSError):
                if _read(self.path).get("token") == self._token:
                    os.utime(self.path)

    def release(self) -> None:
        """Gives the claim back."""
        self._done.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if _read(self.path).get("token") == self._token:
                self.path.unlink()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def claim(folder: Path, shard: str) -> Claim | None:
    """Claims a shard.

    A claim whose owner died on this machine, or that had no heartbeat for `STALE` seconds, is
    taken over.

    Returns:
        The claim, or None while somebody else holds it.

    Raises:
        UserError: If the store cannot be written.
    """
    path = folder / f"{shard}{CLAIM}"
    token = uuid.uuid4().hex
    text = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "token": token})
    for _ in range(2):
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            if not _remove_stale(path):
                return None
            continue
        except OSError as error:
            raise cannot_write(folder.parent, error) from error
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise cannot_write(folder.parent, error) from error
        return Claim(path, token)
    return None


def held(folder: Path) -> list[str]:
    """The shards of a feature that somebody is working on right now."""
    paths = sorted(folder.glob(f"*{CLAIM}"))
    return [path.stem for path in paths if not _is_stale(path, _read(path))]


def _read(path: Path) -> dict[str, object]:
    """A claim's content; empty while its owner is still writing it, or when it is gone."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _is_stale(path: Path, owner: dict[str, object]) -> bool:
    try:
        age = _now(path.parent) - path.stat().st_mtime
    except FileNotFoundError:
        return True
    # A heartbeat far in the future was dated by a clock that has been put right since.
    if abs(age) > STALE:
        return True
    pid = owner.get("pid")
    return owner.get("host") == socket.gethostname() and isinstance(pid, int) and not _alive(pid)


def _now(folder: Path) -> float:
    """The time by the clock that dates the folder's files, which may be a file server's."""
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".now.") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


def _alive(pid: int) -> bool:
    if os.name != "posix":
        # Elsewhere signal 0 is no question; the missing heartbeat has to tell.
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove_stale(path: Path) -> bool:
    """Removes a claim if it is stale; tells whether the way is free."""
    owner = _read(path)
    if not _is_stale(path, owner):
        return False
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.stale")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return True
    # Between looking and renaming another run may have taken over: what was moved away then is
    # its live claim, and it goes back.
    mine = _read(aside).get("token") == owner.get("token")
    if not mine:
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)
    return mine
