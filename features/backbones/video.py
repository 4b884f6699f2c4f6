"""R(2+1)D-18 on Kinetics-400 (Tran et al. 2018), LLP's motion feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from features.backbones.common import WINDOW, NetworkFeature, make_grid
from features.backbones.interface import BACKBONES, Clip
from features.backbones.preprocessing import KINETICS
from features.backbones.published import PUBLISHED
from features.backbones.weights import Network, WeightChoice

if TYPE_CHECKING:
    import torch

__all__ = ["R2Plus1D18"]

WIDTH = 512
BATCH = 4
"""Segments at a time."""


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
class R2Plus1D18(NetworkFeature):
    """One clip of frames a segment, spread over it evenly; 512 values.

    Args:
        weights: Which weights; published are torchvision's KINETICS400_V1.
        frames: Frames of a segment; the network was trained on 16, LLP's features used 8.
        windows: Windows spread evenly over the clip; 0 for a segment a second.
        window: Seconds of each of them.
        compute: Type that the network computes in, ``"float32"`` or ``"float16"``.
    """

    name = "r2plus1d_18"
    modality = "visual"
    preparation = KINETICS
    shape = (WIDTH,)

    def __init__(
        self,
        *,
        weights: WeightChoice | None = None,
        frames: int = 8,
        windows: int = 0,
        window: float = WINDOW,
        compute: str = "float32",
    ) -> None:
        if frames < 1:
            raise ValueError(f"frames must be a whole number of at least 1, not {frames}")
        self.grid = make_grid(frames=frames, windows=windows, window=window)
        self.network = Network(
            self.name,
            weights or WeightChoice(),
            _make,
            published=PUBLISHED[self.name],
            unused=("fc.",),
            compute=compute,
        )

    def spec(self) -> dict[str, Any]:
        """See `Backbone`."""
        return self.describe(
            backbone="torchvision r2plus1d_18, average pooling, no classifier",
            preprocessing=KINETICS.describe(),
            pooling="one network clip a segment",
            version=1,
        )

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        """See `Backbone`; (3, 112, 112) uint8."""
        return KINETICS.shrink(frame)

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T, 512)."""
        frames = np.asarray(clip.frames)  # (T * F, 3, 112, 112)
        segments = frames.reshape(clip.segments, self.grid.frames, *frames.shape[1:])
        return self.network(_input, segments, batch=BATCH)
