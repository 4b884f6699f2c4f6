"""What stands before and after the runs of a sweep: its plan and its jobs, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from features.cores import available_cores
from features.store import Store
from flows.benchmarks.conditions import Condition, Variant
from flows.benchmarks.experiments import read_experiment
from flows.benchmarks.jobs import Job, Outcome
from flows.benchmarks.noise import noisy_manifest
from flows.benchmarks.outputs import check_folder
from flows.benchmarks.plans import Sweep, pair_noise_seeds
from flows.benchmarks.tables import cells, comparison_sheet, data_sheet, results_sheet
from flows.benchmarks.tasks import check_data, demo_corpus, registry
from pipeline.errors import UserError
from pipeline.files import runs_dir, store_dir
from pipeline.manifest import Manifest, read_manifest
from trainers.command import parse_roles
from trainers.finished import read_results
from trainers.launching import choose_device
from trainers.results import noise_title
from trainers.tables import render
from trainers.tasks import TASKS, find_task

__all__ = ["prepare", "report", "worker_count"]

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
        manifest: The manifest that noise is added to; the task's demo corpus if None.
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
    sweep = _read(table, task, method)
    roles = parse_roles(features or ())
    manifest, store = _inputs(sweep.task, manifest, store)
    rows = read_manifest(manifest)
    sweep = _chosen(
        sweep.on_own_data(rows.header.dataset), method, noise, seed, noise_seed, paired_to
    )
    sweep.check()
    if rows.header.noise:
        sweep = replace(sweep, given=noise_title(rows.header.noise))
    methods = [variant.method for variant in sweep.variants]
    check_data(sweep.task, methods, rows, Store(store), roles)
    check_folder(runs, "--runs")
    kept = str(store) if store.is_dir() else None
    return sweep, _jobs(
        sweep, rows, runs, store=kept, roles=roles, schedule=schedule, device=chosen
    )


def _jobs(sweep: Sweep, clean: Manifest, runs: Path, *, device: str, **shared: Any) -> list[Job]:
    """Makes the noisy manifests of a sweep and lists its runs.

    Args:
        sweep: The sweep.
        clean: The manifest without noise.
        runs: Folder of all runs.
        device: ``"cpu"`` or ``"cuda"``.
        **shared: Further fields of every `Job`.
    """
    jobs = []
    for seed, noise_seed in zip(sweep.seeds, sweep.noise_seeds, strict=True):
        for condition in sweep.conditions:
            noisy = noisy_manifest(clean, condition, noise_seed, runs / "noise")
            jobs += [
                Job(
                    task=sweep.task,
                    variant=str(variant),
                    condition=str(condition),
                    seed=seed,
                    noise_seed=noise_seed,
                    manifest=str(noisy),
                    runs=str(runs),
                    device=device,
                    threads=1 if device == "cpu" else None,
                    **shared,
                )
                for variant in sweep.variants
            ]
    return jobs


def _read(table: str | None, task: str | None, method: Words) -> Sweep:
    """The sweep of a table, or one of a task that has no methods yet; checks what is asked for."""
    if table is not None:
        sweep = read_experiment(table)
        if task is not None and task != sweep.task:
            raise UserError(f"The table {table} is of the task {sweep.task}; leave --task out.")
    elif task is not None:
        sweep = Sweep(find_task(task).name, f"benchmark of {task}", (), (Condition(),))
    else:
        raise UserError(f"Choose a --task ({', '.join(TASKS)}) or a --table.")
    if not sweep.variants and not method:
        raise UserError("Choose what to run with --method NAME ... or --table NAME.")
    for text in method or ():
        registry(sweep.task).get(Variant.parse(text).method)
    return sweep


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
        return demo_corpus(task, None if store is None else Path(store))
    # Also where no method reads features: a store that was named is meant to be there.
    if store is not None and not Path(store).is_dir():
        raise UserError(
            f"There is no feature store at {store}; make one with python -m flows.extract "
            f"--manifest {manifest} --store {store}, or correct --store."
        )
    return Path(manifest), store_dir() if store is None else Path(store)


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
