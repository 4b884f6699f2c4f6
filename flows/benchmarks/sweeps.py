"""The Prefect flow ``benchmark``: what ``python -m flows.benchmark`` does, as a flow run.

Its tasks are training runs. They are idempotent (a finished run is found and not repeated, an
interrupted one resumes), so a new flow run goes on where another stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from prefect import State, flow, get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows.benchmarks.jobs import Crew, Job, Outcome, run_job
from flows.benchmarks.plans import Sweep
from flows.benchmarks.preparing import prepare, report, worker_count
from pipeline.errors import UserError

__all__ = ["MAX_TASKS", "REPORT_KEY", "benchmark", "train_runs"]

MAX_TASKS = 500
"""Task runs of a flow run: thousands drown Prefect's API, so larger sweeps get bigger tasks."""

REPORT_KEY = "benchmark-report"
PROGRESS_KEY = "benchmark-progress"

_crews: list[Crew] = []
"""Processes of the flow run in this process; tasks run in its threads and cannot be handed them."""


@task(
    name="train",
    tags=["avnoise-train"],
    cache_policy=NO_CACHE,
    persist_result=False,
)
def train_runs(jobs: list[dict[str, Any]]) -> State[list[dict[str, Any]]]:
    """Trains some runs, one after the other.

    Args:
        jobs: Jobs as plain values.

    Returns:
        A state with their outcomes as plain values; failed where one of them did.
    """
    outcomes = []
    for values in jobs:
        job = Job(**values)
        outcomes.append(_crews[-1].run(job) if _crews else run_job(job))
    data = [asdict(outcome) for outcome in outcomes]
    errors = [f"{outcome.job}: {outcome.error}" for outcome in outcomes if outcome.path is None]
    if errors:
        return Failed(message="; ".join(errors), data=data)
    return Completed(message=f"{outcomes[-1].path}", data=data)


@flow(name="benchmark", persist_result=False)
def benchmark(
    task: str | None = None,
    method: list[str] | None = None,
    noise: list[str] | None = None,
    seed: list[int] | None = None,
    noise_seed: list[int] | None = None,
    table: str | None = None,
    paired_to: str | None = None,
    manifest: str | None = None,
    store: str | None = None,
    features: list[str] | None = None,
    runs: str | None = None,
    schedule: str | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> State[list[Outcome]]:
    """Runs methods x noise x seeds and tabulates them beside published numbers.

    Args:
        task: avvp or action; a table knows its own.
        method: Methods, as "ntl" or "ntl:contrast=ins"; those of the table if left out.
        noise: "none", "symmetric:0.4", "symmetric:0.4+correspondence:0.2", ...
        seed: Training seeds; 0 to 4 if left out.
        noise_seed: Noise seeds; equal to the training seeds if left out.
        table: Name of an experiment file, such as ntl-1.
        paired_to: The method that the others are compared with.
        manifest: The manifest without noise; the demo corpus if left out.
        store: The feature store's folder; the default store if left out.
        features: Features as "role=name".
        runs: Folder of runs and noisy manifests; the default one if left out.
        schedule: paper or demo.
        device: auto, cpu or cuda.
        workers: Runs at a time; one a core if left out.

    Returns:
        A state with the outcomes; failed with one sentence where the user has to mend something.
    """
    try:
        sweep, jobs = prepare(
            task=task, method=method, noise=noise, seed=seed, noise_seed=noise_seed, table=table,
            paired_to=paired_to, manifest=manifest, store=store, features=features, runs=runs,
            schedule=schedule, device=device,
        )  # fmt: skip
        count = worker_count(workers, jobs)
    except UserError as error:
        return Failed(message=str(error), data=error)
    get_run_logger().info("%s: %d runs", sweep.title, len(jobs))
    if sweep.caution is not None:
        get_run_logger().warning("%s", sweep.caution)
    return _tabulated(sweep, _run(jobs, count))


def _tabulated(sweep: Sweep, outcomes: list[Outcome]) -> State[list[Outcome]]:
    """Shows a sweep's tables on the server; the flow run's state."""
    create_markdown_artifact(
        "\n".join(report(sweep, outcomes, "markdown")),
        key=REPORT_KEY,
        description="Methods, noise and seeds beside published numbers",
    )
    failed = sum(outcome.path is None for outcome in outcomes)
    return Completed(message=f"{len(outcomes)} runs, {failed} failed", data=outcomes)


def _run(jobs: Sequence[Job], workers: int) -> list[Outcome]:
    """Submits all jobs and collects their outcomes, in the jobs' order."""
    outcomes: list[Outcome] = []
    parts = _parts(jobs)
    bar = create_progress_artifact(0.0, key=PROGRESS_KEY, description=f"{len(jobs)} runs")
    with Crew() as crew, ThreadPoolTaskRunner(max_workers=max(1, workers)) as runner:
        if workers:
            _crews.append(crew)
        try:
            futures = [
                runner.submit(
                    train_runs.with_options(task_run_name=name),
                    {"jobs": [job.to_json() for job in some]},
                )
                for name, some in parts
            ]
            for number, (future, (_, some)) in enumerate(zip(futures, parts, strict=True), start=1):
                outcomes += _outcomes(future, some)
                update_progress_artifact(bar, 100.0 * number / len(parts))
        finally:
            _crews.clear()
    return outcomes


def _outcomes(future: Any, jobs: Sequence[Job]) -> list[Outcome]:
    """What a task run says of its jobs; all of them failed where it crashed."""
    found = future.result(raise_on_failure=False)
    if isinstance(found, list):
        return [Outcome(**{**values, "job": Job(**values["job"])}) for values in found]
    return [Outcome(job, error=f"its task run crashed: {found}") for job in jobs]


def _parts(jobs: Sequence[Job]) -> list[tuple[str, Sequence[Job]]]:
    """Name and jobs of every task run, at most `MAX_TASKS` of them."""
    size = -(-len(jobs) // MAX_TASKS)
    parts = []
    for first in range(0, len(jobs), size):
        some = jobs[first : first + size]
        more = f" and {len(some) - 1} more" if len(some) > 1 else ""
        parts.append((f"{some[0]}{more}", some))
    return parts
