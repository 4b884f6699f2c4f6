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
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from features.cores import available_cores
from features.store import Store
from flows.benchmarks.conditions import Condition, Variant
from flows.benchmarks.experiments import experiments, read_experiment
from flows.benchmarks.jobs import Job, Outcome, run_jobs
from flows.benchmarks.noise import noisy_manifest
from flows.benchmarks.outputs import (
    check_figure,
    check_folder,
    check_out,
    write_tables,
)
from flows.benchmarks.plans import SEEDS, Sweep, pair_noise_seeds
from flows.benchmarks.tables import cells, comparison_sheet, data_sheet, results_sheet
from flows.benchmarks.tasks import TASKS, find_task, read_values
from flows.environment import prepare_prefect, require_server
from flows.extract import wants_flow
from pipeline.cli import DONE, PARTIAL, Parser, run
from pipeline.errors import UserError
from pipeline.files import runs_dir, store_dir
from pipeline.manifest import read_manifest
from pipeline.progress import Progress
from trainers.figures import accuracy_figure, accuracy_lines
from trainers.launching import choose_device
from trainers.runs import read_results
from trainers.tables import FORMATS, render, table_format

__all__ = ["as_flow", "main", "prepare", "report", "run_here", "worker_count"]

Words = Sequence[str] | None


def prepare(
    *,
    task: str | None = None,
    method: Words = None,
    noise: Words = None,
    seed: Sequence[int] | None = None,
    noise_seed: Sequence[int] | None = None,
    table: str | None = None,
    paired_to: str | None = None,
    manifest: Path | str | None = None,
    store: Path | str | None = None,
    features: Words = None,
    runs: Path | str | None = None,
    schedule: str | None = None,
    device: str = "auto",
) -> tuple[Sweep, list[Job]]:
    """Plans a sweep and makes its noisy manifests.

    Args:
        task: Name of the task; a table knows its own.
        method: Variants such as ``"ntl:contrast=ins"``; those of the table if None.
        noise: Conditions such as ``"symmetric:0.4+correspondence:0.2"``; those of the table, or
            none, if None.
        seed: Training seeds; those of the table, or 0 to 4, if None.
        noise_seed: Noise seeds, given to the training seeds in turn; equal to them if None.
        table: Name of an experiment file, or a file.
        paired_to: The variant that the others are compared with.
        manifest: The manifest without noise; the task's demo corpus, made if needed, if None.
        store: Feature store; the default store if None.
        features: ``ROLE=NAME``; the task's defaults for the manifest if None.
        runs: Folder of all runs; the default one if None.
        schedule: ``"paper"`` or ``"demo"``; the manifest's default if None.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns:
        The sweep and its jobs, seed by seed: an interrupted sweep has whole seeds.

    Raises:
        UserError: If something of it is wrong; nothing has been trained then.
    """
    chosen = choose_device(device).type
    runs = runs_dir() if runs is None else Path(runs)
    sweep = _read(table, task)
    if not sweep.variants and not method:
        raise UserError("Choose what to run with --method NAME ... or --table NAME.")
    _check_methods(sweep.task, method)
    roles = _roles(features or ())
    manifest, store = _inputs(sweep.task, manifest, store)
    rows = read_manifest(manifest)
    sweep = _chosen(
        sweep.on_own_data(rows.header.dataset), method, noise, seed, noise_seed, paired_to
    )
    sweep.check()
    methods = [variant.method for variant in sweep.variants]
    find_task(sweep.task).check_data(methods, rows, Store(store), roles)
    check_folder(runs, "--runs")
    folder = runs / "noise"
    jobs = []
    for training_seed, seed_of_noise in zip(sweep.seeds, sweep.noise_seeds, strict=True):
        for condition in sweep.conditions:
            noisy = noisy_manifest(rows, condition, seed_of_noise, folder)
            jobs += [
                Job(
                    task=sweep.task,
                    variant=str(variant),
                    condition=str(condition),
                    seed=training_seed,
                    noise_seed=seed_of_noise,
                    manifest=str(noisy),
                    store=str(store) if store.is_dir() else None,
                    runs=str(runs),
                    roles=roles,
                    schedule=schedule,
                    device=chosen,
                    threads=1 if chosen == "cpu" else None,
                )
                for variant in sweep.variants
            ]
    return sweep, jobs


def _read(table: str | None, task: str | None) -> Sweep:
    if table is None:
        if task is None:
            raise UserError(f"Choose a --task ({', '.join(TASKS)}) or a --table.")
        return Sweep(find_task(task).name, f"benchmark of {task}", (), (Condition(),))
    sweep = read_experiment(table)
    if task is not None and task != sweep.task:
        raise UserError(f"The table {table} is of the task {sweep.task}; leave --task out.")
    return sweep


def _check_methods(task: str, method: Words) -> None:
    for text in method or ():
        find_task(task).methods().get(Variant.parse(text).method)


def _chosen(
    sweep: Sweep,
    method: Words,
    noise: Words,
    seed: Sequence[int] | None,
    noise_seed: Sequence[int] | None,
    paired_to: str | None,
) -> Sweep:
    """A sweep with what the command line has in place of the file's."""
    if method:
        sweep = replace(sweep, variants=tuple(map(Variant.parse, method)))
        if sweep.reference not in map(str, sweep.variants):
            sweep = replace(sweep, reference=None)
    if noise:
        sweep = replace(sweep, conditions=tuple(map(Condition.parse, noise)))
    seeds = tuple(seed) if seed else sweep.seeds
    if paired_to is not None:
        sweep = replace(sweep, reference=str(Variant.parse(paired_to)))
    return replace(sweep, seeds=seeds, noise_seeds=pair_noise_seeds(seeds, noise_seed))


def _inputs(task: str, manifest: Path | str | None, store: Path | str | None) -> tuple[Path, Path]:
    if manifest is None:
        return find_task(task).corpus(None if store is None else Path(store))
    # Also where no method reads features: a store that was named is meant to be there.
    if store is not None and not Path(store).is_dir():
        raise UserError(
            f"There is no feature store at {store}; make one with python -m flows.extract "
            f"--manifest {manifest} --store {store}, or correct --store."
        )
    return Path(manifest), store_dir() if store is None else Path(store)


def _roles(pairs: Iterable[str]) -> dict[str, str]:
    roles = {}
    for pair in pairs:
        role, _, name = pair.partition("=")
        if not role or not name:
            raise UserError(f"--features takes ROLE=NAME such as audio=vggish, not {pair!r}.")
        roles[role] = name
    return roles


def worker_count(workers: int | None, jobs: Sequence[Job]) -> int:
    """Processes that train at a time: one a core; 0, for this one alone, on a GPU.

    Raises:
        UserError: If less than one was asked for.
    """
    if workers is not None and workers < 1:
        raise UserError(f"At least 1 worker is needed, not {workers}; mend --workers.")
    if any(job.device == "cuda" for job in jobs):
        return 0
    return max(1, min(workers or available_cores(), len(jobs)))


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
        **asked: As for `prepare`.

    Raises:
        UserError: If no server answers, or as `prepare`.
    """
    prepare_prefect()
    require_server()
    from flows.benchmarks.sweeps import benchmark

    return benchmark(**asked, workers=workers)


def report(
    sweep: Sweep, outcomes: Sequence[Outcome], how: str = "text", *, width: int | None = None
) -> list[str]:
    """The tables of a sweep: results, and the comparison where there is a reference.

    Args:
        sweep: What was run.
        outcomes: What became of it.
        how: One of `trainers.tables.FORMATS`.
        width: See `trainers.tables.render`.
    """
    made = cells(sweep, outcomes, lambda path: read_results(Path(path)))
    sheets = [data_sheet(sweep, made) if how == "csv" else results_sheet(sweep, made)]
    comparison = comparison_sheet(sweep, made)
    if comparison is not None:
        sheets.append(comparison)
    return [render(sheet, how, width=width) for sheet in sheets]


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
        default = find_task(sweep.task).methods().get(variant.method).hyperparameters()
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
