"""Shards on Dask, with or without Prefect: a cluster on this machine or one that runs already."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from features.extraction import Plan, ShardReport, ShardTask, run_task
from features.store import Store, find_committed, shard_name
from features.store.layout import SHARD
from pipeline.errors import UserError

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = [
    "LOCAL",
    "connected",
    "given_up",
    "gpu_resources",
    "local_options",
    "run_on_dask",
]

LOCAL = "local"
"""The address that means: start a cluster on this machine for the time of the run."""

CONNECT_SECONDS = 20

AHEAD = 2
"""Shards a worker's thread that are with the scheduler at a time. A corpus has thousands, and the
scheduler would hold all of their rows."""

RETRIES = 2
"""Further tries of a shard that failed for a reason that may pass, such as a network disk's."""

LIFETIME, STAGGER = "60 minutes", "20 minutes"
"""After how long a worker is replaced by a fresh one, give or take: what libraries leak goes."""


def run_on_dask(
    work: Plan, address: str, *, workers: int = 1, readers: int | None = None
) -> Iterator[ShardReport]:
    """Runs a plan's tasks on a Dask cluster.

    A worker that dies costs nothing but time: its shards are redone elsewhere. A shard whose
    worker dies again and again is tried once more with no other shard beside it, and then given
    up; the rest of the run goes on.

    Args:
        work: What to do.
        address: ``"local"`` or a scheduler's address.
        workers: Processes of a local cluster.
        readers: Processes that decode for each of them; see `features.computing.compute_clips`.

    Yields:
        The reports, as tasks finish.

    Raises:
        UserError: If no scheduler answers, no worker has the GPU that the plan needs, or as
            `run_task`.
    """
    device = work.tasks[0].device
    with connected(address, workers, device=device) as client:
        resources = gpu_resources(client, device)
        suspects: list[int] = []
        everything = range(len(work.tasks))
        for number, report in _run(client, work.tasks, everything, resources, readers):
            if report is None:
                suspects.append(number)
            else:
                yield report
        # A dying worker takes innocent shards along, and those are counted against them.
        for number in suspects:
            ((_, report),) = _run(client, work.tasks, [number], resources, readers)
            yield given_up(work.tasks[number]) if report is None else report


def _run(
    client: Client,
    tasks: Sequence[ShardTask],
    numbers: Sequence[int],
    resources: dict[str, int] | None,
    readers: int | None,
) -> Iterator[tuple[int, ShardReport | None]]:
    """Runs some tasks; yields their numbers and reports, None where the worker died each time."""
    from distributed import KilledWorker, as_completed

    waiting = iter(numbers)
    running: dict[Future, int] = {}
    done = as_completed()

    def submit() -> None:
        for number in waiting:
            task = tasks[number]
            future = client.submit(
                _run_packed,
                task.pack(),
                task.device,
                readers,
                pure=False,
                retries=RETRIES,
                resources=resources,
            )
            running[future] = number
            done.add(future)
            if len(running) >= AHEAD * max(1, sum(client.nthreads().values())):
                return

    submit()
    try:
        for future in done:
            number = running.pop(future)
            if isinstance(future.exception(), KilledWorker):
                yield number, None
            else:
                result = future.result()
                if isinstance(result, UserError):
                    raise result
                yield number, result
            submit()
    finally:
        with contextlib.suppress(OSError):
            client.cancel(list(running))


def _run_packed(packed: bytes, device: str, readers: int | None) -> ShardReport | UserError:
    """Runs a task on a worker. A mistake of the user comes back as a value: it is not retried."""
    from dataclasses import replace

    try:
        return run_task(replace(ShardTask.unpack(packed), device=device), readers=readers)
    except UserError as error:
        return error


def given_up(task: ShardTask) -> ShardReport:
    """The report of a task whose worker died each time; features that are there count as done.

    Args:
        task: What was to be done.
    """
    store = Store(task.store)
    keys = [row.key for row in task.rows]
    statuses, paths, lost = {}, [], []
    for request in task.features:
        spec = request.spec(task.decoder)
        name = shard_name(spec.id, keys)
        record = find_committed(store.path / spec.folder, name)
        if record is None:
            lost.append(f"{spec.folder}/{name}")
        else:
            found = (record.failures.get(n, ("ok", "")) for n in range(len(keys)))
            statuses[spec.name] = Counter(found)
            paths.append(str(store.path / spec.folder / f"{name}{SHARD}"))
    return ShardReport(statuses, tuple(paths), len(keys), 0, len(keys), 0.0, lost=tuple(lost))


@contextmanager
def connected(address: str, workers: int, *, device: str = "cpu") -> Iterator[Client]:
    """A client of the cluster at an address, or of one that lives as long as the client.

    Args:
        address: ``"local"`` or a scheduler's address.
        workers: Processes of a local cluster.
        device: What a local cluster's workers offer.

    Raises:
        UserError: If no scheduler answers.
    """
    import dask
    from distributed import Client, LocalCluster

    if address == LOCAL:
        # A worker starts processes of its own that decode; daemons may not.
        with (
            dask.config.set({"distributed.worker.daemon": False}),
            LocalCluster(**local_options(workers, device=device)) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise UserError(
            f"No Dask scheduler answers at {address!r}; start one with 'dask scheduler' and give "
            "its address, or use --dask local."
        ) from error
    with client:
        yield client


def local_options(workers: int, *, device: str = "cpu") -> dict[str, Any]:
    """Arguments of a local cluster: one process a worker, because decoding and models hold locks.

    Workers are replaced now and then, and one that outgrows its share of the memory is ended and
    started again by its nanny.

    Args:
        workers: How many; at most one a core is of use, and with ``"cuda"`` just one, for the
            machine's GPU. Several GPUs want a scheduler and a worker each.
        device: ``"cpu"`` or ``"cuda"``.
    """
    from distributed.system import MEMORY_LIMIT

    count = 1 if device == "cuda" else max(1, min(workers, os.cpu_count() or 1))
    return {
        "n_workers": count,
        "threads_per_worker": 1,
        "processes": True,
        "memory_limit": MEMORY_LIMIT // count,
        "lifetime": LIFETIME,
        "lifetime_stagger": STAGGER,
        "lifetime_restart": True,
        "resources": {"GPU": 1} if device == "cuda" else None,
        # No pages of its own: a second run on this machine would warn about the taken port.
        "dashboard_address": None,
    }


def gpu_resources(client: Client, device: str) -> dict[str, int] | None:
    """What tasks on a device claim of a worker: its GPU, so that two models never share its memory.

    Raises:
        UserError: If no worker has one. Tasks that ask for what nobody has wait for ever.
    """
    if device != "cuda":
        return None
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not any(worker["resources"].get("GPU", 0) >= 1 for worker in workers):
        raise UserError(
            "No worker of the Dask cluster offers a GPU; start them with "
            "'dask worker ADDRESS --nthreads 1 --resources GPU=1', or use --device cpu."
        )
    return {"GPU": 1}
