"""What one request of runs needs in every task: device, seeds one by one, a word now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from features.store import Store
from pipeline.errors import UserError
from pipeline.manifest import Manifest
from trainers.bookkeeping import Report
from trainers.options import demo_schedule, resolve
from trainers.runs import Run

__all__ = [
    "Echo",
    "choose_device",
    "default_schedule",
    "paths_of",
    "refuse_released",
    "run_seeds",
    "scheduled",
]

ECHO_SECONDS = 5.0


def choose_device(name: str) -> torch.device:
    """``auto`` takes a GPU if there is one.

    Raises:
        UserError: If the device does not exist.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"There is no device {name!r}; use auto, cpu or cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("There is no GPU that torch can use here; take --device cpu.")
    return device


def default_schedule(manifest: Manifest) -> str:
    """``demo`` for the embedded corpora, the paper's schedule for all else."""
    return "demo" if manifest.header.corpus is not None else "paper"


def refuse_released(method: Any, values: Mapping[str, Any]) -> None:
    """Refuses ``as_released`` where no code was released.

    Raises:
        UserError: Then.
    """
    if values.get("as_released") and not method.released:
        raise UserError(
            f"No code of {method.title} was released, so there is no as-released form; "
            "leave --as-released out."
        )


def scheduled(
    method: Any,
    values: Mapping[str, Any],
    schedule: str,
    n: int,
    *,
    updates: int,
    dataset: str = "",
) -> Any:
    """A method's hyper-parameters: defaults, then the schedule, then what was given.

    Args:
        method: The method's class.
        values: Given explicitly.
        schedule: ``"paper"`` or ``"demo"``.
        n: Training rows.
        updates: What the demo schedule aims at.
        dataset: Papers have other settings for some.

    Raises:
        UserError: If a value is refused.
    """
    hp = method.hyperparameters.published(dataset)
    if schedule == "demo":
        hp = demo_schedule(hp, n, updates=updates)
    return resolve(hp, values)


def paths_of(manifest: Manifest, store: Store | None) -> dict[str, str]:
    """Where manifest and store are, for the reader of ``config.json``."""
    paths = {"manifest": str(manifest.path)}
    return paths | ({"store": str(store.path)} if store is not None else {})


def run_seeds(
    method: str,
    seeds: Sequence[int],
    train: Callable[[int, Report | None], Run],
    *,
    metric: str,
    title: str,
    quiet: bool = False,
) -> list[Run]:
    """Trains once for every seed, or finds what is there already.

    Args:
        method: For the lines on standard error.
        seeds: One run each.
        train: Makes the run of a seed, given whom to tell of its epochs.
        metric: Validation metric shown while training.
        title: What the metric is called there.
        quiet: Whether to keep progress to itself.
    """
    runs = []
    for seed in dict.fromkeys(seeds):  # the same run twice is no second seed
        echo = None if quiet else Echo(f"{method} seed {seed}", metric, title)
        runs.append(train(seed, echo))
        if echo is not None:
            echo.end(runs[-1])
    return runs


class Echo:
    """A line on standard error every few seconds while a run trains.

    Args:
        name: Of the run.
        metric: Validation metric to show.
        title: What it is called there.
    """

    def __init__(self, name: str, metric: str, title: str) -> None:
        self.name = name
        self.metric = metric
        self.title = title
        self._last = time.monotonic()
        self._trained = False

    def __call__(self, phase: str, epoch: int, line: Mapping[str, Any]) -> None:
        self._trained = True
        if time.monotonic() - self._last < ECHO_SECONDS:
            return
        self._last = time.monotonic()
        loss = f"  loss {line['loss']:.4f}" if "loss" in line else ""
        shown = line["val"].get(self.metric)
        val = f"  val {self.title} {shown:.2f}" if shown is not None else ""
        print(
            f"{self.name}: {phase} epoch {epoch}{loss}{val}  {line['seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )

    def end(self, run: Run) -> None:
        """Says where the run is and whether anything was trained for it."""
        how = f"{run.results()['seconds']:.1f} s" if self._trained else "nothing to train"
        print(f"{self.name}: done ({how}) {run.path}", file=sys.stderr, flush=True)
