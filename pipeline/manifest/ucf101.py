"""UCF101 with its official train and test lists to a manifest.

Source: Soomro, Zamir and Shah, "UCF101: A Dataset of 101 Human Actions Classes From Videos in The
Wild", CRCV-TR-12-01, 2012. ``classInd.txt`` numbers the classes from 1; ``trainlist0N.txt`` and
``testlist0N.txt`` name ``Class/v_Class_gGG_cCC.avi``, in training followed by the class number.
Clips of one class and group gGG are cut from one source and nearly the same. The official files
spell one class HandstandPushups in folders and HandStandPushups in file names, so names are
compared without regard to case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import UserError, unknown_name
from pipeline.manifest.files import relative_root, write_manifest
from pipeline.manifest.folder import check_seconds, scan_folder
from pipeline.manifest.media import Measured, Show, measure_all
from pipeline.manifest.notes import Notes
from pipeline.manifest.sampling import check_share, hold_out
from pipeline.manifest.schema import Header, Manifest, Row

__all__ = ["UCF101_SPLITS", "Ucf101Import", "import_ucf101"]

UCF101_SPLITS = (1, 2, 3)
CLASS_TABLE = "classInd.txt"
VIDEO_FOLDERS = ("UCF-101", "UCF101", "videos")
NAME = re.compile(r"(?P<folder>[^/]+)/(?P<stem>v_(?P<label>.+)_g(?P<group>\d+)_c\d+)\.\w+")


@dataclass(frozen=True)
class Ucf101Import:
    """An imported split of UCF101.

    Attributes:
        manifest: As written.
        notes: What was tolerated.
        sound: By class, videos with an audio track and videos that were probed; empty unless
            classes were chosen by their sound.
    """

    manifest: Manifest
    notes: Notes
    sound: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of an official list."""

    place: str
    split: str
    name: str
    stem: str
    label: str
    group: str


def import_ucf101(
    folder: Path | str,
    out: Path | str,
    *,
    split: int = 1,
    videos: Path | str | None = None,
    classes: Sequence[str] | None = None,
    with_sound: bool = False,
    val_share: float = 0.0,
    seed: int = 0,
    fallback_seconds: float = 10.0,
    show: Show | None = None,
) -> Ucf101Import:
    """Writes the manifest of one official split.

    A video that is not there becomes a row all the same; extraction gives it the status
    ``missing``.

    Args:
        folder: Holds the official lists, or a folder that holds them.
        out: The manifest.
        split: One of `UCF101_SPLITS`.
        videos: Folder of the videos, searched with its sub-folders; default one of
            `VIDEO_FOLDERS` in ``folder``, or ``folder`` itself.
        classes: Names of the classes to keep; default all.
        with_sound: Whether to keep only the classes of which at least half of the videos that
            are there have an audio track.
        val_share: Share of the training groups of every class that becomes the validation split.
        seed: Of that choice.
        fallback_seconds: Length of a video whose own cannot be read.
        show: Makes the progress display of probing.

    Raises:
        UserError: If a list is missing or broken, a class unknown, or an option off.
    """
    folder, out = Path(folder), Path(out)
    check_seconds("--fallback-seconds", fallback_seconds)
    check_share(val_share)
    if split not in UCF101_SPLITS:
        raise UserError(f"--split is {split}; UCF101 has the splits 1, 2 and 3.")
    lists = _find_lists(folder)
    names = _read_classes(lists / CLASS_TABLE)
    entries = _read_lists(lists, split, names)
    wanted = _wanted(names, classes)
    entries = [entry for entry in entries if entry.label in wanted]
    root = _find_videos(folder) if videos is None else Path(videos)
    files = _find_files(root, entries)
    measured = measure_all((root / file for file in files.values()), show)
    lengths = {stem: measured[root / file] for stem, file in files.items()}
    sound: dict[str, tuple[int, int]] = {}
    if with_sound:
        sound = _count_sound(entries, lengths, root)
        wanted = {name for name, (heard, there) in sound.items() if there and 2 * heard >= there}
        entries = [entry for entry in entries if entry.label in wanted]
        if not entries:
            raise UserError(f"No class has sound in {root}; leave --with-sound out.")
    notes = Notes()
    rows = [_row(entry, files, lengths, fallback_seconds, notes) for entry in entries]
    kept = tuple(name for name in names if name in wanted)
    header = Header(
        # The classes with sound are known as UCF101-51.
        dataset="ucf101" if len(kept) == len(names) else f"ucf101-{len(kept)}",
        label_type="multiclass",
        classes=kept,
        media_root=relative_root(root, out.parent),
    )
    manifest = Manifest(header, hold_out(rows, val_share, seed=seed))
    return Ucf101Import(write_manifest(manifest, out), notes, sound)


def _find_lists(folder: Path) -> Path:
    """The folder that holds the official lists."""
    places = [folder, *sorted(path for path in folder.glob("*") if path.is_dir())]
    for place in places:
        if (place / CLASS_TABLE).is_file():
            return place
    raise UserError(
        f"{folder} has no {CLASS_TABLE}; unpack UCF101TrainTestSplits-RecognitionTask.zip there."
    )


def _find_videos(folder: Path) -> Path:
    return next((folder / name for name in VIDEO_FOLDERS if (folder / name).is_dir()), folder)


def _read(path: Path) -> list[tuple[str, list[str]]]:
    """Place and words of every line that is not blank."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(
            f"The list {path} cannot be read ({reason}); unpack "
            "UCF101TrainTestSplits-RecognitionTask.zip there."
        ) from error
    places = ((f"{path.name} line {number}", line.split()) for number, line in enumerate(lines, 1))
    return [(place, words) for place, words in places if words]


def _read_classes(path: Path) -> dict[str, int]:
    """Numbers by class, in the official order, which is the alphabetical one."""
    names: dict[str, int] = {}
    for place, words in _read(path):
        if len(words) != 2 or not words[0].isdecimal():
            raise UserError(f"{place}: a line is a number and a class name; mend it.")
        if words[1] in names:
            raise UserError(f"{place}: the class {words[1]!r} stands twice; keep it once.")
        names[words[1]] = int(words[0])
    return names


def _read_lists(folder: Path, split: int, names: dict[str, int]) -> list[_Entry]:
    """Lines of both lists of a split; no video may stand twice."""
    spelling = {name.lower(): name for name in names}
    entries: dict[str, _Entry] = {}
    for part in ("train", "test"):
        for place, words in _read(folder / f"{part}list{split:02d}.txt"):
            entry = _entry(place, part, words, spelling)
            if len(words) > 1 and words[1] != str(names[entry.label]):
                raise UserError(
                    f"{place}: the class number is {words[1]} and {CLASS_TABLE} gives "
                    f"{entry.label} {names[entry.label]}; mend it."
                )
            first = entries.setdefault(entry.stem.lower(), entry)
            if first is not entry:
                raise UserError(
                    f"{place}: {entry.name!r} stands in {first.place} already; keep one."
                )
    return list(entries.values())


def _entry(place: str, part: str, words: Sequence[str], spelling: dict[str, str]) -> _Entry:
    match = NAME.fullmatch(words[0])
    if match is None or len(words) > 2:
        raise UserError(
            f"{place}: {' '.join(words)!r} is not Class/v_Class_gGG_cCC.avi and, in training, the "
            "class number; mend it."
        )
    for name in (match["folder"], match["label"]):
        if name.lower() not in spelling:
            raise UserError(f"{place}: the class {name!r} is not in {CLASS_TABLE}; mend it.")
    label = spelling[match["folder"].lower()]
    if label != spelling[match["label"].lower()]:
        raise UserError(f"{place}: folder and file name two classes; mend it.")
    return _Entry(place, part, words[0], match["stem"], label, f"{label}/g{match['group']}")


def _wanted(names: dict[str, int], classes: Sequence[str] | None) -> set[str]:
    if classes is None:
        return set(names)
    spelling = {name.lower(): name for name in names}
    for name in classes:
        if name.lower() not in spelling:
            raise unknown_name("class of UCF101", name, names)
    return {spelling[name.lower()] for name in classes}


def _find_files(root: Path, entries: Sequence[_Entry]) -> dict[str, str]:
    """Files inside the root by the stem of the entry, where there is one."""
    stems: dict[str, str] = {}
    # Converted copies may lie beside the originals; the first by name is taken.
    for file in scan_folder(root)[0]:
        stems.setdefault(Path(file).stem.lower(), file)
    found = {entry.stem: stems.get(entry.stem.lower()) for entry in entries}
    return {stem: file for stem, file in found.items() if file is not None}


def _count_sound(
    entries: Sequence[_Entry], lengths: dict[str, Measured], root: Path
) -> dict[str, tuple[int, int]]:
    """By class, videos with an audio track and videos that are there."""
    if not lengths:
        raise UserError(
            f"--with-sound needs the videos and {root} holds none of the list; give --videos, or "
            "--classes ucf101/sound_classes."
        )
    counts: dict[str, tuple[int, int]] = {}
    for entry in entries:
        heard, there = counts.get(entry.label, (0, 0))
        if entry.stem in lengths:
            heard, there = heard + lengths[entry.stem].sound, there + 1
        counts[entry.label] = heard, there
    return counts


def _row(
    entry: _Entry,
    files: dict[str, str],
    lengths: dict[str, Measured],
    fallback_seconds: float,
    notes: Notes,
) -> Row:
    measured = lengths.get(entry.stem)
    if measured is None:
        notes.add("videos of the list that are not there", entry.name)
    elif measured.seconds is None:
        notes.add("videos of unknown length", f"{entry.name}: {measured.reason}")
    elif not measured.sound:
        notes.add("videos without an audio track", entry.name)
    known = measured is not None and measured.seconds is not None
    return Row(
        id=entry.stem,
        start=0.0,
        end=measured.seconds if known else fallback_seconds,
        split=entry.split,
        labels=(entry.label,),
        video=files.get(entry.stem, entry.name),
        group=entry.group,
    )
