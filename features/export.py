"""Writing features as one .npy file a clip: what other programs read, LLP's official layout too."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from features.store import FeatureInfo, FeatureTable, Store
from pipeline.errors import UserError
from pipeline.files import write_atomic
from pipeline.manifest import Manifest, Row
from pipeline.manifest.llp import NAME
from pipeline.progress import Advance

__all__ = ["LAYOUTS", "LLP", "ExportReport", "export_features"]

BLOCK = 256
"""Rows that are in memory at a time."""
LAYOUTS = ("npy", "llp")


@dataclass(frozen=True)
class LlpFolder:
    """A folder of the official features (Tian et al., ECCV 2020, YapengTian/AVVP-ECCV20).

    Attributes:
        name: The folder.
        shape: Shape of a clip's array.
    """

    name: str
    shape: tuple[int, int]


LLP: Mapping[str, LlpFolder] = {
    "vggish": LlpFolder("vggish", (10, 128)),
    "resnet152.frames": LlpFolder("res152", (80, 2048)),
    "r2plus1d_18": LlpFolder("r2plus1d_18", (10, 512)),
}
"""Official folder by feature; every file is float32."""


@dataclass
class ExportReport:
    """What an export wrote.

    Attributes:
        written: Files.
        failed: Row id, feature and reason of every row without a file.
    """

    written: int = 0
    failed: list[tuple[str, str, str]] = field(default_factory=list)


def export_features(
    store: Store,
    manifest: Manifest,
    features: Sequence[FeatureInfo],
    out: Path,
    *,
    layout: str = "npy",
    progress: Advance | None = None,
) -> ExportReport:
    """Writes ``<out>/<feature>/<row id>.npy``, or with LLP's names ``<folder>/<YouTube id>.npy``.

    Every file is written whole or not at all; one that is there is replaced.

    Args:
        store: The store.
        manifest: The rows.
        features: What to export.
        out: The folder.
        layout: One of `LAYOUTS`.
        progress: Told of every row of every feature.

    Raises:
        UserError: If a feature has no place in the layout, a row's id makes no file name, two rows
            have one name, rows were never extracted, or the folder cannot be written.
    """
    if layout not in LAYOUTS:
        raise UserError(f"There is no layout {layout!r}; use one of {', '.join(LAYOUTS)}.")
    folders = {info.label: out / _folder(info, layout) for info in features}
    if len(set(folders.values())) < len(folders):
        raise UserError("Two of the features have one name; export them one at a time.")
    names = _llp_names(manifest) if layout == "llp" else _row_names(manifest)
    for info in features:
        _refuse_absent(store, info, manifest)
    report = ExportReport()
    for info in features:
        shape = LLP[info.name].shape if layout == "llp" else None
        for low in range(0, len(manifest.rows), BLOCK):
            rows = manifest.rows[low : low + BLOCK]
            table = store.read(info, manifest, rows)
            for n, row in enumerate(rows):
                problem = _write(table, n, folders[info.label], names[row.id], shape, out)
                if problem:
                    report.failed.append((row.id, info.name, problem))
                else:
                    report.written += 1
                if progress is not None:
                    progress.advance("failed" if problem else "ok")
    return report


def _folder(info: FeatureInfo, layout: str) -> str:
    if layout == "npy":
        return _safe(info.name, "feature")
    if info.name not in LLP:
        raise UserError(
            f"LLP's layout has no folder for {info.name}; it takes {', '.join(LLP)}, and --layout "
            "npy any feature."
        )
    return LLP[info.name].name


def _row_names(manifest: Manifest) -> dict[str, str]:
    return {row.id: _safe(row.id, "row") for row in manifest.rows}


def _safe(name: str, what: str) -> str:
    """A name whose parts are all names of files or folders, so that it leads down and not out."""
    parts = name.split("/")
    odd = any(part in ("", ".", "..") for part in parts)
    # A colon or backslash leads elsewhere on Windows.
    if (
        odd
        or any(c in "\\:" or ord(c) < 32 for c in name)
        or len(name.encode(errors="replace")) > 250
    ):
        raise UserError(f"The {what} {name!r} makes no file name; rename it.")
    return name


def _llp_names(manifest: Manifest) -> dict[str, str]:
    """The YouTube id of every row."""
    names: dict[str, str] = {}
    taken: dict[str, Row] = {}
    for row in manifest.rows:
        match = NAME.fullmatch(row.id)
        if match is None:
            raise UserError(
                f"The row {row.id!r} is not named <11 characters>_<start>_<end> as LLP's are; use "
                "--layout npy."
            )
        video = _safe(match["video"], "video")
        if video in taken:
            raise UserError(
                f"The rows {taken[video].id!r} and {row.id!r} are of one video, for which LLP's "
                "layout has one file; leave one out of the manifest, or use --layout npy."
            )
        taken[video] = row
        names[row.id] = video
    return names


def _refuse_absent(store: Store, info: FeatureInfo, manifest: Manifest) -> None:
    """Before anything is written: rows that were never extracted."""
    index = store.index(info.folder.name)
    media = store.media(info, manifest, manifest.rows)
    times = [row.start for row in manifest.rows], [row.end for row in manifest.rows]
    places = index.find_all(media, *times)
    absent = [row for row, place in zip(manifest.rows, places, strict=True) if place is None]
    if absent:
        # Reading them says what is missing and how to make it.
        store.read(info, manifest, absent)


def _write(
    table: FeatureTable,
    n: int,
    folder: Path,
    name: str,
    shape: tuple[int, int] | None,
    out: Path,
) -> str:
    """Writes a clip's file; returns why there is none."""
    if table.status[n] != "ok":
        return f"{table.status[n]}: {table.reason[n]}"
    x = table.row(n)
    if shape is not None:
        if x.shape != shape:
            return f"has the shape {x.shape}, LLP's files have {shape}"
        x = x.astype(np.float32)
    path = folder / f"{name}.npy"
    data = io.BytesIO()
    np.save(data, x, allow_pickle=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.parent.resolve().is_relative_to(out.resolve()):
            raise UserError(f"{path.parent} is a link that leaves {out}; choose another --out.")
        write_atomic(path, data.getvalue())
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); free some space or choose another --out."
        ) from error
    return ""
