"""Rows that give no features: every one ends with a status and a reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from features.decoding import Block, Failed, Tools, read_clip
from features.extraction import plan, run_plan, run_task
from features.store import Store
from pipeline.decode import open_decoder
from pipeline.manifest import Header, Manifest, Row
from tests.features.builders import film_manifest

NAMES = ("logmel_stats", "frame_stats")


class TestStatuses:
    def statuses(self, store: Path, manifest: Manifest) -> dict[str, list[str]]:
        opened = Store(store)
        return {
            name: opened.read(opened.find(name), manifest, manifest.rows).status.tolist()
            for name in NAMES
        }

    def test_every_row_ends_as_features_or_a_status(self, videos, tmp_path):
        manifest = film_manifest(videos, "0", "mute", "broken", "gone")
        report = run_plan(plan(manifest, tmp_path, NAMES))
        assert self.statuses(tmp_path, manifest) == {
            "logmel_stats": ["ok", "no_audio", "decode_error", "missing"],
            "frame_stats": ["ok", "ok", "decode_error", "missing"],
        }
        assert report.failed == 5
        table = report.table()
        assert "no_audio" in table
        assert "No such file" in table

    def test_clip_beyond_the_end_and_clip_without_a_segment(self, videos, tmp_path):
        manifest = film_manifest(videos, "0")
        row = manifest.rows[0]
        odd = manifest.with_rows(
            [
                replace(row, id="late", audio_id="late", start=1.0, end=5.0),
                replace(row, id="short", audio_id="short", end=0.4),
                replace(row, id="held", audio_id="held", end=3.4),
            ]
        )
        run_plan(plan(odd, tmp_path, NAMES))
        expected = ["too_short", "too_short", "ok"]
        assert self.statuses(tmp_path, odd) == dict.fromkeys(NAMES, expected)

    def test_missing_video_is_done_when_it_appears(self, videos, tmp_path):
        films = tmp_path / "films"
        films.mkdir()
        (films / "0.mp4").write_bytes((videos / "0.mp4").read_bytes())
        manifest = film_manifest(films, "0", "1")
        store = tmp_path / "store"
        run_plan(plan(manifest, store, NAMES))
        assert self.statuses(store, manifest)["frame_stats"] == ["ok", "missing"]
        assert plan(manifest, store, NAMES).todo == 0
        (films / "1.mp4").write_bytes((videos / "1.mp4").read_bytes())
        work = plan(manifest, store, NAMES)
        assert (work.todo, work.cached) == (1, 1)
        run_plan(work)
        assert self.statuses(store, manifest)["frame_stats"] == ["ok", "ok"]

    def test_video_that_goes_between_plan_and_task(self, videos, tmp_path):
        films = tmp_path / "films"
        films.mkdir()
        for name in ("0", "1"):
            (films / f"{name}.mp4").write_bytes((videos / f"{name}.mp4").read_bytes())
        manifest = film_manifest(films, "0", "1")
        store = tmp_path / "store"
        work = plan(manifest, store, ["frame_stats"])
        (films / "1.mp4").unlink()
        report = run_plan(work)
        assert report.failed == 1
        (films / "1.mp4").write_bytes((videos / "1.mp4").read_bytes())
        again = plan(manifest, store, ["frame_stats"])
        assert again.todo == 1
        assert run_plan(again).extracted == 1
        assert plan(manifest, store, ["frame_stats"]).todo == 0

    def test_video_that_changes_between_plan_and_task(self, videos, tmp_path):
        films = tmp_path / "films"
        films.mkdir()
        (films / "0.mp4").write_bytes((videos / "0.mp4").read_bytes())
        manifest = film_manifest(films, "0")
        store = tmp_path / "store"
        work = plan(manifest, store, ["logmel_stats"])
        (films / "0.mp4").write_bytes((videos / "1.mp4").read_bytes())
        run_plan(work)
        assert plan(manifest, store, ["logmel_stats"]).todo == 0
        direct = film_manifest(videos, "1")
        assert plan(direct, store, ["logmel_stats"]).todo == 0

    def test_cached_rows_stay_when_the_videos_go(self, videos, tmp_path):
        films = tmp_path / "films"
        films.mkdir()
        for name in ("0", "1"):
            (films / f"{name}.mp4").write_bytes((videos / f"{name}.mp4").read_bytes())
        manifest = film_manifest(films, "0", "1")
        store = tmp_path / "store"
        run_plan(plan(manifest, store, ["frame_stats"]))
        (films / "0.mp4").unlink()
        (films / "1.mp4").unlink()
        assert plan(manifest, store, ["frame_stats"]).todo == 0

    def test_decoder_junk_is_a_status_and_a_bug_is_not(self, videos, tmp_path, monkeypatch):
        class Junk:
            def frames(self, path, times, **kwargs):
                raise MemoryError
                yield

        manifest = film_manifest(videos, "0")
        (task,) = plan(manifest, tmp_path, ["frame_stats"]).tasks
        with monkeypatch.context() as patch:
            patch.setattr("features.readers.choice.open_decoder", lambda name: Junk())
            report = run_task(task)
        assert report.statuses["frame_stats"] == {
            ("decode_error", "decoding needs more memory than there is"): 1
        }

        def bug(self, clip):
            raise ValueError("a bug")

        (task,) = plan(film_manifest(videos, "1"), tmp_path, ["frame_stats"]).tasks
        monkeypatch.setattr("features.backbones.descriptors.FrameStats.compute", bug)
        with pytest.raises(ValueError, match="a bug"):
            run_task(task)
        assert list(tmp_path.glob("*/*.claim")) == []

    def test_status_of_one_feature_does_not_depend_on_the_others(self, videos, tmp_path):
        from features.backbones.descriptors import FrameStats

        # The film ends at 3.0 s: a moment at 3.49 s is held, one at 3.51 s is not.
        coarse, fine = FrameStats(frames=1), FrameStats(frames=50)
        fine.name = "frame_stats.fine"
        tools = Tools(open_decoder("pyav"))
        parts = list(read_clip(str(videos / "mute.mp4"), 0.0, 4.0, [coarse, fine], tools))
        last = {part.feature: part for part in parts}
        assert isinstance(last["frame_stats.fine"], Failed)
        assert last["frame_stats.fine"].error.status == "too_short"
        assert isinstance(last["frame_stats"], Block)


def test_odd_media_end_as_rows_with_a_status(shared, tmp_path):
    folder = shared / "media" / "odd"
    rows = tuple(
        Row(path.name, 0.0, 2.0, "train", (), video=path.name) for path in sorted(folder.iterdir())
    )
    manifest = Manifest(
        Header("odd", "none", (), media_root=str(folder)), rows, tmp_path / "m.jsonl"
    )
    report = run_plan(plan(manifest, tmp_path / "store", NAMES, timeout=60))
    store = Store(tmp_path / "store")
    for name in NAMES:
        table = store.read(store.find(name), manifest, manifest.rows)
        assert sum(report.statuses[name].values()) == len(rows)
        for n in range(len(rows)):
            assert (table.status[n] == "ok") == (table.lengths[n] == 2)
            assert (table.status[n] == "ok") != bool(table.reason[n])
    by_id = dict(zip(table.ids, table.status, strict=True))
    assert by_id["zero_bytes.webm"] == "decode_error"
    assert by_id["no_audio_cockatoo.mp4"] == "ok"
    assert report.failed > 0
