"""How imports show progress: a function that makes the display when the amount is known."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from pipeline.progress import Advance, Progress

__all__ = ["Display", "on_terminal", "silent"]


class Display(Protocol):
    """Makes a display for some pieces of work."""

    def __call__(
        self, total: int, label: str, unit: str
    ) -> contextlib.AbstractContextManager[Advance]:
        """Makes one.

        Args:
            total: Pieces of work.
            label: What the work is.
            unit: Name of a piece.
        """
        ...


def on_terminal(total: int, label: str, unit: str) -> contextlib.AbstractContextManager[Advance]:
    """A bar or lines on standard error."""
    return Progress(total, label, unit=unit)


@contextlib.contextmanager
def silent(total: int, label: str, unit: str) -> Iterator[Advance]:
    """Shows nothing."""
    yield _Nothing()


class _Nothing:
    def advance(self, status: str = "ok", n: int = 1) -> None:
        """Notes nothing."""
