"""Every deployment that ``python -m flows.serve`` serves. A new flow joins by one more entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect import Flow
from prefect.deployments.runner import EntrypointType, RunnerDeployment

from flows.benchmarks.sweeps import benchmark
from flows.extraction import extract_features

__all__ = ["DEPLOYMENTS", "Deployment", "prepared"]


@dataclass(frozen=True)
class Deployment:
    """A flow under the name it is started by.

    Args:
        flow: The flow.
        name: The deployment's name; unique, so that ``prefect deployment run NAME`` finds it.
        description: What it does, for Prefect's pages.
    """

    flow: Flow[..., Any]
    name: str
    description: str


DEPLOYMENTS = (
    Deployment(
        extract_features,
        "extract-features",
        "Decodes the clips of a manifest once and fills a feature store; without parameters, the "
        "demo corpus and its two features.",
    ),
    Deployment(
        benchmark,
        "benchmark",
        "Trains methods under noise with several seeds and tabulates them beside published "
        "numbers; give a task and methods, or a table.",
    ),
)


def prepared() -> list[RunnerDeployment]:
    """The deployments in the form that `prefect.serve` takes."""
    return [
        d.flow.to_deployment(
            d.name,
            description=d.description,
            tags=["avnoise"],
            # A module, unlike a file, is found wherever the project is installed.
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for d in DEPLOYMENTS
    ]
