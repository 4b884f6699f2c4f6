"""One run of a sweep, and many of them at a time."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from pipeline.errors import UserError, printable

__all__ = ["Crew", "Job", "Outcome", "run_job", "run_jobs"]

TRIES = 2
"""How often a job is begun whose process dies."""


@dataclass(frozen=True)
class Job:
    """One training run, in values that any process, and Prefect, can be handed.

    Attributes:
        task: Name of the task.
        variant: Method and its options, as `flows.benchmarks.conditions.Variant` writes them.
        condition: The noise, as `flows.benchmarks.conditions.Condition` writes it.
        seed: Training seed.
        noise_seed: Noise seed.
        manifest: The manifest with its noise.
        store: Feature store; None for methods that read no features.
        runs: Folder of all runs.
        roles: Feature by role; empty takes the defaults.
        schedule: ``"paper"``, ``"demo"`` or None for the manifest's default.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        threads: CPU threads; None leaves torch's choice.
    """

    task: str
    variant: str
    condition: str
    seed: int
    noise_seed: int
    manifest: str
    store: str | None
    runs: str
    roles: dict[str, str]
    schedule: str | None = None
    device: str = "cpu"
    threads: int | None = 1

    def __str__(self) -> str:
        return f"{self.variant}, {self.condition}, seed {self.seed}"

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``Job(**values)`` makes the same job."""
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: The job.
        path: The finished run's folder; None where it failed.
        found: Whether the run had been finished before.
        error: Why it failed, in one line.
        details: The traceback of a failure that is no user's mistake.
    """

    job: Job
    path: str | None = None
    found: bool = False
    error: str = ""
    details: str = ""

    @property
    def status(self) -> str:
        """``"ok"``, ``"skipped"`` (found) or ``"failed"``, for progress displays."""
        return "failed" if self.path is None else "skipped" if self.found else "ok"


def run_job(job: Job) -> Outcome:
    """Trains, goes on with what was interrupted, or finds what is finished.

    A failure comes back as a value: the other runs of a sweep go on. A run whose results cannot be
    read, perhaps because a finished one was damaged since, has failed.
    """
    from trainers.finished import read_results

    begin = time.time()
    try:
        path = _train(job)
        read_results(path)
    except UserError as error:
        return Outcome(job, error=str(error))
    except Exception as error:
        line = printable(" ".join(f"{type(error).__name__}: {error}".split()))
        return Outcome(job, error=line, details=traceback.format_exc())
    return Outcome(job, str(path), found=(path / "DONE").stat().st_mtime < begin)


def _train(job: Job) -> Path:
    from features.store import Store
    from flows.benchmarks.conditions import Variant
    from flows.benchmarks.tasks import experiment, read_values
    from pipeline.manifest import read_manifest
    from trainers.launching import choose_device

    variant = Variant.parse(job.variant)
    training = experiment(
        job.task,
        method=variant.method,
        manifest=read_manifest(job.manifest),
        store=None if job.store is None else Store(job.store),
        roles=job.roles,
        values=read_values(job.task, variant.method, dict(variant.options)),
        schedule=job.schedule,
        device=choose_device(job.device),
        threads=job.threads,
        runs=Path(job.runs),
        quiet=True,
    )
    (run,) = training.run([job.seed])
    return run.path


class Crew:
    """Processes that run jobs, each one at a time, and live as long as the crew.

    A process that dies (for want of memory, say) takes down nothing but its job, which is tried
    once more. The crew's processes end with this one, even if it is killed: a sweep that is started
    again must not meet its former self in a run's folder.
    """

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._closed = True
            workers = list(self._all)
        for worker in workers:
            worker.end()

    def run(self, job: Job) -> Outcome:
        """Runs a job; any number of threads may ask at once."""
        for _ in range(TRIES):
            with self._lock:
                if self._closed:
                    return Outcome(job, error="the sweep was interrupted")
                worker = self._idle.pop() if self._idle else _Worker()
                self._all.add(worker)
            try:
                outcome = worker.run(job)
            except (EOFError, OSError):
                worker.end()
                with self._lock:
                    self._all.discard(worker)
                continue
            with self._lock:
                self._idle.append(worker)
            return outcome
        return Outcome(job, error="its process died twice, perhaps for want of memory")


class _Worker:
    """One process at the other end of a pipe."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, job: Job) -> Outcome:
        """Runs a job; EOFError or OSError if the process dies."""
        self._pipe.send(job)
        return self._pipe.recv()

    def end(self) -> None:
        """Ends the process; an interrupted run resumes from its last checkpoint."""
        self._process.terminate()
        self._process.join()


def _work(pipe: Connection) -> None:
    """What a process of the crew does."""
    # Ctrl-C reaches every process of a terminal; the first one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    while True:
        pipe.send(run_job(pipe.recv()))


def run_jobs(jobs: Sequence[Job], workers: int) -> Iterator[Outcome]:
    """Runs jobs in processes of their own, or in this one.

    Args:
        jobs: What to do, the slowest best first.
        workers: Processes; 0 for this one.

    Yields:
        Outcomes, as jobs finish.
    """
    if workers < 1:
        yield from map(run_job, jobs)
        return
    with ThreadPoolExecutor(workers) as threads, Crew() as crew:
        futures = [threads.submit(crew.run, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
