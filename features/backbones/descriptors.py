"""The two features that need no weights; see `pipeline.descriptors`."""

from __future__ import annotations

from typing import Any

import numpy as np

from features.backbones.interface import BACKBONES, Clip
from pipeline.descriptors import (
    AUDIO_RATE,
    AUDIO_WIDTH,
    FRAME_SIZE,
    FRAMES_PER_SEGMENT,
    VISUAL_WIDTH,
    audio_descriptor,
    audio_descriptor_spec,
    resize_area,
    visual_descriptor,
    visual_descriptor_spec,
)
from pipeline.grid import SegmentGrid
from pipeline.stages import stage

__all__ = ["FrameStats", "LogMelStats"]


@BACKBONES.add
class LogMelStats:
    """Log-Mel statistics of every second.

    Args:
        hop: Seconds a segment.
    """

    name = "logmel_stats"
    modality = "audio"
    weights_required = False
    audio_rate = AUDIO_RATE
    shape = (AUDIO_WIDTH,)
    dtype = "float32"
    source = None

    def __init__(self, *, hop: float = 1.0) -> None:
        self.grid = SegmentGrid(hop=hop)

    def spec(self) -> dict[str, Any]:
        """See `Backbone`."""
        return {"backbone": self.name, "descriptor": audio_descriptor_spec(), "dtype": self.dtype}

    def times(self, start: float, end: float) -> np.ndarray:
        """See `Backbone`; the middle of every segment."""
        return self.grid.centers(start, end)

    def to(self, device: str) -> None:
        """See `Backbone`; there is nothing to move."""

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T, AUDIO_WIDTH)."""
        with stage("log-mel"):
            return audio_descriptor(clip.waveform, segments=clip.segments, hop=self.grid.hop)


@BACKBONES.add
class FrameStats:
    """Shape, texture, colour and motion statistics of every second.

    Args:
        frames: Frames a segment.
        hop: Seconds a segment.
    """

    name = "frame_stats"
    modality = "visual"
    weights_required = False
    audio_rate = None
    shape = (VISUAL_WIDTH,)
    dtype = "float32"
    source = None

    def __init__(self, *, frames: int = FRAMES_PER_SEGMENT, hop: float = 1.0) -> None:
        self.grid = SegmentGrid(hop=hop, frames=frames)

    def spec(self) -> dict[str, Any]:
        """See `Backbone`."""
        return {"backbone": self.name, "descriptor": visual_descriptor_spec(), "dtype": self.dtype}

    def times(self, start: float, end: float) -> np.ndarray:
        """See `Backbone`; the middle of every segment."""
        return self.grid.centers(start, end)

    def to(self, device: str) -> None:
        """See `Backbone`; there is nothing to move."""

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        """See `Backbone`; (h, w, 3) uint8 of the descriptor's own size."""
        return resize_area(frame[None], FRAME_SIZE)[0]

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T, VISUAL_WIDTH)."""
        frames = np.stack(clip.frames)  # (T * F, h, w, 3)
        return visual_descriptor(frames.reshape(clip.segments, -1, *frames.shape[1:]))
