"""Importing folders of arrays: what fits is kept to the bit, what does not is a status row."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import re
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.__main__ import main
from features.importing import import_npy, make_grid
from features.importing.arrays import read_form
from features.store import Store
from pipeline.errors import MediaError, UserError
from pipeline.grid import SegmentGrid
from pipeline.manifest import Header, Manifest, Row, read_manifest, write_manifest
from tests.features.given import clips, folder_of, statuses, steps

GRID = SegmentGrid()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


class TestValues:
    @pytest.mark.parametrize(
        ("given", "stored"),
        [
            ("float16", "float16"),
            ("float32", "float32"),
            (">f4", "float32"),
            ("float64", "float32"),
            ("uint8", "uint8"),
        ],
    )
    def test_types(self, tmp_path: Path, store: Store, given: str, stored: str) -> None:
        manifest = clips(tmp_path, "a", "b")
        x = {"a": steps(0, 4, 3, dtype=given), "b": np.asfortranarray(steps(1, 4, 3, dtype=given))}
        report = import_npy(folder_of(tmp_path / "x", **x), manifest, store, name="f", grid=GRID)
        assert report.failed == 0
        info = store.find("f")
        assert (info.dtype, info.values["dtype"]) == (stored, stored)
        assert info.values["imported"]["dtype"] == np.dtype(given).name
        table = store.read(info, manifest, manifest.rows)
        for n, name in enumerate("ab"):
            np.testing.assert_array_equal(table.row(n), x[name].astype(stored))
        np.testing.assert_array_equal(table.t[:4], [0.5, 1.5, 2.5, 3.5])
        assert store.verify() == []

    def test_steps_keep_their_shape_and_grid(self, tmp_path: Path, store: Store) -> None:
        manifest = clips(tmp_path, "a", seconds=2.0)
        x = steps(0, 8, 7, 7, 5)
        grid = make_grid(hop=0.25, window=0.5, origin=0.0)
        import_npy(folder_of(tmp_path / "x", a=x), manifest, store, name="f", grid=grid)
        info = store.find("f")
        assert (info.shape, info.hop) == ((7, 7, 5), 0.25)
        table = store.read(info, manifest, manifest.rows)
        np.testing.assert_array_equal(table.row(0), x)
        np.testing.assert_allclose(table.t, 0.25 * np.arange(8) + 0.25)

    def test_a_fixed_number_of_windows_whatever_the_length(
        self, tmp_path: Path, store: Store
    ) -> None:
        rows = tuple(Row(i, 0.0, s, "train", ()) for i, s in (("a", 30.0), ("b", 5.0)))
        manifest = Manifest(Header("toy", "none", ()), rows, tmp_path / "m.jsonl")
        x = folder_of(tmp_path / "x", a=steps(0, 10, 3), b=steps(1, 10, 3))
        grid = make_grid(number=10, window=2.0)
        assert import_npy(x, manifest, store, name="f", grid=grid).failed == 0
        table = store.read(store.find("f"), manifest, rows)
        np.testing.assert_allclose(table.t[:10], np.linspace(0, 28, 10) + 1)
        np.testing.assert_allclose(table.t[10:], np.linspace(0, 3, 10) + 1)

    def test_the_odd_float16_file_is_widened_and_the_odd_float32_file_is_not_narrowed(
        self, tmp_path: Path, store: Store
    ) -> None:
        manifest = clips(tmp_path, "a", "b", "c")
        wide = folder_of(
            tmp_path / "wide",
            a=steps(0, 4, 3),
            b=steps(1, 4, 3),
            c=steps(2, 4, 3, dtype="float16"),
        )
        assert import_npy(wide, manifest, store, name="wide", grid=GRID).failed == 0
        narrow = folder_of(
            tmp_path / "narrow",
            a=steps(0, 4, 3, dtype="float16"),
            b=steps(1, 4, 3, dtype="float16"),
            c=steps(2, 4, 3),
        )
        import_npy(narrow, manifest, store, name="narrow", grid=GRID)
        status, reason = statuses(store, manifest, "narrow")["c"]
        assert (status, reason) == ("decode_error", "float32 values in a feature of float16")


class TestStatuses:
    def test_every_kind_of_bad_file_is_a_row_with_a_reason(
        self, tmp_path: Path, store: Store
    ) -> None:
        bad = {
            "absent": ("missing", "the folder has no file of this clip"),
            "dangling": ("missing", "cannot be read"),
            "empty": ("decode_error", "the file is empty"),
            "truncated": ("decode_error", r"truncated: \d+ of \d+ bytes"),
            "header": ("decode_error", "no .npy array"),
            "longer": ("decode_error", "8 bytes follow the array"),
            "shape": ("decode_error", r"shape \(5,\) instead of \(3,\)"),
            "deeper": ("decode_error", r"shape \(4, 3\) instead of \(3,\)"),
            "scalar": ("decode_error", "has no steps"),
            "short": ("too_short", "3 steps where the clip has 4"),
            "none": ("too_short", "0 steps where the clip has 4"),
            "long": ("decode_error", "5 steps where the clip has 4"),
            "whole": ("decode_error", "int64 values are no features"),
            "words": ("decode_error", "str96 values are no features"),
            "fields": ("decode_error", "values are no features"),
            "objects": ("decode_error", "pickled objects, which are never loaded"),
            "pickle": ("decode_error", "no .npy array"),
            "nan": ("decode_error", "no finite numbers"),
            "inf": ("decode_error", "no finite numbers"),
            "huge": ("decode_error", "no finite numbers"),
            "folder": ("decode_error", "no regular file"),
            "pipe": ("decode_error", "no regular file"),
            "future": ("decode_error", "version is unknown"),
        }
        manifest = clips(tmp_path, *bad, "fine", "linked")
        x = folder_of(
            tmp_path / "x",
            empty=steps(0, 4, 3),
            truncated=steps(0, 4, 3),
            header=steps(0, 4, 3),
            longer=steps(0, 4, 3),
            future=steps(0, 4, 3),
            shape=steps(0, 4, 5),
            deeper=steps(0, 1, 4, 3),
            scalar=np.float32(1),
            short=steps(0, 3, 3),
            none=steps(0, 0, 3),
            long=steps(0, 5, 3),
            whole=np.zeros((4, 3), dtype=np.int64),
            words=np.array([["abc"] * 3] * 4),
            fields=np.zeros(4, dtype=[("a", "f4")]),
            nan=np.full((4, 3), np.nan, dtype=np.float32),
            inf=np.full((4, 3), np.inf, dtype=np.float16),
            huge=np.full((4, 3), 1e300),
            fine=steps(1, 4, 3),
        )
        np.save(x / "objects.npy", np.array([[{"a": 1}] * 3] * 4, dtype=object))
        (x / "pickle.npy").write_bytes(pickle.dumps(steps(0, 4, 3)))
        (x / "empty.npy").write_bytes(b"")
        raw = (x / "truncated.npy").read_bytes()
        (x / "truncated.npy").write_bytes(raw[:-1])
        (x / "header.npy").write_bytes(raw[:40])
        (x / "longer.npy").write_bytes(raw + bytes(8))
        (x / "future.npy").write_bytes(raw[:6] + b"\x09\x00" + raw[8:])
        (x / "folder.npy").mkdir()
        (x / "dangling.npy").symlink_to(tmp_path / "nowhere.npy")
        (tmp_path / "elsewhere.npy").write_bytes((x / "fine.npy").read_bytes())
        (x / "linked.npy").symlink_to(tmp_path / "elsewhere.npy")
        os.mkfifo(x / "pipe.npy")
        report = import_npy(x, manifest, store, name="f", grid=GRID)
        found = statuses(store, manifest)
        assert found.pop("fine") == found.pop("linked") == ("ok", "")
        assert {row: status for row, (status, _) in found.items()} == {
            row: status for row, (status, _) in bad.items()
        }
        for row, (_, reason) in found.items():
            assert re.search(bad[row][1], reason), (row, reason)
        assert report.failed == len(bad)
        assert store.verify() == []

    def test_a_pickle_in_a_file_cannot_run(self, tmp_path: Path, store: Store) -> None:
        class Trap:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.mkdir, (str(tmp_path / "sprung"),)

        manifest = clips(tmp_path, "a", "trap", "raw")
        x = folder_of(tmp_path / "x", a=steps(0, 4, 3))
        np.save(x / "trap.npy", np.array([Trap()], dtype=object), allow_pickle=True)
        (x / "raw.npy").write_bytes(pickle.dumps(Trap()))
        import_npy(x, manifest, store, name="f", grid=GRID)
        assert not (tmp_path / "sprung").exists()
        pickle.loads((x / "raw.npy").read_bytes())
        assert (tmp_path / "sprung").exists()

    def test_a_header_that_promises_more_than_memory_reads_nothing(
        self, tmp_path: Path, store: Store
    ) -> None:
        manifest = clips(tmp_path, "a", "bomb")
        x = folder_of(tmp_path / "x", a=steps(0, 4, 3))
        with open(x / "bomb.npy", "wb") as file:
            head = {"descr": "<f4", "fortran_order": False, "shape": (4, 10**12)}
            np.lib.format.write_array_header_1_0(file, head)
            file.truncate(1 << 20)
        tracemalloc.start()
        import_npy(x, manifest, store, name="f", grid=GRID)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 24
        status, reason = statuses(store, manifest)["bomb"]
        assert (status, reason[:36]) == ("decode_error", "the file is truncated: 1048576 of 16")

    def test_no_damage_to_a_header_is_more_than_a_status(self) -> None:
        buffer = io.BytesIO()
        np.save(buffer, steps(0, 4, 3))
        whole, rng = buffer.getvalue(), random.Random(0)
        found = Counter()
        for _ in range(3000):
            raw = bytearray(whole)
            for _ in range(rng.randint(1, 4)):
                raw[rng.randrange(128)] = rng.choice(b"'(){}[],0123456789<|fOLe-:\x00\xff")
            try:
                read_form(io.BytesIO(raw), len(raw))
            except MediaError as error:
                found[error.status] += 1
        assert found.keys() == {"decode_error"}
        # Padding may change, and a few other types are features too.
        assert found["decode_error"] > 2900

    @pytest.mark.parametrize("header", ["(" * 9000, "-" * 9000 + "1", "{'descr': 'zz'}", ""])
    def test_headers_that_break_parsers(self, header: str) -> None:
        raw = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
        with pytest.raises(MediaError, match=r"no \.npy array"):
            read_form(io.BytesIO(raw), len(raw))

    def test_shape_option_decides_against_the_majority(self, tmp_path: Path, store: Store) -> None:
        manifest = clips(tmp_path, "a", "b", "c")
        x = folder_of(tmp_path / "x", a=steps(0, 4, 3), b=steps(1, 4, 5), c=steps(2, 4, 5))
        import_npy(x, manifest, store, name="f", grid=GRID)
        assert [s for s, _ in statuses(store, manifest).values()] == ["decode_error", "ok", "ok"]
        import_npy(x, manifest, store, name="g", grid=GRID, shape=[3])
        found = [s for s, _ in statuses(store, manifest, "g").values()]
        assert found == ["ok", "decode_error", "decode_error"]


class TestMatching:
    def test_names_of_rows_videos_and_sub_folders(self, tmp_path: Path, store: Store) -> None:
        rows = (
            Row("plain", 0.0, 4.0, "train", ()),
            Row("by_video", 0.0, 4.0, "train", (), video="v/film one.mp4"),
            Row("by_path", 0.0, 4.0, "train", (), video="v/left/same.mp4"),
            Row("by_path_too", 0.0, 4.0, "train", (), video="v/right/same.mp4"),
            Row("é中", 0.0, 4.0, "train", ()),
            Row("-dAsHed_111_20_24", 0.0, 4.0, "train", ()),
            Row("twin", 0.0, 4.0, "train", (), video="v/film one.mp4"),
        )
        manifest = Manifest(Header("toy", "none", ()), rows, tmp_path / "m.jsonl")
        x = folder_of(tmp_path / "x", plain=steps(0, 4, 3), **{"film one": steps(1, 4, 3)})
        folder_of(x / "left", same=steps(2, 4, 3))
        folder_of(x / "right", same=steps(3, 4, 3))
        folder_of(x / "more", **{"e\u0301中": steps(4, 4, 3), "-dAsHed_111": steps(5, 4, 3)})
        folder_of(x / "more" / "deeper", unseen=steps(6, 4, 3))
        (x / "notes.txt").write_text("no array")
        report = import_npy(x, manifest, store, name="f", grid=GRID)
        assert (report.failed, report.strangers) == (0, {"x": ()})
        table = store.read(store.find("f"), manifest, rows)
        for n, seed in enumerate([0, 1, 2, 3, 4, 5, 1]):
            np.testing.assert_array_equal(table.row(n), steps(seed, 4, 3))

    def test_files_without_a_row_are_told_and_no_error(
        self, tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
    ) -> None:
        manifest = clips(tmp_path, "a")
        x = folder_of(tmp_path / "x", a=steps(0, 4, 3), b=steps(1, 4, 3), c=steps(2, 4, 3))
        (x / os.fsdecode(b"\xff\xfe.npy")).write_bytes((x / "b.npy").read_bytes())
        command = ["import-npy", str(x), "--name", "f", "--manifest", str(manifest.path)]
        assert main([*command, "--store", str(store.path)]) == 0
        assert "x: 3 names belong to no manifest row, such as 'b'" in capsys.readouterr().out

    def test_folders_whose_names_are_no_text(
        self, tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
    ) -> None:
        manifest = clips(tmp_path, "a")
        x = folder_of(tmp_path / os.fsdecode(b"x\xff"), a=steps(0, 4, 3), b=steps(1, 4, 3))
        command = ["import-npy", str(x), "--name", "f", "--manifest", str(manifest.path)]
        assert main([*command, "--store", str(store.path)]) == 0
        assert "x\\udcff: 1 names belong" in capsys.readouterr().out
        (record,) = [r for r in store.find("f").folder.glob("*.json") if r.stem != "spec"]
        environment = json.loads(record.read_text())["environment"]
        assert environment["imported_from"].endswith("x\\xff")

    def test_names_decide_no_path(self, tmp_path: Path, store: Store) -> None:
        ids = ("..", "../../up", "/abs", "a\\b")
        manifest = clips(tmp_path / "data", "a", *ids)
        x = folder_of(tmp_path / "x", a=steps(0, 4, 3))
        folder_of(x / "sub..", **{"..": steps(1, 4, 3)})
        import_npy(x, manifest, store, name="f", grid=GRID)
        assert statuses(store, manifest)[".."][0] == "ok"
        folder = store.find("f").folder.name
        made = {p.relative_to(store.path).parts[0] for p in store.path.rglob("*")}
        assert made == {folder, "imports"}
        assert {p.name for p in tmp_path.iterdir()} == {"data", "x", "store"}

    def test_nothing_fits(self, tmp_path: Path, store: Store) -> None:
        manifest = clips(tmp_path, "row_one")
        x = folder_of(tmp_path / "x", other=steps(0, 4, 3))
        with pytest.raises(UserError, match=r"such as 'other' and row ids such as 'row_one'"):
            import_npy(x, manifest, store, name="f", grid=GRID)
        assert not store.path.exists()

    def test_one_file_for_two_different_clips(self, tmp_path: Path, store: Store) -> None:
        rows = tuple(
            Row(f"film_{s}", float(s), s + 4.0, "train", (), video="film.mp4") for s in (0, 4)
        )
        manifest = Manifest(Header("toy", "none", ()), rows, tmp_path / "m.jsonl")
        x = folder_of(tmp_path / "x", film=steps(0, 4, 3))
        with pytest.raises(UserError, match=r"'film' .* 'film_0' and to 'film_4'"):
            import_npy(x, manifest, store, name="f", grid=GRID)
        (x / "film.npy").rename(x / "film_4.npy")
        import_npy(x, manifest, store, name="f", grid=GRID)
        assert [s for s, _ in statuses(store, manifest).values()] == ["missing", "ok"]

    def test_a_row_s_own_file_is_not_lent_to_another_part_of_the_video(
        self, tmp_path: Path, store: Store
    ) -> None:
        rows = (
            Row("film", 0.0, 4.0, "train", (), video="film.mp4"),
            Row("later", 4.0, 8.0, "train", (), video="film.mp4"),
        )
        manifest = Manifest(Header("toy", "none", ()), rows, tmp_path / "m.jsonl")
        x = folder_of(tmp_path / "x", film=steps(0, 4, 3))
        import_npy(x, manifest, store, name="f", grid=GRID)
        assert [s for s, _ in statuses(store, manifest).values()] == ["ok", "missing"]

    def test_two_files_for_one_clip(self, tmp_path: Path, store: Store) -> None:
        manifest = clips(tmp_path, "a", "b")
        x = folder_of(tmp_path / "x", b=steps(0, 4, 3))
        for name in ("one", "two"):
            folder_of(x / name, a=steps(0, 4, 3))
        with pytest.raises(UserError, match="'a' could be 'one/a' or 'two/a'"):
            import_npy(x, manifest, store, name="f", grid=GRID)


class TestMistakes:
    @pytest.mark.parametrize(
        "name", ["", "../up", "a/b", ".hidden", "a b", "f-0123456789ab", "-x", "a" * 101]
    )
    def test_names(self, tmp_path: Path, store: Store, name: str) -> None:
        manifest = clips(tmp_path, "a")
        x = folder_of(tmp_path / "x", a=steps(0, 4, 3))
        with pytest.raises(UserError, match="no name of a feature"):
            import_npy(x, manifest, store, name=name, grid=GRID)

    def test_a_grid_that_fits_nothing(self, tmp_path: Path, store: Store) -> None:
        manifest = clips(tmp_path, "a", "b")
        x = folder_of(tmp_path / "x", a=steps(0, 32, 3), b=steps(1, 32, 3))
        with pytest.raises(UserError, match=r"of 'a': 32 steps where the clip has 4 .*--hop"):
            import_npy(x, manifest, store, name="f", grid=GRID)
        assert store.features() == []
        assert import_npy(x, manifest, store, name="f", grid=make_grid(hop=0.125)).failed == 0

    def test_folders(self, tmp_path: Path, store: Store) -> None:
        manifest = clips(tmp_path, "a")
        with pytest.raises(UserError, match="cannot be read"):
            import_npy(tmp_path / "nowhere", manifest, store, name="f", grid=GRID)
        (tmp_path / "x").mkdir()
        with pytest.raises(UserError, match=r"holds no \.npy files"):
            import_npy(tmp_path / "x", manifest, store, name="f", grid=GRID)
        (tmp_path / "x" / "a.npy").write_bytes(b"")
        with pytest.raises(UserError, match=r"None of the 1 .npy files .* the file is empty"):
            import_npy(tmp_path / "x", manifest, store, name="f", grid=GRID)
        np.save(tmp_path / "x" / "a.npy", steps(0, 4, 3))
        with pytest.raises(UserError, match=r"steps of shape \(9,\), the first has \(3,\)"):
            import_npy(tmp_path / "x", manifest, store, name="f", grid=GRID, shape=[9])

    @pytest.mark.parametrize(
        "options",
        [{"hop": 0.0}, {"hop": float("nan")}, {"origin": -1.0}, {"number": 0, "window": 1.0},
         {"number": 10}, {"window": float("inf")}],
    )  # fmt: skip
    def test_grids(self, options: dict[str, float]) -> None:
        with pytest.raises(UserError):
            make_grid(**options)

    def test_rows_never_imported_name_the_command(self, tmp_path: Path, store: Store) -> None:
        manifest = clips(tmp_path, "a")
        x = folder_of(tmp_path / "x", a=steps(0, 4, 3))
        import_npy(x, manifest, store, name="f", grid=GRID)
        bigger = clips(tmp_path, "a", "b")
        with pytest.raises(
            UserError,
            match=r"1 of 2 rows have no f .*python -m features import-npy FOLDER --name f --man",
        ):
            store.read(store.find("f"), bigger, bigger.rows)
        # The folder has not changed, so neither has the feature: only the new row is made.
        assert import_npy(x, bigger, store, name="f", grid=GRID).imported == 1
        assert [s for s, _ in statuses(store, bigger).values()] == ["ok", "missing"]


class TestReading:
    def test_no_media_are_touched_and_rewritten_manifests_fit(
        self, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manifest = clips(tmp_path / "data", "a", "b", video="videos/{}.mp4")
        x = folder_of(tmp_path / "x", a=steps(0, 4, 3), b=steps(1, 4, 3))
        import_npy(x, manifest, store, name="f", grid=GRID)

        def touched(*_: object) -> None:
            raise AssertionError("media were looked at")

        rows = [replace(row, audio_id="a", video=None, group="") for row in manifest.rows]
        noise = ({"kind": "correspondence", "rate": 0.5},)
        noisy = manifest.with_rows(rows, parent="0" * 16, noise=noise)
        noisy = read_manifest(write_manifest(noisy, tmp_path / "elsewhere" / "noisy.jsonl").path)
        other = Store(store.path)
        monkeypatch.setattr(other.sources, "resolve", touched)
        info = other.find("f")
        assert info.imported
        heard = other.read(info, noisy, [noisy[row.audio_id] for row in noisy])
        for n in range(2):
            np.testing.assert_array_equal(heard.row(n), steps(0, 4, 3))
        assert len(other.rows(info)) == 2

    def test_other_data_sets_do_not_share_rows(self, tmp_path: Path, store: Store) -> None:
        manifest = clips(tmp_path, "a")
        import_npy(
            folder_of(tmp_path / "x", a=steps(0, 4, 3)), manifest, store, name="f", grid=GRID
        )
        header = Header("another", "none", ())
        other = Manifest(header, manifest.rows, manifest.path)
        with pytest.raises(UserError, match="have no f"):
            store.read(store.find("f"), other, other.rows)
