"""Runs methods x noise x seeds and prints one table, published numbers in columns of their own.

python -m flows.benchmark --task action --method ce ntl --noise none symmetric:0.4
python -m flows.benchmark --task action --method ntl ntl:contrast=ins ce:epochs=118 \\
    --noise symmetric:0.4+correspondence:0.2 --seed 0 1 2 --out table.csv
python -m flows.benchmark --table ntl-5 --seed 0 1 2

Runs are found, not repeated, and interrupted ones go on; a run that fails leaves the others alone.
A table is a file: --table takes a name out of manifests/experiments, or a TOML file of one's own.
With PREFECT_API_URL set, or with --prefect, every run is a task of a Prefect flow.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.benchmarks.experiments import experiments
from flows.benchmarks.jobs import Job, Outcome, run_jobs
from flows.benchmarks.outputs import check_figure, check_out, write_tables
from flows.benchmarks.plans import SEEDS, Sweep
from flows.benchmarks.preparing import prepare, report, worker_count
from flows.benchmarks.tasks import read_values, registry
from flows.environment import prepare_prefect, require_server
from flows.extract import wants_flow
from pipeline.cli import DONE, PARTIAL, Parser, run
from pipeline.errors import UserError
from pipeline.files import runs_dir, store_dir
from pipeline.progress import Progress
from trainers.figures import accuracy_figure, accuracy_lines
from trainers.finished import read_results
from trainers.tables import FORMATS, table_format
from trainers.tasks import TASKS, find_task

__all__ = ["as_flow", "main", "run_here"]


def run_here(jobs: Sequence[Job], *, workers: int | None = None) -> list[Outcome]:
    """Runs jobs without Prefect and shows progress on standard error."""
    count = worker_count(workers, jobs)
    outcomes = []
    with Progress(len(jobs), "benchmark", unit="runs") as progress:
        for outcome in run_jobs(jobs, count):
            outcomes.append(outcome)
            progress.advance(outcome.status)
    return outcomes


def as_flow(*, workers: int | None = None, **asked: Any) -> list[Outcome]:
    """Runs the Prefect flow in this process; its states and its table go to the server.

    Args:
        workers: Processes that train at a time.
        **asked: As for `flows.benchmarks.preparing.prepare`.

    Raises:
        UserError: If no server answers, or as `prepare`.
    """
    prepare_prefect()
    require_server()
    from flows.benchmarks.sweeps import benchmark

    return benchmark(**asked, workers=workers)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit code 2 when a run failed."""
    args = _parser().parse_args(argv)
    asked = {
        name: getattr(args, name)
        for name in (
            "task", "method", "noise", "seed", "noise_seed", "table", "paired_to", "manifest",
            "store", "features", "runs", "schedule", "device",
        )
    }  # fmt: skip
    how = table_format(args.format, args.out)
    if args.out is not None:
        check_out(args.out, how)
    if args.figure is not None:
        check_figure(args.figure)
    sweep, jobs = prepare(**asked)
    if args.figure is not None:
        _check_points(sweep)
    if sweep.caution is not None:
        print(sweep.caution, file=sys.stderr)
    if wants_flow(args.prefect):
        plain = {k: str(v) if isinstance(v, Path) else v for k, v in asked.items()}
        outcomes = as_flow(**plain, workers=args.workers)
    else:
        outcomes = run_here(jobs, workers=args.workers)
    on_terminal = args.out is None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else None
    write_tables(report(sweep, outcomes, how, width=width), args.out, how)
    code = _say_failures(outcomes)
    if args.figure is not None:
        _draw(sweep, outcomes, args.figure)
    return code


def _check_points(sweep: Sweep) -> None:
    """Looks whether a figure of a sweep would have a line.

    Raises:
        UserError: If no method has two places on the horizontal axis.
    """
    if sweep.against is None:
        raise UserError("--figure draws tables that are figures, such as ntl-figure-6.")
    places: dict[str, set[float]] = {}
    for variant in sweep.variants:
        given = read_values(sweep.task, variant.method, dict(variant.options))
        default = registry(sweep.task).get(variant.method).hyperparameters()
        try:
            place = float(given.get(sweep.against, getattr(default, sweep.against, None)))
        except (TypeError, ValueError):
            # A schedule, or a method without it: no place on the axis.
            continue
        places.setdefault(variant.method, set()).add(place)
    if not any(len(found) > 1 for found in places.values()):
        raise UserError(
            f"--figure needs a method with at least two values of {sweep.against}; name more with "
            "--method."
        )


def _draw(sweep: Sweep, outcomes: Sequence[Outcome], out: Path) -> None:
    task = find_task(sweep.task)
    results = [read_results(Path(o.path)) for o in outcomes if o.path is not None]
    lines = accuracy_lines(results, sweep.against, task.metric, epoch=task.epoch)
    accuracy_figure(lines, out, against=sweep.against, metric=task.metric)
    print(f"written: {out}")


def _say_failures(outcomes: Sequence[Outcome]) -> int:
    failed = [outcome for outcome in outcomes if outcome.path is None]
    if not failed:
        return DONE
    print(f"{len(failed)} of {len(outcomes)} runs failed:", file=sys.stderr)
    for outcome in failed:
        print(f"  {outcome.job}: {outcome.error}", file=sys.stderr)
    details = next((outcome.details for outcome in failed if outcome.details), "")
    if details:
        print(f"The first one's traceback:\n{details}", file=sys.stderr)
    return PARTIAL


def _parser() -> Parser:
    parser = Parser(
        prog="python -m flows.benchmark",
        description=__doc__,
        config=True,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--task", help=f"out of: {', '.join(TASKS)} (default: the table's)")
    add("--table", metavar="NAME|FILE", help=f"out of: {', '.join(experiments())}; or a TOML file")
    add(
        "--method", nargs="+", metavar="NAME[:OPTION=VALUE,...]",
        help="methods, with options of their own (default: the table's)",
    )  # fmt: skip
    add(
        "--noise", nargs="+", metavar="KIND:RATE[,OPTION=VALUE][+...]",
        help="none, or noise of python -m pipeline.noise, injected from left to right "
        "(default: the table's, or none)",
    )  # fmt: skip
    seeds = " ".join(map(str, SEEDS))
    add("--seed", type=int, nargs="+", help=f"training seeds (default: the table's, or {seeds})")
    add(
        "--noise-seed", type=int, nargs="+", metavar="SEED",
        help="given to the training seeds in turn, the same for all methods "
        "(default: equal to them)",
    )  # fmt: skip
    add("--paired-to", metavar="METHOD", help="compare the others with this one, seed by seed")
    add("--manifest", type=Path, metavar="FILE", help="without noise (default: the demo corpus)")
    add("--store", type=Path, metavar="DIR", help=f"features (default: {store_dir()})")
    add("--features", nargs="+", metavar="ROLE=NAME", help="such as audio=vggish")
    add("--runs", type=Path, metavar="DIR", help=f"runs and noise (default: {runs_dir()})")
    add("--schedule", choices=("paper", "demo"), help="default: demo on a demo corpus, else paper")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to train")
    add("--workers", type=int, metavar="N", help="processes (default: one a core)")
    add("--prefect", action="store_true", help="run as a Prefect flow")
    add("--format", choices=FORMATS, help="of the tables (default: by --out's ending, or text)")
    add("--out", type=Path, metavar="FILE", help="where they go (default: standard output)")
    add("--figure", type=Path, metavar="FILE", help="draw a table that is a figure")
    return parser


if __name__ == "__main__":
    run(main)
