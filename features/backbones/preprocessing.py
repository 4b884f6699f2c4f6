"""What is done to a frame before a network sees it, as declared values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["CAFFE", "IMAGENET", "KINETICS", "FramePreprocessing", "shrink"]


def shrink(
    frame: np.ndarray, *, resize: int | tuple[int, int], crop: int, antialias: bool = True
) -> np.ndarray:
    """Resizes a frame and keeps its middle, bilinearly on uint8 as torchvision does.

    Args:
        frame: (H, W, 3) uint8.
        resize: Length of the shorter side, or (height, width), in pixels.
        crop: Height and width of the middle that is kept.
        antialias: Whether pixels are averaged when the frame is made smaller.

    Returns:
        (3, crop, crop) uint8.
    """
    import torch
    from torch.nn import functional
    from torchvision.transforms.functional import center_crop

    height, width = frame.shape[:2]
    if isinstance(resize, int):
        short = min(height, width)
        size = [resize if n == short else int(resize * n / short) for n in (height, width)]
    else:
        size = list(resize)
    picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)
    if size != [height, width]:
        # The steps of torchvision's resize, to the bit, but what is cropped away is not rounded.
        planes = picture.float()[None]
        picture = functional.interpolate(planes, size, mode="bilinear", antialias=antialias)[0]
    picture = center_crop(picture, [crop, crop])
    if picture.is_floating_point():
        picture = picture.round().to(torch.uint8)
    return picture.contiguous().numpy()


@dataclass(frozen=True)
class FramePreprocessing:
    """Resize, crop, normalise: torchvision's presets in two halves.

    The first half runs where the frame is decoded and keeps uint8, so that a clip waiting for the
    network is small; the second runs on the network's device. Both together give what the
    weights' own transforms give for the same frame as a uint8 tensor.

    Args:
        resize: Length of the shorter side, or (height, width), in pixels.
        crop: Height and width of the middle that is kept.
        antialias: Whether pixels are averaged when the frame is made smaller.
        mean, std: Subtracted and divided by, a channel.
        scale: Whether 0..255 becomes 0..1 first.
        channels: ``"rgb"`` or ``"bgr"``, the order that the network was trained with.
    """

    resize: int | tuple[int, int]
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    antialias: bool = True
    scale: bool = True
    channels: str = "rgb"

    def describe(self) -> dict[str, Any]:
        """The steps as plain values, for a feature's spec."""
        values = asdict(self) | {"mean": list(self.mean), "std": list(self.std)}
        if not isinstance(self.resize, int):
            values["resize"] = list(self.resize)
        return values | {"interpolation": "bilinear on uint8"}

    def shrink(self, frame: np.ndarray) -> np.ndarray:
        """Resizes and crops.

        Args:
            frame: (H, W, 3) uint8 RGB.

        Returns:
            (3, crop, crop) uint8 RGB.
        """
        return shrink(frame, resize=self.resize, crop=self.crop, antialias=self.antialias)

    def normalise(self, frames: torch.Tensor) -> torch.Tensor:
        """Turns what `shrink` gave into the network's input.

        Args:
            frames: (..., 3, h, w) uint8 RGB.

        Returns:
            (..., 3, h, w) float32 in the network's order of channels.
        """
        values = frames.float()
        if self.scale:
            values = values / 255
        if self.channels == "bgr":
            values = values.flip(-3)
        mean, std = (values.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (values - mean) / std


IMAGENET = FramePreprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Of torchvision's IMAGENET1K_V1 weights of resnet152 and squeezenet1_0."""

KINETICS = FramePreprocessing(
    (128, 171), 112, (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989), antialias=False
)
"""Of torchvision's KINETICS400_V1 weights of r2plus1d_18."""

CAFFE = FramePreprocessing(256, 227, (104.0, 117.0, 123.0), scale=False, channels="bgr")
"""Of networks trained in Caffe: BGR in 0..255 minus the mean, 227 x 227. Caffe's own tools warp
frames to 256 x 256 first; here the aspect ratio is kept, as for the other networks."""
