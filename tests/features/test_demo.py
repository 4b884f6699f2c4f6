"""The demo corpus with its features."""

from __future__ import annotations

import pytest

from features.demo import DEMO_FEATURES, ensure_demo, ensure_demo_action
from features.store import Store
from pipeline.manifest import read_manifest


@pytest.mark.parametrize(
    ("ensure", "dataset", "sizes"),
    [
        (ensure_demo, "demo-avvp", {"train": 3, "val": 1, "test": 2}),
        (ensure_demo_action, "demo-action", {"train": 2, "val": 1, "test": 1, "pool": 2}),
    ],
)
def test_corpus_and_features_are_made_once(ensure, dataset, sizes, tmp_path, capsys):
    places = tmp_path / "data", tmp_path / "store"
    path, folder = ensure(*places, **sizes, workers=1, show=False)
    manifest = read_manifest(path)
    assert manifest.header.dataset == dataset
    assert {split: len(manifest.split(split)) for split in sizes} == sizes
    store = Store(folder)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.suffix in (".mp4", ".h5")}
    assert len(files) == 6 + len(DEMO_FEATURES)
    for name in DEMO_FEATURES.values():
        table = store.read(store.find(name), manifest, manifest.rows)
        assert table.stacked().shape[:2] == (6, 10)
    assert ensure(*places, **sizes, workers=1, show=False) == (path, folder)
    assert {p: p.stat().st_mtime_ns for p in files} == files
    assert capsys.readouterr().err == ""
