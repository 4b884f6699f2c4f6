"""Audio of other rows: who lends it to whom."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.manifest import Header, Manifest, Row
from pipeline.noise import Correspondence, inject
from pipeline.noise.donors import repair, shares
from pipeline.noise.rates import whole
from pipeline.noise.streams import Streams
from tests.noisy import audio_of, labels_of, make_manifest, names

TYPES = st.sampled_from(["multiclass", "multilabel", "none"])
EXTERNAL = Correspondence(donors="external")


def of_classes(*labels: str, pool: tuple[str, ...] = ()) -> Manifest:
    """One training row a label and one pool row a label, two classes."""
    rows = [
        Row(id=f"{split}{i}", start=0, end=1, split=split, labels=(label,))
        for split, some in (("train", labels), ("pool", pool))
        for i, label in enumerate(some)
    ]
    return Manifest(Header("made", "multiclass", ("a", "b")), tuple(rows))


def lent(manifest: Any, noisy: Any) -> dict[str, str]:
    """Rows that changed, with whose audio they carry."""
    old, new = audio_of(manifest), audio_of(noisy)
    return {i: new[i] for i in old if old[i] != new[i]}


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 60), rate=st.floats(0, 1), label_type=TYPES, seed=st.integers(0, 99))
def test_derangement_is_exact_and_one_cycle(n: int, rate: float, label_type: str, seed: int):
    manifest = make_manifest(n, label_type=label_type, seed=seed)
    m = whole(rate, n)
    if m == 1:
        with pytest.raises(UserError, match="cannot exchange audio with itself; use "):
            inject(manifest, Correspondence(), rate=rate, seed=seed)
        return
    noisy = inject(manifest, Correspondence(), rate=rate, seed=seed)
    found = lent(manifest, noisy)
    assert len(found) == m == noisy.entry["changed"]
    assert sorted(audio_of(noisy).values()) == sorted(audio_of(manifest).values())
    assert labels_of(noisy) == labels_of(manifest)
    assert {i: entry["audio_id"] for i, entry in noisy.truth.items()} == {i: i for i in found}
    if found:
        seen, at = set(), next(iter(found))
        while at not in seen:
            seen.add(at)
            at = found[at]
        assert seen == found.keys()


def test_the_rate_that_a_lone_row_is_told_is_enough() -> None:
    manifest = make_manifest(31)
    with pytest.raises(UserError, match=r"rate of at least 0\.0646"):
        inject(manifest, Correspondence(), rate=0.04)
    assert inject(manifest, Correspondence(), rate=0.0646).entry["changed"] == 2


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 60), rate=st.floats(0, 1), seed=st.integers(0, 99))
def test_shuffle_keeps_the_multiset_and_counts_fixed_points_as_clean(n, rate, seed) -> None:
    manifest = make_manifest(n, seed=seed)
    noisy = inject(manifest, Correspondence(donors="shuffle"), rate=rate, seed=seed)
    found = lent(manifest, noisy)
    assert sorted(audio_of(noisy).values()) == sorted(audio_of(manifest).values())
    assert noisy.entry["count"] == whole(rate, n)
    assert noisy.entry["changed"] == len(found) == len(noisy.truth)
    assert set(found) == set(found.values())


def test_shuffle_has_about_one_fixed_point() -> None:
    manifest = make_manifest(30)
    kind = Correspondence(donors="shuffle")
    fixed = [30 - inject(manifest, kind, rate=1, seed=s).entry["changed"] for s in range(100)]
    assert abs(np.mean(fixed) - 1) < 4 / np.sqrt(100)


@settings(max_examples=20, deadline=None)
@given(rates=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(sorted), seed=st.integers(0, 99))
def test_rows_nest_in_the_rate_and_pool_donors_too(rates: list[float], seed: int) -> None:
    manifest = make_manifest(60, pool=20, seed=seed)
    low, high = (lent(manifest, inject(manifest, Correspondence(), rate=r)) for r in rates)
    assert low.keys() <= high.keys()
    low, high = (lent(manifest, inject(manifest, EXTERNAL, rate=r)) for r in rates)
    assert low.items() <= high.items()


@pytest.mark.parametrize("donors", ["derangement", "shuffle", "external"])
@settings(max_examples=20, deadline=None)
@given(label_type=st.sampled_from(["multiclass", "multilabel"]), seed=st.integers(0, 99))
def test_different_class(donors: str, label_type: str, seed: int) -> None:
    manifest = make_manifest(60, 9, label_type=label_type, seed=seed, pool=40)
    if label_type == "multilabel":
        rows = [replace(row, labels=row.labels[:2]) for row in manifest]
        manifest = manifest.with_rows(rows)
    kind = Correspondence(donors=donors, different_class=True)
    noisy = inject(manifest, kind, rate=0.6, seed=seed)
    for row_id, donor in lent(manifest, noisy).items():
        assert not set(manifest[row_id].labels) & set(manifest[donor].labels)
    if label_type == "multiclass":
        assert noisy.entry["changed"] == 36


@pytest.mark.parametrize("size", [2, 20, 500])
def test_different_class_finds_the_only_way(size: int) -> None:
    manifest = of_classes(*("a", "b") * (size // 2))
    kind = Correspondence(different_class=True)
    found = lent(manifest, inject(manifest, kind, rate=1))
    assert all(manifest[i].labels != manifest[d].labels for i, d in found.items())
    assert len(found) == size


def test_different_class_with_one_class_in_exactly_half_of_the_rows() -> None:
    manifest = make_manifest(300, 12, seed=4)
    other = names(12)
    rows = [
        replace(row, labels=(other[0] if i < 150 else other[1 + i % 11],))
        for i, row in enumerate(manifest.split("train"))
    ]
    manifest = manifest.with_rows(rows)
    noisy = inject(manifest, Correspondence(different_class=True), rate=1)
    found = lent(manifest, noisy)
    assert all(manifest[i].labels != manifest[d].labels for i, d in found.items())
    assert len(found) == 300


def test_impossible_different_class_is_refused() -> None:
    kind = Correspondence(different_class=True)
    with pytest.raises(UserError, match="'a' has 3 of the 4 drawn rows, more than half"):
        inject(of_classes("a", "a", "a", "b"), kind, rate=1)
    with pytest.raises(UserError, match="more than half"):
        inject(make_manifest(20, 1), kind, rate=0.5)
    with pytest.raises(UserError, match="needs labels"):
        inject(make_manifest(20, label_type="none"), kind, rate=0.5)
    whole_set = make_manifest(20, 3, label_type="multilabel")
    rows = [replace(row, labels=names(3)) for row in whole_set]
    with pytest.raises(UserError, match="No exchange among the 10 drawn rows"):
        inject(whole_set.with_rows(rows), kind, rate=0.5)
    external = Correspondence(donors="external", different_class=True)
    with pytest.raises(UserError, match=r"No row of the pool may lend its audio to row 'train\d'"):
        inject(of_classes("b", "a", pool=("a", "a")), external, rate=1)


def test_unknown_donors_are_refused() -> None:
    with pytest.raises(UserError, match="no kind of donors 'extern'; did you mean 'external'"):
        inject(make_manifest(20), Correspondence(donors="extern"), rate=0.5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.floats(0, 1), st.integers(0, 99))
def test_pool_rows_are_lent_once_before_one_is_lent_twice(n, pool, rate, seed) -> None:
    manifest = make_manifest(n, seed=seed, pool=pool)
    noisy = inject(manifest, EXTERNAL, rate=rate, seed=seed)
    found = lent(manifest, noisy)
    m = whole(rate, n)
    counts = Counter(found.values())
    assert len(found) == m
    assert all(manifest[donor].split == "pool" for donor in counts)
    assert max(counts.values(), default=0) == -(-m // pool)
    used = {"pool": pool, "used": min(m, pool), "reused": m > pool}
    assert noisy.entry["donors"] == used


def test_external_takes_other_classes_even_where_the_pool_must_lend_twice() -> None:
    manifest = of_classes(*"aaaaaabb", pool=tuple("aaab"))
    external = Correspondence(donors="external", different_class=True)
    noisy = inject(manifest, external, rate=1)
    found = lent(manifest, noisy)
    assert len(found) == 8
    assert all(manifest[i].labels != manifest[d].labels for i, d in found.items())
    part = lent(manifest, inject(manifest, external, rate=0.5))
    assert part.items() <= found.items()


def test_external_needs_a_pool() -> None:
    with pytest.raises(UserError, match="split pool and there are none; pass --pool FILE"):
        inject(make_manifest(10), EXTERNAL, rate=0.5)


def pool_of(*videos: str, root: str = ".", **fields: Any) -> Manifest:
    rows = tuple(
        Row(id=f"p{i}", start=0, end=1, split="train", labels=("q",), video=video, **fields)
        for i, video in enumerate(videos)
    )
    header = Header("others", "multiclass", ("q",), media_root=root)
    return Manifest(header, rows, Path("pools/pool.jsonl"))


def test_pool_is_appended_and_nothing_else_changes() -> None:
    manifest = placed(make_manifest(10))
    pool = pool_of("a.mp4", "b.mp4", root="media")
    noisy = inject(manifest, EXTERNAL, rate=0.5, pool=pool).manifest
    assert noisy.rows[-2:] == tuple(
        Row(f"p{i}", 0, 1, "pool", (), video=f"../pools/media/{v}.mp4") for i, v in enumerate("ab")
    )
    for split in ("val", "test"):
        assert noisy.split(split) == manifest.split(split)
    assert {row.audio_id for row in noisy.split("train") if row.audio_id != row.id} == {"p0", "p1"}


def test_pool_keeps_known_classes_and_named_sources() -> None:
    manifest = placed(make_manifest(4))
    row = Row("p", 0, 1, "test", ("z0",), video=None, group="somebody")
    pool = Manifest(Header("others", "multiclass", ("z0",)), (row,))
    assert inject(manifest, EXTERNAL, rate=0.5, pool=pool).manifest.rows[-1] == replace(
        row, split="pool"
    )


def test_pool_is_disjoint_by_source_and_id() -> None:
    manifest = placed(make_manifest(10))
    with pytest.raises(UserError, match=r"source 'test/0\.mp4' of the pool pool\.jsonl stands"):
        inject(manifest, EXTERNAL, rate=0.5, pool=pool_of("a.mp4", "test/0.mp4", root="../here"))
    same = pool_of("x.mp4", group="train/0.mp4")
    with pytest.raises(UserError, match=r"source 'train/0\.mp4' .* stands in split train too"):
        inject(manifest, EXTERNAL, rate=0.5, pool=same)
    # The same name under another media root is another video.
    inject(manifest, EXTERNAL, rate=0.5, pool=pool_of("test/0.mp4"))
    twice = pool_of("x.mp4")
    twice = twice.with_rows([replace(twice.rows[0], id="val1", audio_id="val1")])
    with pytest.raises(UserError, match="The id 'val1' of the pool"):
        inject(manifest, EXTERNAL, rate=0.5, pool=twice)
    pool = pool_of("x.mp4", "y.mp4")
    lent = inject(manifest, EXTERNAL, rate=0.5, pool=pool)
    again = {"rate": 0.5, "truth": lent.truth, "seed": 1}
    with pytest.raises(UserError, match=r"stand in split pool of .* already; leave --pool out"):
        inject(lent.manifest, EXTERNAL, pool=pool, **again)
    with pytest.raises(UserError, match=r"The id .* is taken in .*; rename"):
        inject(lent.manifest, EXTERNAL, pool=pool_of("x.mp4", "y.mp4", "z.mp4"), **again)
    inject(lent.manifest, EXTERNAL, **again)
    with pytest.raises(UserError, match="has no rows"):
        inject(manifest, EXTERNAL, rate=0.5, pool=pool_of())
    with pytest.raises(UserError, match="external only"):
        inject(manifest, Correspondence(), rate=0.5, pool=pool_of("x.mp4"))


def corpus(folder: Path, root: str, *videos: str, **fields: Any) -> Manifest:
    """A manifest in a folder of its own, one row a video, sources named after the folder."""
    rows = tuple(
        Row(f"{folder.name}{i}", 0, 1, labels=("q",), video=v, group=f"{folder.name}/{i}", **fields)
        for i, v in enumerate(videos)
    )
    return Manifest(Header("m", "multiclass", ("q",), root), rows, folder / "m.jsonl")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_pool_is_disjoint_by_file_whatever_sources_are_called(split: str, tmp_path: Path) -> None:
    train = corpus(tmp_path / "a", "../ucf/UCF-101", "A/x.avi", "A/y.avi", split="train")
    other = corpus(tmp_path / "b", "../ucf/UCF-101", "A/z.avi", split=split)
    manifest = train.with_rows((*train.rows, *other.rows))
    message = rf"is that of the row 'b0' in split {split} too; take its rows out of the pool"
    here = (tmp_path / "ucf" / "UCF-101" / "A" / "z.avi").as_posix()
    for root, video in [("../ucf", "UCF-101/A/z.avi"), ("../ucf/UCF-101/A/../A", "./z.avi"),
                        (str(tmp_path / "ucf"), "UCF-101/A/z.avi"), (".", here)]:  # fmt: skip
        pool = corpus(tmp_path / "pool", root, video.replace("z", "w"), video, split="train")
        with pytest.raises(UserError, match=message):
            inject(manifest, EXTERNAL, rate=0.5, pool=pool)
        inject(manifest, EXTERNAL, rate=0.5, pool=pool.with_rows(pool.rows[:1]))


def test_links_to_a_file_are_that_file(tmp_path: Path) -> None:
    (tmp_path / "all" / "A").mkdir(parents=True)
    (tmp_path / "all" / "A" / "x.avi").touch()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "x.avi").symlink_to("../all/A/x.avi")
    (tmp_path / "folders").symlink_to("all", target_is_directory=True)
    manifest = corpus(tmp_path / "m", "../all", "A/x.avi", "A/y.avi", split="train")
    places = [("../files", "x.avi"), ("../folders", "A/x.avi"), ("..", "folders/A/x.avi")]
    for root, video in places:
        pool = corpus(tmp_path / "p", root, video, split="train")
        with pytest.raises(UserError, match="is that of the row 'm0' in split train"):
            inject(manifest, EXTERNAL, rate=0.5, pool=pool)


def test_files_of_split_pool_and_rows_without_a_video_are_no_clash(tmp_path: Path) -> None:
    train = corpus(tmp_path / "a", "../v", "x.avi", None, split="train")
    own = corpus(tmp_path / "b", "../v", "z.avi", split="pool")
    manifest = train.with_rows((*train.rows, *own.rows))
    # The corpus' own pool serves as it is, and another manifest may lend the same file.
    assert inject(manifest, EXTERNAL, rate=1).entry["donors"]["pool"] == 1
    pool = corpus(tmp_path / "p", "../v", "z.avi", None, split="train")
    assert inject(manifest, EXTERNAL, rate=1, pool=pool).entry["donors"]["pool"] == 3


def test_the_pool_is_part_of_the_noise() -> None:
    manifest = make_manifest(10)
    one, other = (
        inject(manifest, EXTERNAL, rate=0.5, pool=pool_of(*videos))
        for videos in (["x.mp4"], ["x.mp4", "y.mp4"])
    )
    assert one.entry["id"] != other.entry["id"]


@pytest.mark.parametrize("label_type", ["multiclass", "multilabel"])
def test_class_conditional(label_type: str) -> None:
    manifest = make_manifest(300, 4, label_type=label_type)
    rates = dict(zip(names(4), (0.1, 0.2, 0.3, 0.4), strict=True))
    noisy = inject(manifest, Correspondence(), rates=rates)
    changed = lent(manifest, noisy).keys()
    share = noisy.entry["realised"]["per_class"]
    for name in names(4):
        having = {row.id for row in manifest.split("train") if name in row.labels}
        hit = len(having & changed)
        assert share[name] == hit / len(having)
        if label_type == "multiclass":
            assert hit == whole(rates[name], len(having))
    assert all(manifest[row_id].labels for row_id in changed)


def test_audio_that_was_exchanged_before_changes_again() -> None:
    manifest = make_manifest(40, pool=3)
    first = inject(manifest, EXTERNAL, rate=1).manifest
    before, after = audio_of(first), audio_of(inject(first, Correspondence(), rate=0.8, truth={}))
    assert sum(before[i] != after[i] for i in before) == 32
    assert sorted(before.values()) == sorted(after.values())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(-1, 3), min_size=2, max_size=2), min_size=1), st.data())
def test_shares_is_set_intersection(first: list[list[int]], data: st.DataObject) -> None:
    row = st.lists(st.integers(-1, 3), min_size=3, max_size=3)
    second = data.draw(st.lists(row, min_size=len(first), max_size=len(first)))
    expected = [bool({*a} & {*b} - {-1}) for a, b in zip(first, second, strict=True)]
    assert shares(np.array(first), np.array(second)).tolist() == expected


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.data())
def test_repair_stays_in_blocks_and_mends_what_can_be(blocks: int, block: int, data) -> None:
    """Forbidden: to be one's own donor. That can always be mended in blocks of two or more."""
    donor = np.concatenate(
        [np.array(data.draw(st.permutations(range(block)))) + b * block for b in range(blocks)]
    )
    before = donor.reshape(blocks, block).copy()
    left = repair(donor, np.not_equal, Streams(0), block=block)
    after = donor.reshape(blocks, block)
    assert (np.sort(before, axis=1) == np.sort(after, axis=1)).all()
    assert len(left) == (blocks if block == 1 else 0)
    assert (donor == np.arange(len(donor))).sum() == len(left)


def placed(manifest: Manifest) -> Manifest:
    """The manifest with a place, from which the pool's videos are found."""
    return Manifest(manifest.header, manifest.rows, Path("here/made.jsonl"))
