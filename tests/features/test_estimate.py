"""What a plan will take, told before it is carried out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from features.estimate import Estimate, FeatureSize, estimate
from features.extraction import plan, run_plan
from features.store import Store
from pipeline.manifest import Manifest
from tests.features.builders import film_manifest

NAMES = ("logmel_stats", "frame_stats")


def of(manifest: Manifest, store: Store, **options: object) -> Estimate:
    return estimate(plan(manifest, store, NAMES), **options)


def test_sizes_are_those_that_are_written(videos, tmp_path):
    manifest = film_manifest(videos, "0", "1", "2")
    store = Store(tmp_path)
    told = of(manifest, store, clips=1)
    assert (told.clips, told.cached, told.todo) == (3, 0, 3)
    run_plan(plan(manifest, store, NAMES))
    for name in NAMES:
        table = store.read(store.find(name), manifest, manifest.rows)
        size = told.sizes[name]
        assert (size.clips, size.steps) == (3, len(table.x))
        assert size.bytes == table.x.nbytes + table.t.nbytes
    assert told.bytes == sum(size.bytes for size in told.sizes.values())


def test_nothing_is_written_by_the_probe(videos, tmp_path):
    told = of(film_manifest(videos, "0", "1", "2", "3"), Store(tmp_path), clips=2)
    assert told.probed == 2
    assert told.seconds > 0
    assert set(told.stages) >= {"open", "decode", "sound", "resize", "model"}
    assert list(tmp_path.rglob("*.h5")) == []
    text = told.table()
    assert "4 clips: 0 are there, 4 to do" in text
    assert "after trying 2 clips" in text


def test_projection_grows_with_the_clips_and_shrinks_with_the_cores(videos, tmp_path, monkeypatch):
    def rates(task, clip, requests):
        return {"decode": clip.end - clip.start, "model": 3 * (clip.end - clip.start)}

    monkeypatch.setattr("features.estimate._try", rates)
    monkeypatch.setattr("features.estimate.available_cores", lambda: 4)
    manifest = film_manifest(videos, "0", "1", "2", "3")
    twelve = of(manifest, Store(tmp_path), workers=1)
    assert twelve.seconds == pytest.approx(4 * 12.0 / 4)
    one_clip = of(film_manifest(videos, "0"), Store(tmp_path), workers=1)
    assert one_clip.seconds == pytest.approx(4 * 3.0 / 4)
    work = plan(manifest, tmp_path, NAMES)
    on_gpu = replace(work, tasks=[replace(task, device="cuda") for task in work.tasks])
    assert estimate(on_gpu, workers=1, readers=3).seconds == pytest.approx(3 * 12.0)
    assert estimate(on_gpu, workers=4, readers=1).seconds == pytest.approx(3 * 12.0 / 4)


def test_only_what_is_lacking_is_counted(videos, tmp_path):
    store = Store(tmp_path)
    run_plan(plan(film_manifest(videos, "0"), store, NAMES))
    run_plan(plan(film_manifest(videos, "1"), store, NAMES[:1]))
    told = of(film_manifest(videos, "0", "1", "2"), store, clips=1)
    assert (told.clips, told.cached, told.todo) == (3, 1, 2)
    assert {name: size.clips for name, size in told.sizes.items()} == {
        "logmel_stats": 1,
        "frame_stats": 2,
    }
    # One of the clips that lack both, and one of those that lack one.
    assert told.probed == 2


def test_clips_that_fail_are_no_measure(videos, tmp_path):
    told = of(film_manifest(videos, "0", "broken", "gone"), Store(tmp_path), clips=2)
    assert (told.probed, told.skipped) == (1, 1)
    assert told.sizes["frame_stats"].clips == 2
    assert "1 more gave no features" in told.table()
    none = of(film_manifest(videos, "broken"), Store(tmp_path / "other"))
    assert none.seconds is None
    assert "none gave features" in none.table()


def test_what_comes_from_another_feature_is_not_decoded_twice(videos, tmp_path, monkeypatch):
    # Building the network takes seconds, and nothing is computed here.
    monkeypatch.setattr("features.backbones.weights.Network.to", lambda self, device: None)
    tried = []

    def note(task, clip, requests):
        tried.append([request.name for request in requests])
        return {"decode": 1.0}

    monkeypatch.setattr("features.estimate._try", note)
    manifest = film_manifest(videos, "0")
    options = {"random_weights": 0, "options": {"resnet152": {"frame_rate": 1}}}
    told = estimate(plan(manifest, tmp_path, ["resnet152", "resnet152.frames"], **options))
    assert tried[0] == ["resnet152.frames"]
    assert told.sizes["resnet152"] == FeatureSize(1, 3, 3 * (2048 * 4 + 8))


def test_nothing_to_do_takes_no_time(videos, tmp_path):
    manifest = film_manifest(videos, "0")
    store = Store(tmp_path)
    run_plan(plan(manifest, store, NAMES))
    told = of(manifest, store)
    assert (told.todo, told.bytes, told.probed, told.seconds) == (0, 0, 0, None)
    assert "1 clips: 1 are there, 0 to do" in told.table()


def test_threads_are_as_before(videos, tmp_path):
    import torch

    before = torch.get_num_threads()
    of(film_manifest(videos, "0"), Store(tmp_path))
    assert torch.get_num_threads() == before
