"""A folder of videos, with labels from a table, from its sub-folders or without, to a manifest.

Every file with a media extension becomes at least one row, also what cannot be read: extraction
gives such rows a status and a reason, so that nothing disappears between a disk and a result.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.errors import UserError
from pipeline.grid import TAIL_HOLD
from pipeline.manifest.files import relative_root, write_manifest
from pipeline.manifest.labels import FileLabels, LabelTable, read_folders, read_labels
from pipeline.manifest.media import measure
from pipeline.manifest.schema import Header, Manifest, Row
from pipeline.progress import Advance

__all__ = [
    "MEDIA_EXTENSIONS",
    "FolderImport",
    "check_seconds",
    "cut",
    "from_folder",
    "scan_folder",
    "unique_ids",
]

MEDIA_EXTENSIONS = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m1v", ".m2ts", ".m2v"}
    | {".m4v", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv"}
    | {".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m"}
)
"""What counts as a video by its name; upper and lower case are the same."""


@dataclass(frozen=True)
class FolderImport:
    """An imported folder.

    Attributes:
        manifest: As written.
        fallback: Files whose length could not be read, with the reason; their rows have the
            fallback length.
        other: Files that are no media by their name.
        unlabelled: Files that the label table does not name.
        absent: Names in the label table that no file has.
        tails: Seconds at the ends of videos that no row covers, by file.
    """

    manifest: Manifest
    fallback: dict[str, str] = field(default_factory=dict)
    other: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    tails: dict[str, float] = field(default_factory=dict)


def from_folder(
    folder: Path | str,
    out: Path | str,
    *,
    labels: Path | str | None = None,
    labels_from_folders: bool = False,
    label_type: str | None = None,
    split: str = "train",
    window: float | None = None,
    tail: str = "keep",
    fallback_seconds: float = 10.0,
    absent: str = "error",
    unlabelled: str = "error",
    dataset: str | None = None,
    progress: Advance | None = None,
) -> FolderImport:
    """Writes the manifest of a folder.

    Args:
        folder: Searched with its sub-folders; links are followed.
        out: The manifest.
        labels: Label table, see `pipeline.manifest.labels`. Without labels ``label_type`` is
            ``none``.
        labels_from_folders: Whether a file's label is the name of its folder, see
            `pipeline.manifest.labels.read_folders`, instead of what a table says.
        label_type: ``multiclass`` or ``multilabel``; default multiclass if every labelled file
            has exactly one label.
        split: Split of every row, unless the table says one.
        window: Cuts videos into consecutive rows of so many seconds; default one row a video.
        tail: What becomes of the end of a video that fills no window: ``keep`` makes a shorter
            row, ``drop`` none.
        fallback_seconds: Length of a file whose own cannot be read.
        absent: What a name in the table that no file has is: ``error``, or ``skip`` to go on.
        unlabelled: What a file that the table does not name is: ``error``, or ``pool`` to keep it
            as a row of split ``pool`` without labels.
        dataset: Name of the data set; default the folder's.
        progress: Told about every file.

    Raises:
        UserError: If there is no media, an option is off, or the table does not fit the folder.
    """
    folder, out = Path(folder), Path(out)
    check_seconds("--fallback-seconds", fallback_seconds)
    check_seconds("--window", window)
    if labels is not None and labels_from_folders:
        raise UserError("--labels and --labels-from-folders both give labels; leave one out.")
    files, other = scan_folder(folder, leave_out=[out, *([] if labels is None else [labels])])
    if not files:
        raise UserError(f"{folder} holds no file with a media extension; give the videos' folder.")
    if labels_from_folders:
        table = read_folders(files)
    else:
        table = None if labels is None else read_labels(labels, files, absent=absent)
    lack = "lie in no folder" if labels_from_folders else "have no line in the label table"
    bare = () if table is None else _unlabelled(files, table, unlabelled, lack)
    kind, classes = _label_type(table, label_type)
    known = dict.fromkeys(bare, FileLabels(split="pool")) | ({} if table is None else table.files)
    fallback: dict[str, str] = {}
    tails: dict[str, float] = {}
    rows: list[Row] = []
    for name, row_id in unique_ids(files).items():
        measured = measure(folder / name)
        seconds = measured.seconds
        if seconds is None:
            fallback[name], seconds = measured.reason, fallback_seconds
        intervals, left = cut(seconds, window, tail=tail)
        if left:
            tails[name] = left
        entry = known.get(name, FileLabels())
        for start, end in intervals:
            place = "" if window is None else f"_{_text(start)}_{_text(end)}"
            row_split = entry.split or split
            rows.append(Row(row_id + place, start, end, row_split, entry.labels, video=name))
        if progress is not None:
            progress.advance("failed" if name in fallback else "ok")
    name = dataset or folder.resolve().name or "folder"
    header = Header(name, kind, classes, relative_root(folder, out.parent))
    return FolderImport(
        write_manifest(Manifest(header, tuple(rows)), out),
        fallback,
        other,
        bare,
        () if table is None else table.absent,
        tails,
    )


def _unlabelled(files: Sequence[str], table: LabelTable, choice: str, lack: str) -> tuple[str, ...]:
    """Files that the table does not name; ``lack`` says of them why it does not.

    Raises:
        UserError: If there are any and the choice is ``error``.
    """
    bare = tuple(name for name in files if name not in table.files)
    if bare and choice == "error":
        raise UserError(
            f"{len(bare)} of {len(files)} files {lack}, first {bare[0]!r}; add "
            "them, or pass --unlabelled pool to keep them for their audio only."
        )
    return bare


def check_seconds(option: str, seconds: float | None) -> None:
    """Refuses what is no length of a clip; None is not given.

    Raises:
        UserError: Names the option.
    """
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0.001):
        raise UserError(f"{option} {seconds:g} is no length of a clip; use a number above 0.")


def scan_folder(
    folder: Path, *, leave_out: Iterable[Path | str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Finds the files of a folder and its sub-folders; links to folders are followed once.

    Args:
        folder: Where to look.
        leave_out: Files that belong to the import itself.

    Returns:
        Media and other files, as sorted paths inside the folder with ``/``.

    Raises:
        UserError: If the folder is none or a name cannot be written in a manifest.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give the one that holds the videos.")
    own = {Path(path).resolve() for path in leave_out}
    seen: set[str] = set()
    media: list[str] = []
    other: list[str] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            # A link back to a parent would be walked for ever.
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in names:
            path = Path(place, name)
            if path.resolve() in own:
                continue
            inside = path.relative_to(folder).as_posix()
            if _unwritable(inside):
                raise UserError(
                    f"The file name {inside!r} is not valid Unicode and cannot stand in a "
                    "manifest; rename the file."
                )
            (media if path.suffix.lower() in MEDIA_EXTENSIONS else other).append(inside)
    return tuple(sorted(media)), tuple(sorted(other))


def _unwritable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False


def unique_ids(files: Sequence[str]) -> dict[str, str]:
    """An id for every file: its path without extension, with it where two would be the same."""
    ids = {file: str(PurePosixPath(file).with_suffix("")) for file in files}
    while clashes := {row_id for row_id, n in Counter(ids.values()).items() if n > 1}:
        # Full paths never clash among themselves, so every turn settles at least one file.
        ids = {file: file if row_id in clashes else row_id for file, row_id in ids.items()}
    return ids


def cut(
    seconds: float, window: float | None, *, tail: str = "keep"
) -> tuple[list[tuple[float, float]], float]:
    """Cuts a video into consecutive intervals.

    An end of up to `TAIL_HOLD` seconds (or half a window) that fills no window is always left
    out, and a video that lacks no more than that counts as filling its last one.

    Args:
        seconds: Length of the video.
        window: Length of an interval; None gives one interval.
        tail: ``keep`` or ``drop`` a longer end; a video shorter than a window is kept whole.

    Returns:
        Intervals in seconds, at least one, and the seconds that a dropped end holds.
    """
    if window is None:
        return [(0.0, seconds)], 0.0
    slack = min(TAIL_HOLD, window / 2)
    full = max(1, math.floor((seconds + slack) / window + 1e-9))
    intervals = [
        (round(k * window, 3), round(min((k + 1) * window, seconds), 3)) for k in range(full)
    ]
    left = seconds - full * window
    if left <= slack:
        return intervals, 0.0
    if tail == "drop":
        return intervals, left
    return [*intervals, (round(full * window, 3), seconds)], 0.0


def _label_type(table: LabelTable | None, wanted: str | None) -> tuple[str, tuple[str, ...]]:
    """The header's label type and classes.

    Raises:
        UserError: If the table contradicts what was wanted.
    """
    if table is None:
        if wanted not in (None, "none"):
            raise UserError(
                f"--label-type {wanted} needs --labels TABLE or --labels-from-folders; add one."
            )
        return "none", ()
    odd = next((f for f, entry in table.files.items() if len(entry.labels) != 1), None)
    if wanted == "multiclass" and odd is not None:
        raise UserError(
            f"{odd!r} has {len(table.files[odd].labels)} labels and multiclass means exactly one; "
            "correct the table or pass --label-type multilabel."
        )
    return wanted or ("multiclass" if odd is None else "multilabel"), table.classes


def _text(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")
