"""Reading and writing manifests and their dense annotations."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipeline.errors import UserError
from pipeline.files import json_bytes, write_atomic
from pipeline.manifest.schema import Header, Manifest, Row

__all__ = [
    "DENSE_COLUMNS",
    "DenseEvent",
    "dense_matrices",
    "read_dense",
    "read_manifest",
    "relative_root",
    "write_dense",
    "write_manifest",
]

T = TypeVar("T", Header, Row)

DENSE_COLUMNS = ("id", "modality", "onset", "offset", "label")


@dataclass(frozen=True, slots=True)
class DenseEvent:
    """One annotated event: a label in one modality over [onset, offset) seconds of the clip."""

    id: str
    modality: str
    onset: float
    offset: float
    label: str


def read_manifest(path: Path | str) -> Manifest:
    """Reads and checks a manifest. Media are never touched.

    Raises:
        UserError: If the file cannot be read or breaks the format; names the line and the remedy.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8") as file:
            first = file.readline()
            if not first.strip():
                raise UserError(f"{path.name} is empty; a manifest begins with a header line.")
            header = _parse(path, 1, first, Header.from_json)
            rows = tuple(
                _parse(path, number, line, Row.from_json)
                for number, line in enumerate(file, start=2)
            )
    except OSError as error:
        raise UserError(
            f"The manifest {path} cannot be read ({error.strerror}); check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"The manifest {path} is not UTF-8 text; is it a manifest?") from error
    return Manifest(header, rows, path)


def _parse(path: Path, number: int, line: str, make: Callable[[Any], T]) -> T:
    if not line.strip():
        raise UserError(f"{path.name} line {number}: the line is blank; delete it.")
    try:
        return make(_DECODER.decode(line))
    except json.JSONDecodeError as error:
        raise UserError(f"{path.name} line {number}: not JSON ({error.msg}); mend it.") from error
    except ValueError as error:
        raise UserError(f"{path.name} line {number}: {error}.") from error


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        # JSON would keep the last one and say nothing.
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice; keep one")
    return value


# Made once: making a decoder takes as long as reading a line, and a corpus has a million.
_DECODER = json.JSONDecoder(object_pairs_hook=_unrepeated)


def write_manifest(manifest: Manifest, path: Path | str) -> Manifest:
    """Writes a manifest atomically and rewrites what is relative to its folder.

    ``media_root`` and the annotations' file keep pointing at the same files from the new place.

    Returns:
        The manifest as written, with its new path.
    """
    path = Path(path)
    header = manifest.header
    if manifest.path is not None and path.parent.resolve() != manifest.folder.resolve():
        header = replace(header, media_root=_move(manifest.folder, header.media_root, path.parent))
        if header.annotations is not None:
            moved = _move(manifest.folder, header.annotations["file"], path.parent)
            header = replace(header, annotations=dict(header.annotations) | {"file": moved})
    lines = [json.dumps(header.to_json(), ensure_ascii=False)]
    lines += [json.dumps(row.to_json(), ensure_ascii=False) for row in manifest.rows]
    write_atomic(path, json_bytes("\n".join(lines) + "\n"))
    return Manifest(header, manifest.rows, path)


def _move(old_folder: Path, target: str, new_folder: Path) -> str:
    return target if os.path.isabs(target) else relative_root(old_folder / target, new_folder)


def relative_root(target: Path, folder: Path) -> str:
    """How a manifest in ``folder`` names ``target``: relative wherever there is such a path."""
    try:
        return Path(os.path.relpath(target.resolve(), folder.resolve())).as_posix()
    except ValueError:
        # Two drives of one machine.
        return target.resolve().as_posix()


def write_dense(events: Iterable[DenseEvent], path: Path | str) -> dict[str, str]:
    """Writes dense annotations as a TSV.

    Returns:
        ``{"file", "digest"}`` for a manifest's header that stands in the same folder.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    writer.writerow(DENSE_COLUMNS)
    for event in events:
        onset, offset = (
            np.format_float_positional(value, trim="-") for value in (event.onset, event.offset)
        )
        writer.writerow((event.id, event.modality, onset, offset, event.label))
    text = buffer.getvalue()
    path = write_atomic(path, text)
    return {"file": path.name, "digest": hashlib.sha256(text.encode()).hexdigest()}


def read_dense(manifest: Manifest) -> tuple[DenseEvent, ...]:
    """Reads the dense annotations that a manifest's header names.

    Raises:
        UserError: If the header names none, the file is missing or was changed, or a line is off.
    """
    if manifest.header.annotations is None:
        raise UserError(
            f"The manifest {manifest.path} names no dense annotations; "
            "segment and event metrics need them for val and test."
        )
    path = manifest.folder / manifest.header.annotations["file"]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"The annotations {path} cannot be read ({error.strerror}); "
            "put the file beside its manifest."
        ) from error
    if hashlib.sha256(data).hexdigest() != manifest.header.annotations["digest"]:
        raise UserError(
            f"The annotations {path} were changed after the manifest was made; make it again."
        )
    lines = csv.reader(io.StringIO(data.decode()), delimiter="\t")
    if tuple(next(lines, ())) != DENSE_COLUMNS:
        raise UserError(f"{path.name} line 1: the columns must be {', '.join(DENSE_COLUMNS)}.")
    known = set(manifest.classes)
    return tuple(_dense_event(path, n, line, manifest, known) for n, line in enumerate(lines, 2))


def _dense_event(
    path: Path, number: int, line: Sequence[str], manifest: Manifest, known: set[str]
) -> DenseEvent:
    place = f"{path.name} line {number}"
    if len(line) != len(DENSE_COLUMNS):
        raise UserError(f"{place}: {len(line)} columns instead of {len(DENSE_COLUMNS)}; mend it.")
    row_id, modality, onset, offset, label = line
    if row_id not in manifest:
        raise UserError(f"{place}: the id {row_id!r} is no row of the manifest; delete the line.")
    if modality not in ("audio", "visual"):
        raise UserError(f"{place}: the modality {modality!r} is unknown; use audio or visual.")
    if label not in known:
        raise UserError(f"{place}: the label {label!r} is not among the classes; correct it.")
    try:
        event = DenseEvent(row_id, modality, float(onset), float(offset), label)
    except ValueError as error:
        raise UserError(f"{place}: onset and offset must be seconds; mend it.") from error
    if not 0 <= event.onset < event.offset:
        raise UserError(f"{place}: the event from {onset} to {offset} s is empty; mend it.")
    return event


def dense_matrices(
    manifest: Manifest, rows: Sequence[Row], segments: int = 10, hop: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Dense annotations of some rows on the segment grid.

    Args:
        manifest: The manifest, whose header names the annotations.
        rows: N rows of it.
        segments: Segments a clip (T).
        hop: Seconds a segment; an event fills every segment that begins inside it.

    Returns:
        Audio and visual truth, each (N, T, C) bool.

    Raises:
        UserError: See `read_dense`.
    """
    position = {row.id: n for n, row in enumerate(rows)}
    column = {name: c for c, name in enumerate(manifest.classes)}
    truth = {
        m: np.zeros((len(rows), segments, len(column)), dtype=bool) for m in ("audio", "visual")
    }
    for event in read_dense(manifest):
        if event.id in position:
            first, last = (int(np.ceil(v / hop - 1e-9)) for v in (event.onset, event.offset))
            truth[event.modality][position[event.id], first:last, column[event.label]] = True
    return truth["audio"], truth["visual"]
