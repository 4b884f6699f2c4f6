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
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from threadpoolctl import threadpool_limits

from features.planning import ClipRow, Plan, ShardTask, plan
from features.requests import parse_options, parse_weights
from features.shards import ShardReport, run_task
from pipeline.errors import UserError
from pipeline.progress import Advance

__all__ = [
    "ClipRow",
    "Plan",
    "Report",
    "ShardReport",
    "ShardTask",
    "parse_options",
    "parse_weights",
    "plan",
    "run_plan",
    "run_task",
    "summarise",
]


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
    """

    statuses: Mapping[str, Counter[tuple[str, str]]]
    rows: int
    cached: int
    extracted: int
    paths: tuple[str, ...]
    seconds: float

    @property
    def failed(self) -> int:
        """Rows without features, summed over the features; 0 means exit code 0, else 2."""
        return sum(
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
        """Rows by feature, status and reason, and a line on what was done."""
        lines = [("feature", "status", "rows", "reason")]
        for name, counts in sorted(self.statuses.items()):
            order = sorted(counts.items(), key=lambda item: (item[0][0] != "ok", -item[1], item[0]))
            lines += [
                (name, status, str(count), _short(reason)) for (status, reason), count in order
            ]
        widths = [max(len(line[column]) for line in lines) for column in range(3)]
        text = [
            f"{name:<{widths[0]}}  {status:<{widths[1]}}  {count:>{widths[2]}}  {reason}".rstrip()
            for name, status, count, reason in lines
        ]
        if self.extracted:
            text.append(
                f"{self.extracted} clips extracted in {self.seconds:.1f} s "
                f"({self.clips_per_second:.1f} clips/s), {self.cached} of {self.rows} were there"
            )
        else:
            text.append(
                f"nothing decoded: {self.rows} rows of {len(self.statuses)} features are there"
            )
        return "\n".join(text)


def _short(reason: str, length: int = 100) -> str:
    return reason if len(reason) <= length else f"{reason[: length - 3]}..."


def summarise(work: Plan, reports: Iterable[ShardReport], seconds: float) -> Report:
    """Joins what was there with what the tasks reported.

    Args:
        work: The plan.
        reports: One report a task, in any order.
        seconds: What it took in all.
    """
    reports = list(reports)
    statuses = {name: Counter(counts) for name, counts in work.statuses.items()}
    for report in reports:
        for name, counts in report.statuses.items():
            statuses[name].update(counts)
    return Report(
        statuses,
        work.rows,
        work.cached,
        sum(report.extracted for report in reports),
        tuple(path for report in reports for path in report.paths),
        seconds,
    )


def run_plan(work: Plan, *, workers: int = 1, progress: Advance | None = None) -> Report:
    """Carries out a plan.

    Shards that another run is working on are left to the end and waited for.

    Args:
        work: From `plan`.
        workers: Processes; 1 runs in this one.
        progress: Told of every finished clip (of every shard's clips with several workers).

    Raises:
        UserError: If the store cannot be written, or worker processes keep dying.
    """
    begin = time.monotonic()
    if progress is not None and work.cached:
        progress.advance("skipped", work.cached)
    if workers > 1 and len(work.tasks) > 1:
        reports = list(_run_in_processes(work.tasks, min(workers, len(work.tasks)), progress))
    else:
        reports = list(_run_here(work.tasks, progress))
    return summarise(work, reports, time.monotonic() - begin)


def _run_here(tasks: Sequence[ShardTask], progress: Advance | None) -> Iterator[ShardReport]:
    busy = []
    for task in tasks:
        report = run_task(task, wait=False, progress=progress)
        if report.busy:
            busy.append(task)
        else:
            yield report
    for task in busy:
        yield run_task(task, progress=progress)


def _run_in_processes(
    tasks: Sequence[ShardTask], workers: int, progress: Advance | None
) -> Iterator[ShardReport]:
    """Runs tasks in processes; when one dies, what it had not finished is tried once more."""
    left = dict(enumerate(tasks))
    for attempt in range(2):
        try:
            for number, report in _run_pool(left, workers):
                del left[number]
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


def _run_pool(tasks: Mapping[int, ShardTask], workers: int) -> Iterator[tuple[int, ShardReport]]:
    # Forking a process that has threads (decoders, BLAS, CUDA) can hang the child.
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(threads,)
    ) as pool:
        numbers = {pool.submit(run_task, task): number for number, task in tasks.items()}
        try:
            for future in as_completed(numbers):
                yield numbers[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start_worker(threads: int) -> None:
    """Gives each process its share of the cores; sixteen threads on two cores only get in line."""
    # An interrupt ends a worker at once and without a traceback: its claims are taken over later.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ["OMP_NUM_THREADS"] = str(threads)
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
