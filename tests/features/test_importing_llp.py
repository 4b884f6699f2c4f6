"""LLP's official feature folders: names, grids, values, and training on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from features.__main__ import main
from features.backbones.interface import BACKBONES
from features.importing import import_llp
from features.store import Store
from pipeline.errors import UserError
from pipeline.grid import join_steps
from pipeline.manifest import Manifest, Row
from tests.features.given import LLP_SHAPES, llp_array, llp_manifest, write_llp
from trainers.avvp.__main__ import main as train

FEATURES = {"vggish": (10, 128), "resnet152": (10, 2048), "r2plus1d_18": (10, 512)}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """The whole sample in the official layout; no test may change it."""
    folder = tmp_path_factory.mktemp("llp")
    manifest = llp_manifest(folder)
    write_llp(folder / "feats", manifest)
    return folder / "feats", manifest


@pytest.fixture(scope="module")
def imported(given: tuple[Path, Manifest]) -> Store:
    folder, manifest = given
    store = Store(folder.parent / "store")
    assert import_llp(folder, manifest, store, shard_rows=5).failed == 0
    return store


def test_values_are_those_of_the_files(given: tuple[Path, Manifest], imported: Store) -> None:
    _, manifest = given
    assert {info.name for info in imported.features()} == {*FEATURES, "resnet152.frames"}
    assert {row.id[0] for row in manifest} >= {"-", "_"}
    for name, folder in (
        ("vggish", "vggish"), ("resnet152.frames", "res152"), ("r2plus1d_18", "r2plus1d_18"),
    ):  # fmt: skip
        table = imported.read(imported.find(name), manifest, manifest.rows)
        expected = np.stack([llp_array(folder, row.id) for row in manifest])
        np.testing.assert_array_equal(table.stacked(), expected)
    assert imported.verify() == []


def test_resnet152_is_the_mean_that_extraction_takes(
    given: tuple[Path, Manifest], imported: Store
) -> None:
    _, manifest = given
    table = imported.read(imported.find("resnet152"), manifest, manifest.rows)
    frames = imported.read(imported.find("resnet152.frames"), manifest, manifest.rows)
    derive = BACKBONES.get("resnet152")().derive
    for n in range(len(manifest)):
        exact = frames.row(n).reshape(10, 8, 2048).astype(np.float64).mean(axis=1)
        np.testing.assert_array_equal(table.row(n), exact.astype(np.float32))
        np.testing.assert_array_equal(table.row(n), derive(frames.row(n)))


def test_grids_are_those_of_extraction(given: tuple[Path, Manifest], imported: Store) -> None:
    _, manifest = given
    row = manifest.rows[0]
    times = {}
    for name in (*FEATURES, "resnet152.frames"):
        info = imported.find(name)
        backbone = BACKBONES.get(name)()
        assert info.values["grid"] == backbone.grid.describe()
        assert info.shape == backbone.shape
        times[name] = imported.read(info, manifest, [row]).t
        np.testing.assert_allclose(times[name], backbone.times(row.start, row.end), atol=1e-9)
    grid = imported.find("vggish").values["grid"]
    assert (grid["window"], grid["hop"], grid["origin"]) == (0.96, 1.0, 0.0)
    np.testing.assert_allclose(times["vggish"], np.arange(10) + 0.48)
    np.testing.assert_array_equal(times["resnet152"], np.arange(10) + 0.5)
    np.testing.assert_array_equal(times["resnet152.frames"], (np.arange(80) + 0.5) / 8)
    joined = join_steps(times["vggish"], times["resnet152"], hop=1.0)
    np.testing.assert_array_equal(joined, np.arange(10))


def test_a_part_of_the_folders_is_enough(tmp_path: Path) -> None:
    manifest = llp_manifest(tmp_path)
    store = Store(tmp_path / "store")
    write_llp(tmp_path / "feats", manifest, "r2plus1d_18")
    import_llp(tmp_path / "feats", manifest, store)
    assert [info.name for info in store.features()] == ["r2plus1d_18"]
    write_llp(tmp_path / "feats", manifest, "vggish")
    report = import_llp(tmp_path / "feats", manifest, store)
    assert report.imported == len(manifest)
    assert [info.name for info in store.features()] == ["r2plus1d_18", "vggish"]


def test_bad_files_fail_in_both_features_of_their_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = llp_manifest(tmp_path)
    folder = write_llp(tmp_path / "feats", manifest, "res152")
    ids = [row.id for row in manifest]
    (folder / "res152" / f"{ids[0][:11]}.npy").unlink()
    np.save(folder / "res152" / f"{ids[1][:11]}.npy", llp_array("res152", ids[1])[:72])
    np.save(folder / "res152" / f"{ids[2][:11]}.npy", np.zeros((80, 512), dtype=np.float32))
    np.save(folder / "res152" / "notInTables.npy", llp_array("res152", "notInTables"))
    command = ["import-llp", str(folder), "--manifest", str(manifest.path), "--store"]
    assert main([*command, str(tmp_path / "store")]) == 2
    out = capsys.readouterr().out
    assert "res152: 1 names belong to no manifest row, such as 'notInTables'" in out
    store = Store(tmp_path / "store")
    for name in ("resnet152", "resnet152.frames"):
        table = store.read(store.find(name), manifest, manifest.rows)
        assert table.status[:4].tolist() == ["missing", "too_short", "decode_error", "ok"]
        assert table.reason[1] == "72 steps where the clip has 80 (one every 0.125 s)"
        assert f"\n{name} " in out
    assert main([*command, str(tmp_path / "store")]) == 2
    count = f"nothing imported: {len(manifest)} rows of 2 features are there"
    assert count in capsys.readouterr().out


def test_a_lost_derived_shard_is_made_again(tmp_path: Path) -> None:
    manifest = llp_manifest(tmp_path)
    store = Store(tmp_path / "store")
    folder = write_llp(tmp_path / "feats", manifest, "res152")
    import_llp(folder, manifest, store, shard_rows=5)
    (shard, *_) = sorted(store.find("resnet152").folder.glob("*.h5"))
    before = shard.read_bytes()
    shard.unlink()
    report = import_llp(folder, manifest, store, shard_rows=5)
    assert report.imported == 5
    assert report.statuses["resnet152.frames"] == {("ok", ""): len(manifest)}
    assert shard.read_bytes() == before


def test_float16_folders_work(tmp_path: Path) -> None:
    manifest = llp_manifest(tmp_path)
    folder = tmp_path / "feats" / "res152"
    folder.mkdir(parents=True)
    for row in manifest:
        np.save(folder / f"{row.id[:11]}.npy", llp_array("res152", row.id).astype(np.float16))
    store = Store(tmp_path / "store")
    import_llp(tmp_path / "feats", manifest, store)
    dtypes = {info.name: info.dtype for info in store.features()}
    assert dtypes == {"resnet152.frames": "float16", "resnet152": "float32"}
    table = store.read(store.find("resnet152"), manifest, manifest.rows[:1])
    half = llp_array("res152", manifest.rows[0].id).astype(np.float16)
    exact = half.reshape(10, 8, 2048).astype(np.float64).mean(axis=1)
    np.testing.assert_array_equal(table.row(0), exact.astype(np.float32))


def test_wrong_folders(tmp_path: Path, given: tuple[Path, Manifest]) -> None:
    folder, manifest = given
    store = Store(tmp_path / "store")
    with pytest.raises(UserError, match="none of the folders vggish, res152, r2plus1d_18"):
        import_llp(folder / "vggish", manifest, store)
    (tmp_path / "vggish").symlink_to(folder / "res152")
    with pytest.raises(UserError, match=r"steps of shape \(128,\), the first has \(2048,\)"):
        import_llp(tmp_path, manifest, store)
    (tmp_path / "empty" / "vggish").mkdir(parents=True)
    with pytest.raises(UserError, match="is empty"):
        import_llp(tmp_path / "empty", manifest, store)
    rows = (Row("somethingElse", 0.0, 10.0, "train", ("Speech",)),)
    with pytest.raises(UserError, match=r"row ids such as 'somethingElse'"):
        import_llp(folder, manifest.with_rows(rows), store)


def test_han_trains_on_imported_features(
    given: tuple[Path, Manifest], imported: Store, tmp_path: Path
) -> None:
    _, manifest = given
    options = ["--width", "16", "--ff", "16", "--batch-size", "2", "--epochs", "2"]
    common = ["--manifest", str(manifest.path), "--store", str(imported.path), "--threads", "1"]
    # The default features are those that the official folders hold.
    assert train(["--method", "han", *common, "--runs", str(tmp_path), *options]) == 0
    (results,) = [json.loads(path.read_text()) for path in tmp_path.rglob("results.json")]
    roles = {"audio": "vggish", "visual": "resnet152", "motion": "r2plus1d_18"}
    assert results["features"] == {role: imported.find(n).label for role, n in roles.items()}
    assert results["updates"] == len(manifest.split("train"))
    assert results["dataset"] == "llp"
    assert all(value is not None for value in results["metrics"]["test"]["last"].values())


def test_exported_features_come_back_to_the_bit(
    given: tuple[Path, Manifest], imported: Store, tmp_path: Path
) -> None:
    folder, manifest = given
    options = ["--manifest", str(manifest.path)]
    names = ["vggish", "resnet152.frames", "r2plus1d_18"]
    export = ["export", str(imported.path), "--layout", "llp", "--out", str(tmp_path / "out")]
    assert main([*export, *options, "--features", *names]) == 0
    for row in manifest:
        for name in LLP_SHAPES:
            place = f"{name}/{row.id[:11]}.npy"
            assert (tmp_path / "out" / place).read_bytes() == (folder / place).read_bytes()
    store = Store(tmp_path / "store")
    assert main(["import-llp", str(tmp_path / "out"), *options, "--store", str(store.path)]) == 0
    for info in imported.features():
        # The same content makes the same feature, whatever folder it came from.
        assert store.find(info.name).id == info.id
        before, after = (s.read(info, manifest, manifest.rows) for s in (imported, store))
        np.testing.assert_array_equal(after.stacked(), before.stacked())
        np.testing.assert_array_equal(after.t, before.t)


def test_rows_never_imported_name_the_command(
    given: tuple[Path, Manifest], imported: Store
) -> None:
    _, manifest = given
    rows = (*manifest.rows, Row("nEwClipHere_0_10", 0.0, 10.0, "train", ("Speech",)))
    with pytest.raises(UserError, match=r"python -m features import-llp FOLDER --manifest"):
        imported.read(imported.find("vggish"), manifest.with_rows(rows), rows)


def test_every_clip_of_llp_has_its_file(shared: Path, tmp_path: Path) -> None:
    """All 11,849 names of the real tables, small arrays in place of the features."""
    from features.importing.matching import match_rows
    from pipeline.manifest.llp import import_llp as import_tables

    manifest = import_tables(shared / "llp", tmp_path / "llp.jsonl").manifest
    ids = [row.id[:11] for row in manifest]
    matches = match_rows(manifest, [*ids, "notInTables"], what="the folder")
    assert matches.names == {row.id: row.id[:11] for row in manifest}
    assert len(set(matches.names.values())) == 11849
    assert matches.strangers == ("notInTables",)
    # Without videos in the manifest the ids alone have to do.
    bare = manifest.with_rows(
        Row(row.id, row.start, row.end, row.split, row.labels) for row in manifest
    )
    assert match_rows(bare, ids, what="the folder").names == matches.names


def test_shapes_of_the_published_set_are_those_of_the_backbones() -> None:
    for folder, name in (("vggish", "vggish"), ("res152", "resnet152.frames")):
        backbone = BACKBONES.get(name)()
        steps = len(backbone.times(0.0, 10.0))
        assert (steps, *backbone.shape) == LLP_SHAPES[folder]
