"""Two descriptors that need no weights: one of sound, one of pictures.

They make the whole path work anywhere, and they carry enough of timbre, rhythm, shape, texture,
colour and motion to tell everyday events apart. They are no rival of a trained backbone.
"""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.mel import LogMelSpec, log_mel

__all__ = [
    "AUDIO_RATE",
    "AUDIO_WIDTH",
    "FRAMES_PER_SEGMENT",
    "FRAME_SIZE",
    "VISUAL_WIDTH",
    "audio_descriptor",
    "audio_descriptor_spec",
    "resize_area",
    "visual_descriptor",
    "visual_descriptor_spec",
]

AUDIO_RATE = 16_000
"""Samples a second that `audio_descriptor` expects."""
FRAMES_PER_SEGMENT = 4
"""Frames a segment that the extraction gives to `visual_descriptor`; any number from 1 works."""
FRAME_SIZE = (96, 128)
"""Height and width in pixels to which frames are averaged before anything is measured."""

_AUDIO_VERSION = 2
_VISUAL_VERSION = 2
"""Raised by hand whenever a value changes for the same input."""

_MEL = LogMelSpec(
    rate=AUDIO_RATE,
    n_fft=512,
    window_length=400,
    hop_length=160,
    bands=64,
    fmin=50.0,
    fmax=7800.0,
    htk=True,
    norm=None,
    power=1.0,
    log="ln",
    offset=0.01,
    center=False,
)
_MODULATIONS = ((1.5, 3.0), (3.0, 6.0), (6.0, 12.0), (12.0, 25.0), (25.0, 50.0))
"""Bands in Hz of the loudness modulation spectrum: syllables, bursts, rotors, engines."""
_MODULATION_GROUPS = 4
AUDIO_WIDTH = 3 * _MEL.bands + _MODULATION_GROUPS * len(_MODULATIONS)
"""Values a segment of `audio_descriptor` (212)."""

# Parsing networks take features as they come, without normalisation. These factors bring the
# standard deviation of every block to about one half, which is that of a trained backbone's pooled
# features; without them the small blocks are not learnt in a few hundred updates. Measured over
# the training clips of the demo corpus, without labels.
_AUDIO_GAINS = {"mean": 0.45, "std": 1.5, "change": 3.0, "modulation": 0.28}
_VISUAL_GAINS = {
    "orientation_grid": 1.6,
    "orientation_max": 1.1,
    "orientation_spread": 4.0,
    "orientation_moving": 5.3,
    "texture": 26.0,
    "texture_moving": 12.0,
    "colour": 7.8,
    "colour_moving": 6.7,
    "motion_grid": 0.6,
    "motion_levels": 7.0,
    "motion_direction": 6.0,
    "motion_path": 2.2,
}

_CELLS = (3, 4)
_ORIENTATIONS = 8
_DIRECTIONS = 2 * _ORIENTATIONS
_COLOURS = 4
_UNIFORM = 59
_LBP_MARGIN = 4
_MOTION_DEADZONE = 8
_MOTION_LEVELS = (8, 16, 32, 64)

_GRID = _CELLS[0] * _CELLS[1]
_BLOCKS = {
    "orientation_grid": _GRID * _ORIENTATIONS,
    "orientation_max": _ORIENTATIONS,
    "orientation_spread": _ORIENTATIONS,
    "orientation_moving": _ORIENTATIONS,
    "texture": _UNIFORM,
    "texture_moving": _UNIFORM,
    "colour": _COLOURS**3,
    "colour_moving": _COLOURS**3,
    "motion_grid": _GRID,
    "motion_levels": len(_MOTION_LEVELS),
    "motion_direction": _DIRECTIONS,
    "motion_path": 6,
}
VISUAL_WIDTH = sum(_BLOCKS.values())
"""Values a segment of `visual_descriptor` (404)."""


def audio_descriptor_spec() -> dict[str, Any]:
    """All that changes a value of `audio_descriptor`, for a feature's spec."""
    return {
        "mel": _MEL.describe(),
        "statistics": ["mean", "std", "mean absolute difference of neighbouring frames"],
        "modulations": [list(band) for band in _MODULATIONS],
        "modulation_groups": _MODULATION_GROUPS,
        "gains": dict(_AUDIO_GAINS),
        "membership": "a mel frame belongs to the segment that its middle falls into",
        "dtype": "float32",
        "version": _AUDIO_VERSION,
    }


def audio_descriptor(waveform: np.ndarray, *, segments: int, hop: float = 1.0) -> np.ndarray:
    """Log-Mel statistics of every segment.

    Per band the mean (timbre), the standard deviation and the mean absolute difference of
    neighbouring frames (rhythm), then how strongly the loudness of four band groups is modulated
    at five ranges of frequency.

    Args:
        waveform: (n,) float32 mono at `AUDIO_RATE`, from the start of segment 0. Missing samples
            at the end count as silence, those beyond the last segment are ignored.
        segments: Segments (T).
        hop: Seconds a segment; at least 0.1.

    Returns:
        (T, AUDIO_WIDTH) float32.

    Raises:
        ValueError: If the waveform has more than one axis or the segments make no grid.
    """
    waveform = np.asarray(waveform, dtype=np.float32)
    if waveform.ndim != 1:
        raise ValueError(f"a mono waveform has one axis, this has shape {waveform.shape}")
    if segments < 0 or hop < 0.1:
        raise ValueError(f"segments must be >= 0 and hop >= 0.1 s, these are {segments} and {hop}")
    if segments == 0:
        return np.zeros((0, AUDIO_WIDTH), dtype=np.float32)
    samples = round(segments * hop * AUDIO_RATE)
    waveform = np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))
    mel = log_mel(waveform, _MEL)  # (frames, bands)
    middles = (np.arange(len(mel)) * _MEL.hop_length + _MEL.window_length / 2) / AUDIO_RATE
    borders = np.searchsorted(middles, hop * np.arange(segments + 1) - 1e-9)
    rows = [_segment_sound(mel[a:b]) for a, b in pairwise(borders)]
    return np.stack(rows)


def _segment_sound(mel: np.ndarray) -> np.ndarray:
    """Statistics of one segment's log-Mel frames (frames, bands)."""
    change = np.abs(np.diff(mel, axis=0)).mean(axis=0)
    blocks = [mel.mean(axis=0), mel.std(axis=0), change, _modulation(mel)]
    return _scaled(blocks, _AUDIO_GAINS)


def _scaled(blocks: list[np.ndarray], gains: dict[str, float]) -> np.ndarray:
    """Blocks times their gains, in order, as one float32 vector."""
    pairs = zip(blocks, gains.values(), strict=True)
    return np.concatenate([block * gain for block, gain in pairs]).astype(np.float32)


def _modulation(mel: np.ndarray) -> np.ndarray:
    """Log power of the loudness modulation of band groups, (groups x ranges,)."""
    groups = mel.reshape(len(mel), _MODULATION_GROUPS, -1).mean(axis=2)
    window = np.hanning(len(groups) + 2)[1:-1, None]
    power = np.abs(np.fft.rfft((groups - groups.mean(axis=0)) * window, axis=0)) ** 2 / len(mel)
    frequency = np.fft.rfftfreq(len(mel), _MEL.hop_length / AUDIO_RATE)
    ranges = [(frequency >= low) & (frequency < high) for low, high in _MODULATIONS]
    return np.log(np.stack([power[r].sum(axis=0) for r in ranges], axis=1) + 1e-3).ravel()


def visual_descriptor_spec() -> dict[str, Any]:
    """All that changes a value of `visual_descriptor` besides the frames, for a feature's spec."""
    return {
        "frame_size": list(FRAME_SIZE),
        "resize": "area average of the whole frame, rounded to uint8; aspect ratio not kept",
        "luma": "(77 R + 150 G + 29 B) >> 8",
        "cells": list(_CELLS),
        "orientations": _ORIENTATIONS,
        "colours": _COLOURS,
        "lbp_margin": _LBP_MARGIN,
        "motion_deadzone": _MOTION_DEADZONE,
        "motion_levels": list(_MOTION_LEVELS),
        "blocks": dict(_BLOCKS),
        "gains": dict(_VISUAL_GAINS),
        "dtype": "float32",
        "version": _VISUAL_VERSION,
    }


def visual_descriptor(frames: np.ndarray) -> np.ndarray:
    """Shape, texture, colour and motion of every segment.

    Histograms of gradient orientations on a 3 x 4 grid (Dalal and Triggs 2005), of uniform local
    binary patterns (Ojala, Pietikainen and Maenpaa 2002) and of colours; the last two, and the
    orientations, a second time over moving pixels only, which is where an event shows on clutter;
    then where, how much, in which direction and along which path the picture moves.

    A segment's values depend on its own frames alone.

    Args:
        frames: (T, F, H, W, 3) uint8 RGB, F frames of each of T segments, any size.

    Returns:
        (T, VISUAL_WIDTH) float32.

    Raises:
        ValueError: If the frames have another shape or type.
    """
    if frames.ndim != 5 or frames.shape[-1] != 3 or frames.shape[1] == 0:
        raise ValueError(f"frames must be (T, F >= 1, H, W, 3), these are {frames.shape}")
    if frames.dtype != np.uint8:
        raise ValueError(f"frames must be uint8, these are {frames.dtype}")
    if len(frames) == 0:
        return np.zeros((0, VISUAL_WIDTH), dtype=np.float32)
    # One segment at a time, so that memory does not grow with the clip.
    return np.stack([_segment_picture(resize_area(segment, FRAME_SIZE)) for segment in frames])


def resize_area(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes frames by averaging the area that each new pixel covers.

    Args:
        frames: (F, H, W, 3) uint8.
        size: New height and width in pixels.

    Returns:
        (F, h, w, 3) uint8; the same array when the size is right already.
    """
    count, height, width, channels = frames.shape
    if (height, width) == tuple(size):
        return frames
    resized = np.empty((count, *size, channels), dtype=np.uint8)
    down, across = _area_weights(height, size[0]), _area_weights(width, size[1])
    for frame, target in zip(frames, resized, strict=True):
        rows = down @ frame.reshape(height, -1).astype(np.float32)  # (h, W * 3)
        columns = across @ rows.reshape(size[0], width, channels)  # (h, w, 3)
        target[:] = (columns + 0.5).clip(0, 255)
    return resized


@lru_cache(maxsize=64)
def _area_weights(old: int, new: int) -> np.ndarray:
    """Share of every old pixel in every new one along an axis, (new, old); rows sum to 1."""
    edges = np.arange(new + 1) * (old / new)
    pixels = np.arange(old)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (overlap.clip(0) * (new / old)).astype(np.float32)


def _segment_picture(frames: np.ndarray) -> np.ndarray:
    """Values of one segment's frames (F, h, w, 3) uint8 of the declared size."""
    luma = _luma(frames)  # (F, h, w)
    moving = _moving(luma)  # (F, h, w)
    magnitude, direction = _gradients(luma)
    blocks = [
        *_orientation_blocks(magnitude, direction % _ORIENTATIONS, moving),
        *_histograms(_patterns(luma), moving, _UNIFORM),
        *_histograms(_colour_codes(frames), moving, _COLOURS**3),
        *_motion_blocks(luma, moving, magnitude, direction),
    ]
    return _scaled(blocks, _VISUAL_GAINS)


def _luma(frames: np.ndarray) -> np.ndarray:
    """Brightness (F, h, w) int16, 0 to 255."""
    weighted = np.uint16(77) * frames[..., 0]
    weighted += np.uint16(150) * frames[..., 1]
    weighted += np.uint16(29) * frames[..., 2]
    return (weighted >> 8).view(np.int16)


def _moving(luma: np.ndarray) -> np.ndarray:
    """How much each pixel differs from both neighbouring frames, (F, h, w) float32.

    The smaller of the two differences marks where a thing is in this frame, and not also where
    it was before or will be after; the first and last frame have one neighbour only.
    """
    if len(luma) == 1:
        return np.zeros(luma.shape, dtype=np.float32)
    change = np.abs(luma[1:] - luma[:-1])
    moving = np.empty_like(luma)
    moving[0], moving[-1] = change[0], change[-1]
    np.minimum(change[:-1], change[1:], out=moving[1:-1])
    return (moving - _MOTION_DEADZONE).clip(0).astype(np.float32)


@cache
def _gradient_tables() -> tuple[np.ndarray, np.ndarray]:
    """Magnitude and one of 16 directions for every pair of integer differences.

    A table is several times faster than arctan2 and gives the same bits on every machine.
    The index is 512 (dy + 255) + dx + 255.
    """
    step = np.arange(-255, 257, dtype=np.float64)
    dy, dx = step[:, None], step[None, :]
    # Bins are centred on the axes, so that straight edges do not flicker between two bins.
    turn = np.round(np.arctan2(dy, dx) / (np.pi / _ORIENTATIONS)).astype(np.int64)
    direction = (turn % (2 * _ORIENTATIONS)).astype(np.uint8)
    return np.hypot(dy, dx).astype(np.float32).ravel(), direction.ravel()


def _gradients(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient magnitude float32 and direction uint8 of every pixel, each (F, h, w).

    Directions go round in 16 steps; those 8 apart share an orientation.
    """
    padded = np.pad(luma, ((0, 0), (1, 1), (1, 1)), mode="edge")
    code = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]).astype(np.int32)
    code <<= 9
    code += padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    code += 255 * 513
    magnitude, direction = _gradient_tables()
    return magnitude.take(code), direction.take(code)


def _cell_index(shape: tuple[int, ...]) -> np.ndarray:
    """The grid cell of every pixel, (h, w)."""
    rows = np.arange(shape[0]) * _CELLS[0] // shape[0]
    columns = np.arange(shape[1]) * _CELLS[1] // shape[1]
    return (rows[:, None] * _CELLS[1] + columns[None, :]).astype(np.uint8)


def _orientation_blocks(
    magnitude: np.ndarray, orientation: np.ndarray, moving: np.ndarray
) -> list[np.ndarray]:
    """Orientation histograms: by cell, their maximum and spread over cells, and of motion."""
    index = _cell_index(magnitude.shape[1:]) * _ORIENTATIONS + orientation
    total = np.bincount(index.ravel(), magnitude.ravel(), _GRID * _ORIENTATIONS)
    grid = np.sqrt(total.reshape(_GRID, _ORIENTATIONS) * (_GRID / magnitude.size))
    moved = _count_moving(orientation, magnitude * moving, _ORIENTATIONS)
    return [grid.ravel(), grid.max(axis=0), grid.std(axis=0), _root_share(moved)]


def _count_moving(codes: np.ndarray, weight: np.ndarray, width: int) -> np.ndarray:
    """Weighted histogram over the pixels that move at all, usually a few per cent; (width,)."""
    where = np.flatnonzero(weight)
    return np.bincount(codes.ravel()[where], weight.ravel()[where], width)


@cache
def _uniform_table() -> np.ndarray:
    """Maps an 8-bit pattern to one of 58 uniform patterns, or to 58 when it is none."""
    table = np.full(256, _UNIFORM - 1, dtype=np.uint8)
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    uniform = (bits != np.roll(bits, 1, axis=1)).sum(axis=1) <= 2
    table[uniform] = np.arange(uniform.sum())
    return table


def _patterns(luma: np.ndarray) -> np.ndarray:
    """Uniform local binary pattern of every pixel, (F, h, w) uint8."""
    padded = np.pad(luma, ((0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = luma.shape[1:]
    # The margin keeps compression noise on flat ground from looking like texture.
    threshold = luma + _LBP_MARGIN
    code = np.zeros(luma.shape, dtype=np.uint8)
    ring = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    for bit, (y, x) in enumerate(ring):
        above = padded[:, y : y + height, x : x + width] > threshold
        code |= above.view(np.uint8) << bit
    return _uniform_table()[code]


def _colour_codes(frames: np.ndarray) -> np.ndarray:
    """Joint colour bin of every pixel, (F, h, w)."""
    level = frames >> 6
    return (level[..., 0] << 4) | (level[..., 1] << 2) | level[..., 2]


def _histograms(codes: np.ndarray, moving: np.ndarray, width: int) -> list[np.ndarray]:
    """Square roots of the shares of codes, over all pixels and over the moving ones."""
    counts = np.bincount(codes.ravel(), minlength=width)
    return [_root_share(counts), _root_share(_count_moving(codes, moving, width))]


def _root_share(counts: np.ndarray) -> np.ndarray:
    """Hellinger map of a histogram: differences of rare bins count as much as of common ones."""
    return np.sqrt(counts / max(counts.sum(), 1.0))


def _motion_blocks(
    luma: np.ndarray, moving: np.ndarray, magnitude: np.ndarray, direction: np.ndarray
) -> list[np.ndarray]:
    """Where, how much, in which direction and along which path the picture moves."""
    cells = _cell_index(luma.shape[1:])
    grid = np.bincount(cells.ravel(), moving.sum(axis=0).ravel(), _GRID) * (_GRID / moving.size)
    moved = moving[moving > 0]
    levels = np.array([(moved > level).sum() / moving.size for level in _MOTION_LEVELS])
    flow = np.zeros(_DIRECTIONS)
    if len(luma) > 1:
        change = luma[1:] - luma[:-1]
        # Flat ground has no direction, whatever passes over it.
        weight = np.minimum(np.abs(change), magnitude[1:])
        weight *= weight > _MOTION_DEADZONE
        # A pixel that grows brighter as its pattern passes moves against its gradient.
        course = (direction[1:] + _ORIENTATIONS * (change > 0).view(np.uint8)) % _DIRECTIONS
        flow = _count_moving(course, weight, _DIRECTIONS)
    return [np.log1p(grid), np.sqrt(levels), _root_share(flow), _path(moving)]


def _path(moving: np.ndarray) -> np.ndarray:
    """Steps and spread of the centre of motion and of its energy, (6,).

    Positions are shares of the frame's height and width.
    """
    _, height, width = moving.shape
    across = moving.sum(axis=1)  # (F, w)
    down = moving.sum(axis=2)  # (F, h)
    mass = down.sum(axis=1) + 1e-6
    y = down @ (np.arange(height) / height) / mass
    x = across @ (np.arange(width) / width) / mass
    energy = np.log1p(mass / (height * width))
    steps = [np.abs(np.diff(v)).mean() if len(v) > 1 else 0.0 for v in (y, x)]
    return np.array([*steps, y.std(), x.std(), energy.mean(), energy.std()])
