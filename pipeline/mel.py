"""Log-Mel front ends as declared specs: VGGish, PANNs and the two of Robust-xID.

A spec states all that changes a value, so that a feature can put it into its own spec. The numbers
are those of librosa's transform and filter banks wherever these are those of the published front
end; a test holds them together. They are computed here because importing librosa's own parts costs
every process seconds, and because in blocks that fit the processor's cache they come twice as fast.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

__all__ = ["PANNS", "VGGISH", "XID_LARGE", "XID_SMALL", "LogMelSpec", "log_mel", "vggish_patches"]

_VERSION = 2
"""Raised by hand when code below changes a value without changing a field of a spec."""


@dataclass(frozen=True)
class LogMelSpec:
    """All that a log-Mel spectrogram depends on besides the waveform.

    Args:
        rate: Samples a second that the waveform must have.
        n_fft: Length of the Fourier transform in samples; the window is zero-padded to it.
        window_length: Length of the periodic Hann window in samples.
        hop_length: Samples from one frame to the next.
        bands: Mel bands.
        fmin: Lower edge of the lowest band, Hz.
        fmax: Upper edge of the highest band, Hz.
        htk: Mel scale of HTK, 2595 log10(1 + f / 700), instead of Slaney's, which is linear
            below 1 kHz.
        triangles: Whether a band's flanks are straight lines over ``"hz"`` or over ``"mel"``.
        norm: ``"slaney"`` gives every band unit area over Hz, None unit height.
        power: Exponent of the magnitudes that are summed into bands.
        log: ``"ln"`` is ln(x + offset), ``"db"`` is 10 log10(max(x, offset)).
        offset: See ``log``.
        center: Whether frame k is centred on sample k * hop (the ends reflected) or starts there.
    """

    rate: int
    n_fft: int
    window_length: int
    hop_length: int
    bands: int
    fmin: float
    fmax: float
    htk: bool = False
    triangles: Literal["hz", "mel"] = "hz"
    norm: Literal["slaney"] | None = "slaney"
    power: float = 2.0
    log: Literal["ln", "db"] = "db"
    offset: float = 1e-10
    center: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.window_length <= self.n_fft or self.hop_length <= 0 or self.bands <= 0:
            raise ValueError(f"window, hop and bands must be positive and fit n_fft: {self}")
        if not 0 <= self.fmin < self.fmax <= self.rate / 2:
            raise ValueError(f"bands must lie between 0 Hz and half the sample rate: {self}")
        if self.triangles == "mel" and self.norm is not None:
            raise ValueError(f"triangles over mel have unit height; set norm to None: {self}")

    def frames(self, samples: int) -> int:
        """Frames that a waveform of ``samples`` samples gives."""
        if self.center:
            return 1 + samples // self.hop_length if samples > 0 else 0
        return max(0, 1 + (samples - self.window_length) // self.hop_length)

    def describe(self) -> dict[str, Any]:
        """The front end as plain values, for a feature's spec."""
        return asdict(self) | {
            "window": "hann periodic, centred in n_fft",
            "padding": "reflect" if self.center else "none",
            "channels": "mono",
            "compute_dtype": "float64",
            "dtype": "float32",
            "version": _VERSION,
        }


VGGISH = LogMelSpec(
    rate=16000,
    n_fft=512,
    window_length=400,
    hop_length=160,
    bands=64,
    fmin=125.0,
    fmax=7500.0,
    htk=True,
    triangles="mel",
    norm=None,
    power=1.0,
    log="ln",
    offset=0.01,
    center=False,
)
"""VGGish (Hershey et al. 2017) as in the released TensorFlow code: 25 ms windows every 10 ms,
HTK mel bands with flanks straight over mel, magnitudes, frames not centred."""

PANNS = LogMelSpec(
    rate=32000,
    n_fft=1024,
    window_length=1024,
    hop_length=320,
    bands=64,
    fmin=50.0,
    fmax=14000.0,
)
"""PANNs (Kong et al. 2020) at 32 kHz: power, Slaney mel and norm, decibels over 1."""

XID_SMALL = LogMelSpec(
    rate=11025,
    n_fft=1024,
    window_length=551,
    hop_length=276,
    bands=80,
    fmin=0.0,
    fmax=5512.5,
)
"""Robust-xID's small set-up: 11,025 Hz, 50 ms windows every 25 ms, both rounded to samples, 80
bands. Two seconds give 80 frames. Mel scale, norm, transform length and logarithm are not
published; they are those of PANNs over the whole band here."""

XID_LARGE = LogMelSpec(
    rate=24000,
    n_fft=1024,
    window_length=752,
    hop_length=376,
    bands=128,
    fmin=0.0,
    fmax=12000.0,
)
"""Robust-xID's large set-up: 24 kHz and 128 bands x 128 frames for two seconds. Window and hop
are not published; 376 samples is the shortest hop with which two seconds give 128 centred frames,
and the window is two hops as in the small set-up."""

_PATCH_FRAMES = 96
_BLOCK = 128
"""Frames transformed at a time: their spectra stay in the processor's cache."""
_GROUP = 16
"""Bands summed at a time: a quarter of the work, since each has weight in a few bins only."""


def log_mel(waveform: np.ndarray, spec: LogMelSpec) -> np.ndarray:
    """Computes the log-Mel spectrogram of mono sound.

    Args:
        waveform: Samples in [-1, 1] at ``spec.rate``, (..., n).
        spec: The front end.

    Returns:
        Log-Mel energies, (..., frames, bands) float32, with ``spec.frames(n)`` frames.
    """
    waveform = np.asarray(waveform)
    lead, samples = waveform.shape[:-1], waveform.shape[-1]
    energies = np.empty((*lead, spec.frames(samples), spec.bands), dtype=np.float32)
    if energies.size == 0:
        return energies
    for index in np.ndindex(lead):
        _transform(waveform[index], spec, energies[index])
    return energies


def _transform(waveform: np.ndarray, spec: LogMelSpec, energies: np.ndarray) -> None:
    """Computes one spectrogram in float64, (n,) to (frames, bands)."""
    if spec.center:
        # Reflected by half a transform; the zeros around the window in its middle are left out.
        margin = spec.n_fft // 2
        mode = "reflect" if len(waveform) > 1 else "edge"
        waveform = np.pad(waveform, margin, mode=mode)[(spec.n_fft - spec.window_length) // 2 :]
    frames = sliding_window_view(waveform, spec.window_length)[:: spec.hop_length]
    window, groups = _window(spec.window_length), _groups(spec)
    windowed = np.zeros((min(_BLOCK, len(energies)), spec.n_fft))
    sums = np.empty((len(windowed), spec.bands))
    for first in range(0, len(energies), _BLOCK):
        block = slice(first, min(first + _BLOCK, len(energies)))
        part = windowed[: block.stop - first]  # (f, n_fft)
        np.multiply(frames[block], window, out=part[:, : spec.window_length])
        spectrum = np.fft.rfft(part)  # (f, n_fft // 2 + 1)
        power = spectrum.real**2 + spectrum.imag**2
        if spec.power != 2.0:
            power **= spec.power / 2
        mel = sums[: len(part)]  # (f, bands)
        for bands, bins, weights in groups:
            mel[:, bands] = power[:, bins] @ weights
        if spec.log == "ln":
            energies[block] = np.log(mel + spec.offset)
        else:
            energies[block] = 10.0 * np.log10(np.maximum(mel, spec.offset))


def vggish_patches(waveform: np.ndarray, *, hop: float = 1.0, count: int) -> np.ndarray:
    """Cuts sound into the patches of 0.96 s that VGGish takes.

    Patch k starts at second k * hop and is computed from its own 15,600 samples, so that it does
    not depend on the clip around it. What lies beyond the waveform's end is silence.

    Args:
        waveform: Mono samples in [-1, 1] at 16 kHz, (n,).
        hop: Seconds from one patch to the next.
        count: Patches.

    Returns:
        Log-Mel patches, (count, 96, 64) float32.
    """
    length = (_PATCH_FRAMES - 1) * VGGISH.hop_length + VGGISH.window_length
    cuts = np.zeros((count, length), dtype=np.float32)
    for k in range(count):
        start = round(k * hop * VGGISH.rate)
        part = waveform[start : start + length]
        cuts[k, : len(part)] = part
    return log_mel(cuts, VGGISH)


@cache
def _window(length: int) -> np.ndarray:
    """The periodic Hann window, (length,) float64."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


@cache
def _filters(spec: LogMelSpec) -> np.ndarray:
    """The Mel filter bank of a spec, (bands, n_fft // 2 + 1) float64."""
    bins = np.fft.rfftfreq(spec.n_fft, 1.0 / spec.rate)
    low, high = _mel(np.array([spec.fmin, spec.fmax]), htk=spec.htk)
    edges = np.linspace(low, high, spec.bands + 2)
    # librosa draws its triangles over Hz whatever the scale; VGGish draws them over mel, which
    # moves single filter weights by up to 0.0044.
    if spec.triangles == "hz":
        edges = _hertz(edges, htk=spec.htk)
    else:
        bins = _mel(bins, htk=spec.htk)
    widths = np.diff(edges)
    rise = (bins - edges[:-2, None]) / widths[:-1, None]
    fall = (edges[2:, None] - bins) / widths[1:, None]
    filters = np.maximum(0.0, np.minimum(rise, fall))
    if spec.norm == "slaney":
        filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return filters


@cache
def _groups(spec: LogMelSpec) -> tuple[tuple[slice, slice, np.ndarray], ...]:
    """The filter bank in parts: which bands, which bins they have weight in, and the weights."""
    filters = _filters(spec)
    groups = []
    for first in range(0, spec.bands, _GROUP):
        part = filters[first : first + _GROUP]
        used = np.flatnonzero(part.any(axis=0))
        bins = slice(used[0], used[-1] + 1) if len(used) else slice(0, 0)
        weights = np.ascontiguousarray(part[:, bins].T)  # (bins, bands)
        groups.append((slice(first, first + len(part)), bins, weights))
    return tuple(groups)


_LINEAR = 200.0 / 3
_BEND = 1000.0
_STEP = np.log(6.4) / 27
"""Slaney's scale: 200/3 Hz a mel up to 1 kHz, then 27 mels for a factor of 6.4."""


def _mel(hertz: np.ndarray, *, htk: bool) -> np.ndarray:
    if htk:
        return 2595.0 * np.log10(1.0 + hertz / 700.0)
    bent = _BEND / _LINEAR + np.log(np.maximum(hertz, _BEND) / _BEND) / _STEP
    return np.where(hertz < _BEND, hertz / _LINEAR, bent)


def _hertz(mel: np.ndarray, *, htk: bool) -> np.ndarray:
    if htk:
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    bend = _BEND / _LINEAR
    bent = _BEND * np.exp(_STEP * (np.maximum(mel, bend) - bend))
    return np.where(mel < bend, mel * _LINEAR, bent)
