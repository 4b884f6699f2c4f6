"""Kinetics' tables: samples that repeat anywhere, files as they lie on disks, and broken lines."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.manifest import Manifest, read_manifest
from pipeline.manifest.__main__ import main
from pipeline.manifest.classes import class_names, read_classes
from pipeline.manifest.kinetics import import_kinetics
from pipeline.manifest.report import check_media
from tests.media import render_clip, sine

LABELS = ("archery", "petting animal (not cat)", "yoga")
HEADER = "label,youtube_id,time_start,time_end,split"


def _lines(split: str, count: int, labels: tuple[str, ...] = LABELS) -> list[str]:
    return [
        f"{label},{split[:2]}{c}-{n:07d},{10 * n},{10 * n + 10},{split}"
        for c, label in enumerate(labels)
        for n in range(count)
    ]


def _table(path: Path, lines: list[str], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def tables(tmp_path: Path) -> list[Path]:
    """Training and validation tables of three classes."""
    return [
        _table(tmp_path / "train.csv", _lines("train", 12)),
        _table(tmp_path / "validate.csv", _lines("validate", 5)),
    ]


def _import(tables: list[Path], **options: object) -> Manifest:
    return import_kinetics(tables, tables[0].with_name("m.jsonl"), **options).manifest


def test_rows_of_all_clips(tables: list[Path]) -> None:
    manifest = _import(tables)
    assert manifest.header.dataset == "kinetics"
    assert manifest.classes == LABELS
    assert [len(manifest.split(s)) for s in ("train", "val", "test")] == [36, 0, 15]
    row = manifest["tr0-0000003_000030_000040"]
    assert (row.start, row.end, row.labels, row.group) == (30, 40, ("archery",), "tr0-0000003")
    assert row.video is None
    assert read_manifest(manifest.path).content_digest() == manifest.content_digest()


def test_a_sample_does_not_depend_on_the_order_of_lines_or_classes(tables: list[Path]) -> None:
    drawn = {"train_per_class": 4, "val_per_class": 2, "seed": 3}
    first = _import(tables, **drawn)
    assert [len(first.split(s)) for s in ("train", "test")] == [12, 6]
    for table in tables:
        lines = table.read_text().splitlines()[1:]
        random.Random(0).shuffle(lines)
        _table(table, lines)
    again = _import(tables[::-1], **drawn)
    assert [row.id for row in again] == [row.id for row in first]
    alone = _import(tables, classes=["yoga"], **drawn)
    assert [r.id for r in alone] == [r.id for r in first if r.labels == ("yoga",)]
    assert _import(tables, **(drawn | {"seed": 4})).content_digest() != first.content_digest()


def test_a_smaller_sample_lies_in_a_larger_one(tables: list[Path]) -> None:
    sizes = (1, 3, 8, 12)
    drawn = [{r.id for r in _import(tables, train_per_class=n).split("train")} for n in sizes]
    assert [len(ids) for ids in drawn] == [3 * n for n in sizes]
    assert all(small < large for small, large in pairwise(drawn))


def test_what_the_validation_split_becomes(tables: list[Path]) -> None:
    tests = _table(tables[0].with_name("test.csv"), _lines("test", 3))
    result = import_kinetics([*tables, tests], tests.with_name("m.jsonl"))
    assert len(result.manifest.split("test")) == 15
    assert result.notes.counts["clips of Kinetics' test split, left out"] == 9
    manifest = _import([*tables, tests], validation_as="val", val_per_class=2)
    assert [len(manifest.split(s)) for s in ("train", "val", "test")] == [36, 6, 9]
    held = _import(tables, val_share=0.25)
    assert [len(held.split(s)) for s in ("train", "val", "test")] == [27, 9, 15]


def test_a_source_is_never_trained_and_tested_on(tables: list[Path]) -> None:
    more = _table(tables[0].with_name("more.csv"), ["yoga,va0-0000001,70,80,train"])
    result = import_kinetics([*tables, more], more.with_name("m.jsonl"))
    assert len(result.manifest) == 51
    assert result.notes.counts == {
        "train clips whose source is also evaluated on, left out": 1,
    }
    assert "more.csv line 2" in result.notes.lines()[0]


def test_repeated_lines_are_kept_once_and_named(tables: list[Path]) -> None:
    lines = ["yoga,tr2-0000001,10,20,train"]
    more = _table(tables[0].with_name("more.csv"), lines)
    result = import_kinetics([*tables, more], more.with_name("m.jsonl"))
    assert len(result.manifest.split("train")) == 36
    assert "more.csv line 2: tr2-0000001_000010_000020" in result.notes.lines()[0]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "archery,tr2-0000001,10,20,train",
            r"line 2: .*'archery' in train here and 'yoga'.*line 27",
        ),
        ("yoga,tr2-0000001,10,20,validate", r"line 2: .*'yoga' in validate here"),
        ("yoga,abc,10,20", "line 2: 4 columns instead of 5"),
        ("yoga,abc,ten,20,train", "line 2: time_start and time_end must be seconds"),
        ("yoga,abc,20,20,train", "line 2: the clip from 20 to 20 s is empty"),
        ("yoga,abc,0,inf,train", "line 2: the clip from 0 to inf s is empty"),
        ("yoga,abc,nan,10,train", "line 2: the clip from nan"),
        ("yoga,abc,0,10,dev", "line 2: the split 'dev' is unknown"),
        (",abc,0,10,train", "line 2: the label is missing"),
        ("yoga,,0,10,train", "line 2: the youtube_id is missing"),
    ],
)
def test_broken_lines_are_named(tables: list[Path], line: str, told: str) -> None:
    more = _table(tables[0].with_name("more.csv"), [line])
    with pytest.raises(UserError, match=told):
        _import([*tables, more])
    assert not more.with_name("m.jsonl").exists()


def test_tables_without_a_clip_are_refused(tables: list[Path]) -> None:
    empty = _table(tables[0].with_name("empty.csv"), [])
    with pytest.raises(UserError, match=r"There is no clip in empty\.csv, only the header; give"):
        _import([empty])
    assert not empty.with_name("m.jsonl").exists()
    assert len(_import([empty, *tables])) == 51


def test_columns_in_any_order_and_more_of_them(tmp_path: Path) -> None:
    header = "is_cc,split,time_end,time_start,youtube_id,Label"
    table = _table(
        tmp_path / "t.csv", ['0,train,20,10,-_abc,"a, b"', "", "1,val,5,0,x,y_z"], header
    )
    manifest = _import([table])
    assert manifest.classes == ("a, b", "y z")
    assert manifest["-_abc_000010_000020"].labels == ("a, b",)
    with pytest.raises(UserError, match=r"line 1: .*this lacks split"):
        _import([_table(tmp_path / "t.csv", [], "label,youtube_id,time_start,time_end")])
    with pytest.raises(UserError, match="cannot be read"):
        _import([tmp_path / "none.csv"])


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_files_in_all_usual_places(tables: list[Path]) -> None:
    videos = tables[0].with_name("videos")
    _touch(
        videos,
        "tr0-0000000_000000_000010.mp4",
        "train/petting_animal_(not_cat)/tr1-0000001_000010_000020.mp4",
        "other/tr1-0000001_000010_000020.mp4",
        "yoga/tr2-0000002.webm",
    )
    manifest = _import(tables, videos=videos, absent="skip")
    assert manifest.header.media_root == "videos"
    places = {row.id.split("_")[0]: (row.video, row.start, row.end) for row in manifest}
    assert places == {
        "tr0-0000000": ("tr0-0000000_000000_000010.mp4", 0, 10),
        "tr1-0000001": (
            "train/petting_animal_(not_cat)/tr1-0000001_000010_000020.mp4", 0, 10,
        ),
        "tr2-0000002": ("yoga/tr2-0000002.webm", 20, 30),
    }  # fmt: skip
    cut = _import(tables, videos=videos, absent="skip", trimmed=True)
    assert (cut["tr2-0000002_000020_000030"].start, cut.rows[-1].end) == (0, 10)
    result = import_kinetics(tables, tables[0].with_name("m.jsonl"), videos=videos)
    assert len(result.manifest) == 51
    assert result.notes.counts["clips without a file"] == 48


def test_only_what_is_there_is_drawn(tables: list[Path]) -> None:
    videos = tables[0].with_name("videos")
    _touch(videos, *(f"yoga/tr2-{n:07d}.mp4" for n in range(3, 9)))
    options = {"videos": videos, "absent": "skip", "classes": ["archery", "yoga"]}
    result = import_kinetics(tables, videos.with_name("m.jsonl"), train_per_class=5, **options)
    assert len(result.manifest) == 5
    assert all(result.manifest.media_path(row).is_file() for row in result.manifest)
    assert "archery: 0 train clips" in result.notes.lines()[-1]


def test_probing_ends_rows_where_files_end(
    tables: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tables[0].with_name("videos")
    (videos / "archery").mkdir(parents=True)
    options = {"size": (64, 48), "rate": 5, "audio": sine(440, 3, 16000)}
    render_clip(videos / "archery" / "tr0-0000000_000000_000010.mp4", seconds=3, **options)
    (videos / "archery" / "tr0-0000001_000010_000020.mp4").write_bytes(b"no video")
    out = tables[0].with_name("m.jsonl")
    command = ["import-kinetics", *map(str, tables), "--out", str(out), "--videos", str(videos)]
    assert main([*command, "--absent", "skip", "--probe", "--classes", str(_classes(out))]) == 0
    manifest = read_manifest(out)
    assert [row.end for row in manifest] == [pytest.approx(3, abs=0.2), 10]
    assert {finding.status for finding in check_media(manifest)} == {"decode_error"}
    printed = capsys.readouterr().out
    assert "clips shorter than in the table: 1" in printed
    assert "train 2; 1 classes" in printed


def _classes(out: Path) -> Path:
    path = out.with_name("classes.txt")
    path.write_text("archery\n\n")
    return path


def test_options_that_cannot_be(tables: list[Path]) -> None:
    for options, told in (
        ({"classes": ["archer"]}, r"class 'archer' \(is it 'archery'\?\)"),
        ({"train_per_class": 0}, "--train-per-class is 0"),
        ({"val_per_class": -1}, "--val-per-class is -1"),
        ({"validation_as": "pool"}, "--validation-as"),
        ({"absent": "drop"}, "--absent 'drop'"),
        ({"absent": "skip"}, "add --videos"),
        ({"train_per_class": 1, "seed": -1}, "--seed is -1"),
    ):
        with pytest.raises(UserError, match=told):
            _import(tables, **options)


def test_mini_kinetics_lists_are_four_times_fifty_classes_of_kinetics() -> None:
    known = class_names("kinetics400")
    assert len(known) == len(set(known)) == 400
    lists = [read_classes(f"mini-kinetics/{n}") for n in (10, 20, 30, 40)]
    assert [len(names) for names in lists] == [50] * 4
    assert len({name for names in lists for name in names}) == 200
    assert {name for names in lists for name in names} <= set(known)
    assert all(names == tuple(sorted(names)) for names in lists)


def test_kinetics_lists_are_those_of_published_models() -> None:
    from torchvision.models.video import R3D_18_Weights

    known = class_names("kinetics400")
    assert known == tuple(R3D_18_Weights.KINETICS400_V1.meta["categories"])
    sound = read_classes("kinetics-sound/31")
    assert len(sound) == len(set(sound)) == 31
    assert set(sound) <= set(known)


def test_the_name_of_a_shipped_list_names_the_data_set(tmp_path: Path) -> None:
    labels = read_classes("mini-kinetics/30")
    table = _table(tmp_path / "train.csv", _lines("train", 3, labels))
    out = tmp_path / "m.jsonl"
    command = ["import-kinetics", str(table), "--out", str(out), "--train-per-class", "2"]
    assert main([*command, "--classes", "mini-kinetics/30"]) == 0
    manifest = read_manifest(out)
    assert manifest.header.dataset == "mini-kinetics-30"
    assert manifest.classes == labels
    assert len(manifest) == 100


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\nb\na\n", "line 3: the class 'a' stands on line 1"),
        ("\n \n", "is empty"),
        (None, "one of"),
    ],
)
def test_class_lists_that_cannot_be(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "list.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=told):
        read_classes(path)
