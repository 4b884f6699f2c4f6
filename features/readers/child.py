"""A reader process as its parent sees it, and the ones that wait for the next shard."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from features.readers.buffers import BufferReader, memory_file

__all__ = ["ENVIRONMENT", "GRACE", "Child", "give_child", "take_child"]

GRACE = 2.0
"""Seconds that a step may take beyond its limit before the process is killed: decoders look at
the clock themselves, between packets, and should be the ones to tell."""


class Child:
    """A process that reads clips, and the sockets to it; see `features.readers.worker`."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        handles, their_handles = socket.socketpair()
        page = memory_file(mmap.PAGESIZE)
        # The time at which the step under way is overdue; a mapping outlives its descriptor.
        self._due = np.frombuffer(mmap.mmap(page, mmap.PAGESIZE), np.float64, 1)
        self._due[0] = math.inf
        inherited = [theirs.fileno(), their_handles.fileno(), page]
        with theirs, their_handles:
            self._process = subprocess.Popen(
                # -P keeps the working folder, whatever lies in it, off the module path.
                [sys.executable, "-P", "-m", "features.readers.worker", *map(str, inherited)],
                pass_fds=inherited,
                env=os.environ | ENVIRONMENT | {"PYTHONPATH": _module_path()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        os.close(page)
        self.connection = Connection(ours.detach())
        self._buffers = BufferReader(handles)
        self._sending = threading.Lock()
        self._taken = 0
        self.kill = weakref.finalize(
            self, _end, os.getpid(), self._process, self.connection, handles, self._buffers
        )

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    @property
    def idle(self) -> bool:
        """Whether all its buffers were given back."""
        return self._taken == 0

    @property
    def overdue(self) -> bool:
        """Whether the step under way takes longer than it may."""
        return time.monotonic() > self._due[0]

    def send(self, *message: Any) -> None:
        """Sends a message; one to a dead process is lost."""
        with self._sending, contextlib.suppress(OSError):
            self.connection.send(message)

    def receive(self) -> tuple[Any, ...]:
        """The next message.

        Raises:
            EOFError: If the process has ended.
        """
        try:
            return self.connection.recv()
        except OSError as error:
            raise EOFError from error

    def take(self, number: int, size: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """A buffer's array, until `release`.

        Raises:
            EOFError: If the process has ended.
        """
        try:
            array = self._buffers.array(number, size, shape, dtype)
        except OSError as error:
            raise EOFError from error
        with self._sending:
            self._taken += 1
        return array

    def release(self, number: int) -> None:
        """Gives a buffer back."""
        with self._sending:
            self._taken -= 1
        self.send("free", number)

    def stop(self) -> None:
        """Ends the process, even inside a codec; what it has sent can still be received."""
        self._process.kill()

    def ending(self) -> str:
        """How the process ended."""
        code = self._process.wait()
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        return f"{name} (is memory short?)" if name == "SIGKILL" else name


ENVIRONMENT = {
    # Resizing a picture is too little work for threads, and the cores have others to serve.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Frames come and go by the thousand; left alone, glibc returns their memory to the system and
    # fetches it again for every one, which costs a fifth of decoding.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
}
"""What a reader's environment has beside its parent's."""

_LOCK = threading.Lock()
_WAITING: list[Child] = []


def take_child() -> Child:
    """A process that waits for work, or a new one."""
    with _LOCK:
        while _WAITING:
            child = _WAITING.pop()
            if child.alive:
                return child
            child.kill()
    return Child()


def give_child(child: Child) -> None:
    """Keeps a process for the next shard; it ends by itself when none comes for a while."""
    with _LOCK:
        _WAITING[:] = [other for other in _WAITING if other.alive]
        _WAITING.append(child)


def _forget() -> None:
    """After a fork: the processes are the parent's."""
    global _LOCK
    _LOCK = threading.Lock()
    _WAITING.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _module_path() -> str:
    return os.pathsep.join(path or os.getcwd() for path in sys.path)


def _end(
    owner: int,
    process: subprocess.Popen[bytes],
    connection: Connection,
    handles: socket.socket,
    buffers: BufferReader,
) -> None:
    connection.close()
    handles.close()
    buffers.close()
    if os.getpid() == owner:
        process.kill()
        process.wait()
