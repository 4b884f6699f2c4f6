"""The child process in which decord runs: ``python decord_worker.py FD``.

decord was last released in 2021; a file that makes it crash or hang takes down this process and
nothing else. It serves one parent over an inherited socket and imports nothing of the project.

    parent                                    child
    ("open", path, threads)                   ("opened", begins (n,) float32 seconds)
    ("read", indices, seekable, chunk bytes)  ("frames", (k, H, W, 3) uint8) ... then ("done",)
                                              ("error", what)
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import decord
import numpy as np

_NO_SUBSTITUTES = 1e-9
"""Share of frames that decord may replace by their neighbours without saying so."""


def serve(connection: Connection) -> None:
    """Answers requests until the parent goes away."""
    reader = None
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            if request[0] == "open":
                reader = decord.VideoReader(
                    request[1], num_threads=request[2], fault_tol=_NO_SUBSTITUTES
                )
                spans = reader.get_frame_timestamp(np.arange(len(reader)))
                connection.send(("opened", np.ascontiguousarray(spans[:, 0])))
            else:
                for chunk in _chunks(reader, *request[1:]):
                    connection.send(("frames", chunk))
                connection.send(("done",))
        except Exception as error:
            connection.send(("error", str(error)))


def _chunks(
    reader: decord.VideoReader, indices: np.ndarray, seekable: bool, budget: int
) -> Iterator[np.ndarray]:
    """Yields the frames of ascending indices, (n,), in arrays of at most ``budget`` bytes."""
    if not seekable:
        yield from _in_passing(reader, indices)
        return
    first = reader.get_batch(indices[:1]).asnumpy()
    yield first
    step = max(1, budget // first.nbytes)
    for at in range(1, len(indices), step):
        yield reader.get_batch(indices[at : at + step]).asnumpy()


def _in_passing(reader: decord.VideoReader, indices: np.ndarray) -> Iterator[np.ndarray]:
    """Yields frames one by one from a pass over all frames, which needs no seek."""
    wanted = set(indices.tolist())
    for index in range(max(wanted) + 1):
        frame = reader.next().asnumpy()
        if index in wanted:
            yield frame[None]


def _leave_with(parent: int) -> None:
    """Ends this process, even inside decord, soon after its parent has ended."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    serve(Connection(int(sys.argv[1])))
