"""Two processes that fill one store at the same time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from features.extraction import plan, run_plan
from features.store import Store, claim, shard_name
from features.store.claims import STALE
from pipeline.manifest import Manifest, read_manifest, write_manifest
from tests.features.builders import film_manifest
from tests.features.derived_pair import DoubledFrames, PlainFrames
from tests.media import render_clip

PROJECT = Path(__file__).parents[2]
CLIPS = 24
PLAIN, DOUBLED = PlainFrames.name, DoubledFrames.name


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Manifest:
    folder = tmp_path_factory.mktemp("corpus")
    names = [f"{n:02d}" for n in range(CLIPS)]
    for n, name in enumerate(names):
        render_clip(folder / f"{name}.mp4", seconds=1.0, rate=4, size=(64 + 16 * n, 48))
    manifest = film_manifest(folder, *names, end=1.0)
    return read_manifest(write_manifest(manifest, folder / "m.jsonl").path)


class Run:
    """One process: planned when made, at work after `go`."""

    def __init__(self, manifest: Manifest, store: Path, shard_rows: int, *names: str) -> None:
        words = [str(manifest.path), str(store), str(shard_rows), *names]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.features.derived_pair", *words],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def planned(self) -> None:
        assert self.process.stdout.readline() == "planned\n"

    def go(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def extracted(self) -> int:
        output, _ = self.process.communicate(timeout=120)
        assert self.process.returncode == 0
        return int(output.split()[0])


def run_together(*runs: Run) -> list[int]:
    for run in runs:
        run.planned()
    for run in runs:
        run.go()
    return [run.extracted() for run in runs]


def check(store: Path, manifest: Manifest, *names: str) -> dict[str, np.ndarray]:
    """Every row is there and right by itself; returns the values by feature."""
    opened = Store(store)
    assert opened.verify() == []
    assert list(store.rglob("*.claim")) == list(store.rglob("*.tmp")) == []
    tables = {name: opened.read(opened.find(name), manifest, manifest.rows) for name in names}
    assert all(table.ok.all() for table in tables.values())
    return {name: table.x for name, table in tables.items()}


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory) -> dict[str, np.ndarray]:
    """What one undisturbed run gives."""
    store = tmp_path_factory.mktemp("alone")
    run_plan(plan(corpus, store, [PLAIN, DOUBLED], shard_rows=4), workers=1, readers=0)
    return check(store, corpus, PLAIN, DOUBLED)


@pytest.mark.slow
def test_equal_runs_share_the_work(corpus, alone, tmp_path):
    runs = [Run(corpus, tmp_path, 2, PLAIN, DOUBLED) for _ in range(2)]
    extracted = run_together(*runs)
    # Every shard was done by one of them, and both report the whole.
    assert sum(extracted) == CLIPS
    found = check(tmp_path, corpus, PLAIN, DOUBLED)
    for name, x in found.items():
        np.testing.assert_array_equal(x, alone[name])
    for name in found:
        info = Store(tmp_path).find(name)
        assert (info.rows, info.shards) == (CLIPS, CLIPS // 2)


@pytest.mark.slow
def test_other_shard_sizes_and_a_feature_that_is_derived(corpus, alone, tmp_path):
    run_plan(plan(corpus, tmp_path, [PLAIN], shard_rows=5), workers=1, readers=0)
    run_together(Run(corpus, tmp_path, 3, PLAIN, DOUBLED), Run(corpus, tmp_path, 7, DOUBLED))
    found = check(tmp_path, corpus, PLAIN, DOUBLED)
    for name, x in found.items():
        np.testing.assert_array_equal(x, alone[name])
    opened = Store(tmp_path)
    counts = Counter(
        key
        for record in opened.index(opened.find(DOUBLED).folder.name).records
        for key in record.keys
    )
    # Both cut the rows differently, so both hold them; a reader finds each once.
    assert set(counts.values()) <= {1, 2}
    assert len(opened.rows(opened.find(DOUBLED))) == CLIPS
    assert opened.find(PLAIN).rows == CLIPS
    assert plan(corpus, tmp_path, [PLAIN, DOUBLED]).todo == 0


def test_derived_shards_do_not_look_at_the_folder_again(corpus, alone, tmp_path, monkeypatch):
    from features.store.index import FeatureIndex

    run_plan(plan(corpus, tmp_path, [PLAIN], shard_rows=4), workers=1, readers=0)
    work = plan(corpus, tmp_path, [PLAIN, DOUBLED], shard_rows=2)
    assert all(task.held == (DOUBLED,) for task in work.tasks)
    scans = []
    scan = FeatureIndex._scan
    monkeypatch.setattr(FeatureIndex, "_scan", lambda self: scans.append(self) or scan(self))
    monkeypatch.setattr(PlainFrames, "compute", None)
    run_plan(work, workers=1, readers=0)
    assert len(work.tasks) == CLIPS // 2
    assert len(scans) <= 1
    found = check(tmp_path, corpus, PLAIN, DOUBLED)
    np.testing.assert_array_equal(found[DOUBLED], alone[DOUBLED])


class TestClaims:
    @pytest.fixture
    def task(self, videos, tmp_path):
        (task,) = plan(film_manifest(videos, "0"), tmp_path, ["frame_stats"]).tasks
        return task

    def claim_path(self, task) -> Path:
        spec = task.features[0].spec(task.decoder)
        name = shard_name(spec.id, [row.key for row in task.rows])
        path = Path(task.store) / spec.folder / f"{name}.claim"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"pid": "x"}'])
    def test_senseless_claims_hold_until_they_are_stale(self, task, content):
        path = self.claim_path(task)
        path.write_bytes(content)
        assert claim(path.parent, path.stem) is None
        old = time.time() - STALE - 1
        os.utime(path, (old, old))
        with claim(path.parent, path.stem) as mine:
            assert mine is not None
        assert list(path.parent.glob("*.claim")) == []

    def test_claim_of_a_dead_process_far_in_the_future(self, task):
        """A clock that was hours ahead: the heartbeat tells nothing, the process does."""
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        path = self.claim_path(task)
        owner = {"host": socket.gethostname(), "pid": dead.pid, "token": "x"}
        path.write_text(json.dumps(owner))
        ahead = time.time() + 1e6
        os.utime(path, (ahead, ahead))
        with claim(path.parent, path.stem) as mine:
            assert mine is not None

    def test_claim_of_another_host_whose_clock_is_ahead_goes_stale_too(self, task):
        path = self.claim_path(task)
        path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "x"}))
        assert claim(path.parent, path.stem) is None
        ahead = time.time() + 1e6
        os.utime(path, (ahead, ahead))
        with claim(path.parent, path.stem) as mine:
            assert mine is not None

    def test_age_is_told_by_the_clock_that_dates_files(self, task, monkeypatch):
        path = self.claim_path(task)
        path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "x"}))
        with monkeypatch.context() as patch:
            patch.setattr("features.store.claims.time.time", lambda: 0.0)
            assert claim(path.parent, path.stem) is None
