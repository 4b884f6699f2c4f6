"""A backbone that computes nothing: what is left of a run's time is everything else's."""

from __future__ import annotations

from typing import Any

import numpy as np

from features.backbones.interface import BACKBONES, Clip
from pipeline.grid import SegmentGrid

__all__ = ["Null"]


@BACKBONES.add
class Null:
    """The upper left pixel of every segment's first frame.

    Args:
        hop: Seconds a segment.
        frames: Frames a segment that are asked of the decoder.
    """

    name = "null"
    modality = "visual"
    weights_required = False
    audio_rate = None
    shape = (3,)
    dtype = "uint8"
    source = None

    def __init__(self, *, hop: float = 10.0, frames: int = 1) -> None:
        if frames < 1:
            raise ValueError(f"a segment needs at least one frame, not {frames}")
        self.grid = SegmentGrid(hop=hop, frames=frames)

    def spec(self) -> dict[str, Any]:
        """See `Backbone`."""
        return {"backbone": self.name, "dtype": self.dtype}

    def times(self, start: float, end: float) -> np.ndarray:
        """See `Backbone`; the middle of every segment."""
        return self.grid.centers(start, end)

    def to(self, device: str) -> None:
        """See `Backbone`; there is nothing to move."""

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        """See `Backbone`; (3,) uint8."""
        return frame[0, 0].copy()

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T, 3)."""
        return np.stack(clip.frames).reshape(clip.segments, -1, 3)[:, 0]
