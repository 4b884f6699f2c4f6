"""Reading in processes: what hangs or crashes costs one clip, and no value changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from features.backbones.descriptors import FrameStats
from features.backbones.interface import BACKBONES
from features.computing import compute_clips
from features.extraction import Report, plan, run_plan
from features.planning import ClipRow
from features.readers import Interval, Job, default_readers, open_readers
from features.readers.buffers import BufferReader, Buffers
from features.readers.child import Child, take_child
from features.readers.worker import AHEAD
from features.requests import FeatureRequest, make_requests
from features.store import Store
from pipeline.errors import UserError
from pipeline.manifest import Manifest
from pipeline.stages import StageClock
from tests.features import misbehaving
from tests.features.builders import film_manifest
from tests.media import render_clip, sine

KINDS = [getattr(misbehaving, name) for name in misbehaving.__all__ if name != "BAD_WIDTH"]
NAMES = ["frame_stats", "logmel_stats"]


@pytest.fixture(autouse=True)
def _backbones(monkeypatch) -> None:
    BACKBONES.names()
    for kind in KINDS:
        monkeypatch.setitem(BACKBONES._entries, kind.name, kind)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """Clips ``0`` to ``3`` of three seconds, of which ``1`` makes backbones misbehave."""
    folder = tmp_path_factory.mktemp("films")
    for n in range(4):
        size = (misbehaving.BAD_WIDTH, 48) if n == 1 else (128, 96)
        sound = sine(300.0 * (n + 1), 3.0, 16000)
        render_clip(folder / f"{n}.mp4", seconds=3.0, rate=8, size=size, audio=sound)
    return folder


def extract(
    folder: Path, store: Path, *names: str, timeout: float | None = 60.0, readers: int = 1
) -> tuple[Report, dict[str, dict[str, bytes]]]:
    work = plan(film_manifest(folder, *"0123"), store, names, timeout=timeout)
    report = run_plan(work, readers=readers)
    shards = {
        name: {path.name: path.read_bytes() for path in store.glob(f"{name}-*/*.h5")}
        for name in names
    }
    return report, shards


def statuses(store: Path, manifest: Manifest, name: str) -> list[str]:
    opened = Store(store)
    return opened.read(opened.find(name), manifest, manifest.rows).status.tolist()


class TestValues:
    def test_do_not_depend_on_readers_or_on_what_is_asked_together(self, films, tmp_path):
        names = [*NAMES, "test.overlapping", "test.windows", "test.cuts"]
        _, here = extract(films, tmp_path / "here", *names, readers=0)
        _, there = extract(films, tmp_path / "there", *names, readers=2)
        assert here == there
        for name in names:
            _, alone = extract(films, tmp_path / "alone", name, readers=1)
            assert alone[name] == there[name]

    def test_stages_are_counted_in_all_processes(self, films, tmp_path):
        report, _ = extract(films, tmp_path, *NAMES, readers=2)
        assert set(report.stages) >= {"open", "decode", "sound", "resize", "model", "write"}
        lines = report.table().splitlines()
        assert any(line.startswith("decode ") and line.split()[3] == "%" for line in lines)


class TestMisbehaviour:
    def test_a_clip_that_hangs_is_a_timeout_and_costs_no_other(self, films, tmp_path):
        report, shards = extract(films, tmp_path, *NAMES, "test.hanging", timeout=0.3)
        manifest = film_manifest(films, *"0123")
        assert statuses(tmp_path, manifest, "test.hanging") == ["ok", "timeout", "ok", "ok"]
        assert report.failed == 1
        _, fine = extract(films, tmp_path / "fine", *NAMES)
        assert {name: shards[name] for name in NAMES} == fine

    def test_a_clip_that_crashes_names_the_signal_and_costs_no_other(self, films, tmp_path):
        report, shards = extract(films, tmp_path, *NAMES, "test.crashing", readers=2)
        assert report.statuses["test.crashing"] == {
            ("ok", ""): 3,
            ("decode_error", "the process that read it ended with SIGSEGV"): 1,
        }
        _, fine = extract(films, tmp_path / "fine", *NAMES)
        assert {name: shards[name] for name in NAMES} == fine

    def test_a_bug_stops_the_run_and_tells_where_it_is(self, films, tmp_path):
        with pytest.raises(ZeroDivisionError, match="a bug") as error:
            extract(films, tmp_path, "test.buggy")
        assert "misbehaving.py" in error.value.__notes__[0]
        assert list(tmp_path.glob("*/*.claim")) == []

    def test_a_process_that_dies_while_it_waits_is_replaced(self, films, tmp_path):
        extract(films, tmp_path / "first", "frame_stats")
        child = take_child()
        child.stop()
        child.ending()
        from features.readers import child as children

        children.give_child(child)
        report, _ = extract(films, tmp_path / "second", "frame_stats")
        assert report.failed == 0

    def test_where_no_process_can_start_the_remedy_is_told(self, films, tmp_path, monkeypatch):
        monkeypatch.setattr(sys, "executable", "false")
        monkeypatch.setattr("features.readers.crew.take_child", Child)
        with pytest.raises(UserError, match="use --readers 0"):
            extract(films, tmp_path, "frame_stats")


class TestProcesses:
    def pids(self, films: Path, store: Path, readers: int) -> set[int]:
        extract(films, store, "test.process", readers=readers)
        manifest = film_manifest(films, *"0123")
        opened = Store(store)
        table = opened.read(opened.find("test.process"), manifest, manifest.rows)
        return set(np.unique(table.x).astype(int).tolist())

    def test_are_kept_from_shard_to_shard(self, films, tmp_path):
        first = self.pids(films, tmp_path / "first", 1)
        assert len(first) == 1
        assert first == self.pids(films, tmp_path / "second", 1)
        assert os.getpid() not in first

    def test_none_reads_here(self, films, tmp_path):
        assert self.pids(films, tmp_path, 0) == {os.getpid()}

    def test_a_backbone_that_cannot_be_imported_is_read_for_here(self, films, monkeypatch):
        class Local(misbehaving.Process):
            name = "test.local"

        gone = type("Gone", (misbehaving.Process,), {"name": "test.gone"})
        for kind in (Local, gone):
            kind.__module__ = __name__ if kind is Local else "no.such.module"
            monkeypatch.setitem(BACKBONES._entries, kind.name, kind)
            clip = ClipRow("0" * 64, 0.0, 3.0, str(films / "0.mp4"), None, "gone")
            (steps,) = compute_clips(
                [clip], [FeatureRequest(kind.name)], clock=StageClock(), readers=1
            )
            assert set(steps[kind.name].ravel()) == {os.getpid()}

    def test_end_with_a_parent_that_is_killed(self, films, tmp_path):
        program = (
            "import sys\n"
            "from features.backbones.interface import BACKBONES\n"
            "from tests.features.misbehaving import Hanging\n"
            "BACKBONES.add(Hanging)\n"
            "from features.readers import Interval, Job, open_readers\n"
            "from features.requests import FeatureRequest\n"
            "requests = [FeatureRequest('test.hanging')]\n"
            "clips = [Interval(sys.argv[1], 0.0, 3.0)]\n"
            "with open_readers(Job(clips, requests, [Hanging()]), 1) as readers:\n"
            "    (child,) = readers._tasks\n"
            "    print(child._process.pid, flush=True)\n"
            "    print(list(next(iter(readers))))\n"
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", program, str(films / "1.mp4")],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        child = int(parent.stdout.readline())
        time.sleep(0.5)
        assert _alive(child)
        parent.kill()
        parent.wait()
        parent.stdout.close()
        deadline = time.monotonic() + 10.0
        while _alive(child) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not _alive(child)


class TestMemory:
    def test_a_reader_stays_a_few_blocks_ahead(self, films):
        requests = make_requests(["frame_stats"])
        backbones = [request.build() for request in requests]
        clips = [Interval(str(films / f"{n % 4}.mp4"), 0.0, 3.0) for n in range(8)]
        with open_readers(Job(clips, requests, backbones), 1) as readers:

            def queued() -> int:
                return sum(deliveries.qsize() for deliveries in readers._deliveries)

            # Every finished clip is a block and a mark of its end.
            deadline = time.monotonic() + 20.0
            while queued() < 2 * AHEAD and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(0.3)
            assert queued() == 2 * AHEAD
            for deliveries in readers:
                for delivery in deliveries:
                    delivery.release()

    def test_buffers_are_used_again_and_grow(self):
        import socket

        ours, theirs = socket.socketpair()
        with ours, theirs:
            buffers, reader = Buffers(ours), BufferReader(theirs)
            for size in (10, 5000, 20000, 10):
                array = buffers.lend((size, 2), np.float32)
                array[...] = size
                number, length = buffers.give(array)
                assert number == 0
                got = reader.array(number, length, (size, 2), "<f4")
                assert got.shape == (size, 2)
                assert (got == size).all()
                buffers.free(number)
            first, second = (buffers.lend((3,), np.uint8) for _ in range(2))
            assert buffers.give(np.zeros(3)) is None
            buffers.give(second)
            buffers.reclaim()
            assert buffers.give(buffers.lend((3,), np.uint8))[0] == 0
            assert first is not None
            reader.close()


class TestChoice:
    def test_of_the_number_of_readers(self, monkeypatch):
        monkeypatch.setattr("features.readers.choice.available_cores", lambda: 8)
        light = [FrameStats()]
        (heavy,) = make_requests(["squeezenet1_0"], random_weights=0)
        assert default_readers("cpu", light, 1) == 0
        assert default_readers("cpu", light, 2) == 1
        assert default_readers("cpu", [heavy.build()], 1) == 1
        assert default_readers("cuda", light, 1) == 7

    def test_is_no_part_of_a_spec(self, films, tmp_path):
        extract(films, tmp_path, "frame_stats", readers=0)
        assert plan(film_manifest(films, *"0123"), tmp_path, ["frame_stats"]).todo == 0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that nobody waited for is there no more.
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_signals_are_named():
    child = Child()
    os.kill(child._process.pid, signal.SIGKILL)
    assert child.ending() == "SIGKILL (is memory short?)"
