"""Shards on Dask, with or without Prefect: a cluster on this machine or one that runs already."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from features.extraction import Plan, ShardReport, ShardTask, run_task
from pipeline.errors import UserError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["LOCAL", "connected", "gpu_resources", "local_options", "run_on_dask"]

LOCAL = "local"
"""The address that means: start a cluster on this machine for the time of the run."""

CONNECT_SECONDS = 20


def run_on_dask(work: Plan, address: str, *, workers: int = 1) -> Iterator[ShardReport]:
    """Runs a plan's tasks on a Dask cluster.

    Args:
        work: What to do.
        address: ``"local"`` or a scheduler's address.
        workers: Processes of a local cluster.

    Yields:
        The reports, as tasks finish.

    Raises:
        UserError: If no scheduler answers, or as `run_task`.
    """
    from distributed import as_completed

    with connected(address, workers) as client:
        futures = [
            client.submit(
                run_task,
                task,
                # A worker that dies takes its shards along; they are redone elsewhere.
                retries=2,
                pure=False,
                resources=gpu_resources(client, task),
            )
            for task in work.tasks
        ]
        for _, report in as_completed(futures, with_results=True):
            yield report


@contextmanager
def connected(address: str, workers: int) -> Iterator[Client]:
    """A client of the cluster at an address, or of one that lives as long as the client.

    Raises:
        UserError: If no scheduler answers.
    """
    from distributed import Client, LocalCluster

    if address == LOCAL:
        with LocalCluster(**local_options(workers)) as cluster, Client(cluster) as client:
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


def local_options(workers: int) -> dict[str, Any]:
    """Arguments of a local cluster: one process a worker, because decoding and models hold locks.

    Args:
        workers: How many; at most one a core is of use.
    """
    return {
        "n_workers": max(1, min(workers, os.cpu_count() or 1)),
        "threads_per_worker": 1,
        "processes": True,
        # No pages of its own: a second run on this machine would warn about the taken port.
        "dashboard_address": None,
    }


def gpu_resources(client: Client, task: ShardTask) -> dict[str, int] | None:
    """Claims a worker's GPU for a task that uses one, where workers declare them.

    A GPU is a worker resource (``dask worker --resources GPU=1``), so that two models never share
    its memory. Asking for a resource that no worker has would wait for ever.
    """
    if task.device != "cuda":
        return None
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {"GPU": 1} if any("GPU" in worker["resources"] for worker in workers) else None
