"""What is in a manifest, and whether it and its media are as it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.errors import MediaError, UserError
from pipeline.grid import TAIL_HOLD, SegmentGrid
from pipeline.manifest.files import dense_matrices, read_dense, read_manifest
from pipeline.manifest.schema import SPLITS, Manifest, Row
from pipeline.progress import Advance

__all__ = [
    "PRESENCE",
    "DenseStats",
    "Finding",
    "SplitStats",
    "Validation",
    "check_media",
    "manifest_stats",
    "print_list",
    "print_stats",
    "validate",
]

PRESENCE = ("audio-only", "visual-only", "both", "neither")
"""In which modality a clip's label holds somewhere, by the dense annotations."""
SHOWN = 5
"""Names listed of each kind before the rest is only counted."""


@dataclass(frozen=True)
class Finding:
    """A row whose media will not give features, with the status it would get and why."""

    row: str
    status: str
    reason: str


@dataclass(frozen=True)
class Validation:
    """A manifest that reads without error.

    Attributes:
        manifest: The manifest.
        events: Number of dense events, or None without annotations.
    """

    manifest: Manifest
    events: int | None

    def summary(self) -> str:
        """One line."""
        manifest = self.manifest
        counts = Counter(row.split for row in manifest)
        splits = ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])
        parts = [
            f"{manifest.path.name if manifest.path else 'The manifest'} is valid: "
            f"{len(manifest)} clips ({splits or 'none'})",
            f"{len(manifest.classes)} classes, {manifest.header.label_type}",
        ]
        if self.events is not None:
            version = (manifest.header.annotations or {}).get("version")
            parts.append(f"{self.events} dense events" + (f" ({version})" if version else ""))
        return "; ".join(parts)


def validate(path: Path | str) -> Validation:
    """Reads a manifest and the dense annotations that it names.

    Raises:
        UserError: If anything breaks the format; names the line and the remedy.
    """
    manifest = read_manifest(path)
    events = None if manifest.header.annotations is None else len(read_dense(manifest))
    return Validation(manifest, events)


def check_media(manifest: Manifest, *, progress: Advance | None = None) -> tuple[Finding, ...]:
    """Probes every video that a manifest names.

    Args:
        manifest: The manifest.
        progress: Told about every video.

    Returns:
        Rows whose media are there but cannot serve.

    Raises:
        UserError: If a video is not there.
    """
    rows_of: dict[str, list[Row]] = {}
    for row in manifest:
        if row.video is not None:
            rows_of.setdefault(row.video, []).append(row)
    _check_present(manifest, rows_of)
    findings: list[Finding] = []
    for video, rows in rows_of.items():
        found = _probe_rows(manifest.media_root / video, rows)
        findings += found
        if progress is not None:
            progress.advance("failed" if found else "ok")
    return tuple(findings)


def _check_present(manifest: Manifest, rows_of: dict[str, list[Row]]) -> None:
    missing = [video for video in rows_of if not (manifest.media_root / video).is_file()]
    if not missing:
        return
    line = 2 + manifest.rows.index(rows_of[missing[0]][0])
    raise UserError(
        f"{len(missing)} of {len(rows_of)} videos are not there, first {missing[0]!r} "
        f"(line {line}); put them under {manifest.media_root.resolve()} or correct media_root in "
        "the header."
    )


def _probe_rows(path: Path, rows: Sequence[Row]) -> list[Finding]:
    # PyAV takes a second to import and most uses of manifests never touch media.
    from pipeline.decode import probe

    try:
        info = probe(path)
    except MediaError as error:
        return [Finding(row.id, error.status, error.reason) for row in rows]
    findings = []
    for row in rows:
        if info.video_codec is None:
            findings.append(Finding(row.id, "no_video", "the file has no video stream"))
        elif info.audio_codec is None:
            findings.append(Finding(row.id, "no_audio", "the file has no audio stream"))
        elif info.duration is not None and row.end > info.duration + TAIL_HOLD:
            reason = f"the row ends at {row.end:g} s, the file at {info.duration:.2f} s"
            findings.append(Finding(row.id, "too_short", reason))
    return findings


@dataclass(frozen=True)
class DenseStats:
    """Dense annotations of one split; three numbers are audio, visual, both at once.

    Attributes:
        segments: Positive (segment, class) cells.
        events: Maximal runs of positive segments.
        silent: Clips without any event.
        presence: Labels by `PRESENCE` and class, (C, 4) int64.
        unlabelled: (Clip, class) pairs that hold in audio, in visual, but are not labelled.
        fill: Share of the clip that a present event fills, audio and visual.
    """

    segments: tuple[int, int, int]
    events: tuple[int, int, int]
    silent: tuple[int, int, int]
    presence: np.ndarray
    unlabelled: tuple[int, int]
    fill: tuple[float, float]


@dataclass(frozen=True)
class SplitStats:
    """One split.

    Attributes:
        clips: Rows.
        sources: Groups.
        seconds: Sum of the rows' lengths.
        labels: How many clips have how many labels.
        classes: Clips by class, (C,) int64.
        dense: None where the split has no dense annotations.
    """

    clips: int
    sources: int
    seconds: float
    labels: Counter[int] = field(default_factory=Counter)
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    dense: DenseStats | None = None


def manifest_stats(manifest: Manifest) -> dict[str, SplitStats]:
    """Counts what a manifest holds, by split.

    Raises:
        UserError: If the dense annotations that it names are missing or broken.
    """
    annotated = set()
    if manifest.header.annotations is not None:
        annotated = {manifest[event.id].split for event in read_dense(manifest)}
    result = {}
    for split in SPLITS:
        rows = manifest.split(split)
        if rows:
            labels = manifest.label_matrix(rows)
            result[split] = SplitStats(
                clips=len(rows),
                sources=len({row.group for row in rows}),
                seconds=sum(row.end - row.start for row in rows),
                labels=Counter(len(row.labels) for row in rows),
                classes=labels.sum(axis=0),
                dense=_dense_stats(manifest, rows, labels) if split in annotated else None,
            )
    return result


def _dense_stats(manifest: Manifest, rows: Sequence[Row], labels: np.ndarray) -> DenseStats:
    segments = max(1, max(SegmentGrid().count(row.start, row.end) for row in rows))
    audio, visual = dense_matrices(manifest, rows, segments)  # (N, T, C) each
    modalities = (audio, visual, audio & visual)
    heard, seen = audio.any(axis=1), visual.any(axis=1)  # (N, C)
    cells = (heard & ~seen, ~heard & seen, heard & seen, ~heard & ~seen)
    starts = (m & ~np.pad(m, ((0, 0), (1, 0), (0, 0)))[:, :-1] for m in modalities)
    present = (int(heard.sum()), int(seen.sum()))
    return DenseStats(
        segments=_three(m.sum() for m in modalities),
        events=_three(s.sum() for s in starts),
        silent=_three((~m.any(axis=(1, 2))).sum() for m in modalities),
        presence=np.stack([(labels & cell).sum(axis=0) for cell in cells], axis=1),
        unlabelled=(int((heard & ~labels).sum()), int((seen & ~labels).sum())),
        fill=tuple(
            float(m.sum() / (n * segments)) if n else 0.0
            for m, n in zip(modalities[:2], present, strict=True)
        ),
    )


def _three(numbers: Iterable[np.integer]) -> tuple[int, int, int]:
    first, second, third = (int(n) for n in numbers)
    return first, second, third


def print_stats(manifest: Manifest, stream: TextIO | None = None) -> None:
    """Prints `manifest_stats` as tables, on standard output by default."""
    # Class names are data: square brackets and colons in them are not rich's markup.
    console = Console(file=stream, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 160
    stats = manifest_stats(manifest)
    header = manifest.header
    console.print(
        f"{header.dataset}: {len(manifest)} clips, {len(manifest.classes)} classes, "
        f"{header.label_type}, content {manifest.content_digest()}",
    )
    splits = _table("split", "clips", "sources", "hours", "labels a clip: clips")
    for name, split in stats.items():
        histogram = ", ".join(f"{k}: {n}" for k, n in sorted(split.labels.items()))
        hours = f"{split.seconds / 3600:.2f}"
        splits.add_row(name, str(split.clips), str(split.sources), hours, histogram)
    console.print(splits)
    dense = {name: split.dense for name, split in stats.items() if split.dense is not None}
    if dense:
        _print_dense(dense, console)
    if manifest.classes:
        _print_classes(manifest.classes, stats, list(dense.values()), console)


def _print_dense(dense: dict[str, DenseStats], console: Console) -> None:
    table = _table("dense annotations", *dense)
    lines = {
        "positive segments audio / visual / both": "segments",
        "events audio / visual / both": "events",
        "clips without any audio / visual / both": "silent",
        "not in the clip's label audio / visual": "unlabelled",
    }
    for title, name in lines.items():
        values = (" / ".join(str(n) for n in getattr(d, name)) for d in dense.values())
        table.add_row(title, *values)
    fills = (" / ".join(f"{share:.2f}" for share in d.fill) for d in dense.values())
    table.add_row("share of the clip an event fills audio / visual", *fills)
    for index, presence in enumerate(PRESENCE):
        counts = (str(d.presence[:, index].sum()) for d in dense.values())
        table.add_row(f"labels that hold {presence}", *counts)
    console.print(table)


def _print_classes(
    classes: Sequence[str],
    stats: dict[str, SplitStats],
    dense: Sequence[DenseStats],
    console: Console,
) -> None:
    shares = PRESENCE if dense else ()
    table = _table("class", *stats, *shares)
    presence = sum((d.presence for d in dense), np.zeros((len(classes), len(PRESENCE)), np.int64))
    for index, name in enumerate(classes):
        counts = (str(split.classes[index]) for split in stats.values())
        total = presence[index].sum()
        row = (f"{n / total:.3f}" if total else "-" for n in presence[index]) if dense else ()
        table.add_row(name, *counts, *row)
    console.print(table)


def print_list(title: str, names: Iterable[str]) -> None:
    """Prints how many things of a kind there are and names the first ones."""
    names = list(names)
    if names:
        print(f"{len(names)} {title}:")
        for name in names[:SHOWN]:
            print(f"  {name}")
        if len(names) > SHOWN:
            print(f"  and {len(names) - SHOWN} more")


def _table(first: str, *others: str) -> Table:
    """A table whose first column is text and whose others are numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for other in others:
        table.add_column(other, justify="right")
    return table
