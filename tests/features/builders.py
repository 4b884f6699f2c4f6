"""Small stores and manifests for the tests of features."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from features.spec import FeatureSpec
from features.store import Row, RowKey, Shard, Store
from pipeline.manifest import Header, Manifest
from pipeline.manifest import Row as ManifestRow

SPEC = FeatureSpec("colour", {"feature": {"bins": 4}, "grid": {"hop": 1.0}})
STEPS, WIDTH = 10, 4


def text_manifest(folder: Path, count: int, dataset: str = "toy") -> Manifest:
    """A manifest whose videos are files of a few bytes: stores never look into them."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    rows = []
    for n in range(count):
        video = f"videos/{n:03d}.mp4"
        (folder / video).write_text(f"{dataset} {n}")
        rows.append(ManifestRow(f"clip{n:03d}", 0.0, 10.0, "train", (), video=video))
    return Manifest(Header(dataset, "none", ()), tuple(rows), folder / "m.jsonl")


def values(n: int) -> np.ndarray:
    """The values of clip n, (10, 4) float32."""
    return np.random.default_rng(n).normal(size=(STEPS, WIDTH)).astype(np.float32)


def fill(
    store: Store, manifest: Manifest, *, shard_rows: int = 4, failed: Iterable[int] = ()
) -> None:
    """Commits `values` of every row, or a failure."""
    sources = store.sources.resolve(manifest, manifest.rows)
    rows = []
    for n, (row, source) in enumerate(zip(manifest.rows, sources, strict=True)):
        key = RowKey(source.media[0], row.start, row.end)
        if n in failed:
            rows.append(Row(key, status="no_audio", reason="the file has no sound"))
        else:
            rows.append(Row(key, values(n), np.arange(STEPS) + 0.5))
    for start in range(0, len(rows), shard_rows):
        store.commit(SPEC, Shard.pack(rows[start : start + shard_rows], shape=(WIDTH,)))


def film_manifest(folder: Path, *names: str, end: float = 3.0) -> Manifest:
    """A manifest of the first seconds of ``folder``'s films."""
    rows = tuple(
        ManifestRow(Path(name).stem, 0.0, end, "train", (), video=f"{name}.mp4") for name in names
    )
    header = Header("films", "none", (), media_root=str(folder))
    return Manifest(header, rows, folder / "m.jsonl")
