"""From videos to shards: one decode pass, statuses, idempotence."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features import decoding, extraction
from features.extraction import Plan, ShardTask, plan, run_plan, run_task
from features.store import Store, claim, shard_name
from pipeline.decode import open_decoder
from pipeline.errors import UserError
from tests.features.builders import film_manifest

NAMES = ("logmel_stats", "frame_stats")


@pytest.fixture
def calls(monkeypatch) -> Counter[str]:
    """Counts what is decoded: passes over pictures, and reads of sound."""
    counter: Counter[str] = Counter()
    read = decoding.read_audio_blocks

    def read_audio_blocks(path, *args, **kwargs):
        counter["sound"] += 1
        return read(path, *args, **kwargs)

    class Counting:
        def __init__(self) -> None:
            self.inner = open_decoder("pyav")
            self.describe = self.inner.describe

        def frames(self, path, times, **kwargs):
            counter["pictures"] += 1
            counter["moments"] += len(times)
            return self.inner.frames(path, times, **kwargs)

    monkeypatch.setattr(decoding, "read_audio_blocks", read_audio_blocks)
    monkeypatch.setattr("features.readers.choice.open_decoder", lambda name: Counting())
    monkeypatch.setattr("features.computing.default_readers", lambda *args: 0)
    return counter


def shards(store: Path, feature: str) -> dict[str, bytes]:
    (folder,) = store.glob(f"{feature}-*")
    return {path.name: path.read_bytes() for path in folder.glob("*.h5")}


class TestRun:
    def test_features_of_every_row(self, videos, tmp_path, calls):
        manifest = film_manifest(videos, "0", "1", "2", "3")
        work = plan(manifest, tmp_path, NAMES, shard_rows=3)
        assert (len(work.tasks), work.todo, work.cached) == (2, 4, 0)
        report = run_plan(work)
        assert report.failed == 0
        assert calls["pictures"] == calls["sound"] == 4
        store = Store(tmp_path)
        assert store.verify() == []
        for name in NAMES:
            table = store.read(store.find(name), manifest, manifest.rows)
            x = table.stacked()
            assert x.shape[:2] == (4, 3)
            np.testing.assert_allclose(table.t[:3], [0.5, 1.5, 2.5])
        # Four different tones are four different sounds; the pictures are the same film.
        sound = store.read(store.find("logmel_stats"), manifest, manifest.rows).stacked()
        assert len(np.unique(sound[:, 1, :64].argmax(axis=1))) == 4

    def test_second_run_decodes_nothing_and_says_so(self, videos, tmp_path, calls):
        manifest = film_manifest(videos, "0", "mute")
        first = run_plan(plan(manifest, tmp_path, NAMES))
        calls.clear()
        again = plan(manifest, tmp_path, NAMES)
        assert str(again).startswith("nothing to do: 2 rows of 2 features are there")
        report = run_plan(again)
        assert not calls
        assert report.extracted == 0
        assert report.statuses == first.statuses
        assert report.failed == first.failed == 1
        assert "nothing decoded" in report.table()

    def test_task_run_twice_does_nothing(self, videos, tmp_path, calls):
        (task,) = plan(film_manifest(videos, "0"), tmp_path, NAMES).tasks
        first = run_task(task)
        calls.clear()
        second = run_task(pickle.loads(pickle.dumps(task)))
        assert not calls
        assert second.extracted == 0
        assert (second.statuses, set(second.paths)) == (first.statuses, set(first.paths))

    def test_task_survives_json(self, videos, tmp_path):
        work = plan(
            film_manifest(videos, "0", "gone"),
            tmp_path,
            NAMES,
            options={"frame_stats": {"frames": "2"}},
        )
        (task,) = work.tasks
        assert ShardTask.from_json(json.loads(json.dumps(task.to_json()))) == task

    @pytest.mark.parametrize("what", ["file", "record", "both"])
    def test_deleted_shard_is_redone_alone_and_to_the_bit(self, videos, tmp_path, calls, what):
        manifest = film_manifest(videos, "0", "1", "2", "3")
        run_plan(plan(manifest, tmp_path, NAMES, shard_rows=2))
        before = {name: shards(tmp_path, name) for name in NAMES}
        calls.clear()
        (folder,) = tmp_path.glob("frame_stats-*")
        victim = sorted(folder.glob("*.h5"))[0]
        if what != "record":
            victim.unlink()
        if what != "file":
            victim.with_suffix(".json").unlink()
        work = plan(manifest, tmp_path, NAMES, shard_rows=2)
        assert (len(work.tasks), work.todo, work.cached) == (1, 2, 2)
        run_plan(work)
        assert calls == {"pictures": 2, "moments": 24}
        assert {name: shards(tmp_path, name) for name in NAMES} == before

    def test_processes_give_the_same_bytes(self, videos, tmp_path):
        manifest = film_manifest(videos, "0", "1")
        one, two = tmp_path / "one", tmp_path / "two"
        run_plan(plan(manifest, one, ["frame_stats"], shard_rows=1))
        report = run_plan(plan(manifest, two, ["frame_stats"], shard_rows=1), workers=2)
        assert report.extracted == 2
        assert shards(one, "frame_stats") == shards(two, "frame_stats")

    def test_values_do_not_depend_on_the_rest_of_the_shard(self, videos, tmp_path):
        both = film_manifest(videos, "0", "1")
        for name, manifest in (("alone", film_manifest(videos, "1")), ("both", both)):
            run_plan(plan(manifest, tmp_path / name, NAMES))
        for name in NAMES:
            tables = [
                store.read(store.find(name), both, both.rows[1:]).x
                for store in (Store(tmp_path / "alone"), Store(tmp_path / "both"))
            ]
            np.testing.assert_array_equal(*tables)

    def test_equal_intervals_are_extracted_once(self, videos, tmp_path, calls):
        manifest = film_manifest(videos, "0", "1")
        twice = replace(manifest.rows[0], id="again", audio_id="1")
        noisy = manifest.with_rows((*manifest.rows, twice))
        run_plan(plan(noisy, tmp_path, NAMES))
        assert calls["pictures"] == 2
        store = Store(tmp_path)
        table = store.read(store.find("logmel_stats"), noisy, noisy.rows)
        np.testing.assert_array_equal(table.row(0), table.row(2))

    def test_progress_hears_of_every_clip(self, videos, tmp_path):
        class Heard(Counter):
            def advance(self, status: str = "ok", n: int = 1) -> None:
                self[status] += n

        heard = Heard()
        manifest = film_manifest(videos, "0", "mute")
        run_plan(plan(manifest, tmp_path, NAMES), progress=heard)
        assert heard == {"ok": 1, "failed": 1}
        run_plan(plan(manifest, tmp_path, NAMES), progress=heard)
        assert heard == {"ok": 1, "failed": 1, "skipped": 2}


class TestPlan:
    def test_only_the_feature_that_is_missing_is_done(self, videos, tmp_path, calls):
        run_plan(plan(film_manifest(videos, "0"), tmp_path, ["logmel_stats"]))
        calls.clear()
        work = plan(film_manifest(videos, "0", "1"), tmp_path, NAMES)
        lacking = {tuple(f.name for f in task.features): len(task.rows) for task in work.tasks}
        assert lacking == {("frame_stats",): 1, ("logmel_stats", "frame_stats"): 1}
        run_plan(work)
        assert (calls["pictures"], calls["sound"]) == (2, 1)

    def test_another_frame_rate_is_another_feature(self, videos, tmp_path):
        manifest = film_manifest(videos, "0")
        run_plan(plan(manifest, tmp_path, ["frame_stats"]))
        (old,) = tmp_path.glob("frame_stats-*")
        before = {path.name: path.stat().st_mtime_ns for path in old.glob("*.h5")}
        work = plan(manifest, tmp_path, ["frame_stats"], options={"frame_stats": {"frames": 2}})
        assert work.todo == 1
        run_plan(work)
        assert len(list(tmp_path.glob("frame_stats-*"))) == 2
        assert {path.name: path.stat().st_mtime_ns for path in old.glob("*.h5")} == before
        with pytest.raises(UserError, match="2 specs of 'frame_stats'"):
            Store(tmp_path).find("frame_stats")

    def test_two_features_share_one_pass_over_the_union_of_moments(self, videos, tmp_path, calls):
        clip = (str(videos / "0.mp4"), 0.0, 3.0)
        from features.backbones.descriptors import FrameStats

        four, two = FrameStats(frames=4), FrameStats(frames=3)
        two.name = "frame_stats.three"

        def read(*backbones: FrameStats) -> dict[str, decoding.Part]:
            tools = decoding.Tools(open_decoder("pyav"))
            return {part.feature: part for part in decoding.read_clip(*clip, backbones, tools)}

        both = read(four, two)
        for backbone in (four, two):
            steps = [backbone.compute(got[backbone.name].clip) for got in (both, read(backbone))]
            np.testing.assert_array_equal(*steps)

    def test_no_video_at_all_is_a_wrong_path(self, tmp_path):
        with pytest.raises(UserError, match="--media-root"):
            plan(film_manifest(tmp_path, "0", "1"), tmp_path / "store", NAMES)

    def test_manifest_without_videos(self, tmp_path):
        manifest = film_manifest(tmp_path, "0")
        bare = manifest.with_rows([replace(manifest.rows[0], video=None)])
        with pytest.raises(UserError, match="names a video"):
            plan(bare, tmp_path / "store", NAMES)

    @pytest.mark.parametrize(
        ("names", "options", "message"),
        [
            (["frame_stat"], {}, "did you mean 'frame_stats'"),
            ([], {}, "No feature is asked for"),
            (["frame_stats"], {"options": {"frame_stats": {"frame": 2}}}, "'frames'"),
            (["frame_stats"], {"options": {"frame_stats": {"frames": "x"}}}, "whole number"),
            (["frame_stats"], {"options": {"vggish": {}}}, "not among the features asked for"),
            (["frame_stats"], {"weights": {"frame_stats": "f"}}, "takes no weights"),
            (["frame_stats"], {"decoder": "vlc"}, "no decoder 'vlc'"),
            (["frame_stats"], {"device": "tpu"}, "no device 'tpu'"),
            (["frame_stats"], {"shard_rows": 0}, "at least 1 row"),
        ],
    )
    def test_mistakes_are_told(self, videos, tmp_path, names, options, message):
        with pytest.raises(UserError, match=message):
            plan(film_manifest(videos, "0"), tmp_path, names, **options)


class TestProcesses:
    def test_a_dead_worker_costs_one_more_try(self, videos, tmp_path, monkeypatch):
        pool = extraction._run_pool
        deaths = []

        def dies_after_one(tasks, workers, readers):
            deaths.append(len(tasks))
            number = min(tasks)
            yield number, run_task(tasks[number])
            raise BrokenProcessPool

        manifest = film_manifest(videos, "0", "1", "2")
        work = plan(manifest, tmp_path, ["frame_stats"], shard_rows=1)
        monkeypatch.setattr(extraction, "_run_pool", dies_after_one)
        with pytest.raises(UserError, match="1 shards left"):
            run_plan(work, workers=2)
        assert deaths == [3, 2]
        monkeypatch.setattr(extraction, "_run_pool", pool)
        assert plan(manifest, tmp_path, ["frame_stats"], shard_rows=1).todo == 1


class TestTwoRuns:
    def test_claimed_shard_is_left_and_taken_when_free(self, videos, tmp_path):
        (task,) = plan(film_manifest(videos, "0"), tmp_path, ["frame_stats"]).tasks
        store = Store(tmp_path)
        from features.requests import feature_spec
        from features.store.commit import prepare_folder

        spec = feature_spec(task.features[0].build(), "pyav")
        folder = prepare_folder(store.path, spec)
        with claim(folder, shard_name(spec.id, [row.key for row in task.rows])):
            report = run_task(task, wait=False)
            assert report.busy == ("frame_stats",)
            assert report.paths == ()
        assert run_task(task, wait=False).extracted == 1

    def test_work_that_another_run_finished_is_found(self, videos, tmp_path, calls):
        manifest = film_manifest(videos, "0", "1")
        first, second = (plan(manifest, tmp_path, NAMES) for _ in range(2))
        assert isinstance(second, Plan)
        run_plan(first)
        calls.clear()
        report = run_plan(second)
        assert not calls
        assert (report.extracted, report.failed) == (0, 0)
