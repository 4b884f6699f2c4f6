"""Reading the store against reading the same bytes with numpy, in one run.

    python -m tests.benchmarks.bench_store [--clips 4096] [--repeats 9]

Both read clips of 10 x 512 float32 from warm files into new memory, by turns; medians count. The
store's read looks up every row's video on disk as well, 4,096 different files here; "shards alone"
leaves that out, "first read" begins with opening the store. The goal is a ratio of at least 0.8.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from features.spec import FeatureSpec
from features.store import Row, RowKey, Shard, Store
from features.store.reading import read_rows
from pipeline.cli import Parser, run
from pipeline.manifest import Header, Manifest
from pipeline.manifest import Row as ManifestRow

STEPS, WIDTH, SHARD_ROWS = 10, 512, 64
GOAL = 0.8


def build(folder: Path, clips: int) -> tuple[Store, Manifest]:
    """A store of random features, a manifest that names them, and the same values as one file."""
    rng = np.random.default_rng(0)
    rows = tuple(
        ManifestRow(f"clip{n:06d}", 0.0, 10.0, "train", (), video=f"{n % 64}/{n:06d}.mp4")
        for n in range(clips)
    )
    for row in rows:
        path = folder / row.video
        path.parent.mkdir(exist_ok=True)
        path.write_text(row.id)
    manifest = Manifest(Header("bench", "none", ()), rows, folder / "m.jsonl")
    store = Store(folder / "store")
    spec = FeatureSpec("bench", {"version": 1})
    keys = [
        RowKey(source.media[0], row.start, row.end)
        for row, source in zip(rows, store.sources.resolve(manifest, rows), strict=True)
    ]
    with open(folder / "plain.bin", "wb") as plain:
        for first in range(0, clips, SHARD_ROWS):
            x = rng.normal(size=(len(keys[first : first + SHARD_ROWS]), STEPS, WIDTH))
            x = x.astype(np.float32)
            plain.write(x.tobytes())
            part = [
                Row(key, values, np.arange(STEPS) + 0.5)
                for key, values in zip(keys[first : first + SHARD_ROWS], x, strict=True)
            ]
            store.commit(spec, Shard.pack(part, shape=(WIDTH,)))
    return store, manifest


def measure(candidates: dict[str, Callable[[], np.ndarray]], repeats: int) -> dict[str, float]:
    """Median seconds of each candidate, by turns."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(repeats + 1):
        for name, read in candidates.items():
            begin = time.perf_counter()
            read()
            if turn:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the ratios; returns 0."""
    parser = Parser(description="Store read against the same bytes with numpy.")
    parser.add_argument("--clips", type=int, default=4096, help="clips of 10 x 512 float32")
    parser.add_argument("--repeats", type=int, default=9, help="alternating repeats")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        store, manifest = build(Path(name), options.clips)
        plain = Path(name) / "plain.bin"
        info = store.find("bench")

        def by_numpy() -> np.ndarray:
            return np.fromfile(plain, dtype=np.float32).reshape(-1, STEPS, WIDTH)

        def by_store() -> np.ndarray:
            return store.read(info, manifest, manifest.rows).stacked()

        def from_nothing() -> np.ndarray:
            fresh = Store(store.path)
            return fresh.read(fresh.find("bench"), manifest, manifest.rows).stacked()

        index = store.index(info.folder.name)
        media = [source.media for source in store.sources.resolve(manifest, manifest.rows)]
        places = [
            index.find(m, row.start, row.end) for m, row in zip(media, manifest.rows, strict=True)
        ]
        ids = [row.id for row in manifest.rows]

        def shards_alone() -> np.ndarray:
            return read_rows(index, ids, places, name="bench").stacked()

        if not np.array_equal(by_numpy(), by_store()):
            raise ValueError("the store and the plain file hold different values")
        seconds = measure(
            {
                "numpy": by_numpy,
                "store": by_store,
                "shards alone": shards_alone,
                "first read": from_nothing,
            },
            options.repeats,
        )
    size = plain_size(options.clips)
    for label, value in seconds.items():
        ratio = seconds["numpy"] / value
        print(f"{label:<18} {value * 1e3:8.1f} ms  {size / value / 1e9:6.2f} GB/s  {ratio:5.2f}")
    ratio = seconds["numpy"] / seconds["store"]
    print(f"ratio {ratio:.2f}, goal {GOAL}: {'reached' if ratio >= GOAL else 'missed'}")
    return 0


def plain_size(clips: int) -> int:
    """Bytes of the values."""
    return clips * STEPS * WIDTH * np.dtype(np.float32).itemsize


if __name__ == "__main__":
    run(main)
