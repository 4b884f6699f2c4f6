"""Extracting one shard: claim, decode, compute, commit. Doing it again does nothing."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np

from features.backbones.interface import Backbone
from features.computing import compute_clips
from features.requests import FeatureRequest, feature_spec
from features.sources import file_stamp
from features.spec import FeatureSpec
from features.store import Row, Shard, ShardRecord, Store, claim, find_committed, shard_name
from features.store.catalog import open_store
from features.store.commit import prepare_folder
from features.store.index import FeatureIndex, Place
from features.store.layout import SHARD
from features.store.reading import read_rows
from features.tasks import ClipRow, ShardTask
from pipeline.errors import MediaError
from pipeline.files import file_digest
from pipeline.progress import Advance
from pipeline.stages import StageClock, stage

__all__ = ["ShardReport", "run_task"]

POLL = 0.5
"""Seconds between two looks at a shard that somebody else is working on."""


@dataclass(frozen=True)
class ShardReport:
    """What became of a task: counts and paths, never arrays.

    Attributes:
        statuses: By feature, how often each (status, reason) occurred.
        paths: The committed shards.
        rows: Clips of the task.
        extracted: Clips that were worked on, 0 if everything was there.
        failed: Clips that failed in some feature.
        seconds: What it took.
        busy: Features whose shard another run is working on.
        stages: Seconds by stage, in this process and in those that read for it.
        lost: Shards that were given up, because whoever worked on them died each time.
    """

    statuses: Mapping[str, Counter[tuple[str, str]]]
    paths: tuple[str, ...]
    rows: int
    extracted: int
    failed: int
    seconds: float
    busy: tuple[str, ...] = ()
    stages: Mapping[str, float] = field(default_factory=dict)
    lost: tuple[str, ...] = ()


@dataclass
class _Work:
    """One feature of a task, from plan to committed shard."""

    request: FeatureRequest
    backbone: Backbone
    spec: FeatureSpec
    source: FeatureSpec | None
    rows: list[Row] = field(default_factory=list)


def run_task(
    task: ShardTask,
    *,
    wait: bool = True,
    progress: Advance | None = None,
    readers: int | None = None,
) -> ShardReport:
    """Extracts what a task asks for and is not there yet.

    Args:
        task: From `features.planning.plan`.
        wait: Whether to wait for shards that another run is working on; else they are reported as
            busy.
        progress: Told of every finished clip.
        readers: See `features.computing.compute_clips`; changes no value.

    Raises:
        UserError: If weights are missing or wrong, or the store cannot be written.
    """
    begin = time.monotonic()
    clock = StageClock()
    store = open_store(task.store)
    clips = [_as_it_is_now(clip) for clip in task.rows]
    works = [_work(request, task.decoder) for request in task.features]
    done: dict[str, ShardRecord] = {}
    extracted = 0
    while True:
        with contextlib.ExitStack() as held, clock.running():
            mine, busy = _claim(store, works, clips, done, held)
            if mine:
                extracted = len(clips)
                done |= _extract(store, task, clips, mine, done, progress, clock, readers)
        if not busy or not wait:
            break
        time.sleep(POLL)
    if progress is not None and not extracted and not busy:
        progress.advance("skipped", len(clips))
    folders = {work.spec.name: work.spec.folder for work in works}
    return ShardReport(
        {name: _count(record) for name, record in done.items()},
        tuple(str(store.path / folders[n] / f"{r.shard}{SHARD}") for n, r in done.items()),
        len(clips),
        extracted,
        len({n for record in done.values() for n in record.failures}),
        time.monotonic() - begin,
        tuple(work.spec.name for work in busy),
        clock.seconds,
    )


def _work(request: FeatureRequest, decoder: str) -> _Work:
    backbone = request.build()
    source = None if backbone.source is None else feature_spec(backbone.source, decoder)
    return _Work(request, backbone, request.spec(decoder), source)


def _count(record: ShardRecord) -> Counter[tuple[str, str]]:
    return Counter(record.failures.get(n, ("ok", "")) for n in range(len(record.keys)))


def _as_it_is_now(clip: ClipRow) -> ClipRow:
    """The clip with its video as it is now; hours may lie between plan and task."""
    if clip.path is None:
        return clip
    try:
        stamp = file_stamp(clip.path)
        if stamp == clip.stamp:
            return clip
        return clip._replace(media=file_digest(clip.path), stamp=stamp)
    except OSError as error:
        return clip._replace(media=clip.gone, path=None, problem=error.strerror or str(error))


def _claim(
    store: Store,
    works: Sequence[_Work],
    clips: Sequence[ClipRow],
    done: dict[str, ShardRecord],
    held: contextlib.ExitStack,
) -> tuple[list[_Work], list[_Work]]:
    """Notes what is committed, claims the rest; returns what was claimed and what others hold."""
    mine, busy = [], []
    for work in works:
        if work.spec.name in done:
            continue
        folder = prepare_folder(store.path, work.spec)
        name = shard_name(work.spec.id, [clip.key for clip in clips])
        record = find_committed(folder, name)
        # Whoever works on one of the features has most likely decoded for the others too.
        lock = claim(folder, name) if record is None and not busy else None
        if lock is not None:
            held.enter_context(lock)
            # Whoever held it before may have finished between the look and the claim.
            record = find_committed(folder, name)
        if record is not None:
            done[work.spec.name] = record
        else:
            (busy if lock is None else mine).append(work)
    return mine, busy


def _extract(
    store: Store,
    task: ShardTask,
    clips: Sequence[ClipRow],
    works: Sequence[_Work],
    done: Mapping[str, ShardRecord],
    progress: Advance | None,
    clock: StageClock,
    readers: int | None,
) -> dict[str, ShardRecord]:
    """Computes and commits some features of all clips."""
    decoded = [work for work in works if not _derive_from_store(store, task, clips, work, done)]
    # A feature whose source is computed in the same pass takes the source's steps.
    by_id = {work.spec.id: work for work in decoded}
    followers = [work for work in decoded if work.source is not None and work.source.id in by_id]
    leaders = [work for work in decoded if work not in followers]
    computed = compute_clips(
        clips,
        [work.request for work in leaders],
        clock=clock,
        decoder=task.decoder,
        device=task.device,
        timeout=task.timeout,
        readers=readers,
    )
    for clip, steps in zip(clips, computed, strict=True):
        for work in leaders:
            work.rows.append(_row(clip, work.backbone, steps[work.spec.name]))
        for work in followers:
            work.rows.append(_derive(by_id[work.source.id].rows[-1], work.backbone))
        if progress is not None:
            failed = any(work.rows[-1].status != "ok" for work in decoded)
            progress.advance("failed" if failed else "ok")
    environment = _environment(task)
    with stage("write"):
        return {
            work.spec.name: store.commit(
                work.spec,
                Shard.pack(work.rows, shape=work.backbone.shape, dtype=work.backbone.dtype),
                environment=environment,
            )
            for work in works
        }


def _row(clip: ClipRow, backbone: Backbone, steps: np.ndarray | MediaError) -> Row:
    if isinstance(steps, MediaError):
        # A file that vanished is filed under the pseudo digest: it is redone when it is back.
        key = clip.key._replace(media=clip.gone) if steps.status == "missing" else clip.key
        return Row(key, status=steps.status, reason=steps.reason)
    if not np.isfinite(steps).all():
        return Row(clip.key, status="decode_error", reason="the features are no finite numbers")
    return Row(clip.key, steps, backbone.times(clip.start, clip.end))


def _derive(source: Row, backbone: Backbone) -> Row:
    if source.x is None:
        return Row(source.key, status=source.status, reason=source.reason)
    steps = backbone.derive(source.x)
    return Row(source.key, steps, backbone.times(source.key.start, source.key.end))


def _derive_from_store(
    store: Store,
    task: ShardTask,
    clips: Sequence[ClipRow],
    work: _Work,
    done: Mapping[str, ShardRecord],
) -> bool:
    """Computes a feature from another one in the store, if that is there for all clips."""
    if work.source is None:
        return False
    # Looking at all of a feature's files for every shard would make a corpus' cost quadratic.
    index = store.index(work.source.folder, refresh=False)
    if index is None:
        return False
    record = done.get(work.source.name)
    if record is not None:
        places: list[Place | None] = [(record, n) for n in range(len(clips))]
    elif task.held is None or work.spec.name in task.held:
        places = _look_up(index, clips)
        if None in places:
            places = _look_up(index.refresh(), clips)
    else:
        return False
    if None in places:
        return False
    table = read_rows(index, ["" for _ in clips], places, name=work.source.folder)
    for n, key in enumerate(clip.key for clip in clips):
        if table.status[n] == "ok":
            source = Row(key, table.row(n), table.t[table.offset[n] : table.offset[n + 1]])
        else:
            source = Row(key, status=str(table.status[n]), reason=str(table.reason[n]))
        work.rows.append(_derive(source, work.backbone))
    return True


def _look_up(index: FeatureIndex, clips: Sequence[ClipRow]) -> list[Place | None]:
    return index.find_all(
        [(clip.media,) for clip in clips],
        [clip.start for clip in clips],
        [clip.end for clip in clips],
    )


def _environment(task: ShardTask) -> dict[str, Any]:
    """What may change the last bits of a value and is no part of the spec."""
    packages = ["av", "h5py", "librosa", "numpy"]
    environment: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": task.device,
        "cpus": os.cpu_count(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        packages += ["torch", "torchvision"]
        environment["threads"] = torch.get_num_threads()
        if task.device == "cuda":
            environment["gpu"] = torch.cuda.get_device_name()
    if "transformers" in sys.modules:
        packages.append("transformers")
    return environment | {"packages": {name: _version(name) for name in packages}}


@lru_cache(maxsize=32)
def _version(package: str) -> str:
    return version(package)
