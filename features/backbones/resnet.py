"""ResNet-152 on ImageNet (He et al. 2016), LLP's visual feature: by frame, and averaged a second.

The average is exact for every method whose first visual layer is linear (DESIGN, "Feature store").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from features.backbones.interface import BACKBONES, Clip
from features.backbones.preprocessing import IMAGENET
from features.backbones.weights import Network, Published, WeightChoice
from pipeline.grid import SegmentGrid

if TYPE_CHECKING:
    import torch

__all__ = ["ResNet152", "ResNet152Frames"]

WIDTH = 2048
BATCH = 16
"""Frames at a time; part of no spec, since rows of a batch do not meet in the network."""
IMAGENET1K_V1 = Published("https://download.pytorch.org/models/resnet152-394f9c45.pth", True)


def _make() -> torch.nn.Module:
    import torch
    from torchvision.models import resnet152

    network = resnet152()
    network.fc = torch.nn.Identity()
    return network


@BACKBONES.add
class ResNet152Frames:
    """The pooled output of every frame, 2048 values.

    Args:
        weights: Which weights; published are torchvision's IMAGENET1K_V1, as LLP's.
        frame_rate: Frames a second.
    """

    name = "resnet152.frames"
    modality = "visual"
    weights_required = True
    audio_rate = None
    shape = (WIDTH,)
    dtype = "float32"
    source = None

    def __init__(self, *, weights: WeightChoice | None = None, frame_rate: int = 8) -> None:
        if frame_rate < 1:
            raise ValueError(f"frame_rate must be a whole number of at least 1, not {frame_rate}")
        self.grid = SegmentGrid(hop=1.0, frames=frame_rate)
        self._network = Network(
            "resnet152",
            weights or WeightChoice(),
            _make,
            published=IMAGENET1K_V1,
            unused=("fc.",),
        )

    def spec(self) -> dict[str, Any]:
        """See `Backbone`."""
        return {
            "backbone": "torchvision resnet152, average pooling, no classifier",
            "weights": self._network.digest(),
            "preprocessing": IMAGENET.describe(),
            "pooling": "none: one step a frame",
            "compute": "float32",
            "dtype": self.dtype,
            "version": 1,
        }

    def times(self, start: float, end: float) -> np.ndarray:
        """See `Backbone`; the moment of every frame."""
        return self.grid.frame_times(start, end).ravel() - start

    def to(self, device: str) -> None:
        """See `Backbone`."""
        self._network.to(device)

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        """See `Backbone`; (3, 224, 224) uint8."""
        return IMAGENET.shrink(frame)

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T * F, 2048)."""
        return self._network(IMAGENET.normalise, np.stack(clip.frames), batch=BATCH)


@BACKBONES.add
class ResNet152:
    """The mean of `ResNet152Frames` over every second, 2048 values.

    Args:
        weights: As there.
        frame_rate: As there.
    """

    name = "resnet152"
    modality = "visual"
    weights_required = True
    audio_rate = None
    shape = (WIDTH,)
    dtype = "float32"

    def __init__(self, *, weights: WeightChoice | None = None, frame_rate: int = 8) -> None:
        self.source = ResNet152Frames(weights=weights, frame_rate=frame_rate)
        self.grid = self.source.grid

    def spec(self) -> dict[str, Any]:
        """See `Backbone`; the rest stands in the source's spec."""
        return {
            "pooling": "mean of the frames of a segment, summed in float64",
            "dtype": self.dtype,
            "version": 1,
        }

    def times(self, start: float, end: float) -> np.ndarray:
        """See `Backbone`; the middle of every segment."""
        return self.grid.centers(start, end)

    def to(self, device: str) -> None:
        """See `Backbone`."""
        self.source.to(device)

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        """See `Backbone`."""
        return self.source.prepare(frame)

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T, 2048)."""
        return self.derive(self.source.compute(clip))

    def derive(self, steps: np.ndarray) -> np.ndarray:
        """See `Backbone`; from (T * F, 2048) to (T, 2048)."""
        seconds = steps.reshape(-1, self.grid.frames, WIDTH)
        return seconds.mean(axis=1, dtype=np.float64).astype(np.float32)
