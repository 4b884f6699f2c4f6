"""Memory does not grow with the length of a video: a row of two hours beside one of ten seconds."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from features.store import Store
from pipeline.decode import probe
from pipeline.manifest import read_manifest
from tests.media import render_clip, repeated_copy, sine

MIB = 2**20
RATE = 16000
SECONDS = 10.24
"""Length of the encode that is repeated: a whole number of AAC's blocks of 1024 samples."""
COPIES = 704
HOURS = 7200.0
PICTURES = 16
"""In `SECONDS`. Pictures of this size take over a millisecond each to decode, so two hours at 25 a
second would take five minutes; how many there are between two that are wanted changes no memory."""
GROWTH = 500 * MIB
"""What a row of two hours may need above one of ten seconds; measured 35 MiB. Its waveform alone
is 440 MiB, its Mel spectrogram in double precision 350."""


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with short.mp4 and long.mp4, both in 1080p."""
    folder = tmp_path_factory.mktemp("films")
    short = render_clip(
        folder / "short.mp4",
        begins=np.arange(PICTURES) * SECONDS / PICTURES,
        rate=25,
        size=(1920, 1080),
        gop=PICTURES,
        # The encoder adds a block of its own, so that one less makes whole packets.
        audio=sine(440, SECONDS - 1024 / RATE, RATE),
        audio_rate=RATE,
        options={"preset": "ultrafast"},
    )
    long = repeated_copy(short, folder / "long.mp4", seconds=SECONDS, times=COPIES)
    yield folder
    for path in (short, long):
        path.unlink()


def manifest(folder: Path, video: str, end: float) -> Path:
    """A manifest of one row that begins with the file and ends at ``end`` seconds."""
    header = {
        "manifest": 1,
        "dataset": "films",
        "label_type": "none",
        "classes": [],
        "media_root": ".",
        "annotations": None,
        "parent": None,
        "noise": [],
    }
    row = {
        "id": "film",
        "video": video,
        "start": 0.0,
        "end": end,
        "split": "train",
        "labels": [],
        "audio_id": "film",
    }
    path = folder / f"{video}.jsonl"
    path.write_text(f"{json.dumps(header)}\n{json.dumps(row)}\n")
    return path


def with_children(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from with_children(int(child))


def peak(pid: int) -> int:
    """Largest resident memory of a process so far in bytes; 0 once it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def extract(rows: Path, store: Path) -> int:
    """Runs the command; returns the sum of the peaks of its processes, as if all came at once."""
    command = [sys.executable, "-m", "flows.extract"]
    command += ["--manifest", str(rows), "--store", str(store)]
    command += ["--features", "frame_stats", "logmel_stats"]
    command += ["--option", "frame_stats.hop=10", "frame_stats.frames=1"]
    root = Path(__file__).parents[2]
    with open(rows.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(command, cwd=root, stdout=log, stderr=subprocess.STDOUT)
        peaks: dict[int, int] = {}
        try:
            while process.poll() is None:
                for pid in with_children(process.pid):
                    peaks[pid] = max(peaks.get(pid, 0), peak(pid))
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, rows.with_suffix(".log").read_text()
    return sum(peaks.values())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads peaks from /proc")
def test_two_hours_in_1080p_need_little_more_than_ten_seconds(films: Path, tmp_path: Path):
    info = probe(films / "long.mp4")
    assert info.duration == pytest.approx(SECONDS * COPIES, abs=0.5)
    assert (info.width, info.height, info.audio_rate) == (1920, 1080, RATE)
    assert info.duration > HOURS
    assert (films / "long.mp4").stat().st_size < 200 * MIB

    ends = {"short": 10.0, "long": HOURS}
    rows = {name: manifest(films, f"{name}.mp4", end) for name, end in ends.items()}
    peaks = {name: extract(path, tmp_path / name) for name, path in rows.items()}
    assert peaks["short"] > 50 * MIB
    assert peaks["long"] - peaks["short"] < GROWTH

    for name, end in ends.items():
        store, asked = Store(tmp_path / name), read_manifest(rows[name])
        for feature, hop in (("frame_stats", 10), ("logmel_stats", 1)):
            table = store.read(store.find(feature), asked, asked.rows)
            assert list(table.status) == ["ok"]
            np.testing.assert_allclose(table.t, hop * (np.arange(end // hop) + 0.5))
