"""Manifests are read back as written, from any folder, and nothing off is let through."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.manifest import (
    DenseEvent,
    Header,
    Manifest,
    Row,
    dense_matrices,
    read_dense,
    read_manifest,
    write_dense,
    write_manifest,
)

NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\x85\u2028\u2029"),
    min_size=1,
    max_size=12,
)
FOLDERS = st.sampled_from([".", "videos", "a/b", "../media", "süß/дом", "with space"])


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    classes = tuple(draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)))
    label_type = draw(st.sampled_from(["multilabel", "multiclass", "none"]))
    ids = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    size = {"multilabel": (0, 4), "multiclass": (1, 1), "none": (0, 0)}[label_type]
    labels = st.lists(st.sampled_from(classes), min_size=size[0], max_size=size[1], unique=True)
    modality = st.none() | labels.map(tuple)
    rows = []
    for row_id in ids:
        start = draw(st.floats(0, 1e4, allow_nan=False))
        rows.append(
            Row(
                id=row_id,
                start=start,
                end=start + draw(st.floats(0.001, 1e3)),
                split=draw(st.sampled_from(["train", "val", "test", "pool"])),
                labels=tuple(draw(labels)),
                # One video a row, so that no group stands in two splits.
                video=draw(st.sampled_from([None, f"{len(rows)}.mp4", f"x/{len(rows)} ü.mkv"])),
                audio_id=draw(st.sampled_from(["", *ids])),
                group=draw(st.sampled_from(["", f"group {len(rows)}"])),
                labels_audio=draw(modality),
                labels_visual=draw(modality),
            )
        )
    header = Header(
        dataset=draw(NAMES),
        label_type=label_type,
        classes=classes,
        media_root=draw(FOLDERS),
        parent=draw(st.none() | st.just("0123abcd")),
        noise=draw(st.sampled_from([(), ({"kind": "symmetric", "rate": 0.25, "seed": 0},)])),
        corpus=draw(st.sampled_from([None, {"name": "demo", "version": 1}])),
    )
    # A group may repeat only inside one split; ids may equal another row's default group.
    groups: dict[str, str] = {}
    kept = [row for row in rows if groups.setdefault(row.group, row.split) == row.split]
    known = {row.id for row in kept}
    # Audio comes from the same split or from the pool.
    split = {row.id: row.split for row in kept}
    kept = [row for row in kept if split.get(row.audio_id) in (row.split, "pool")]
    while len(kept) < len(known):
        known = {row.id for row in kept}
        kept = [row for row in kept if row.audio_id in known]
    return Manifest(header, tuple(kept))


@given(manifest=manifests())
@settings(max_examples=80, deadline=None)
def test_written_and_read_is_equal(
    manifest: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("m") / "manifest.jsonl"
    written = write_manifest(manifest, path)
    again = read_manifest(path)
    assert again == written
    assert again.header == manifest.header
    assert again.rows == manifest.rows
    assert again.content_digest() == manifest.content_digest()
    # Writing what was read changes no byte.
    before = path.read_bytes()
    write_manifest(again, path)
    assert path.read_bytes() == before


@given(manifest=manifests(), place=st.sampled_from(["", "deeper", "deeper/still", "../aside"]))
@settings(max_examples=40, deadline=None)
def test_media_are_the_same_files_from_another_folder(
    manifest: Manifest, place: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("m") / "here"
    first = write_manifest(manifest, base / "manifest.jsonl")
    moved = write_manifest(first, base / place / "moved.jsonl")
    again = read_manifest(moved.path)
    assert again.content_digest() == first.content_digest()
    for one, other in zip(first, again, strict=True):
        old, new = first.media_path(one), again.media_path(other)
        assert (old is None) == (new is None)
        if old is not None:
            assert os.path.normpath(old) == os.path.normpath(new)


def test_an_absolute_media_root_stays(tmp_path: Path) -> None:
    root = tmp_path / "media"
    manifest = Manifest(Header("d", "none", (), root.as_posix()), (Row("a", 0, 1, "train", ()),))
    first = write_manifest(manifest, tmp_path / "one" / "m.jsonl")
    assert write_manifest(first, tmp_path / "two" / "m.jsonl").media_root == root


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["audio", "visual"]),
        st.integers(0, 10**7),
        st.integers(1, 10**7),
        st.sampled_from(["Dog", "Frying_(food)", 'a "b"', "süß"]),
    ),
    max_size=8,
)


@given(events=EVENTS)
@settings(max_examples=40, deadline=None)
def test_dense_annotations_are_read_as_written(
    events: list[tuple[str, int, int, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("m")
    dense = tuple(
        DenseEvent("clip\t1", modality, onset / 1000, (onset + length) / 1000, label)
        for modality, onset, length, label in events
    )
    classes = ("Dog", "Frying_(food)", 'a "b"', "süß")
    header = Header("d", "multilabel", classes, annotations=write_dense(dense, folder / "d.tsv"))
    rows = (Row("clip\t1", 0, 10, "val", ()),)
    manifest = write_manifest(Manifest(header, rows), folder / "m.jsonl")
    assert read_dense(manifest) == dense
    moved = write_manifest(manifest, folder / "sub" / "m.jsonl")
    assert read_dense(read_manifest(moved.path)) == dense


HEADER: dict[str, Any] = {
    "manifest": 1,
    "dataset": "d",
    "label_type": "multilabel",
    "classes": ["Dog", "Cat"],
}
ROWS: list[dict[str, Any]] = [
    {"id": "a", "video": "a.mp4", "start": 0, "end": 10, "split": "train", "labels": ["Dog"]},
    {"id": "b", "video": "b.mp4", "start": 0.5, "end": 2, "split": "val", "labels": []},
    {"id": "c", "video": "c.mp4", "start": 0, "end": 10, "split": "test", "labels": ["Cat", "Dog"]},
]


def _write(path: Path, header: Any, rows: list[Any]) -> Path:
    lines = [x if isinstance(x, str) else json.dumps(x) for x in (header, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _row(index: int = 2, *, without: str | None = None, **values: Any) -> list[Any]:
    """The rows with one changed; index 2 is line 4."""
    rows = [dict(row) for row in ROWS]
    rows[index] |= values
    if without is not None:
        del rows[index][without]
    return rows


def test_the_plain_manifest_reads(tmp_path: Path) -> None:
    manifest = read_manifest(_write(tmp_path / "m.jsonl", HEADER, ROWS))
    assert [row.id for row in manifest] == ["a", "b", "c"]
    assert manifest["c"].group == "c.mp4"
    assert manifest["c"].audio_id == "c"


BAD_ROWS = {
    "unknown key": (_row(colour="red"), 4, "unknown key 'colour'.*allowed: id"),
    "missing key": (_row(without="split"), 4, "lacks 'split'; add it"),
    "duplicate id": (_row(id="a"), 4, "'a' is taken by line 2; ids must be unique"),
    "unknown label": (_row(labels=["Dgo"]), 4, "'Dgo' is not among .*correct it or add the class"),
    "unknown audio label": (_row(labels_audio=["Cow"]), 4, "'Cow' is not among"),
    "unknown visual label": (_row(labels_visual=["Cow"]), 4, "'Cow' is not among"),
    "repeated label": (_row(labels=["Dog", "Dog"]), 4, "repeats a name.*keep each once"),
    "labels that are no list": (_row(labels="Dog"), 4, "labels must be a list"),
    "empty interval": (_row(end=0), 4, "0.0 to 0.0 s is empty; make end larger"),
    "turned interval": (_row(start=11), 4, "11.0 to 10.0 s is empty"),
    "before the file": (_row(start=-1), 4, "before the file begins; use 0"),
    "time that is no number": (_row(start="0"), 4, "start must be a number of seconds"),
    "time that is a truth value": (_row(end=True), 4, "end must be a number of seconds"),
    "endless time": (_row(end=float("inf")), 4, "end must be a number"),
    "time out of range": ([*ROWS[:2], json.dumps(ROWS[2]).replace("10", "1e999")], 4, "end must"),
    "huge whole time": (_row(end=10**400), 4, "end must be a number"),
    "unknown split": (_row(split="training"), 4, "'training' is unknown; use one of train"),
    "split of another type": (_row(split=["test"]), 4, "is unknown; use one of"),
    "empty id": (_row(id=""), 4, "id must be a text that is not empty"),
    "id that is a number": (_row(id=7), 4, "id must be a text"),
    "group in two splits": (_row(group="a.mp4"), 4, "stands in test here and in train on line 2"),
    "video in two splits": (_row(video="b.mp4"), 4, "in val on line 3; keep every group in one"),
    "audio of no row": (_row(audio_id="zz"), 4, "'zz' is no row.*add that row with split pool"),
    "audio of another split": (
        _row(audio_id="a"),
        4,
        "'a' stands in train and this row in test; name a row of the same split, or one of split",
    ),
    "evaluation audio in training": (_row(0, audio_id="c"), 2, "'c' stands in test and this row"),
    "blank line": ([*ROWS[:1], "", *ROWS[1:]], 3, "the line is blank; delete it"),
    "blank last line": ([*ROWS, "   "], 5, "the line is blank"),
    "not JSON": ([*ROWS[:2], "{'id': 1}"], 4, "not JSON"),
    "cut off": ([*ROWS[:2], json.dumps(ROWS[2])[:40]], 4, "not JSON"),
    "repeated key": ([*ROWS[:2], '{"id": "c", "id": "d"}'], 4, "'id' stands twice; keep one"),
    "not an object": ([*ROWS[:2], "[1, 2]"], 4, "a row is a JSON object, this is list"),
    "a second header": ([*ROWS, HEADER], 5, "unknown key 'classes'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ROWS)
def test_bad_rows_name_line_and_remedy(tmp_path: Path, case: str) -> None:
    rows, line, message = BAD_ROWS[case]
    with pytest.raises(UserError) as error:
        read_manifest(_write(tmp_path / "m.jsonl", HEADER, rows))
    text = str(error.value)
    assert text.startswith(f"m.jsonl line {line}: ")
    assert re.search(message, text)
    assert "\n" not in text


BAD_HEADERS = {
    "unknown key": (HEADER | {"colours": 3}, "unknown key 'colours' in the header"),
    "missing key": ({k: v for k, v in HEADER.items() if k != "classes"}, "lacks 'classes'"),
    "another version": (HEADER | {"manifest": 2}, "version 2 is unknown"),
    "unknown label type": (HEADER | {"label_type": "multi"}, "use one of multiclass"),
    "repeated class": (HEADER | {"classes": ["Dog", "Dog"]}, "classes repeats a name"),
    "noise that is no list": (HEADER | {"noise": {}}, "noise must be a list"),
    "annotations without digest": (HEADER | {"annotations": {"file": "x"}}, '"file" and "digest"'),
    "annotations of another type": (
        HEADER | {"annotations": {"file": 3, "digest": "x"}},
        "annotations must hold.*as texts",
    ),
    "corpus of another type": (HEADER | {"corpus": "demo"}, "corpus must be an object"),
    "parent of another type": (HEADER | {"parent": 3}, "parent must be a text"),
    "empty media root": (HEADER | {"media_root": ""}, "media_root must be a text"),
    "a row": (ROWS[0], "unknown key 'end' in the header"),
    "not JSON": ("id,start,end", "not JSON"),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_bad_headers_are_line_1(tmp_path: Path, case: str) -> None:
    header, message = BAD_HEADERS[case]
    with pytest.raises(UserError, match=f"^m.jsonl line 1: .*{message}"):
        read_manifest(_write(tmp_path / "m.jsonl", header, ROWS))


def test_label_type_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    with pytest.raises(UserError, match=r"line 3: a multiclass row has exactly one.*multilabel"):
        read_manifest(_write(path, HEADER | {"label_type": "multiclass"}, ROWS))
    with pytest.raises(UserError, match="line 2: label_type is none but the row has labels"):
        read_manifest(_write(path, HEADER | {"label_type": "none"}, ROWS))
    pool = _row(1, split="pool")
    pool[2]["labels"] = ["Cat"]
    assert len(read_manifest(_write(path, HEADER | {"label_type": "multiclass"}, pool))) == 3


def test_audio_of_the_pool_serves_every_split(tmp_path: Path) -> None:
    rows = [row | {"audio_id": "p"} for row in ROWS]
    rows.append(ROWS[0] | {"id": "p", "video": "p.mp4", "split": "pool"})
    manifest = read_manifest(_write(tmp_path / "m.jsonl", HEADER, rows))
    assert {row.audio_id for row in manifest} == {"p"}


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff\xfe\x00"])
def test_files_that_are_no_manifest(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"begins with a header|is it a manifest\?"):
        read_manifest(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(tmp_path / "none.jsonl")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*HEADER, *ROWS[0], "audio_id", "x"]), inner, max_size=4)
    ),
    max_leaves=6,
)


@given(line=st.integers(0, 3), key=st.sampled_from([*HEADER, *ROWS[0], "group"]), value=JSON)
@settings(max_examples=300, deadline=None)
def test_no_value_anywhere_is_a_traceback(
    line: int, key: str, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines: list[Any] = [dict(x) for x in (HEADER, *ROWS)]
    lines[line][key] = value
    path = _write(tmp_path_factory.mktemp("m") / "m.jsonl", lines[0], lines[1:])
    outcome = _read_or_refusal(path)
    assert isinstance(outcome, Manifest) or re.match(r"m\.jsonl line [1-4]: ", outcome)


def _read_or_refusal(path: Path) -> Manifest | str:
    try:
        return read_manifest(path)
    except UserError as error:
        return str(error)


def _dense(path: Path, *lines: str) -> Manifest:
    """A manifest whose annotations are these lines under the right columns."""
    text = "\n".join(["id\tmodality\tonset\toffset\tlabel", *lines]) + "\n"
    return _annotated(path, text)


def _annotated(path: Path, text: str) -> Manifest:
    (path / "d.tsv").write_bytes(text.encode())
    reference = {"file": "d.tsv", "digest": hashlib.sha256(text.encode()).hexdigest()}
    return read_manifest(_write(path / "m.jsonl", HEADER | {"annotations": reference}, ROWS))


BAD_EVENTS = {
    "unknown id": ("zz\taudio\t0\t1\tDog", "'zz' is no row of the manifest; delete the line"),
    "unknown modality": ("c\tsound\t0\t1\tDog", "'sound' is unknown; use audio or visual"),
    "unknown label": ("c\taudio\t0\t1\tCow", "'Cow' is not among the classes; correct it"),
    "no number": ("c\taudio\tzero\t1\tDog", "must be seconds"),
    "empty": ("c\taudio\t4\t4\tDog", "from 4 to 4 s is empty"),
    "turned": ("c\taudio\t4\t3\tDog", "is empty"),
    "before the clip": ("c\taudio\t-1\t3\tDog", "is empty"),
    "endless": ("c\taudio\t0\tnan\tDog", "is empty"),
    "too few columns": ("c\taudio\t0\t1", "4 columns instead of 5"),
    "blank": ("", "0 columns instead of 5"),
}


@pytest.mark.parametrize("case", BAD_EVENTS)
def test_bad_events_name_line_and_remedy(tmp_path: Path, case: str) -> None:
    line, message = BAD_EVENTS[case]
    manifest = _dense(tmp_path, "c\taudio\t0\t10\tDog", line, "c\tvisual\t0\t1\tCat")
    with pytest.raises(UserError, match=f"^d.tsv line 3: .*{message}"):
        read_dense(manifest)


def test_annotations_as_a_whole(tmp_path: Path) -> None:
    manifest = _dense(tmp_path, "c\taudio\t0\t10\tDog")
    assert read_dense(manifest) == (DenseEvent("c", "audio", 0, 10, "Dog"),)
    (tmp_path / "d.tsv").write_text("id\tmodality\tonset\toffset\tlabel\n")
    with pytest.raises(UserError, match="were changed after the manifest was made; make it again"):
        read_dense(manifest)
    (tmp_path / "d.tsv").unlink()
    with pytest.raises(UserError, match="put the file beside its manifest"):
        read_dense(manifest)
    with pytest.raises(UserError, match=r"d\.tsv line 1: the columns must be id, modality"):
        read_dense(_annotated(tmp_path, "filename\tonset\n"))
    with pytest.raises(UserError, match="names no dense annotations"):
        read_dense(read_manifest(_write(tmp_path / "plain.jsonl", HEADER, ROWS)))


def test_dense_matrices_fill_the_segments_that_begin_inside(tmp_path: Path) -> None:
    lines = ["c\taudio\t0\t4\tDog", "c\taudio\t8\t10\tDog", "c\tvisual\t2.5\t3.5\tCat"]
    manifest = _dense(tmp_path, *lines, "b\tvisual\t0\t30\tDog")
    audio, visual = dense_matrices(manifest, [manifest["b"], manifest["c"]])
    assert audio.shape == visual.shape == (2, 10, 2)
    np.testing.assert_array_equal(np.flatnonzero(audio[1, :, 0]), [0, 1, 2, 3, 8, 9])
    np.testing.assert_array_equal(np.flatnonzero(visual[1, :, 1]), [3])
    assert visual[0, :, 0].all()
    assert not audio[0].any()
    assert not audio[..., 1].any()


def test_content_digest_knows_content_and_nothing_else(tmp_path: Path) -> None:
    manifest = read_manifest(_write(tmp_path / "m.jsonl", HEADER, ROWS))
    same = manifest.with_rows(reversed(manifest.rows), media_root="elsewhere", dataset="e")
    rows = manifest.rows
    changed = [
        manifest.with_rows([Row(**_fields(rows[0]) | change), *rows[1:]])
        for change in (
            {"labels": ("Cat",)},
            {"split": "test"},
            {"split": "test", "audio_id": "c"},
            {"group": "g"},
            {"labels_audio": ()},
            {"labels_visual": ("Dog",)},
        )
    ]
    assert same.content_digest() == manifest.content_digest()
    assert len({m.content_digest() for m in [manifest, *changed]}) == 7


def _fields(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Row.__slots__}


def test_label_matrix_takes_the_labels_of_a_modality(tmp_path: Path) -> None:
    rows = _row(2, labels_audio=["Dog"], labels_visual=[])
    manifest = read_manifest(_write(tmp_path / "m.jsonl", HEADER, rows))
    asked = manifest.rows
    assert manifest.label_matrix(asked).tolist() == [[1, 0], [0, 0], [1, 1]]
    assert manifest.label_matrix(asked, "audio").tolist() == [[1, 0], [0, 0], [1, 0]]
    assert manifest.label_matrix(asked, "visual").tolist() == [[1, 0], [0, 0], [0, 0]]
