"""Log-Mel front ends against their published definitions, written out here, and against librosa."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest

from pipeline.mel import (
    PANNS,
    VGGISH,
    XID_LARGE,
    XID_SMALL,
    LogMelSpec,
    log_mel,
    vggish_patches,
)

SPECS = {"vggish": VGGISH, "panns": PANNS, "xid_small": XID_SMALL, "xid_large": XID_LARGE}


def noisy_tone(seconds: float, rate: int, *, seed: int = 0) -> np.ndarray:
    """A tone that swells over noise: energy in all bands, none of it at rest."""
    at = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(at))
    return (0.3 * at * np.sin(2 * np.pi * 700 * at) + 0.02 * noise).astype(np.float32)


def transform_magnitudes(frames: np.ndarray, n_fft: int) -> np.ndarray:
    """Magnitudes of the discrete Fourier transform by its sum, (frames, n_fft // 2 + 1)."""
    angle = np.outer(np.arange(n_fft), np.arange(n_fft // 2 + 1)) * (2 * np.pi / n_fft)
    padded = np.zeros((len(frames), n_fft))
    padded[:, : frames.shape[1]] = frames
    return np.hypot(padded @ np.cos(angle), padded @ np.sin(angle))


def periodic_hann(length: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


def htk_weights(bands: int, bins: int, rate: int, fmin: float, fmax: float) -> np.ndarray:
    """Triangles of unit height with straight flanks over HTK mel, (bands, bins)."""

    def mel(hertz: float) -> float:
        return 1127.0 * np.log(1.0 + hertz / 700.0)

    weights = np.zeros((bands, bins))
    edges = np.linspace(mel(fmin), mel(fmax), bands + 2)
    for band in range(bands):
        low, middle, high = edges[band : band + 3]
        for b in range(1, bins):
            here = mel(b * rate / 2 / (bins - 1))
            if low < here <= middle:
                weights[band, b] = (here - low) / (middle - low)
            elif middle < here < high:
                weights[band, b] = (high - here) / (high - middle)
    return weights


def slaney_weights(bands: int, bins: int, rate: int, fmin: float, fmax: float) -> np.ndarray:
    """Triangles of unit area over Hz between edges evenly spaced on Slaney's scale."""

    def mel(hertz: float) -> float:
        if hertz < 1000:
            return 3 * hertz / 200
        return 15 + 27 * np.log(hertz / 1000) / np.log(6.4)

    def hertz(mel: float) -> float:
        return 200 * mel / 3 if mel < 15 else 1000 * np.exp(np.log(6.4) * (mel - 15) / 27)

    weights = np.zeros((bands, bins))
    edges = [hertz(m) for m in np.linspace(mel(fmin), mel(fmax), bands + 2)]
    for band in range(bands):
        low, middle, high = edges[band : band + 3]
        for b in range(bins):
            here = b * rate / 2 / (bins - 1)
            height = min((here - low) / (middle - low), (high - here) / (high - middle))
            weights[band, b] = max(0.0, height) * 2 / (high - low)
    return weights


def centred_frames(waveform: np.ndarray, n_fft: int, window: int, hop: int) -> np.ndarray:
    """Frames of n_fft samples around samples 0, hop, ..., the window in their middle."""
    n = len(waveform)
    shape = np.zeros(n_fft)
    before = (n_fft - window) // 2
    shape[before : before + window] = periodic_hann(window)
    frames = []
    for k in range(1 + n // hop):
        index = np.arange(k * hop - n_fft // 2, k * hop + n_fft // 2)
        index = np.abs(index)
        index = np.where(index >= n, 2 * (n - 1) - index, index)
        frames.append(waveform[index] * shape)
    return np.array(frames)


def test_vggish_equals_its_definition():
    waveform = noisy_tone(1.3, 16000)
    starts = range(0, len(waveform) - 400 + 1, 160)
    frames = np.array([waveform[s : s + 400] for s in starts], dtype=np.float64)
    magnitudes = transform_magnitudes(frames * periodic_hann(400), 512)
    expected = np.log(magnitudes @ htk_weights(64, 257, 16000, 125.0, 7500.0).T + 0.01)

    got = log_mel(waveform, VGGISH)

    assert got.dtype == np.float32
    assert got.shape == (1 + (len(waveform) - 400) // 160, 64)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["panns", "xid_small", "xid_large"])
def test_centred_front_ends_equal_their_definition(name: str):
    published = {
        "panns": (32000, 1024, 1024, 320, 64, 50.0, 14000.0),
        "xid_small": (11025, 1024, 551, 276, 80, 0.0, 5512.5),
        "xid_large": (24000, 1024, 752, 376, 128, 0.0, 12000.0),
    }
    rate, n_fft, window, hop, bands, fmin, fmax = published[name]
    waveform = noisy_tone(0.6, rate)
    magnitudes = transform_magnitudes(centred_frames(waveform, n_fft, window, hop), n_fft)
    weights = slaney_weights(bands, n_fft // 2 + 1, rate, fmin, fmax)
    expected = 10 * np.log10(np.maximum(magnitudes**2 @ weights.T, 1e-10))

    got = log_mel(waveform, SPECS[name])

    assert got.dtype == np.float32
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["panns", "xid_small", "xid_large"])
@pytest.mark.parametrize("htk", [False, True])
@pytest.mark.parametrize("norm", ["slaney", None])
def test_numbers_are_librosas(name: str, htk: bool, norm: str | None):
    spec = replace(SPECS[name], htk=htk, norm=norm, power=2.0 if htk else 1.0)
    waveform = noisy_tone(0.5, spec.rate).astype(np.float64)
    magnitudes = np.abs(
        librosa.stft(
            waveform,
            n_fft=spec.n_fft,
            hop_length=spec.hop_length,
            win_length=spec.window_length,
            pad_mode="reflect",
        )
    )
    bands = librosa.filters.mel(
        sr=spec.rate,
        n_fft=spec.n_fft,
        n_mels=spec.bands,
        fmin=spec.fmin,
        fmax=spec.fmax,
        htk=htk,
        norm=norm,
        dtype=np.float64,
    )
    expected = 10 * np.log10(np.maximum(bands @ magnitudes**spec.power, 1e-10)).T
    got = log_mel(waveform, spec)
    # One unit in the last place of float32 values up to 100.
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_long_sound_is_the_same_as_its_blocks():
    """Frames are transformed in blocks; none of them shows in the numbers."""
    waveform = noisy_tone(6.0, 16000)
    whole = log_mel(waveform, VGGISH)
    for first in (0, 127, 128, 300, len(whole) - 1):
        alone = log_mel(waveform[160 * first : 160 * first + 400], VGGISH)
        np.testing.assert_allclose(whole[first], alone[0], rtol=0, atol=1e-6)


def test_no_process_waits_for_librosa():
    code = (
        "import sys, numpy, pipeline.mel as mel; mel.log_mel(numpy.ones(16000), mel.VGGISH);"
        "sys.exit(bool({'librosa', 'numba', 'scipy'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_two_seconds_give_the_published_sizes():
    for spec, shape in ((XID_SMALL, (80, 80)), (XID_LARGE, (128, 128)), (PANNS, (201, 64))):
        assert log_mel(np.zeros(2 * spec.rate, np.float32), spec).shape == shape


def test_silence_is_the_floor_of_the_logarithm():
    quiet = np.zeros(16000, dtype=np.float32)
    np.testing.assert_allclose(log_mel(quiet, VGGISH), np.log(0.01), rtol=1e-6)
    np.testing.assert_allclose(log_mel(quiet, PANNS), -100.0, rtol=1e-6)


@pytest.mark.parametrize("name", SPECS)
def test_every_band_has_weight_and_a_louder_sound_is_louder_by_its_decibels(name: str):
    spec = SPECS[name]
    waveform = noisy_tone(0.5, spec.rate)
    soft, loud = log_mel(waveform, spec), log_mel(10 * waveform, spec)
    assert (loud > soft).all()
    if spec.log == "db":
        np.testing.assert_allclose(loud - soft, 20.0, atol=1e-3)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("samples", [0, 1, 200, 399, 400, 559, 560, 1024, 5000])
def test_frame_counts_match_what_the_spec_says(name: str, samples: int):
    spec = SPECS[name]
    waveform = np.full(samples, 0.1, dtype=np.float32)
    assert log_mel(waveform, spec).shape == (spec.frames(samples), spec.bands)


def test_a_stack_of_waveforms_is_a_stack_of_spectrograms():
    stack = np.stack([noisy_tone(0.5, 16000, seed=s) for s in range(3)])
    np.testing.assert_array_equal(
        log_mel(stack, VGGISH), np.stack([log_mel(row, VGGISH) for row in stack])
    )


def test_patches_are_slices_of_the_spectrogram_a_second_apart():
    waveform = noisy_tone(10.0, 16000)
    patches = vggish_patches(waveform, count=10)
    assert patches.shape == (10, 96, 64)
    assert patches.dtype == np.float32
    whole = log_mel(waveform, VGGISH)
    for k in range(10):
        np.testing.assert_allclose(patches[k], whole[100 * k : 100 * k + 96], atol=1e-5)


def test_a_patch_beyond_the_end_is_silence():
    patches = vggish_patches(noisy_tone(1.5, 16000), count=3)
    np.testing.assert_allclose(patches[2], np.log(0.01), rtol=1e-6)
    np.testing.assert_allclose(patches[1, 60:], np.log(0.01), rtol=1e-6)
    assert (patches[1, :40] > np.log(0.01)).all()


def test_a_spec_describes_itself_as_plain_values():
    described = {name: json.dumps(spec.describe(), sort_keys=True) for name, spec in SPECS.items()}
    assert len(set(described.values())) == len(SPECS)
    assert VGGISH.describe()["triangles"] == "mel"
    assert VGGISH.describe()["padding"] == "none"
    assert PANNS.describe()["padding"] == "reflect"


@pytest.mark.parametrize(
    "change",
    [{"window_length": 2000}, {"hop_length": 0}, {"fmax": 20000.0}, {"triangles": "mel"}],
)
def test_a_spec_that_cannot_be_computed_is_refused(change: dict):
    values = {
        "rate": 32000,
        "n_fft": 1024,
        "window_length": 1024,
        "hop_length": 320,
        "bands": 64,
        "fmin": 50.0,
        "fmax": 14000.0,
    }
    with pytest.raises(ValueError):
        LogMelSpec(**(values | change))
