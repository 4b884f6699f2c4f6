"""What sweeps need of a task: its methods, its experiment, its data, its demo corpus."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from features.store import Store
from pipeline.cli import Parser
from pipeline.errors import UserError
from pipeline.manifest import Manifest
from trainers.options import add_options
from trainers.tasks import find_task

__all__ = ["check_data", "demo_corpus", "experiment", "read_values", "registry"]


def registry(task: str) -> Any:
    """The methods of a task.

    Raises:
        UserError: If there is no such task.
    """
    return importlib.import_module(f"trainers.{find_task(task).name}.interface").METHODS


def experiment(task: str, **what: Any) -> Any:
    """The ``Experiment`` of a task, which trains one method with some seeds."""
    kind = importlib.import_module(f"trainers.{task}.experiment").Experiment
    return kind(**find_task(task).quick, **what)


def check_data(
    task: str, names: Iterable[str], manifest: Manifest, store: Store, roles: Mapping[str, str]
) -> None:
    """Looks for what would stop every run, by loading once what each of them loads.

    Args:
        task: Name of the task.
        names: Methods of the sweep.
        manifest: Its manifest, without noise.
        store: Its feature store; need not exist where no method reads features.
        roles: Feature by role; empty takes the defaults.

    Raises:
        UserError: If none of the methods that read features can load its data, or, where none
            reads any, none of them; the first one's error.
    """
    methods = [registry(task).get(name) for name in dict.fromkeys(names)]
    # All recognition reads features; of parsing, references may name no roles.
    readers = [method for method in methods if getattr(method, "roles", True)]
    load = importlib.import_module(f"trainers.{task}.data").load_data
    roles = roles or importlib.import_module(f"trainers.{task}.experiment").default_roles(manifest)
    errors = []
    for method in readers or methods:
        try:
            load(manifest, store, roles, method, device=torch.device("cpu"))
            return
        except UserError as error:
            # What one method alone needs stops its runs and leaves the others.
            errors.append(error)
    raise errors[0]


def demo_corpus(task: str, store: Path | None) -> tuple[Path, Path]:
    """Manifest and store of a task's demo corpus, made when they are not there."""
    return getattr(importlib.import_module("features.demo"), find_task(task).demo)(store=store)


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
    add_options(parser, registry(task).get(method).hyperparameters)
    words = []
    for name, value in options.items():
        option = name.replace("_", "-")
        if value.lower() in ("true", "false"):
            words.append(f"--{option}" if value.lower() == "true" else f"--no-{option}")
        else:
            words.append(f"--{option}={value}")
    return vars(parser.parse_args(words))
