"""The process that reads clips: ``python -m features.readers.worker SOCKET HANDLES PAGE``.

It serves one parent over inherited descriptors: a socket for messages, one that carries the
descriptors of shared buffers, and a page of shared memory that says until when the step under way
should be done.

    parent                                   child
    ("use", (folder, environment), kinds,    ("ready",) or ("cannot", why)
     requests, decoder, threads, timeout)
    ("read", path, start, end,               for every pass ("pass",) and then
     names of features by pass)              ("block", feature, number, segments, starts, what,
                                              (buffer, its size, shape, dtype)),
                                             ("failed", feature, status, reason);
                                             at the end ("done", seconds by stage)
    ("free", buffer)
                                             ("error", exception) ends everything

`features.decoding` says what parts a pass has. A child reads on while its parent computes, until a
feature has `AHEAD` blocks that were not freed.
"""

from __future__ import annotations

import importlib
import math
import mmap
import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from features.backbones.interface import BACKBONES, Backbone
from features.decoding import Failed, Part, Tools, read_pass
from features.readers.buffers import Buffers
from features.readers.child import ENVIRONMENT, GRACE
from pipeline.decode import open_decoder
from pipeline.errors import UserError
from pipeline.stages import StageClock

AHEAD = 2
"""Blocks of one feature that wait for the parent at most."""

IDLE = 60.0
"""Seconds without work after which the process ends; a new one costs less than its memory."""

_WATCH = 1.0
"""Seconds between two looks at whether the parent is still there."""


class _Worker:
    def __init__(self, connection: Connection, handles: socket.socket, page: int) -> None:
        self._connection = connection
        self._buffers = Buffers(handles)
        self._due = np.frombuffer(mmap.mmap(page, mmap.PAGESIZE), np.float64, 1)
        self._feature_of: dict[int, str] = {}
        self._waiting: Counter[str] = Counter()
        self._backbones: dict[str, Backbone] = {}
        self._tools: Tools | None = None

    def serve(self) -> None:
        """Answers until the parent goes away or nothing comes for long."""
        while self._connection.poll(IDLE):
            kind, *values = self._connection.recv()
            if kind == "free":
                self._free(*values)
            elif kind == "use":
                self._use(*values)
            else:
                self._read(*values)

    def _use(
        self,
        where: tuple[str, Mapping[str, str]],
        kinds: Sequence[tuple[str, str]],
        requests: Sequence[Any],
        decoder: str,
        threads: int | None,
        timeout: float | None,
    ) -> None:
        # A child that served before may be older than what its parent has set since.
        os.chdir(where[0])
        os.environ.clear()
        os.environ.update(where[1] | ENVIRONMENT)
        try:
            for module, name in kinds:
                _import(module, name)
            backbones = [request.build() for request in requests]
            self._backbones = {backbone.name: backbone for backbone in backbones}
            self._tools = Tools(
                open_decoder(decoder, threads=threads), timeout, self._room, self._expect
            )
        except (ImportError, AttributeError, UserError) as error:
            self._connection.send(("cannot", f"{type(error).__name__}: {error}"))
        else:
            self._connection.send(("ready",))

    def _read(self, path: str, start: float, end: float, passes: Sequence[Sequence[str]]) -> None:
        clock = StageClock()
        with clock.running():
            for names in passes:
                self._connection.send(("pass",))
                backbones = [self._backbones[name] for name in names]
                for part in read_pass(path, start, end, backbones, self._tools):
                    self._send(part)
        self._buffers.reclaim()
        self._connection.send(("done", clock.seconds))

    def _send(self, part: Part) -> None:
        if isinstance(part, Failed):
            error = part.error
            self._connection.send(("failed", part.feature, error.status, error.reason))
            return
        feature, number, clip = part
        what = "waveform" if clip.waveform is not None else "frames"
        array = getattr(clip, what)
        given = self._buffers.give(array)
        if given is None:
            ours = self._room(feature, array.shape, array.dtype)
            ours[...] = array
            given = self._buffers.give(ours)
        buffer, size = given
        self._feature_of[buffer] = feature
        self._waiting[feature] += 1
        place = buffer, size, array.shape, array.dtype.str
        self._connection.send(("block", feature, number, clip.segments, clip.starts, what, place))

    def _room(self, feature: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        while self._waiting[feature] >= AHEAD or self._connection.poll():
            # While a clip is read, nothing else comes.
            _, buffer = self._connection.recv()
            self._free(buffer)
        return self._buffers.lend(shape, dtype)

    def _free(self, buffer: int) -> None:
        self._waiting[self._feature_of.pop(buffer)] -= 1
        self._buffers.free(buffer)

    def _expect(self, seconds: float | None) -> None:
        self._due[0] = math.inf if seconds is None else time.monotonic() + seconds + GRACE


def _import(module: str, name: str) -> None:
    """Imports the module of a backbone, which registers it there or here."""
    kind: Any = importlib.import_module(module)
    for part in name.split("."):
        kind = getattr(kind, part)
    BACKBONES.add(kind)


def _report(connection: Connection, error: Exception) -> None:
    """Sends an exception with its traceback as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError("".join(traceback.format_exception(error)))
    connection.send(("error", error))


def _leave_with(parent: int) -> None:
    """Ends this process, even inside a codec, soon after its parent has ended."""
    while os.getppid() == parent:
        time.sleep(_WATCH)
    os._exit(1)


def _main(arguments: Sequence[str]) -> None:
    messages, handles, page = map(int, arguments)
    # The parent decides what an interrupt means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    connection = Connection(messages)
    try:
        _Worker(connection, socket.socket(fileno=handles), page).serve()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except Exception as error:
        _report(connection, error)


if __name__ == "__main__":
    _main(sys.argv[1:])
