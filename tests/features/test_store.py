"""The feature store: committing, reading, finding, checking."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from features.__main__ import main
from features.spec import FeatureSpec
from features.store import Row, RowKey, Shard, Store, claim, commit_shard, find_committed
from features.store import claims as claims_module
from features.store import commit as commit_module
from pipeline.errors import UserError
from pipeline.files import read_sealed, sealed_json
from tests.features.builders import SPEC, STEPS, WIDTH, fill, text_manifest, values

KEY = RowKey("a" * 64, 0.0, 10.0)


def one_row(seed: int = 0) -> Shard:
    return Shard.pack([Row(KEY, values(seed), np.arange(STEPS) + 0.5)], shape=(WIDTH,))


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Store, object]:
    manifest = text_manifest(tmp_path / "data", 10)
    store = Store(tmp_path / "store")
    fill(store, manifest, failed=[6])
    return store, manifest


class TestSpec:
    def test_id_depends_on_values_and_not_on_their_order(self):
        first = FeatureSpec("f", {"a": 1, "b": {"c": [1, 2]}})
        assert first.id == FeatureSpec("f", {"b": {"c": [1, 2]}, "a": 1}).id
        assert first.id != FeatureSpec("f", {"a": 1, "b": {"c": [2, 1]}}).id
        assert first.folder == f"f-{first.id}"


class TestLayout:
    def test_same_shard_gives_the_same_bytes(self, tmp_path):
        paths = []
        for name in ("one", "two"):
            record = commit_shard(tmp_path / name, SPEC, one_row())
            paths.append(tmp_path / name / SPEC.folder / f"{record.shard}.h5")
            time.sleep(1.1 if name == "one" else 0)
        assert paths[0].read_bytes() == paths[1].read_bytes()

    def test_datasets_are_contiguous_and_uncompressed(self, tmp_path):
        record = commit_shard(tmp_path, SPEC, one_row())
        with h5py.File(tmp_path / SPEC.folder / f"{record.shard}.h5") as file:
            assert set(file) == {"x", "offset", "t", "media", "start", "end", "status", "reason"}
            assert all(d.chunks is None and d.compression is None for d in file.values())
            assert file["x"].id.get_offset() == record.places["x"]

    def test_rows_are_checked(self):
        with pytest.raises(ValueError, match="exactly if"):
            Row(KEY, status="ok")
        with pytest.raises(ValueError, match="no status"):
            Row(KEY, status="lost", reason="?")
        with pytest.raises(ValueError, match="do not fit"):
            Shard.pack([Row(KEY, np.zeros((2, 3), "f4"), np.zeros(2))], shape=(4,))
        with pytest.raises(ValueError, match="not finite"):
            Shard.pack([Row(KEY, np.full((2, 4), np.nan, "f4"), np.zeros(2))], shape=(4,))

    @pytest.mark.parametrize(("dtype", "shape"), [("uint8", (8, 8, 3)), ("float16", (5,))])
    def test_other_types_and_shapes_survive(self, tmp_path, dtype, shape):
        manifest = text_manifest(tmp_path, 1)
        store = Store(tmp_path / "store")
        source = store.sources.resolve(manifest, manifest.rows)[0]
        x = np.arange(3 * np.prod(shape)).reshape(3, *shape).astype(dtype)
        row = Row(RowKey(source.media[0], 0.0, 10.0), x, np.arange(3.0))
        store.commit(SPEC, Shard.pack([row], shape=shape, dtype=dtype))
        table = store.read(store.find("colour"), manifest, manifest.rows)
        assert table.x.dtype == dtype
        np.testing.assert_array_equal(table.stacked()[0], x)
        assert store.verify() == []


class TestCommit:
    def test_failure_between_rename_and_record_leaves_nothing_that_exists(
        self, tmp_path, monkeypatch
    ):
        def crash(*args: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(commit_module, "fsync_dir", crash)
        with pytest.raises(KeyboardInterrupt):
            commit_shard(tmp_path, SPEC, one_row())
        monkeypatch.undo()
        folder = tmp_path / SPEC.folder
        (orphan,) = folder.glob("*.h5")
        assert find_committed(folder, orphan.stem) is None
        assert Store(tmp_path).features() == []
        commit_shard(tmp_path, SPEC, one_row())
        assert find_committed(folder, orphan.stem) is not None
        assert Store(tmp_path).verify() == []

    def test_killed_process_is_redone(self, tmp_path):
        script = (
            "import os, sys, numpy as np\n"
            "from pathlib import Path\n"
            "import features.store.commit as commit\n"
            "from tests.features.test_store import one_row, SPEC\n"
            "commit.fsync_dir = lambda folder: os.kill(os.getpid(), 9)\n"
            "commit.commit_shard(Path(sys.argv[1]), SPEC, one_row())\n"
        )
        root = Path(__file__).parents[2]
        done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=root, check=False)
        assert done.returncode == -9
        assert Store(tmp_path).features() == []
        record = commit_shard(tmp_path, SPEC, one_row())
        assert Store(tmp_path).find("colour").rows == 1
        assert record.keys == (KEY,)

    def test_left_over_temporary_files_go(self, tmp_path):
        record = commit_shard(tmp_path / "a", SPEC, one_row())
        folder = tmp_path / "b" / SPEC.folder
        folder.mkdir(parents=True)
        left_over = folder / f".{record.shard}.h5.deadbeef.tmp"
        left_over.write_bytes(b"half")
        commit_shard(tmp_path / "b", SPEC, one_row())
        assert not left_over.exists()

    def test_committed_shard_is_never_written_again(self, tmp_path):
        record = commit_shard(tmp_path, SPEC, one_row())
        path = tmp_path / SPEC.folder / f"{record.shard}.h5"
        before = path.stat().st_mtime_ns, path.stat().st_ino
        again = commit_shard(tmp_path, SPEC, one_row(seed=1))
        assert again.sha256 == record.sha256
        assert (path.stat().st_mtime_ns, path.stat().st_ino) == before

    def test_record_without_its_file_is_set_aside(self, tmp_path):
        record = commit_shard(tmp_path, SPEC, one_row())
        folder = tmp_path / SPEC.folder
        (folder / f"{record.shard}.h5").unlink()
        assert Store(tmp_path).features() == []
        assert find_committed(folder, record.shard) is None
        assert (folder / f"{record.shard}.json.bad").exists()

    def test_file_of_another_size_is_set_aside(self, tmp_path):
        record = commit_shard(tmp_path, SPEC, one_row())
        path = tmp_path / SPEC.folder / f"{record.shard}.h5"
        path.write_bytes(path.read_bytes()[:-8])
        index = Store(tmp_path).index(SPEC.folder)
        assert KEY not in index
        assert index.set_aside_damaged() == (record.shard,)
        assert {p.name for p in path.parent.glob("*.bad")} == {
            f"{record.shard}.h5.bad",
            f"{record.shard}.json.bad",
        }

    def test_unwritable_store_says_so(self, tmp_path):
        (tmp_path / "store").write_text("a file where the folder should be")
        with pytest.raises(UserError, match="cannot be written"):
            commit_shard(tmp_path / "store", SPEC, one_row())


class TestClaims:
    def test_second_claim_waits_for_the_first(self, tmp_path):
        first = claim(tmp_path, "s")
        assert first is not None
        assert claim(tmp_path, "s") is None
        first.release()
        second = claim(tmp_path, "s")
        assert second is not None
        second.release()
        assert list(tmp_path.iterdir()) == []

    def test_claim_of_a_dead_process_is_taken_over(self, tmp_path):
        script = (
            "import os, sys; from pathlib import Path; from features.store import claim\n"
            "assert claim(Path(sys.argv[1]), 's'); os.kill(os.getpid(), 9)\n"
        )
        root = Path(__file__).parents[2]
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=root, check=False)
        assert (tmp_path / "s.claim").exists()
        with claim(tmp_path, "s") as mine:
            assert json.loads((tmp_path / "s.claim").read_text())["pid"] == os.getpid()
            assert mine is not None

    def test_claim_of_another_host_goes_stale_without_heartbeat(self, tmp_path):
        path = tmp_path / "s.claim"
        path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "x"}))
        assert claim(tmp_path, "s") is None
        old = time.time() - claims_module.STALE - 1
        os.utime(path, (old, old))
        taken = claim(tmp_path, "s")
        assert taken is not None
        taken.release()

    def test_heartbeat_and_release_leave_a_strangers_claim_alone(self, tmp_path, monkeypatch):
        monkeypatch.setattr(claims_module, "BEAT", 0.02)
        mine = claim(tmp_path, "s")
        path = tmp_path / "s.claim"
        old = time.time() - 1000
        os.utime(path, (old, old))
        time.sleep(0.2)
        assert path.stat().st_mtime > old + 900
        path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "theirs"}))
        mine.release()
        assert json.loads(path.read_text())["token"] == "theirs"


class TestReading:
    def test_rows_come_in_the_order_asked_for(self, filled):
        store, manifest = filled
        rows = [manifest.rows[n] for n in (9, 2, 3, 4, 2, 0)]
        table = store.read(store.find("colour"), manifest, rows)
        assert table.ids == tuple(row.id for row in rows)
        expected = np.stack([values(n) for n in (9, 2, 3, 4, 2, 0)])
        np.testing.assert_array_equal(table.stacked(), expected)
        np.testing.assert_array_equal(table.t[:STEPS], np.arange(STEPS) + 0.5)

    def test_stacked_is_a_view(self, filled):
        store, manifest = filled
        table = store.read(store.find("colour"), manifest, manifest.rows[:6])
        assert np.shares_memory(table.stacked(), table.x)
        assert np.shares_memory(table.select(range(1, 4)).x, table.x)

    def test_failed_rows_have_a_status_and_no_steps(self, filled):
        store, manifest = filled
        table = store.read(store.find("colour"), manifest, manifest.rows)
        assert table.status[6] == "no_audio"
        assert table.reason[6] == "the file has no sound"
        assert table.lengths.tolist() == [10] * 6 + [0] + [10] * 3
        with pytest.raises(UserError, match="clip006: no_audio"):
            table.stacked()
        assert table.select(table.ok).stacked().shape == (9, STEPS, WIDTH)
        chosen = table.select([8, 6, 1])
        np.testing.assert_array_equal(chosen.row(0), values(8))
        assert chosen.row(1).shape == (0, WIDTH)

    def test_rows_never_extracted_are_an_error(self, filled, tmp_path):
        store, _ = filled
        bigger = text_manifest(tmp_path / "data", 12)
        with pytest.raises(UserError, match=r"2 of 12 rows have no colour .*'clip010'"):
            store.read(store.find("colour"), bigger, bigger.rows)

    def test_rows_are_found_when_the_videos_are_gone(self, filled, tmp_path):
        store, manifest = filled
        for video in (tmp_path / "data" / "videos").iterdir():
            video.unlink()
        again = Store(store.path)
        table = again.read(again.find("colour"), manifest, manifest.rows[:2])
        np.testing.assert_array_equal(table.row(1), values(1))

    def test_rows_are_found_by_name_from_another_place(self, filled, tmp_path):
        store, manifest = filled
        from dataclasses import replace

        moved = replace(manifest, path=tmp_path / "elsewhere" / "m.jsonl")
        table = store.read(store.find("colour"), moved, moved.rows[:2])
        np.testing.assert_array_equal(table.row(0), values(0))

    def test_shard_cut_short_under_the_reader_is_an_error(self, filled):
        store, _ = filled
        info = store.find("colour")
        index = store.index(info.folder.name)
        shard = index.records[0].shard
        path = info.folder / f"{shard}.h5"
        path.write_bytes(path.read_bytes()[:100])
        from features.store.reading import read_rows

        with pytest.raises(UserError, match="cut short"):
            read_rows(index, ["?"], [(index.records[0], 0)], name="colour")


class TestFinding:
    def test_missing_store(self, tmp_path):
        with pytest.raises(UserError, match=r"no feature store at .*nowhere.*flows\.extract"):
            Store(tmp_path / "nowhere").find("colour")

    def test_missing_feature_lists_what_is_there(self, filled):
        with pytest.raises(UserError, match=r"no feature 'vggish' .*colour.*--features vggish"):
            filled[0].find("vggish")

    def test_two_specs_must_be_told_apart(self, filled):
        store, _ = filled
        other = FeatureSpec("colour", {"feature": {"bins": 8}})
        store.commit(other, one_row())
        with pytest.raises(UserError) as error:
            store.find("colour")
        assert SPEC.folder in str(error.value)
        assert other.folder in str(error.value)
        assert store.find(other.folder).id == other.id

    def test_info_tells_what_is_there(self, filled):
        info = filled[0].find("colour")
        assert (info.shards, info.rows, info.failed, info.steps) == (3, 10, 1, 90)
        assert (info.width, info.dtype, info.hop) == (WIDTH, "float32", 1.0)

    def test_changed_spec_file_is_an_error(self, filled):
        path = filled[0].path / SPEC.folder / "spec.json"
        path.write_text(path.read_text().replace('"bins": 4', '"bins": 5'))
        with pytest.raises(UserError, match="was changed"):
            filled[0].features()


class TestIndex:
    def test_index_is_only_a_cache(self, filled):
        store, _ = filled
        path = store.path / SPEC.folder / "index.jsonl"
        store.features()
        assert len(path.read_text().splitlines()) == 3
        for damage in ("", "not json\n", path.read_text()[:-40]):
            path.write_text(damage)
            again = Store(store.path)
            assert again.find("colour").rows == 10
            assert len(path.read_text().splitlines()) == 3
        path.unlink()
        assert len(Store(store.path).rows(store.find("colour"))) == 10

    def test_index_follows_shards_that_come_and_go(self, filled):
        store, _ = filled
        info = store.find("colour")
        store.commit(SPEC, one_row())
        assert KEY in store.rows(info)
        name = store.index(SPEC.folder).find([KEY.media], KEY.start, KEY.end)[0].shard
        (info.folder / f"{name}.json").unlink()
        assert KEY not in store.rows(info)


class TestVerify:
    def test_whole_store(self, filled, capsys):
        assert main(["verify", str(filled[0].path)]) == 0
        assert "3 shards are whole" in capsys.readouterr().out

    def test_flipped_bit_and_truncated_shard(self, filled, capsys):
        store, _ = filled
        flipped, cut, _whole = sorted((store.path / SPEC.folder).glob("*.h5"))
        data = bytearray(flipped.read_bytes())
        data[len(data) // 2] ^= 1
        flipped.write_bytes(data)
        cut.write_bytes(cut.read_bytes()[:-1])
        assert main(["verify", str(store.path)]) == 2
        printed = capsys.readouterr().out
        assert f"{SPEC.folder}/{flipped.stem}: the file's digest" in printed
        assert f"{SPEC.folder}/{cut.stem}: the file has" in printed
        assert "2 damaged" in printed

    def test_record_that_lies(self, filled):
        store, _ = filled
        path = next((store.path / SPEC.folder).glob("[0-9a-f]*.json"))
        record = read_sealed(path.read_bytes())
        record["places"]["x"] += 8
        path.write_bytes(sealed_json(record))
        (damage,) = store.verify()
        assert "wrong bytes" in damage.problem

    def test_list(self, filled, capsys):
        assert main(["ls", str(filled[0].path)]) == 0
        printed = capsys.readouterr().out
        assert f"{SPEC.folder}\n" in printed
        assert "10 rows, 1 failed, 90 steps of 4 float32, 3 shards" in printed
        assert "feature.bins: 4" in printed
