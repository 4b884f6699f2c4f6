"""Disks that are full, read-only or not the store's to write on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from features.__main__ import main as features
from features.extraction import plan, run_plan
from features.store import Store
from flows.extract import main as extract
from pipeline.errors import UserError
from pipeline.manifest import Manifest, read_manifest, write_manifest
from tests.features.builders import film_manifest

PROJECT = Path(__file__).parents[2]
NAMES = ("logmel_stats", "frame_stats")


@pytest.fixture
def manifest(videos, tmp_path) -> Manifest:
    path = tmp_path / "m.jsonl"
    write_manifest(film_manifest(videos, "0", "1", "2", "3"), path)
    return read_manifest(path)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small disk in memory; skips the test where nobody may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no disk can be mounted here ({error})")
    if done.returncode:
        pytest.skip(f"no disk can be mounted here ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def whole_shards_only(store: Path) -> int:
    """Checks that every file named like a shard is one, with its record; returns how many."""
    assert Store(store).verify() == []
    files = {path.stem for path in store.glob("*/*.h5")}
    records = {p.stem for p in store.glob("*/*.json") if p.stem != "spec"}
    assert files == records
    assert list(store.rglob("*.tmp")) == []
    return len(files)


def finish(store: Path, manifest: Manifest) -> None:
    report = run_plan(plan(manifest, store, NAMES, shard_rows=1))
    assert report.failed == 0
    assert whole_shards_only(store) == len(NAMES) * len(manifest)


def test_a_disk_that_is_really_full(manifest, tmp_path):
    with mounted(tmp_path / "disk", "size=256k") as disk:
        store = disk / "store"
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(200_000))
        words = ["--manifest", str(manifest.path), "--store", str(store), "--shard-rows", "1"]
        command = [sys.executable, "-m", "flows.extract", *words, "--features", *NAMES]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stdout + done.stderr
        (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert "cannot be written (No space left on device); free some space" in error
        assert "Traceback" not in done.stdout + done.stderr
        before = whole_shards_only(store)
        assert before < len(NAMES) * len(manifest)
        ballast.unlink()
        finish(store, manifest)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_files_that_may_not_grow(manifest, tmp_path):
    """The same without a disk of its own: the kernel refuses to write beyond some kilobytes."""
    store = tmp_path / "store"
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))\n"
        "from flows.extract import main\n"
        "from pipeline.cli import run\n"
        "run(main)\n"
    )
    words = ["--manifest", str(manifest.path), "--store", str(store), "--shard-rows", "1"]
    command = [sys.executable, "-c", script, *words, "--features", *NAMES]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"The store {store} cannot be written" in error
    assert "Traceback" not in done.stdout + done.stderr
    whole_shards_only(store)
    finish(store, manifest)


@pytest.mark.parametrize("where", ["shard", "flush", "record", "rename"])
def test_a_disk_that_fills_up_at_any_step(manifest, tmp_path, monkeypatch, where):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    wrote = []

    def fail(*args, **kwargs):
        wrote.append(where)
        raise full

    work = plan(manifest, tmp_path, NAMES, shard_rows=1)
    # The specs are there already: the disk fills up under the shards.
    run_plan(plan(manifest.with_rows(manifest.rows[:1]), tmp_path, NAMES, shard_rows=1))
    with monkeypatch.context() as patch:
        if where == "shard":
            patch.setattr(h5py.Group, "create_dataset", fail)
        elif where == "record":
            patch.setattr("features.store.commit.write_atomic", fail)
        elif where == "flush":
            patch.setattr("features.store.commit._sync", fail)
        else:
            patch.setattr("features.store.commit.os.replace", fail)
        with pytest.raises(UserError, match=r"No space left on device\); free some space"):
            run_plan(work, workers=1, readers=0)
    assert wrote
    opened = Store(tmp_path)
    assert [info.rows for info in opened.features()] == [1, 1]
    assert list(tmp_path.rglob("*.tmp")) == list(tmp_path.rglob("*.claim")) == []
    finish(tmp_path, manifest)


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """The same folder as a disk that nobody can write; root heeds no permissions."""
    if os.geteuid():
        paths = [folder, *folder.rglob("*")]
        modes = [path.stat().st_mode for path in paths]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            yield folder
        finally:
            for path, mode in zip(paths, modes, strict=True):
                path.chmod(mode)
        return
    view = folder.with_name(f"{folder.name}-ro")
    view.mkdir()
    bind = subprocess.run(["mount", "--bind", str(folder), str(view)], check=False)
    if bind.returncode:
        pytest.skip("no read-only disk can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(view)], check=True)
        yield view
    finally:
        subprocess.run(["umount", str(view)], check=True)


def test_a_read_only_store_is_read_and_not_extended(manifest, tmp_path, capsys):
    store = tmp_path / "store"
    some = manifest.with_rows(manifest.rows[:2])
    run_plan(plan(some, store, NAMES, shard_rows=1))
    for cache in store.glob("*/index.jsonl"):
        cache.unlink()
    with read_only(store) as view:
        opened = Store(view)
        table = opened.read(opened.find("frame_stats"), some, some.rows)
        assert np.isfinite(table.stacked()).all()
        assert features(["ls", str(view)]) == 0
        assert features(["verify", str(view)]) == 0
        words = ["--manifest", str(manifest.path), "--store", str(view), "--features", *NAMES]
        with pytest.raises(UserError, match=r"cannot be written \(.+\); free some space, mend"):
            extract(words)
    assert plan(some, store, NAMES, shard_rows=1).todo == 0
    assert plan(manifest, store, NAMES, shard_rows=1).todo == 2
