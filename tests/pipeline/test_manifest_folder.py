"""A folder of videos becomes rows; nothing in it is lost, and labels find their files."""

from __future__ import annotations

import os
import unicodedata
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decode import MediaInfo
from pipeline.errors import MediaError, UserError
from pipeline.manifest import Manifest, read_manifest
from pipeline.manifest.folder import FolderImport, cut, from_folder, scan_folder, unique_ids
from pipeline.manifest.report import check_media


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Empty; files are added with `_touch`."""
    path = tmp_path / "videos"
    path.mkdir()
    return path


@pytest.fixture
def stated(monkeypatch: pytest.MonkeyPatch) -> dict[str, float | MediaError | None]:
    """Lengths that files seem to have, by name; 10 s where none is given."""
    lengths: dict[str, float | MediaError | None] = {}

    def probe(path: Path) -> MediaInfo:
        length = lengths.get(Path(path).name, 10.0)
        if isinstance(length, MediaError):
            raise length
        return MediaInfo(length, 64, 48, 0, 25.0, 16000, "h264", "aac")

    monkeypatch.setattr("pipeline.decode.probe", probe)
    return lengths


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def _ids(found: FolderImport) -> list[str]:
    return [row.id for row in found.manifest]


def _video(path: Path, seconds: int = 1) -> None:
    """A real file: 5 frames a second, no sound."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for k in range(5 * seconds):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 9 * k % 256, np.uint8))
            frame.pts, frame.time_base = k, Fraction(1, 5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_real_files_get_their_length_and_broken_ones_the_fallback(folder: Path) -> None:
    _video(folder / "good.mp4", seconds=3)
    (folder / "bad.mp4").write_bytes(b"this is no video")
    (folder / "empty.WEBM").write_bytes(b"")
    found = from_folder(folder, folder / "m.jsonl", fallback_seconds=4)
    ends = {row.id: row.end for row in found.manifest}
    assert ends == {"good": pytest.approx(3, abs=0.3), "bad": 4.0, "empty": 4.0}
    assert sorted(found.fallback) == ["bad.mp4", "empty.WEBM"]
    assert all("decode_error" in reason for reason in found.fallback.values())
    statuses = {finding.row: finding.status for finding in check_media(found.manifest)}
    assert statuses == {"good": "no_audio", "bad": "decode_error", "empty": "decode_error"}


def test_every_odd_file_is_a_row(shared: Path, tmp_path: Path) -> None:
    odd = shared / "media" / "odd"
    found = from_folder(odd, tmp_path / "odd.jsonl")
    files = {path.name for path in odd.iterdir()}
    assert {row.video for row in found.manifest} | set(found.other) == files
    assert len(found.manifest) == len(files) - len(found.other)
    assert all(found.manifest.media_path(row).is_file() for row in found.manifest)
    assert "zero_bytes.webm" in found.fallback
    again = read_manifest(tmp_path / "odd.jsonl")
    assert again.header.label_type == "none"
    assert again.classes == ()


def test_extensions_in_any_case_and_sub_folders(folder: Path, stated: dict) -> None:
    _touch(folder, "a.MP4", "sub/b.mkv", "sub/deep/c.3GP", "d.m2ts", "notes.txt", "sub/e.align")
    found = from_folder(folder, folder / "m.jsonl")
    assert _ids(found) == ["a", "d", "sub/b", "sub/deep/c"]
    assert found.other == ("notes.txt", "sub/e.align")
    # A second run leaves its own output out of the count.
    assert from_folder(folder, folder / "m.jsonl").other == ("notes.txt", "sub/e.align")


def test_names_of_all_scripts_are_kept(folder: Path, stated: dict) -> None:
    names = ["дом.mp4", "猫 と 犬.mkv", "Übung (1).mov", "a\tb.mp4", "-x_y.mp4", "dots.in.name.mp4"]
    _touch(folder, *names)
    found = from_folder(folder, folder / "m.jsonl")
    assert {row.video for row in read_manifest(found.manifest.path)} == set(names)
    assert "dots.in.name" in _ids(found)
    assert all(found.manifest.media_path(row).is_file() for row in found.manifest)


def test_a_name_that_is_not_unicode_is_named(folder: Path, stated: dict) -> None:
    try:
        (folder / os.fsdecode(b"\xff.mp4")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    with pytest.raises(UserError, match="rename the file"):
        from_folder(folder, folder / "m.jsonl")


def test_links_to_folders_are_followed_once(folder: Path, stated: dict, tmp_path: Path) -> None:
    _touch(folder, "a.mp4")
    _touch(tmp_path / "elsewhere", "b.mp4")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    (folder / "gone.mp4").symlink_to(tmp_path / "nothing.mp4")
    assert _ids(from_folder(folder, tmp_path / "m.jsonl")) == ["a", "gone", "link/b"]


def test_same_name_with_two_extensions(folder: Path, stated: dict) -> None:
    _touch(folder, "a.mp4", "a.mkv", "b.mp4", "a.mp4.mov", "A.mp4")
    assert _ids(from_folder(folder, folder / "m.jsonl")) == [
        "A", "a.mkv", "a.mp4", "a.mp4.mov", "b",
    ]  # fmt: skip


@given(
    st.lists(
        st.from_regex(r"([ab]/)?[ab](\.[ab]){0,1}\.(mp4|mkv)", fullmatch=True),
        min_size=1,
        max_size=8,
        unique=True,
    )
)
def test_ids_are_unique_and_steady(files: list[str]) -> None:
    ids = unique_ids(files)
    assert list(ids) == files
    assert len(set(ids.values())) == len(files)
    assert ids == unique_ids(files[::-1])
    for file, row_id in ids.items():
        assert file == row_id or file.rsplit(".", 1)[0] == row_id


def test_group_is_the_video(folder: Path, stated: dict) -> None:
    _touch(folder, "a.mp4")
    stated["a.mp4"] = 25.0
    found = from_folder(folder, folder / "m.jsonl", window=10)
    assert _ids(found) == ["a_0_10", "a_10_20", "a_20_25"]
    assert {row.group for row in found.manifest} == {"a.mp4"}


@pytest.mark.parametrize(
    ("seconds", "kept", "dropped"),
    [
        (25.0, [(0, 10), (10, 20), (20, 25)], 5.0),
        (20.0, [(0, 10), (10, 20)], 0),
        (20.3, [(0, 10), (10, 20)], 0),
        (19.6, [(0, 10), (10, 19.6)], 0),
        (9.97, [(0, 9.97)], 0),
        (3.0, [(0, 3.0)], 0),
        (10.6, [(0, 10), (10, 10.6)], 0.6),
    ],
)
def test_windows(seconds: float, kept: list[tuple[float, float]], dropped: float) -> None:
    assert cut(seconds, 10.0) == (kept, 0.0)
    whole = kept[:-1] if dropped else kept
    assert cut(seconds, 10.0, tail="drop") == (whole, pytest.approx(dropped))
    assert cut(seconds, None) == ([(0.0, seconds)], 0.0)


@given(seconds=st.integers(1, 10**7), window=st.integers(1, 10**5))
def test_windows_cover_the_video(seconds: int, window: int) -> None:
    seconds, window = seconds / 1000, max(window / 1000, seconds / 1000 / 500)
    intervals, left = cut(seconds, window)
    assert left == 0
    assert intervals[0][0] == 0
    assert all(start < end for start, end in intervals)
    assert all(a[1] == b[0] for a, b in pairwise(intervals))
    assert intervals[-1][1] <= seconds + 1e-3
    assert seconds - intervals[-1][1] <= min(0.5, window / 2) + 2e-3
    fewer, left = cut(seconds, window, tail="drop")
    assert fewer == intervals[: len(fewer)]
    assert len(fewer) >= 1


def test_dropped_tails_are_counted(folder: Path, stated: dict) -> None:
    _touch(folder, "a.mp4", "b.mp4")
    stated |= {"a.mp4": 25.0, "b.mp4": 20.2}
    found = from_folder(folder, folder / "m.jsonl", window=10, tail="drop")
    assert _ids(found) == ["a_0_10", "a_10_20", "b_0_10", "b_10_20"]
    assert found.tails == {"a.mp4": 5.0}


@pytest.mark.parametrize("length", [None, 0.0, 0.0001, MediaError("decode_error", "broken")])
def test_unknown_length_takes_the_fallback(
    folder: Path, stated: dict, length: float | MediaError | None
) -> None:
    _touch(folder, "a.mp4", "b.mp4")
    stated |= {"a.mp4": length, "b.mp4": 7.5}
    found = from_folder(folder, folder / "m.jsonl")
    assert [(row.start, row.end) for row in found.manifest] == [(0, 10), (0, 7.5)]
    assert list(found.fallback) == ["a.mp4"]


def test_options_that_cannot_be(folder: Path, stated: dict, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file with a media extension"):
        from_folder(folder, tmp_path / "m.jsonl")
    _touch(folder, "a.mp4")
    with pytest.raises(UserError, match="is no folder"):
        from_folder(folder / "a.mp4", tmp_path / "m.jsonl")
    for options in ({"window": 0.0}, {"window": -1.0}, {"fallback_seconds": float("nan")}):
        with pytest.raises(UserError, match="is no length of a clip"):
            from_folder(folder, tmp_path / "m.jsonl", **options)
    with pytest.raises(UserError, match="needs --labels TABLE"):
        from_folder(folder, tmp_path / "m.jsonl", label_type="multilabel")
    assert not (tmp_path / "m.jsonl").exists()


def test_media_root_leads_back_to_the_folder(folder: Path, stated: dict, tmp_path: Path) -> None:
    _touch(folder, "sub/a.mp4")
    found = from_folder(folder, tmp_path / "manifests" / "m.jsonl", split="test", dataset="mine")
    manifest = read_manifest(found.manifest.path)
    assert manifest.header.media_root == "../videos"
    assert manifest.header.dataset == "mine"
    assert manifest.rows[0].split == "test"
    assert manifest.media_path(manifest.rows[0]).is_file()


class Counter:
    """Stands in for a progress display."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def advance(self, status: str = "ok", n: int = 1) -> None:
        self.told += [status] * n


def test_progress_hears_of_every_file(folder: Path, stated: dict) -> None:
    _touch(folder, "a.mp4", "b.mp4", "c.txt")
    stated["b.mp4"] = None
    counter = Counter()
    from_folder(folder, folder / "m.jsonl", progress=counter)
    assert counter.told == ["ok", "failed"]
    assert scan_folder(folder)[0] == ("a.mp4", "b.mp4")


def _labelled(folder: Path, table: str, **options: object) -> Manifest:
    path = folder.parent / "labels.csv"
    path.write_text(table, encoding="utf-8")
    return from_folder(folder, folder.parent / "m.jsonl", labels=path, **options).manifest


def test_one_label_each_is_multiclass(folder: Path, stated: dict) -> None:
    _touch(folder, "a.mp4", "b.mkv", "sub/c.mp4")
    manifest = _labelled(folder, "file,labels\na.mp4,run\nb,jump\nsub/c,run\n")
    assert manifest.header.label_type == "multiclass"
    assert manifest.classes == ("jump", "run")
    assert [row.labels for row in manifest] == [("run",), ("jump",), ("run",)]
    asked = _labelled(folder, "file,labels\na,run\nb,jump\nc,run\n", label_type="multilabel")
    assert asked.header.label_type == "multilabel"


@pytest.mark.parametrize(
    "table",
    [
        'file,labels,split\na.mp4,"Dog, Cat",train\nb.mp4,,test\n',
        "file,labels,split\na.mp4,Dog;Cat,train\nb.mp4,,test\n",
        "file\tlabels\tsplit\na.mp4\tDog,Cat\ttrain\nb.mp4\t\ttest\n",
        "split,labels,file\ntrain,Dog,a\ntrain,Cat,a\ntrain,Dog,./a.mp4\ntest,,b\n\n",
        "\ufeffFile , Labels,Split\r\na.mp4,Dog ; Cat;,train\r\nb.mp4,,test\r\n",
    ],
)
def test_ways_to_write_several_labels(folder: Path, stated: dict, table: str) -> None:
    _touch(folder, "a.mp4", "b.mp4")
    manifest = _labelled(folder, table)
    assert manifest.header.label_type == "multilabel"
    assert [(row.split, row.labels) for row in manifest] == [
        ("train", ("Dog", "Cat")),
        ("test", ()),
    ]


def test_a_semicolon_lets_labels_hold_commas(folder: Path, stated: dict) -> None:
    _touch(folder, "a.mp4")
    manifest = _labelled(folder, 'file,labels\na.mp4,"Speech, male;Dog"\n')
    assert manifest.rows[0].labels == ("Speech, male", "Dog")


def test_windows_share_the_labels_of_their_file(folder: Path, stated: dict) -> None:
    _touch(folder, "a.mp4")
    stated["a.mp4"] = 20.0
    manifest = _labelled(folder, "file,labels\na,Dog\n", window=10)
    assert [row.labels for row in manifest] == [("Dog",), ("Dog",)]


def test_files_are_found_by_path_then_name(folder: Path, stated: dict) -> None:
    _touch(folder, "x/a.mp4", "y/a.mp4", "a.mp4", "ü.mp4")
    table = f"file,labels\na.mp4,1\nx\\a.mp4,2\ny/a,3\n{unicodedata.normalize('NFD', 'ü')},4\n"
    manifest = _labelled(folder, table)
    assert {row.video: row.labels[0] for row in manifest} == {
        "a.mp4": "1", "x/a.mp4": "2", "y/a.mp4": "3", "ü.mp4": "4",
    }  # fmt: skip


BAD_TABLES = {
    "no header": ("a.mp4,Dog\n", r"labels\.csv line 1: the columns must be file, labels"),
    "empty": ("", "line 1: .*this has none"),
    "another column": ("file,labels,fold\n", "line 1: .*file, labels, fold"),
    "unquoted commas": ("file,labels\na.mp4,Dog,Cat\n", "line 2: 3 columns.*by semicolons"),
    "no such file": ("file,labels\na,Dog\nb,Cat\nc.mp4,Cat\nd,Cat\n",
                     r"line 4: there is no file 'c.mp4' \(is it '.\.mp4'\?\), and 1 more .*skip"),
    "file of two names": ("file,labels\na,Dog\nb,Cat\ns,Dog\n",
                          "line 4: 's' fits 's.mkv' and 's.mp4'; write the path with its ext"),
    "unknown split": ("file,labels,split\na,Dog,dev\n", "line 2: split 'dev' is unknown; use one"),
    "two splits": ("file,labels,split\na,Dog,train\na,Cat,test\n",
                   "line 3: 'a' stands in split test here and in train above; keep one"),
    "no name": ("file,labels\n,Dog\n", "line 2: the file is not named"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_name_line_and_remedy(folder: Path, stated: dict, case: str) -> None:
    _touch(folder, "a.mp4", "b.mp4", "s.mkv", "s.mp4")
    table, message = BAD_TABLES[case]
    with pytest.raises(UserError, match=message):
        _labelled(folder, table)
    assert not (folder.parent / "m.jsonl").exists()


def test_tables_that_cannot_be_read(folder: Path, stated: dict, tmp_path: Path) -> None:
    _touch(folder, "a.mp4")
    with pytest.raises(UserError, match="check --labels"):
        from_folder(folder, tmp_path / "m.jsonl", labels=tmp_path / "none.csv")
    (tmp_path / "table.csv").write_bytes(b"file,labels\na,\xff\n")
    with pytest.raises(UserError, match="save it as UTF-8"):
        from_folder(folder, tmp_path / "m.jsonl", labels=tmp_path / "table.csv")


def test_absent_files_can_be_skipped(folder: Path, stated: dict) -> None:
    _touch(folder, "a.mp4")
    table = folder / "labels.csv"
    table.write_text("file,labels\na,Dog\ngone,Cat\ngone,Dog\n")
    found = from_folder(folder, folder / "m.jsonl", labels=table, absent="skip")
    assert found.absent == ("gone",)
    assert found.other == ()
    assert found.manifest.classes == ("Dog",)


def test_files_without_labels_are_an_error_or_lend_audio(folder: Path, stated: dict) -> None:
    _touch(folder, "a.mp4", "b.mp4", "c.mp4")
    with pytest.raises(UserError, match=r"2 of 3 files have no line .*'b.mp4'; .*pool"):
        _labelled(folder, "file,labels\na,Dog\n")
    manifest = _labelled(folder, "file,labels\na,Dog\n", unlabelled="pool")
    assert [(row.split, row.labels) for row in manifest] == [
        ("train", ("Dog",)), ("pool", ()), ("pool", ()),
    ]  # fmt: skip


def test_multiclass_refuses_several_labels(folder: Path, stated: dict) -> None:
    _touch(folder, "a.mp4", "b.mp4")
    with pytest.raises(UserError, match=r"'b\.mp4' has 2 labels and multiclass means exactly one"):
        _labelled(folder, "file,labels\na,Dog\nb,Dog;Cat\n", label_type="multiclass")


@settings(max_examples=30, deadline=None)
@given(names=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True))
def test_no_file_is_lost(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("videos")
    _touch(folder, *(f"{name}.{'mp4' if name < 'd' else 'txt'}" for name in names))
    media, other = scan_folder(folder)
    assert sorted(media + other) == sorted(path.name for path in folder.iterdir())


def test_labels_are_the_names_of_folders(folder: Path, stated: dict) -> None:
    _touch(folder, "run/a.mp4", "jump high/deep/a.mp4", "val/run/b.mp4", "Validation/run/c.mp4")
    _touch(folder, "test/d.mp4", "test/jump high/d.mp4")
    manifest = from_folder(folder, folder / "m.jsonl", labels_from_folders=True).manifest
    assert manifest.header.label_type == "multiclass"
    # A folder named as a split that holds files of its own is a class, too.
    assert manifest.classes == ("jump high", "run", "test")
    assert {row.id: (row.split, row.labels[0]) for row in manifest} == {
        "Validation/run/c": ("val", "run"),
        "jump high/deep/a": ("train", "jump high"),
        "run/a": ("train", "run"),
        "test/d": ("train", "test"),
        "test/jump high/d": ("test", "jump high"),
        "val/run/b": ("val", "run"),
    }


def test_files_in_no_folder_have_no_label(folder: Path, stated: dict) -> None:
    _touch(folder, "run/a.mp4", "b.mp4")
    with pytest.raises(UserError, match=r"1 of 2 files lie in no folder, first 'b.mp4'"):
        from_folder(folder, folder / "m.jsonl", labels_from_folders=True)
    found = from_folder(folder, folder / "m.jsonl", labels_from_folders=True, unlabelled="pool")
    assert [(row.split, row.labels) for row in found.manifest] == [
        ("pool", ()),
        ("train", ("run",)),
    ]
    (folder / "t.csv").write_text("file,labels\nb,run\n")
    with pytest.raises(UserError, match="leave one out"):
        from_folder(folder, folder / "m.jsonl", labels_from_folders=True, labels=folder / "t.csv")
