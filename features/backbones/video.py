"""R(2+1)D-18 on Kinetics-400 (Tran et al. 2018), LLP's motion feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from features.backbones.interface import BACKBONES, Clip
from features.backbones.preprocessing import KINETICS
from features.backbones.weights import Network, Published, WeightChoice
from pipeline.grid import SegmentGrid

if TYPE_CHECKING:
    import torch

__all__ = ["R2Plus1D18"]

WIDTH = 512
BATCH = 4
"""Segments at a time."""
KINETICS400_V1 = Published("https://download.pytorch.org/models/r2plus1d_18-91a641e6.pth", True)


def _make() -> torch.nn.Module:
    import torch
    from torchvision.models.video import r2plus1d_18

    network = r2plus1d_18()
    network.fc = torch.nn.Identity()
    return network


def _input(frames: torch.Tensor) -> torch.Tensor:
    """(N, F, 3, h, w) uint8 to (N, 3, F, h, w) float32."""
    return KINETICS.normalise(frames).transpose(1, 2)


@BACKBONES.add
class R2Plus1D18:
    """One clip of frames a second, spread over it evenly; 512 values.

    Args:
        weights: Which weights; published are torchvision's KINETICS400_V1.
        frames: Frames of a second; the network was trained on 16, LLP's features used 8.
    """

    name = "r2plus1d_18"
    modality = "visual"
    weights_required = True
    audio_rate = None
    shape = (WIDTH,)
    dtype = "float32"
    source = None

    def __init__(self, *, weights: WeightChoice | None = None, frames: int = 8) -> None:
        if frames < 1:
            raise ValueError(f"frames must be a whole number of at least 1, not {frames}")
        self.grid = SegmentGrid(hop=1.0, frames=frames)
        self._network = Network(
            self.name,
            weights or WeightChoice(),
            _make,
            published=KINETICS400_V1,
            unused=("fc.",),
        )

    def spec(self) -> dict[str, Any]:
        """See `Backbone`."""
        return {
            "backbone": "torchvision r2plus1d_18, average pooling, no classifier",
            "weights": self._network.digest(),
            "preprocessing": KINETICS.describe(),
            "pooling": "one network clip a segment",
            "compute": "float32",
            "dtype": self.dtype,
            "version": 1,
        }

    def times(self, start: float, end: float) -> np.ndarray:
        """See `Backbone`; the middle of every segment."""
        return self.grid.centers(start, end)

    def to(self, device: str) -> None:
        """See `Backbone`."""
        self._network.to(device)

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        """See `Backbone`; (3, 112, 112) uint8."""
        return KINETICS.shrink(frame)

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T, 512)."""
        frames = np.stack(clip.frames)  # (T * F, 3, 112, 112)
        segments = frames.reshape(clip.segments, self.grid.frames, *frames.shape[1:])
        return self._network(_input, segments, batch=BATCH)
