"""Building the corpus: renders what is missing, in processes, and writes its manifest last."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.demo.kinds import corpus_kind
from pipeline.demo.parsing import CORPUS_VERSION, DATASET
from pipeline.demo.timelines import clip_id
from pipeline.errors import UserError
from pipeline.files import data_dir, write_atomic
from pipeline.manifest import read_manifest
from pipeline.progress import Advance

__all__ = [
    "CORPUS_VERSION",
    "DATASET",
    "build_corpus",
    "cores",
    "corpus_sizes",
    "default_corpus_folder",
]

_MANIFEST = "manifest.jsonl"
_RECORD = "corpus.json"


@dataclass(frozen=True)
class _Clip:
    """One clip to render; small enough to send to another process."""

    path: Path
    kind: str
    seed: int
    split: str
    index: int


def default_corpus_folder(kind: str = "parsing") -> Path:
    """Where the corpus of a kind is kept when nobody says otherwise."""
    return data_dir() / corpus_kind(kind).dataset


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def build_corpus(
    folder: Path | str,
    *,
    kind: str = "parsing",
    train: int | None = None,
    val: int | None = None,
    test: int | None = None,
    pool: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Advance | None = None,
) -> Path:
    """Renders the corpus, or what is missing of it, and writes its manifest.

    A clip depends on the seed, its split and its number only. So a corpus that was interrupted, or
    is wanted larger, keeps what it has; a finished one is found and returned at once.

    Args:
        folder: Where the corpus is or will be.
        kind: One of `pipeline.demo.kinds.KINDS`.
        train, val, test, pool: Clips of each split; default those of the kind.
        seed: Names the corpus.
        workers: Processes that render; default one a core, 1 renders in this process.
        progress: Hears of every clip, ``"ok"`` when rendered and ``"skipped"`` when found.

    Returns:
        The manifest.

    Raises:
        UserError: If the kind is unknown or has no such split, a size is negative, or the folder
            holds a corpus of another kind, seed or version.
    """
    folder, making = Path(folder), corpus_kind(kind)
    sizes = corpus_sizes(kind, train=train, val=val, test=test, pool=pool)
    if seed < 0:
        raise UserError(f"--seed is {seed}; use 0 or more.")
    identity = {"name": making.dataset, "version": making.version, "seed": seed}
    record = _claim(folder, identity)
    clips = [
        _Clip(folder / "videos" / f"{clip_id(split, index)}.mp4", kind, seed, split, index)
        for split, size in sizes.items()
        for index in range(size)
    ]
    missing = [clip for clip in clips if not _is_whole(clip.path, record)]
    if progress is not None and len(clips) > len(missing):
        progress.advance("skipped", len(clips) - len(missing))
    if not missing and _is_finished(folder, making.tables, identity | sizes):
        return folder / _MANIFEST
    for _ in _render_all(missing, cores() if workers is None else workers):
        if progress is not None:
            progress.advance("ok")
    files = {clip.path.name: clip.path.stat().st_size for clip in clips}
    # Sizes of clips beyond this corpus stay known, so that it can grow again without rendering.
    kept = {k: v for k, v in record["files"].items() if k not in files}
    _write_json(folder / _RECORD, identity | {"files": kept | files})
    making.write(folder / _MANIFEST, identity, sizes)
    return folder / _MANIFEST


def corpus_sizes(kind: str, **wanted: int | None) -> dict[str, int]:
    """Clips of every split of a kind, the kind's own number where None is wanted.

    Raises:
        UserError: If a size is negative or the kind has no such split.
    """
    sizes = dict(corpus_kind(kind).sizes)
    for name, size in wanted.items():
        if size is None:
            continue
        if size < 0:
            raise UserError(f"--{name} is {size}; use 0 or more clips.")
        if name not in sizes:
            raise UserError(f"The {kind} corpus has no split {name}; leave --{name} out.")
        sizes[name] = size
    return sizes


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
    if found["name"] != identity["name"]:
        raise UserError(
            f"{folder} holds the corpus {found['name']}, not {identity['name']}; "
            "give another --out."
        )
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


def _is_finished(folder: Path, tables: Sequence[str], corpus: dict[str, Any]) -> bool:
    """Whether the manifest of exactly this corpus and its tables are there."""
    if not all((folder / name).is_file() for name in (_MANIFEST, *tables)):
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
            render_clip(clip.path, **_options(clip))
            yield
        return
    # Forking a process whose libraries have started threads can deadlock.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        tasks = [pool.submit(render_clip, clip.path, **_options(clip)) for clip in clips]
        try:
            for task in as_completed(tasks):
                task.result()
                yield
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _options(clip: _Clip) -> dict[str, Any]:
    return {"kind": clip.kind, "seed": clip.seed, "split": clip.split, "index": clip.index}


def _write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, indent=1) + "\n")
