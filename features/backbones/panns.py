"""PANNs ResNet22 on AudioSet (Kong et al. 2020): a strong audio feature, 2048 values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from features.backbones.common import WINDOW, NetworkFeature, make_grid
from features.backbones.interface import BACKBONES, Clip
from features.backbones.published import PUBLISHED
from features.backbones.weights import Network, WeightChoice
from pipeline.mel import PANNS, log_mel
from pipeline.stages import stage

if TYPE_CHECKING:
    import torch

__all__ = ["PannsResNet22"]

WIDTH = 2048
BATCH = 8
"""Segments at a time."""
SHORTEST = 0.32
"""Seconds that five halvings leave something of."""


def _make() -> torch.nn.Module:
    from features.backbones.networks.panns import ResNet22

    return ResNet22()


@BACKBONES.add
class PannsResNet22(NetworkFeature):
    """The embedding of every segment's own sound: the layer before AudioSet's classes.

    Args:
        weights: Which weights; published are those of Kong et al. with mAP 0.430.
        hop: Seconds a segment.
        windows: Windows spread evenly over the clip; 0 for segments one after the other.
        window: Seconds of each of them.
        compute: Type that the network computes in, ``"float32"`` or ``"float16"``.
    """

    name = "panns_resnet22"
    modality = "audio"
    audio_rate = PANNS.rate
    shape = (WIDTH,)

    def __init__(
        self,
        *,
        weights: WeightChoice | None = None,
        hop: float = 1.0,
        windows: int = 0,
        window: float = WINDOW,
        compute: str = "float32",
    ) -> None:
        self.grid = make_grid(hop=hop, windows=windows, window=window)
        if self.grid.span < SHORTEST:
            raise ValueError(f"a segment lasts at least {SHORTEST:g} s, not {self.grid.span:g}")
        self.network = Network(
            self.name,
            weights or WeightChoice(),
            _make,
            published=PUBLISHED[self.name],
            unused=("fc_audioset.", "spectrogram_extractor.", "logmel_extractor."),
            inside="model",
            compute=compute,
        )

    def spec(self) -> dict[str, Any]:
        """See `Backbone`."""
        return self.describe(
            backbone="panns resnet22 embedding",
            front_end=PANNS.describe(),
            pooling="largest plus mean frame of a segment's own spectrogram",
            version=1,
        )

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T, 2048)."""
        cuts = clip.cuts(round(self.grid.span * PANNS.rate), PANNS.rate)  # (T, n)
        with stage("log-mel"):
            patches = log_mel(cuts, PANNS)  # (T, frames, 64)
        return self.network(lambda part: part, patches, batch=BATCH)
