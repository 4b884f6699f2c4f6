"""The Prefect flow ``extract-features``: what ``python -m flows.extract`` does, as a flow run.

Its tasks are shards. They are idempotent (a committed shard is found and not repeated), so Prefect
may retry them and a new run goes on where another stopped.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from prefect import State, Task, flow, get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from features.cores import available_cores
from features.decoding import CLIP_TIMEOUT
from features.extraction import Plan, Report, ShardReport, ShardTask, run_task, summarise
from flows.cluster import connected, given_up, gpu_resources
from flows.extract import check_counts, prepare
from pipeline.errors import UserError

__all__ = ["MAX_TASKS", "REPORT_KEY", "extract_features", "extract_shards"]

MAX_TASKS = 500
"""Task runs of a flow run: thousands drown Prefect's API, so larger plans get bigger tasks."""

REPORT_KEY = "extract-features-report"
PROGRESS_KEY = "extract-features-progress"
PROGRESS_EVERY = 2.0


def _may_pass_next_time(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a retry makes sense: a full disk may be emptied, a wrong weight file stays wrong."""
    return not isinstance(state.result(raise_on_failure=False), UserError)


@task(
    name="extract-shards",
    tags=["avnoise-extract"],
    retries=2,
    retry_delay_seconds=[2, 20],
    retry_condition_fn=_may_pass_next_time,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def extract_shards(shards: list[bytes], readers: int | None = None) -> list[ShardReport]:
    """Extracts some shards, one after the other.

    Args:
        shards: Tasks of a plan, packed: Prefect walks through all other containers it is handed,
            row by row.
        readers: Processes that decode; see `features.computing.compute_clips`.
    """
    return [run_task(ShardTask.unpack(packed), readers=readers) for packed in shards]


@flow(name="extract-features", persist_result=False)
def extract_features(
    manifest: str | None = None,
    store: str | None = None,
    features: list[str] | str | None = None,
    preset: str | None = None,
    weights: dict[str, str] | None = None,
    random_weights: int | None = None,
    options: dict[str, dict[str, Any]] | None = None,
    decoder: str = "pyav",
    device: str = "auto",
    shard_rows: int = 64,
    workers: int | None = None,
    readers: int | None = None,
    clip_timeout: float = CLIP_TIMEOUT,
    media_root: str | None = None,
    dask: str | None = None,
) -> State[Report]:
    """Decodes the clips of a manifest once and fills a feature store.

    Args:
        manifest: The manifest; the demo corpus, rendered when it is not there, if left out.
        store: The store's folder; the default store if left out.
        features: Names of features, also as one text with commas; the demo's two if left out.
        preset: A set of features with their options: llp, llp-frames, llp-clip, action, xid or
            xid-large.
        weights: Weight file by feature.
        random_weights: Seed of random weights for networks without a weight file.
        options: Options by feature.
        decoder: Video decoder, pyav or decord.
        device: auto, cpu or cuda.
        shard_rows: Clips a shard.
        workers: Shards at a time; one, or on a local Dask cluster one a core, if left out.
        readers: Processes that decode for each shard that is worked on; see
            `features.computing.compute_clips`.
        clip_timeout: Seconds that decoding a clip of up to a minute may take; 0 for no limit.
        media_root: Folder of the videos, in place of the manifest's own.
        dask: "local" or a Dask scheduler's address; threads of this process if left out.

    Returns:
        A state with the `Report`; failed with one sentence where the user has to mend something.
    """
    begin = time.monotonic()
    try:
        work = prepare(
            manifest=manifest,
            store=store,
            features=features,
            preset=preset,
            weights=weights,
            random_weights=random_weights,
            options=options,
            decoder=decoder,
            device=device,
            shard_rows=shard_rows,
            media_root=media_root,
            clip_timeout=clip_timeout,
        )
        get_run_logger().info("%s", work)
        check_counts(workers, readers)
        if workers is None:
            # Tasks are threads of this process: a second one would wait for the first one's model.
            workers = 1 if dask is None else available_cores()
        with _runner(dask, workers, work) as runner:
            report = summarise(work, list(_run(runner, work, readers)), time.monotonic() - begin)
    except UserError as error:
        return Failed(message=str(error), data=error)
    create_markdown_artifact(
        f"{work}\n\n```\n{report.table()}\n```\n",
        key=REPORT_KEY,
        description="Rows by feature, status and reason",
    )
    failed = f", {report.failed} rows without features" if report.failed else ""
    return Completed(message=f"{report.extracted} clips extracted{failed}", data=report)


@contextlib.contextmanager
def _runner(dask: str | None, workers: int, work: Plan) -> Iterator[TaskRunner[Any]]:
    """Starts what runs the tasks: threads, a Dask cluster of our own or one that is there."""
    if not work.tasks or dask is None:
        with ThreadPoolTaskRunner(max_workers=workers) as runner:
            yield runner
        return
    import dask as dask_library
    from prefect_dask import DaskTaskRunner

    device = work.tasks[0].device
    with connected(dask, workers, device=device) as client:
        resources = gpu_resources(client, device)
        annotation = dask_library.annotate(resources=resources) if resources else None
        with (
            DaskTaskRunner(address=client.scheduler.address) as runner,
            annotation or contextlib.nullcontext(),
        ):
            yield runner


def _run(runner: TaskRunner[Any], work: Plan, readers: int | None) -> Iterator[ShardReport]:
    """Submits every task, and yields the shards' reports in the plan's order.

    Shards whose Dask worker died each time are reported as given up.

    Raises:
        UserError: The first one that a shard met, after all others were tried.
        Exception: The same for any other failure.
    """
    if not work.tasks:
        return
    parts = _parts(work.tasks)
    futures = [
        runner.submit(
            extract_shards.with_options(task_run_name=name), {"shards": packs, "readers": readers}
        )
        for name, packs in parts
    ]
    bar = create_progress_artifact(0.0, key=PROGRESS_KEY, description=str(work))
    shown = time.monotonic()
    failure: Exception | None = None
    for number, (future, (_, packs)) in enumerate(zip(futures, parts, strict=True), start=1):
        try:
            yield from future.result()
        except Exception as error:
            if _worker_died(error):
                yield from (given_up(ShardTask.unpack(packed)) for packed in packs)
            else:
                failure = failure or error
        if time.monotonic() - shown >= PROGRESS_EVERY or number == len(futures):
            shown = time.monotonic()
            update_progress_artifact(bar, 100.0 * number / len(futures))
    if failure is not None:
        raise failure


def _worker_died(error: Exception) -> bool:
    from distributed import KilledWorker

    return isinstance(error, KilledWorker)


def _parts(tasks: Sequence[ShardTask]) -> list[tuple[str, list[bytes]]]:
    """Name and shards of every task run, at most `MAX_TASKS` of them."""
    size = -(-len(tasks) // MAX_TASKS)
    parts = []
    for first in range(0, len(tasks), size):
        some = tasks[first : first + size]
        last = first + len(some)
        number = f"shard {last}" if size == 1 else f"shards {first + 1}-{last}"
        packs = [shard.pack() for shard in some]
        parts.append((f"{number} of {len(tasks)}", packs))
    return parts
