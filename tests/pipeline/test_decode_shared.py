"""Real media, odd ones among them: every file ends as frames and sound or as an apt status.

`FILES` is the table: a status for each file, decoder and modality, filled in after looking at
every one. Both decoders agree to the bit on every file that both can read, with the exception of
ten-bit video; where they differ the row says why.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from pipeline.decode import Decoder, open_decoder, probe, read_audio
from pipeline.errors import MediaError
from tests.media import needs_decord

pytestmark = pytest.mark.timeout(120)


class Difference(NamedTuple):
    """Why decord gives something else than PyAV.

    Attributes:
        sign: Words of the reason that decord's row gives; empty where it gives pictures.
        cause: The explanation.
    """

    sign: str
    cause: str


NO_INDEX = Difference(
    "decord does not place the pictures of mpeg files",
    "decord finds frames by number through an index; in MPEG streams, which have none, it gives "
    "neighbours without an error, so that it is not let near them",
)
NO_AV1 = Difference(
    "cannot find video stream",
    "decord 0.6 carries an FFmpeg of 2020 without an AV1 decoder",
)
NO_DURATION = Difference(
    "Failed to measure duration",
    "decord 0.6 refuses files that do not state a duration; PyAV reads until they end",
)
ONE_BROKEN_PACKET = Difference(
    "Error sending packet",
    "decord gives up a file in which one packet does not decode; PyAV leaves out that packet",
)
TEN_BIT = Difference(
    "",
    "colours at edges: decord 0.6 repeats the halved colour samples of ten-bit video, PyAV's "
    "FFmpeg interpolates; brightness is the same within half a level in the mean",
)


class Row(NamedTuple):
    """What one file gives.

    Attributes:
        pyav, decord: Status of the pictures by decoder.
        size: Upright height and width, None without pictures.
        sound: Status of the sound.
        differ: Why decord's pictures or status are not PyAV's.
    """

    pyav: str
    decord: str
    size: tuple[int, int] | None
    sound: str
    differ: Difference | None = None


GRID = """
    bbaf2n bbbs5s bbwm4n bgbb2p bgin3a bragzp brif6p brwnzn bwbg8n bwwa9s
    lbaq6p lbid5a lbwy6n lgbm3s lgwg2n lray5s lrik4p lrwz5a lwbs1s lwwf7s
    pbav2n pbii2p pbwx3a pgbk9a pgwe6n prap5s pric4p prwq5a pwbk1s pwix2p
    sbah1a sbbuzn sbwo1s sgbc7s sgio8p srabzn srbu6n srwi3s swav1a swih9a
"""
"""The forty talking faces, which are coded alike."""

FILES = {
    "clips/BjCEufrlXm4.mp4": Row("ok", "ok", (240, 320), "ok"),
    "clips/ZYc410CE4Rg_0_10000.mp4": Row("ok", "ok", (360, 480), "ok"),
    "clips/cockatoo.mp4": Row("ok", "ok", (720, 1280), "ok"),
    "clips/flipping_a_pancake.mkv": Row("ok", "ok", (240, 426), "ok"),
    "clips/nasa_13013.mp4": Row("ok", "ok", (270, 480), "ok"),
    "clips/v_GGSY1Qvo990.mp4": Row("ok", "ok", (240, 320), "ok"),
    "clips/v_ZNVhz7ctTq0.mp4": Row("ok", "ok", (360, 480), "ok"),
    "odd/amr_nb_1f.3gp": Row("no_video", "no_video", None, "ok"),
    "odd/av1_video.mkv": Row("ok", "decode_error", (360, 640), "no_audio", NO_AV1),
    "odd/chunk_out_of_range.mp4": Row("decode_error", "decode_error", None, "decode_error"),
    "odd/corrupted.mp4": Row("ok", "decode_error", (720, 1280), "no_audio", ONE_BROKEN_PACKET),
    "odd/example_mask.mp4": Row("ok", "ok", (200, 200), "no_audio"),
    "odd/flower-fragmented.mp4": Row("ok", "ok", (540, 960), "ok"),
    "odd/h264_10bits.mp4": Row("ok", "ok", (200, 200), "no_audio", TEN_BIT),
    "odd/h265_10bits.mp4": Row("ok", "ok", (200, 200), "no_audio", TEN_BIT),
    "odd/h265_video.mp4": Row("ok", "ok", (128, 128), "no_audio"),
    "odd/no_audio_cockatoo.mp4": Row("ok", "ok", (720, 1280), "no_audio"),
    "odd/no_duration.webm": Row("ok", "decode_error", (720, 1280), "ok", NO_DURATION),
    "odd/short-cenc.mp4": Row("decode_error", "decode_error", None, "decode_error"),
    "odd/sine-3s-xhe-aac-44khz-mono.mp4": Row("no_video", "no_video", None, "ok"),
    "odd/surround_5_1.mp4": Row("ok", "ok", (720, 1280), "ok"),
    "odd/test_case_1185230.mp4": Row("decode_error", "decode_error", None, "decode_error"),
    "odd/tiny_av1.mp4": Row("ok", "decode_error", (64, 64), "no_audio", NO_AV1),
    "odd/unordered.mov": Row("ok", "ok", (50, 50), "no_audio"),
    "odd/video_0.mov": Row("ok", "ok", (320, 568), "no_audio"),
    "odd/video_180.mov": Row("ok", "ok", (320, 568), "no_audio"),
    "odd/video_270.mov": Row("ok", "ok", (568, 320), "no_audio"),
    "odd/video_90.mov": Row("ok", "ok", (568, 320), "no_audio"),
    "odd/video_rotation_90.mp4": Row("ok", "ok", (100, 60), "no_audio"),
    # Its first block of sound is cut to 47 samples, which other readers stumble over.
    "odd/video_with_failing_audio.mp4": Row("ok", "ok", (360, 640), "ok"),
    "odd/zero_bytes.webm": Row("decode_error", "decode_error", None, "decode_error"),
    "odd/zero_empty_stsc.mp4": Row("decode_error", "decode_error", None, "decode_error"),
} | {
    f"grid/{name}.mpg": Row("ok", "decode_error", (288, 360), "ok", NO_INDEX)
    for name in GRID.split()
}

SILENT = "clips/cockatoo.mp4"
"""Its sound is there and all zeros."""

LONG_PASSES = ("clips/cockatoo.mp4", "odd/no_audio_cockatoo.mp4")
"""Fourteen seconds in 720p: both decoders together take longer over these than over all others."""

TEN_BIT_MEAN = 3.7
"""Largest mean absolute difference of a ten-bit frame, of 255 levels; measured 3.60."""
TEN_BIT_LUMA = 0.5
"""The same of its brightness; measured 0.37."""


@pytest.fixture(scope="module")
def decoders() -> dict[str, Decoder]:
    needs_decord()
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
        frames = list(decoder.frames(path, times, timeout=60))
    except MediaError as error:
        return error.status, error
    return "ok", frames


def largest_differences(ours: list, theirs: list) -> tuple[float, float]:
    """Of two decodings of the same moments: the largest mean absolute difference of a frame, and
    that of its brightness; checks that the frames stand for the same moments."""
    assert [span for span, _ in ours] == [span for span, _ in theirs]
    pixels, luma = [], []
    for (_, one), (_, two) in zip(ours, theirs, strict=True):
        difference = one.astype(np.int16) - two
        pixels.append(np.abs(difference).mean())
        luma.append(np.abs(difference @ np.array([0.299, 0.587, 0.114])).mean())
    return max(pixels), max(luma)


def test_the_table_names_every_file(shared: Path):
    media = shared / "media"
    found = {
        f"{folder}/{path.name}"
        for folder in ("clips", "grid", "odd")
        for path in (media / folder).iterdir()
        # The words of the talking faces; they are no media.
        if path.suffix != ".align"
    }
    assert found == set(FILES)
    assert {path.name for path in media.iterdir() if path.is_dir()} == {"clips", "grid", "odd"}


def test_every_difference_between_the_decoders_is_explained():
    for name, row in FILES.items():
        explained = row.differ is not None and bool(row.differ.sign)
        assert explained == (row.pyav != row.decord), name
        assert row.size is not None or row.pyav != "ok", name
    assert sum(row.differ is None for row in FILES.values()) == 26


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in LONG_PASSES else n for n in FILES],
)
def test_pictures(shared: Path, decoders: dict[str, Decoder], name: str):
    row, path = FILES[name], shared / "media" / name
    times = moments(path, 1 if row.size == (720, 1280) else 4)
    status, ours = outcome(decoders["pyav"], path, times)
    assert status == row.pyav, ours
    status, theirs = outcome(decoders["decord"], path, times)
    assert status == row.decord, theirs
    if row.pyav == "ok":
        assert [span.start for span, _ in ours] == [0, *(span.stop for span, _ in ours[:-1])]
        assert ours[-1][0].stop == len(times)
        assert all(frame.shape == (*row.size, 3) for _, frame in ours)
        assert all(frame.dtype == np.uint8 for _, frame in ours)
    else:
        assert ours.reason
    if row.decord != "ok":
        assert row.differ is None or row.differ.sign in theirs.reason
        assert theirs.reason
        return
    pixels, luma = largest_differences(ours, theirs)
    if row.differ is TEN_BIT:
        assert 0 < pixels < TEN_BIT_MEAN
        assert luma < TEN_BIT_LUMA
    else:
        # Not a pixel differs, so that a frame too early or too late would show.
        assert pixels == 0.0


@pytest.mark.parametrize("name", FILES)
def test_sound(shared: Path, name: str):
    path = shared / "media" / name
    seconds = moments(path, 4)[-1]
    if FILES[name].sound != "ok":
        with pytest.raises(MediaError) as error:
            read_audio(path, 0.0, seconds, 16000, timeout=30)
        assert error.value.status == FILES[name].sound
        assert error.value.reason
        return
    waveform = read_audio(path, 0.0, seconds, 16000, timeout=30)
    assert waveform.shape == (round(seconds * 16000),)
    assert np.isfinite(waveform).all()
    assert np.abs(waveform).max() <= 1.0
    if not name.startswith("odd/") and name != SILENT:
        assert np.abs(waveform).max() > 0.1


def test_a_known_tone_in_an_uncommon_codec(shared: Path):
    path = shared / "media" / "odd" / "sine-3s-xhe-aac-44khz-mono.mp4"
    waveform = read_audio(path, 0.0, 3.0, 16000)
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    assert spectrum.argmax() / 3.0 == pytest.approx(500, abs=0.5)


CLIPS = tuple(name for name in FILES if name.startswith("clips/"))


@pytest.mark.slow
def test_decoders_agree_where_only_the_first_packet_tells_how_to_decode(
    shared: Path, decoders: dict[str, Decoder]
):
    path = shared / "media" / "clips" / "cockatoo.mp4"
    times = np.array([8.05, 9.1])
    ours, theirs = (list(decoders[name].frames(path, times)) for name in ("pyav", "decord"))
    assert largest_differences(ours, theirs) == (0.0, 0.0)


@pytest.mark.parametrize("name", [n for n in CLIPS if n not in LONG_PASSES])
def test_decoders_agree_after_a_seek(shared: Path, decoders: dict[str, Decoder], name: str):
    path, times = shared / "media" / name, np.array([7.13, 7.63, 9.4])
    ours, theirs = (list(decoders[d].frames(path, times)) for d in ("pyav", "decord"))
    assert largest_differences(ours, theirs) == (0.0, 0.0)


@pytest.mark.parametrize("name", CLIPS)
def test_a_seek_gives_what_a_pass_gives(shared: Path, name: str):
    path = shared / "media" / name
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
