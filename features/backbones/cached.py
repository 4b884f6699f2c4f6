"""Inputs of small encoders that are trained from scratch, kept so that nothing is decoded twice.

Both stand on the same windows by default, so that step n of the sound belongs to step n of the
picture: ten windows of two seconds, the sound of all of it, and the frames around its middle
(Morgado et al. 2021, "Robust audio-visual instance discrimination": 8 frames at 16 a second with
two seconds of sound).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from features.backbones.common import WINDOW, make_grid
from features.backbones.interface import BACKBONES, Clip
from features.backbones.preprocessing import shrink
from pipeline.grid import UniformGrid
from pipeline.mel import PANNS, XID_LARGE, XID_SMALL, log_mel
from pipeline.stages import stage

__all__ = ["LogMelPatches", "LowResolutionClips"]

FRONT_ENDS = {"xid_small": XID_SMALL, "xid_large": XID_LARGE, "panns": PANNS}
DTYPES = ("float32", "float16")


@BACKBONES.add
class LogMelPatches:
    """The log-Mel spectrogram of every window's own sound, (frames, bands) decibels.

    Args:
        front_end: ``"xid_small"`` (11,025 Hz; 80 x 80 in two seconds), ``"xid_large"`` (24 kHz;
            128 x 128) or ``"panns"`` (32 kHz; 201 x 64).
        hop: Seconds a segment, where ``windows`` is 0.
        windows: Windows spread evenly over the clip; 0 for segments one after the other.
        window: Seconds of each of them.
        dtype: Type they are kept in, ``"float32"`` or ``"float16"``. The latter is off by at most
            1/32 dB, as nothing lies beyond 128 dB.
    """

    name = "logmel_patches"
    modality = "audio"
    weights_required = False
    source = None

    def __init__(
        self,
        *,
        front_end: str = "xid_small",
        hop: float = 1.0,
        windows: int = 10,
        window: float = WINDOW,
        dtype: str = "float16",
    ) -> None:
        if front_end not in FRONT_ENDS:
            raise ValueError(f"front_end is one of {', '.join(FRONT_ENDS)}, not {front_end!r}")
        if dtype not in DTYPES:
            raise ValueError(f"dtype is {' or '.join(DTYPES)}, not {dtype!r}")
        self.grid = make_grid(hop=hop, windows=windows, window=window)
        self._front_end = FRONT_ENDS[front_end]
        self._samples = round(self.grid.span * self._front_end.rate)
        self.audio_rate = self._front_end.rate
        self.shape = (self._front_end.frames(self._samples), self._front_end.bands)
        self.dtype = dtype

    def spec(self) -> dict[str, Any]:
        """See `Backbone`."""
        return {
            "backbone": self.name,
            "front_end": self._front_end.describe(),
            "samples": self._samples,
            "dtype": self.dtype,
            "version": 1,
        }

    def times(self, start: float, end: float) -> np.ndarray:
        """See `Backbone`; the middle of every window."""
        return self.grid.centers(start, end)

    def to(self, device: str) -> None:
        """See `Backbone`; there is nothing to move."""

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T, frames, bands)."""
        cuts = clip.cuts(self._samples, self.audio_rate)  # (T, n)
        with stage("log-mel"):
            return log_mel(cuts, self._front_end).astype(self.dtype)


@BACKBONES.add
class LowResolutionClips:
    """Small films of a few frames around the middle of every window, (F, size, size, 3) uint8 RGB.

    The shorter side of a frame is made ``size`` pixels long, then its middle is kept.

    Args:
        frames: Frames a film (F).
        rate: Frames a second; 0 spreads them over the window.
        size: Height and width in pixels.
        windows: Windows spread evenly over the clip.
        window: Seconds of each of them.
    """

    name = "lowres_clips"
    modality = "visual"
    weights_required = False
    audio_rate = None
    dtype = "uint8"
    source = None

    def __init__(
        self,
        *,
        frames: int = 8,
        rate: float = 16.0,
        size: int = 80,
        windows: int = 10,
        window: float = WINDOW,
    ) -> None:
        if frames < 1 or size < 1 or rate < 0:
            raise ValueError(f"frames and size are at least 1: {frames}, {size}; rate is {rate:g}")
        self.grid = UniformGrid(number=windows, window=window, frames=frames, rate=rate or None)
        self._size = size
        self.shape = (frames, size, size, 3)

    def spec(self) -> dict[str, Any]:
        """See `Backbone`."""
        return {
            "backbone": self.name,
            "preprocessing": {
                "resize": self._size,
                "crop": self._size,
                "antialias": True,
                "interpolation": "bilinear on uint8",
                "channels": "rgb",
            },
            "dtype": self.dtype,
            "version": 1,
        }

    def times(self, start: float, end: float) -> np.ndarray:
        """See `Backbone`; the middle of every window."""
        return self.grid.centers(start, end)

    def to(self, device: str) -> None:
        """See `Backbone`; there is nothing to move."""

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        """See `Backbone`; (size, size, 3) uint8."""
        small = shrink(frame, resize=self._size, crop=self._size)
        return np.ascontiguousarray(np.moveaxis(small, 0, -1))

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T, F, size, size, 3)."""
        return np.asarray(clip.frames).reshape(clip.segments, *self.shape)
