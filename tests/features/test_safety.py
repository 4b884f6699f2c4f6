"""A store, a manifest or a shard of a stranger's: nothing leaves the store, nothing is run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from features.__main__ import main
from features.extraction import plan, run_plan
from features.sources import Sources
from features.store import Store
from features.store.layout import ShardRecord, read_shard
from pipeline.errors import UserError
from pipeline.files import append_lines, file_digest
from pipeline.manifest import Header, Manifest, Row
from tests.features.builders import SPEC, fill, text_manifest, values

OTHER = "0123456789abcdef"


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Store, Manifest]:
    manifest = text_manifest(tmp_path / "data", 4)
    store = Store(tmp_path / "store")
    fill(store, manifest)
    return store, manifest


def change_record(store: Store, **changes: object) -> Path:
    (path,) = [p for p in (store.path / SPEC.folder).glob("*.json") if p.stem != "spec"]
    record = json.loads(path.read_bytes())
    record.pop("digest", None)
    for key, value in changes.items():
        record[key] = value
    path.write_text(json.dumps(record))
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"shard": "../../outside"},
        {"shard": "/etc/passwd"},
        {"shard": OTHER},
        {"shard": "..%2f"},
        {"shard": None},
        {"dtype": "|O"},
        {"dtype": "<U8"},
        {"dtype": [["x", "<f4"]]},
        {"shape": [-4]},
        {"shape": [2**70]},
        {"shape": [True]},
        {"shape": 4},
        {"places": {"x": -8, "t": 0}},
        {"places": {"x": 2**62, "t": 0}},
        {"places": {}},
        {"lengths": [10, 10, 10, 10**15]},
        {"lengths": [10, 10, 10, -1]},
        {"lengths": [10]},
        {"failures": {"-1": ["no_audio", "x"]}},
        {"failures": {"99": ["no_audio", "x"]}},
        {"failures": {"0": ["no_audio", "x"]}},
        {"keys": [["a", 0.0]] * 4},
        {"keys": [["a", "b", "c"]] * 4},
        {"keys": [[None, 0.0, 10.0]] * 4},
        {"schema": 2},
    ],
    ids=str,
)
def test_a_record_that_could_not_have_been_committed_does_not_count(filled, tmp_path, changes):
    store, _ = filled
    outside = tmp_path / "outside.h5"
    (shard,) = store.path.glob("*/*.h5")
    shutil.copy(shard, outside)
    path = change_record(store, **changes)
    if changes != {"shard": OTHER}:
        # That one could be another file's, and does not count for standing in this one.
        with pytest.raises(ValueError):
            ShardRecord.read(path)
    opened = Store(store.path)
    assert opened.features() == []
    assert len(opened.verify()) == 1
    assert outside.exists()


@pytest.mark.parametrize("shard", ["../../outside", "/etc/hostname", OTHER])
def test_the_index_is_believed_only_where_the_folder_agrees(filled, tmp_path, shard):
    store, manifest = filled
    info = store.find("colour")
    cache = info.folder / "index.jsonl"
    line = json.loads(cache.read_bytes())
    (path,) = store.path.glob("*/*.h5")
    shutil.copy(path, tmp_path / "outside.h5")
    cache.write_text(json.dumps(line | {"shard": shard}) + "\n")
    opened = Store(store.path)
    table = opened.read(opened.find("colour"), manifest, manifest.rows)
    np.testing.assert_array_equal(table.stacked()[2], values(2))
    assert [record.shard for record in opened.index(SPEC.folder).records] == [path.stem]


def test_appending_follows_no_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("as it was\n")
    for name in ("index.jsonl", "sources.jsonl"):
        (tmp_path / name).symlink_to(victim)
        with pytest.raises(OSError, match="symbolic links"):
            append_lines(tmp_path / name, ["{}"])
    store = tmp_path / "store"
    store.mkdir()
    (store / "sources.jsonl").symlink_to(victim)
    manifest = text_manifest(tmp_path / "data", 3)
    opened = Store(store)
    fill(opened, manifest)
    (store / SPEC.folder / "index.jsonl").symlink_to(victim)
    again = Store(store)
    assert len(again.read(again.find("colour"), manifest, manifest.rows)) == 3
    assert victim.read_text() == "as it was\n"


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "a/b", "..", "colour\0"])
def test_the_name_in_a_spec_leads_nowhere(filled, tmp_path, name):
    store, _ = filled
    path = store.path / SPEC.folder / "spec.json"
    spec = json.loads(path.read_bytes())
    spec.pop("digest", None)
    path.write_text(json.dumps(spec | {"name": name}))
    with pytest.raises(UserError, match=r"spec\.json"):
        Store(store.path).features()
    assert Store(store.path).verify()
    assert {p.name for p in tmp_path.iterdir()} == {"data", "store"}


@pytest.mark.parametrize("kind", ["link", "external", "virtual"])
def test_a_shard_shows_no_other_files_bytes(filled, tmp_path, kind):
    store, _ = filled
    (path,) = store.path.glob("*/*.h5")
    shape, dtype = read_shard(path)[0].x.shape, "<f4"
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.ones(shape, dtype)
    with h5py.File(path, "r+") as file:
        del file["x"]
        if kind == "link":
            file["x"] = h5py.ExternalLink(str(secret), "x")
        elif kind == "external":
            size = int(np.prod(shape)) * 4
            file.create_dataset("x", shape, dtype, external=[(str(secret), 0, size)])
        else:
            layout = h5py.VirtualLayout(shape, dtype)
            layout[...] = h5py.VirtualSource(str(secret), "x", shape)
            file.create_virtual_dataset("x", layout)
    with pytest.raises(ValueError, match="from elsewhere"):
        read_shard(path)
    change_record(store, size=path.stat().st_size, sha256=file_digest(path))
    (damage,) = Store(store.path).verify()
    assert "from elsewhere" in damage.problem


def test_nothing_in_a_manifest_becomes_a_path_of_the_store(tmp_path, videos):
    names = ["../../escape", "/escape", "a/b/c", "..", "con\n"]
    rows = [
        Row(name, 0.0, 3.0, "train", (), video=str(videos / f"{n % 4}.mp4"), group=name)
        for n, name in enumerate(names)
    ]
    rows = [row if n < 4 else Row("last", 0.0, 1.0, "train", ()) for n, row in enumerate(rows)]
    manifest = Manifest(Header("../../data", "none", ()), tuple(rows), tmp_path / "m.jsonl")
    store = tmp_path / "inner" / "store"
    run_plan(plan(manifest, store, ["frame_stats"], shard_rows=2))
    assert {p.name for p in tmp_path.iterdir()} == {"inner"}
    assert {p.name for p in (tmp_path / "inner").iterdir()} == {"store"}
    folders = {p.name for p in store.iterdir() if p.is_dir()}
    assert len(folders) == 1


def test_lines_of_sources_that_make_no_sense_are_passed_over(tmp_path):
    manifest = text_manifest(tmp_path / "data", 1)
    store = tmp_path / "store"
    (right,) = Sources(store).resolve(manifest, manifest.rows)
    line = json.loads((store / "sources.jsonl").read_text())
    broken = [
        "",
        "[]",
        "null",
        "{}",
        json.dumps(line | {"sha256": "zz" * 32}),
        json.dumps(line | {"sha256": "aa"}),
        json.dumps(line | {"size": 2**70}),
        json.dumps(line | {"mtime_ns": None}),
        json.dumps(line | {"path": 5}),
        json.dumps(line | {"video": "another.mp4"}),
        json.dumps(line | {"dataset": []}),
        "\x00\x01",
    ]
    with open(store / "sources.jsonl", "a") as file:
        file.write("".join(f"{text}\n" for text in broken))
    assert Sources(store).resolve(manifest, manifest.rows) == [right]


def test_commands_stay_inside(filled, tmp_path, capsys):
    store, _ = filled
    assert main(["ls", str(store.path)]) == 0
    before = {p: p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file()}
    change_record(store, shard="../../data/videos/000")
    assert main(["verify", str(store.path)]) == 2
    assert {p: p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file()} == before
