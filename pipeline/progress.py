"""Progress of long work: counts of ok, failed and skipped, the rate and the time left."""

from __future__ import annotations

import sys
import time
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

__all__ = ["Advance", "Progress"]

LINE_EVERY = 10.0
"""Seconds between two lines where the output is no terminal (logs, CI)."""


class Advance(Protocol):
    """What functions that do the work need of a progress display."""

    def advance(self, status: str = "ok", n: int = 1) -> None:
        """Notes ``n`` finished pieces, each ``"ok"``, ``"failed"`` or ``"skipped"``."""
        ...


class Progress:
    """A bar on a terminal, a line now and then elsewhere; always on standard error.

    Args:
        total: Pieces of work.
        label: What the work is, such as ``"extract"``.
        unit: Name of a piece, for the rate.
        stream: Where to write.
    """

    def __init__(
        self, total: int, label: str, *, unit: str = "clips", stream: TextIO | None = None
    ) -> None:
        self.total = total
        self.label = label
        self.unit = unit
        self.counts = {"ok": 0, "failed": 0, "skipped": 0}
        self._stream = stream or sys.stderr
        self._console = Console(file=self._stream)
        self._bar: RichProgress | None = None
        self._task = None
        self._begin = self._last = time.monotonic()

    def __enter__(self) -> Progress:
        self._begin = self._last = time.monotonic()
        if self._console.is_terminal:
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[counts]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, counts="")
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None:
            self._line()

    def advance(self, status: str = "ok", n: int = 1) -> None:
        """See `Advance`."""
        self.counts[status] += n
        if self._bar is not None:
            self._bar.update(self._task, advance=n, counts=self._summary())
        elif time.monotonic() - self._last >= LINE_EVERY:
            self._last = time.monotonic()
            self._line()

    def _summary(self) -> str:
        seconds = max(1e-9, time.monotonic() - self._begin)
        # Skipped pieces cost nothing; counting them would promise a rate the rest cannot keep.
        worked = self.counts["ok"] + self.counts["failed"]
        return (
            f"{self.counts['ok']} ok, {self.counts['failed']} failed, "
            f"{self.counts['skipped']} skipped, {self._rate(worked, seconds)}"
        )

    def _rate(self, worked: int, seconds: float) -> str:
        if 0 < 10 * worked < seconds:
            return f"{60 * worked / seconds:.1f} {self.unit}/min"
        return f"{worked / seconds:.1f} {self.unit}/s"

    def _line(self) -> None:
        done = sum(self.counts.values())
        seconds = time.monotonic() - self._begin
        worked = self.counts["ok"] + self.counts["failed"]
        left = f", {(self.total - done) * seconds / worked:.0f} s left" if worked > 0 else ""
        line = f"{self.label}: {done}/{self.total} ({self._summary()}"
        print(f"{line}{left if done < self.total else ''})", file=self._stream, flush=True)
