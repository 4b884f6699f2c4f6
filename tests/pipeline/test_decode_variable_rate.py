"""The frame on screen, to the frame, where frame numbers mislead: rates that change on the way.

The clip shows ten pictures a second for twelve seconds and a third of that for twelve more. Each
picture carries its number, so that what comes back tells which one it was.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.decode import Decoder, open_decoder
from pipeline.decode.interface import BOUNDARY
from pipeline.grid import SegmentGrid, UniformGrid
from tests.media import needs_decord, read_index, render_clip, sine, trimmed_copy

HALF = 12.0
BEGINS = np.concatenate([np.arange(0, HALF, 0.1), np.arange(HALF, 2 * HALF - 0.01, 0.3)])
COUNT = len(BEGINS)
OPEN_GOP = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0:keyint=8:min-keyint=8"}
TRIM = 0.3

WHOLE, ACROSS, MIDDLE, LATE = (0.0, 23.0), (7.0, 17.0), (12.3, 16.3), (19.45, 23.45)
"""Clips of the file in seconds: all but the first begin where a decoder seeks."""

SAMPLED = [(WHOLE, 8, 0.5), (WHOLE, 1, 0.5)] + [
    (clip, rate, phase)
    for clip in (ACROSS, MIDDLE, LATE)
    for rate, phase in ((1, 0.5), (4, 0.0), (16, 0.25))
]
"""Clip, frames a second, and where in its slot a frame is sampled."""


def trimmed(path: Path) -> Path:
    whole = render_clip(path.with_name("whole.mp4"), begins=BEGINS, gop=24)
    return trimmed_copy(whole, path, TRIM)


def rendered(**options: Any) -> Callable[[Path], Path]:
    return lambda path: render_clip(path, **{"begins": BEGINS, "gop": 24} | options)


LAYOUTS: dict[str, tuple[str, Callable[[Path], Path], tuple[str, ...]]] = {
    "no B-frames": ("plain.mp4", rendered(b_frames=0), ("pyav", "decord")),
    "B-frames": ("b.mp4", rendered(b_frames=3), ("pyav", "decord")),
    "B-frames in Matroska": ("b.mkv", rendered(b_frames=3), ("pyav", "decord")),
    "open groups of pictures": ("open.mp4", rendered(options=OPEN_GOP), ("pyav", "decord")),
    "one key frame": ("one.mp4", rendered(gop=1000), ("pyav", "decord")),
    "a clock that starts at 7.3 s": (
        "offset.mkv",
        rendered(begins=7.3 + BEGINS),
        ("pyav", "decord"),
    ),
    "sound that begins after the pictures": (
        "sound.mp4",
        rendered(audio=sine(440, 20.0, 16000), audio_begin=0.7),
        ("pyav", "decord"),
    ),
    # decord is not let near these two: it would misplace their pictures.
    "an edit list": ("trimmed.mp4", trimmed, ("pyav",)),
    "a transport stream": ("stream.ts", rendered(), ("pyav",)),
}
"""By name: a file's name, what renders it, and the decoders that read it."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Renders a layout once."""
    folder = tmp_path_factory.mktemp("variable")

    def clip(layout: str) -> Path:
        name, render, _ = LAYOUTS[layout]
        path = folder / name
        return path if path.exists() else render(path)

    return clip


@pytest.fixture(scope="module")
def decoders() -> dict[str, Decoder]:
    needs_decord()
    return {name: open_decoder(name) for name in ("pyav", "decord")}


def shown(decoder: Decoder, path: Path, times: np.ndarray) -> np.ndarray:
    """Number of the picture that comes back for every moment, (n,)."""
    found = np.full(len(times), -2)
    for span, frame in decoder.frames(path, times):
        found[span] = read_index(frame)
    return found


def on_screen(begins: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The definition: the last picture that has begun, (n,)."""
    return np.searchsorted(begins, times + BOUNDARY, side="right") - 1


def by_number(path: Path, times: np.ndarray) -> np.ndarray:
    """What frame numbers give: moment times mean rate, (n,)."""
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate)
    return np.floor(times * rate).clip(0, COUNT - 1).astype(int)


@pytest.mark.parametrize(
    ("layout", "name"), [(layout, d) for layout, (_, _, by) in LAYOUTS.items() for d in by]
)
def test_every_sampled_frame_is_the_one_on_screen(
    clips: Callable[[str], Path], decoders: dict[str, Decoder], layout: str, name: str
):
    path = clips(layout)
    begins = BEGINS - TRIM if layout == "an edit list" else BEGINS
    for (start, end), rate, phase in SAMPLED:
        times = SegmentGrid(frames=rate, phase=phase).frame_times(start, end).ravel()
        assert len(times) == rate * (end - start)
        expected = on_screen(begins, times)
        np.testing.assert_array_equal(shown(decoders[name], path, times), expected)


@pytest.mark.parametrize("name", ["pyav", "decord"])
def test_windows_spread_over_the_file(
    clips: Callable[[str], Path], decoders: dict[str, Decoder], name: str
):
    times = UniformGrid(number=10, window=2.0, frames=8).frame_times(0.0, 23.9).ravel()
    times = np.sort(times)
    found = shown(decoders[name], clips("B-frames"), times)
    np.testing.assert_array_equal(found, on_screen(BEGINS, times))


@pytest.mark.parametrize("layout", [n for n in LAYOUTS if n != "an edit list"])
def test_frame_numbers_would_mislead(clips: Callable[[str], Path], layout: str):
    path = clips(layout)
    times = SegmentGrid(frames=8).frame_times(*WHOLE).ravel()
    right, naive = on_screen(BEGINS, times), by_number(path, times)
    away = np.abs(BEGINS[naive] - BEGINS[right])
    assert np.mean(naive != right) > 0.4
    assert away.max() > 2.0, "the clip does not tell time from number"


def test_the_clip_is_what_it_says(clips: Callable[[str], Path]):
    with av.open(str(clips("B-frames"))) as container:
        stamps = np.array([float(f.pts * f.time_base) for f in container.decode(video=0)])
    np.testing.assert_allclose(stamps - stamps[0], BEGINS, atol=1e-6)
    steps = np.diff(BEGINS)
    np.testing.assert_allclose([steps[:100].max(), steps[130:].min()], [0.1, 0.3])
    with av.open(str(clips("a clock that starts at 7.3 s"))) as container:
        assert container.start_time == 7_300_000
    with av.open(str(clips("open groups of pictures"))) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    order = np.argsort(np.argsort([p.pts for p in packets]))
    assert any(order[k] != k for k, p in enumerate(packets) if p.is_keyframe)
