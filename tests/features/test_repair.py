"""Damage anywhere in a store is found, and just what is damaged is made again, to the bit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features.__main__ import main
from features.extraction import plan, run_plan
from features.repair import carry_out, plan_repair
from features.requests import make_requests
from features.spec import FeatureSpec
from features.store import Row, RowKey, Shard, Store, claim, shard_name
from features.store.layout import ShardRecord
from features.store.lost import find_runs
from pipeline.errors import UserError
from pipeline.files import read_sealed
from pipeline.manifest import Header, Manifest, write_manifest
from pipeline.manifest import Row as ManifestRow
from tests.features.builders import film_manifest

NAMES = ("logmel_stats", "frame_stats")


def many_rows(videos: Path, folder: Path, count: int) -> Manifest:
    """A manifest of one-second intervals of the small films."""
    rows = tuple(
        ManifestRow(
            f"r{n:03d}", 0.05 * (n // 4), 0.05 * (n // 4) + 1.0, "train", (), f"{n % 4}.mp4"
        )
        for n in range(count)
    )
    header = Header("films", "none", (), media_root=str(videos))
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(Manifest(header, rows), folder / "m.jsonl")
    return Manifest(header, rows, folder / "m.jsonl")


def files(store: Path, pattern: str = "*/*.h5") -> dict[Path, tuple[bytes, int, int]]:
    """Content, inode and time of every shard."""
    return {
        path: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(store.glob(pattern))
    }


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.fixture
def extracted(videos, tmp_path) -> tuple[Store, Manifest]:
    """Four rows of two features in shards of two."""
    manifest = many_rows(videos, tmp_path / "data", 4)
    run_plan(plan(manifest, tmp_path / "store", NAMES, shard_rows=2))
    return Store(tmp_path / "store"), manifest


def repair(store: Store, *manifests: Manifest, **options):
    fresh = Store(store.path)
    return carry_out(plan_repair(fresh, fresh.check().damage, manifests, **options))


class TestHundred:
    def test_fifty_flipped_bits_and_fifty_truncated_shards(self, videos, tmp_path, capsys):
        manifest, store = many_rows(videos, tmp_path / "data", 55), tmp_path / "store"
        run_plan(plan(manifest, store, NAMES, shard_rows=1))
        before = files(store)
        assert len(before) == 110
        rng = np.random.default_rng(0)
        victims = [sorted(before)[n] for n in rng.permutation(110)[:100]]
        for path in victims[:50]:
            flip(path, int(rng.integers(8 * path.stat().st_size)))
        for path in victims[50:]:
            os.truncate(path, int(rng.integers(path.stat().st_size)))
        assert main(["verify", str(store)]) == 2
        printed = capsys.readouterr().out
        assert "100 damaged, 110 shards in all" in printed
        assert all(f"{path.parent.name}/{path.stem}: " in printed for path in victims)

        command = ["verify", str(store), "--repair", "--manifest", str(manifest.path)]
        assert main(command) == 0
        assert "100 repaired, to the bit what they were" in capsys.readouterr().out
        after = files(store)
        assert {path: data for path, (data, *_) in after.items()} == {
            path: data for path, (data, *_) in before.items()
        }
        untouched = sorted(set(before) - set(victims))
        assert [after[path] for path in untouched] == [before[path] for path in untouched]
        assert main(["verify", str(store)]) == 0
        assert plan(manifest, store, NAMES, shard_rows=1).todo == 0


class TestFinding:
    @pytest.mark.parametrize("name", ["record", "spec.json"])
    def test_every_flipped_bit_of_a_text_is_found(self, extracted, name):
        store, _ = extracted
        folder = next(store.path.glob("frame_stats-*"))
        path = sorted(folder.glob("[0-9a-f]*.json"))[0] if name == "record" else folder / name
        whole = path.read_bytes()
        read = (
            (lambda: FeatureSpec.read(path))
            if name == "spec.json"
            else (lambda: ShardRecord.read(path))
        )
        rng = np.random.default_rng(1)
        for bit in rng.choice(8 * len(whole), 400, replace=False):
            flip(path, int(bit))
            with pytest.raises(ValueError):
                read()
            path.write_bytes(whole)
        read()

    def test_damage_tells_its_rows_by_id_and_by_video(self, extracted, capsys):
        store, manifest = extracted
        victim = sorted(store.path.glob("frame_stats-*/*.h5"))[0]
        rows = {key.media for key in ShardRecord.read(victim.with_suffix(".json")).keys}
        ids = [
            row.id
            for row, source in zip(
                manifest.rows, store.sources.resolve(manifest, manifest.rows), strict=True
            )
            if source.media[0] in rows
        ]
        flip(victim, 77)
        assert main(["verify", str(store.path)]) == 2
        printed = capsys.readouterr().out
        assert f"2 rows: {manifest[ids[0]].video} 0-1 s, {manifest[ids[1]].video} 0-1 s" in printed
        assert "--repair --manifest" in printed
        assert main(["verify", str(store.path), "--manifest", str(manifest.path)]) == 2
        assert f"2 rows: {ids[0]}, {ids[1]}\n" in capsys.readouterr().out

    def test_missing_halves(self, extracted):
        store, _ = extracted
        one, two = sorted(store.path.glob("logmel_stats-*/*.h5"))
        one.unlink()
        two.with_suffix(".json").unlink()
        problems = {item.shard: item for item in store.check().damage}
        assert problems[one.stem].problem == "the record's file is gone"
        assert "has no record" in problems[two.stem].problem
        assert all(len(item.keys) == 2 for item in problems.values())

    def test_what_lies_around_is_harmless(self, extracted, capsys):
        store, _ = extracted
        folder = next(store.path.glob("frame_stats-*"))
        shard = sorted(folder.glob("*.h5"))[0]
        (folder / f".{shard.name}.00ff.tmp").write_bytes(b"half")
        os.utime(folder / f".{shard.name}.00ff.tmp", (0, 0))
        (folder / f"{shard.stem}.claim").write_text('{"host": "elsewhere", "pid": 1}')
        os.utime(folder / f"{shard.stem}.claim", (0, 0))
        (folder / f"{shard.name}.bad").write_bytes(shard.read_bytes())
        assert main(["verify", str(store.path)]) == 0
        printed = capsys.readouterr().out
        assert printed.count("harmless: ") == 3
        for kind in ("a temporary file", "a claim without owner", "set aside and redone"):
            assert kind in printed

    def test_work_in_progress_is_no_damage(self, extracted):
        store, _ = extracted
        shard = sorted(store.path.glob("frame_stats-*/*.h5"))[0]
        record = shard.with_suffix(".json").read_bytes()
        shard.with_suffix(".json").unlink()
        with claim(shard.parent, shard.stem):
            assert store.verify() == []
        (item,) = store.verify()
        assert item.shard == shard.stem
        shard.with_suffix(".json").write_bytes(record)
        assert store.verify() == []

    def test_index_that_lies_is_made_anew(self, extracted, capsys):
        store, manifest = extracted
        folder = next(store.path.glob("frame_stats-*"))
        info = store.find("frame_stats")
        before = store.read(info, manifest, manifest.rows).x.copy()
        index = folder / "index.jsonl"
        text = index.read_text()
        place = json.loads(text.splitlines()[0])["places"]["x"]
        index.write_text(text.replace(f'"x": {place}', f'"x": {place + 4}'))
        assert (Store(store.path).read(info, manifest, manifest.rows).x != before).any()
        assert main(["verify", str(store.path)]) == 0
        assert "index.jsonl told of other shards" in capsys.readouterr().out
        after = Store(store.path).read(info, manifest, manifest.rows).x
        np.testing.assert_array_equal(after, before)


def spoil_record(shard: Path) -> None:
    shard.with_suffix(".json").write_text("{")


def spoil_both(shard: Path) -> None:
    spoil_record(shard)
    os.truncate(shard, 100)


def lose_file(shard: Path) -> None:
    shard.unlink()


def lose_record(shard: Path) -> None:
    shard.with_suffix(".json").unlink()


def lose_record_of_half(shard: Path) -> None:
    lose_record(shard)
    os.truncate(shard, 900)


class TestRepair:
    @pytest.mark.parametrize(
        "spoil", [spoil_record, spoil_both, lose_file, lose_record, lose_record_of_half]
    )
    def test_shard_comes_back_under_its_name(self, extracted, spoil: Callable[[Path], None]):
        store, manifest = extracted
        before = files(store.path)
        victims = sorted(store.path.glob("frame_stats-*/*.h5"))
        victims += sorted(store.path.glob("logmel_stats-*/*.h5"))[:1]
        for victim in victims:
            spoil(victim)
        report = repair(store, manifest)
        assert len(report.restored) + len(report.unproven) == 3
        assert not [*report.changed, *report.regrouped, *report.left]
        after = files(store.path)
        assert {path: data for path, (data, *_) in after.items()} == {
            path: data for path, (data, *_) in before.items()
        }
        (untouched,) = set(before) - set(victims)
        assert after[untouched] == before[untouched]
        assert Store(store.path).verify() == []

    def test_rows_of_which_nothing_tells_the_shard_are_done_in_new_ones(self, extracted):
        store, manifest = extracted
        for victim in sorted(store.path.glob("frame_stats-*/*.h5")):
            spoil_both(victim)
        # In another order no run of neighbours hashes to the old names.
        shuffled = manifest.with_rows([manifest.rows[n] for n in (2, 0, 3, 1)])
        report = repair(store, shuffled)
        assert len(report.regrouped) == 2
        assert plan(manifest, store.path, NAMES).todo == 0
        assert Store(store.path).verify() == []

    def test_interrupted_repair_goes_on(self, extracted, monkeypatch):
        store, manifest = extracted
        before = files(store.path)
        victim = sorted(before)[0]
        flip(victim, 5000)

        def killed(*args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("features.repair.run_plan", killed)
        with pytest.raises(KeyboardInterrupt):
            repair(store, manifest)
        monkeypatch.undo()
        assert not victim.exists()
        (item,) = Store(store.path).verify()
        assert "was set aside" in item.problem
        assert len(item.keys) == 2
        report = repair(store, manifest)
        assert len(report.restored) == 1
        assert victim.read_bytes() == before[victim][0]

    def test_options_and_decoder_are_those_it_was_made_with(self, videos, tmp_path):
        manifest, store = many_rows(videos, tmp_path / "data", 2), Store(tmp_path / "store")
        how = {"options": {"frame_stats": {"frames": "2"}}}
        run_plan(plan(manifest, store.path, ["frame_stats"], **how))
        run_plan(plan(manifest, store.path, ["frame_stats"]))
        before = files(store.path)
        assert len(before) == 2
        for path in before:
            flip(path, 4000)
        report = repair(store, manifest)
        assert len(report.restored) == 2
        assert {p: d for p, (d, *_) in files(store.path).items()} == {
            p: d for p, (d, *_) in before.items()
        }

    @pytest.mark.parametrize("what", ["cut", "gone", "request"])
    def test_spec_is_written_again(self, videos, tmp_path, what):
        manifest, store = many_rows(videos, tmp_path / "data", 1), Store(tmp_path / "store")
        how = {"options": {"frame_stats": {"frames": 2}}}
        run_plan(plan(manifest, store.path, ["frame_stats"], **how))
        (path,) = store.path.glob("*/spec.json")
        whole = path.read_text()
        if what == "cut":
            path.write_text(whole[:50])
        elif what == "gone":
            path.unlink()
        else:
            path.write_text(whole.replace('"frames": 2', '"frames": 3'))
        (item,) = store.check().damage
        assert item.shard == "spec.json"
        if what != "gone":
            with pytest.raises(UserError, match=r"damaged .* --repair"):
                store.features()
        report = repair(store)
        assert report.restored == [item]
        assert path.read_text() == whole
        assert plan(manifest, store.path, ["frame_stats"], **how).todo == 0

    def test_store_from_before_requests_were_recorded(self, extracted):
        store, manifest = extracted
        for path in store.path.glob("*/*.json"):
            value = read_sealed(path.read_bytes())
            value.pop("request", None)
            value.get("environment", {}).pop("request", None)
            path.write_text(json.dumps(value))
        before = files(store.path)
        assert store.verify() == []
        flip(sorted(before)[0], 3000)
        report = repair(store, manifest)
        assert len(report.restored) == 1
        assert sorted(before)[0].read_bytes() == before[sorted(before)[0]][0]

    def test_rows_without_video_come_back_as_they_were(self, videos, tmp_path):
        manifest = film_manifest(videos, "0", "gone", "mute", "broken", end=1.0)
        store = Store(tmp_path / "store")
        run_plan(plan(manifest, store.path, NAMES))
        before = files(store.path)
        for path in before:
            flip(path, 9000)
        report = repair(store, manifest)
        assert len(report.restored) == 2
        assert {p: d for p, (d, *_) in files(store.path).items()} == {
            p: d for p, (d, *_) in before.items()
        }

    def test_feature_is_derived_again_without_videos(self, videos, tmp_path):
        manifest, store = many_rows(videos, tmp_path / "data", 2), Store(tmp_path / "store")
        frames, means = make_requests(["resnet152.frames", "resnet152"], random_weights=0)
        rng = np.random.default_rng(0)
        rows = []
        for row, source in zip(
            manifest.rows, store.sources.resolve(manifest, manifest.rows), strict=True
        ):
            x = rng.normal(size=(8, 2048)).astype(np.float32)
            rows.append(Row(RowKey(source.media[0], row.start, row.end), x, np.arange(8) / 8))
        store.commit(frames.spec("pyav"), Shard.pack(rows, shape=(2048,)))
        run_plan(plan(manifest, store.path, ["resnet152"], random_weights=0))
        before = files(store.path)
        (path,) = store.path.glob(f"{means.spec('pyav').folder}/*.h5")
        flip(path, 9000)
        assert len(repair(store).restored) == 1
        assert path.read_bytes() == before[path][0]
        (source,) = store.path.glob("resnet152.frames-*/*.h5")
        flip(path, 9000)
        flip(source, 9000)
        # What it could be derived from is damaged too, so that the videos are needed.
        assert len(plan_repair(store, store.verify(), []).hopeless) == 2

    def test_weights_may_have_moved_but_must_be_the_same(self, videos, tmp_path):
        import torch
        from torchvision.models import squeezenet1_0

        manifest, store = many_rows(videos, tmp_path / "data", 1), Store(tmp_path / "store")
        old, new, other = (tmp_path / f"{name}.pt" for name in ("old", "new", "other"))
        torch.save(squeezenet1_0().state_dict(), old)
        torch.save(squeezenet1_0().state_dict(), other)
        (request,) = make_requests(["squeezenet1_0"], weights={"squeezenet1_0": old})
        (source,) = store.sources.resolve(manifest, manifest.rows)
        row = Row(RowKey(source.media[0], 0.0, 1.0), np.ones((1, 512), "f4"), np.array([0.5]))
        store.commit(request.spec("pyav"), Shard.pack([row], shape=(512,)))
        (path,) = files(store.path)
        flip(path, 3000)
        old.rename(new)
        damage = store.verify()
        with pytest.raises(UserError, match="--weights"):
            plan_repair(store, damage, [manifest])
        with pytest.raises(UserError, match=r"squeezenet1_0-.* makes squeezenet1_0-"):
            plan_repair(store, damage, [manifest], weights={"squeezenet1_0": other})
        planned = plan_repair(store, damage, [manifest], weights={"squeezenet1_0": new})
        assert planned.redone == tuple(damage)
        assert planned.work.tasks[0].features[0].weights == str(new)
        assert path.exists()


class TestBeyondRepair:
    def test_manifest_that_does_not_hold_the_rows(self, extracted, capsys):
        store, manifest = extracted
        victim = sorted(store.path.glob("frame_stats-*/*.h5"))[0]
        flip(victim, 3000)
        assert main(["verify", str(store.path), "--repair"]) == 2
        assert "2 of its 2 rows are in none of the manifests" in capsys.readouterr().out
        assert not victim.exists()
        # Nothing is lost: the right manifest brings it back later.
        again = ["verify", str(store.path), "--repair", "--manifest", str(manifest.path)]
        assert main(again) == 0
        assert victim.exists()

    def test_video_that_is_gone(self, videos, tmp_path):
        folder = tmp_path / "own"
        folder.mkdir()
        (folder / "0.mp4").write_bytes((videos / "0.mp4").read_bytes())
        manifest, store = film_manifest(folder, "0"), Store(tmp_path / "store")
        run_plan(plan(manifest, store.path, ["frame_stats"]))
        flip(next(iter(files(store.path))), 3000)
        (folder / "0.mp4").unlink()
        (why,) = repair(store, manifest).left.values()
        assert why.startswith("the video 0.mp4 is gone")

    def test_imported_feature_names_its_import(self, tmp_path):
        store = Store(tmp_path / "store")
        spec = FeatureSpec("mine", {"imported": {"format": "npy", "content": "0"}})
        key = RowKey("row:" + "0" * 32, 0.0, 10.0)
        shard = Shard.pack([Row(key, np.ones((10, 4), "f4"), np.arange(10.0))], shape=(4,))
        store.commit(spec, shard)
        flip(next(iter(files(store.path))), 3000)
        (why,) = repair(store).left.values()
        assert "python -m features import-npy FOLDER --name mine" in why

    def test_shard_that_another_run_works_on(self, extracted):
        store, manifest = extracted
        victim = sorted(files(store.path))[0]
        flip(victim, 3000)
        with (
            claim(victim.parent, victim.stem),
            pytest.raises(UserError, match="Another run is at work"),
        ):
            repair(store, manifest)
        assert victim.exists()


class TestRuns:
    def test_runs_of_rows_are_found_by_the_hash_that_names_shards(self):
        keys = [RowKey(f"{n:064x}", 0.5 * n, 0.5 * n + 10.0) for n in range(40)]
        parts = [(0, 7), (7, 9), (12, 13), (20, 40)]
        names = {shard_name("spec", keys[low:high]): (low, high) for low, high in parts}
        found = list(find_runs("spec", {*names, "f" * 16}, keys))
        assert [(low, high) for _, low, high in found] == parts
        assert all(names[name] == (low, high) for name, low, high in found)
        assert list(find_runs("other", names, keys)) == []
