"""What shards ask of a Dask cluster."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import LocalCluster

from features.extraction import Plan, run_plan
from features.store import Store, shard_name
from flows.cluster import connected, gpu_resources, local_options
from flows.extract import extract_here, prepare
from pipeline.errors import UserError
from tests.flows.conftest import write_clip, write_lines

NAMES = ("logmel_stats", "frame_stats")


class Scheduler:
    """A client of a cluster whose workers declare some resources."""

    def __init__(self, *resources: dict[str, float]) -> None:
        self.workers = {str(n): {"resources": r} for n, r in enumerate(resources)}

    def scheduler_info(self, n_workers: int) -> dict[str, object]:
        return {"workers": self.workers}


@pytest.mark.parametrize(
    ("device", "resources", "claimed"),
    [("cuda", [{}, {"GPU": 1}], {"GPU": 1}), ("cpu", [{"GPU": 1}], None), ("cpu", [{}], None)],
)
def test_a_gpu_is_claimed_by_tasks_that_use_one(
    device: str, resources: list[dict[str, float]], claimed: dict[str, int] | None
) -> None:
    assert gpu_resources(Scheduler(*resources), device) == claimed


def test_a_gpu_that_nobody_offers_is_an_error() -> None:
    with pytest.raises(UserError, match="--resources GPU=1"):
        gpu_resources(Scheduler({}, {"GPU": 0}), "cuda")


def test_a_local_cluster_has_no_more_processes_than_cores() -> None:
    assert local_options(1)["n_workers"] == 1
    assert local_options(10_000)["n_workers"] == os.cpu_count()


def work_on(manifest: Path, store: Path) -> Plan:
    return prepare(manifest=manifest, store=store, features=list(NAMES), shard_rows=2)


def shards(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*.h5")}


@pytest.fixture(scope="module")
def six_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("six")
    videos = [f"videos/{n}.mp4" for n in range(6)]
    for n, video in enumerate(videos):
        write_clip(folder / video, tone=200.0 + 100 * n)
    return write_lines(folder / "six.jsonl", videos)


@pytest.mark.slow
def test_a_worker_that_is_killed_in_the_middle_of_a_shard(six_clips: Path, tmp_path: Path) -> None:
    undisturbed, store = tmp_path / "undisturbed", tmp_path / "store"
    run_plan(work_on(six_clips, undisturbed), workers=1)
    work = work_on(six_clips, store)
    killed: list[int] = []

    def kill_one() -> None:
        while not killed:
            for claim in store.rglob("*.claim"):
                with contextlib.suppress(OSError, ValueError):
                    killed.append(json.loads(claim.read_bytes())["pid"])
                    os.kill(killed[0], signal.SIGKILL)
                    return

    with LocalCluster(**local_options(2)) as cluster, ThreadPoolExecutor(1) as pool:
        murder = pool.submit(kill_one)
        report = extract_here(work, dask=cluster.scheduler_address, show=False)
        murder.result(60)
    assert killed[0] != os.getpid()
    assert report.failed == 0
    assert {name: counts["ok", ""] for name, counts in report.statuses.items()} == dict.fromkeys(
        NAMES, 6
    )
    assert shards(store) == shards(undisturbed)
    assert Store(store).verify() == []
    assert work_on(six_clips, store).todo == 0


@pytest.mark.slow
def test_a_shard_that_kills_every_worker_is_given_up_and_named(
    six_clips: Path, tmp_path: Path
) -> None:
    preload = tmp_path / "deadly.py"
    preload.write_text(
        "import os, signal\n"
        "import flows.cluster as cluster\n"
        "run = cluster.run_task\n"
        "def run_task(task, **how):\n"
        "    if any(row.path.endswith('2.mp4') for row in task.rows):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return run(task, **how)\n"
        "def dask_setup(worker):\n"
        "    cluster.run_task = run_task\n"
    )
    work = work_on(six_clips, tmp_path / "store")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(**local_options(1), preload=[str(preload)]) as cluster,
    ):
        report = extract_here(work, dask=cluster.scheduler_address, show=False)
    assert report.failed == 2 * len(NAMES)
    assert {name: counts["ok", ""] for name, counts in report.statuses.items()} == dict.fromkeys(
        NAMES, 4
    )
    lost = [
        f"{spec.folder}/{shard_name(spec.id, [row.key for row in work.tasks[1].rows])}"
        for spec in work.features
    ]
    assert sorted(report.lost) == sorted(lost)
    sentence = report.table().splitlines()[-1]
    assert all(name in sentence for name in lost)
    assert "finished shards are kept" in sentence
    # Without what killed it, the next run does what is left.
    again = work_on(six_clips, tmp_path / "store")
    assert again.todo == 2
    assert run_plan(again, workers=1).failed == 0


@pytest.mark.slow
def test_workers_are_replaced_and_may_have_children() -> None:
    with connected("local", 1, device="cuda") as client:
        # No GPU is needed to ask for what the workers of such a cluster offer.
        resources = gpu_resources(client, "cuda")
        assert client.submit(os.getpid, pure=False, resources=resources).result(60) > 0
        (worker,) = client.run(describe_worker).values()
    assert worker["lifetime"] > 0
    assert worker["restart"]
    assert worker["memory_limit"] > 0
    assert not worker["daemon"]


def describe_worker(dask_worker: Any) -> dict[str, Any]:
    """What a worker says of itself."""
    return {
        "lifetime": dask_worker.lifetime,
        "restart": dask_worker.lifetime_restart,
        "memory_limit": dask_worker.memory_manager.memory_limit,
        "daemon": multiprocessing.current_process().daemon,
    }
