"""Labels too few, too many, or in the wrong modality."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.manifest import Header, Manifest, Row
from pipeline.noise import Drop, Modality, Spurious, inject
from pipeline.noise.rates import whole
from tests.noisy import make_manifest, names

KINDS = [Drop(), Drop(allow_empty=True), Spurious(), Modality(), Modality(change="remove")]
BY_NAME = {"argvalues": KINDS, "ids": [f"{k.name}-{n}" for n, k in enumerate(KINDS)]}
FIELDS = ("labels", "labels_audio", "labels_visual")


def made(n: int = 40, seed: int = 0) -> Manifest:
    return make_manifest(n, 4, label_type="multilabel", seed=seed, lists=True)


def held(row: Row) -> dict[str, set[str]]:
    """Labels of the clip and, as they stand or follow from it, of the modalities."""
    return {f: set(row.labels if getattr(row, f) is None else getattr(row, f)) for f in FIELDS}


def gone_and_new(manifest: Manifest, noisy: Any) -> dict[str, dict[str, tuple[set, set]]]:
    """By changed row and field: what it lost and what it gained."""
    found = {}
    for old, new in zip(manifest.rows, noisy.manifest.rows, strict=True):
        before, after = held(old), held(new)
        if before != after:
            assert old.split == "train"
            found[old.id] = {f: (before[f] - after[f], after[f] - before[f]) for f in FIELDS}
    return found


@settings(max_examples=20, deadline=None)
@given(rate=st.floats(0, 1), seed=st.integers(0, 99), empty=st.booleans())
def test_drop_takes_one_label_and_never_the_last(rate: float, seed: int, empty: bool) -> None:
    manifest = made(seed=seed)
    noisy = inject(manifest, Drop(allow_empty=empty), rate=rate, seed=seed)
    found = gone_and_new(manifest, noisy)
    spare = sum(len(row.labels) > (0 if empty else 1) for row in manifest.split("train"))
    assert len(found) == min(whole(rate, 40), spare) == noisy.entry["changed"]
    assert ("instead of" in noisy.note) == (whole(rate, 40) > spare)
    for row_id, fields in found.items():
        lost, gained = fields["labels"]
        assert (len(lost), len(gained)) == (1, 0)
        assert noisy.manifest[row_id].labels or empty
        for field in FIELDS[1:]:
            assert fields[field][0] <= lost
            assert not held(noisy.manifest[row_id])[field] & lost


@settings(max_examples=20, deadline=None)
@given(rate=st.floats(0, 1), seed=st.integers(0, 99))
def test_spurious_adds_one_label_in_class_order(rate: float, seed: int) -> None:
    manifest = made(seed=seed)
    noisy = inject(manifest, Spurious(), rate=rate, seed=seed)
    found = gone_and_new(manifest, noisy)
    room = sum(len(row.labels) < 4 for row in manifest.split("train"))
    assert len(found) == min(whole(rate, 40), room) == noisy.entry["changed"]
    for row_id, fields in found.items():
        for lost, gained in fields.values():
            assert not lost
            assert len(gained) == 1
        labels = noisy.manifest[row_id].labels
        assert list(labels) == sorted(labels, key=names(4).index)


@pytest.mark.parametrize("change", ["flip", "remove", "add"])
@pytest.mark.parametrize("modality", [None, "audio", "visual"])
@settings(max_examples=12, deadline=None)
@given(rate=st.floats(0, 1), seed=st.integers(0, 99))
def test_modality_changes_one_label_of_one_list(change, modality, rate: float, seed: int) -> None:
    manifest = made(seed=seed)
    noisy = inject(manifest, Modality(change=change, modality=modality), rate=rate, seed=seed)
    found = gone_and_new(manifest, noisy)
    assert len(found) == noisy.entry["changed"] <= whole(rate, 40)
    assert len(found) == whole(rate, 40) or "instead of" in noisy.note
    for row_id, fields in found.items():
        assert fields.pop("labels") == (set(), set())
        changed = {f: pair for f, pair in fields.items() if pair != (set(), set())}
        ((field, (lost, gained)),) = changed.items()
        assert modality is None or field == f"labels_{modality}"
        assert len(lost) + len(gained) == 1
        assert not (lost and change == "add")
        assert not (gained and change == "remove")
        now = held(noisy.manifest[row_id])
        assert (lost | gained) <= now["labels"]
        assert (lost | gained) <= now["labels_audio"] | now["labels_visual"]


@pytest.mark.parametrize("kind", **BY_NAME)
@settings(max_examples=12, deadline=None)
@given(rates=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted), seed=st.integers(0, 99))
def test_sets_and_values_nest_in_the_rate(kind: Any, rates: list[float], seed: int) -> None:
    manifest = made(seed=seed)
    low, high = (gone_and_new(manifest, inject(manifest, kind, rate=r)) for r in rates)
    assert all(high[row_id] == fields for row_id, fields in low.items())
    some = [dict.fromkeys(names(4), r) for r in rates]
    low, high = (gone_and_new(manifest, inject(manifest, kind, rates=r)) for r in some)
    for row_id, fields in low.items():
        for field, (lost, gained) in fields.items():
            assert lost <= high[row_id][field][0]
            assert gained <= high[row_id][field][1]


@pytest.mark.parametrize("kind", **BY_NAME)
def test_identity_at_rate_zero(kind: Any) -> None:
    manifest = made()
    assert inject(manifest, kind, rate=0).manifest.rows == manifest.rows
    assert inject(manifest, kind, rates=dict.fromkeys(names(4), 0)).manifest.rows == manifest.rows


@pytest.mark.parametrize("kind", **BY_NAME)
def test_class_conditional_counts(kind: Any) -> None:
    manifest = made(200)
    rates = dict(zip(names(4), (0.1, 0.2, 0.3, 0.0), strict=True))
    noisy = inject(manifest, kind, rates=rates)
    found = gone_and_new(manifest, noisy)
    for name, rate in rates.items():
        rows = [row for row in manifest.split("train") if name in row.labels]
        if kind.name == "spurious":
            rows = [row for row in manifest.split("train") if name not in row.labels]
        touched = sum(
            any(name in lost | gained for lost, gained in fields.values())
            for fields in found.values()
        )
        assert touched == whole(rate, len(rows))
        assert noisy.entry["realised"]["per_class"][name] == touched / len(rows)
    assert noisy.entry["changed"] == len(found)


def test_class_conditional_drop_leaves_a_label_at_any_rate() -> None:
    manifest = made(100)
    every = dict.fromkeys(names(4), 1)
    noisy = inject(manifest, Drop(), rates=every)
    for old, new in zip(manifest.split("train"), noisy.manifest.split("train"), strict=True):
        assert len(new.labels) == min(1, len(old.labels))
    assert noisy.note.startswith("4 classes have fewer rows with a label to spare")
    bare = inject(manifest, Drop(allow_empty=True), rates=every)
    assert not any(row.labels for row in bare.manifest.split("train"))
    assert not bare.note
    full = inject(manifest, Spurious(), rates=every)
    assert all(set(row.labels) == set(names(4)) for row in full.manifest.split("train"))


def test_dropped_labels_and_modalities_are_drawn_uniformly() -> None:
    rows = tuple(Row(f"{i:04}", 0, 1, "train", ("b", "a", "c")) for i in range(3000))
    manifest = Manifest(Header("made", "multilabel", ("a", "b", "c", "d")), rows)
    dropped = inject(manifest, Drop(), rate=1).entry["realised"]["per_class"]
    assert dropped["d"] is None
    assert max(abs(dropped[x] - 1 / 3) for x in "abc") < 4 * (2 / 9 / 3000) ** 0.5
    rows = inject(manifest, Modality(), rate=1).manifest.rows
    quiet = sum(row.labels_audio is not None for row in rows)
    assert abs(quiet - 1500) < 4 * (3000 / 4) ** 0.5
    rows = tuple(Row(f"{i:04}", 0, 1, "train", ("b",)) for i in range(3000))
    gained = inject(manifest.with_rows(rows), Spurious(), rate=1).entry["realised"]["per_class"]
    assert max(abs(gained[x] - 1 / 3) for x in "acd") < 4 * (2 / 9 / 3000) ** 0.5


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="no change 'removed'; did you mean 'remove'"):
        inject(made(), Modality(change="removed"), rate=0.5)
    with pytest.raises(UserError, match="no modality 'video'"):
        inject(made(), Modality(modality="video"), rate=0.5)
    with pytest.raises(UserError, match="two classes or more"):
        inject(make_manifest(5, 1, label_type="multilabel"), Spurious(), rate=0.5)
    for kind in KINDS:
        with pytest.raises(
            UserError, match="multilabel manifests noisy and this one is multiclass"
        ):
            inject(make_manifest(5), kind, rate=0.5)
