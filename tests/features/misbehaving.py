"""Backbones for the tests of reading, in a module that reader processes can import.

They are not registered here: other tests look at every registered backbone.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np

from features.backbones.descriptors import FrameStats
from features.backbones.interface import Clip
from pipeline.grid import SegmentGrid, UniformGrid

__all__ = ["BAD_WIDTH", "Buggy", "Crashing", "Cuts", "Hanging", "Overlapping", "Process", "Windows"]

BAD_WIDTH = 64
"""Pictures of this width make the first three misbehave."""


class _Frames(FrameStats):
    """The mean of every segment's frames."""

    shape = (3,)

    def spec(self) -> dict[str, Any]:
        return {"backbone": self.name}

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        if frame.shape[1] == BAD_WIDTH:
            self.misbehave()
        return frame[::8, ::8].copy()

    def misbehave(self) -> None:
        """What is done to a picture of `BAD_WIDTH`."""

    def compute(self, clip: Clip) -> np.ndarray:
        frames = np.asarray(clip.frames, dtype=np.float32)
        return frames.reshape(clip.segments, -1, 3).mean(axis=1)


class Hanging(_Frames):
    """Never ends."""

    name = "test.hanging"

    def misbehave(self) -> None:
        time.sleep(1000)


class Crashing(_Frames):
    """Takes its process along."""

    name = "test.crashing"

    def misbehave(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class Buggy(_Frames):
    """Has a bug."""

    name = "test.buggy"

    def misbehave(self) -> None:
        raise ZeroDivisionError("a bug")


class Process(_Frames):
    """Tells which process prepares its frames."""

    name = "test.process"
    shape = (1,)

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        return np.array([os.getpid()])

    def compute(self, clip: Clip) -> np.ndarray:
        return np.asarray(clip.frames, dtype=np.float32)[:: self.grid.frames]


class Overlapping(_Frames):
    """Windows of two seconds of which neighbours share one."""

    name = "test.overlapping"

    def __init__(self) -> None:
        self.grid = SegmentGrid(hop=1.0, window=2.0, frames=4)


class Windows(_Frames):
    """Five windows, however long the clip is."""

    name = "test.windows"

    def __init__(self) -> None:
        self.grid = UniformGrid(number=5, window=1.0, frames=2)


class Cuts:
    """A part of every segment's samples, which overlap, at a hop of no whole number of them."""

    name = "test.cuts"
    modality = "audio"
    weights_required = False
    audio_rate = 11025
    shape = (20,)
    dtype = "float32"
    source = None
    grid = SegmentGrid(hop=0.7, window=1.1)

    def spec(self) -> dict[str, Any]:
        return {"backbone": self.name}

    def times(self, start: float, end: float) -> np.ndarray:
        return self.grid.centers(start, end)

    def to(self, device: str) -> None:
        """There is nothing to move."""

    def compute(self, clip: Clip) -> np.ndarray:
        return clip.cuts(12000, self.audio_rate)[:, ::600].copy()
