"""Time grids: which moments of a clip are looked at, and which steps two features share.

All times are seconds in the file. A clip is an interval [start, end) of it; a step is one segment
of the clip, and a frame is sampled at the middle of its slot, start + (k + 0.5) / rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from pipeline.errors import UserError

__all__ = ["BLOCK", "TAIL_HOLD", "Grid", "SegmentGrid", "UniformGrid", "join_steps"]

TAIL_HOLD = 0.5
"""Seconds for which the first and last frame (or silence) may stand in beyond the media's ends.

Clips cut to "ten seconds" end up to half a second early in practice; a longer gap is `too_short`.
"""

BLOCK = 32
"""Segments that are decoded and computed at a time, so that memory does not grow with the length
of a row. A multiple of every backbone's batch: rows of up to 32 segments are one block."""


class Grid(Protocol):
    """Segments of a clip, and the frames looked at in each.

    Attributes:
        frames: Frames sampled in each segment (0 for audio).
        span: Seconds that one segment covers.
    """

    frames: int

    @property
    def span(self) -> float: ...

    def count(self, start: float, end: float) -> int:
        """Segments of a clip; 0 if it is too short for one."""
        ...

    def starts(self, start: float, end: float) -> np.ndarray:
        """Start of every segment in the file, (T,) seconds."""
        ...

    def centers(self, start: float, end: float) -> np.ndarray:
        """Middle of every segment relative to the clip's start, (T,) seconds."""
        ...

    def frame_times(self, start: float, end: float) -> np.ndarray:
        """Moments in the file at which frames are sampled, (T, frames) seconds, ascending in each
        segment; segments may overlap."""
        ...

    def extent(
        self, start: float, end: float, segments: slice = slice(None)
    ) -> tuple[float, float]:
        """Seconds in the file from the first to the last moment that some segments cover."""
        ...

    def blocks(self, start: float, end: float) -> Sequence[slice]:
        """The segments of a clip, cut into runs that are worked on at a time."""
        ...

    def describe(self) -> dict[str, Any]:
        """The grid as plain values, for a feature's spec."""
        ...


@dataclass(frozen=True)
class SegmentGrid:
    """Segments of equal hop, each looked at over a window and, for pictures, at some frames.

    Args:
        hop: Seconds from one segment's start to the next.
        window: Seconds that a segment covers; default the hop.
        origin: Seconds from the clip's start to the first segment's start.
        frames: Frames sampled in each segment (0 for audio).
        phase: Where in its slot a frame is sampled, 0 to 1.
    """

    hop: float = 1.0
    window: float | None = None
    origin: float = 0.0
    frames: int = 0
    phase: float = 0.5

    def __post_init__(self) -> None:
        if self.hop <= 0 or (self.window is not None and self.window <= 0) or self.frames < 0:
            raise ValueError(f"a grid needs a positive hop and window and frames >= 0: {self}")

    @property
    def span(self) -> float:
        """Seconds that one segment covers."""
        return self.hop if self.window is None else self.window

    def count(self, start: float, end: float) -> int:
        """Segments of a clip: those of which at least half a hop lies inside it."""
        return max(0, int(np.floor((end - start - self.origin) / self.hop + 0.5 + 1e-6)))

    def starts(self, start: float, end: float) -> np.ndarray:
        """Start of every segment in the file, (T,) seconds."""
        return start + self.origin + self.hop * np.arange(self.count(start, end))

    def centers(self, start: float, end: float) -> np.ndarray:
        """Middle of every segment relative to the clip's start, (T,) seconds."""
        return self.starts(start, end) - start + self.span / 2

    def frame_times(self, start: float, end: float) -> np.ndarray:
        """Moments in the file at which frames are sampled, (T, frames) seconds."""
        slots = (np.arange(self.frames) + self.phase) * (self.span / max(1, self.frames))
        return self.starts(start, end)[:, None] + slots[None, :]

    def extent(
        self, start: float, end: float, segments: slice = slice(None)
    ) -> tuple[float, float]:
        """Seconds in the file that some segments cover, up to where the next one would begin.

        Raises:
            ValueError: If there is no such segment.
        """
        starts = _some(self.starts(start, end), segments)
        return float(starts[0]), float(starts[-1]) + max(self.hop, self.span)

    def blocks(self, start: float, end: float) -> Sequence[slice]:
        """Runs of `BLOCK` segments."""
        count = self.count(start, end)
        return [slice(k, min(k + BLOCK, count)) for k in range(0, count, BLOCK)]

    def describe(self) -> dict[str, Any]:
        """The grid as plain values, for a feature's spec."""
        return asdict(self) | {"window": self.span}


@dataclass(frozen=True)
class UniformGrid:
    """A fixed number of windows, spread evenly from the clip's start to its end.

    They overlap in a clip that is shorter than all of them together. A clip shorter than one
    window, by at most `TAIL_HOLD` seconds, gives one.

    Args:
        number: Windows a clip.
        window: Seconds of each.
        frames: Frames sampled in each window (0 for audio).
        rate: Frames a second, sampled around the window's middle; None spreads them over it.
    """

    number: int = 10
    window: float = 2.0
    frames: int = 0
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.number < 1 or self.window <= 0 or self.frames < 0:
            raise ValueError(f"a grid needs windows of positive length and frames >= 0: {self}")
        if self.rate is not None and not self.frames / self.window <= self.rate:
            raise ValueError(f"{self.frames} frames at {self.rate:g} a second leave the window")

    @property
    def span(self) -> float:
        """Seconds that one window covers."""
        return self.window

    def count(self, start: float, end: float) -> int:
        """Windows of a clip: all, one, or none if it is too short."""
        spare = end - start - self.window
        if spare > 1e-6:
            return self.number
        return 1 if spare >= -TAIL_HOLD else 0

    def starts(self, start: float, end: float) -> np.ndarray:
        """Start of every window in the file, (T,) seconds."""
        spare = max(0.0, end - start - self.window)
        return start + np.linspace(0.0, spare, self.count(start, end))

    def centers(self, start: float, end: float) -> np.ndarray:
        """Middle of every window relative to the clip's start, (T,) seconds."""
        return self.starts(start, end) - start + self.window / 2

    def frame_times(self, start: float, end: float) -> np.ndarray:
        """Moments in the file at which frames are sampled, (T, frames) seconds."""
        rate = self.frames / self.window if self.rate is None else self.rate
        slots = (np.arange(self.frames) + 0.5 - self.frames / 2) / (rate or 1.0)
        return start + self.centers(start, end)[:, None] + slots[None, :]

    def extent(
        self, start: float, end: float, segments: slice = slice(None)
    ) -> tuple[float, float]:
        """Seconds in the file from the first window's start to the last one's end.

        Raises:
            ValueError: If there is no such window.
        """
        starts = _some(self.starts(start, end), segments)
        return float(starts[0]), float(starts[-1]) + self.window

    def blocks(self, start: float, end: float) -> Sequence[slice]:
        """All windows at once; one by one where they lie far apart."""
        count = self.count(start, end)
        if end - start <= self.number * self.window * 2 or count <= 1:
            return [slice(0, count)] if count else []
        return [slice(k, k + 1) for k in range(count)]

    def describe(self) -> dict[str, Any]:
        """The grid as plain values, for a feature's spec."""
        return asdict(self) | {"hop": None, "origin": 0.0}


def _some(starts: np.ndarray, segments: slice) -> np.ndarray:
    chosen = starts[segments]
    if len(chosen) == 0:
        raise ValueError(f"there is no segment {segments} among {len(starts)}")
    return chosen


def join_steps(
    anchor: np.ndarray, other: np.ndarray, *, hop: float, what: str = "features"
) -> np.ndarray:
    """Joins the steps of two features by time; nothing is stretched.

    Args:
        anchor: Times of the steps that are kept, (T,) seconds, ascending.
        other: Times of the steps to choose from, (S,) seconds, ascending.
        hop: Seconds between two steps of ``anchor``.
        what: Names both sides in the error.

    Returns:
        For each anchor step the index of the nearest other step, (T,) int64.

    Raises:
        UserError: If a step has no partner within half a hop.
    """
    anchor = np.asarray(anchor, dtype=np.float64)
    other = np.asarray(other, dtype=np.float64)
    if len(anchor) == 0:
        return np.zeros(0, dtype=np.int64)
    if len(other) == 0:
        raise UserError(f"The {what} cannot be joined: one side has no steps; extract it again.")
    right = np.searchsorted(other, anchor).clip(1, max(1, len(other) - 1))
    left = right - 1
    right = right.clip(0, len(other) - 1)
    nearest = np.where(np.abs(other[right] - anchor) < np.abs(anchor - other[left]), right, left)
    gap = np.abs(other[nearest] - anchor)
    if gap.max() > hop / 2 + 1e-9:
        worst = int(gap.argmax())
        raise UserError(
            f"The {what} do not share a time grid: the step at {anchor[worst]:.3f} s has no "
            f"partner within {hop / 2:.3f} s; extract both with the same hop."
        )
    return nearest.astype(np.int64)
