"""A corpus of any size through planning, claiming, committing and indexing, without media.

    python -m features simulate STORE --rows 650000

The rows, the manifest, the digests, the claims, the shards and their records are real; only videos
and the model are missing: the null decoder shows one pixel, and the backbone stores it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from features.extraction import Plan, plan, run_plan
from features.sources import NULL_MEDIA
from features.store import FeatureInfo, Store
from pipeline.decode.null import NullDecoder
from pipeline.errors import UserError
from pipeline.files import json_bytes, write_atomic
from pipeline.manifest import Manifest, read_manifest
from pipeline.progress import Advance

__all__ = ["FEATURE", "Figures", "rehearse", "resident_bytes", "write_corpus"]

FEATURE = "null"
CLASSES = 700
SECONDS = 10.0
SAMPLE = 1000
"""Rows that are read at the end, as a trainer reads them."""

POLL = 0.05


@dataclass
class Figures:
    """What a rehearsal took; seconds, bytes and counts.

    Attributes:
        rows, shards: Committed in all.
        left: Rows that the last plan had to do; fewer than ``rows`` after a kill.
        reading, planning, committing: Seconds for manifest, plan and shards of the last run.
        listing, fetching: Seconds that ``ls`` and the reading of `SAMPLE` rows take in a process
            that knows nothing of the store.
        memory: Resident bytes of the last run: (shards done, bytes).
        index: Bytes of ``index.jsonl``.
        correct: Whether all rows are there and those read are right.
    """

    rows: int = 0
    shards: int = 0
    left: int = 0
    reading: float = 0.0
    planning: float = 0.0
    committing: float = 0.0
    listing: float = 0.0
    fetching: float = 0.0
    memory: list[tuple[int, int]] = field(default_factory=list)
    index: int = 0
    correct: bool = False

    def __str__(self) -> str:
        rate = self.left / self.committing if self.committing else 0.0
        lines = [
            f"{self.rows} rows in {self.shards} shards, "
            f"{'all' if self.correct else 'NOT all'} there and right",
            f"manifest read in {self.reading:.1f} s, planned in {self.planning:.1f} s: "
            f"{self.left} rows to do",
            f"committed in {self.committing:.1f} s, {rate:.0f} rows/s",
            f"features ls in {self.listing:.2f} s, {SAMPLE} rows read in {self.fetching:.2f} s",
            f"index of {self.index / 1e6:.1f} MB, {self.index / max(1, self.rows):.0f} bytes a row",
        ]
        if self.memory:
            first, last = self.memory[0][1], self.memory[-1][1]
            most = max(size for _, size in self.memory)
            lines.append(
                f"memory {first / 1e6:.0f} MB at the first shard, {last / 1e6:.0f} MB at the last, "
                f"{most / 1e6:.0f} MB at most"
            )
        return "\n".join(lines)


def write_corpus(path: Path, rows: int) -> Path:
    """Writes a manifest of clips that need no files, one a video.

    Args:
        path: The manifest.
        rows: How many.
    """
    classes = [f"class {n}" for n in range(CLASSES)]
    header = {"manifest": 1, "dataset": f"rehearsal-{rows}", "label_type": "multiclass"}
    write_atomic(path, json_bytes("".join(_lines(header | {"classes": classes}, classes, rows))))
    return path


def _lines(header: dict[str, object], classes: list[str], rows: int) -> Iterator[str]:
    yield json.dumps(header) + "\n"
    for n in range(rows):
        begin = float(n)
        name = f"{hashlib.sha256(str(n).encode()).hexdigest()[:11]}_{n:06d}"
        row = {
            "id": name,
            "video": f"{NULL_MEDIA}{name}.mp4",
            "start": begin,
            "end": begin + SECONDS,
            "split": "train",
            "labels": [classes[n % CLASSES]],
            "audio_id": name,
        }
        yield json.dumps(row) + "\n"


def rehearse(
    store: Path,
    rows: int,
    *,
    shard_rows: int = 128,
    workers: int = 1,
    kill: bool = False,
    progress: Callable[[Plan], Advance] | None = None,
) -> Figures:
    """Fills a store with a corpus of nothing and measures it.

    Args:
        store: The store's folder; what is in it is not done again.
        rows: Clips.
        shard_rows: Clips a shard.
        workers: Processes.
        kill: Whether to begin in another process that is killed half-way.
        progress: Makes the display of a plan's progress.

    Raises:
        UserError: If the store cannot be written.
    """
    path = store / f"rehearsal-{rows}.jsonl"
    if not path.exists():
        try:
            write_corpus(path, rows)
        except OSError as error:
            raise UserError(
                f"The store {store} cannot be written ({error.strerror}); choose another folder."
            ) from error
    if kill:
        _begin_and_kill(store, rows, shard_rows, workers)
    figures = Figures()
    begin = time.monotonic()
    manifest = read_manifest(path)
    figures.reading = time.monotonic() - begin
    begin = time.monotonic()
    work = plan(manifest, store, [FEATURE], shard_rows=shard_rows, decoder=NullDecoder.name)
    figures.planning = time.monotonic() - begin
    figures.left = work.todo
    # A run needs its plan only; a corpus of rows is the largest thing it would carry along.
    del manifest
    watch = _Watch(shard_rows, None if progress is None else progress(work))
    begin = time.monotonic()
    # A reader that opens nothing is no use of a process.
    run_plan(work, workers=workers, readers=0, progress=watch)
    figures.committing = time.monotonic() - begin
    figures.memory = watch.seen
    _look(figures, store, read_manifest(path))
    return figures


class _Watch:
    """Hears of progress and looks at the memory now and then."""

    def __init__(self, shard_rows: int, inner: Advance | None) -> None:
        self.seen: list[tuple[int, int]] = []
        self._inner = inner
        self._shard_rows = shard_rows
        self._rows = 0
        self._next = 1

    def advance(self, status: str = "ok", n: int = 1) -> None:
        """See `Advance`."""
        if self._inner is not None:
            self._inner.advance(status, n)
        self._rows += n if status != "skipped" else 0
        shards = self._rows // self._shard_rows
        if shards >= self._next:
            self.seen.append((shards, resident_bytes()))
            self._next = shards + 50


def resident_bytes() -> int:
    """Memory of this process that is in RAM; its largest so far where the system tells no more."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _begin_and_kill(store: Path, rows: int, shard_rows: int, workers: int) -> None:
    """Runs the same in another process and ends it with SIGKILL when half of it is done."""
    words = ["simulate", str(store), "--rows", str(rows), "--shard-rows", str(shard_rows)]
    child = subprocess.Popen(
        [sys.executable, "-m", "features", *words, "--workers", str(workers)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Its own group: its workers are killed with it.
        start_new_session=True,
    )
    half = -(-rows // shard_rows) // 2
    while child.poll() is None and _committed(store) < half:
        time.sleep(POLL)
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _committed(store: Path) -> int:
    with_record = (name for folder in store.glob(f"{FEATURE}-*") for name in os.listdir(folder))
    return sum(name.endswith(".json") and not name.startswith(".") for name in with_record)


def _look(figures: Figures, store: Path, manifest: Manifest) -> None:
    """Lists the store and reads some rows, as other processes do, and checks what they find."""
    begin = time.monotonic()
    info: FeatureInfo = Store(store).find(FEATURE)
    figures.listing = time.monotonic() - begin
    figures.rows, figures.shards = info.rows, info.shards
    figures.index = (info.folder / "index.jsonl").stat().st_size
    some = random.Random(0).sample(manifest.rows, min(SAMPLE, len(manifest)))
    begin = time.monotonic()
    table = Store(store).read(info, manifest, some)
    figures.fetching = time.monotonic() - begin
    moments = [int(row.start + SECONDS / 2) for row in some]
    right = np.array([list(n.to_bytes(3, "big")) for n in moments], dtype=np.uint8)
    there = table.ok.all() and info.rows == len(manifest) and not info.failed
    figures.correct = bool(there and np.array_equal(table.stacked()[:, 0], right))
