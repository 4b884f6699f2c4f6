"""Small parsing corpora on disk for tests: a manifest, dense annotations, and a feature store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from features.spec import FeatureSpec
from features.store import Row as StoredRow
from features.store import RowKey, Shard, Store
from pipeline.manifest import DenseEvent, Header, Manifest, Row, write_dense, write_manifest
from tests.parsing import make_events, make_inputs

ROLES = {"audio": "sound", "visual": "sight"}


def dense_events(ids: list[str], events: np.ndarray, classes: tuple[str, ...]) -> list[DenseEvent]:
    """Annotation rows of (N, T, 2, C) bool events."""
    rows = []
    for n, row_id in enumerate(ids):
        for m, modality in enumerate(("audio", "visual")):
            for c, label in enumerate(classes):
                padded = np.concatenate([[False], events[n, :, m, c], [False]])
                edges = np.flatnonzero(padded[1:] != padded[:-1])
                rows += [
                    DenseEvent(row_id, modality, float(a), float(b), label)
                    for a, b in zip(edges[::2], edges[1::2], strict=True)
                ]
    return rows


def commit(store: Store, name: str, manifest: Manifest, x: np.ndarray, failed: set[str]) -> None:
    """Puts (N, T, D) features of all rows of a manifest into a store as one shard."""
    sources = store.sources.resolve(manifest, manifest.rows)
    t = np.arange(x.shape[1]) + 0.5
    rows = []
    for n, (row, source) in enumerate(zip(manifest.rows, sources, strict=True)):
        key = RowKey(source.media[0], row.start, row.end)
        if row.id in failed:
            rows.append(StoredRow(key, status="decode_error", reason="made to fail"))
        else:
            rows.append(StoredRow(key, x[n], t))
    shard = Shard.pack(rows, shape=x.shape[2:])
    store.commit(FeatureSpec(name, {"made": name, "grid": {"hop": 1.0}}), shard)


def write_corpus(
    folder: Path,
    *,
    sizes: tuple[int, int, int] = (32, 12, 12),
    classes: int = 5,
    failed: tuple[str, ...] = (),
    annotated: bool = True,
) -> tuple[Path, Path]:
    """Writes a corpus whose features carry signal.

    Returns:
        The manifest and the store.
    """
    names = tuple(f"class {c}" for c in range(classes))
    rows: list[Row] = []
    events = []
    for seed, (split, size) in enumerate(zip(("train", "val", "test"), sizes, strict=True)):
        made = make_events(size, classes, seed)
        events.append(made)
        for n in range(size):
            labels = tuple(names[c] for c in np.flatnonzero(made[n].any((0, 1))))
            rows.append(Row(id=f"{split}{n}", start=0, end=10, split=split, labels=labels))
    stacked = np.concatenate(events)
    ids = [row.id for row in rows]
    folder.mkdir(parents=True, exist_ok=True)
    annotations = None
    if annotated:
        first = sizes[0]
        dense = dense_events(ids[first:], stacked[first:], names)
        annotations = write_dense(dense, folder / "made.dense.tsv")
    header = Header("made", "multilabel", names, annotations=annotations)
    manifest = write_manifest(Manifest(header, tuple(rows)), folder / "made.jsonl")
    truth = [
        {
            "id": row.id,
            **{
                f"labels_{m}": [names[c] for c in np.flatnonzero(stacked[n, :, k].any(0))]
                for k, m in enumerate(("audio", "visual"))
            },
        }
        for n, row in enumerate(rows[: sizes[0]])
    ]
    lines = "".join(json.dumps(entry) + "\n" for entry in truth)
    (folder / "made.truth.jsonl").write_text(lines)
    store = Store(folder / "store")
    inputs = make_inputs(stacked, seed=7)
    for name, x in (("sound", inputs.audio), ("sight", inputs.visual), ("moves", inputs.motion)):
        commit(store, name, manifest, x.numpy(), set(failed) if name == "sight" else set())
    return folder / "made.jsonl", folder / "store"
