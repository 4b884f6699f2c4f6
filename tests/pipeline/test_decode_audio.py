"""Sound in its place: clicks at known times and tones of known pitch through real codecs."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.decode import describe_audio, read_audio, read_audio_blocks
from pipeline.errors import MediaError
from pipeline.grid import TAIL_HOLD
from tests.media import click_track, render_clip, sine

CLICKS = (0.25, 1.0, 1.7)


def click_times(waveform: np.ndarray, rate: int, around: tuple[float, ...]) -> np.ndarray:
    """The loudest moment within 0.1 s of each expected one, seconds."""
    found = []
    for moment in around:
        low, high = round((moment - 0.1) * rate), round((moment + 0.1) * rate)
        assert np.abs(waveform[low:high]).max() > 0.4, f"no click near {moment} s"
        found.append((low + int(np.abs(waveform[low:high]).argmax())) / rate)
    return np.array(found)


def pitch(waveform: np.ndarray, rate: int) -> float:
    """The strongest frequency, Hz."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(spectrum.argmax() * rate / len(waveform))


def level(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform))))


def only_sound(path: Path, audio: np.ndarray, **options: object) -> Path:
    return render_clip(path, video=False, audio=audio, **options)


@pytest.mark.parametrize("rate", [11025, 16000, 32000])
@pytest.mark.parametrize("source", [16000, 22050, 44100, 48000])
@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "aac"), (".mkv", "aac"), (".mp4", "mp3"), (".mkv", "pcm_s16le")]
)
def test_clicks_come_back_where_they_were(
    tmp_path: Path, suffix: str, codec: str, source: int, rate: int
):
    path = only_sound(
        tmp_path / f"clicks{suffix}",
        click_track(CLICKS, 2.0, source),
        audio_rate=source,
        audio_codec=codec,
    )
    waveform = read_audio(path, 0.0, 2.0, rate)
    assert waveform.shape == (2 * rate,)
    assert waveform.dtype == np.float32
    assert np.abs(waveform).max() <= 1.0
    np.testing.assert_allclose(click_times(waveform, rate, CLICKS), CLICKS, atol=1e-3)


def test_sound_and_pictures_share_their_zero(tmp_path: Path):
    # Both streams begin late in the file's own clock; zero is where the first of them begins.
    path = render_clip(
        tmp_path / "late.mkv",
        begins=5.5 + np.arange(24) / 12,
        audio=click_track(CLICKS, 2.0, 48000),
        audio_rate=48000,
        audio_codec="pcm_s16le",
        audio_begin=5.2,
    )
    np.testing.assert_allclose(
        click_times(read_audio(path, 0.0, 2.0, 16000), 16000, CLICKS), CLICKS, atol=1e-3
    )
    path = render_clip(
        tmp_path / "sound_late.mkv",
        audio=click_track(CLICKS, 2.0, 48000),
        audio_rate=48000,
        audio_codec="pcm_s16le",
        audio_begin=0.3,
    )
    moved = tuple(c + 0.3 for c in CLICKS)
    waveform = read_audio(path, 0.0, 2.2, 16000)
    np.testing.assert_allclose(click_times(waveform, 16000, moved), moved, atol=1e-3)
    assert not waveform[: round(0.29 * 16000)].any()


@pytest.mark.parametrize(("source", "rate"), [(44100, 16000), (48000, 11025), (16000, 32000)])
def test_a_tone_keeps_its_pitch_and_level(tmp_path: Path, source: int, rate: int):
    path = only_sound(tmp_path / "tone.mp4", sine(1234, 3.0, source), audio_rate=source)
    waveform = read_audio(path, 0.0, 3.0, rate)
    assert pitch(waveform, rate) == pytest.approx(1234, abs=0.5)
    assert level(waveform[rate:-rate]) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


@pytest.mark.parametrize(
    ("suffix", "codec", "source"),
    [(".mp4", "aac", 44100), (".mkv", "pcm_s16le", 22050), (".mov", "pcm_s16le", 44100)],
)
def test_an_interval_is_a_slice_of_the_whole(tmp_path: Path, suffix: str, codec: str, source: int):
    noise = 0.2 * np.random.default_rng(0).standard_normal(source * 3)
    path = only_sound(tmp_path / f"noise{suffix}", noise, audio_rate=source, audio_codec=codec)
    whole = read_audio(path, 0.0, 3.0, 16000)
    part = read_audio(path, 0.7, 2.31, 16000)
    assert len(part) == round(1.61 * 16000)
    np.testing.assert_allclose(part, whole[11200 : 11200 + len(part)], atol=1e-6)


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".mkv", "mp3"), (".ts", "aac")])
def test_seeking_moves_nothing(tmp_path: Path, suffix: str, codec: str):
    clicks = (3.5, 33.25, 33.75, 38.0)
    path = only_sound(
        tmp_path / f"long{suffix}",
        click_track(clicks, 40.0, 32000),
        audio_rate=32000,
        audio_codec=codec,
    )
    whole = read_audio(path, 0.0, 39.9, 16000)
    part = read_audio(path, 33.0, 34.0, 16000)
    inside = (0.25, 0.75)
    at = click_times(whole[33 * 16000 : 34 * 16000], 16000, inside)
    np.testing.assert_allclose(click_times(part, 16000, inside), at, atol=5e-4)


@pytest.mark.parametrize(("start", "end", "rate"), [(0.1, 0.7, 11025), (0.0, 1.0, 44101)])
def test_counts_are_exact_at_any_rate(tmp_path: Path, start: float, end: float, rate: int):
    path = only_sound(tmp_path / "tone.mp4", sine(440, 1.0, 22050), audio_rate=22050)
    assert len(read_audio(path, start, end, rate)) == round((end - start) * rate)


def test_channels_are_mixed_to_mono(tmp_path: Path):
    tone, rest = sine(500, 2.0, 48000), np.zeros(96000, np.float32)
    stereo = only_sound(
        tmp_path / "stereo.mp4", np.stack([tone, rest]), audio_rate=48000, layout="stereo"
    )
    half = read_audio(stereo, 0.0, 2.0, 16000)
    assert level(half) == pytest.approx(0.25 / np.sqrt(2), rel=0.05)

    # Front left, front right, centre, low frequency, back left, back right.
    for channel, heard in ((0, True), (2, True), (3, False), (5, True)):
        channels = np.stack([tone if c == channel else rest for c in range(6)])
        path = only_sound(
            tmp_path / f"surround{channel}.mkv",
            channels,
            audio_rate=48000,
            audio_codec="pcm_s16le",
            layout="5.1",
        )
        mono = read_audio(path, 0.0, 2.0, 16000)
        assert (level(mono) > 0.03) == heard, channel
        if heard:
            assert pitch(mono, 16000) == pytest.approx(500, abs=1)


def test_gaps_between_time_stamps_are_silent(tmp_path: Path):
    path = only_sound(
        tmp_path / "gap.mkv",
        click_track((0.5, 1.5), 2.0, 16000),
        audio_codec="pcm_s16le",
        audio_pause=(1.024, 1.5),
    )
    waveform = read_audio(path, 0.0, 3.5, 16000)
    moved = (0.5, 3.0)
    np.testing.assert_allclose(click_times(waveform, 16000, moved), moved, atol=1e-3)
    assert not waveform[round(1.1 * 16000) : round(2.4 * 16000)].any()
    # The interval may lie in the gap, or end in it.
    assert not read_audio(path, 1.2, 2.4, 16000).any()


def test_a_format_may_change_on_the_way(tmp_path: Path):
    # Recordings of broadcasts do this; a transport stream joins by joining its bytes.
    one = only_sound(tmp_path / "one.ts", sine(400, 2.0, 22050), audio_rate=22050)
    two = only_sound(
        tmp_path / "two.ts",
        np.stack([sine(900, 2.0, 44100)] * 2),
        audio_rate=44100,
        audio_begin=2.0,
        layout="stereo",
    )
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    with av.open(str(joined)) as container:
        rates = {frame.sample_rate for frame in container.decode(audio=0)}
    assert rates == {22050, 44100}, "the clip does not change its format"
    waveform = read_audio(joined, 0.0, 3.9, 16000)
    assert pitch(waveform[:30000], 16000) == pytest.approx(400, abs=1)
    assert pitch(waveform[36000:], 16000) == pytest.approx(900, abs=1)
    for part in (waveform[:30000], waveform[36000:]):
        assert level(part) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_half_a_second_may_be_missing_at_either_end(tmp_path: Path):
    path = only_sound(tmp_path / "short.mp4", sine(440, 2.0, 16000))
    waveform = read_audio(path, 0.5, 2.0 + TAIL_HOLD - 0.01, 16000)
    assert len(waveform) == round((1.5 + TAIL_HOLD - 0.01) * 16000)
    assert not waveform[round(1.6 * 16000) :].any()
    assert len(read_audio(path, -0.4, 1.0, 16000)) == 22400
    for start, end in ((0.0, 2.8), (-0.6, 1.0), (30.0, 31.0)):
        with pytest.raises(MediaError) as error:
            read_audio(path, start, end, 16000)
        assert error.value.status == "too_short", (start, end)


def test_sound_that_begins_late_is_too_short(tmp_path: Path):
    path = render_clip(
        tmp_path / "late.mp4", seconds=4, audio=sine(440, 2.0, 16000), audio_begin=1.5
    )
    assert level(read_audio(path, 1.2, 3.2, 16000)) > 0.2
    with pytest.raises(MediaError) as error:
        read_audio(path, 0.0, 3.0, 16000)
    assert error.value.status == "too_short"


def wreck(path: Path, begin: float, end: float) -> Path:
    """Overwrites the sound between two moments."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in container.demux(audio=0):
            if packet.size and begin <= float(packet.pts * packet.time_base) < end:
                data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(data)
    return path


def test_what_decodes_of_damaged_sound_is_used(tmp_path: Path):
    def tone(name: str) -> Path:
        return only_sound(tmp_path / name, sine(440, 4.0, 16000))

    path = wreck(tone("scratched.mp4"), 2.0, 2.2)
    waveform = read_audio(path, 0.0, 4.0, 16000)
    assert level(waveform[: round(1.8 * 16000)]) > 0.3
    assert level(waveform[round(2.5 * 16000) :]) > 0.3
    assert pitch(waveform[40000:], 16000) == pytest.approx(440, abs=1)

    path = wreck(tone("broken.mp4"), 1.5, 3.0)
    assert level(read_audio(path, 0.0, 1.4, 16000)) > 0.3
    for start, end in ((0.0, 4.0), (1.0, 2.5), (1.7, 2.8)):
        with pytest.raises(MediaError, match="do not decode") as error:
            read_audio(path, start, end, 16000)
        assert error.value.status == "decode_error", (start, end)

    path = wreck(tone("hopeless.mp4"), -1.0, 4.0)
    with pytest.raises(MediaError) as error:
        read_audio(path, 0.0, 0.3, 16000)
    assert error.value.status == "decode_error"


@pytest.mark.parametrize("block", [0.033, 0.5, 1.7, 60.0])
@pytest.mark.parametrize(
    ("suffix", "codec", "source"), [(".mp4", "aac", 44100), (".mkv", "pcm_s16le", 16000)]
)
def test_blocks_laid_end_to_end_are_the_interval(
    tmp_path: Path, suffix: str, codec: str, source: int, block: float
):
    noise = 0.3 * np.random.default_rng(0).standard_normal(source * 6)
    path = only_sound(
        tmp_path / f"noise{suffix}",
        noise,
        audio_rate=source,
        audio_codec=codec,
        audio_pause=(2.5, 1.5),
    )
    whole = read_audio(path, 0.13, 7.21, 16000)
    blocks = list(read_audio_blocks(path, 0.13, 7.21, 16000, block=block))
    size = round(block * 16000)
    assert [len(b) for b in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert 0 < len(blocks[-1]) <= size
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    assert level(whole[: 2 * 16000]) > 0.1
    assert not whole[round(2.6 * 16000) : round(3.7 * 16000)].any()


def test_time_stamps_that_jump_back_repeat_nothing_that_is_final(tmp_path: Path):
    # Joined recordings start their clock again, here on a tone and a second one over it.
    one = only_sound(tmp_path / "one.ts", sine(400, 6.0, 16000))
    two = only_sound(tmp_path / "two.ts", sine(900, 8.0, 16000), audio_begin=0.0)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    whole = read_audio(joined, 0.0, 7.5, 16000)
    assert pitch(whole[: 4 * 16000], 16000) == pytest.approx(400, abs=1)
    assert pitch(whole[round(6.2 * 16000) :], 16000) == pytest.approx(900, abs=1)
    for block in (0.25, 2.0):
        blocks = list(read_audio_blocks(joined, 0.0, 7.5, 16000, block=block))
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_blocks_come_before_the_end_is_read_and_fail_at_the_end(tmp_path: Path):
    path = only_sound(tmp_path / "short.mp4", sine(440, 6.0, 16000))
    blocks = read_audio_blocks(path, 0.0, 9.0, 16000, block=0.5)
    assert level(next(blocks)) > 0.3
    with pytest.raises(MediaError) as error:
        list(blocks)
    assert error.value.status == "too_short"


def test_blocks_of_a_long_interval_need_little_memory(tmp_path: Path):
    # Twenty minutes of silence behind a gap in the time stamps are 150 MB in one piece.
    path = only_sound(
        tmp_path / "gap.mkv",
        sine(440, 4.0, 16000),
        audio_codec="pcm_s16le",
        audio_pause=(2.0, 1200.0),
    )
    tracemalloc.start()
    try:
        samples = sum(len(b) for b in read_audio_blocks(path, 0.0, 1204.0, 32000, block=10.0))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert samples == 1204 * 32000
    assert peak < 0.1 * samples * 4


def test_a_consumer_of_blocks_may_take_its_time(tmp_path: Path):
    path = only_sound(tmp_path / "tone.mp4", sine(440, 8.0, 16000))
    for _ in read_audio_blocks(path, 0.0, 8.0, 16000, block=1.0, timeout=1.0):
        time.sleep(0.2)


def test_statuses_of_files_that_give_no_sound(tmp_path: Path):
    silent = render_clip(tmp_path / "silent.mp4")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for path, status in (
        (silent, "no_audio"),
        (empty, "decode_error"),
        (tmp_path / "absent.mp4", "missing"),
    ):
        with pytest.raises(MediaError) as error:
            read_audio(path, 0.0, 1.0, 16000)
        assert error.value.status == status


def test_a_deadline_ends_the_reading(tmp_path: Path):
    path = only_sound(tmp_path / "tone.mp4", sine(440, 2.0, 16000))
    assert len(read_audio(path, 0.0, 2.0, 16000, timeout=60.0)) == 32000
    with pytest.raises(MediaError) as error:
        read_audio(path, 0.0, 2.0, 16000, timeout=0.0)
    assert error.value.status == "timeout"


def test_an_empty_interval_is_a_mistake(tmp_path: Path):
    with pytest.raises(ValueError, match="start < end"):
        read_audio(tmp_path / "any.mp4", 1.0, 1.0, 16000)


def test_the_description_names_the_rate():
    assert describe_audio(16000)["rate"] == 16000
    assert describe_audio(16000) != describe_audio(32000)
