"""Reading in a thread of this process: nothing to start, and no shelter from what crashes it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from features.decoding import Tools, read_clip
from features.readers.interface import Delivery, Job
from pipeline.decode import Decoder
from pipeline.stages import StageClock

__all__ = ["ThreadReader"]

AHEAD = 2
"""Parts that are read before the first of them is consumed."""

_POLL = 0.1
"""Seconds between two looks at whether anybody still wants what is read."""


class ThreadReader:
    """See `features.readers.interface.Readers`.

    Args:
        job: What to read.
        decoder: The video decoder.
    """

    def __init__(self, job: Job, decoder: Decoder) -> None:
        self._job = job
        self._tools = Tools(decoder, job.timeout)
        self._parts: queue.Queue[Any] = queue.Queue(AHEAD)
        self._stop = threading.Event()
        self._clock = StageClock()
        self._thread = threading.Thread(target=self._run, name="read clips", daemon=True)

    @property
    def seconds(self) -> Mapping[str, float]:
        """See `Readers`."""
        return self._clock.seconds

    def __enter__(self) -> ThreadReader:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Iterator[Delivery]]:
        for _ in self._job.clips:
            yield iter(self._next, None)

    def _next(self) -> Delivery | None:
        item = self._parts.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def _run(self) -> None:
        try:
            with self._clock.running():
                for clip in self._job.clips:
                    for part in read_clip(*clip, self._job.backbones, self._tools):
                        self._put(Delivery(part, _nothing_to_release))
                    self._put(None)
        except _NobodyLeftError:
            pass
        except BaseException as error:
            with contextlib.suppress(_NobodyLeftError):
                self._put(error)

    def _put(self, item: Delivery | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                return self._parts.put(item, timeout=_POLL)
            except queue.Full:
                continue
        raise _NobodyLeftError


class _NobodyLeftError(Exception):
    """The consumer went away."""


def _nothing_to_release() -> None:
    pass
