"""The tasks that can be swept: where their methods and experiments are, and what tables show."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from features.store import Store
from pipeline.cli import Parser
from pipeline.errors import UserError, unknown_name
from pipeline.manifest import Manifest
from trainers.options import add_options
from trainers.results import SHOWN

__all__ = ["TASKS", "Task", "find_task", "read_values"]


@dataclass(frozen=True)
class Task:
    """One of ``trainers``' packages.

    Attributes:
        name: Of the package; it holds ``experiment`` and ``interface``.
        demo: Function of `features.demo` that makes its corpus.
        quick: Settings of its experiment that leave out what tables do not show.
    """

    name: str
    demo: str
    quick: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, str]:
        """Headings of tables by key of a result's metrics, unique."""
        short = {"segment": "seg ", "event": "ev "}
        titles = SHOWN[self.name].metrics.items()
        return {key: short.get(key.partition("/")[0], "") + title for key, title in titles}

    @property
    def metric(self) -> str:
        """The metric that comparisons are made by."""
        return SHOWN[self.name].metric

    @property
    def epoch(self) -> str:
        """The test epoch that ranks: ``"last"`` or ``"selected"``."""
        return SHOWN[self.name].epoch

    def methods(self) -> Any:
        """The registry of its methods."""
        return importlib.import_module(f"trainers.{self.name}.interface").METHODS

    def experiment(self, **what: Any) -> Any:
        """Its ``Experiment``, which trains one method with some seeds."""
        kind = importlib.import_module(f"trainers.{self.name}.experiment").Experiment
        return kind(**self.quick, **what)

    def check_data(
        self, names: Iterable[str], manifest: Manifest, store: Store, roles: Mapping[str, str]
    ) -> None:
        """Looks for what would stop every run, by loading once what each of them loads.

        Args:
            names: Methods of the sweep.
            manifest: Its manifest, without noise.
            store: Its feature store; need not exist where no method reads features.
            roles: Feature by role; empty takes the defaults.

        Raises:
            UserError: If none of the methods that read features can load its data, or, where none
                reads any, none of them; the first one's error.
        """
        methods = [self.methods().get(name) for name in dict.fromkeys(names)]
        # All recognition reads features; of parsing, references may name no roles.
        readers = [method for method in methods if getattr(method, "roles", True)]
        load = importlib.import_module(f"trainers.{self.name}.data").load_data
        experiment = importlib.import_module(f"trainers.{self.name}.experiment")
        roles = roles or experiment.default_roles(manifest)
        errors = []
        for method in readers or methods:
            try:
                load(manifest, store, roles, method, device=torch.device("cpu"))
                return
            except UserError as error:
                # What one method alone needs stops its runs and leaves the others.
                errors.append(error)
        raise errors[0]

    def corpus(self, store: Path | None) -> tuple[Path, Path]:
        """Manifest and store of its demo corpus, made when they are not there."""
        return getattr(importlib.import_module("features.demo"), self.demo)(store=store)


TASKS = {
    task.name: task
    for task in (
        Task("avvp", "ensure_demo"),
        # Noise detection is scored at the end of a run and not after every epoch.
        Task("action", "ensure_demo_action", {"detect_every": 0}),
    )
}


def find_task(name: str) -> Task:
    """A task by its name.

    Raises:
        UserError: If there is none; the nearest are offered.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


def read_values(task: str, method: str, options: Mapping[str, str]) -> dict[str, Any]:
    """Converts hyper-parameters from text, as the task's own command line does.

    Args:
        task: Name of a task.
        method: Name of one of its methods.
        options: Text by field.

    Raises:
        UserError: If there is no such method or option, or a text does not fit.
    """
    parser = Parser(prog=f"python -m trainers.{task} --method {method}", add_help=False)
    add_options(parser, find_task(task).methods().get(method).hyperparameters)
    words = []
    for name, value in options.items():
        option = name.replace("_", "-")
        if value.lower() in ("true", "false"):
            words.append(f"--{option}" if value.lower() == "true" else f"--no-{option}")
        else:
            words.append(f"--{option}={value}")
    return vars(parser.parse_args(words))
