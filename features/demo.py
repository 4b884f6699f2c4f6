"""The demo corpora with their two features, made when they are not there."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from features.extraction import plan, run_plan
from pipeline.demo import build_corpus, default_corpus_folder
from pipeline.errors import UserError
from pipeline.files import store_dir
from pipeline.manifest import read_manifest
from pipeline.progress import Progress

__all__ = ["DEMO_FEATURES", "ensure_demo", "ensure_demo_action"]

DEMO_FEATURES = {"audio": "logmel_stats", "visual": "frame_stats"}
"""Feature by role; neither needs weights."""


def ensure_demo(
    data: Path | str | None = None,
    store: Path | str | None = None,
    *,
    train: int = 300,
    val: int = 75,
    test: int = 150,
    seed: int = 0,
    workers: int = 2,
    show: bool = True,
) -> tuple[Path, Path]:
    """Builds the parsing corpus and extracts its features; what is there is left as it is.

    Args:
        data: The corpus' folder; default `pipeline.demo.default_corpus_folder`.
        store: The store; default `pipeline.files.store_dir`.
        train, val, test: Clips of each split.
        seed: Of the corpus.
        workers: Processes.
        show: Whether to show progress on standard error.

    Returns:
        The manifest and the store.

    Raises:
        UserError: If the folder holds another corpus, or a clip of it gives no features.
    """
    sizes = {"train": train, "val": val, "test": test}
    return _ensure("parsing", data, store, sizes, seed=seed, workers=workers, show=show)


def ensure_demo_action(
    data: Path | str | None = None,
    store: Path | str | None = None,
    *,
    train: int = 600,
    val: int = 100,
    test: int = 300,
    pool: int = 300,
    seed: int = 0,
    workers: int = 2,
    show: bool = True,
) -> tuple[Path, Path]:
    """Builds the action corpus and extracts its features; what is there is left as it is.

    Args:
        data: The corpus' folder; default ``pipeline.demo.default_corpus_folder("action")``.
        store: The store; default `pipeline.files.store_dir`.
        train, val, test, pool: Clips of each split; pool clips only lend audio.
        seed: Of the corpus.
        workers: Processes.
        show: Whether to show progress on standard error.

    Returns:
        The manifest and the store.

    Raises:
        UserError: If the folder holds another corpus, or a clip of it gives no features.
    """
    sizes = {"train": train, "val": val, "test": test, "pool": pool}
    return _ensure("action", data, store, sizes, seed=seed, workers=workers, show=show)


def _ensure(
    kind: str,
    data: Path | str | None,
    store: Path | str | None,
    sizes: dict[str, int],
    *,
    seed: int,
    workers: int,
    show: bool,
) -> tuple[Path, Path]:
    folder = default_corpus_folder(kind) if data is None else Path(data)
    store = store_dir() if store is None else Path(store)
    with _shown(show, sum(sizes.values()), f"rendering the {kind} corpus") as progress:
        manifest = build_corpus(
            folder, kind=kind, **sizes, seed=seed, workers=workers, progress=progress
        )
    work = plan(read_manifest(manifest), store, list(DEMO_FEATURES.values()))
    if not work.todo:
        return manifest, store
    with _shown(show, work.rows, "extracting features") as progress:
        report = run_plan(work, workers=workers, progress=progress)
    if report.failed:
        raise UserError(
            f"{report.failed} clips of the demo corpus give no features; delete {folder} and "
            "run the command again."
        )
    return manifest, store


def _shown(show: bool, total: int, label: str) -> AbstractContextManager[Progress | None]:
    return Progress(total, label) if show else nullcontext()
