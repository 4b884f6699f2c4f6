"""VGGish: published layout, windows, and the published post-processing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from features.backbones import Clip, WeightChoice
from features.backbones.networks.vggish import VGGishNetwork
from features.backbones.published import PUBLISHED
from features.backbones.vggish import VGGish, postprocess
from pipeline.errors import UserError
from pipeline.mel import vggish_patches
from tests.media import sine

RANDOM = WeightChoice(seed=0)

CHECKPOINT = {
    "features.0.weight": (64, 1, 3, 3),
    "features.0.bias": (64,),
    "features.3.weight": (128, 64, 3, 3),
    "features.3.bias": (128,),
    "features.6.weight": (256, 128, 3, 3),
    "features.6.bias": (256,),
    "features.8.weight": (256, 256, 3, 3),
    "features.8.bias": (256,),
    "features.11.weight": (512, 256, 3, 3),
    "features.11.bias": (512,),
    "features.13.weight": (512, 512, 3, 3),
    "features.13.bias": (512,),
    "embeddings.0.weight": (4096, 12288),
    "embeddings.0.bias": (4096,),
    "embeddings.2.weight": (4096, 4096),
    "embeddings.2.bias": (4096,),
    "embeddings.4.weight": (128, 4096),
    "embeddings.4.bias": (128,),
}
"""Names and shapes of vggish-10086976.pth."""


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip(2, waveform=sine(440.0, 2.0, 16000), starts=np.arange(2.0))


@pytest.fixture(scope="module")
def plain() -> VGGish:
    return VGGish(weights=RANDOM, activation="none")


@pytest.fixture(scope="module")
def network() -> VGGishNetwork:
    return VGGishNetwork(activation=False).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def whitening() -> tuple[np.ndarray, np.ndarray]:
    """Eigenvectors (128, 128) and means (128, 1) of made-up numbers, as the release holds them."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(128, 128)) / 8, rng.normal(size=(128, 1))


def whiten(embedding: np.ndarray, vectors: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The published formula for one embedding: whiten, clip to [-2, 2], 0 to 255, round."""
    applied = [
        sum(vectors[row, k] * (float(embedding[k]) - means[k, 0]) for k in range(128))
        for row in range(128)
    ]
    return np.array([round((min(2.0, max(-2.0, value)) + 2.0) * 255.0 / 4.0) for value in applied])


def test_parameters_are_those_of_the_published_checkpoint():
    with torch.device("meta"):
        state = VGGishNetwork(activation=True).state_dict()
        assert state.keys() == VGGishNetwork(activation=False).state_dict().keys()
    assert {key: tuple(value.shape) for key, value in state.items()} == CHECKPOINT


def test_flattening_is_channels_last(network):
    patches = torch.rand(2, 96, 64)
    maps = network.features(patches[:, None]).numpy()
    flat = torch.from_numpy(np.moveaxis(maps, 1, 3).reshape(2, -1).copy())
    torch.testing.assert_close(network(patches), network.embeddings(flat))


def test_activation_is_the_only_difference(network):
    with torch.device("meta"):
        relu = VGGishNetwork(activation=True)
    relu.load_state_dict(network.state_dict(), assign=True)
    x = network(patches := torch.rand(2, 96, 64))
    assert x.shape == (2, 128)
    assert x.min() < 0
    assert torch.equal(relu(patches), x.clamp(min=0))
    specs = [VGGish(weights=RANDOM, activation=name).spec() for name in ("none", "relu")]
    assert [spec.pop("activation") for spec in specs] == ["none", "relu"]
    assert specs[0] == specs[1]


def test_windows(plain):
    np.testing.assert_allclose(plain.times(4.0, 7.0), [0.48, 1.48, 2.48])
    assert vggish_patches(sine(440.0, 2.0, 16000), count=2).shape == (2, 96, 64)


def test_postprocessing(tmp_path, clip, plain, whitening):
    vectors, means = whitening
    np.savez(tmp_path / "pca.npz", pca_eigen_vectors=vectors, pca_means=means)
    whitened = VGGish(weights=RANDOM, activation="none", pca=str(tmp_path / "pca.npz"))
    whitened.network = plain.network
    x = whitened.compute(clip)
    assert x.dtype == np.float32
    assert len(np.unique(x)) > 20
    np.testing.assert_array_equal(x[0], whiten(plain.compute(clip)[0], vectors, means))
    assert plain.spec()["postprocessing"] == "none"
    assert "pca" in whitened.spec()["postprocessing"]
    extremes = postprocess(np.array([[9.0, -9.0]]), np.eye(2), np.zeros(2))
    assert extremes.tolist() == [[255.0, 0.0]]


def test_postprocessing_of_the_published_file(tmp_path, monkeypatch, clip, plain, whitening):
    """The release's file holds arrays of numpy, pickled before numpy 2 moved its functions."""
    vectors, means = whitening
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = PUBLISHED["vggish.pca"].path
    with pytest.raises(UserError, match=r"vggish_pca_params-970ea276\.pth.*download https://"):
        VGGish(weights=RANDOM, pca="published").spec()
    file.parent.mkdir(parents=True)
    torch.save(
        {"pca_eigen_vectors": vectors, "pca_means": means},
        file,
        _use_new_zipfile_serialization=False,
    )
    pickled = file.read_bytes()
    assert b"cnumpy._core.multiarray\n_reconstruct\n" in pickled
    file.write_bytes(pickled.replace(b"cnumpy._core.", b"cnumpy.core."))
    np.savez(tmp_path / "pca.npz", pca_eigen_vectors=vectors, pca_means=means)
    published = VGGish(weights=RANDOM, pca="published")
    other = VGGish(weights=RANDOM, pca=str(tmp_path / "pca.npz"))
    published.network = other.network = plain.network
    np.testing.assert_array_equal(published.compute(clip), other.compute(clip))
    assert published.spec() != other.spec()


def test_postprocessing_with_a_wrong_file(tmp_path, whitening):
    def spec(name: str) -> dict:
        return VGGish(weights=RANDOM, pca=str(Path(tmp_path, name))).spec()

    with pytest.raises(UserError, match="is not there"):
        spec("no.npz")
    np.savez(tmp_path / "odd.npz", pca_means=whitening[1])
    with pytest.raises(UserError, match="must hold pca_eigen_vectors"):
        spec("odd.npz")
    torch.save({"pca_means": np.array([print], dtype=object)}, tmp_path / "code.pth")
    with pytest.raises(UserError, match="cannot be read as a plain state dict"):
        spec("code.pth")
