"""Extracts features from the videos of a manifest, decoding every clip once.

python -m flows.extract --manifest m.jsonl --store store --features logmel_stats squeezenet1_0 \\
    --weights squeezenet1_0=squeezenet1_0.pt

What is in the store is not done again. With PREFECT_API_URL set, or with --prefect, the same work
runs as a Prefect flow; with --dask its shards run on a Dask cluster.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from features.backbones.interface import BACKBONES
from features.extraction import (
    Plan,
    Report,
    ShardReport,
    parse_options,
    parse_weights,
    plan,
    run_plan,
    summarise,
)
from features.presets import PRESETS
from features.presets import preset as find_preset
from flows.environment import prepare_prefect, require_server
from pipeline.cli import DONE, PARTIAL, Parser, run
from pipeline.errors import UserError
from pipeline.files import store_dir
from pipeline.manifest import read_manifest
from pipeline.progress import Progress

__all__ = ["as_flow", "extract_here", "main", "prepare", "wants_flow", "worker_count"]


def prepare(
    *,
    manifest: Path | str | None = None,
    store: Path | str | None = None,
    features: Sequence[str] | str | None = None,
    preset: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    media_root: Path | str | None = None,
    **how: Any,
) -> Plan:
    """Reads a manifest and plans its extraction.

    Args:
        manifest: The manifest; the demo corpus, rendered when it is not there, if None.
        store: The store's folder; the default store if None.
        features: Names, also as one text with commas; the demo's two if None and no manifest is
            given.
        preset: Name of a preset, whose features and options are added; see `features.presets`.
        options: Options by feature; they win over the preset's.
        media_root: Folder of the videos, in place of the one the manifest names.
        **how: Further options of `features.extraction.plan`.

    Raises:
        UserError: If something of it is wrong.
    """
    if isinstance(features, str):
        features = [name for name in features.replace(",", " ").split() if name]
    if preset is not None:
        features, options = find_preset(preset).asked(features or (), options)
    if manifest is None:
        from features.demo import DEMO_FEATURES
        from pipeline.demo import build_corpus, default_corpus_folder

        features = features or list(DEMO_FEATURES.values())
        manifest = build_corpus(default_corpus_folder())
    if not features:
        raise UserError(
            "Name features with --features or a --preset; there are "
            f"{', '.join(BACKBONES.names())}."
        )
    rows = read_manifest(manifest)
    if media_root is not None:
        root = Path(media_root).absolute()
        if not root.is_dir():
            raise UserError(f"The folder {media_root} does not exist; correct --media-root.")
        rows = replace(rows, header=replace(rows.header, media_root=str(root)))
    return plan(rows, store_dir() if store is None else store, features, options=options, **how)


def extract_here(
    work: Plan, *, workers: int | None = None, dask: str | None = None, show: bool = True
) -> Report:
    """Carries out a plan without Prefect.

    Args:
        work: The plan.
        workers: See `worker_count`.
        dask: ``"local"``, a Dask scheduler's address, or None for processes of our own.
        show: Whether to show progress on standard error.

    Raises:
        UserError: If the store cannot be written, or no scheduler answers.
    """
    count = worker_count(workers, dask)
    with Progress(work.rows, "extract") if show else _Silent() as progress:
        if dask is None or not work.tasks:
            return run_plan(work, workers=count, progress=progress)
        begin = time.monotonic()
        progress.advance("skipped", work.cached)
        reports = list(_on_dask(work, dask, count, progress))
    return summarise(work, reports, time.monotonic() - begin)


def worker_count(workers: int | None, dask: str | None) -> int:
    """How many shards are worked on at a time.

    Args:
        workers: What was asked for; None for one, or one a core on a local Dask cluster.
        dask: As in `extract_here`.

    Raises:
        UserError: If less than one was asked for.
    """
    if workers is None:
        return 1 if dask is None else os.cpu_count() or 1
    if workers < 1:
        raise UserError(f"At least 1 worker is needed, not {workers}; mend --workers.")
    return workers


def wants_flow(asked: bool) -> bool:
    """Whether to run as a Prefect flow: when asked to, or when a Prefect server is configured."""
    return asked or bool(os.environ.get("PREFECT_API_URL"))


def as_flow(**asked: Any) -> Report:
    """Runs the Prefect flow in this process; its states and its report go to the server.

    Args:
        **asked: Parameters of `flows.extraction.extract_features`.

    Raises:
        UserError: If no server answers, or as `prepare` and `extract_here`.
    """
    prepare_prefect()
    require_server()
    from flows.extraction import extract_features

    return extract_features(**asked)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit code 2 when a row gives no features."""
    args = _parser().parse_args(argv)
    asked = {
        "manifest": args.manifest,
        "store": args.store,
        "features": args.features,
        "preset": args.preset,
        "weights": {name: str(file) for name, file in parse_weights(args.weights).items()},
        "random_weights": args.random_weights,
        "options": parse_options(args.option),
        "decoder": args.decoder,
        "device": args.device,
        "shard_rows": args.shard_rows,
        "media_root": args.media_root,
    }
    if wants_flow(args.prefect):
        report = as_flow(**asked, workers=args.workers, dask=args.dask)
    else:
        worker_count(args.workers, args.dask)
        work = prepare(**asked)
        for name in work.set_aside:
            print(f"damaged shard set aside: {name}")
        print(work, flush=True)
        report = extract_here(work, workers=args.workers, dask=args.dask)
    print(report.table())
    return PARTIAL if report.failed else DONE


def _on_dask(
    work: Plan, address: str, workers: int, progress: Progress | _Silent
) -> Iterator[ShardReport]:
    from flows.cluster import run_on_dask

    for report in run_on_dask(work, address, workers=workers):
        good = "ok" if report.extracted else "skipped"
        progress.advance(good, report.rows - report.failed)
        progress.advance("failed", report.failed)
        yield report


class _Silent:
    """A progress display that shows nothing."""

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def advance(self, status: str = "ok", n: int = 1) -> None:
        pass


def _parser() -> Parser:
    parser = Parser(
        prog="python -m flows.extract",
        description=__doc__,
        config=True,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--manifest", metavar="FILE", help="the manifest (default: the demo corpus)")
    add("--store", metavar="DIR", help=f"where features go (default: {store_dir()})")
    add(
        "--features",
        nargs="+",
        metavar="NAME",
        help=f"out of: {', '.join(BACKBONES.names())} (default: the demo's two on its corpus)",
    )
    add(
        "--preset",
        metavar="NAME",
        help="a set of features with their options: "
        + "; ".join(f"{entry.name} ({entry.what})" for entry in PRESETS.values()),
    )
    add(
        "--weights",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FILE",
        help="weight file of a network",
    )
    add(
        "--random-weights",
        type=int,
        metavar="SEED",
        help="random weights for networks without a weight file; recorded in the spec",
    )
    add(
        "--option",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME.KEY=VALUE",
        help="an option of a feature, such as its frame rate; makes another spec",
    )
    add("--decoder", default="pyav", choices=("pyav", "decord"), help="video decoder")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where networks run")
    add("--shard-rows", type=int, default=64, metavar="N", help="clips a shard (default: 64)")
    add(
        "--workers",
        type=int,
        metavar="N",
        help="processes (default: 1, with --dask local one a core)",
    )
    add("--media-root", metavar="DIR", help="folder of the videos (default: the manifest's)")
    add("--dask", metavar="local|ADDRESS", help="run shards on a Dask cluster")
    add("--prefect", action="store_true", help="run as a Prefect flow")
    return parser


if __name__ == "__main__":
    run(main)
