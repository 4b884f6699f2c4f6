"""Importing rows shard by shard: claim, read, check, commit. Doing it again does nothing."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np

from features.importing.arrays import Form, as_stored, check_form
from features.importing.report import ImportReport
from features.importing.show import Display, silent
from features.sources import row_media
from features.spec import FeatureSpec
from features.store import Row, RowKey, Shard, ShardRecord, Store, claim, find_committed, shard_name
from features.store.commit import prepare_folder
from pipeline.errors import MediaError, UserError
from pipeline.grid import Grid
from pipeline.manifest import Manifest
from pipeline.manifest import Row as ManifestRow
from pipeline.progress import Advance

__all__ = ["Given", "Imported", "Job", "run_jobs"]

POLL = 0.5
"""Seconds between two looks at a shard that another import is working on."""


class Given(Protocol):
    """Arrays that somebody else made, by name."""

    def form(self, name: str) -> Form:
        """Shape and type of one.

        Raises:
            MediaError: If it is no array of features.
        """
        ...

    def read(self, names: Sequence[str]) -> list[np.ndarray | MediaError]:
        """The arrays of some names, (T, ...) each, or a `MediaError` in its place.

        Raises:
            UserError: If something changed since it was looked at.
        """
        ...


@dataclass(frozen=True)
class Imported:
    """One feature that an import makes.

    Attributes:
        spec: Its name and spec.
        grid: Its steps in time.
        shape: Shape of one step.
        dtype: Type that it is stored in.
        frames: Whether a step is a frame of the grid instead of a segment.
        derive: Computes the steps from those of the feature that is read; None for that one.
    """

    spec: FeatureSpec
    grid: Grid
    shape: tuple[int, ...]
    dtype: str
    frames: bool = False
    derive: Callable[[np.ndarray], np.ndarray] | None = None

    def times(self, row: ManifestRow) -> np.ndarray:
        """Seconds of every step from the clip's start, (T,)."""
        # From the clip's start on, so that equal clips have equal times wherever they begin.
        length = row.end - row.start
        if self.frames:
            return self.grid.frame_times(0.0, length).ravel()
        return self.grid.centers(0.0, length)

    def words(self) -> str:
        """The grid in words, for reasons."""
        hop = self.grid.describe()["hop"]
        if hop is None:
            return f"{self.grid.describe()['number']} windows a clip"
        return f"one every {hop / (self.grid.frames if self.frames else 1):g} s"


@dataclass(frozen=True)
class Job:
    """Features that are read from one place.

    Attributes:
        features: The one that is read, then those that are computed from it.
        given: Where it is read from.
        names: Name there by row id.
        absent: Reason of rows without one.
        source: Where it came from, recorded beside every shard and part of no spec.
    """

    features: tuple[Imported, ...]
    given: Given
    names: Mapping[str, str]
    absent: str
    source: str

    def check(self, row: ManifestRow) -> str:
        """The name of a row's array, if its header is that of the feature.

        Raises:
            MediaError: If there is none, or it is not.
        """
        name = self.names.get(row.id)
        if name is None:
            raise MediaError("missing", self.absent)
        first = self.features[0]
        steps = len(first.times(row))
        form = self.given.form(name)
        check_form(form, shape=first.shape, dtype=first.dtype, steps=steps, hop=first.words())
        return name


@dataclass
class _Task:
    """One shard of each feature that its rows lack.

    Attributes:
        job: Where they are read.
        features: What is lacking.
        rows: The rows, in manifest order.
        done: Record of every feature that is committed by now.
        worked: Whether rows were read here.
    """

    job: Job
    features: tuple[Imported, ...]
    rows: tuple[ManifestRow, ...]
    done: dict[str, ShardRecord] = field(default_factory=dict)
    worked: bool = False


def run_jobs(
    jobs: Sequence[Job],
    manifest: Manifest,
    store: Store,
    *,
    shard_rows: int = 64,
    display: Display = silent,
) -> ImportReport:
    """Imports what the store does not have yet; several runs share the work.

    Args:
        jobs: What to read and what becomes of it.
        manifest: The rows; all splits are imported.
        store: Where to.
        shard_rows: Rows a shard.
        display: Shows progress.

    Raises:
        UserError: If not one row can be imported, files change meanwhile, or the store cannot be
            written.
    """
    if shard_rows < 1:
        raise UserError(f"A shard holds at least 1 row, not {shard_rows}; mend --shard-rows.")
    begin = time.monotonic()
    for job in jobs:
        _check_some(job, manifest)
    report = ImportReport(
        {feature.spec.name: Counter() for job in jobs for feature in job.features},
        tuple(feature.spec for job in jobs for feature in job.features),
        rows=len(manifest),
    )
    tasks = [task for job in jobs for task in _plan(job, manifest, store, shard_rows, report)]
    todo = sum(len(task.rows) for task in tasks)
    total = len(jobs) * len(manifest)
    with display(total, "import", "clips") as progress:
        progress.advance("skipped", total - todo)
        worked: set[str] = set()
        for task in _run(store, manifest, tasks, progress):
            if task.worked:
                worked.update(row.id for row in task.rows)
            for name, record in task.done.items():
                report.statuses[name].update(
                    record.failures.get(n, ("ok", "")) for n in range(len(record.keys))
                )
    report.imported = len(worked)
    report.seconds = time.monotonic() - begin
    return report


def _check_some(job: Job, manifest: Manifest) -> None:
    """Refuses to mark every row as failed: that is a wrong option, not a broken data set."""
    first = None
    for row in manifest.rows:
        try:
            job.check(row)
            return
        except MediaError as error:
            if row.id in job.names:
                first = first or (job.names[row.id], error.reason)
    if first is not None:
        raise UserError(
            f"Not one row can be imported from {job.source}; of {first[0]!r}: {first[1]}. Check "
            "that it belongs to this manifest, and --hop and --shape where they are asked for."
        )


def _key(manifest: Manifest, row: ManifestRow) -> RowKey:
    return RowKey(row_media(manifest.header.dataset, row.id), row.start, row.end)


def _plan(
    job: Job, manifest: Manifest, store: Store, shard_rows: int, report: ImportReport
) -> Iterator[_Task]:
    """Cuts what is missing into tasks, and counts what is there."""
    keys = [_key(manifest, row) for row in manifest.rows]
    columns = [(key.media,) for key in keys], [k.start for k in keys], [k.end for k in keys]
    lacking: list[list[str]] = [[] for _ in keys]
    for name, folder in ((f.spec.name, f.spec.folder) for f in job.features):
        index = store.index(folder)
        if index is not None:
            report.notes += [f"damaged shard set aside: {s}" for s in index.set_aside_damaged()]
        places = [None] * len(keys) if index is None else index.find_all(*columns)
        for lacks, place in zip(lacking, places, strict=True):
            if place is None:
                lacks.append(name)
            else:
                record, n = place
                report.statuses[name][record.failures.get(n, ("ok", ""))] += 1
    groups: dict[tuple[str, ...], list[ManifestRow]] = {}
    for row, lacks in zip(manifest.rows, lacking, strict=True):
        if lacks:
            groups.setdefault(tuple(lacks), []).append(row)
    for names, rows in groups.items():
        features = tuple(f for f in job.features if f.spec.name in names)
        for first in range(0, len(rows), shard_rows):
            yield _Task(job, features, tuple(rows[first : first + shard_rows]))


def _run(
    store: Store, manifest: Manifest, tasks: Sequence[_Task], progress: Advance
) -> Iterator[_Task]:
    """Carries out tasks; what another run is working on is left to the end and waited for."""
    while tasks:
        busy = []
        for task in tasks:
            with contextlib.ExitStack() as held:
                mine = _claim(store, manifest, task, held)
                if mine:
                    _import(store, manifest, task, mine, progress)
            if len(task.done) < len(task.features):
                busy.append(task)
                continue
            if not task.worked:
                progress.advance("skipped", len(task.rows))
            yield task
        if len(busy) == len(tasks):
            time.sleep(POLL)
        tasks = busy


def _claim(
    store: Store, manifest: Manifest, task: _Task, held: contextlib.ExitStack
) -> list[Imported]:
    """Notes what is committed meanwhile and claims the rest, as far as nobody else has it."""
    mine = []
    keys = [_key(manifest, row) for row in task.rows]
    for feature in task.features:
        if feature.spec.name in task.done:
            continue
        folder = prepare_folder(store.path, feature.spec)
        name = shard_name(feature.spec.id, keys)
        record = find_committed(folder, name)
        lock = claim(folder, name) if record is None else None
        if lock is not None:
            held.enter_context(lock)
            # Whoever held it before may have finished between the look and the claim.
            record = find_committed(folder, name)
        if record is not None:
            task.done[feature.spec.name] = record
        elif lock is not None:
            mine.append(feature)
    return mine


def _import(
    store: Store,
    manifest: Manifest,
    task: _Task,
    features: Sequence[Imported],
    progress: Advance,
) -> None:
    """Reads a shard's rows and commits some features of them."""
    rows = _read(task.job, manifest, task.rows)
    environment = _environment(task.job.source)
    for feature in features:
        made = rows
        if feature.derive is not None:
            pairs = zip(task.rows, rows, strict=True)
            made = [_derive(feature, row, source) for row, source in pairs]
        shard = Shard.pack(made, shape=feature.shape, dtype=feature.dtype)
        record = store.commit(feature.spec, shard, environment=environment)
        task.done[feature.spec.name] = record
    if not task.worked:
        failed = sum(row.status != "ok" for row in rows)
        progress.advance("ok", len(rows) - failed)
        progress.advance("failed", failed)
    task.worked = True


def _read(job: Job, manifest: Manifest, wanted: Sequence[ManifestRow]) -> list[Row]:
    """The rows of the feature that is read; what does not fit is a status, not an error."""
    base = job.features[0]
    rows: list[Row | None] = []
    names: list[str] = []
    for row in wanted:
        try:
            names.append(job.check(row))
            rows.append(None)
        except MediaError as error:
            rows.append(_failed(_key(manifest, row), error))
    arrays = iter(job.given.read(names))
    for n, row in enumerate(wanted):
        if rows[n] is None:
            rows[n] = _row(base, _key(manifest, row), row, next(arrays))
    return rows


def _row(feature: Imported, key: RowKey, row: ManifestRow, values: np.ndarray | MediaError) -> Row:
    try:
        if isinstance(values, MediaError):
            raise values
        return Row(key, as_stored(values, feature.dtype), feature.times(row))
    except MediaError as error:
        return _failed(key, error)


def _derive(feature: Imported, row: ManifestRow, source: Row) -> Row:
    if source.x is None:
        return Row(source.key, status=source.status, reason=source.reason)
    return Row(source.key, feature.derive(source.x), feature.times(row))


def _failed(key: RowKey, error: MediaError) -> Row:
    return Row(key, status=error.status, reason=error.reason)


def _environment(source: str) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        # Names on disk need not be text in any encoding, a record is UTF-8.
        "imported_from": os.fsencode(os.path.abspath(source)).decode(errors="backslashreplace"),
        "packages": {name: version(name) for name in ("h5py", "numpy")},
    }
