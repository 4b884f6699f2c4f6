"""Rendered clips: real H.264 and AAC, where what is labelled is there and what is not is not."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.demo.classes import class_table
from pipeline.demo.looks import LOOKS
from pipeline.demo.pictures import FRAME_RATE, HEIGHT, WIDTH, render_frames
from pipeline.demo.render import encode, render_clip
from pipeline.demo.sounds import SOUND_RATE, render_sound
from pipeline.demo.timelines import SECONDS, Timeline, clip_rng, draw_timeline


def _timeline(c: int, *, heard: list[int], seen: list[int]) -> Timeline:
    audio, visual = np.zeros((2, 1, SECONDS), dtype=bool)
    audio[0, heard], visual[0, seen] = True, True
    return Timeline("x", (c,), audio, visual)


def _sound(timeline: Timeline) -> np.ndarray:
    return render_sound(timeline, np.random.default_rng(1))


def _frames(timeline: Timeline) -> np.ndarray:
    return render_frames(timeline, np.random.default_rng(1))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("render") / "clip.mp4"
    assert render_clip(path, seed=0, split="train", index=0) == path.stat().st_size
    return path


def test_file_is_h264_and_aac_of_ten_seconds(clip: Path) -> None:
    with av.open(str(clip)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.width, video.height, video.average_rate) == (WIDTH, HEIGHT, FRAME_RATE)
        assert (audio.rate, audio.channels) == (SOUND_RATE, 1)
        assert container.duration == pytest.approx(SECONDS * 1e6, abs=1e3)
        times = [frame.time for frame in container.decode(video)]
    assert times == pytest.approx(np.arange(SECONDS * FRAME_RATE) / FRAME_RATE)


def test_file_holds_the_rendered_frames_and_sound_in_step(clip: Path) -> None:
    timeline = draw_timeline(0, "train", 0)
    frames = render_frames(timeline, clip_rng(0, "train", 0, "picture"))
    sound = render_sound(timeline, clip_rng(0, "train", 0, "sound"))
    with av.open(str(clip)) as container:
        decoded = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    with av.open(str(clip)) as container:
        parts = list(container.decode(audio=0))
    error = decoded.astype(float) - frames
    assert np.sqrt(np.mean(error**2)) < 12
    assert parts[0].time == 0
    heard = np.concatenate([f.to_ndarray()[0] for f in parts])[: len(sound)]
    # AAC is not exact, but a shift by a few samples would already destroy the correlation.
    assert np.corrcoef(heard, sound)[0, 1] > 0.95


def test_rendering_repeats_to_the_bit() -> None:
    timeline = draw_timeline(0, "val", 3)
    for render, stream in ((render_frames, "picture"), (render_sound, "sound")):
        first, again = (render(timeline, clip_rng(0, "val", 3, stream)) for _ in range(2))
        assert np.array_equal(first, again)


def test_sound_stays_within_bounds_and_is_no_silence() -> None:
    for index in range(5):
        wave = render_sound(draw_timeline(0, "test", index), clip_rng(0, "test", index, "sound"))
        assert wave.shape == (SECONDS * SOUND_RATE,)
        assert wave.dtype == np.float32
        assert np.sqrt(np.mean(wave**2)) > 0.01
        assert np.abs(wave).max() <= 0.9


@pytest.mark.parametrize("c", range(len(LOOKS)), ids=class_table().names)
def test_sound_is_heard_exactly_in_its_seconds(c: int) -> None:
    with_event = _sound(_timeline(c, heard=[2, 3, 6], seen=[]))
    without = _sound(_timeline(c, heard=[], seen=[2, 3, 6]))
    # Apart from loudness, which is set for the whole clip, only those seconds may differ.
    scale = np.dot(with_event[:SOUND_RATE], without[:SOUND_RATE])
    scale /= np.dot(without[:SOUND_RATE], without[:SOUND_RATE])
    change = np.sqrt(np.mean((with_event - scale * without).reshape(SECONDS, -1) ** 2, axis=1))
    assert change[[2, 3, 6]].min() > 20 * change[[0, 1, 4, 5, 7, 8, 9]].max()


@pytest.mark.parametrize("c", range(len(LOOKS)), ids=class_table().names)
def test_look_is_seen_exactly_in_its_seconds(c: int) -> None:
    with_event = _frames(_timeline(c, heard=[], seen=[0, 4, 5]))
    without = _frames(_timeline(c, heard=[0, 4, 5], seen=[]))
    changed = (with_event != without).any(axis=3).mean(axis=(1, 2)).reshape(SECONDS, FRAME_RATE)
    assert changed[[0, 4, 5]].min() > 0.005
    assert not changed[[1, 2, 3, 6, 7, 8, 9]].any()


def test_events_of_one_class_differ_from_clip_to_clip() -> None:
    timeline = _timeline(2, heard=list(range(SECONDS)), seen=list(range(SECONDS)))
    one, two = (render_frames(timeline, np.random.default_rng(s)) for s in (1, 2))
    assert (one != two).mean() > 0.5


def test_encode_keeps_a_sound_that_ends_early() -> None:
    frames = np.zeros((FRAME_RATE, HEIGHT, WIDTH, 3), dtype=np.uint8)
    data = encode(frames, np.zeros(SOUND_RATE // 2, dtype=np.float32))
    assert data[4:8] == b"ftyp"
