"""VGGish embeddings (Hershey et al. 2017), LLP's audio feature."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.backbones.common import NetworkFeature
from features.backbones.interface import BACKBONES, Clip
from features.backbones.published import PUBLISHED
from features.backbones.weights import Network, WeightChoice, read_state
from pipeline.errors import UserError
from pipeline.files import file_digest
from pipeline.grid import SegmentGrid
from pipeline.mel import VGGISH, vggish_patches
from pipeline.stages import stage

if TYPE_CHECKING:
    import torch

__all__ = ["VGGish", "postprocess"]

WIDTH = 128
BATCH = 16
QUANTISED = (-2.0, 2.0)
"""Range of the whitened embedding that the published post-processing maps to 0..255."""


def postprocess(embeddings: np.ndarray, vectors: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The post-processing of AudioSet's release: PCA with whitening, clipping, 8 bits.

    Values are rounded, as torchvggish does; the TensorFlow release cuts the fraction off.

    Args:
        embeddings: (N, 128).
        vectors: (128, 128) whitened eigenvectors, one a row.
        means: (128,).

    Returns:
        (N, 128) float32 whole numbers, 0 to 255.
    """
    low, high = QUANTISED
    whitened = (embeddings.astype(np.float64) - means) @ vectors.astype(np.float64).T
    return np.round((whitened.clip(low, high) - low) * (255 / (high - low))).astype(np.float32)


@BACKBONES.add
class VGGish(NetworkFeature):
    """The 128-d embedding of the 0.96 s that begin with every second.

    Args:
        weights: Which weights; published are harritaylor/torchvggish's.
        activation: ``"relu"`` applies a ReLU after the last layer, as torchvggish does and as the
            TensorFlow release did until it dropped it in 2020, after LLP's features were made;
            ``"none"`` gives the release's later values.
        pca: File with ``pca_eigen_vectors`` and ``pca_means`` (.npz or a state dict) for the
            published post-processing, or ``"published"`` for torchvggish's; none by default, like
            LLP's features.
        compute: Type that the network computes in, ``"float32"`` or ``"float16"``.
    """

    name = "vggish"
    modality = "audio"
    audio_rate = VGGISH.rate
    shape = (WIDTH,)

    def __init__(
        self,
        *,
        weights: WeightChoice | None = None,
        activation: str = "relu",
        pca: str | None = None,
        compute: str = "float32",
    ) -> None:
        if activation not in ("relu", "none"):
            raise ValueError(f"activation is relu or none, not {activation!r}")
        self.grid = SegmentGrid(hop=1.0, window=0.96)
        self._activation = activation
        self._pca = None if pca is None else Path(pca)
        if pca == "published":
            self._pca = PUBLISHED["vggish.pca"].path
        self.network = Network(
            self.name,
            weights or WeightChoice(),
            self._make,
            published=PUBLISHED[self.name],
            unused=("pproc.",),
            compute=compute,
        )

    def _make(self) -> torch.nn.Module:
        from features.backbones.networks.vggish import VGGishNetwork

        return VGGishNetwork(activation=self._activation == "relu")

    @cached_property
    def _components(self) -> tuple[np.ndarray, np.ndarray]:
        return _read_components(self._pca)

    def spec(self) -> dict[str, Any]:
        """See `Backbone`."""
        if self._pca is None:
            after = "none"
        else:
            _ = self._components
            after = f"pca whitening, clip to +-2, 8 bits, sha256:{file_digest(self._pca)}"
        return self.describe(
            backbone="vggish embedding",
            front_end=VGGISH.describe() | {"patch_frames": 96},
            activation=self._activation,
            postprocessing=after,
            version=1,
        )

    def compute(self, clip: Clip) -> np.ndarray:
        """See `Backbone`; (T, 128)."""
        with stage("log-mel"):
            patches = vggish_patches(clip.waveform, hop=self.grid.hop, count=clip.segments)
        embeddings = self.network(lambda part: part, patches, batch=BATCH)
        return embeddings if self._pca is None else postprocess(embeddings, *self._components)


def _read_components(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads and checks the whitening of the published post-processing."""
    names = ("pca_eigen_vectors", "pca_means")
    if not path.is_file():
        raise UserError(
            f"The file {path} of vggish.pca is not there; correct the option, or download "
            f"{PUBLISHED['vggish.pca'].url} and pass it."
        )
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            values = {name: file[name] for name in names if name in file}
    else:
        values = {k: v.numpy() for k, v in read_state("vggish.pca", path).items() if k in names}
    shapes = {name: value.size for name, value in values.items()}
    if shapes != {names[0]: WIDTH * WIDTH, names[1]: WIDTH}:
        raise UserError(
            f"The file {path} of vggish.pca must hold pca_eigen_vectors ({WIDTH}, {WIDTH}) and "
            f"pca_means ({WIDTH}); pass the published vggish_pca_params file."
        )
    return values[names[0]].reshape(WIDTH, WIDTH), values[names[1]].reshape(WIDTH)
