"""A file that HDF5 writes to and that fails only when it is asked whether it has."""

from __future__ import annotations

import io

__all__ = ["Sink"]


class Sink:
    """A file object for `h5py.File` that swallows the operating system's refusals.

    The HDF5 library cannot close a file whose last writes failed: on a full disk it raises errors
    that say nothing, holds on to the file, and takes the whole process down when that ends. So it
    never hears of them, and `check` raises what happened.

    Args:
        raw: An unbuffered file, open for reading and writing.
    """

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self._at = self._end = 0
        self._error: OSError | None = None

    def check(self) -> None:
        """Raises the first error, if there was one.

        Raises:
            OSError: What the operating system said.
        """
        if self._error is not None:
            raise self._error

    def write(self, data: memoryview) -> int:
        """Writes all of the data, or what can be written of it."""
        size = len(data)
        if self._error is None:
            try:
                self._raw.seek(self._at)
                rest = memoryview(data).cast("B")
                while rest:
                    # A disk that is nearly full takes a part and says so.
                    rest = rest[self._raw.write(rest) :]
            except OSError as error:
                self._error = error
        self._move(size)
        return size

    def readinto(self, buffer: memoryview) -> int:
        """Fills a buffer; with zeros where nothing could be written."""
        size = len(buffer)
        buffer[:] = bytes(size)
        if self._error is None:
            try:
                self._raw.seek(self._at)
                self._raw.readinto(buffer)
            except OSError as error:
                self._error = error
        self._move(size)
        return size

    def read(self, size: int = -1) -> bytes:
        """Some bytes; h5py knows a file object by this method."""
        buffer = bytearray(max(0, self._end - self._at) if size < 0 else size)
        self.readinto(memoryview(buffer))
        return bytes(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves, as files do."""
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}
        self._at = begin[whence] + offset
        return self._at

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def truncate(self, size: int | None = None) -> int:
        """Makes the file longer or shorter."""
        self._end = self._at if size is None else size
        if self._error is None:
            try:
                self._raw.truncate(self._end)
            except OSError as error:
                self._error = error
        return self._end

    def flush(self) -> None:
        """Nothing is held back."""

    def _move(self, size: int) -> None:
        self._at += size
        self._end = max(self._end, self._at)
