"""What one request of runs needs in every task: device, seeds one by one, a word now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from features.store import Store
from pipeline.errors import UserError
from pipeline.files import runs_dir
from pipeline.manifest import Manifest
from pipeline.registry import Registry
from trainers.bookkeeping import Report
from trainers.options import demo_schedule, resolve
from trainers.roles import describe_failed
from trainers.runs import Run

__all__ = ["Course", "Echo", "choose_device", "launch", "scheduled"]

ECHO_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Course:
    """How methods of a task are trained, where tasks differ.

    Attributes:
        methods: The task's methods.
        default_roles: From a manifest to the features used when none are named.
        load: Called with manifest, store, roles, method, ``missing`` and ``device``; what it gives
            has the training ``view`` and, by split, how many rows have ``failed``.
        train: Makes the run of one seed from settings, manifest, data, the folder of all runs,
            ``paths`` and ``report``.
        metric: Validation metric shown while training.
        title: What it is called there.
    """

    methods: Registry[Any]
    default_roles: Callable[[Manifest], dict[str, str]]
    load: Callable[..., Any]
    train: Callable[..., Run]
    metric: str
    title: str


def launch(
    course: Course,
    experiment: Any,
    seeds: Sequence[int],
    settings: Callable[..., Any],
    *,
    values: Mapping[str, Any],
) -> list[Run]:
    """Runs an experiment of any task: all that it asks for is checked before work starts.

    Args:
        course: The task's.
        experiment: The task's ``Experiment``; the fields that all tasks have are read.
        seeds: One run each.
        settings: Makes the task's ``Settings`` from ``method``, ``hp``, ``seed``, ``schedule``,
            ``missing`` and ``threads``.
        values: The experiment's hyper-parameters, with what its other fields set.

    Raises:
        UserError: If anything about the request does not fit.
    """
    method = course.methods.get(experiment.method)
    manifest, store = experiment.manifest, experiment.store
    schedule = experiment.schedule or _default_schedule(manifest)
    _refuse_released(method, values)
    resolve(method.hyperparameters(), values)  # a mistake there needs no data to be found
    roles = experiment.roles or course.default_roles(manifest)
    data = course.load(
        manifest, store, roles, method, missing=experiment.missing, device=experiment.device
    )
    if (note := describe_failed(data.failed, experiment.missing)) and not experiment.quiet:
        print(note, file=sys.stderr)
    updates, dataset = experiment.updates, manifest.header.dataset
    hp = scheduled(method, values, schedule, len(data.view), updates=updates, dataset=dataset)
    hp.check(data.view)

    def train(seed: int, report: Report | None) -> Run:
        chosen = settings(
            method=experiment.method,
            hp=hp,
            seed=seed,
            schedule=schedule,
            missing=experiment.missing,
            threads=experiment.threads,
        )
        runs, paths = experiment.runs or runs_dir(), _paths_of(manifest, store)
        return course.train(chosen, manifest, data, runs, paths=paths, report=report)

    return [
        _told(course, experiment, seed, train)
        for seed in dict.fromkeys(seeds)  # the same run twice is no second seed
    ]


def _told(
    course: Course, experiment: Any, seed: int, train: Callable[[int, Report | None], Run]
) -> Run:
    """Makes the run of a seed, and tells of it unless the experiment is quiet."""
    if experiment.quiet:
        return train(seed, None)
    echo = Echo(f"{experiment.method} seed {seed}", course.metric, course.title)
    run = train(seed, echo)
    echo.end(run)
    return run


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


def _default_schedule(manifest: Manifest) -> str:
    """``demo`` for the embedded corpora, the paper's schedule for all else."""
    return "demo" if manifest.header.corpus is not None else "paper"


def _refuse_released(method: Any, values: Mapping[str, Any]) -> None:
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


def _paths_of(manifest: Manifest, store: Store | None) -> dict[str, str]:
    """Where manifest and store are, for the reader of ``config.json``."""
    paths = {"manifest": str(manifest.path)}
    return paths | ({"store": str(store.path)} if store is not None else {})


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
