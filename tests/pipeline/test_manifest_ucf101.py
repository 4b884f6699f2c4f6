"""UCF101's official lists: odd spellings, groups, sound, and what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

from pipeline.errors import UserError
from pipeline.manifest import read_manifest
from pipeline.manifest.__main__ import main
from pipeline.manifest.classes import read_classes
from pipeline.manifest.report import check_media
from pipeline.manifest.ucf101 import import_ucf101
from tests.media import render_clip, sine

CLASSES = ("Archery", "Hammering", "HammerThrow", "HandstandPushups")
GROUPS, CLIPS = 4, 2


def _stems(label: str, groups: range) -> list[str]:
    # The official file names spell this class in a way of their own.
    name = label.replace("HandstandPushups", "HandStandPushups")
    return [f"v_{name}_g{g:02d}_c{c:02d}" for g in groups for c in range(1, CLIPS + 1)]


def _lists(folder: Path, *, extra: str = "", ending: str = "\r\n") -> None:
    """Official lists of split 1: groups 2 and up are for training."""
    folder.mkdir(parents=True, exist_ok=True)
    index = [f"{n} {label}" for n, label in enumerate(CLASSES, 1)]
    train = [
        f"{label}/{stem}.avi {n}"
        for n, label in enumerate(CLASSES, 1)
        for stem in _stems(label, range(2, GROUPS + 1))
    ]
    test = [f"{label}/{stem}.avi" for label in CLASSES for stem in _stems(label, range(1, 2))]
    for name, lines in (("classInd", index), ("trainlist01", train), ("testlist01", test)):
        (folder / f"{name}.txt").write_bytes((ending.join(lines) + ending).encode())
    if extra:
        with open(folder / "testlist01.txt", "a") as file:
            file.write(extra)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The lists as they are unpacked, without videos."""
    _lists(tmp_path / "ucf" / "ucfTrainTestlist")
    return tmp_path / "ucf"


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists and real videos: two classes have sound, one does in one clip of eight."""
    folder = tmp_path_factory.mktemp("ucf")
    _lists(folder)
    for label in CLASSES:
        place = folder / "UCF-101" / label
        place.mkdir(parents=True)
        for n, stem in enumerate(_stems(label, range(1, GROUPS + 1))):
            sounds = label in ("Hammering", "HandstandPushups") or (label == "Archery" and n == 0)
            render_clip(
                place / f"{stem}.avi",
                seconds=0.5 if n else 1.0,
                size=(64, 48),
                codec="mpeg4",
                rate=10,
                b_frames=0,
                audio=sine(440, 1.0, 16000) if sounds else None,
                audio_codec="mp3",
            )
    return folder


def test_official_splits_groups_and_classes(folder: Path, tmp_path: Path) -> None:
    result = import_ucf101(folder, tmp_path / "m.jsonl")
    manifest = read_manifest(tmp_path / "m.jsonl")
    assert manifest.header.dataset == "ucf101"
    assert manifest.header.label_type == "multiclass"
    assert manifest.classes == CLASSES
    assert len(manifest.split("train")) == len(CLASSES) * (GROUPS - 1) * CLIPS
    assert len(manifest.split("test")) == len(CLASSES) * CLIPS
    row = manifest["v_Archery_g03_c02"]
    assert (row.labels, row.group, row.split) == (("Archery",), "Archery/g03", "train")
    assert row.video == "Archery/v_Archery_g03_c02.avi"
    assert result.notes.counts == {"videos of the list that are not there": len(manifest)}


def test_the_class_that_is_spelled_in_two_ways(folder: Path, tmp_path: Path) -> None:
    manifest = import_ucf101(folder, tmp_path / "m.jsonl").manifest
    row = manifest["v_HandStandPushups_g02_c01"]
    assert (row.labels, row.group) == (("HandstandPushups",), "HandstandPushups/g02")
    wanted = import_ucf101(folder, tmp_path / "m.jsonl", classes=["HandStandPushups"]).manifest
    assert wanted.header.dataset == "ucf101-1"
    assert wanted.classes == ("HandstandPushups",)
    assert len(wanted) == GROUPS * CLIPS


def test_videos_are_found_in_any_spelling_and_container(folder: Path, tmp_path: Path) -> None:
    place = folder / "UCF-101" / "HandstandPushups"
    place.mkdir(parents=True)
    (place / "v_HandstandPushups_g02_c01.mp4").write_bytes(b"")
    manifest = import_ucf101(folder, tmp_path / "m.jsonl").manifest
    row = manifest["v_HandStandPushups_g02_c01"]
    assert row.video == "HandstandPushups/v_HandstandPushups_g02_c01.mp4"
    assert manifest.media_path(row).is_file()


def test_missing_and_broken_videos_stay_rows(media: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    _lists(copy)
    videos = copy / "UCF-101" / "Archery"
    videos.mkdir(parents=True)
    source = media / "UCF-101" / "Archery" / "v_Archery_g01_c01.avi"
    (videos / source.name).write_bytes(source.read_bytes())
    (videos / "v_Archery_g01_c02.avi").write_bytes(b"no video")
    result = import_ucf101(copy, tmp_path / "m.jsonl", classes=["Archery"], fallback_seconds=7.0)
    ends = [row.end for row in result.manifest.split("test")]
    assert ends == [pytest.approx(1.0, abs=0.3), 7.0]
    assert result.notes.counts["videos of the list that are not there"] == (GROUPS - 1) * CLIPS
    assert result.notes.counts["videos of unknown length"] == 1
    with pytest.raises(UserError, match="6 of 8 videos are not there"):
        check_media(result.manifest)


def test_classes_with_sound_are_found_by_probing(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.jsonl"
    assert main(["import-ucf101", str(media), "--out", str(out), "--with-sound"]) == 0
    manifest = read_manifest(out)
    assert manifest.classes == ("Hammering", "HandstandPushups")
    assert {row.labels[0] for row in manifest} == set(manifest.classes)
    assert check_media(manifest) == ()
    printed = capsys.readouterr().out
    assert "kept: Hammering, 8 of 8 videos with sound" in printed
    assert "left out: Archery, 1 of 8 videos with sound" in printed
    assert "left out: HammerThrow, 0 of 8 videos with sound" in printed
    assert "2 classes of ucf101/sound_classes without sound" in printed
    assert "47 classes of ucf101/sound_classes without videos" in printed
    assert "train 12, test 4; 2 classes" in printed


def test_classes_without_videos_are_not_called_silent(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _lists(tmp_path)
    for label in ("Hammering", "HammerThrow"):
        (tmp_path / "UCF-101" / label).mkdir(parents=True)
        for path in (media / "UCF-101" / label).iterdir():
            (tmp_path / "UCF-101" / label / path.name).symlink_to(path)
    out = tmp_path / "m.jsonl"
    assert main(["import-ucf101", str(tmp_path), "--out", str(out), "--with-sound"]) == 0
    assert read_manifest(out).classes == ("Hammering",)
    printed = capsys.readouterr().out
    assert "left out: Archery, none of its videos is there\n" in printed
    assert "left out: HammerThrow, 0 of 8 videos with sound\n" in printed
    assert "1 classes of ucf101/sound_classes without sound:\n  HammerThrow\n" in printed
    assert "49 classes of ucf101/sound_classes without videos:\n" in printed


def test_the_shipped_list_needs_no_probing(folder: Path, tmp_path: Path) -> None:
    sound = read_classes("ucf101/sound_classes")
    assert len(sound) == len(set(sound)) == 51
    assert "HandstandPushups" in sound
    assert sound == tuple(sorted(sound, key=str.lower))
    # The small lists of this test lack most of its classes, which is said.
    with pytest.raises(UserError, match="class of UCF101"):
        import_ucf101(folder, tmp_path / "m.jsonl", classes=sound)
    assert set(CLASSES) <= set(sound)


def test_sound_without_videos_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--classes ucf101/sound_classes"):
        import_ucf101(folder, tmp_path / "m.jsonl", with_sound=True)


def test_validation_is_cut_by_whole_groups_and_seed(folder: Path, tmp_path: Path) -> None:
    def held(seed: int, **options: object) -> set[str]:
        found = import_ucf101(
            folder, tmp_path / "m.jsonl", val_share=0.34, seed=seed, **options
        ).manifest
        train, val, test = ({r.group for r in found.split(s)} for s in ("train", "val", "test"))
        assert len(train | val | test) == len(train) + len(val) + len(test)
        assert len(val) == len(found.classes)
        assert len(found.split("val")) == CLIPS * len(val)
        return val

    assert held(0) == held(0)
    assert len({frozenset(held(seed)) for seed in range(5)}) > 1
    # What is held out of a class does not depend on which other classes are kept.
    assert held(0, classes=["Archery"]) == {g for g in held(0) if g.startswith("Archery/")}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Archery/v_Archery_g02_c01.avi\n", "testlist01.txt line 9: .*trainlist01.txt line 1"),
        ("Archery/v_ARCHERY_g01_c01.avi\n", "line 9: .*stands in testlist01.txt line 1"),
        ("Archery/Archery_g01.avi\n", "line 9: .*mend it"),
        ("Swimming/v_Swimming_g01_c01.avi\n", "line 9: the class 'Swimming' is not in classInd"),
        ("Archery/v_Hammering_g09_c01.avi\n", "line 9: folder and file name two classes"),
        ("Archery/v_Archery_g09_c01.avi 2\n", "line 9: the class number is 2 and .* Archery 1"),
    ],
)
def test_broken_lists_name_the_line(tmp_path: Path, line: str, told: str) -> None:
    _lists(tmp_path, extra=line)
    with pytest.raises(UserError, match=told):
        import_ucf101(tmp_path, tmp_path / "m.jsonl")
    assert not (tmp_path / "m.jsonl").exists()


def test_what_cannot_be_is_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.jsonl"
    with pytest.raises(UserError, match="has no classInd"):
        import_ucf101(tmp_path / "nothing", out)
    with pytest.raises(UserError, match=r"trainlist02.txt cannot be read"):
        import_ucf101(folder, out, split=2)
    with pytest.raises(UserError, match="splits 1, 2 and 3"):
        import_ucf101(folder, out, split=4)
    with pytest.raises(UserError, match="--fallback-seconds"):
        import_ucf101(folder, out, fallback_seconds=0)
    for share in (-0.1, 1.0):
        with pytest.raises(UserError, match="--val-share"):
            import_ucf101(folder, out, val_share=share, show=_never)
    with pytest.raises(UserError, match="--seed"):
        import_ucf101(folder, out, val_share=0.5, seed=-1)


def _never(files: int) -> NoReturn:
    raise AssertionError(f"{files} videos were probed")
