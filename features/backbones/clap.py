"""CLAP audio embeddings (Wu et al. 2023), fusion models and others, through transformers.

Every segment's own sound is repeated to ten seconds, as the released front ends do with short
sound. A fusion model's second branch is for sound of more than ten seconds; the released code sends
one clip of each batch through it at random, which no feature here does.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from features.backbones.common import NetworkFeature
from features.backbones.hub import Checkpoint, HubModel, HubNetwork
from features.backbones.interface import BACKBONES, Clip
from features.backbones.weights import WeightChoice
from pipeline.grid import SegmentGrid
from pipeline.mel import LogMelSpec, log_mel
from pipeline.stages import stage

if TYPE_CHECKING:
    import torch

__all__ = ["CLAP", "Clap", "ClapMap", "ClapMapPooled", "fill", "front_end"]

SECONDS = 10.0
"""What the audio tower takes."""
SHORTEST = 0.1
WIDTH = 768
PLACES = (2, 32)
"""Rows and columns of the last map: halves of the spectrum, moments."""
UPSAMPLED = 1024
BATCH = 8
"""Segments at a time; part of no spec."""

CLAP = HubModel(
    "clap",
    {
        "projection_dim": 512,
        "audio_config": {"hidden_size": WIDTH, "num_mel_bins": 64, "spec_size": 256}
        | {"enable_fusion": True, "fusion_type": "aff_2d"},
    },
    ("projection_dim", "audio_config.num_mel_bins", "audio_config.spec_size"),
    {
        "feature_size": 64,
        "sampling_rate": 48000,
        "hop_length": 480,
        "fft_window_size": 1024,
        "frequency_min": 50,
        "frequency_max": 14000,
        "max_length_s": 10,
        "padding": "repeatpad",
    },
)
"""Fused by default, like the 630k fusion checkpoint; a folder's own configuration wins."""

_WITH_MAP = replace(CLAP, fixed=(*CLAP.fixed, "audio_config.hidden_size"))

_UNFUSED = LogMelSpec(
    rate=48000,
    n_fft=1024,
    window_length=1024,
    hop_length=480,
    bands=64,
    fmin=50.0,
    fmax=14000.0,
)
_FUSED = replace(_UNFUSED, htk=True, norm=None)


def front_end(*, fusion: bool) -> LogMelSpec:
    """The log-Mel of transformers' ClapFeatureExtractor, within 1e-4 dB.

    Args:
        fusion: Whether for a fusion model, whose bands are torchaudio's instead of librosa's.
    """
    return _FUSED if fusion else _UNFUSED


def fill(waveform: np.ndarray) -> np.ndarray:
    """Repeats sound as often as it fits into ten seconds; silence follows.

    Args:
        waveform: (n,) at 48 kHz, of at most ten seconds.

    Returns:
        (480000,) of the same type.
    """
    length = round(SECONDS * _UNFUSED.rate)
    filled = np.zeros(length, dtype=waveform.dtype)
    repeated = np.tile(waveform, length // len(waveform))
    filled[: len(repeated)] = repeated
    return filled


class _Sound(NetworkFeature):
    """Cuts of sound, their log-Mel, one network; see the registered classes."""

    modality = "audio"
    audio_rate = _UNFUSED.rate
    title: ClassVar[str]

    def __init__(self, checkpoint: Checkpoint, part: Any, seconds: float, compute: str) -> None:
        if not SHORTEST <= seconds <= SECONDS:
            raise ValueError(f"a segment lasts {SHORTEST:g} to {SECONDS:g} s, not {seconds:g}")
        self.grid = SegmentGrid(hop=seconds)
        self.network = HubNetwork(checkpoint, part, compute=compute)

    @cached_property
    def _front_end(self) -> LogMelSpec:
        fusion = self.network.checkpoint.value("audio_config.enable_fusion", default=False)
        return front_end(fusion=bool(fusion))

    def spec(self) -> dict[str, Any]:
        """See `Backbone`."""
        return self.describe(
            backbone=self.title,
            front_end=self._front_end.describe(),
            filling="repeated as often as it fits into 10 s, then silence",
            fusion_branch="unused",
            version=1,
        )

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T, ...)."""
        front = self._front_end
        cuts = clip.cuts(round(self.grid.span * front.rate), front.rate)  # (T, n)
        with stage("log-mel"):
            # One after the other, so that the spectra of one segment are held at a time.
            patches = np.stack([log_mel(fill(cut), front) for cut in cuts])  # (T, 1001, 64)
        return self.network(lambda part: part, patches, batch=BATCH)


@BACKBONES.add
class Clap(_Sound):
    """The embedding of every segment's own sound, 512 values of length 1.

    Args:
        weights: Which weights; a folder in the hub's layout. Published are LAION's with fusion.
        hop: Seconds a segment.
        compute: Type that the network computes in, ``"float32"`` or ``"float16"``.
    """

    name = "clap"
    title = "CLAP audio embedding after projection, of length 1"
    shape = (512,)

    def __init__(
        self,
        *,
        weights: WeightChoice | None = None,
        hop: float = 1.0,
        compute: str = "float32",
    ) -> None:
        checkpoint = Checkpoint("clap", weights or WeightChoice(), CLAP)
        super().__init__(checkpoint, _embedding, hop, compute)


@BACKBONES.add
class ClapMap(_Sound):
    """The audio tower's last map over ten seconds, (64, 768), as valor_pp takes it.

    Rows are 2 halves of the spectrum times 32 moments. A clip has one step for every ten seconds.

    Args:
        weights, compute: As of `Clap`.
        window: Seconds of a map; shorter sound is repeated, as of `Clap`.
    """

    name = "clap.map"
    title = "CLAP audio tower, last map: halves of the spectrum x moments"
    shape = (PLACES[0] * PLACES[1], WIDTH)

    def __init__(
        self,
        *,
        weights: WeightChoice | None = None,
        window: float = SECONDS,
        compute: str = "float32",
    ) -> None:
        checkpoint = Checkpoint("clap", weights or WeightChoice(), _WITH_MAP)
        super().__init__(checkpoint, _map, window, compute)


@BACKBONES.add
class ClapMapPooled(NetworkFeature):
    """`ClapMap` brought to one step a second, 768 values: 10 steps for a map of ten seconds.

    valor_pp raises the map to 1,024 moments bicubically, applies a linear layer, averages the two
    halves and pools to ten steps. All but the layer has weights that sum to 1, so doing it first
    is exact.

    Args:
        weights, compute: As of `ClapMap`, whose window is ten seconds here.
    """

    name = "clap.map.pooled"
    modality = "audio"
    audio_rate = _UNFUSED.rate
    shape = (WIDTH,)

    def __init__(self, *, weights: WeightChoice | None = None, compute: str = "float32") -> None:
        self.source = ClapMap(weights=weights, compute=compute)
        self.grid, self.network = self.source.grid, self.source.network

    def spec(self) -> dict[str, Any]:
        """See `Backbone`; the rest stands in the source's spec."""
        return {
            "pooling": f"mean of the halves, bicubic to {UPSAMPLED} moments, mean to 10",
            "dtype": self.dtype,
            "version": 1,
        }

    def times(self, start: float, end: float) -> np.ndarray:
        """See `Backbone`; the middle of every second that a map covers."""
        maps = self.grid.starts(start, end) - start
        return (maps[:, None] + np.arange(SECONDS) + 0.5).ravel()

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (10 T, 768)."""
        return self.derive(self.source.compute(clip))

    def derive(self, steps: np.ndarray) -> np.ndarray:
        """See `Backbone`; from (T, 64, 768) to (10 T, 768)."""
        halves = steps.reshape(len(steps), *PLACES, WIDTH).mean(axis=1, dtype=np.float64)
        pooled = _pooling() @ halves  # (10, 32) @ (T, 32, 768)
        return pooled.reshape(-1, WIDTH).astype(np.float32)


@cache
def _pooling() -> np.ndarray:
    """Weights of the 32 moments for each of ten steps, (10, 32) float64; rows sum to 1."""
    import torch
    from torch.nn import functional

    moments = torch.eye(PLACES[1], dtype=torch.float64)[None, :, None, :]
    raised = functional.interpolate(moments, size=(1, UPSAMPLED), mode="bicubic")
    return functional.adaptive_avg_pool1d(raised[0, :, 0], int(SECONDS)).T.numpy()


def _embedding(model: Any) -> torch.nn.Module:
    from features.backbones.networks.embeddings import AudioEmbedding

    return AudioEmbedding(model)


def _map(model: Any) -> torch.nn.Module:
    from features.backbones.networks.embeddings import AudioMap

    return AudioMap(model)
