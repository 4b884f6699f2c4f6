"""What shards ask of a Dask cluster."""

from __future__ import annotations

import os

import pytest

from features.extraction import ShardTask
from flows.cluster import gpu_resources, local_options


class Scheduler:
    """A client of a cluster whose workers declare some resources."""

    def __init__(self, *resources: dict[str, float]) -> None:
        self.workers = {str(n): {"resources": r} for n, r in enumerate(resources)}

    def scheduler_info(self, n_workers: int) -> dict[str, object]:
        return {"workers": self.workers}


@pytest.mark.parametrize(
    ("device", "resources", "claimed"),
    [
        ("cuda", [{}, {"GPU": 1}], {"GPU": 1}),
        ("cuda", [{}, {}], None),
        ("cpu", [{"GPU": 1}], None),
    ],
)
def test_a_gpu_is_claimed_where_workers_declare_it(
    device: str, resources: list[dict[str, float]], claimed: dict[str, int] | None
) -> None:
    task = ShardTask("store", (), (), device=device)
    assert gpu_resources(Scheduler(*resources), task) == claimed


def test_a_local_cluster_has_no_more_processes_than_cores() -> None:
    assert local_options(1)["n_workers"] == 1
    assert local_options(10_000)["n_workers"] == os.cpu_count()
