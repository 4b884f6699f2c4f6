"""Extraction that is killed again and again: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from features.extraction import plan, run_plan
from features.store import Store
from pipeline.manifest import Header, Manifest, Row, read_manifest, write_manifest
from tests.media import render_clip, sine

pytestmark = [pytest.mark.stress, pytest.mark.timeout(900)]

PROJECT = Path(__file__).parents[2]
CLIPS, SHARD_ROWS = 200, 4
NAMES = ("logmel_stats", "frame_stats")
ROUNDS = int(os.environ.get("AVNOISE_STRESS_ROUNDS", "25"))
LOOK = 0.002
"""Seconds between two looks at what has been committed."""
ROUND_SECONDS = 120

Stamps = dict[str, tuple[int, int, int]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Two hundred different clips of a second."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for n in range(CLIPS):
        sound = sine(150.0 + 11 * n, 1.0, 8000)
        render_clip(
            folder / f"{n:03d}.mp4",
            seconds=1.0,
            rate=4,
            size=(64 + 16 * (n % 4), 48),
            audio=sound,
            audio_rate=8000,
        )
        rows.append(Row(f"clip{n:03d}", 0.0, 1.0, "train", (), video=f"{n:03d}.mp4"))
    return write_manifest(
        Manifest(Header("stress", "none", ()), tuple(rows), folder / "m.jsonl"), folder / "m.jsonl"
    )


def start(manifest: Manifest, store: Path, log: Path) -> subprocess.Popen[bytes]:
    """The command, in a process group of its own."""
    words = ["--manifest", str(manifest.path), "--store", str(store), "--features", *NAMES]
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.extract", *words, "--shard-rows", str(SHARD_ROWS)],
            cwd=PROJECT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def committed(store: Path) -> list[Path]:
    """The records of all committed shards."""
    return [
        path
        for path in store.glob("*/*.json")
        if path.stem != "spec" and not path.name.startswith(".")
    ]


def stamps(store: Path) -> Stamps:
    """Inode, modification time and size of every file of a committed shard."""
    found = {}
    for record in committed(store):
        for path in (record, record.with_suffix(".h5")):
            status = path.stat()
            found[str(path)] = status.st_ino, status.st_mtime_ns, status.st_size
    return found


def kill_in_the_work(
    process: subprocess.Popen[bytes], store: Path, goal: int, rng: random.Random
) -> bool:
    """Kills a run and all its processes some milliseconds after a number of commits.

    Args:
        process: The run.
        store: Its store.
        goal: Shards that are to be there; reached before, the run is killed as it begins to work.
        rng: Chooses the milliseconds.

    Returns:
        Whether it was at work: alive, with shards in the making.
    """
    end = time.monotonic() + ROUND_SECONDS
    while process.poll() is None and time.monotonic() < end:
        if len(committed(store)) >= goal and any(store.glob("*/*.claim")):
            break
        time.sleep(LOOK)
    # A shard of four clips takes some tens of milliseconds: this falls before, in and after the
    # writing of files and records.
    time.sleep(rng.uniform(0.0, 0.08))
    alive = process.poll() is None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        alive = False
    process.wait()
    wait_for_group(process.pid)
    return alive and any(store.glob("*/*.claim"))


def wait_for_group(group: int) -> None:
    """Waits until the last process of a killed group is gone."""
    for _ in range(1000):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("a process outlived its group")


def test_killed_runs_lose_nothing_and_do_nothing_twice(corpus: Manifest, tmp_path: Path) -> None:
    undisturbed, store, log = tmp_path / "undisturbed", tmp_path / "store", tmp_path / "log"
    run_plan(plan(corpus, undisturbed, NAMES, shard_rows=SHARD_ROWS), workers=1)
    rng = random.Random(20)
    seen: Stamps = {}
    interrupted = 0
    # Spread over the work, but its last third: some commits come between goal and kill.
    shards = len(NAMES) * CLIPS // SHARD_ROWS
    for goal in sorted(rng.choices(range(shards * 2 // 3), k=ROUNDS)):
        interrupted += kill_in_the_work(start(corpus, store, log), store, goal, rng)
        now = stamps(store)
        # A shard that was done again would be another file.
        assert {path: now.get(path) for path in seen} == seen
        seen = now
    assert interrupted > ROUNDS / 2, log.read_text()
    last = start(corpus, store, log)
    assert last.wait(ROUND_SECONDS) == 0, log.read_text()
    now = stamps(store)
    assert {path: now.get(path) for path in seen} == seen

    expected = {p.relative_to(undisturbed): p.read_bytes() for p in undisturbed.rglob("*.h5")}
    assert {p.relative_to(store): p.read_bytes() for p in store.rglob("*.h5")} == expected
    opened = Store(store)
    assert opened.verify() == []
    manifest = read_manifest(corpus.path)
    for name in NAMES:
        info = opened.find(name)
        keys = [key for record in opened.index(info.folder).records for key in record.keys]
        assert len(keys) == len(set(keys)) == CLIPS
        assert opened.read(info, manifest, manifest.rows).ok.all()
    assert plan(manifest, store, NAMES, shard_rows=SHARD_ROWS).todo == 0
    assert list(store.rglob("*.tmp")) == []
