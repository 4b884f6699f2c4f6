"""What features of networks have in common: a step a segment, computed from frames or from sound.

A new backbone is one file with one class on top of `NetworkFeature`; see `features.backbones.video`
for pictures and `features.backbones.panns` for sound.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from features.backbones.weights import Network
from pipeline.grid import Grid, SegmentGrid, UniformGrid

__all__ = ["NetworkFeature", "make_grid", "mean_of_frames"]

WINDOW = 2.0
"""Seconds of a window where a fixed number of them is spread over a clip."""


class NetworkFeature:
    """A float32 vector a segment, the output of one network; the usual answers of a `Backbone`.

    A subclass sets ``grid`` and ``network`` and says what is done before and after the network.

    Attributes:
        grid: The segments.
        network: What computes.
    """

    weights_required: ClassVar[bool] = True
    audio_rate: int | None = None
    dtype = "float32"
    source = None
    grid: Grid
    network: Network

    def describe(self, **values: Any) -> dict[str, Any]:
        """A spec: some values of the subclass's, and what holds for every network."""
        return {
            **values,
            "weights": self.network.digest(),
            "compute": self.network.compute,
            "dtype": self.dtype,
        }

    def times(self, start: float, end: float) -> np.ndarray:
        """See `Backbone`; the middle of every segment."""
        return self.grid.centers(start, end)

    def to(self, device: str) -> None:
        """See `Backbone`."""
        self.network.to(device)


def make_grid(
    *, hop: float = 1.0, frames: int = 0, windows: int = 0, window: float = WINDOW
) -> Grid:
    """The grid of a backbone that takes the options ``windows`` and ``window``.

    Args:
        hop: Seconds a segment, one after the other, where ``windows`` is 0.
        frames: Frames a segment or window, spread over it evenly.
        windows: Windows spread evenly over the clip; 0 for segments.
        window: Seconds of each of them.

    Raises:
        ValueError: If a number makes no sense, or both are asked for.
    """
    if windows:
        if hop != 1.0:
            raise ValueError("hop is for segments; leave it out where windows is given")
        return UniformGrid(number=windows, window=window, frames=frames)
    if window != WINDOW:
        raise ValueError("window is for windows; segments are as long as hop")
    return SegmentGrid(hop=hop, frames=frames)


def mean_of_frames(steps: np.ndarray, segments: int) -> np.ndarray:
    """Averages the frames of every segment, (T * F, D) to (T, D) float32.

    Sums are taken in float64, so that the result does not depend on the order of additions.
    """
    frames = steps.reshape(segments, -1, steps.shape[-1])  # (T, F, D)
    return frames.mean(axis=1, dtype=np.float64).astype(np.float32)
