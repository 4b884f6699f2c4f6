"""Importing HDF5 arrays: orders of every kind, slices, and files that are not what they seem."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from features.__main__ import main
from features.importing import import_hdf5, make_grid
from features.importing.order import read_order
from features.store import Store
from pipeline.errors import UserError
from pipeline.grid import SegmentGrid
from tests.features.given import clips, steps

GRID = SegmentGrid()
IDS = ("-pyreSm_sQs", "RUhOCu3LNXM", "_QQP43H56TA", "MH3m4AwEcRY", "0giAfYq9oVM")
ANNOTATIONS = "".join(
    f"{category}&{clip}&good&{n}&10\n"
    for n, (category, clip) in enumerate(
        zip(["Church bell", "Bark", "Male speech, man speaking", "Rock & roll", "Bark"], IDS,
            strict=True)
    )
)  # fmt: skip
HEADER = "Category&VideoID&Quality&StartTime&EndTime\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def hdf5(path: Path, key: str = "avadataset", **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, x in arrays.items():
            file[key if name == "x" else name] = x
    return path


def index(path: Path, *numbers: int) -> Path:
    return hdf5(path, order=np.array(numbers, dtype=np.int64))


def listed(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def values(store: Store, manifest: object, name: str = "f") -> np.ndarray:
    return store.read(store.find(name), manifest, manifest.rows).stacked()


class TestOrders:
    @pytest.mark.parametrize("header", ["", HEADER])
    def test_annotations(self, tmp_path: Path, store: Store, header: str) -> None:
        x = steps(0, 5, 4, 3)
        path = hdf5(tmp_path / "x.h5", x=x)
        manifest = clips(tmp_path, *reversed(IDS))
        order = [listed(tmp_path / "Annotations.txt", header + ANNOTATIONS)]
        report = import_hdf5(path, manifest, store, order=order, name="f", grid=GRID)
        assert (report.failed, report.strangers) == (0, {"x.h5": ()})
        np.testing.assert_array_equal(values(store, manifest), x[::-1])

    def test_ids_a_line_and_the_only_array(self, tmp_path: Path, store: Store) -> None:
        x = steps(0, 5, 4, 3)
        path = hdf5(tmp_path / "x.h5", key="anything", x=x)
        manifest = clips(tmp_path, IDS[3], "unknown", video="videos/{}.mp4")
        order = [listed(tmp_path / "ids.txt", "\ufeff" + "\r\n".join(IDS))]
        report = import_hdf5(path, manifest, store, order=order, name="f", grid=GRID)
        assert report.statuses["f"] == {
            ("ok", ""): 1, ("missing", "the order names no such clip"): 1,
        }  # fmt: skip
        assert len(report.strangers["x.h5"]) == 4
        table = store.read(store.find("f"), manifest, manifest.rows)
        np.testing.assert_array_equal(table.row(0), x[3])

    def test_index_files_of_a_whole_file_pick_nothing_out(
        self, tmp_path: Path, store: Store
    ) -> None:
        x = steps(0, 5, 4, 3)
        path = hdf5(tmp_path / "x.h5", x=x)
        manifest = clips(tmp_path, *IDS)
        how = {"name": "f", "grid": GRID}
        annotations = listed(tmp_path / "Annotations.txt", ANNOTATIONS)
        for order in ([index(tmp_path / "train_order.h5", 4, 0)], [index(tmp_path / "o.h5", 1)]):
            import_hdf5(path, manifest, store, order=order, annotations=annotations, **how)
        # One feature, not one a split: what is in a row does not depend on the split asked for.
        np.testing.assert_array_equal(values(store, manifest), x)

    def test_index_files_of_a_split(self, tmp_path: Path, store: Store) -> None:
        x = steps(0, 3, 4, 3)
        path = hdf5(tmp_path / "x.h5", x=x)
        manifest = clips(tmp_path, IDS[4], IDS[0], IDS[2])
        order = [index(tmp_path / "train_order.h5", 4, 0), index(tmp_path / "val_order.h5", 2)]
        annotations = listed(tmp_path / "Annotations.txt", HEADER + ANNOTATIONS)
        import_hdf5(
            path, manifest, store, order=order, annotations=annotations, name="f", grid=GRID
        )
        np.testing.assert_array_equal(values(store, manifest), x)

    def test_a_clip_that_is_listed_twice_is_told(self, tmp_path: Path, store: Store) -> None:
        x = steps(0, 3, 4, 3)
        path = hdf5(tmp_path / "x.h5", x=x)
        manifest = clips(tmp_path, "a", "b")
        order = [listed(tmp_path / "ids.txt", "a\nb\na\n")]
        report = import_hdf5(path, manifest, store, order=order, name="f", grid=GRID)
        assert report.notes == ["1 rows of x.h5 repeat a clip; its first row counts"]
        np.testing.assert_array_equal(values(store, manifest), x[:2])

    def test_mistakes(self, tmp_path: Path) -> None:
        ids = listed(tmp_path / "ids.txt", "a\nb\n")
        one = index(tmp_path / "one_order.h5", 0)
        for order, table, rows, match in (
            ([ids], None, 3, "has 3 rows and .*ids.txt names 2"),
            ([ids, ids], None, 2, "takes one text file"),
            ([ids], ids, 2, "takes one text file"),
            ([one], None, 2, "with --annotations"),
            ([one, ids], ids, 2, "index files only"),
            ([one], ids, 3, "has 3 rows"),
            ([index(tmp_path / "far.h5", 2)], ids, 2, "picks line 2 of the 2"),
            ([hdf5(tmp_path / "f.h5", order=np.zeros(2))], ids, 2, "whole numbers"),
            ([hdf5(tmp_path / "e.h5")], ids, 2, "no data set 'order'"),
            ([tmp_path / "nowhere"], None, 2, "cannot be read"),
            ([listed(tmp_path / "gap.txt", "a\n\nb\n")], None, 2, "gap.txt line 2: the line is b"),
        ):
            with pytest.raises(UserError, match=match):
                read_order(order, table, rows)
        (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
        with pytest.raises(UserError, match="not UTF-8"):
            read_order([tmp_path / "latin.txt"], None, 1)


class TestValues:
    def test_spatial_features_keep_their_shape(self, tmp_path: Path, store: Store) -> None:
        x = steps(0, 3, 10, 7, 7, 16, dtype="float64")
        path = hdf5(tmp_path / "visual_feature.h5", x=x)
        manifest = clips(tmp_path, "a", "b", "c", seconds=10.0)
        order = listed(tmp_path / "ids.txt", "a\nb\nc\n")
        command = ["import-hdf5", str(path), "--order", str(order), "--name", "vgg19.spatial"]
        command += ["--manifest", str(manifest.path), "--store", str(store.path)]
        assert main(command) == 0
        info = store.find("vgg19.spatial")
        assert (info.shape, info.dtype) == ((7, 7, 16), "float32")
        assert info.values["imported"]["dtype"] == "float64"
        np.testing.assert_array_equal(values(store, manifest, info.name), x.astype(np.float32))

    def test_rows_that_are_no_numbers_and_clips_of_other_lengths(
        self, tmp_path: Path, store: Store
    ) -> None:
        x = steps(0, 3, 4, 3)
        x[1, 2, 0] = np.nan
        path = hdf5(tmp_path / "x.h5", x=x)
        manifest = clips(tmp_path, "a", "b", "c")
        rows = list(manifest.rows)
        rows[2] = type(rows[2])("c", 0.0, 6.0, "train", ())
        manifest = manifest.with_rows(rows)
        order = [listed(tmp_path / "ids.txt", "a\nb\nc\n")]
        import_hdf5(path, manifest, store, order=order, name="f", grid=GRID)
        table = store.read(store.find("f"), manifest, rows)
        assert table.status.tolist() == ["ok", "decode_error", "too_short"]
        assert table.reason[2] == "4 steps where the clip has 6 (one every 1 s)"

    def test_a_damaged_chunk_costs_its_own_row(self, tmp_path: Path, store: Store) -> None:
        x = steps(0, 4, 4, 3)
        path = tmp_path / "x.h5"
        with h5py.File(path, "w") as file:
            data = file.create_dataset(
                "x", data=x, chunks=(1, 4, 3), compression="gzip", fletcher32=True
            )
            place = data.id.get_chunk_info(2).byte_offset
        raw = bytearray(path.read_bytes())
        raw[place + 5] ^= 0xFF
        path.write_bytes(raw)
        manifest = clips(tmp_path, "a", "b", "c", "d")
        order = [listed(tmp_path / "ids.txt", "a\nb\nc\nd\n")]
        report = import_hdf5(path, manifest, store, order=order, name="f", grid=GRID)
        table = store.read(store.find("f"), manifest, manifest.rows)
        assert table.status.tolist() == ["ok", "ok", "decode_error", "ok"]
        assert report.failed == 1
        np.testing.assert_array_equal(table.row(3), x[3])

    def test_read_by_slices(self, tmp_path: Path) -> None:
        peaks = []
        for count in (8, 64):
            path = hdf5(tmp_path / f"{count}.h5", x=steps(0, count, 4, 20000))
            ids = [f"c{n}" for n in range(count)]
            manifest = clips(tmp_path / str(count), *ids)
            order = [listed(tmp_path / "ids.txt", "\n".join(ids))]
            store = Store(tmp_path / str(count) / "store")
            tracemalloc.start()
            import_hdf5(path, manifest, store, order=order, name="f", grid=GRID, shard_rows=4)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        # One block of hashing is larger than the small file.
        assert peaks[1] < max(peaks[0], 1 << 25) + 1e6


class TestAgain:
    def test_second_run_imports_nothing_and_a_changed_file_is_another_feature(
        self, tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = hdf5(tmp_path / "x.h5", x=steps(0, 2, 4, 3))
        manifest = clips(tmp_path, "a", "b")
        order = listed(tmp_path / "ids.txt", "a\nb\n")
        command = ["import-hdf5", str(path), "--order", str(order), "--name", "f"]
        command += ["--manifest", str(manifest.path), "--store", str(store.path)]
        assert main(command) == 0
        assert "2 rows imported" in capsys.readouterr().out
        assert main(command) == 0
        assert "nothing imported" in capsys.readouterr().out
        listed(order, "b\na\n")
        assert main(command) == 0
        assert len({info.id for info in store.features()}) == 2
        listed(order, "a\nb\n")
        hdf5(path, x=steps(1, 2, 4, 3))
        assert main(command) == 0
        assert len({info.id for info in store.features()}) == 3

    def test_a_file_that_changes_meanwhile_stops_the_import(
        self, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from features.importing import job as job_module

        path = hdf5(tmp_path / "x.h5", x=steps(0, 2, 4, 3))
        manifest = clips(tmp_path, "a", "b")
        plan = job_module._plan

        def touch_then_plan(*args: object) -> object:
            os.utime(path, (0, 0))
            return plan(*args)

        monkeypatch.setattr(job_module, "_plan", touch_then_plan)
        order = [listed(tmp_path / "ids.txt", "a\nb\n")]
        with pytest.raises(UserError, match="changed while it was imported"):
            import_hdf5(path, manifest, store, order=order, name="f", grid=GRID)


class TestMistakes:
    def test_files_and_arrays(self, tmp_path: Path, store: Store) -> None:
        manifest = clips(tmp_path, "a", "b")
        how = {"order": [listed(tmp_path / "ids.txt", "a\nb\n")], "name": "f", "grid": GRID}
        x = steps(0, 2, 4, 3)
        listed(tmp_path / "text.h5", "no HDF5")
        for path, dataset, match in (
            (tmp_path / "nowhere.h5", None, "cannot be read as HDF5"),
            (tmp_path / "text.h5", None, "cannot be read as HDF5"),
            (hdf5(tmp_path / "two.h5", one=x, two=x), None, "holds 'one', 'two'; choose one"),
            (tmp_path / "two.h5", "three", "no data set 'three'"),
            (hdf5(tmp_path / "none.h5"), None, "holds nothing"),
            (hdf5(tmp_path / "flat.h5", x=np.zeros(2)), None, "no rows of steps"),
            (hdf5(tmp_path / "int.h5", x=np.zeros((2, 4, 3), int)), None, "int64 values"),
        ):
            with pytest.raises(UserError, match=match):
                import_hdf5(path, manifest, store, dataset=dataset, **how)
        with pytest.raises(UserError, match=r"of 'a': 4 steps where the clip has 8 .*--hop"):
            import_hdf5(
                hdf5(tmp_path / "x.h5", x=x), manifest, store, **how | {"grid": make_grid(hop=0.5)}
            )
        assert not store.path.exists() or store.features() == []

    def test_values_in_other_files_are_refused(self, tmp_path: Path, store: Store) -> None:
        manifest = clips(tmp_path, "a", "b")
        how = {"order": [listed(tmp_path / "ids.txt", "a\nb\n")], "name": "f", "grid": GRID}
        other = hdf5(tmp_path / "other.h5", x=steps(0, 2, 4, 3))
        paths = [tmp_path / f"{kind}.h5" for kind in ("virtual", "linked", "external")]
        with h5py.File(paths[0], "w") as file:
            layout = h5py.VirtualLayout(shape=(2, 4, 3), dtype="f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "gone.h5"), "x", shape=(2, 4, 3))
            file.create_virtual_dataset("avadataset", layout)
        with h5py.File(paths[1], "w") as file:
            file["avadataset"] = h5py.ExternalLink(str(other), "avadataset")
        (tmp_path / "raw").write_bytes(bytes(96))
        with h5py.File(paths[2], "w") as file:
            file.create_dataset(
                "avadataset", (2, 4, 3), "f4", external=[(str(tmp_path / "raw"), 0, 96)]
            )
        for path in paths:
            with pytest.raises(UserError, match="keeps its values in other files"):
                import_hdf5(path, manifest, store, **how)
