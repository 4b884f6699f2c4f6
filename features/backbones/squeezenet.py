"""SqueezeNet 1.0 on ImageNet (Iandola et al. 2016): a small visual backbone."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from features.backbones.common import WINDOW, NetworkFeature, make_grid, mean_of_frames
from features.backbones.interface import BACKBONES, Clip
from features.backbones.preprocessing import CAFFE, IMAGENET, FramePreprocessing
from features.backbones.published import PUBLISHED
from features.backbones.weights import Network, WeightChoice

if TYPE_CHECKING:
    import torch

__all__ = ["SqueezeNet10"]

WIDTH = 512
BATCH = 16
PREPROCESSING = {"caffe": CAFFE, "imagenet": IMAGENET}
CAFFE_FILES = ("e84c12a8955d4a1b9bebd5a9dc65b265bdfd83e7280baea7041d4b288b77af32",)
"""Digests of weight files known to be exports from Caffe. Weights do not tell what input they were
trained on, and the wrong one gives features that look right and mean less."""


def _make() -> torch.nn.Module:
    import torch
    from torchvision.models import squeezenet1_0

    network = squeezenet1_0()
    network.classifier = torch.nn.AdaptiveAvgPool2d(1)
    return network


@BACKBONES.add
class SqueezeNet10(NetworkFeature):
    """The last feature map averaged over the picture, and over the frames of a segment.

    Args:
        weights: Which weights; published are torchvision's IMAGENET1K_V1.
        frame_rate: Frames a second.
        preprocess: What the weights were trained on: ``"imagenet"`` (torchvision: RGB, 224,
            normalised), ``"caffe"`` (BGR, 227, 0..255 minus the mean), or ``"auto"``: Caffe's for
            files known to come from there, else torchvision's.
        windows: Windows spread evenly over the clip; 0 for a segment a second.
        window: Seconds of each of them.
        compute: Type that the network computes in, ``"float32"`` or ``"float16"``.
    """

    name = "squeezenet1_0"
    modality = "visual"
    shape = (WIDTH,)

    def __init__(
        self,
        *,
        weights: WeightChoice | None = None,
        frame_rate: int = 8,
        preprocess: str = "auto",
        windows: int = 0,
        window: float = WINDOW,
        compute: str = "float32",
    ) -> None:
        if frame_rate < 1:
            raise ValueError(f"frame_rate must be a whole number of at least 1, not {frame_rate}")
        if preprocess not in ("auto", *PREPROCESSING):
            raise ValueError(f"preprocess is auto, caffe or imagenet, not {preprocess!r}")
        frames = round(frame_rate * window) if windows else frame_rate
        self.grid = make_grid(frames=max(1, frames), windows=windows, window=window)
        self._preprocess = preprocess
        self.network = Network(
            self.name,
            weights or WeightChoice(),
            _make,
            published=PUBLISHED[self.name],
            unused=("classifier.",),
            compute=compute,
        )

    @cached_property
    def preprocessing(self) -> FramePreprocessing:
        """What is done to a frame, given the weights."""
        name = self._preprocess
        if name == "auto":
            known = self.network.digest().removeprefix("sha256:") in CAFFE_FILES
            name = "caffe" if known else "imagenet"
        return PREPROCESSING[name]

    def spec(self) -> dict[str, Any]:
        """See `Backbone`."""
        return self.describe(
            backbone="torchvision squeezenet1_0, features, average over the picture",
            preprocessing=self.preprocessing.describe(),
            pooling="mean of the frames of a segment, summed in float64",
            version=1,
        )

    @property
    def preparation(self) -> FramePreprocessing:
        """See `Backbone`."""
        return self.preprocessing

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        """See `Backbone`; (3, 224, 224) or (3, 227, 227) uint8."""
        return self.preprocessing.shrink(frame)

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T, 512)."""
        frames = np.asarray(clip.frames)  # (T * F, 3, h, w)
        steps = self.network(self.preprocessing.normalise, frames, batch=BATCH)
        return mean_of_frames(steps, clip.segments)
