"""Real media, odd ones among them: every file ends as frames and sound or as an apt status."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.decode import Decoder, open_decoder, probe, read_audio
from pipeline.errors import MediaError

pytestmark = pytest.mark.timeout(60)

ODD = {
    # file: pictures by pyav, by decord, upright height and width, sound
    "amr_nb_1f.3gp": ("no_video", "no_video", None, "ok"),
    "av1_video.mkv": ("ok", "decode_error", (360, 640), "no_audio"),
    "chunk_out_of_range.mp4": ("decode_error", "decode_error", None, "decode_error"),
    "corrupted.mp4": ("ok", "decode_error", (720, 1280), "no_audio"),
    "example_mask.mp4": ("ok", "ok", (200, 200), "no_audio"),
    "flower-fragmented.mp4": ("ok", "ok", (540, 960), "ok"),
    "h264_10bits.mp4": ("ok", "ok", (200, 200), "no_audio"),
    "h265_10bits.mp4": ("ok", "ok", (200, 200), "no_audio"),
    "h265_video.mp4": ("ok", "ok", (128, 128), "no_audio"),
    "no_audio_cockatoo.mp4": ("ok", "ok", (720, 1280), "no_audio"),
    "no_duration.webm": ("ok", "decode_error", (720, 1280), "ok"),
    "short-cenc.mp4": ("decode_error", "decode_error", None, "decode_error"),
    "sine-3s-xhe-aac-44khz-mono.mp4": ("no_video", "no_video", None, "ok"),
    "surround_5_1.mp4": ("ok", "ok", (720, 1280), "ok"),
    "test_case_1185230.mp4": ("decode_error", "decode_error", None, "decode_error"),
    "tiny_av1.mp4": ("ok", "decode_error", (64, 64), "no_audio"),
    "unordered.mov": ("ok", "ok", (50, 50), "no_audio"),
    "video_0.mov": ("ok", "ok", (320, 568), "no_audio"),
    "video_180.mov": ("ok", "ok", (320, 568), "no_audio"),
    "video_270.mov": ("ok", "ok", (568, 320), "no_audio"),
    "video_90.mov": ("ok", "ok", (568, 320), "no_audio"),
    "video_rotation_90.mp4": ("ok", "ok", (100, 60), "no_audio"),
    # Its first block of sound is cut to 47 samples, which other readers stumble over.
    "video_with_failing_audio.mp4": ("ok", "ok", (360, 640), "ok"),
    "zero_bytes.webm": ("decode_error", "decode_error", None, "decode_error"),
    "zero_empty_stsc.mp4": ("decode_error", "decode_error", None, "decode_error"),
}
"""Statuses after looking at every file. decord 0.6 knows no AV1 and no files without a duration,
and gives nothing of a file in which one packet is broken."""


@pytest.fixture(scope="module")
def decoders() -> dict[str, Decoder]:
    pytest.importorskip("decord")
    return {name: open_decoder(name) for name in ("pyav", "decord")}


def moments(path: Path, rate: float) -> np.ndarray:
    """Times of ``rate`` frames a second over the whole file."""
    try:
        seconds = probe(path).duration or 1.0
    except MediaError:
        seconds = 1.0
    step = min(1 / rate, seconds)
    return np.arange(step / 2, seconds, step)


def outcome(decoder: Decoder, path: Path, times: np.ndarray) -> tuple[str, list | MediaError]:
    try:
        frames = list(decoder.frames(path, times, timeout=30))
    except MediaError as error:
        return error.status, error
    return "ok", frames


def test_the_table_names_every_file(shared: Path):
    assert {path.name for path in (shared / "media" / "odd").iterdir()} == set(ODD)


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures(shared: Path, decoders: dict[str, Decoder], name: str):
    by_pyav, by_decord, size, _ = ODD[name]
    path = shared / "media" / "odd" / name
    times = moments(path, 4)
    status, ours = outcome(decoders["pyav"], path, times)
    assert status == by_pyav, ours
    status, theirs = outcome(decoders["decord"], path, times)
    assert status == by_decord, theirs
    if by_pyav == "ok":
        assert [span.start for span, _ in ours] == [0, *(span.stop for span, _ in ours[:-1])]
        assert ours[-1][0].stop == len(times)
        assert all(frame.shape == (*size, 3) and frame.dtype == np.uint8 for _, frame in ours)
    else:
        assert ours.reason
    if (by_pyav, by_decord) == ("ok", "ok"):
        assert_same(ours, theirs)


def assert_same(ours: list, theirs: list) -> None:
    """Checks that two decoders chose the same pictures; ten-bit ones are rounded differently."""
    assert [span for span, _ in ours] == [span for span, _ in theirs]
    for (_, one), (_, two) in zip(ours, theirs, strict=True):
        assert np.abs(one.astype(np.int16) - two).mean() < 4.0


@pytest.mark.parametrize("name", ODD)
def test_odd_sound(shared: Path, name: str):
    path = shared / "media" / "odd" / name
    seconds = moments(path, 4)[-1]
    if ODD[name][3] != "ok":
        with pytest.raises(MediaError) as error:
            read_audio(path, 0.0, seconds, 16000, timeout=30)
        assert error.value.status == ODD[name][3]
        assert error.value.reason
        return
    waveform = read_audio(path, 0.0, seconds, 16000, timeout=30)
    assert waveform.shape == (round(seconds * 16000),)
    assert np.isfinite(waveform).all()
    assert np.abs(waveform).max() <= 1.0


def test_a_known_tone_in_an_uncommon_codec(shared: Path):
    path = shared / "media" / "odd" / "sine-3s-xhe-aac-44khz-mono.mp4"
    waveform = read_audio(path, 0.0, 3.0, 16000)
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    assert spectrum.argmax() / 3.0 == pytest.approx(500, abs=0.5)


CLIPS = (
    "BjCEufrlXm4.mp4",
    "ZYc410CE4Rg_0_10000.mp4",
    "flipping_a_pancake.mkv",
    "nasa_13013.mp4",
    "v_GGSY1Qvo990.mp4",
    "v_ZNVhz7ctTq0.mp4",
)


def test_decoders_agree_where_only_the_first_packet_tells_how_to_decode(
    shared: Path, decoders: dict[str, Decoder]
):
    path = shared / "media" / "clips" / "cockatoo.mp4"
    times = np.array([8.05, 9.1])
    assert_same(*(list(decoders[name].frames(path, times)) for name in ("pyav", "decord")))


@pytest.mark.parametrize("name", CLIPS)
def test_decoders_agree_on_real_clips(shared: Path, decoders: dict[str, Decoder], name: str):
    path = shared / "media" / "clips" / name
    for times in (np.arange(0.25, 9.9, 0.5), np.array([7.13, 7.63, 9.4])):
        _, ours = outcome(decoders["pyav"], path, times)
        _, theirs = outcome(decoders["decord"], path, times)
        assert_same(ours, theirs)
        # The pictures are the same to the bit, so that an extra frame or a missing one shows.
        for (_, one), (_, two) in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", [*CLIPS, "cockatoo.mp4"])
def test_a_seek_gives_what_a_pass_gives(shared: Path, name: str):
    path = shared / "media" / "clips" / name
    late = np.arange(8.05, 9.9, 0.3)
    decoder = open_decoder("pyav")
    whole = dict.fromkeys(range(len(late)))
    for span, frame in decoder.frames(path, np.concatenate([np.arange(0.5, 8, 1.5), late])):
        for k in range(span.start, span.stop):
            if k >= 5:
                whole[k - 5] = frame
    for span, frame in decoder.frames(path, late):
        for k in range(span.start, span.stop):
            np.testing.assert_array_equal(frame, whole[k])


def test_grid_films_give_pictures_and_sound(shared: Path):
    for name in ("bbaf2n.mpg", "swih9a.mpg"):
        path = shared / "media" / "grid" / name
        status, frames = outcome(open_decoder("pyav"), path, moments(path, 8))
        assert status == "ok", frames
        assert frames[0][1].shape == (288, 360, 3)
        assert np.abs(read_audio(os.fspath(path), 0.0, 2.98, 16000)).max() > 0.1
