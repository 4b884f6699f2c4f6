"""Noise on noise, its record and its truth; what must not change does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.files import object_digest
from pipeline.manifest import (
    DenseEvent,
    Header,
    Manifest,
    Row,
    read_dense,
    read_manifest,
    write_dense,
    write_manifest,
)
from pipeline.noise import (
    Asymmetric,
    Correspondence,
    Drop,
    Modality,
    Spurious,
    Symmetric,
    Transition,
    inject,
    original,
    read_truth,
    truth_path,
    write_noisy,
)
from pipeline.noise.belonging import check_belongs
from tests.noisy import make_manifest

SINGLE = [
    Symmetric(),
    Symmetric(inclusive=True),
    Asymmetric(),
    Asymmetric(flip="cycle"),
    Asymmetric(flip="half"),
    Transition(matrix=np.full((5, 5), 0.2)),
    Correspondence(),
    Correspondence(donors="shuffle"),
    Correspondence(donors="external"),
    Correspondence(donors="external", different_class=True),
]
SEVERAL = [Drop(), Drop(allow_empty=True), Spurious(), Modality(), Correspondence()]
FIELDS = ("labels", "audio_id", "labels_audio", "labels_visual")


def comparable(row: Row, entry: dict[str, Any]) -> list[Any]:
    values = [original(row, entry, field) for field in FIELDS]
    return [v if isinstance(v, str) else sorted(v) for v in values]


def chain(kinds: list[Any], rates: list[float], manifest: Manifest) -> tuple[Manifest, Any]:
    """Injects one noise after the other, without files."""
    truth: Any = {}
    for kind, rate in zip(kinds, rates, strict=True):
        noisy = inject(manifest, kind, rate=rate, truth=truth)
        manifest, truth = noisy.manifest, noisy.truth
    return manifest, truth


@settings(max_examples=40, deadline=None)
@given(st.data(), st.booleans(), st.integers(0, 20))
def test_truth_restores_the_first_manifest(data: st.DataObject, several: bool, seed: int) -> None:
    kinds = data.draw(st.lists(st.sampled_from(SEVERAL if several else SINGLE), max_size=4))
    rates = [data.draw(st.floats(0.1, 1)) for _ in kinds]
    label_type = "multilabel" if several else "multiclass"
    clean = make_manifest(25, label_type=label_type, seed=seed, pool=7, lists=several)
    noisy, truth = chain(kinds, rates, clean)
    for old, new in zip(clean.rows, noisy.rows, strict=True):
        entry = truth.get(new.id, {})
        assert comparable(new, entry) == comparable(old, {})
        if old.split != "train":
            assert new is old
        # Nothing stands in the truth that is as it was.
        for field in entry.keys() - {"id"}:
            assert comparable(new, {})[FIELDS.index(field)] != entry[field]
    check_belongs(truth, noisy)
    assert [entry["kind"] for entry in noisy.header.noise] == [kind.name for kind in kinds]
    assert list(truth) == [row.id for row in noisy.rows if row.id in truth]


@pytest.mark.parametrize("kind", SINGLE, ids=lambda k: k.name)
def test_order_of_the_file_changes_nothing_but_the_order(kind: Any) -> None:
    manifest = make_manifest(40, pool=9)
    turned = manifest.with_rows(manifest.rows[::-1])
    one, other = (inject(m, kind, rate=0.5, seed=3) for m in (manifest, turned))
    assert one.manifest.rows == other.manifest.rows[::-1]
    assert one.manifest.header == other.manifest.header
    assert one.truth == other.truth


def test_a_label_that_returns_leaves_the_truth() -> None:
    manifest = make_manifest(30, 2)
    there = inject(manifest, Asymmetric(), rate=1)
    assert len(there.truth) == 30
    back = inject(there.manifest, Asymmetric(), rate=1, truth=there.truth)
    assert back.truth == {}
    assert back.manifest.rows == manifest.rows
    # What a noise did is counted against its own parent.
    assert back.entry["realised"]["overall"] == 1


def test_the_oldest_original_stays() -> None:
    manifest = make_manifest(30, 5)
    _, truth = chain([Asymmetric(), Asymmetric()], [1, 1], manifest)
    assert {i: tuple(e["labels"]) for i, e in truth.items()} == {
        row.id: row.labels for row in manifest.split("train")
    }


def test_what_the_header_records() -> None:
    manifest = make_manifest(50)
    first = inject(manifest, Symmetric(), rate=0.4, seed=2)
    entry = dict(first.entry)
    per_class = entry.pop("realised")["per_class"]
    assert per_class.keys() == set(manifest.classes)
    assert entry == {
        "id": first.entry["id"],
        "kind": "symmetric",
        "options": {"inclusive": False},
        "rate": 0.4,
        "count": 20,
        "changed": 20,
        "rows": 50,
        "classes": 5,
        "class_order": object_digest(list(manifest.classes)),
        "seed": 2,
        "parent": manifest.content_digest(),
    }
    assert first.manifest.header.parent == manifest.content_digest()
    both = inject(first.manifest, Correspondence(), rate=0.5, truth=first.truth)
    assert both.manifest.header.noise == (first.entry, both.entry)
    flipped = {i for i, e in both.truth.items() if "labels" in e}
    altered = {i for i, e in both.truth.items() if "audio_id" in e}
    assert (len(flipped), len(altered)) == (20, 25)
    assert both.entry["overlap"] == {
        "both": len(flipped & altered),
        "flipped": len(flipped - altered),
        "altered": len(altered - flipped),
        "neither": 50 - len(flipped | altered),
    }
    assert "overlap" not in inject(first.manifest, Symmetric(), rate=1, truth=first.truth).entry


def test_noise_never_changes() -> None:
    """The noise of published results must be found again by every later version."""
    rows = [Row(f"v{i}", 0, 1, "train", ("abc"[i % 3],)) for i in range(8)]
    rows += [Row(f"p{i}", 0, 1, "pool", ()) for i in range(3)]
    manifest = Manifest(Header("made", "multiclass", ("a", "b", "c")), tuple(rows))
    noisy = inject(manifest, Symmetric(), rate=0.5, seed=1)
    assert noisy.entry["id"] == "09506314d192"
    assert {i: noisy.manifest[i].labels[0] for i in noisy.truth} == {
        "v1": "a",
        "v4": "c",
        "v5": "a",
        "v7": "c",
    }
    noisy = inject(manifest, Correspondence(donors="external"), rate=0.5)
    assert noisy.entry["id"] == "f28a2b6cd99e"
    assert {i: noisy.manifest[i].audio_id for i in noisy.truth} == {
        "v1": "p1",
        "v3": "p1",
        "v4": "p2",
        "v6": "p0",
    }
    noisy = inject(manifest, Correspondence(), rate=0.5)
    assert noisy.entry["id"] == "44c5b2a4d433"
    assert {i: noisy.manifest[i].audio_id for i in noisy.truth} == {
        "v1": "v2",
        "v2": "v5",
        "v4": "v1",
        "v5": "v4",
    }


def test_the_id_tells_everything_apart() -> None:
    manifest = make_manifest(20)
    ids = [
        inject(manifest, kind, rate=rate, seed=seed).entry["id"]
        for kind in (Symmetric(), Symmetric(inclusive=True), Asymmetric(), Correspondence())
        for rate in (0, 0.5, 0.51)
        for seed in (0, 1)
    ]
    ids.append(inject(make_manifest(21), Symmetric(), rate=0.5).entry["id"])
    ids.append(
        inject(manifest, Symmetric(), rates=dict.fromkeys(manifest.classes, 0.5)).entry["id"]
    )
    assert len(set(ids)) == len(ids)
    again = inject(manifest, Symmetric(), rate=0.5, seed=0).entry["id"]
    assert again == ids[2]


def test_labels_and_audio_are_drawn_independently() -> None:
    manifest = make_manifest(2000)
    both, truth = chain([Symmetric(), Correspondence()], [0.5, 0.5], manifest)
    assert len(truth) == 2000 - both.header.noise[-1]["overlap"]["neither"]
    assert abs(both.header.noise[-1]["overlap"]["both"] - 500) < 4 * np.sqrt(2000 * 3 / 16)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A parsing corpus with dense annotations and a truth of its own."""
    clean = make_manifest(12, 3, label_type="multilabel")
    rows = [replace(row, labels=row.labels or ("z0",)) for row in clean.rows]
    dense = [DenseEvent(row.id, "audio", 1.0, 4.0, row.labels[0]) for row in clean.split("val")[:0]]
    dense += [DenseEvent("val0", "audio", 1.0, 4.0, "z0")]
    folder = tmp_path / "corpus"
    header = replace(
        clean.header,
        media_root="media",
        annotations=write_dense(dense, folder / "made.dense.tsv"),
    )
    write_manifest(Manifest(header, tuple(rows)), folder / "made.jsonl")
    lines = [
        {"id": r.id, "labels_audio": list(r.labels[:1]), "labels_visual": [], "events": [[0, 1]]}
        for r in rows
        if r.split == "train"
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "made.truth.jsonl").write_text(text)
    return folder / "made.jsonl"


@pytest.mark.parametrize("kind", SEVERAL, ids=lambda k: k.name)
def test_the_truth_of_a_corpus_is_carried_along(kind: Any, corpus: Path, tmp_path: Path) -> None:
    own = read_truth(truth_path(corpus))
    manifest = read_manifest(corpus)
    first = write_noisy(inject(manifest, kind, rate=0.6), tmp_path / "first.jsonl")
    last = write_noisy(
        inject(read_manifest(first), Drop(), rate=0.3), tmp_path / "x" / "last.jsonl"
    )
    for path in (first, last):
        truth = read_truth(truth_path(path))
        assert truth.keys() == own.keys()
        for row_id, entry in own.items():
            assert {key: truth[row_id][key] for key in entry} == entry
        assert read_manifest(path).header.noise[-1]["corpus_truth"] == [
            "events",
            "labels_audio",
            "labels_visual",
        ]
    added = {key for entry in read_truth(truth_path(first)).values() for key in entry} - set(entry)
    assert added == ({"audio_id"} if kind.name == "correspondence" else {"labels"}) - (
        {"labels"} if kind.name == "modality" else set()
    )
    unchanged = inject(manifest, kind, rate=0)
    write_noisy(unchanged, tmp_path / "same.jsonl")
    assert truth_path(tmp_path / "same.jsonl").read_bytes() == truth_path(corpus).read_bytes()


def test_a_corpus_that_states_some_rows_leaves_the_others_to_the_noise() -> None:
    manifest = make_manifest(10)
    stated = {"train0": {"id": "train0", "labels": ["v4"]}}
    noisy = inject(manifest, Symmetric(), rate=1, truth=stated)
    assert noisy.truth["train0"] == stated["train0"]
    assert {i: tuple(e["labels"]) for i, e in noisy.truth.items() if i != "train0"} == {
        row.id: row.labels for row in manifest.split("train") if row.id != "train0"
    }


def test_numbers_of_numpy_are_numbers() -> None:
    manifest = make_manifest(10)
    noisy = inject(manifest, Symmetric(), rate=np.float32(0.5), seed=np.int64(3))
    assert noisy.entry == inject(manifest, Symmetric(), rate=0.5, seed=3).entry
    json.dumps(noisy.manifest.header.to_json())


def test_files_are_found_from_another_folder(corpus: Path, tmp_path: Path) -> None:
    manifest = read_manifest(corpus)
    out = write_noisy(inject(manifest, Drop(), rate=0.5), tmp_path / "else" / "deep" / "out.jsonl")
    noisy = read_manifest(out)
    assert noisy.media_root.resolve() == manifest.media_root.resolve()
    assert read_dense(noisy) == read_dense(manifest)
    assert noisy.header.annotations["digest"] == manifest.header.annotations["digest"]


@pytest.mark.parametrize("kind", SINGLE, ids=str)
def test_equal_inputs_give_equal_bytes_and_other_splits_keep_theirs(
    kind: Any, tmp_path: Path
) -> None:
    clean = tmp_path / "clean.jsonl"
    write_manifest(make_manifest(40, pool=40), clean)
    outs = [tmp_path / "a" / "o.jsonl", tmp_path / "b" / "o.jsonl"]
    for out in outs:
        write_noisy(inject(read_manifest(clean), kind, rate=0.5, seed=4), out)
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert truth_path(outs[0]).read_bytes() == truth_path(outs[1]).read_bytes()
    old, new = (path.read_bytes().splitlines()[1:] for path in (clean, outs[0]))
    pairs = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert 0 < len(pairs) <= 20
    assert all(json.loads(line)["split"] == "train" for pair in pairs for line in pair)


def test_output_never_overwrites_its_parent(corpus: Path, tmp_path: Path) -> None:
    injection = inject(read_manifest(corpus), Drop(), rate=0.5)
    before = truth_path(corpus).read_bytes()
    for name in ("made.jsonl", "made.json", "made.truth.jsonl"):
        with pytest.raises(UserError, match="would overwrite made"):
            write_noisy(injection, corpus.with_name(name))
    assert truth_path(corpus).read_bytes() == before


def test_a_noisy_parent_needs_its_truth(tmp_path: Path) -> None:
    out = write_noisy(inject(make_manifest(), Symmetric(), rate=0.5), tmp_path / "noisy.jsonl")
    truth = truth_path(out)
    lines = truth.read_text()
    truth.write_text(lines.replace('"id": "train', '"id": "trein', 1))
    with pytest.raises(UserError, match=r"names the row 'trein\d+'"):
        inject(read_manifest(out), Correspondence(), rate=0.5)
    truth.write_text(lines + "[]\n")
    with pytest.raises(UserError, match=r"noisy\.truth\.jsonl line 21 is no truth entry"):
        inject(read_manifest(out), Correspondence(), rate=0.5)
    truth.unlink()
    with pytest.raises(UserError, match=r"its truth noisy\.truth\.jsonl is not beside it"):
        inject(read_manifest(out), Correspondence(), rate=0.5)
    with pytest.raises(UserError, match="cannot be read"):
        read_truth(truth)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("labels", 5, r"labels must be a list of class names, this is 5; make"),
        ("labels", "z0", r"labels must be a list of class names, this is 'z0'; make"),
        ("labels_audio", [3], r"labels_audio must be a list of class names, this is \[3\]"),
        ("labels_visual", None, r"labels_visual must be a list of class names, this is None"),
        ("audio_id", ["train1"], r"audio_id must be an id, this is \['train1'\]"),
    ],
)
def test_values_of_a_truth_have_their_types(
    key: str, value: Any, message: str, tmp_path: Path
) -> None:
    out = write_noisy(inject(make_manifest(), Symmetric(), rate=0.5), tmp_path / "noisy.jsonl")
    lines = truth_path(out).read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | {key: value})
    truth_path(out).write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=rf"noisy\.truth\.jsonl line 3: {message}"):
        inject(read_manifest(out), Symmetric(), rate=0.5)


def test_a_folder_is_no_output_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    injection = inject(make_manifest(), Symmetric(), rate=0.5)
    (tmp_path / "out").mkdir()
    (tmp_path / "other.truth.jsonl").mkdir()
    for name in ("out", "other.jsonl"):
        with pytest.raises(UserError, match="is a folder; give --out the name of a file"):
            write_noisy(injection, tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.truth.jsonl", "out"]


def test_rows_without_any_noise_have_no_truth() -> None:
    header = Header("made", "none", ())
    rows = tuple(Row(str(i), 0, 1, "train", (), audio_id=str(1 - i)) for i in range(2))
    # Audio that was foreign in the first manifest is its original.
    noisy = inject(Manifest(header, rows), Correspondence(), rate=1)
    assert {i: e["audio_id"] for i, e in noisy.truth.items()} == {"0": "1", "1": "0"}
