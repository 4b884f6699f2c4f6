"""The rendered corpus's timelines: repeatable, independent of sizes, and noisy as LLP is."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import numpy as np
import pytest

from pipeline.demo.classes import class_table
from pipeline.demo.corpus import CORPUS_VERSION
from pipeline.demo.timelines import SECONDS, Timeline, clip_id, clip_rng, draw_timeline

SAMPLE = 4000


@pytest.fixture(scope="module")
def sample() -> list[Timeline]:
    return [draw_timeline(0, "train", index) for index in range(SAMPLE)]


def _kind(heard: np.ndarray, seen: np.ndarray) -> str:
    return {(1, 0): "audio", (0, 1): "visual", (1, 1): "both"}[(int(heard.any()), int(seen.any()))]


def test_class_table_has_a_dominant_class_and_shares_that_sum_to_one() -> None:
    table = class_table()
    assert len(table.classes) == len(set(table.names)) == 10
    assert table.names[table.dominant] == "Speech"
    assert table.classes[table.dominant].weight == 0
    for event in table.classes:
        assert event.audio + event.visual + event.both == pytest.approx(1)
    for shares in table.labels_per_clip.values():
        assert sum(shares) == pytest.approx(1)


def test_timelines_repeat_and_depend_on_seed_split_and_index() -> None:
    first = draw_timeline(3, "val", 7)
    assert json.dumps(first.truth()) == json.dumps(draw_timeline(3, "val", 7).truth())
    others = [draw_timeline(4, "val", 7), draw_timeline(3, "test", 7), draw_timeline(3, "val", 8)]
    for other in others:
        assert first.truth()["events"] != other.truth()["events"]


def test_streams_of_a_clip_differ() -> None:
    draws = [clip_rng(0, "train", 0, name).random() for name in ("timeline", "picture", "sound")]
    assert len(set(draws)) == 3


def test_timelines_are_those_of_this_corpus_version() -> None:
    """A change of any timeline must raise CORPUS_VERSION, or old files would pass for new."""
    lines = [draw_timeline(0, s, i).truth() for s in ("train", "val", "test") for i in range(100)]
    digest = hashlib.sha256(json.dumps(lines, sort_keys=True).encode()).hexdigest()[:16]
    assert (CORPUS_VERSION, digest) == (2, "0e891424bcebfe6a")


def test_labels_per_clip(sample: list[Timeline]) -> None:
    counts = Counter(len(t.classes) for t in sample)
    assert set(counts) == {1, 2, 3, 4}
    for number, share in enumerate(class_table().labels_per_clip["train"], 1):
        assert counts[number] / SAMPLE == pytest.approx(share, abs=0.02)
    for split, low, high in (("train", 1.58, 1.67), ("test", 1.76, 1.86)):
        mean = np.mean([len(draw_timeline(1, split, i).classes) for i in range(1000)])
        assert low < mean < high


def test_dominant_class_is_a_third_of_labels_and_never_alone(sample: list[Timeline]) -> None:
    dominant = class_table().dominant
    labels = sum(len(t.classes) for t in sample)
    carrying = [t for t in sample if dominant in t.classes]
    assert len(carrying) / labels == pytest.approx(1 / 3, abs=0.015)
    assert 0.5 < len(carrying) / SAMPLE < 0.6
    assert all(len(t.classes) > 1 for t in carrying)
    unseen = [not t.visual[t.classes.index(dominant)].any() for t in carrying]
    assert np.mean(unseen) == pytest.approx(0.78, abs=0.03)


def test_modality_shares_overall_and_by_class(sample: list[Timeline]) -> None:
    table = class_table()
    kinds = Counter(
        (c, _kind(heard, seen))
        for t in sample
        for c, heard, seen in zip(t.classes, t.audio, t.visual, strict=True)
    )
    total = sum(kinds.values())
    overall = {k: sum(kinds[c, k] for c in range(10)) / total for k in ("audio", "visual", "both")}
    assert overall["audio"] == pytest.approx(0.34, abs=0.02)
    assert overall["visual"] == pytest.approx(0.055, abs=0.015)
    for c, event in enumerate(table.classes):
        count = sum(kinds[c, k] for k in ("audio", "visual", "both"))
        assert count > 250
        for kind in ("audio", "visual", "both"):
            # Three standard errors of a share, and nothing at all where the share is 0.
            share = getattr(event, kind)
            margin = 3.5 * np.sqrt(share * (1 - share) / count)
            assert abs(kinds[c, kind] / count - share) <= margin


def test_events_fill_as_much_of_a_clip_as_in_llp(sample: list[Timeline]) -> None:
    for modality, fill, runs in (("audio", 0.70, 1.27), ("visual", 0.82, 1.13)):
        rows = np.concatenate([t.active(modality) for t in sample])
        rows = rows[rows.any(axis=1)]
        assert rows.mean() == pytest.approx(fill, abs=0.01)
        begins = rows[:, 0] + (np.diff(rows.astype(int), axis=1) > 0).sum(axis=1)
        assert begins.mean() == pytest.approx(runs, abs=0.1)
        assert begins.max() > 1


def test_both_timelines_of_an_event_overlap_but_differ(sample: list[Timeline]) -> None:
    pairs = [
        (heard, seen)
        for t in sample
        for heard, seen in zip(t.audio, t.visual, strict=True)
        if heard.any() and seen.any()
    ]
    assert all((heard & seen).any() for heard, seen in pairs)
    assert 0.4 < np.mean([(heard != seen).any() for heard, seen in pairs]) < 0.8
    shared = sum((heard & seen).sum() for heard, seen in pairs)
    assert 0.75 < shared / sum(seen.sum() for _, seen in pairs) < 0.92


def test_events_are_the_runs_of_the_timelines(sample: list[Timeline]) -> None:
    for timeline in sample[:300]:
        rebuilt = {m: np.zeros((len(timeline.classes), SECONDS), bool) for m in ("audio", "visual")}
        rows = {name: k for k, name in enumerate(timeline.labels())}
        for event in timeline.events():
            part = rebuilt[event.modality][rows[event.label], int(event.onset) : int(event.offset)]
            assert not part.any()
            part[:] = True
        for modality, matrix in rebuilt.items():
            assert np.array_equal(matrix, timeline.active(modality))
        heard, seen = set(timeline.labels("audio")), set(timeline.labels("visual"))
        assert heard | seen == set(timeline.labels())


def test_ids_sort_in_order() -> None:
    ids = [clip_id("train", i) for i in (0, 9, 10, 99999)]
    assert ids == sorted(ids)
