"""Extracts features from the videos of a manifest, decoding every clip once.

python -m flows.extract --manifest m.jsonl --store store --features logmel_stats squeezenet1_0 \\
    --weights squeezenet1_0=squeezenet1_0.pt

What is in the store is not done again. With PREFECT_API_URL set, or with --prefect, the same work
runs as a Prefect flow; with --dask its shards run on a Dask cluster. With --dry-run nothing is
extracted: a few clips are tried, and what the rest will take is printed.
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
from features.cores import available_cores
from features.decoding import CLIP_TIMEOUT
from features.estimate import estimate
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

__all__ = ["as_flow", "check_counts", "extract_here", "main", "prepare", "wants_flow"]


def prepare(
    *,
    manifest: Path | str | None = None,
    store: Path | str | None = None,
    features: Sequence[str] | str | None = None,
    preset: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    media_root: Path | str | None = None,
    clip_timeout: float = CLIP_TIMEOUT,
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
        clip_timeout: Seconds that decoding a clip of up to a minute may take; 0 for no limit.
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
    if clip_timeout < 0:
        raise UserError(f"A clip cannot take {clip_timeout:g} s; mend --clip-timeout.")
    return plan(
        rows,
        store_dir() if store is None else store,
        features,
        options=options,
        timeout=clip_timeout or None,
        **how,
    )


def extract_here(
    work: Plan,
    *,
    workers: int | None = None,
    readers: int | None = None,
    dask: str | None = None,
    show: bool = True,
) -> Report:
    """Carries out a plan without Prefect.

    Args:
        work: The plan.
        workers: Shards worked on at a time; None as `features.extraction.default_workers` says, or
            one a core on a local Dask cluster.
        readers: See `features.computing.compute_clips`.
        dask: ``"local"``, a Dask scheduler's address, or None for processes of our own.
        show: Whether to show progress on standard error.

    Raises:
        UserError: If a number is too small, the store cannot be written, or no scheduler answers.
    """
    check_counts(workers, readers)
    with Progress(work.rows, "extract") if show else _Silent() as progress:
        if dask is None or not work.tasks:
            return run_plan(work, workers=workers, readers=readers, progress=progress)
        begin = time.monotonic()
        progress.advance("skipped", work.cached)
        reports = list(_on_dask(work, dask, workers or available_cores(), readers, progress))
    return summarise(work, reports, time.monotonic() - begin)


def check_counts(workers: int | None, readers: int | None) -> None:
    """Refuses numbers of processes that make no sense.

    Raises:
        UserError: If no worker, or less than no reader, was asked for.
    """
    if workers is not None and workers < 1:
        raise UserError(f"At least 1 worker is needed, not {workers}; mend --workers.")
    if readers is not None and readers < 0:
        raise UserError(f"Readers are counted from 0, {readers} is less; mend --readers.")


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
        "clip_timeout": args.clip_timeout,
    }
    how = {"workers": args.workers, "readers": args.readers}
    check_counts(**how)
    if wants_flow(args.prefect) and not args.dry_run:
        report = as_flow(**asked, **how, dask=args.dask)
    else:
        work = prepare(**asked)
        for name in work.set_aside:
            print(f"damaged shard set aside: {name}")
        print(work, flush=True)
        if args.dry_run:
            print(estimate(work, **how).table())
            return DONE
        report = extract_here(work, **how, dask=args.dask)
    print(report.table())
    return PARTIAL if report.failed else DONE


def _on_dask(
    work: Plan, address: str, workers: int, readers: int | None, progress: Progress | _Silent
) -> Iterator[ShardReport]:
    from flows.cluster import run_on_dask

    for report in run_on_dask(work, address, workers=workers, readers=readers):
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
        help="shards at a time, a process each (default: one a core; 1 on a GPU or for few clips)",
    )
    add(
        "--readers",
        type=int,
        metavar="N",
        help="processes that decode for each worker (default: 1, on a GPU one a core but one); "
        "0 decodes in a thread, where a clip that crashes its decoder ends the run",
    )
    add(
        "--clip-timeout",
        type=float,
        default=CLIP_TIMEOUT,
        metavar="SECONDS",
        help="time that decoding a clip of up to a minute may take, in proportion for longer ones; "
        "0 for no limit (default: %(default)g)",
    )
    add("--dry-run", action="store_true", help="print what it would do, its bytes and its time")
    add("--media-root", metavar="DIR", help="folder of the videos (default: the manifest's)")
    add("--dask", metavar="local|ADDRESS", help="run shards on a Dask cluster")
    add("--prefect", action="store_true", help="run as a Prefect flow")
    return parser


if __name__ == "__main__":
    run(main)
