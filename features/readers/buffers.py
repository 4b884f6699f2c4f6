"""Memory that two processes share: files without a name, whose descriptors travel over a socket.

Not ``/dev/shm``, which containers limit to 64 MB. Buffers are used again and again, so that a
block costs neither new pages nor a copy.
"""

from __future__ import annotations

import mmap
import os
import socket
import tempfile
from typing import Any

import numpy as np

__all__ = ["BufferReader", "Buffers", "memory_file"]


def memory_file(size: int) -> int:
    """A new file descriptor of some zeros in memory, or on disk where there is no such thing."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("avnoise")
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    os.ftruncate(handle, size)
    return handle


class Buffers:
    """The writing side: lends arrays, and knows which buffer each of them is.

    Args:
        handles: Socket over which the descriptors of new buffers go.
    """

    def __init__(self, handles: socket.socket) -> None:
        self._handles = handles
        self._files: list[int] = []
        self._maps: list[mmap.mmap] = []
        self._free: list[int] = []
        self._lent: dict[int, int] = {}

    def lend(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of undefined content, in a free buffer or a new one."""
        dtype = np.dtype(dtype)
        count = int(np.prod(shape))
        size = max(1, count * dtype.itemsize)
        number = self._take(size)
        array = np.frombuffer(self._maps[number], dtype, count).reshape(shape)
        self._lent[_address(array)] = number
        return array

    def give(self, array: np.ndarray) -> tuple[int, int] | None:
        """Number and size of the buffer of a lent array, which now is the reader's; else None."""
        number = self._lent.pop(_address(array), None)
        return None if number is None else (number, len(self._maps[number]))

    def free(self, number: int) -> None:
        """Takes back a buffer that was given."""
        self._free.append(number)

    def reclaim(self) -> None:
        """Takes back all that was lent and not given."""
        self._free += self._lent.values()
        self._lent.clear()

    def _take(self, size: int) -> int:
        if not self._free:
            self._files.append(memory_file(size))
            self._maps.append(mmap.mmap(self._files[-1], size))
            socket.send_fds(self._handles, [b"b"], [self._files[-1]])
            return len(self._files) - 1
        # The smallest that is large enough, else the largest grows.
        number = min(
            self._free, key=lambda n: (len(self._maps[n]) < size, abs(len(self._maps[n]) - size))
        )
        self._free.remove(number)
        if len(self._maps[number]) < size:
            os.ftruncate(self._files[number], size)
            self._maps[number] = mmap.mmap(self._files[number], size)
        return number


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


class BufferReader:
    """The reading side.

    Args:
        handles: The other end of the writer's socket.
    """

    def __init__(self, handles: socket.socket) -> None:
        self._handles = handles
        self._files: list[int] = []
        self._maps: dict[int, mmap.mmap] = {}

    def array(self, number: int, size: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """What a writer's array holds, until the buffer is given back.

        Raises:
            OSError: If the writer has died and its descriptors with it.
        """
        while number >= len(self._files):
            _, handles, _, _ = socket.recv_fds(self._handles, 1, 1)
            if not handles:
                raise OSError("the buffer did not arrive")
            self._files += handles
        if number not in self._maps or len(self._maps[number]) < size:
            self._maps[number] = mmap.mmap(self._files[number], size)
        return np.frombuffer(self._maps[number], dtype, int(np.prod(shape))).reshape(shape)

    def close(self) -> None:
        """Closes the descriptors; arrays stay valid."""
        for handle in self._files:
            os.close(handle)
        self._files.clear()
        self._maps.clear()
