"""The annotation tables of the Look, Listen and Parse data set, as released, to a manifest.

Source: Tian, Li and Xu, "Unified Multisensory Perception: Weakly-Supervised Audio-Visual Video
Parsing", ECCV 2020 (YapengTian/AVVP-ECCV20). The tables are tab separated with a header row. Weak:
``filename, event_labels`` (a comma list). Dense: ``filename, onset, offset, event_labels`` (one
label a row, integer seconds; fills the segments onset to offset - 1).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.manifest.classes import class_names
from pipeline.manifest.files import DenseEvent, relative_root, write_dense, write_manifest
from pipeline.manifest.notes import Notes
from pipeline.manifest.schema import Header, Manifest, Row

__all__ = ["AUDIO_VERSIONS", "UNRECOGNISED", "LlpImport", "Notes", "import_llp"]

WEAK_TABLES = {
    "train": "AVVP_train.csv",
    "val": "AVVP_val_pd.csv",
    "test": "AVVP_test_pd.csv",
}
UNION_TABLE = "AVVP_dataset_full.csv"
VISUAL_TABLE = "AVVP_eval_visual.csv"
AUDIO_TABLES = {"2024": "AVVP_eval_audio.csv", "pre2024": "AVVP_eval_audio.pre2024fix.csv"}
AUDIO_MD5 = {
    "98d8ce2369078d43aa1df26d3ef2894c": "2024",
    "a8b6b747e59a4ea2501e51cd717f3b4f": "pre2024",
}
AUDIO_VERSIONS = tuple(AUDIO_TABLES)
"""The audio table was corrected on 2024-04-16; published results presumably used the older one."""

UNRECOGNISED = "unrecognised"
"""Version of an audio table that is neither of the two released ones."""

WEAK_COLUMNS = ("filename", "event_labels")
DENSE_COLUMNS = ("filename", "onset", "offset", "event_labels")

ID_LENGTH = 11
"""YouTube's ids; they may begin with ``-`` or ``_``, so names cannot be split at underscores."""
NAME = re.compile(rf"(?P<video>.{{{ID_LENGTH}}})_(?P<start>\d+(\.\d+)?)_(?P<end>\d+(\.\d+)?)")


@dataclass(frozen=True)
class LlpImport:
    """An imported data set.

    Attributes:
        manifest: As written.
        notes: Odd rows by kind.
        audio_table: The file that was taken for the audio annotations.
    """

    manifest: Manifest
    notes: Notes
    audio_table: Path


def import_llp(
    folder: Path | str,
    out: Path | str,
    *,
    annotations: str = "2024",
    media_root: Path | str | None = None,
    trimmed: bool = False,
) -> LlpImport:
    """Writes the manifest of LLP and, beside it, ``<stem>.dense.tsv``.

    Args:
        folder: Holds the five official tables.
        out: The manifest.
        annotations: Which audio table, out of `AUDIO_VERSIONS`.
        media_root: Folder that holds ``videos/<id>.mp4``; default the manifest's own.
        trimmed: Whether these files hold the annotated ten seconds alone (start 0) instead of
            the whole video.

    Raises:
        UserError: If a table is missing or broken, or only the other audio table is there.
    """
    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give the one that holds LLP's tables.")
    notes = Notes()
    classes = class_names("llp")
    audio_table, version = _find_audio_table(folder, annotations, notes)
    weak = [
        (split, line)
        for split, table in WEAK_TABLES.items()
        for line in _weak(folder / table, classes)
    ]
    _check_unique([line for _, line in weak])
    rows = tuple(_row(line, split, trimmed, notes) for split, line in weak)
    _check_union(folder / UNION_TABLE, rows, classes, notes)
    events = [
        event
        for modality, table in (("audio", audio_table), ("visual", folder / VISUAL_TABLE))
        for event in _dense(table, modality, classes, {row.id: row for row in rows}, notes)
    ]
    _note_silent_clips(rows, events, notes)
    dense = write_dense(events, out.with_name(f"{out.stem}.dense.tsv"))
    root = "." if media_root is None else relative_root(Path(media_root), out.parent)
    header = Header("llp", "multilabel", classes, root, annotations=dense | {"version": version})
    return LlpImport(write_manifest(Manifest(header, rows), out), notes, audio_table)


def _find_audio_table(folder: Path, wanted: str, notes: Notes) -> tuple[Path, str]:
    """The audio table of a version, by content first: most copies bear the same name."""
    if wanted not in AUDIO_VERSIONS:
        raise UserError(f"annotations {wanted!r} is unknown; use {' or '.join(AUDIO_VERSIONS)}.")
    versions = {path: AUDIO_MD5.get(_md5(path)) for path in sorted(folder.glob("*.csv"))}
    by_content = [path for path, version in versions.items() if version == wanted]
    if by_content:
        return by_content[0], wanted
    by_name = [folder / AUDIO_TABLES[wanted], folder / AUDIO_TABLES["2024"]]
    for path in by_name:
        if path in versions and versions[path] is None:
            notes.add("audio tables that are neither of the released ones", path.name)
            return path, UNRECOGNISED
    others = [path for path, version in versions.items() if version is not None]
    if others:
        version = versions[others[0]]
        raise UserError(
            f"{folder} holds the {version} audio table only ({others[0].name}); pass --annotations "
            f"{version}, or add the {wanted} one as {AUDIO_TABLES[wanted]}."
        )
    raise UserError(
        f"{folder} has no {AUDIO_TABLES['2024']}; copy the five tables of LLP "
        "(YapengTian/AVVP-ECCV20, folder data) there."
    )


def _md5(path: Path) -> str:
    # A checkout on Windows turns line ends; the table is the same.
    data = path.read_bytes().replace(b"\r\n", b"\n")
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class _Line:
    """One line of a weak table with its place, for errors."""

    place: str
    name: str
    labels: tuple[str, ...]


def _read(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Place and cells of every line that is not blank."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(
            f"The table {path} cannot be read ({reason}); copy the five tables of LLP there."
        ) from error
    if not lines or lines[0].split("\t") != list(columns):
        raise UserError(
            f"{path.name} line 1: the columns must be {', '.join(columns)}, separated by tabs."
        )
    for number, line in enumerate(lines[1:], 2):
        place, cells = f"{path.name} line {number}", line.split("\t")
        if len(cells) != len(columns):
            raise UserError(f"{place}: {len(cells)} columns instead of {len(columns)}; mend it.")
        yield place, cells


def _check_labels(place: str, labels: Sequence[str], classes: Sequence[str]) -> None:
    for label in labels:
        if label not in classes:
            raise UserError(f"{place}: the label {label!r} is not one of LLP's classes; mend it.")


def _weak(path: Path, classes: Sequence[str]) -> Iterator[_Line]:
    for place, (name, labels) in _read(path, WEAK_COLUMNS):
        line = _Line(place, name, tuple(labels.split(",")))
        _check_labels(place, line.labels, classes)
        yield line


def _check_unique(lines: Sequence[_Line]) -> None:
    places: dict[str, str] = {}
    for line in lines:
        if line.name in places:
            raise UserError(
                f"{line.place}: {line.name!r} stands in {places[line.name]} already; "
                "keep every clip in one row of one split."
            )
        places[line.name] = line.place


def _row(line: _Line, split: str, trimmed: bool, notes: Notes) -> Row:
    match = NAME.fullmatch(line.name)
    if match is None:
        raise UserError(
            f"{line.place}: the name {line.name!r} is not <11 characters>_<start>_<end>; mend it."
        )
    start, end = float(match["start"]), float(match["end"])
    if "." in match["start"] + match["end"]:
        notes.add("names with decimal times", line.name)
    labels = tuple(dict.fromkeys(line.labels))
    if len(labels) < len(line.labels):
        notes.add("weak rows that repeat a label, kept once", line.name)
    return Row(
        id=line.name,
        start=0.0 if trimmed else start,
        end=end - start if trimmed else end,
        split=split,
        labels=labels,
        video=f"videos/{match['video']}.mp4",
    )


def _check_union(path: Path, rows: Sequence[Row], classes: Sequence[str], notes: Notes) -> None:
    """Compares the splits with the table that claims to hold them all, where it is there."""
    if not path.is_file():
        return
    union = {line.name: frozenset(line.labels) for line in _weak(path, classes)}
    splits = {row.id: frozenset(row.labels) for row in rows}
    for name in sorted(union.keys() | splits.keys()):
        if union.get(name) != splits.get(name):
            notes.add(f"clips that differ between {UNION_TABLE} and the splits", name)


def _dense(
    path: Path, modality: str, classes: Sequence[str], rows: dict[str, Row], notes: Notes
) -> Iterator[DenseEvent]:
    for place, (name, onset, offset, label) in _read(path, DENSE_COLUMNS):
        _check_labels(place, (label,), classes)
        try:
            event = DenseEvent(name, modality, float(onset), float(offset), label)
        except ValueError as error:
            raise UserError(f"{place}: onset and offset must be seconds; mend it.") from error
        empty, known = event.offset <= event.onset, name in rows
        if empty:
            notes.add(f"{modality} rows with offset <= onset, left out", name)
        if not known:
            notes.add(f"{modality} rows of clips in no split, left out", name)
        if known and not empty:
            yield event


def _note_silent_clips(rows: Sequence[Row], events: Sequence[DenseEvent], notes: Notes) -> None:
    """Counts annotated clips without any event in one modality."""
    for split in ("val", "test"):
        for modality in ("audio", "visual"):
            present = {event.id for event in events if event.modality == modality}
            for row in rows:
                if row.split == split and row.id not in present:
                    notes.add(f"{split} clips without {modality} events", row.id)
