"""Building the corpus: renders what is missing, in processes, and writes its manifest last."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.demo.classes import class_table
from pipeline.demo.timelines import SECONDS, SPLIT_NAMES, Timeline, clip_id, draw_timeline
from pipeline.errors import UserError
from pipeline.files import data_dir, write_atomic
from pipeline.manifest import Header, Manifest, Row, read_manifest, write_dense, write_manifest
from pipeline.progress import Advance

__all__ = ["CORPUS_VERSION", "DATASET", "build_corpus", "cores", "default_corpus_folder"]

CORPUS_VERSION = 2
"""Raised by hand whenever a timeline, a frame, a sound or the encoding of a seed changes."""
DATASET = "demo-avvp"

_MANIFEST = "manifest.jsonl"
_DENSE = "manifest.dense.tsv"
_TRUTH = "manifest.truth.jsonl"
_RECORD = "corpus.json"


@dataclass(frozen=True)
class _Clip:
    """One clip to render; small enough to send to another process."""

    path: Path
    seed: int
    split: str
    index: int


def default_corpus_folder() -> Path:
    """Where the corpus is kept when nobody says otherwise."""
    return data_dir() / DATASET


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def build_corpus(
    folder: Path | str,
    *,
    train: int = 300,
    val: int = 75,
    test: int = 150,
    seed: int = 0,
    workers: int | None = None,
    progress: Advance | None = None,
) -> Path:
    """Renders the corpus, or what is missing of it, and writes its manifest.

    A clip depends on the seed, its split and its number only. So a corpus that was interrupted, or
    is wanted larger, keeps what it has; a finished one is found and returned at once.

    Args:
        folder: Where the corpus is or will be.
        train, val, test: Clips of each split.
        seed: Names the corpus.
        workers: Processes that render; default one a core, 1 renders in this process.
        progress: Hears of every clip, ``"ok"`` when rendered and ``"skipped"`` when found.

    Returns:
        The manifest.

    Raises:
        UserError: If a size is negative, or the folder holds a corpus of another seed or version.
    """
    folder = Path(folder)
    sizes = dict(zip(SPLIT_NAMES, (train, val, test), strict=True))
    for name, size in sizes.items():
        if size < 0:
            raise UserError(f"--{name} is {size}; use 0 or more clips.")
    if seed < 0:
        raise UserError(f"--seed is {seed}; use 0 or more.")
    identity = {"name": DATASET, "version": CORPUS_VERSION, "seed": seed}
    record = _claim(folder, identity)
    clips = [
        _Clip(folder / "videos" / f"{clip_id(split, index)}.mp4", seed, split, index)
        for split, size in sizes.items()
        for index in range(size)
    ]
    missing = [clip for clip in clips if not _is_whole(clip.path, record)]
    if progress is not None and len(clips) > len(missing):
        progress.advance("skipped", len(clips) - len(missing))
    if not missing and _is_finished(folder, identity | sizes):
        return folder / _MANIFEST
    for _ in _render_all(missing, cores() if workers is None else workers):
        if progress is not None:
            progress.advance("ok")
    files = {clip.path.name: clip.path.stat().st_size for clip in clips}
    # Sizes of clips beyond this corpus stay known, so that it can grow again without rendering.
    kept = {k: v for k, v in record["files"].items() if k not in files}
    _write_json(folder / _RECORD, identity | {"files": kept | files})
    return _write_tables(folder, identity, sizes)


def _claim(folder: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Reads the folder's record, or makes it before the first clip is rendered into it.

    The record says which corpus the files belong to, and the size of each once all are there.
    """
    path = folder / _RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = {key: record[key] for key in identity}
        record["files"].items()
    except FileNotFoundError:
        record = identity | {"files": {}}
        _write_json(path, record)
        return record
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no record of a rendered corpus; delete the folder or give another --out."
        ) from error
    if found != identity:
        raise UserError(
            f"{folder} holds version {found['version']} of the corpus with seed {found['seed']}, "
            f"not version {identity['version']} with seed {identity['seed']}; "
            "delete the folder or give another --out."
        )
    return record


def _is_whole(path: Path, record: dict[str, Any]) -> bool:
    """Whether a clip is there; clips appear by a rename, so what has no recorded size is whole."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    return size == record["files"].get(path.name, size)


def _is_finished(folder: Path, corpus: dict[str, Any]) -> bool:
    """Whether the manifest of exactly this corpus and its tables are there."""
    if not all((folder / name).is_file() for name in (_MANIFEST, _DENSE, _TRUTH)):
        return False
    try:
        return dict(read_manifest(folder / _MANIFEST).header.corpus or {}) == corpus
    except UserError:
        return False


def _render_all(clips: list[_Clip], workers: int) -> Iterator[None]:
    """Renders clips in any order; yields once for each."""
    # Imported here, so that finding a finished corpus does not load the encoder.
    from pipeline.demo.render import render_clip

    workers = min(workers, len(clips))
    if workers <= 1:
        for clip in clips:
            render_clip(clip.path, seed=clip.seed, split=clip.split, index=clip.index)
            yield
        return
    # Forking a process whose libraries have started threads can deadlock.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        tasks = [
            pool.submit(render_clip, c.path, seed=c.seed, split=c.split, index=c.index)
            for c in clips
        ]
        try:
            for task in as_completed(tasks):
                task.result()
                yield
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write_tables(folder: Path, identity: dict[str, Any], sizes: dict[str, int]) -> Path:
    """Writes the truth, the dense annotations and, last, the manifest that names them."""
    timelines = {
        split: [draw_timeline(identity["seed"], split, index) for index in range(size)]
        for split, size in sizes.items()
    }
    truth = [json.dumps(t.truth(), ensure_ascii=False) + "\n" for t in timelines["train"]]
    write_atomic(folder / _TRUTH, "".join(truth))
    dense = [e for split in ("val", "test") for t in timelines[split] for e in t.events()]
    header = Header(
        dataset=DATASET,
        label_type="multilabel",
        classes=class_table().names,
        annotations=write_dense(dense, folder / _DENSE),
        corpus=identity | sizes,
    )
    rows = tuple(_row(t, split) for split, some in timelines.items() for t in some)
    write_manifest(Manifest(header, rows, folder / _MANIFEST), folder / _MANIFEST)
    return folder / _MANIFEST


def _row(timeline: Timeline, split: str) -> Row:
    return Row(
        id=timeline.id,
        start=0.0,
        end=float(SECONDS),
        split=split,
        labels=timeline.labels(),
        video=f"videos/{timeline.id}.mp4",
    )


def _write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=1) + "\n")
