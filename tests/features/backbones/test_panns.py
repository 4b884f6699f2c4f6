"""PANNs ResNet22: published layout, the network and its front end against their definitions."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from features.backbones import Clip, WeightChoice
from features.backbones.networks.panns import ResNet22
from features.backbones.panns import PannsResNet22
from features.backbones.video import R2Plus1D18
from pipeline.grid import join_steps
from pipeline.mel import PANNS, log_mel

BATCH_NORM = ("weight", "bias", "running_mean", "running_var")

LAYERS = {
    "bn0": 64,
    "conv_block1.conv1": (64, 1, 3, 3),
    "conv_block1.bn1": 64,
    "conv_block1.conv2": (64, 64, 3, 3),
    "conv_block1.bn2": 64,
    "resnet.layer1.0.conv1": (64, 64, 3, 3),
    "resnet.layer1.0.bn1": 64,
    "resnet.layer1.0.conv2": (64, 64, 3, 3),
    "resnet.layer1.0.bn2": 64,
    "resnet.layer1.1.conv1": (64, 64, 3, 3),
    "resnet.layer1.1.bn1": 64,
    "resnet.layer1.1.conv2": (64, 64, 3, 3),
    "resnet.layer1.1.bn2": 64,
    "resnet.layer2.0.conv1": (128, 64, 3, 3),
    "resnet.layer2.0.bn1": 128,
    "resnet.layer2.0.conv2": (128, 128, 3, 3),
    "resnet.layer2.0.bn2": 128,
    "resnet.layer2.0.downsample.1": (128, 64, 1, 1),
    "resnet.layer2.0.downsample.2": 128,
    "resnet.layer2.1.conv1": (128, 128, 3, 3),
    "resnet.layer2.1.bn1": 128,
    "resnet.layer2.1.conv2": (128, 128, 3, 3),
    "resnet.layer2.1.bn2": 128,
    "resnet.layer3.0.conv1": (256, 128, 3, 3),
    "resnet.layer3.0.bn1": 256,
    "resnet.layer3.0.conv2": (256, 256, 3, 3),
    "resnet.layer3.0.bn2": 256,
    "resnet.layer3.0.downsample.1": (256, 128, 1, 1),
    "resnet.layer3.0.downsample.2": 256,
    "resnet.layer3.1.conv1": (256, 256, 3, 3),
    "resnet.layer3.1.bn1": 256,
    "resnet.layer3.1.conv2": (256, 256, 3, 3),
    "resnet.layer3.1.bn2": 256,
    "resnet.layer4.0.conv1": (512, 256, 3, 3),
    "resnet.layer4.0.bn1": 512,
    "resnet.layer4.0.conv2": (512, 512, 3, 3),
    "resnet.layer4.0.bn2": 512,
    "resnet.layer4.0.downsample.1": (512, 256, 1, 1),
    "resnet.layer4.0.downsample.2": 512,
    "resnet.layer4.1.conv1": (512, 512, 3, 3),
    "resnet.layer4.1.bn1": 512,
    "resnet.layer4.1.conv2": (512, 512, 3, 3),
    "resnet.layer4.1.bn2": 512,
    "conv_block_after1.conv1": (2048, 512, 3, 3),
    "conv_block_after1.bn1": 2048,
    "conv_block_after1.conv2": (2048, 2048, 3, 3),
    "conv_block_after1.bn2": 2048,
    "fc1": (2048, 2048),
}
"""Layers of ResNet22_mAP=0.430.pth that the embedding needs: channels of a batch normalisation,
shape of a convolution's or linear layer's weights."""

UNUSED = {
    "spectrogram_extractor.stft.conv_real.weight": (513, 1, 1024),
    "spectrogram_extractor.stft.conv_imag.weight": (513, 1, 1024),
    "logmel_extractor.melW": (513, 64),
    "fc_audioset.weight": (527, 2048),
    "fc_audioset.bias": (527,),
}
"""The rest of the file: its own front end, and the classes."""


def checkpoint() -> dict[str, tuple[int, ...]]:
    """Every parameter's name and shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, size in LAYERS.items():
        if isinstance(size, int):
            shapes |= {f"{layer}.{part}": (size,) for part in BATCH_NORM}
            shapes[f"{layer}.num_batches_tracked"] = ()
        else:
            shapes[f"{layer}.weight"] = size
    return shapes | {"fc1.bias": (2048,)}


def by_definition(state: dict[str, torch.Tensor], patches: torch.Tensor) -> torch.Tensor:
    """The published forward pass, written out from parameters: (N, frames, 64) to (N, 2048)."""

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        scale, shift, mean, var = (state[f"{name}.{p}"][:, None, None] for p in BATCH_NORM)
        return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)

    def pair(name: str, x: torch.Tensor) -> torch.Tensor:
        x = norm(f"{name}.bn1", conv(f"{name}.conv1", x)).relu()
        return norm(f"{name}.bn2", conv(f"{name}.conv2", x)).relu()

    def block(name: str, x: torch.Tensor) -> torch.Tensor:
        small = F.avg_pool2d(x, 2) if f"{name}.downsample.1.weight" in state else x
        y = norm(f"{name}.bn1", conv(f"{name}.conv1", small)).relu()
        y = norm(f"{name}.bn2", conv(f"{name}.conv2", y))
        if small is not x:
            x = norm(f"{name}.downsample.2", conv(f"{name}.downsample.1", small))
        return (x + y).relu()

    x = patches[:, None].transpose(1, 3)  # bands as channels
    x = norm("bn0", x).transpose(1, 3)
    x = F.avg_pool2d(pair("conv_block1", x), 2)
    for layer in range(1, 5):
        for n in range(2):
            x = block(f"resnet.layer{layer}.{n}", x)
    x = pair("conv_block_after1", F.avg_pool2d(x, 2)).mean(3)
    x = x.max(2).values + x.mean(2)
    return (x @ state["fc1.weight"].T + state["fc1.bias"]).relu()


def noise(seconds: float) -> np.ndarray:
    at = np.arange(round(seconds * PANNS.rate)) / PANNS.rate
    loud = 0.3 * np.sin(2 * np.pi * 700 * at) * at
    rest = 0.05 * np.random.default_rng(0).standard_normal(len(at))
    return (loud + rest).astype(np.float32)


@pytest.fixture(scope="module")
def backbone() -> PannsResNet22:
    return PannsResNet22(weights=WeightChoice(seed=0))


def test_parameters_are_those_of_the_published_checkpoint():
    with torch.device("meta"):
        state = ResNet22().state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == checkpoint()


def test_the_network_is_the_published_one():
    torch.manual_seed(0)
    network = ResNet22().eval()
    state = network.state_dict()
    for key, value in state.items():
        if key.endswith(("running_mean", "running_var", "weight", "bias")) and value.ndim == 1:
            value.copy_(torch.rand_like(value) + 0.5)
    patches = torch.randn(2, 67, 64)
    with torch.inference_mode():
        expected = by_definition(state, patches)
        torch.testing.assert_close(network(patches), expected, rtol=1e-4, atol=1e-4)
    assert (expected > 0).float().mean() > 0.1


def test_a_checkpoint_in_the_published_layout_loads(tmp_path):
    """The state dict stands under "model"; what stands beside it and is unused does not matter."""
    values = {
        # One number repeated takes no room in the file.
        key: torch.tensor(1 + n % 5, dtype=torch.float32).expand(shape)
        for n, (key, shape) in enumerate((checkpoint() | UNUSED).items())
    }
    file = tmp_path / "ResNet22_mAP=0.430.pth"
    torch.save(
        {"iteration": 700000, "model": values, "sampler": {"indexes": np.arange(4), "pointer": 0}},
        file,
    )
    backbone = PannsResNet22(weights=WeightChoice(file=str(file)))
    backbone.to("cpu")
    assert backbone.spec()["weights"].startswith("sha256:")
    x = backbone.compute(Clip(1, waveform=noise(1.0), starts=np.zeros(1)))
    assert x.shape == (1, 2048)


def test_front_end_equals_torchlibrosa():
    """Its definition: convolutions with windowed cosines and sines in float32, librosa's bands."""
    waveform = torch.from_numpy(noise(2.0))
    angle = 2 * np.pi * np.outer(np.arange(513), np.arange(1024)) / 1024
    window = librosa.filters.get_window("hann", 1024, fftbins=True)
    padded = F.pad(waveform[None, None], (512, 512), mode="reflect")
    real, imaginary = (
        F.conv1d(padded, torch.from_numpy((f(angle) * window)[:, None]).float(), stride=320)
        for f in (np.cos, np.sin)
    )
    bands = librosa.filters.mel(sr=32000, n_fft=1024, n_mels=64, fmin=50, fmax=14000).T
    mel = (real**2 + imaginary**2)[0].T @ torch.from_numpy(bands)
    expected = 10 * torch.log10(mel.clamp(min=1e-10))
    x = log_mel(waveform.numpy(), PANNS)
    assert x.shape == (201, 64)
    np.testing.assert_allclose(x, expected.numpy(), rtol=0, atol=1e-3)


def test_every_segment_has_its_own_spectrogram(backbone):
    waveform = noise(2.0)
    x = backbone.compute(Clip(2, waveform=waveform, starts=np.arange(2.0)))
    second = backbone.compute(Clip(1, waveform=waveform[32000:], starts=np.zeros(1)))
    np.testing.assert_allclose(x[1:], second, rtol=1e-4, atol=1e-5)
    assert x.shape == (2, 2048)
    assert not np.allclose(x[0], x[1])


def test_windows_are_those_of_the_picture():
    sound = PannsResNet22(weights=WeightChoice(seed=0), windows=10)
    picture = R2Plus1D18(weights=WeightChoice(seed=0), windows=10)
    times = sound.times(0.0, 7.3)
    np.testing.assert_array_equal(times, picture.times(0.0, 7.3))
    np.testing.assert_array_equal(
        join_steps(times, picture.times(0.0, 7.3), hop=0.1), np.arange(10)
    )


def test_a_segment_must_hold_a_frame_of_the_last_layer(backbone):
    with pytest.raises(ValueError, match=r"at least 0\.32 s"):
        PannsResNet22(hop=0.2)
    short = PannsResNet22(weights=WeightChoice(seed=0), hop=0.32)
    short.network = backbone.network
    assert short.compute(Clip(1, waveform=noise(0.32), starts=np.zeros(1))).shape == (1, 2048)
