"""The action corpus: balanced, repeatable, apart from the parsing corpus, and complementary."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from pipeline.demo import build_corpus, default_corpus_folder
from pipeline.demo.__main__ import main
from pipeline.demo.actions import Actions, action_classes, action_of
from pipeline.demo.classes import class_table
from pipeline.demo.kinds import KINDS
from pipeline.demo.timelines import SECONDS, SPLIT_NAMES, draw_timeline
from pipeline.errors import UserError
from pipeline.files import data_dir
from pipeline.manifest import read_manifest

ACTIONS = Actions()
SIZES = {"train": 3, "val": 1, "test": 2, "pool": 2}
CLASSES = len(action_classes())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_corpus(tmp_path_factory.mktemp("actions"), kind="action", **SIZES, workers=2)


def test_twenty_classes_in_alphabetical_order() -> None:
    names = [action.name for action in action_classes()]
    assert len(set(names)) == 20
    assert names == sorted(names)


def test_a_look_and_a_sound_together_settle_an_action_and_one_alone_does_not() -> None:
    classes = action_classes()
    for part in ("looks", "sounds"):
        uses = Counter(event for action in classes for event in getattr(action, part))
        assert uses == dict.fromkeys(range(len(class_table().names)), 4)
        pairs = {frozenset(getattr(action, part)) for action in classes}
        assert len(pairs) == 20
        assert all(len(pair) == 2 for pair in pairs)
    for one, other in combinations(classes, 2):
        assert not (set(one.looks) & set(other.looks) and set(one.sounds) & set(other.sounds))


def test_any_size_is_balanced_and_a_larger_split_begins_like_a_smaller_one() -> None:
    for split in SPLIT_NAMES:
        actions = [action_of(0, split, index) for index in range(3 * CLASSES + 7)]
        counts = Counter(actions).values()
        assert len(counts) == CLASSES
        assert max(counts) - min(counts) <= 1
        assert actions[:CLASSES] != list(range(CLASSES))
    first, other = (
        [action_of(seed, "train", index) for index in range(CLASSES)] for seed in (0, 1)
    )
    assert first != other


def test_timelines_show_looks_and_sound_sounds_alone() -> None:
    fill = []
    for index in range(300):
        timeline = ACTIONS.timeline(0, "train", index)
        action = action_classes()[action_of(0, "train", index)]
        assert timeline.classes == (*action.looks, *action.sounds)
        assert not timeline.audio[:2].any()
        assert not timeline.visual[2:].any()
        assert timeline.visual[:2].any(axis=1).all()
        assert timeline.audio[2:].any(axis=1).all()
        fill.append((timeline.audio[2:].mean(), timeline.visual[:2].mean()))
    audio, visual = np.mean(fill, axis=0)
    assert audio == pytest.approx(0.50 + 0.50 * 0.5, abs=0.04)
    assert visual == pytest.approx(0.75 + 0.25 * 0.5, abs=0.04)


def test_some_seconds_lack_an_action_in_one_modality_or_both() -> None:
    timelines = [ACTIONS.timeline(0, "test", index) for index in range(300)]
    heard = np.concatenate([t.audio.any(axis=0) for t in timelines])
    seen = np.concatenate([t.visual.any(axis=0) for t in timelines])
    assert 0.02 < np.mean(seen & ~heard) < 0.2
    assert 0.005 < np.mean(heard & ~seen) < 0.1
    assert np.any(~heard & ~seen)


def test_timelines_are_those_of_this_version() -> None:
    """A change of any timeline must raise the version, or old files would pass for new."""
    lines = [
        [ACTIONS.timeline(0, split, index).truth(), action_of(0, split, index)]
        for split in SPLIT_NAMES
        for index in range(100)
    ]
    digest = hashlib.sha256(json.dumps(lines, sort_keys=True).encode()).hexdigest()[:16]
    assert (ACTIONS.version, digest) == (1, "2cefcbbdc3fb574c")


def test_streams_differ_by_seed_split_index_and_from_the_parsing_corpus() -> None:
    places = [(0, "train", 0), (1, "train", 0), (0, "pool", 0), (0, "train", 1)]
    draws = [ACTIONS.rng(*place, "picture").random() for place in places]
    draws.append(KINDS["parsing"].rng(*places[0], "picture").random())
    assert len(set(draws)) == 5


def test_the_parsing_corpus_is_what_it_was() -> None:
    parsing = KINDS["parsing"]
    assert parsing.timeline(0, "val", 3).truth() == draw_timeline(0, "val", 3).truth()
    assert dict(parsing.sizes) == {"train": 300, "val": 75, "test": 150}


def test_manifest_and_files(corpus: Path) -> None:
    manifest = read_manifest(corpus)
    assert manifest.header.dataset == "demo-action"
    assert manifest.header.label_type == "multiclass"
    assert manifest.header.annotations is None
    assert manifest.header.corpus == {"name": "demo-action", "version": 1, "seed": 0} | SIZES
    assert manifest.classes == tuple(action.name for action in action_classes())
    for split, size in SIZES.items():
        rows = manifest.split(split)
        assert len(rows) == size
        for index, row in enumerate(rows):
            assert row.labels == (manifest.classes[action_of(0, split, index)],)
            assert row.audio_id == row.id
            assert (row.start, row.end) == (0, SECONDS)
            assert manifest.media_path(row).stat().st_size > 10_000
    assert len({row.group for row in manifest}) == len(manifest)


def test_it_grows_without_rendering_again_and_is_found(corpus: Path, tmp_path: Path) -> None:
    small = build_corpus(tmp_path, kind="action", train=1, val=0, test=0, pool=1, workers=1)
    for name in ("train-00000.mp4", "pool-00000.mp4"):
        # The same clip in a corpus of another size, rendered in another process.
        first, again = (path.parent / "videos" / name for path in (corpus, small))
        assert first.read_bytes() == again.read_bytes()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4")}
    build_corpus(tmp_path, kind="action", train=1, val=0, test=1, pool=1, workers=1)
    assert len(read_manifest(small)) == 3
    assert times == {path: path.stat().st_mtime_ns for path in times}
    before = small.stat().st_mtime_ns
    build_corpus(tmp_path, kind="action", train=1, val=0, test=1, pool=1, workers=1)
    assert small.stat().st_mtime_ns == before


def test_mistakes_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds the corpus demo-action, not demo-avvp"):
        build_corpus(corpus.parent, train=1, val=0, test=0, workers=1)
    with pytest.raises(UserError, match="parsing corpus has no split pool"):
        build_corpus(tmp_path, pool=1)
    with pytest.raises(UserError, match="--pool is -1"):
        build_corpus(tmp_path, kind="action", pool=-1)
    with pytest.raises(UserError, match="did you mean 'action'"):
        build_corpus(tmp_path, kind="actions")
    assert not list(tmp_path.iterdir())


def test_command(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [part for name, size in SIZES.items() for part in (f"--{name}", str(size))]
    assert main(["--kind", "action", "--out", str(corpus.parent), *sizes]) == 0
    assert capsys.readouterr().out.strip() == str(corpus)
    assert default_corpus_folder("action") == data_dir() / "demo-action"
