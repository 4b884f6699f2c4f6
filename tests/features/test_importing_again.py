"""Importing twice, at once, after an interruption, after damage, and in bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from features.__main__ import main
from features.importing import import_npy
from features.importing import job as job_module
from features.store import Store
from pipeline.errors import UserError
from pipeline.grid import SegmentGrid
from tests.features.given import clips, folder_of, steps

GRID = SegmentGrid()


def written(store: Store) -> dict[Path, int]:
    """When shards, records and remembered digests were written."""
    return {p: p.stat().st_mtime_ns for p in store.path.rglob("*") if p.suffix in (".h5", ".json")}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


class TestAgain:
    def test_second_run_imports_nothing_and_reads_no_file(
        self,
        tmp_path: Path,
        store: Store,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        manifest = clips(tmp_path, "a", "b", "c")
        x = folder_of(tmp_path / "x", a=steps(0, 4, 3), b=steps(1, 4, 3))
        command = ["import-npy", str(x), "--name", "f", "--manifest", str(manifest.path)]
        command += ["--store", str(store.path), "--shard-rows", "2"]
        assert main(command) == 2
        out = capsys.readouterr().out
        assert "ok          2" in out
        assert "missing     1  the folder has no file of this clip" in out
        assert "3 rows imported" in out
        before = written(store)
        monkeypatch.setattr("features.importing.folder.hashlib.file_digest", None)
        assert main(command) == 2
        assert "nothing imported: 3 rows of 1 features are there" in capsys.readouterr().out
        assert written(store) == before

    def test_a_changed_folder_is_another_feature(self, tmp_path: Path, store: Store) -> None:
        manifest = clips(tmp_path, "a", "b")
        x = folder_of(tmp_path / "x", a=steps(0, 4, 3), b=steps(1, 4, 3))
        first = import_npy(x, manifest, store, name="f", grid=GRID).features[0].id
        copy = folder_of(tmp_path / "y", a=steps(0, 4, 3), b=steps(1, 4, 3))
        again = import_npy(copy, manifest, store, name="f", grid=GRID)
        assert (again.features[0].id, again.imported) == (first, 0)
        np.save(x / "b.npy", steps(2, 4, 3))
        changed = import_npy(x, manifest, store, name="f", grid=GRID)
        assert changed.features[0].id != first
        with pytest.raises(UserError, match="2 specs of 'f'"):
            store.find("f")
        table = store.read(store.find(changed.features[0].folder), manifest, manifest.rows)
        np.testing.assert_array_equal(table.row(1), steps(2, 4, 3))

    def test_interrupted_import_goes_on_where_it_stopped(
        self, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ids = [f"c{n}" for n in range(7)]
        manifest = clips(tmp_path, *ids)
        x = folder_of(tmp_path / "x", **{i: steps(n, 4, 3) for n, i in enumerate(ids)})
        whole = Store(tmp_path / "whole")
        import_npy(x, manifest, whole, name="f", grid=GRID, shard_rows=2)
        read, calls = job_module._read, []

        def interrupted(*args: object) -> object:
            if len(calls) == 2:
                raise KeyboardInterrupt
            calls.append(args)
            return read(*args)

        monkeypatch.setattr(job_module, "_read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            import_npy(x, manifest, store, name="f", grid=GRID, shard_rows=2)
        monkeypatch.undo()
        assert store.find("f").rows == 4
        report = import_npy(x, manifest, store, name="f", grid=GRID, shard_rows=2)
        assert (report.imported, report.failed) == (3, 0)
        names = [
            {p.name: p.read_bytes() for p in s.find("f").folder.glob("*.h5")}
            for s in (store, whole)
        ]
        assert names[0] == names[1]

    def test_two_runs_at_once_share_the_work(self, tmp_path: Path, store: Store) -> None:
        ids = [f"c{n}" for n in range(40)]
        manifest = clips(tmp_path, *ids)
        x = folder_of(tmp_path / "x", **{i: steps(n, 4, 3) for n, i in enumerate(ids)})
        command = [sys.executable, "-m", "features", "import-npy", str(x), "--name", "f"]
        command += ["--manifest", str(manifest.path), "--store", str(store.path)]
        runs = [
            subprocess.Popen(
                [*command, "--shard-rows", "1"],
                cwd=Path(__file__).parents[2],
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        outs = [run.communicate()[0] for run in runs]
        assert [run.returncode for run in runs] == [0, 0]
        done = [int(o.split(" rows imported")[0].split()[-1]) for o in outs if "imported in" in o]
        assert sum(done) == 40
        assert store.find("f").shards == store.find("f").rows == 40
        assert store.verify() == []
        assert not list(store.path.rglob("*.claim"))

    def test_damaged_shard_is_imported_again_to_the_bit(self, tmp_path: Path, store: Store) -> None:
        ids = [f"c{n}" for n in range(6)]
        manifest = clips(tmp_path, *ids)
        x = folder_of(tmp_path / "x", **{i: steps(n, 4, 3) for n, i in enumerate(ids)})
        import_npy(x, manifest, store, name="f", grid=GRID, shard_rows=2)
        shard = sorted(store.find("f").folder.glob("*.h5"))[1]
        before = shard.read_bytes()
        shard.write_bytes(before[:-1])
        assert len(store.verify()) == 1
        report = import_npy(x, manifest, store, name="f", grid=GRID, shard_rows=2)
        assert report.imported == 2
        assert report.notes == [f"damaged shard set aside: {shard.stem}"]
        assert shard.read_bytes() == before
        assert store.verify() == []

    def test_a_file_that_changes_meanwhile_stops_the_import(
        self, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manifest = clips(tmp_path, "a", "b")
        x = folder_of(tmp_path / "x", a=steps(0, 4, 3), b=steps(1, 4, 3))
        plan = job_module._plan

        def change_then_plan(*args: object) -> object:
            np.save(x / "b.npy", steps(2, 4, 3))
            os.utime(x / "b.npy", (0, 0))
            return plan(*args)

        monkeypatch.setattr(job_module, "_plan", change_then_plan)
        with pytest.raises(UserError, match=r"b.npy was changed while it was imported"):
            import_npy(x, manifest, store, name="f", grid=GRID)
        assert store.features() == []

    def test_a_damaged_digest_cache_only_costs_time(self, tmp_path: Path, store: Store) -> None:
        manifest = clips(tmp_path, "a")
        x = folder_of(tmp_path / "x", a=steps(0, 4, 3))
        first = import_npy(x, manifest, store, name="f", grid=GRID)
        (cache,) = (store.path / "imports").iterdir()
        for text in ("{", "[]", '{"a": 1}', json.dumps({"a": [None, [0], 1, [2], 3]})):
            cache.write_text(text)
            again = import_npy(x, manifest, store, name="f", grid=GRID)
            assert again.features == first.features
            assert again.imported == 0

    def test_memory_does_not_grow_with_the_folder(self, tmp_path: Path) -> None:
        peaks = []
        for count in (8, 64):
            ids = [f"c{n}" for n in range(count)]
            manifest = clips(tmp_path / str(count), *ids)
            x = folder_of(
                tmp_path / str(count) / "x", **{i: steps(n, 4, 20000) for n, i in enumerate(ids)}
            )
            tracemalloc.start()
            store = Store(tmp_path / str(count) / "store")
            import_npy(x, manifest, store, name="f", grid=GRID, shard_rows=4)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < peaks[0] + 1e6


def test_ls_and_verify_know_imported_features(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = clips(tmp_path, "a", "b")
    x = folder_of(tmp_path / "x", a=steps(0, 4, 3))
    import_npy(x, manifest, store, name="f", grid=GRID)
    assert main(["ls", str(store.path)]) == 0
    out = capsys.readouterr().out
    assert "2 rows, 1 failed, 4 steps of 3 float32, 1 shards" in out
    assert "imported.format: npy" in out
    assert main(["verify", str(store.path)]) == 0
    (shard,) = store.find("f").folder.glob("*.h5")
    raw = bytearray(shard.read_bytes())
    raw[-10] ^= 1
    shard.write_bytes(raw)
    assert main(["verify", str(store.path)]) == 2
