"""Features as .npy files: LLP's official layout, any other, and names that lead nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.__main__ import main
from features.export import export_features
from features.spec import FeatureSpec
from features.store import Row, RowKey, Shard, Store
from pipeline.errors import UserError
from pipeline.manifest import Header, Manifest, write_manifest
from pipeline.manifest import Row as ManifestRow
from tests.features.builders import fill, text_manifest, values

IDS = ("4YdbENYcIyE_23_33", "-_BjCEufrl4_0_10")
LLP = {"vggish": (10, 128), "resnet152.frames": (80, 2048), "r2plus1d_18": (10, 512)}


def llp_manifest(folder: Path, ids: tuple[str, ...] = IDS) -> Manifest:
    folder.mkdir(exist_ok=True)
    rows = []
    for n, name in enumerate(ids):
        (folder / f"{n}.mp4").write_text(f"film {n}")
        rows.append(ManifestRow(name, float(n), n + 10.0, "test", (), video=f"{n}.mp4"))
    manifest = Manifest(Header("llp", "none", ()), tuple(rows), folder / "m.jsonl")
    write_manifest(manifest, manifest.path)
    return manifest


def fill_llp(store: Store, manifest: Manifest, *, dtype: str = "float32", steps: int | None = None):
    rng = np.random.default_rng(0)
    sources = store.sources.resolve(manifest, manifest.rows)
    for name, shape in LLP.items():
        rows = []
        for row, source in zip(manifest.rows, sources, strict=True):
            x = rng.normal(size=(steps or shape[0], shape[1])).astype(dtype)
            key = RowKey(source.media[0], row.start, row.end)
            rows.append(Row(key, x, np.arange(len(x)) + 0.5))
        spec = FeatureSpec(name, {"of": name})
        store.commit(spec, Shard.pack(rows, shape=shape[1:], dtype=dtype))


@pytest.fixture
def llp(tmp_path: Path) -> tuple[Store, Manifest]:
    manifest, store = llp_manifest(tmp_path / "data"), Store(tmp_path / "store")
    fill_llp(store, manifest)
    return store, manifest


class TestLlp:
    def test_official_names_shapes_and_types(self, llp, tmp_path, capsys):
        store, manifest = llp
        out = tmp_path / "out"
        command = ["export", str(store.path), "--manifest", str(manifest.path), "--features", *LLP]
        assert main([*command, "--out", str(out), "--layout", "llp"]) == 0
        assert "6 files" in capsys.readouterr().out
        assert {str(p.relative_to(out)) for p in out.rglob("*.npy")} == {
            f"{folder}/{name}.npy"
            for folder in ("vggish", "res152", "r2plus1d_18")
            for name in ("4YdbENYcIyE", "-_BjCEufrl4")
        }
        for feature, folder in zip(LLP, ("vggish", "res152", "r2plus1d_18"), strict=True):
            table = store.read(store.find(feature), manifest, manifest.rows)
            for n, name in enumerate(("4YdbENYcIyE", "-_BjCEufrl4")):
                x = np.load(out / folder / f"{name}.npy", allow_pickle=False)
                assert (x.shape, x.dtype) == (LLP[feature], np.float32)
                np.testing.assert_array_equal(x, table.row(n))
        assert not list(out.rglob("*.tmp"))

    def test_half_precision_is_widened(self, tmp_path):
        manifest, store = llp_manifest(tmp_path / "data"), Store(tmp_path / "store")
        fill_llp(store, manifest, dtype="float16")
        export_features(store, manifest, [store.find("vggish")], tmp_path / "o", layout="llp")
        assert np.load(tmp_path / "o/vggish/4YdbENYcIyE.npy").dtype == np.float32

    def test_clip_of_another_length_is_listed(self, tmp_path, capsys):
        manifest, store = llp_manifest(tmp_path / "data"), Store(tmp_path / "store")
        fill_llp(store, manifest, steps=9)
        command = ["export", str(store.path), "--manifest", str(manifest.path), "--layout", "llp"]
        assert main([*command, "--features", "vggish", "--out", str(tmp_path / "o")]) == 2
        printed = capsys.readouterr().out
        assert f"{IDS[0]}: no vggish, has the shape (9, 128), LLP's files have (10, 128)" in printed
        assert "0 files" in printed

    def test_two_rows_of_one_video(self, tmp_path):
        ids = ("4YdbENYcIyE_0_10", "4YdbENYcIyE_23_33")
        manifest, store = llp_manifest(tmp_path / "data", ids), Store(tmp_path / "store")
        fill_llp(store, manifest)
        with pytest.raises(UserError, match=f"{ids[0]}.*{ids[1]}.*one video"):
            export_features(store, manifest, [store.find("vggish")], tmp_path / "o", layout="llp")
        assert not (tmp_path / "o").exists()

    def test_what_has_no_place_in_the_layout(self, llp, tmp_path):
        store = llp[0]
        toy = text_manifest(tmp_path / "toy", 2)
        fill(store, toy)
        with pytest.raises(UserError, match="no folder for colour; it takes vggish"):
            export_features(store, toy, [store.find("colour")], tmp_path / "o", layout="llp")
        with pytest.raises(UserError, match=r"'clip000' is not named <11 characters>"):
            export_features(store, toy, [store.find("vggish")], tmp_path / "o", layout="llp")


class TestAny:
    def test_failed_rows_are_listed(self, tmp_path, capsys):
        manifest, store = text_manifest(tmp_path / "data", 5), Store(tmp_path / "store")
        write_manifest(manifest, manifest.path)
        fill(store, manifest, failed=[3])
        command = ["export", str(store.path), "--manifest", str(manifest.path)]
        out = tmp_path / "out"
        assert main([*command, "--features", "colour", "--out", str(out)]) == 2
        printed = capsys.readouterr().out
        assert "clip003: no colour, no_audio: the file has no sound" in printed
        assert "4 files" in printed
        np.testing.assert_array_equal(np.load(out / "colour/clip002.npy"), values(2))
        assert not (out / "colour/clip003.npy").exists()

    def test_rows_never_extracted_stop_it_before_it_begins(self, tmp_path):
        manifest, store = text_manifest(tmp_path / "data", 5), Store(tmp_path / "store")
        fill(store, manifest.with_rows(manifest.rows[:4]))
        with pytest.raises(UserError, match=r"1 of 1 rows have no colour .*flows\.extract"):
            export_features(store, manifest, [store.find("colour")], tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        "name", ["../out", "a/../../b", "/etc/x", "..", "a//b", "c:\\x", "a\0b", "x" * 300]
    )
    def test_ids_that_lead_out_of_the_folder(self, tmp_path, name):
        manifest, store = text_manifest(tmp_path / "data", 1), Store(tmp_path / "store")
        fill(store, manifest)
        odd = manifest.with_rows([replace(manifest.rows[0], id=name, audio_id=name)])
        with pytest.raises(UserError, match="makes no file name"):
            export_features(store, odd, [store.find("colour")], tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_folders_in_ids_become_folders(self, tmp_path):
        manifest, store = text_manifest(tmp_path / "data", 1), Store(tmp_path / "store")
        fill(store, manifest)
        deep = manifest.with_rows([replace(manifest.rows[0], id="train/é 1", audio_id="train/é 1")])
        export_features(store, deep, [store.find("colour")], tmp_path / "out")
        np.testing.assert_array_equal(np.load(tmp_path / "out/colour/train/é 1.npy"), values(0))

    def test_link_that_leaves_the_folder(self, tmp_path):
        manifest, store = text_manifest(tmp_path / "data", 1), Store(tmp_path / "store")
        fill(store, manifest)
        (tmp_path / "out").mkdir()
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "out" / "colour").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UserError, match="is a link that leaves"):
            export_features(store, manifest, [store.find("colour")], tmp_path / "out")
        assert not list((tmp_path / "elsewhere").iterdir())

    def test_two_specs_of_one_name_and_unknown_layouts(self, tmp_path):
        manifest, store = text_manifest(tmp_path / "data", 1), Store(tmp_path / "store")
        fill(store, manifest)
        info = store.find("colour")
        with pytest.raises(UserError, match="one name"):
            export_features(store, manifest, [info, replace(info, id="0" * 12)], tmp_path / "out")
        with pytest.raises(UserError, match="no layout 'mat'"):
            export_features(store, manifest, [info], tmp_path / "out", layout="mat")
