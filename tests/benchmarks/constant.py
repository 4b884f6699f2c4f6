"""Visual backbones without networks: what is left is decoding, resizing and bookkeeping.

In a module of their own, so that reader processes can import them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from features.backbones.interface import BACKBONES, Clip
from features.backbones.preprocessing import IMAGENET, KINETICS
from pipeline.grid import SegmentGrid

__all__ = ["LIKE_NETWORKS", "Cropped", "LikeR2Plus1D", "LikeResNet", "LikeSqueezeNet"]


class _Constant:
    """A visual backbone without a network."""

    modality = "visual"
    weights_required = False
    audio_rate = None
    shape = (1,)
    dtype = "float32"
    source = None
    grid = SegmentGrid(hop=1.0, frames=8)

    def spec(self) -> dict[str, Any]:
        return {"backbone": self.name}

    def times(self, start: float, end: float) -> np.ndarray:
        return self.grid.centers(start, end)

    def to(self, device: str) -> None:
        pass

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        return frame[:224, :224]

    def compute(self, clip: Clip) -> np.ndarray:
        return np.zeros((clip.segments, 1), dtype=np.float32)


@BACKBONES.add
class Cropped(_Constant):
    name = "bench.cropped"


@BACKBONES.add
class LikeResNet(_Constant):
    name = "bench.like_resnet152"
    preparation = IMAGENET

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        return IMAGENET.shrink(frame)


@BACKBONES.add
class LikeSqueezeNet(LikeResNet):
    name = "bench.like_squeezenet"


@BACKBONES.add
class LikeR2Plus1D(_Constant):
    name = "bench.like_r2plus1d"
    preparation = KINETICS

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        return KINETICS.shrink(frame)


LIKE_NETWORKS = (LikeResNet, LikeR2Plus1D, LikeSqueezeNet)
"""With the frame times and the resizing of the networks that they are named after."""
