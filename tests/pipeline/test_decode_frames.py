"""Which picture is on screen at a moment, by both decoders, on pictures that tell their number."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.decode import DECODERS, Decoder, open_decoder
from pipeline.decode.container import StreamReader
from pipeline.decode.interface import Deadline
from pipeline.errors import MediaError, UserError
from pipeline.grid import TAIL_HOLD
from tests.media import needs_decord, read_index, render_clip, sine, trimmed_copy

OPEN_GOP = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0:keyint=8:min-keyint=8"}


@pytest.fixture(scope="module", params=sorted(DECODERS))
def decoder(request: pytest.FixtureRequest) -> Decoder:
    if request.param == "decord":
        needs_decord()
    return open_decoder(request.param)


@pytest.fixture(scope="module")
def pyav() -> Decoder:
    return open_decoder("pyav")


def indices_at(decoder: Decoder, path: Path, times: Sequence[float]) -> list[int]:
    """The numbers on the pictures at some moments; checks that the slices cover them in order."""
    found: list[int] = []
    for span, frame in decoder.frames(path, np.asarray(times)):
        assert frame.dtype == np.uint8
        assert frame.shape[2] == 3
        assert span.start == len(found)
        assert span.stop > span.start
        found += [read_index(frame)] * (span.stop - span.start)
    assert len(found) == len(times)
    return found


def on_screen(begins: Sequence[float], times: Sequence[float]) -> list[int]:
    """The numbers that belong there by the definition: the last picture that has begun."""
    return [max((k for k, b in enumerate(begins) if b <= t), default=0) for t in times]


def uneven(count: int, seed: int) -> np.ndarray:
    """Times of frames that last 20 to 300 ms each, on the millisecond clock of Matroska."""
    steps = np.random.default_rng(seed).integers(20, 300, count)
    return np.concatenate([[0], np.cumsum(steps)[:-1]]) / 1000


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("b_frames", [0, 3])
def test_constant_rate(decoder: Decoder, tmp_path: Path, suffix: str, b_frames: int):
    path = render_clip(tmp_path / f"clip{suffix}", seconds=3, b_frames=b_frames)
    times = np.arange(0.02, 3.0, 0.0713)
    assert indices_at(decoder, path, times) == on_screen(np.arange(36) / 12, times)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_rate(decoder: Decoder, tmp_path: Path, suffix: str, seed: int):
    begins = uneven(40, seed)
    path = render_clip(tmp_path / f"clip{suffix}", begins=begins, gop=15)
    times = np.sort(np.random.default_rng(seed).uniform(0, begins[-1] + 0.05, 60))
    times = times[np.abs(times[:, None] - begins).min(axis=1) > 2e-3]
    expected = on_screen(begins, times)
    assert indices_at(decoder, path, times) == expected
    rate = 40 / (begins[-1] + 0.1)
    assert expected != [int(t * rate) for t in times], "the clip does not tell time from number"


def test_a_moment_exactly_on_a_boundary_belongs_to_the_new_picture(
    decoder: Decoder, tmp_path: Path
):
    path = render_clip(tmp_path / "clip.mp4", rate=16, seconds=2)
    times = np.arange(32) / 16
    assert indices_at(decoder, path, times) == list(range(32))


def test_pictures_that_begin_after_the_sound_keep_their_distance(decoder: Decoder, tmp_path: Path):
    begins = 0.4 + np.arange(20) / 10
    path = render_clip(tmp_path / "late.mp4", begins=begins, audio=sine(440, 2.4, 16000))
    times = [0.1, 0.39, 0.41, 0.49, 0.51, 1.55, 2.35]
    assert indices_at(decoder, path, times) == on_screen(begins, times)


def test_time_is_counted_from_the_start_of_the_container(decoder: Decoder, tmp_path: Path):
    begins = 7.3 + np.arange(20) / 10
    path = render_clip(tmp_path / "offset.mkv", begins=begins)
    with av.open(str(path)) as container:
        assert container.start_time == 7_300_000
    times = [0.0, 0.05, 0.15, 0.95, 1.95]
    assert indices_at(decoder, path, times) == on_screen(begins - 7.3, times)


def test_pictures_of_mpeg_streams(pyav: Decoder, tmp_path: Path):
    for name, codec in (("clip.mpg", "mpeg1video"), ("clip.ts", "libx264")):
        path = render_clip(tmp_path / name, codec=codec, rate=25, seconds=8, gop=12)
        for times in (np.arange(0.013, 8, 0.37), [7.31, 7.5], [0.1, 6.71, 7.9]):
            assert indices_at(pyav, path, times) == on_screen(np.arange(200) / 25, times)


def test_an_edit_list_hides_the_beginning(pyav: Decoder, tmp_path: Path):
    source = render_clip(tmp_path / "whole.mp4", seconds=4, gop=24)
    path = trimmed_copy(source, tmp_path / "trimmed.mp4", 0.75)
    times = np.arange(0.04, 3.2, 0.2)
    assert indices_at(pyav, path, times) == on_screen(np.arange(48) / 12 - 0.75, times)


@pytest.mark.parametrize("gop", [10, 50, 1000])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_far_and_scattered_moments(decoder: Decoder, tmp_path: Path, suffix: str, gop: int):
    path = render_clip(tmp_path / f"long{suffix}", rate=5, seconds=50, gop=gop)
    begins = np.arange(250) / 5
    for times in (
        [41.3, 41.5, 44.9],
        [0.1, 0.3, 20.1, 20.3, 49.9],
        [5.5, 5.9, 12.1, 30.1, 30.5],
        [49.9],
    ):
        assert indices_at(decoder, path, times) == on_screen(begins, times)


def test_open_groups_of_pictures(decoder: Decoder, tmp_path: Path):
    path = render_clip(tmp_path / "open.mp4", rate=5, seconds=50, options=OPEN_GOP)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    order = np.argsort(np.argsort([p.pts for p in packets]))
    keys = [k for k, p in enumerate(packets) if p.is_keyframe]
    assert any(order[k] != k for k in keys), "the clip has no picture shown before its key frame"
    begins = np.arange(250) / 5
    for times in (np.arange(0.1, 50, 0.6), [30.3, 30.5, 31.1], [0.1, 22.7, 47.3]):
        assert indices_at(decoder, path, times) == on_screen(begins, times)


def test_a_seek_lands_near_the_moment(tmp_path: Path):
    path = render_clip(tmp_path / "long.mp4", rate=5, seconds=50, gop=10)
    with StreamReader(path, "video", deadline=Deadline(None)) as reader:
        first = next(reader.read_from(40.1))
    assert 38.0 <= first.begin <= 40.1


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_rotation(decoder: Decoder, tmp_path: Path, suffix: str, rotation: int):
    path = render_clip(tmp_path / f"turned{suffix}", seconds=1, rotation=rotation)
    times = np.arange(12) / 12 + 0.04
    assert indices_at(decoder, path, times) == list(range(12))
    frames = [frame for _, frame in decoder.frames(path, times)]
    assert {frame.shape for frame in frames} == {(96, 128, 3)}
    assert all(frame.flags.c_contiguous for frame in frames)


def test_one_picture_covers_all_moments_it_is_on_screen(decoder: Decoder, tmp_path: Path):
    path = render_clip(tmp_path / "slow.mp4", begins=[0.0, 1.0, 2.0], rate=1)
    spans = [span for span, _ in decoder.frames(path, np.arange(0.05, 3.0, 0.1))]
    assert spans == [slice(0, 10), slice(10, 20), slice(20, 30)]


def test_edge_pictures_hold_for_half_a_second(decoder: Decoder, tmp_path: Path):
    path = render_clip(tmp_path / "clip.mp4", seconds=2)
    held = 2.0 + TAIL_HOLD - 0.01
    assert indices_at(decoder, path, [-TAIL_HOLD + 0.01, 1.0, held]) == [0, 12, 23]
    for times in ([1.0, 2.0 + TAIL_HOLD + 0.02], [-TAIL_HOLD - 0.02, 1.0], [30.0]):
        with pytest.raises(MediaError) as error:
            indices_at(decoder, path, times)
        assert error.value.status == "too_short"


def test_no_moments_need_no_pictures(decoder: Decoder, tmp_path: Path):
    assert list(decoder.frames(tmp_path / "nothing.mp4", np.zeros(0))) == []


@pytest.mark.parametrize("times", [[1.0, 0.5], [[0.1]], [np.nan]])
def test_moments_out_of_order_are_a_mistake(decoder: Decoder, tmp_path: Path, times: list):
    with pytest.raises(ValueError, match="ascending"):
        list(decoder.frames(tmp_path / "nothing.mp4", np.asarray(times)))


def test_statuses_of_files_that_give_no_pictures(decoder: Decoder, tmp_path: Path):
    sound = render_clip(tmp_path / "sound.mp4", video=False, audio=sine(440, 1, 16000))
    empty = tmp_path / "empty.mp4"
    empty.touch()
    text = tmp_path / "text.mp4"
    text.write_text("not a video\n" * 50)
    for path, status in (
        (sound, "no_video"),
        (empty, "decode_error"),
        (text, "decode_error"),
        (tmp_path, "missing"),
        (tmp_path / "absent.mp4", "missing"),
    ):
        with pytest.raises(MediaError) as error:
            indices_at(decoder, path, [0.1])
        assert error.value.status == status, path
        assert error.value.reason


def wreck(source: Path, target: Path, begin: float, end: float) -> Path:
    """Copies a clip with the packets between two moments overwritten."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        for packet in container.demux(video=0):
            if packet.size and begin <= float(packet.pts * packet.time_base) < end:
                data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    target.write_bytes(data)
    return target


def test_what_decodes_of_a_damaged_file_is_used(pyav: Decoder, tmp_path: Path):
    source = render_clip(tmp_path / "whole.mp4", seconds=6, gop=1, b_frames=0)
    begins = np.arange(72) / 12
    path = wreck(source, tmp_path / "scratched.mp4", 2.0, 2.2)
    times = [1.0, 1.95, 2.1, 2.3, 5.0]
    assert indices_at(pyav, path, times) == [*on_screen(begins, [1.0, 1.95]), 23, 27, 60]

    path = wreck(source, tmp_path / "broken.mp4", 2.0, 4.0)
    assert indices_at(pyav, path, [1.0, 2.2, 4.1]) == [12, 23, 49]
    with pytest.raises(MediaError, match="nothing decodes between") as error:
        indices_at(pyav, path, [1.0, 3.0, 5.0])
    assert error.value.status == "decode_error"

    path = wreck(source, tmp_path / "headless.mp4", 0.0, 3.0)
    assert indices_at(pyav, path, [3.1, 4.1]) == [37, 49]
    with pytest.raises(MediaError) as error:
        indices_at(pyav, path, [1.0, 4.1])
    assert error.value.status == "decode_error"

    path = wreck(source, tmp_path / "hopeless.mp4", 0.0, 6.0)
    with pytest.raises(MediaError, match="no picture decodes") as error:
        indices_at(pyav, path, [1.0])
    assert error.value.status == "decode_error"


def test_a_file_cut_short_gives_what_it_has(pyav: Decoder, tmp_path: Path):
    whole = render_clip(
        tmp_path / "whole.mp4", seconds=8, gop=6, container_options={"movflags": "faststart"}
    )
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    assert indices_at(pyav, cut, [0.5, 2.01]) == [6, 24]
    with pytest.raises(MediaError) as error:
        indices_at(pyav, cut, [0.5, 7.5])
    assert error.value.status in ("too_short", "decode_error")


def test_a_deadline_counts_decoding_and_not_the_consumer(decoder: Decoder, tmp_path: Path):
    path = render_clip(tmp_path / "clip.mp4", seconds=3)
    times = np.arange(0.25, 3.0, 0.5)
    indices_at(decoder, path, times)
    for _ in decoder.frames(path, times, timeout=1.2):
        time.sleep(0.25)
    with pytest.raises(MediaError) as error:
        list(decoder.frames(path, times, timeout=0.0))
    assert error.value.status == "timeout"


def test_colours(decoder: Decoder, tmp_path: Path):
    path = render_clip(tmp_path / "clip.mp4", seconds=1)
    frame = next(frame for _, frame in decoder.frames(path, np.array([0.5])))
    np.testing.assert_allclose(frame[60:90, 6:26].mean(axis=(0, 1)), (200, 30, 30), atol=6)
    np.testing.assert_allclose(frame[60:90, 60:120].mean(axis=(0, 1)), (90, 90, 90), atol=3)


def test_threads_change_no_pixel(decoder: Decoder, tmp_path: Path):
    path = render_clip(tmp_path / "clip.mp4", seconds=2, size=(640, 480))
    times = np.arange(0.1, 2.0, 0.21)
    for (_, one), (_, two) in zip(
        decoder.frames(path, times),
        open_decoder(decoder.name, threads=2).frames(path, times),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


def test_an_unknown_decoder_is_a_mistake():
    with pytest.raises(UserError, match="pyav"):
        open_decoder("pyavv")


def test_decoders_describe_themselves_apart():
    described = [entry.describe(open_decoder(name)) for name, entry in DECODERS.items()]
    assert described[0]["decoder"] == "pyav"
    assert described[0] != described[1]
    assert all(d["tail_hold"] == TAIL_HOLD for d in described)
