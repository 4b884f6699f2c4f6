"""The whole path on the embedded corpus: ``python -m flows.demo``.

Renders the videos, extracts two features, trains HAN, JoMoLD and RLLD beside the baselines that
learn nothing, and prints one table. What is there already is found and not done again.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from features.demo import DEMO_FEATURES, ensure_demo
from features.store import Store
from flows.extract import as_flow, wants_flow
from pipeline.cli import DONE, MAX_SEED, Parser, WholeNumber, run
from pipeline.demo import build_corpus, default_corpus_folder
from pipeline.files import runs_dir, store_dir
from pipeline.manifest import read_manifest
from trainers.avvp.experiment import Experiment
from trainers.finished import read_results
from trainers.launching import choose_device
from trainers.options import DEMO_UPDATES
from trainers.sheets import results_sheet
from trainers.tables import render

__all__ = ["BASELINES", "TRAINED", "main"]

BASELINES = ("nothing", "broadcast", "broadcast_speech_never_visible", "oracle_modality")
TRAINED = ("han", "jomold", "rlld")


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    args = _parser().parse_args(argv)
    begin = time.monotonic()
    _say("1/3 videos and features")
    manifest_path, store_path = _corpus(args)
    _say("2/3 training")
    runs = _train(args, manifest_path, store_path)
    _say("3/3 results")
    results = [read_results(path) for path in runs]
    title = "test, selected epoch, F-scores in percent"
    print(render(results_sheet(results, title=title, narrow=True)))
    print(f"manifest and videos: {manifest_path.parent}")
    print(f"features:            {store_path}")
    print(f"runs:                {runs[0].parent}")
    print(f"all of it took {time.monotonic() - begin:.0f} s")
    return DONE


def _corpus(args: Namespace) -> tuple[Path, Path]:
    """The corpus and its features, by a Prefect flow where one is wanted."""
    sizes = {"train": args.train, "val": args.val, "test": args.test}
    if wants_flow(args.prefect):
        manifest = build_corpus(args.data, workers=args.workers, **sizes)
        as_flow(manifest=str(manifest), store=str(args.store), features=[*DEMO_FEATURES.values()])
    return ensure_demo(args.data, args.store, workers=args.workers, **sizes)


def _train(args: Namespace, manifest_path: Path, store_path: Path) -> list[Path]:
    """Every method with every seed (the baselines need one); folders of the runs, in that order.

    On a CPU one process a core trains, with one thread each: small matrix products gain little
    from a second thread, and lose much to whatever else the machine does.
    """
    common = (str(manifest_path), str(store_path), str(args.runs), args.updates, args.device)
    found = {method: _train_method(method, args.seed[:1], *common) for method in BASELINES}
    if choose_device(args.device).type == "cuda":
        found |= {method: _train_method(method, args.seed, *common) for method in TRAINED}
    else:
        # The slowest comes first, so that no process ends up with all of the work.
        jobs = [(method, seed) for method in reversed(TRAINED) for seed in args.seed]
        with ProcessPoolExecutor(
            max(1, min(len(jobs), os.cpu_count() or 1)), mp_context=get_context("spawn")
        ) as pool:
            futures = {
                job: pool.submit(_train_method, job[0], [job[1]], *common, threads=1)
                for job in jobs
            }
            for (method, _), future in futures.items():
                found[method] = [*found.get(method, []), *future.result()]
    return [path for method in (*BASELINES, *TRAINED) for path in found[method]]


def _train_method(
    method: str,
    seeds: Sequence[int],
    manifest: str,
    store: str,
    runs: str,
    updates: int,
    device: str,
    *,
    threads: int | None = None,
) -> list[Path]:
    """Trains one method; plain values in and out, so that another process can do it."""
    experiment = Experiment(
        method=method,
        manifest=read_manifest(manifest),
        store=Store(store),
        updates=updates,
        device=choose_device(device),
        threads=threads,
        runs=Path(runs),
    )
    return [done.path for done in experiment.run(seeds)]


def _say(stage: str) -> None:
    print(f"[{stage}]", file=sys.stderr, flush=True)


def _parser() -> Parser:
    parser = Parser(prog="python -m flows.demo", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", default=default_corpus_folder(), help="corpus")
    add("--store", type=Path, metavar="DIR", default=store_dir(), help="features")
    add("--runs", type=Path, metavar="DIR", default=runs_dir(), help="runs")
    add(
        "--seed", type=WholeNumber(0, MAX_SEED), nargs="+", default=[0],
        help="training seeds; one run each",
    )  # fmt: skip
    add("--train", type=int, default=300, metavar="N", help="training clips")
    add("--val", type=int, default=75, metavar="N", help="validation clips")
    add("--test", type=int, default=150, metavar="N", help="test clips")
    add("--updates", type=int, metavar="N", default=DEMO_UPDATES, help="of every trained method")
    add("--workers", type=int, default=2, metavar="N", help="processes that render and extract")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to train")
    add("--prefect", action="store_true", help="extract as a Prefect flow")
    return parser


if __name__ == "__main__":
    run(main)
