"""decord's child process: what it would misplace, and that nothing it does reaches the parent."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.decode import decord as client
from pipeline.decode import open_decoder
from pipeline.errors import MediaError, UserError
from tests.media import needs_decord, read_index, render_clip, trimmed_copy

TIMES = np.arange(0.04, 2.0, 0.25)


def indices(decoder: client.DecordDecoder, path: Path, **options: float) -> list[int]:
    return [read_index(frame) for _, frame in decoder.frames(path, TIMES, **options)]


@pytest.fixture
def decoder() -> client.DecordDecoder:
    needs_decord()
    return open_decoder("decord")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return render_clip(tmp_path / "clip.mp4")


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_streams_without_an_index_are_refused(
    decoder: client.DecordDecoder, tmp_path: Path, suffix: str
):
    codec = "mpeg1video" if suffix == ".mpg" else "libx264"
    path = render_clip(tmp_path / f"clip{suffix}", codec=codec, rate=25)
    with pytest.raises(MediaError, match="use --decoder pyav") as error:
        indices(decoder, path)
    assert error.value.status == "decode_error"


def test_trimmed_files_are_refused(decoder: client.DecordDecoder, tmp_path: Path):
    whole = render_clip(tmp_path / "whole.mp4", seconds=4, gop=24)
    path = trimmed_copy(whole, tmp_path / "trimmed.mp4", 0.75)
    with pytest.raises(MediaError, match=r"trimmed.*use --decoder pyav") as error:
        indices(decoder, path)
    assert error.value.status == "decode_error"


def test_an_error_leaves_the_decoder_usable(
    decoder: client.DecordDecoder, clip: Path, tmp_path: Path
):
    damaged = tmp_path / "damaged.mp4"
    data = bytearray(clip.read_bytes())
    begin = data.index(b"mdat") + 4
    data[begin + 200 : begin + 4000] = bytes(3800)
    damaged.write_bytes(data)
    with pytest.raises(MediaError) as error:
        indices(decoder, damaged)
    assert error.value.status == "decode_error"
    assert indices(decoder, clip) == [0, 3, 6, 9, 12, 15, 18, 21]


def test_a_consumer_may_stop_early(decoder: client.DecordDecoder, clip: Path):
    frames = decoder.frames(clip, TIMES)
    next(frames)
    frames.close()
    assert indices(decoder, clip) == [0, 3, 6, 9, 12, 15, 18, 21]


def test_the_child_is_kept_between_clips(
    decoder: client.DecordDecoder, clip: Path, monkeypatch: pytest.MonkeyPatch
):
    started: list[object] = []
    start = client.subprocess.Popen

    def count(*args: object, **options: object) -> object:
        started.append(args)
        return start(*args, **options)

    monkeypatch.setattr(client.subprocess, "Popen", count)
    for _ in range(3):
        assert indices(decoder, clip) == [0, 3, 6, 9, 12, 15, 18, 21]
    assert len(started) == 1


def test_threads_may_share_a_decoder(decoder: client.DecordDecoder, clip: Path):
    found: list[list[int]] = []
    workers = [
        threading.Thread(target=lambda: found.append(indices(decoder, clip))) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [[0, 3, 6, 9, 12, 15, 18, 21]] * 3


def test_large_frames_come_in_bounded_chunks(
    decoder: client.DecordDecoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = render_clip(tmp_path / "clip.mp4", size=(256, 128))
    monkeypatch.setattr(client, "_CHUNK_BYTES", 3 * 256 * 128 * 3)
    assert indices(decoder, path) == [0, 3, 6, 9, 12, 15, 18, 21]


@pytest.mark.parametrize(
    ("program", "reason"),
    [("import os; os.abort()", "SIGABRT"), ("raise SystemExit(3)", "exit code 3")],
)
def test_a_crash_is_a_decode_error(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
):
    needs_decord()
    worker = tmp_path / "worker.py"
    worker.write_text(program)
    monkeypatch.setattr(client, "WORKER", worker)
    with pytest.raises(MediaError, match=reason) as error:
        indices(open_decoder("decord"), clip)
    assert error.value.status == "decode_error"


def test_a_hanging_child_is_ended_on_time(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    needs_decord()
    alive = tmp_path / "alive"
    worker = tmp_path / "worker.py"
    worker.write_text(
        f"import time\nfor _ in range(600):\n    open({str(alive)!r}, 'a').write('.')\n"
        "    time.sleep(0.05)\n"
    )
    monkeypatch.setattr(client, "WORKER", worker)
    began = time.perf_counter()
    with pytest.raises(MediaError) as error:
        indices(open_decoder("decord"), clip, timeout=1.0)
    assert error.value.status == "timeout"
    assert time.perf_counter() - began < 5.0
    size = alive.stat().st_size
    time.sleep(0.3)
    assert size > 0
    assert alive.stat().st_size == size


def test_without_decord_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--decoder pyav"):
        open_decoder("decord")
