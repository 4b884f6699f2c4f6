"""Extracting features from videos: one decode pass, whatever number of features is asked for.

work = plan(read_manifest("m.jsonl"), "store", ["logmel_stats", "frame_stats"])
print(run_plan(work, workers=2).table())
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from itertools import islice

from threadpoolctl import threadpool_limits

from features.cores import available_cores, share_cores
from features.planning import ClipRow, Plan, ShardTask, plan
from features.requests import parse_options, parse_weights
from features.shards import ShardReport, run_task
from features.tables import stage_table, status_table
from pipeline.errors import UserError
from pipeline.progress import Advance
from pipeline.stages import StageClock

__all__ = [
    "ClipRow",
    "Plan",
    "Report",
    "ShardReport",
    "ShardTask",
    "default_workers",
    "parse_options",
    "parse_weights",
    "plan",
    "run_plan",
    "run_task",
    "summarise",
]


MANY_CLIPS = 128
"""Clips for which it pays to start processes."""

WORKER_BYTES = 2 * 2**30
"""Memory that a process with the largest networks and its reader may need."""


@dataclass(frozen=True)
class Report:
    """The state of every row that was asked for, and what was done to get there.

    Attributes:
        statuses: By feature, how often each (status, reason) occurs, over rows that were there
            before and rows that are new.
        rows: Different clips.
        cached: Clips that needed nothing.
        extracted: Clips that were worked on.
        paths: Shards committed or found.
        seconds: What the work took.
        stages: Seconds by stage, summed over all processes.
        lost: Shards that were given up because whoever worked on them died each time, and rows.
    """

    statuses: Mapping[str, Counter[tuple[str, str]]]
    rows: int
    cached: int
    extracted: int
    paths: tuple[str, ...]
    seconds: float
    stages: Mapping[str, float] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Rows without features, summed over the features; 0 means exit code 0, else 2."""
        return sum(self.lost.values()) + sum(
            count
            for counts in self.statuses.values()
            for (status, _), count in counts.items()
            if status != "ok"
        )

    @property
    def clips_per_second(self) -> float:
        """Speed over the clips that were worked on."""
        return self.extracted / self.seconds if self.seconds > 0 else 0.0

    def table(self) -> str:
        """Rows by feature, status and reason, where the time went, and what was done."""
        text = [status_table(self.statuses)]
        if self.extracted:
            text.append(stage_table(self.stages, self.extracted))
            text.append(
                f"{self.extracted} clips extracted in {self.seconds:.1f} s "
                f"({self.clips_per_second:.1f} clips/s), {self.cached} of {self.rows} were there"
            )
        else:
            text.append(
                f"nothing decoded: {self.rows} rows of {len(self.statuses)} features are there"
            )
        if self.lost:
            text.append(
                f"{len(self.lost)} shards with {sum(self.lost.values())} rows were not done, for "
                "the process that worked on them died each time (out of memory?): "
                f"{', '.join(self.lost)}; run the command again with fewer --workers, finished "
                "shards are kept"
            )
        return "\n".join(text)


def summarise(work: Plan, reports: Iterable[ShardReport], seconds: float) -> Report:
    """Joins what was there with what the tasks reported.

    Args:
        work: The plan.
        reports: One report a task, in any order.
        seconds: What it took in all.
    """
    reports = list(reports)
    statuses = {name: Counter(counts) for name, counts in work.statuses.items()}
    clock = StageClock()
    for report in reports:
        clock.add(report.stages)
        for name, counts in report.statuses.items():
            statuses[name].update(counts)
    return Report(
        statuses,
        work.rows,
        work.cached,
        sum(report.extracted for report in reports),
        tuple(path for report in reports for path in report.paths),
        seconds,
        clock.seconds,
        {name: report.rows for report in reports for name in report.lost},
    )


def run_plan(
    work: Plan,
    *,
    workers: int | None = None,
    readers: int | None = None,
    progress: Advance | None = None,
) -> Report:
    """Carries out a plan.

    Shards that another run is working on are left to the end and waited for.

    Args:
        work: From `plan`.
        workers: Processes, each with a shard; 1 runs in this one, None is as many as
            `default_workers` says.
        readers: Processes that decode for each of them; see `features.computing.compute_clips`.
        progress: Told of every finished clip (of every shard's clips with several workers).

    Raises:
        UserError: If the store cannot be written, or worker processes keep dying.
    """
    begin = time.monotonic()
    if progress is not None and work.cached:
        progress.advance("skipped", work.cached)
    if workers is None:
        workers = default_workers(work)
    workers = min(workers, len(work.tasks))
    if workers > 1:
        reports = list(_run_in_processes(work.tasks, workers, readers, progress))
    else:
        reports = list(_run_here(work.tasks, readers, progress))
    return summarise(work, reports, time.monotonic() - begin)


def default_workers(work: Plan) -> int:
    """Processes for a plan: one for a GPU or little work, else one a core.

    On a CPU the threads of one network wait for each other, actively, beside decoders that need
    the cores; single-threaded processes never do, and their values do not depend on the number.

    Args:
        work: The plan.
    """
    if work.todo < MANY_CLIPS or work.tasks[0].device != "cpu":
        return 1
    return max(1, min(available_cores(), len(work.tasks), _memory() // WORKER_BYTES))


def _memory() -> int:
    """Bytes of the machine's memory."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


def _run_here(
    tasks: Sequence[ShardTask], readers: int | None, progress: Advance | None
) -> Iterator[ShardReport]:
    busy = []
    for number, task in enumerate(tasks):
        report = run_task(task, wait=False, progress=progress, readers=readers)
        if report.busy:
            busy.append((number, report))
        else:
            yield report
    for number, first in busy:
        rest = run_task(tasks[number], progress=progress, readers=readers)
        clock = StageClock()
        for report in (first, rest):
            clock.add(report.stages)
        yield replace(
            rest,
            extracted=max(first.extracted, rest.extracted),
            seconds=first.seconds + rest.seconds,
            stages=clock.seconds,
        )


def _run_in_processes(
    tasks: Sequence[ShardTask], workers: int, readers: int | None, progress: Advance | None
) -> Iterator[ShardReport]:
    """Runs tasks in processes; when one dies, what it had not finished is tried once more."""
    left = _Some(tasks, range(len(tasks)))
    for attempt in range(2):
        try:
            for number, report in _run_pool(left, workers, readers):
                left.numbers.remove(number)
                if progress is not None:
                    _advance(progress, report)
                yield report
            return
        except BrokenProcessPool as error:
            if attempt:
                raise UserError(
                    f"A worker process died twice with {len(left)} shards left (was it out of "
                    "memory?); run the command again with --workers 1, finished shards are kept."
                ) from error


class _Some(Mapping[int, ShardTask]):
    """Some of many tasks by number, each unpacked when it is asked for."""

    def __init__(self, tasks: Sequence[ShardTask], numbers: Iterable[int]) -> None:
        self.numbers = set(numbers)
        self._tasks = tasks

    def __getitem__(self, number: int) -> ShardTask:
        return self._tasks[number]

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self.numbers))

    def __len__(self) -> int:
        return len(self.numbers)


def _run_pool(
    tasks: Mapping[int, ShardTask], workers: int, readers: int | None
) -> Iterator[tuple[int, ShardReport]]:
    # Forking a process that has threads (decoders, BLAS, CUDA) can hang the child.
    context = multiprocessing.get_context("spawn")
    threads = max(1, available_cores() // workers)
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(threads,)
    ) as pool:
        waiting = iter(tasks)
        # A few ahead: the executor holds on to whatever it is handed, rows and all.
        running = {
            pool.submit(run_task, tasks[number], readers=readers): number
            for number in islice(waiting, 2 * workers)
        }
        try:
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    number = running.pop(future)
                    yield number, future.result()
                for number in islice(waiting, len(done)):
                    running[pool.submit(run_task, tasks[number], readers=readers)] = number
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start_worker(threads: int) -> None:
    """Gives each process its share of the cores; sixteen threads on two cores only get in line."""
    # An interrupt ends a worker at once and without a traceback: its claims are taken over later.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    share_cores(threads)
    threadpool_limits(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _advance(progress: Advance, report: ShardReport) -> None:
    if not report.extracted:
        progress.advance("skipped", report.rows)
        return
    if report.rows > report.failed:
        progress.advance("ok", report.rows - report.failed)
    if report.failed:
        progress.advance("failed", report.failed)
