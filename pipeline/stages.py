"""Where the time of a run goes: seconds by stage, each moment counted once.

clock = StageClock()
with clock.running():
    for item in source:
        with stage("model"):
            compute(item)
clock.seconds  # {"model": 1.25, ...}
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

__all__ = ["STAGES", "StageClock", "stage"]

STAGES = ("open", "decode", "sound", "resize", "log-mel", "model", "write")
"""Stages of extraction, in the order of a clip's way through it."""

_RUNNING: ContextVar[StageClock | None] = ContextVar("avnoise_stage_clock", default=None)


class StageClock:
    """Seconds by stage, of one thread at a time.

    Attributes:
        seconds: By stage; a stage inside another one stops the outer one's clock.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stack: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[StageClock]:
        """Makes this the clock that `stage` uses in the present thread or context."""
        token = _RUNNING.set(self)
        try:
            yield self
        finally:
            _RUNNING.reset(token)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Adds what another clock has counted, in another thread or process."""
        for name, value in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + value

    def enter(self, name: str) -> None:
        """Begins a stage; use `stage`."""
        self._count()
        self._stack.append(name)

    def leave(self) -> None:
        """Ends the innermost stage; use `stage`."""
        self._count()
        self._stack.pop()

    def _count(self) -> None:
        now = time.perf_counter()
        if self._stack:
            name = self._stack[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


class stage:  # noqa: N801 - reads like the context managers of contextlib
    """Counts the time inside a ``with`` block for a stage; costs nothing without a clock.

    A block must not span a ``yield``: the consumer's time would be counted too.

    Args:
        name: The stage, out of `STAGES` for extraction.
    """

    __slots__ = ("_clock", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._clock: StageClock | None = None

    def __enter__(self) -> None:
        self._clock = _RUNNING.get()
        if self._clock is not None:
            self._clock.enter(self._name)

    def __exit__(self, *error: object) -> None:
        if self._clock is not None:
            self._clock.leave()
