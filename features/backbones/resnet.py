"""ResNet-152 on ImageNet (He et al. 2016), LLP's visual feature: by frame, and averaged a second.

The average is exact for every method whose first visual layer is linear (DESIGN, "Feature store").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from features.backbones.common import NetworkFeature, mean_of_frames
from features.backbones.interface import BACKBONES, Clip
from features.backbones.preprocessing import IMAGENET
from features.backbones.published import PUBLISHED
from features.backbones.weights import Network, WeightChoice
from pipeline.grid import SegmentGrid

if TYPE_CHECKING:
    import torch

__all__ = ["ResNet152", "ResNet152Frames"]

WIDTH = 2048
BATCH = 16
"""Frames at a time; part of no spec, since rows of a batch do not meet in the network."""


def _make() -> torch.nn.Module:
    import torch
    from torchvision.models import resnet152

    network = resnet152()
    network.fc = torch.nn.Identity()
    return network


@BACKBONES.add
class ResNet152Frames(NetworkFeature):
    """The pooled output of every frame, 2048 values.

    Args:
        weights: Which weights; published are torchvision's IMAGENET1K_V1, as LLP's.
        frame_rate: Frames a second.
        compute: Type that the network computes in, ``"float32"`` or ``"float16"``.
    """

    name = "resnet152.frames"
    modality = "visual"
    preparation = IMAGENET
    shape = (WIDTH,)

    def __init__(
        self,
        *,
        weights: WeightChoice | None = None,
        frame_rate: int = 8,
        compute: str = "float32",
    ) -> None:
        if frame_rate < 1:
            raise ValueError(f"frame_rate must be a whole number of at least 1, not {frame_rate}")
        self.grid = SegmentGrid(hop=1.0, frames=frame_rate)
        self.network = Network(
            "resnet152",
            weights or WeightChoice(),
            _make,
            published=PUBLISHED["resnet152"],
            unused=("fc.",),
            compute=compute,
        )

    def spec(self) -> dict[str, Any]:
        """See `Backbone`."""
        return self.describe(
            backbone="torchvision resnet152, average pooling, no classifier",
            preprocessing=IMAGENET.describe(),
            pooling="none: one step a frame",
            version=1,
        )

    def times(self, start: float, end: float) -> np.ndarray:
        """See `Backbone`; the moment of every frame."""
        return self.grid.frame_times(start, end).ravel() - start

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        """See `Backbone`; (3, 224, 224) uint8."""
        return IMAGENET.shrink(frame)

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T * F, 2048)."""
        return self.network(IMAGENET.normalise, np.asarray(clip.frames), batch=BATCH)


@BACKBONES.add
class ResNet152(NetworkFeature):
    """The mean of `ResNet152Frames` over every second, 2048 values.

    Args:
        weights, frame_rate, compute: As there.
    """

    name = "resnet152"
    modality = "visual"
    preparation = IMAGENET
    shape = (WIDTH,)

    def __init__(
        self,
        *,
        weights: WeightChoice | None = None,
        frame_rate: int = 8,
        compute: str = "float32",
    ) -> None:
        self.source = ResNet152Frames(weights=weights, frame_rate=frame_rate, compute=compute)
        self.grid, self.network = self.source.grid, self.source.network

    def spec(self) -> dict[str, Any]:
        """See `Backbone`; the rest stands in the source's spec."""
        return {
            "pooling": "mean of the frames of a segment, summed in float64",
            "dtype": self.dtype,
            "version": 1,
        }

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        """See `Backbone`."""
        return self.source.prepare(frame)

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T, 2048)."""
        return self.derive(self.source.compute(clip))

    def derive(self, steps: np.ndarray) -> np.ndarray:
        """See `Backbone`; from (T * F, 2048) to (T, 2048)."""
        return mean_of_frames(steps, len(steps) // self.grid.frames)
