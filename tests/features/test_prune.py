"""Pruning removes what no longer counts, only when told to, and never anything else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from features import prune
from features.__main__ import main
from features.prune import plan_prune
from features.spec import FeatureSpec
from features.store import Row, RowKey, Shard, Store, claim
from features.store.commit import set_aside
from pipeline.errors import UserError
from pipeline.manifest import Manifest, write_manifest
from tests.features.builders import SPEC, STEPS, WIDTH, fill, text_manifest, values


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Store, Manifest]:
    """Ten rows in shards of 4, 4 and 2."""
    manifest = text_manifest(tmp_path / "data", 10)
    write_manifest(manifest, manifest.path)
    store = Store(tmp_path / "store")
    fill(store, manifest, failed=[6])
    store.features()
    return store, manifest


def content(store: Store) -> set[str]:
    return {str(p.relative_to(store.path)) for p in store.path.rglob("*") if not p.is_dir()}


def folder(store: Store) -> Path:
    return store.path / SPEC.folder


def shard_of(store: Store, manifest: Manifest, n: int) -> str:
    (source,) = store.sources.resolve(manifest, [manifest.rows[n]])
    return store.index(SPEC.folder).find(source.media, 0.0, 10.0)[0].shard


class TestLeftovers:
    def test_clean_store(self, filled, capsys):
        store, _ = filled
        before = content(store)
        assert main(["prune", str(store.path), "--yes"]) == 0
        assert "nothing to remove" in capsys.readouterr().out
        assert content(store) == before

    def test_shown_first_and_removed_with_yes(self, filled, capsys):
        store, _ = filled
        before = content(store)
        old = [
            folder(store) / ".0123456789abcdef.h5.00ff.tmp",
            folder(store) / "0123456789abcdef.claim",
            store.path / ".sources.jsonl.xyz.tmp",
        ]
        for path in old:
            path.write_bytes(b"12345")
            os.utime(path, (0, 0))
        fresh = folder(store) / ".fedcba9876543210.h5.00ff.tmp"
        fresh.write_bytes(b"somebody is writing this")
        assert main(["prune", str(store.path)]) == 0
        printed = capsys.readouterr().out
        assert "15 bytes would go" in printed
        assert all(path.name in printed and path.exists() for path in old)
        assert main(["prune", str(store.path), "--yes"]) == 0
        assert "removed 15 bytes" in capsys.readouterr().out
        assert content(store) == {*before, f"{SPEC.folder}/{fresh.name}"}
        assert store.verify() == []

    def test_set_aside_goes_when_its_rows_are_back(self, filled):
        store, manifest = filled
        name = shard_of(store, manifest, 0)
        set_aside(folder(store), name)
        pruning = plan_prune(store)
        assert pruning.removals == ()
        assert {path.name for path in pruning.kept} == {f"{name}.h5.bad", f"{name}.json.bad"}
        fill(store, manifest, failed=[6])
        pruning = plan_prune(store)
        assert {p.name for r in pruning.removals for p in r.paths} == {
            f"{name}.h5.bad",
            f"{name}.json.bad",
        }
        pruning.carry_out()
        assert not list(folder(store).glob("*.bad"))
        assert Store(store.path).find("colour").rows == 10

    def test_links_are_removed_and_not_followed(self, filled, tmp_path):
        store, _ = filled
        outside = tmp_path / "outside"
        outside.mkdir()
        precious = outside / ".precious.tmp"
        precious.write_text("mine")
        os.utime(precious, (0, 0))
        (store.path / f"linked-{'0' * 12}").symlink_to(outside)
        link = folder(store) / ".0123456789abcdef.h5.tmp"
        link.symlink_to(precious)
        os.utime(link, (0, 0), follow_symlinks=False)
        plan_prune(store).carry_out()
        assert precious.read_text() == "mine"
        assert not link.is_symlink()
        with pytest.raises(UserError, match="no feature of"):
            plan_prune(store, features=[f"linked-{'0' * 12}"])


class TestRepeated:
    def test_shard_whose_rows_are_all_elsewhere(self, filled):
        store, manifest = filled
        small = shard_of(store, manifest, 9)
        fill(store, manifest.with_rows(manifest.rows[6:]), shard_rows=4, failed=[0])
        pruning = plan_prune(store)
        assert [r.paths[0].stem for r in pruning.removals] == [small]
        pruning.carry_out()
        left = Store(store.path)
        assert left.find("colour").rows == 8 + 4
        table = left.read(left.find("colour"), manifest, manifest.rows)
        np.testing.assert_array_equal(table.row(9)[0].shape, values(9)[0].shape)
        assert table.ok.sum() == 9
        assert plan_prune(left).removals == ()

    def test_of_two_that_cover_each_other_one_stays(self, filled):
        store, manifest = filled
        fill(store, manifest, shard_rows=2, failed=[6])
        plan_prune(store).carry_out()
        info = Store(store.path).find("colour")
        assert info.rows == 10
        assert Store(store.path).verify() == []

    def test_shard_that_covers_another_must_be_whole(self, filled):
        store, manifest = filled
        fill(store, manifest, shard_rows=10, failed=[6])
        big = next(r.shard for r in store.index(SPEC.folder).records if len(r.keys) == 10)
        path = folder(store) / f"{big}.h5"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        assert {r.paths[0].stem for r in plan_prune(Store(store.path)).removals} <= {big}


class TestFeature:
    def test_whole_feature_goes(self, filled):
        store, _ = filled
        other = FeatureSpec("colour", {"feature": {"bins": 8}})
        row = Row(RowKey("a" * 64, 0.0, 1.0), values(0), np.arange(STEPS) + 0.5)
        store.commit(other, Shard.pack([row], shape=(WIDTH,)))
        assert main(["prune", str(store.path), "--feature", SPEC.folder, "--yes"]) == 0
        assert [info.label for info in Store(store.path).features()] == [other.folder]
        assert not folder(store).exists()

    def test_unknown_and_unclear_names(self, filled):
        store, _ = filled
        for name in ("colour", "../store", ".."):
            with pytest.raises(UserError, match=f"no feature of .* '{name}'"):
                plan_prune(store, features=[name])

    def test_refused_while_a_run_is_at_work(self, filled):
        store, _ = filled
        before = content(store)
        pruning = plan_prune(store, features=[SPEC.folder])
        with claim(folder(store), "0123456789abcdef"):
            with pytest.raises(UserError, match="Another run is at work on colour-"):
                plan_prune(store, features=[SPEC.folder])
            with pytest.raises(UserError, match="Another run is at work on colour-"):
                pruning.carry_out()
        assert content(store) == before

    def test_crash_in_the_middle_leaves_no_record_without_its_shard(self, filled, monkeypatch):
        store, _ = filled
        pruning = plan_prune(store, features=[SPEC.folder])
        synced = []

        def crash(path: Path) -> None:
            synced.append(path)
            if len(synced) == 2:
                raise KeyboardInterrupt

        monkeypatch.setattr(prune, "fsync_dir", crash)
        with pytest.raises(KeyboardInterrupt):
            pruning.carry_out()
        monkeypatch.undo()
        assert len(list(folder(store).glob("*.h5"))) == 3
        assert Store(store.path).find("colour").shards == 1
        plan_prune(store, features=[SPEC.folder]).carry_out()
        assert not folder(store).exists()


class TestKeep:
    def test_shards_of_which_a_row_is_wanted_stay(self, filled, tmp_path, capsys):
        store, manifest = filled
        some = manifest.with_rows(manifest.rows[2:3])
        write_manifest(some, tmp_path / "data" / "some.jsonl")
        command = ["prune", str(store.path), "--keep-manifest", str(tmp_path / "data/some.jsonl")]
        assert main([*command, "--yes"]) == 0
        assert "no row of it is in the manifests" in capsys.readouterr().out
        left = Store(store.path)
        assert left.find("colour").rows == 4
        left.read(left.find("colour"), some, some.rows)
        assert left.verify() == []

    def test_all_manifests_count(self, filled):
        store, manifest = filled
        parts = [manifest.with_rows(manifest.rows[n : n + 1]) for n in (0, 5, 9)]
        assert plan_prune(store, keep=parts).removals == ()

    def test_interrupted_pruning_goes_on(self, filled):
        store, manifest = filled
        (folder(store) / f"{shard_of(store, manifest, 9)}.json").unlink()
        some = manifest.with_rows(manifest.rows[:8])
        assert len(plan_prune(store).kept) == 1
        plan_prune(store, keep=[some]).carry_out()
        assert Store(store.path).verify() == []
        assert len(list(folder(store).glob("*.h5"))) == 2
