"""One method with several seeds: what the command line and the demo call."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from features.store import Store
from pipeline.errors import UserError
from pipeline.files import runs_dir
from pipeline.manifest import Manifest
from trainers.avvp.data import DEMO_ROLES, LLP_ROLES, describe_failed, load_data
from trainers.avvp.filters import FILTERS
from trainers.avvp.interface import METHODS
from trainers.avvp.runner import Settings, most_frequent_class, train
from trainers.options import DEMO_UPDATES, demo_schedule, resolve
from trainers.runs import Run

__all__ = ["Experiment", "choose_device", "default_roles", "default_schedule"]

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


def default_roles(manifest: Manifest) -> dict[str, str]:
    """The features a manifest is used with when none are named."""
    return dict(DEMO_ROLES if manifest.header.corpus is not None else LLP_ROLES)


def default_schedule(manifest: Manifest) -> str:
    """``demo`` for the embedded corpora, the paper's schedule for all else."""
    return "demo" if manifest.header.corpus is not None else "paper"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A method, what it is run on, and its settings.

    Attributes:
        method: Registered name.
        manifest: Where rows, labels and annotations come from.
        store: Feature store; may be None for methods that read no features.
        roles: Role to feature name; empty takes the defaults.
        values: Hyper-parameters given explicitly; they win over the schedule.
        schedule: ``"paper"``, ``"demo"`` or None for the manifest's default.
        updates: Updates that the demo schedule aims at.
        filter: Prediction filter; None takes the method's own.
        missing: ``drop``, ``zero`` or ``error``.
        never_visible: Class deleted from visual predictions in the extra metrics; None takes the
            most frequent one.
        device: Where to train.
        threads: CPU threads; None leaves torch's choice.
        runs: Folder of all runs.
        quiet: Whether to keep progress to itself.
    """

    method: str
    manifest: Manifest
    store: Store | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    schedule: str | None = None
    updates: int = DEMO_UPDATES
    filter: str | None = None
    missing: str = "drop"
    never_visible: str | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int | None = None
    runs: Path | None = None
    quiet: bool = False

    def run(self, seeds: Sequence[int]) -> list[Run]:
        """Trains once for every seed, or finds what is there already.

        Raises:
            UserError: If anything about the request does not fit, before any work starts.
        """
        method = METHODS.get(self.method)
        schedule = self.schedule or default_schedule(self.manifest)
        never_visible = self._never_visible()
        values = dict(self.values)
        if "never_visible" in {f.name for f in fields(method.hyperparameters)}:
            values["never_visible"] = never_visible
        if values.get("as_released") and not method.released:
            raise UserError(
                f"No code of {method.title} was released, so there is no as-released form; "
                "leave --as-released out."
            )
        if self.filter is not None and self.filter not in FILTERS:
            raise UserError(f"There is no filter {self.filter!r}; use {', '.join(FILTERS)}.")
        resolve(method.hyperparameters(), values)
        data = load_data(
            self.manifest,
            self.store,
            self.roles or default_roles(self.manifest),
            method,
            missing=self.missing,
            device=self.device,
        )
        if (note := describe_failed(data.failed, self.missing)) and not self.quiet:
            print(note, file=sys.stderr)
        hp = method.hyperparameters()
        if schedule == "demo":
            hp = demo_schedule(hp, len(data.view), updates=self.updates)
        hp = resolve(hp, values)
        runs = []
        for seed in seeds:
            settings = Settings(
                method=self.method,
                hp=hp,
                seed=seed,
                schedule=schedule,
                filter=self.filter or method.filter,
                missing=self.missing,
                never_visible=never_visible,
                threads=self.threads,
            )
            echo = None if self.quiet else _Echo(self.method, seed)
            runs.append(
                train(
                    settings,
                    self.manifest,
                    data,
                    self.runs or runs_dir(),
                    paths=self._paths(),
                    report=echo,
                )
            )
            if echo is not None:
                echo.end(runs[-1])
        return runs

    def _never_visible(self) -> str:
        if not self.manifest.classes:
            return ""
        name = self.never_visible or most_frequent_class(self.manifest)
        if name not in self.manifest.classes:
            known = ", ".join(self.manifest.classes)
            raise UserError(f"There is no class {name!r}; --never-visible takes one of {known}.")
        return name

    def _paths(self) -> dict[str, str]:
        paths = {"manifest": str(self.manifest.path)}
        return paths | ({"store": str(self.store.path)} if self.store is not None else {})


class _Echo:
    """A line on standard error every few seconds while a run trains."""

    def __init__(self, method: str, seed: int) -> None:
        self.name = f"{method} seed {seed}"
        self._last = time.monotonic()
        self._trained = False

    def __call__(self, phase: str, epoch: int, line: Mapping[str, Any]) -> None:
        self._trained = True
        if time.monotonic() - self._last < ECHO_SECONDS:
            return
        self._last = time.monotonic()
        loss = f"  loss {line['loss']:.4f}" if "loss" in line else ""
        shown = line["val"].get("segment/type")
        val = f"  val segment Type {shown:.2f}" if shown is not None else ""
        print(
            f"{self.name}: {phase} epoch {epoch}{loss}{val}  {line['seconds']:.0f} s",
            file=sys.stderr,
            flush=True,
        )

    def end(self, run: Run) -> None:
        """Says where the run is and whether anything was trained for it."""
        how = f"{run.results()['seconds']:.1f} s" if self._trained else "nothing to train"
        print(f"{self.name}: done ({how}) {run.path}", file=sys.stderr, flush=True)
