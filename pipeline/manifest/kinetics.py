"""Kinetics' official CSV tables to a manifest, whole or as a sample of some classes.

Source: Kay et al., "The Kinetics Human Action Video Dataset", arXiv 1705.06950, and its successors.
Columns: ``label, youtube_id, time_start, time_end, split`` (others are ignored). On disk a clip
is called ``<id>_<start>_<end>``, its times of six digits and cut from the video, or ``<id>``; it
may lie in folders of splits and of classes, with spaces or underscores in their names.
"""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pipeline.errors import UserError
from pipeline.manifest.files import relative_root, write_manifest
from pipeline.manifest.folder import scan_folder
from pipeline.manifest.media import Show, measure_all
from pipeline.manifest.notes import Notes
from pipeline.manifest.sampling import check_share, choose, hold_out
from pipeline.manifest.schema import SPLITS, Header, Manifest, Row

__all__ = ["KineticsImport", "import_kinetics"]

COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
KINETICS_SPLITS = {
    "train": "train",
    "val": "validate",
    "valid": "validate",
    "validate": "validate",
    "validation": "validate",
    "test": "test",
}
"""How the releases name their splits."""


@dataclass(frozen=True)
class KineticsImport:
    """An imported part of Kinetics.

    Attributes:
        manifest: As written.
        notes: What was tolerated.
    """

    manifest: Manifest
    notes: Notes


@dataclass(frozen=True, slots=True)
class _Clip:
    """One line of a table."""

    place: str
    label: str
    source: str
    start: float
    end: float
    split: str

    @property
    def id(self) -> str:
        """As clips are usually called on disk."""
        return f"{self.source}_{self.start:06g}_{self.end:06g}"


def import_kinetics(
    tables: Sequence[Path | str],
    out: Path | str,
    *,
    videos: Path | str | None = None,
    classes: Sequence[str] | None = None,
    train_per_class: int | None = None,
    val_per_class: int | None = None,
    validation_as: str = "test",
    val_share: float = 0.0,
    seed: int = 0,
    absent: str = "keep",
    trimmed: bool = False,
    probe: bool = False,
    dataset: str = "kinetics",
    show: Show | None = None,
) -> KineticsImport:
    """Writes the manifest of some of Kinetics.

    Rows, and what is sampled, depend on the set of lines and not on their order. The ids of a
    sample are those of the manifest. The group of a clip is its YouTube id.

    Args:
        tables: The official CSV tables.
        out: The manifest.
        videos: Folder of the videos, searched with its sub-folders; without it rows have none.
        classes: Names of the classes to keep, in index order; default all, in alphabetical order.
        train_per_class: Clips of the train split to draw of every class; default all.
        val_per_class: Clips of the validation split to draw of every class; default all.
        validation_as: What Kinetics' validation split becomes: ``test``, as its test split has
            no public labels and publications report on validation, or ``val``. With ``test``
            the lines of Kinetics' own test split are left out.
        val_share: Share of the training groups of every class that becomes the validation split.
        seed: Of all that is drawn.
        absent: What a clip without a file is: ``keep`` makes it a row, which extraction gives the
            status ``missing``; ``skip`` leaves it out before anything is drawn.
        trimmed: Whether files called ``<id>`` hold the clip alone instead of the whole video.
        probe: Whether to read the length of files that hold the clip alone.
        dataset: Name of the data set.
        show: Makes the progress display of probing.

    Raises:
        UserError: If a table is missing or broken, a class unknown, or an option off.
    """
    check_share(val_share)
    _check(train_per_class, val_per_class, validation_as, absent, videos)
    out, notes = Path(out), Notes()
    clips = _unrepeated((clip for table in tables for clip in _read(Path(table))), notes)
    if not clips:
        given = ", ".join(Path(table).name for table in tables)
        raise UserError(
            f"There is no clip in {given}, only the header; give tables that hold some."
        )
    names = _class_order(clips, classes)
    wanted = set(names)
    clips = _assign([clip for clip in clips if clip.label in wanted], validation_as, notes)
    rows = [Row(c.id, c.start, c.end, c.split, (c.label,), group=c.source) for c in clips]
    if videos is not None:
        rows = _locate(clips, Path(videos), absent=absent, trimmed=trimmed, notes=notes)
    limits = {"train": train_per_class, "val" if validation_as == "val" else "test": val_per_class}
    rows = _sample(rows, names, limits, seed, notes)
    if probe and videos is not None:
        rows = _fit(rows, Path(videos), show, notes)
    rows = list(hold_out(rows, val_share, seed=seed))
    position = {name: k for k, name in enumerate(names)}
    rows.sort(key=lambda row: (SPLITS.index(row.split), position[row.labels[0]], row.id))
    root = "." if videos is None else relative_root(Path(videos), out.parent)
    header = Header(dataset, "multiclass", names, root)
    return KineticsImport(write_manifest(Manifest(header, tuple(rows)), out), notes)


def _check(
    train_per_class: int | None,
    val_per_class: int | None,
    validation_as: str,
    absent: str,
    videos: Path | str | None,
) -> None:
    for option, count in (("train", train_per_class), ("val", val_per_class)):
        if count is not None and count < 1:
            raise UserError(f"--{option}-per-class is {count}; use 1 or more, or leave it out.")
    if validation_as not in ("test", "val"):
        raise UserError(f"--validation-as {validation_as!r} is unknown; use test or val.")
    if absent not in ("keep", "skip"):
        raise UserError(f"--absent {absent!r} is unknown; use keep or skip.")
    if absent == "skip" and videos is None:
        raise UserError("--absent skip needs the videos; add --videos DIR.")


def _read(path: Path) -> Iterator[_Clip]:
    """The lines of a table."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"The table {path} cannot be read ({reason}); check the path.") from error
    lines = csv.reader(text.splitlines())
    columns = [cell.strip().lower() for cell in next(lines, [])]
    if not set(COLUMNS) <= set(columns):
        lacking = ", ".join(name for name in COLUMNS if name not in columns)
        raise UserError(
            f"{path.name} line 1: the columns must hold {', '.join(COLUMNS)}; this lacks {lacking}."
        )
    for cells in lines:
        place = f"{path.name} line {lines.line_num}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            raise UserError(f"{place}: {len(cells)} columns instead of {len(columns)}; mend it.")
        cell = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
        yield _clip(place, cell)


def _clip(place: str, cell: dict[str, str]) -> _Clip:
    for name in ("label", "youtube_id"):
        if not cell[name]:
            raise UserError(f"{place}: the {name} is missing; fill it in or delete the line.")
    try:
        start, end = float(cell["time_start"]), float(cell["time_end"])
    except ValueError as error:
        raise UserError(f"{place}: time_start and time_end must be seconds; mend it.") from error
    if not (0 <= start < end and math.isfinite(end)):
        raise UserError(f"{place}: the clip from {start:g} to {end:g} s is empty; mend it.")
    split = KINETICS_SPLITS.get(cell["split"].lower())
    if split is None:
        raise UserError(
            f"{place}: the split {cell['split']!r} is unknown; use train, validate or test."
        )
    # Some copies write the labels as folders are called; no class has an underscore of its own.
    label = cell["label"].replace("_", " ")
    return _Clip(place, label, cell["youtube_id"], start, end, split)


def _unrepeated(clips: Iterable[_Clip], notes: Notes) -> list[_Clip]:
    """Keeps one of equal lines, in an order that is not that of the lines."""
    found: dict[str, _Clip] = {}
    for clip in clips:
        first = found.setdefault(clip.id, clip)
        if first is clip:
            continue
        if (clip.label, clip.split) != (first.label, first.split):
            raise UserError(
                f"{clip.place}: the clip {clip.id!r} is {clip.label!r} in {clip.split} here and "
                f"{first.label!r} in {first.split} at {first.place}; keep one."
            )
        notes.add("lines that repeat another one, kept once", f"{clip.place}: {clip.id}")
    return [found[name] for name in sorted(found)]


def _class_order(clips: Sequence[_Clip], classes: Sequence[str] | None) -> tuple[str, ...]:
    known = {clip.label for clip in clips}
    if classes is None:
        return tuple(sorted(known))
    for name in classes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            more = f" (is it {near[0]!r}?)" if near else ""
            raise UserError(
                f"The tables hold no clip of the class {name!r}{more}; correct the class list or "
                "give all tables."
            )
    return tuple(classes)


def _assign(clips: Sequence[_Clip], validation_as: str, notes: Notes) -> list[_Clip]:
    """Gives clips the manifest's splits; a source stays out of training if others are tested."""
    splits = {"train": "train", "validate": validation_as}
    if validation_as == "val":
        splits["test"] = "test"
    rank = {"train": 0, "val": 1, "test": 2}
    highest: dict[str, int] = {}
    kept = []
    for clip in clips:
        if clip.split not in splits:
            notes.add("clips of Kinetics' test split, left out", f"{clip.place}: {clip.id}")
            continue
        kept.append(replace(clip, split=splits[clip.split]))
        highest[clip.source] = max(highest.get(clip.source, 0), rank[kept[-1].split])
    settled = []
    for clip in kept:
        if rank[clip.split] < highest[clip.source]:
            kind = f"{clip.split} clips whose source is also evaluated on, left out"
            notes.add(kind, f"{clip.place}: {clip.id}")
        else:
            settled.append(clip)
    return settled


def _locate(
    clips: Sequence[_Clip], root: Path, *, absent: str, trimmed: bool, notes: Notes
) -> list[Row]:
    """Rows with the file of each clip, or with where it would be expected."""
    stems: dict[str, list[str]] = {}
    for file in scan_folder(root)[0]:
        stems.setdefault(PurePosixPath(file).stem, []).append(file)
    rows = []
    for clip in clips:
        cut = stems.get(clip.id)
        files = cut or stems.get(clip.source)
        if files is None:
            notes.add("clips without a file", f"{clip.place}: {clip.id}")
            if absent == "skip":
                continue
            files = [f"{clip.label}/{clip.id}.mp4"]
            alone = True
        else:
            alone = trimmed or cut is not None
        start, end = (0.0, clip.end - clip.start) if alone else (clip.start, clip.end)
        video = _of_class(files, clip.label)
        rows.append(Row(clip.id, start, end, clip.split, (clip.label,), video, group=clip.source))
    return rows


def _of_class(files: Sequence[str], label: str) -> str:
    """The file that lies in a folder of the class, or the first: one clip may lie in several."""
    wanted = label.replace("_", " ").lower()
    for file in files:
        if wanted in (part.replace("_", " ").lower() for part in PurePosixPath(file).parts[:-1]):
            return file
    return files[0]


def _sample(
    rows: Sequence[Row],
    names: Sequence[str],
    limits: dict[str, int | None],
    seed: int,
    notes: Notes,
) -> list[Row]:
    """Draws rows of every class and split that has a limit."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        found.setdefault((row.split, row.labels[0]), {})[row.id] = row
    for split, limit in limits.items():
        for label in names if limit is not None else ():
            there = found.get((split, label), {})
            if len(there) < limit:
                kind = "classes with fewer clips than wanted"
                notes.add(kind, f"{label}: {len(there)} {split} clips")
            drawn = choose(there, limit, seed=seed, key=f"{split}/{label}")
            found[split, label] = {name: there[name] for name in drawn}
    return [row for some in found.values() for row in some.values()]


def _fit(rows: Sequence[Row], root: Path, show: Show | None, notes: Notes) -> list[Row]:
    """Ends rows where their file ends, if it holds the clip alone."""
    cut = {row.video: root / row.video for row in rows if row.start == 0}
    measured = measure_all((path for path in cut.values() if path.is_file()), show)
    fitted = []
    for row in rows:
        found = measured.get(cut.get(row.video))
        if found is not None and found.seconds is None:
            notes.add("videos of unknown length", f"{row.video}: {found.reason}")
        elif found is not None and found.seconds < row.end:
            notes.add("clips shorter than in the table", f"{row.id}: {found.seconds:g} s")
            row = replace(row, end=found.seconds)
        fitted.append(row)
    return fitted
