"""The descriptors: shapes, repeatability, what they ignore, and that they tell events apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.demo.pictures import FRAME_RATE, render_frames
from pipeline.demo.sounds import SOUNDS
from pipeline.demo.timelines import SECONDS, Timeline
from pipeline.descriptors import (
    AUDIO_RATE,
    AUDIO_WIDTH,
    FRAME_SIZE,
    FRAMES_PER_SEGMENT,
    VISUAL_WIDTH,
    audio_descriptor,
    audio_descriptor_spec,
    resize_area,
    visual_descriptor,
    visual_descriptor_spec,
)
from pipeline.files import canonical_json


def _tone(frequency: float, seconds: float, pulses: float = 0.0) -> np.ndarray:
    time = np.arange(round(seconds * AUDIO_RATE)) / AUDIO_RATE
    gate = 1.0 - 0.8 * np.sin(np.pi * pulses * time) ** 2
    return (0.3 * np.sin(2 * np.pi * frequency * time) * gate).astype(np.float32)


def _frames(seed: int, segments: int = 2, size: tuple[int, int] = FRAME_SIZE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (segments, FRAMES_PER_SEGMENT, 6, 8, 3), dtype=np.uint8)
    return coarse.repeat(size[0] // 6, axis=2).repeat(size[1] // 8, axis=3)


def _square(step: tuple[int, int], side: int = 24, colour: int = 230) -> np.ndarray:
    """One segment in which a square moves over grey by a step (y, x) a frame."""
    frames = np.full((1, FRAMES_PER_SEGMENT, *FRAME_SIZE, 3), 90, dtype=np.uint8)
    for k in range(FRAMES_PER_SEGMENT):
        y, x = 20 + k * step[0], 20 + k * step[1]
        frames[0, k, y : y + side, x : x + side] = colour
    return frames


def test_audio_shape_and_repeatability() -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, 3 * AUDIO_RATE).astype(np.float32)
    values = audio_descriptor(wave, segments=3)
    assert values.shape == (3, AUDIO_WIDTH)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert np.array_equal(values, audio_descriptor(wave.copy(), segments=3))
    assert audio_descriptor(wave, segments=0).shape == (0, AUDIO_WIDTH)


def test_audio_missing_end_is_silence_and_surplus_is_ignored() -> None:
    wave = _tone(440, 3.0)
    short = wave[: round(2.6 * AUDIO_RATE)]
    padded = np.concatenate([short, np.zeros(len(wave) - len(short), np.float32)])
    assert np.array_equal(audio_descriptor(short, segments=3), audio_descriptor(padded, segments=3))
    longer = np.concatenate([wave, _tone(2000, 1.0)])
    assert np.array_equal(audio_descriptor(wave, segments=3), audio_descriptor(longer, segments=3))


def test_audio_segments_hold_their_own_second() -> None:
    wave = np.concatenate([_tone(300, 1.0), _tone(3000, 1.0), _tone(300, 1.0)])
    low, high, again = audio_descriptor(wave, segments=3)[:, :64].argmax(axis=1)
    # The mel frame that straddles a border belongs to one side, and moves no peak.
    assert low == again < high


def test_audio_tells_rhythm_apart_at_equal_pitch() -> None:
    slow, fast = (audio_descriptor(_tone(500, 2.0, p), segments=2)[0] for p in (2.0, 10.0))
    # Five ranges of modulation of the lowest of four band groups, which holds 500 Hz.
    ranges = slice(3 * 64, 3 * 64 + 5)
    assert slow[ranges].argmax() == 0
    assert fast[ranges].argmax() == 2


@pytest.mark.parametrize(
    ("wave", "options"),
    [
        (np.zeros((2, 100), np.float32), {"segments": 1}),
        (np.zeros(100, np.float32), {"segments": -1}),
        (np.zeros(100, np.float32), {"segments": 1, "hop": 0.0}),
    ],
)
def test_audio_refuses_what_is_no_grid(wave: np.ndarray, options: dict) -> None:
    with pytest.raises(ValueError):
        audio_descriptor(wave, **options)


def test_visual_shape_and_repeatability() -> None:
    frames = _frames(0)
    values = visual_descriptor(frames)
    assert values.shape == (2, VISUAL_WIDTH)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert np.array_equal(values, visual_descriptor(frames.copy()))
    assert visual_descriptor(frames[:0]).shape == (0, VISUAL_WIDTH)


def test_visual_segment_depends_on_its_own_frames_alone() -> None:
    frames = _frames(1, segments=3)
    together = visual_descriptor(frames)
    for k in range(3):
        assert np.array_equal(together[k], visual_descriptor(frames[k : k + 1])[0])


def test_visual_accepts_any_number_of_frames() -> None:
    for count in (1, 2, 7):
        values = visual_descriptor(np.repeat(_frames(2)[:, :1], count, axis=1))
        assert values.shape == (2, VISUAL_WIDTH)
        assert np.isfinite(values).all()


def test_visual_resizing_first_changes_nothing() -> None:
    frames = np.random.default_rng(3).integers(0, 256, (1, 4, 133, 201, 3), dtype=np.uint8)
    small = resize_area(frames[0], FRAME_SIZE)[None]
    assert small.shape == (1, 4, *FRAME_SIZE, 3)
    assert np.array_equal(visual_descriptor(frames), visual_descriptor(small))


def test_resize_averages_exactly() -> None:
    frames = np.random.default_rng(4).integers(0, 256, (2, 192, 384, 3), dtype=np.uint8)
    expected = frames.reshape(2, 96, 2, 128, 3, 3).astype(np.float64).mean(axis=(2, 4))
    assert np.abs(resize_area(frames, FRAME_SIZE) - expected).max() <= 0.5 + 1e-3
    flat = np.full((1, 77, 41, 3), 137, dtype=np.uint8)
    assert (resize_area(flat, FRAME_SIZE) == 137).all()
    same = frames[:, :96, :128]
    assert resize_area(same, FRAME_SIZE) is same


def test_visual_still_picture_has_no_motion() -> None:
    still = visual_descriptor(_square((0, 0)))[0]
    moved = visual_descriptor(_square((0, 8)))[0]
    names = list(visual_descriptor_spec()["blocks"].items())
    ends = np.cumsum([width for _, width in names])
    for (name, width), end in zip(names, ends, strict=True):
        if name in ("motion_grid", "motion_levels", "motion_direction", "colour_moving"):
            assert not still[end - width : end].any(), name
            assert moved[end - width : end].any(), name
    assert ends[-1] == VISUAL_WIDTH


@pytest.mark.parametrize(
    ("step", "course"), [((0, 8), 0), ((8, 0), 4), ((0, -4), 8), ((-4, 0), 12)]
)
def test_visual_direction_of_motion(step: tuple[int, int], course: int) -> None:
    blocks = visual_descriptor_spec()["blocks"]
    begin = sum(width for name, width in list(blocks.items())[:-2])
    for colour in (230, 10):
        flow = visual_descriptor(_square(step, colour=colour))[0][begin : begin + 16]
        # Right is 0 and down is 4 of 16 steps, whether the square is brighter or darker.
        assert flow.argmax() == course


def test_visual_moving_colour_finds_the_object_on_clutter() -> None:
    rng = np.random.default_rng(5)
    clutter = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    frames = np.repeat(clutter[None, None], FRAMES_PER_SEGMENT, axis=1)
    for k in range(FRAMES_PER_SEGMENT):
        frames[0, k, 30:50, 10 + 25 * k : 30 + 25 * k] = (250, 20, 20)
    blocks = visual_descriptor_spec()["blocks"]
    begin = sum(width for name, width in list(blocks.items())[:7])
    assert list(blocks)[7] == "colour_moving"
    red = (250 >> 6) * 16
    assert visual_descriptor(frames)[0][begin : begin + 64].argmax() == red


@pytest.mark.parametrize("shape", [(4, 96, 128, 3), (1, 0, 96, 128, 3), (1, 4, 96, 128, 1)])
def test_visual_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        visual_descriptor(np.zeros(shape, dtype=np.uint8))


def test_visual_refuses_other_types() -> None:
    with pytest.raises(ValueError):
        visual_descriptor(np.zeros((1, 4, *FRAME_SIZE, 3), dtype=np.float32))


def test_specs_are_plain_values_and_state_their_widths() -> None:
    for spec in (audio_descriptor_spec(), visual_descriptor_spec()):
        assert spec["version"] >= 1
        canonical_json(spec)
    assert sum(visual_descriptor_spec()["blocks"].values()) == VISUAL_WIDTH


def _clean_sound(c: int, seed: int) -> np.ndarray:
    """Mean audio descriptor of an event of a class without background."""
    wave = 0.1 * SOUNDS[c](np.random.default_rng(seed))
    return audio_descriptor(wave, segments=SECONDS).mean(axis=0)


def _clean_look(c: int, seed: int) -> np.ndarray:
    """Mean visual descriptor of an event of a class on grey instead of its background."""
    present = np.ones((1, SECONDS), dtype=bool)
    there, absent = (
        render_frames(Timeline("x", (c,), v, v), np.random.default_rng(seed))
        for v in (present, ~present)
    )
    frames = np.where((there != absent).any(axis=-1, keepdims=True), there, np.uint8(128))
    frames = frames[:: FRAME_RATE // FRAMES_PER_SEGMENT]
    frames = frames.reshape(SECONDS, FRAMES_PER_SEGMENT, *frames.shape[1:])
    return visual_descriptor(frames).mean(axis=0)


@pytest.mark.parametrize("describe", [_clean_sound, _clean_look])
def test_classes_differ_more_than_clips_of_a_class(
    describe: Callable[[int, int], np.ndarray],
) -> None:
    classes = np.repeat([0, 3, 4, 6], 3)
    rows = np.stack([describe(c, seed) for seed, c in enumerate(classes)])
    # What all events share tells nothing apart.
    rows -= rows.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    likeness = rows @ rows.T
    same = classes[:, None] == classes[None, :]
    within = likeness[same & ~np.eye(len(rows), dtype=bool)].mean()
    assert within > likeness[~same].mean() + 0.2
