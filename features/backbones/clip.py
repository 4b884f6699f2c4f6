"""CLIP image embeddings (Radford et al. 2021), ViT-B/16 and ViT-L/14, through transformers.

The checkpoints are folders in the hub's layout; the text side is `features.text`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from features.backbones.common import NetworkFeature, mean_of_frames
from features.backbones.hub import Checkpoint, HubModel, HubNetwork
from features.backbones.interface import BACKBONES, Clip
from features.backbones.weights import WeightChoice
from pipeline.grid import SegmentGrid

if TYPE_CHECKING:
    import torch

__all__ = [
    "CLIP_VIT_B16",
    "CLIP_VIT_L14",
    "ClipB16",
    "ClipB16Frames",
    "ClipL14",
    "ClipL14Frames",
    "describe_preprocessing",
    "normalise",
    "shrink",
]

SIZE = 224
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
BATCH = 16
"""Frames at a time; part of no spec, since rows of a batch do not meet in the network."""

_PREPROCESSING = {
    "do_resize": True,
    "size": SIZE,
    "resample": 3,
    "do_center_crop": True,
    "crop_size": SIZE,
    "do_normalize": True,
    "image_mean": MEAN,
    "image_std": STD,
}
_FIXED = ("projection_dim", "vision_config.patch_size", "vision_config.image_size")


def _clip(*, width: int, patch: int, vision: tuple[int, int], text: tuple[int, int]) -> HubModel:
    """A published CLIP; ``vision`` and ``text`` are width and layers, a head is 64 wide."""
    towers = {
        f"{tower}_config": {
            "hidden_size": size,
            "intermediate_size": 4 * size,
            "num_hidden_layers": layers,
            "num_attention_heads": size // 64,
            "projection_dim": width,
        }
        for tower, (size, layers) in (("vision", vision), ("text", text))
    }
    towers["vision_config"] |= {"patch_size": patch, "image_size": SIZE}
    return HubModel("clip", {"projection_dim": width, **towers}, _FIXED, _PREPROCESSING)


CLIP_VIT_B16 = _clip(width=512, patch=16, vision=(768, 12), text=(512, 12))
CLIP_VIT_L14 = _clip(width=768, patch=14, vision=(1024, 24), text=(768, 12))


def shrink(frame: np.ndarray) -> np.ndarray:
    """Resizes the shorter side to 224, bicubically with antialiasing, and keeps the middle.

    The values are those of transformers' CLIPImageProcessor, bit for bit. Where an odd number of
    rows is cut off, it keeps one row more at the bottom, as that processor does; torchvision's own
    crop, and so OpenAI's code, would round to even.

    Args:
        frame: (H, W, 3) uint8 RGB.

    Returns:
        (3, 224, 224) uint8 RGB.
    """
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as transforms

    # The second version of torchvision's transforms resizes in uint8, as the processor does; the
    # first one goes through float32, which rounds other pixels.
    picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1).contiguous()
    picture = transforms.resize(picture, [SIZE], InterpolationMode.BICUBIC, antialias=True)
    top, left = (picture.shape[1] - SIZE) // 2, (picture.shape[2] - SIZE) // 2
    return transforms.crop(picture, top, left, SIZE, SIZE).contiguous().numpy()


def normalise(frames: torch.Tensor) -> torch.Tensor:
    """Turns what `shrink` gave into the network's input.

    Scaling to 0..1 is folded into mean and deviation, in the processor's order of operations:
    dividing by 255 first differs in the last bit.

    Args:
        frames: (..., 3, 224, 224) uint8.

    Returns:
        (..., 3, 224, 224) float32.
    """
    values = frames.float()
    scale = 1.0 / (1 / 255)
    mean, std = (values.new_tensor(v)[:, None, None] * scale for v in (MEAN, STD))
    return (values - mean) / std


def describe_preprocessing() -> dict[str, Any]:
    """The steps as plain values, for a feature's spec."""
    return {
        "resize": SIZE,
        "crop": SIZE,
        "antialias": True,
        "interpolation": "bicubic on uint8",
        "mean": list(MEAN),
        "std": list(STD),
        "channels": "rgb",
    }


class _Frames(NetworkFeature):
    """The embedding of every frame; see the registered classes."""

    modality = "visual"
    title: ClassVar[str]
    model: ClassVar[HubModel]

    def __init__(
        self, weights: WeightChoice | None, frame_rate: int, normalise: bool, compute: str
    ) -> None:
        if frame_rate < 1:
            raise ValueError(f"frame_rate must be a whole number of at least 1, not {frame_rate}")
        self.grid = SegmentGrid(hop=1.0, frames=frame_rate)
        self._normalise = normalise
        family = self.name.removesuffix(".frames")
        self.network = HubNetwork(
            Checkpoint(family, weights or WeightChoice(), self.model),
            self._part,
            compute=compute,
        )

    def _part(self, model: Any) -> torch.nn.Module:
        from features.backbones.networks.embeddings import ImageEmbedding

        return ImageEmbedding(model, unit=self._normalise)

    def spec(self) -> dict[str, Any]:
        """See `Backbone`."""
        return self.describe(
            backbone=f"{self.title} image embedding after projection",
            preprocessing=describe_preprocessing(),
            normalised=self._normalise,
            pooling="none: one step a frame",
            version=1,
        )

    def times(self, start: float, end: float) -> np.ndarray:
        """See `Backbone`; the moment of every frame."""
        return self.grid.frame_times(start, end).ravel() - start

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        """See `Backbone`; (3, 224, 224) uint8."""
        return shrink(frame)

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T * F, D)."""
        return self.network(normalise, np.stack(clip.frames), batch=BATCH)


class _Segments(NetworkFeature):
    """The mean of the frames' embeddings over every second; see the registered classes."""

    modality = "visual"

    def __init__(self, source: _Frames) -> None:
        self.source = source
        self.grid, self.network = source.grid, source.network

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
        """See `Backbone`; (T, D)."""
        return self.derive(self.source.compute(clip))

    def derive(self, steps: np.ndarray) -> np.ndarray:
        """See `Backbone`; from (T * F, D) to (T, D)."""
        return mean_of_frames(steps, len(steps) // self.grid.frames)


@BACKBONES.add
class ClipB16Frames(_Frames):
    """ViT-B/16's embedding of every frame, 512 values, as lsld takes them.

    Args:
        weights: Which weights; a folder in the hub's layout. Published are OpenAI's.
        frame_rate: Frames a second.
        normalise: Whether embeddings are brought to length 1; lsld's released ones are not.
        compute: Type that the network computes in, ``"float32"`` or ``"float16"``.
    """

    name = "clip_vit_b16.frames"
    title = "CLIP ViT-B/16"
    model = CLIP_VIT_B16
    shape = (512,)

    def __init__(
        self,
        *,
        weights: WeightChoice | None = None,
        frame_rate: int = 8,
        normalise: bool = True,
        compute: str = "float32",
    ) -> None:
        super().__init__(weights, frame_rate, normalise, compute)


@BACKBONES.add
class ClipB16(_Segments):
    """The mean of `ClipB16Frames` over every second, 512 values.

    The mean is not brought to length 1 again: only so is it exact for methods whose first visual
    layer is linear.

    Args:
        weights, frame_rate, normalise, compute: As there.
    """

    name = "clip_vit_b16"
    shape = (512,)

    def __init__(
        self,
        *,
        weights: WeightChoice | None = None,
        frame_rate: int = 8,
        normalise: bool = True,
        compute: str = "float32",
    ) -> None:
        super().__init__(
            ClipB16Frames(
                weights=weights, frame_rate=frame_rate, normalise=normalise, compute=compute
            )
        )


@BACKBONES.add
class ClipL14Frames(_Frames):
    """ViT-L/14's embedding of every frame, 768 values, of one frame a second as in valor_pp.

    Args:
        weights, frame_rate, normalise, compute: As of `ClipB16Frames`; valor_pp's released
            embeddings have length 1, and are of frames squeezed to 224 x 224 without a crop.
    """

    name = "clip_vit_l14.frames"
    title = "CLIP ViT-L/14"
    model = CLIP_VIT_L14
    shape = (768,)

    def __init__(
        self,
        *,
        weights: WeightChoice | None = None,
        frame_rate: int = 1,
        normalise: bool = True,
        compute: str = "float32",
    ) -> None:
        super().__init__(weights, frame_rate, normalise, compute)


@BACKBONES.add
class ClipL14(_Segments):
    """The mean of `ClipL14Frames` over every second, 768 values.

    Args:
        weights, frame_rate, normalise, compute: As there.
    """

    name = "clip_vit_l14"
    shape = (768,)

    def __init__(
        self,
        *,
        weights: WeightChoice | None = None,
        frame_rate: int = 1,
        normalise: bool = True,
        compute: str = "float32",
    ) -> None:
        super().__init__(
            ClipL14Frames(
                weights=weights, frame_rate=frame_rate, normalise=normalise, compute=compute
            )
        )
