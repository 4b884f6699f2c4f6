"""The demo corpus with its features."""

from __future__ import annotations

from features.demo import DEMO_FEATURES, ensure_demo
from features.store import Store
from pipeline.manifest import read_manifest


def test_corpus_and_features_are_made_once(tmp_path, capsys):
    places = tmp_path / "data", tmp_path / "store"
    sizes = {"train": 3, "val": 1, "test": 2}
    path, folder = ensure_demo(*places, **sizes, workers=1, show=False)
    manifest = read_manifest(path)
    store = Store(folder)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.suffix in (".mp4", ".h5")}
    assert len(files) == 6 + len(DEMO_FEATURES)
    for name in DEMO_FEATURES.values():
        table = store.read(store.find(name), manifest, manifest.rows)
        assert table.stacked().shape[:2] == (6, 10)
    assert ensure_demo(*places, **sizes, workers=1, show=False) == (path, folder)
    assert {p: p.stat().st_mtime_ns for p in files} == files
    assert capsys.readouterr().err == ""
