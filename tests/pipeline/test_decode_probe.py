"""What a container says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.decode import probe
from pipeline.errors import MediaError
from tests.media import render_clip, sine


def test_a_clip_with_sound(tmp_path: Path):
    path = render_clip(
        tmp_path / "clip.mp4", seconds=3, audio=sine(440, 3.0, 44100), audio_rate=44100
    )
    info = probe(path)
    assert info.duration == pytest.approx(3.0, abs=0.05)
    assert (info.width, info.height, info.rotation) == (128, 96, 0)
    assert info.video_rate == pytest.approx(12)
    assert info.audio_rate == 44100
    assert (info.video_codec, info.audio_codec) == ("h264", "aac")


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_sizes_are_those_of_upright_pictures(tmp_path: Path, rotation: int):
    info = probe(render_clip(tmp_path / "turned.mp4", seconds=1, rotation=rotation))
    assert (info.width, info.height, info.rotation) == (128, 96, rotation)


def test_one_kind_of_stream_only(tmp_path: Path):
    info = probe(render_clip(tmp_path / "silent.mp4"))
    assert (info.audio_rate, info.audio_codec) == (None, None)
    info = probe(render_clip(tmp_path / "blind.mp4", video=False, audio=sine(440, 1, 16000)))
    assert (info.width, info.height, info.video_rate, info.video_codec) == (0, 0, None, None)
    assert info.audio_rate == 16000


def test_a_duration_that_is_not_stated_is_measured(tmp_path: Path):
    # A Matroska file for streaming is written in one go and cannot state its length in front.
    path = render_clip(
        tmp_path / "live.mkv",
        begins=[4.0 + k / 12 for k in range(30)],
        container_options={"live": "1"},
    )
    info = probe(path)
    assert info.duration == pytest.approx(2.5, abs=0.05)


def test_what_is_no_media_is_refused(tmp_path: Path):
    text = tmp_path / "text.mp4"
    text.write_text("not a video\n" * 50)
    for path, status in ((text, "decode_error"), (tmp_path / "absent.mp4", "missing")):
        with pytest.raises(MediaError) as error:
            probe(path)
        assert error.value.status == status
