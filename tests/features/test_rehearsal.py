"""A corpus of nothing through planning, committing and indexing: costs grow with the rows, once."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from features import rehearsal
from features.__main__ import main
from features.extraction import Plan, plan, run_plan
from features.planning import PLAN_BLOCK, ShardTask
from features.rehearsal import FEATURE, rehearse, write_corpus
from features.sources import Sources
from features.store import Store
from features.store import index as index_module
from features.store.index import FeatureIndex
from features.store.layout import ShardRecord
from pipeline.manifest import Manifest, Row, read_manifest


@pytest.fixture
def counts(monkeypatch) -> Counter[str]:
    """Counts what a large corpus must not do once a shard: reading records and listing folders."""
    counter: Counter[str] = Counter()
    read, scan = ShardRecord.read.__func__, FeatureIndex._scan

    def read_record(cls, path):
        counter["records"] += 1
        return read(cls, path)

    def scan_folder(self):
        counter["scans"] += 1
        return scan(self)

    monkeypatch.setattr(ShardRecord, "read", classmethod(read_record))
    monkeypatch.setattr(FeatureIndex, "_scan", scan_folder)
    for name in ("append_lines", "write_atomic"):
        write = getattr(index_module, name)

        def count(path, text, name=name, write=write):
            counter[name] += 1
            return write(path, text)

        monkeypatch.setattr(index_module, name, count)
    return counter


def corpus(store: Path, rows: int) -> Manifest:
    return read_manifest(write_corpus(store / "m.jsonl", rows))


def plan_of(manifest: Manifest, store: Path, *, shard_rows: int = 128) -> Plan:
    return plan(manifest, store, [FEATURE], shard_rows=shard_rows, decoder="null")


@pytest.mark.parametrize(
    ("rows", "shard_rows"), [(1_000, 16), pytest.param(20_000, 128, marks=pytest.mark.slow)]
)
def test_costs_are_linear_in_the_shards(tmp_path, counts, rows, shard_rows):
    shards = -(-rows // shard_rows)
    manifest = corpus(tmp_path, rows)
    work = plan_of(manifest, tmp_path, shard_rows=shard_rows)
    assert len(work.tasks) == shards
    # What a plan and an index keep of a row.
    assert sum(map(len, work.tasks._packed)) < 150 * rows
    assert sum(len(task.rows) for task in work.tasks) == rows
    assert not counts

    class StopError(Exception):
        pass

    class Half(Counter):
        def advance(self, status: str = "ok", n: int = 1) -> None:
            self[status] += n
            if self["ok"] >= rows // 2:
                raise StopError

    with pytest.raises(StopError):
        run_plan(work, workers=1, readers=0, progress=Half())
    # Two looks for a committed record a shard, before and after its claim, and no others.
    assert counts["records"] <= 3 * shards
    assert counts["scans"] == counts["append_lines"] == counts["write_atomic"] == 0
    done = len(list(Store(tmp_path).path.glob(f"{FEATURE}-*/*.h5")))
    counts.clear()

    resumed = plan_of(manifest, tmp_path, shard_rows=shard_rows)
    assert resumed.cached == done * shard_rows
    assert counts == {"records": done, "scans": 1, "append_lines": 1}
    counts.clear()
    run_plan(resumed, workers=1, readers=0)
    assert counts["scans"] == counts["append_lines"] == counts["write_atomic"] == 0
    counts.clear()

    # What the cache holds is read from there; only the other half's records are opened.
    assert plan_of(manifest, tmp_path, shard_rows=shard_rows).todo == 0
    assert counts == {"records": shards - done, "scans": 1, "append_lines": 1}
    counts.clear()
    info = Store(tmp_path).find(FEATURE)
    assert (info.rows, info.shards, counts["records"]) == (rows, shards, 0)
    index = (info.folder / "index.jsonl").read_bytes()
    assert len(index) < 110 * rows
    lines = index.splitlines()
    assert sorted(json.loads(line)["shard"] for line in lines) == sorted(
        path.stem for path in info.folder.glob("*.h5")
    )


def test_rows_of_every_block_are_planned_once(tmp_path):
    rows = PLAN_BLOCK + 10
    manifest = corpus(tmp_path, rows)
    work = plan_of(manifest, tmp_path)
    twice = manifest.with_rows(
        (*manifest.rows, *(row_again(row) for row in manifest.rows[:20])),
    )
    again = plan_of(twice, tmp_path)
    assert (again.rows, again.todo) == (rows, rows)
    clips = [row.key for task in again.tasks for row in task.rows]
    assert clips == [row.key for task in work.tasks for row in task.rows]
    assert len(set(clips)) == rows
    assert [ShardTask.unpack(task.pack()) for task in again.tasks[:2]] == list(again.tasks[:2])


def row_again(row: Row) -> Row:
    return replace(row, id=f"again-{row.id}", audio_id="")


def test_sources_are_read_from_their_cache(tmp_path, monkeypatch):
    manifest = corpus(tmp_path, 300)
    plan_of(manifest, tmp_path)
    monkeypatch.setattr("features.sources._content_digest", None)
    sources = Sources(tmp_path).resolve(manifest, manifest.rows)
    assert len({source.media for source in sources}) == 300


@pytest.mark.slow
def test_rehearsal_with_a_kill(tmp_path, capsys):
    words = ["simulate", str(tmp_path), "--rows", "3000", "--shard-rows", "16", "--kill"]
    assert main(words) == 0
    assert "3000 rows in 188 shards, all there and right" in capsys.readouterr().out
    assert Store(tmp_path).verify() == []


def test_figures_tell_of_what_is_wrong(tmp_path, monkeypatch):
    # Clips whose middle is not that of their one segment: the values are not those expected.
    monkeypatch.setattr(rehearsal, "SECONDS", 14.0)
    figures = rehearse(tmp_path, 40, shard_rows=8)
    assert not figures.correct
    assert "NOT all" in str(figures)
