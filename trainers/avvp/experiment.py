"""One method with several seeds: what the command line and the demo call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch

from features.store import Store
from pipeline.errors import UserError
from pipeline.manifest import Manifest
from trainers.avvp.data import DEMO_ROLES, LLP_ROLES, load_data
from trainers.avvp.filters import FILTERS
from trainers.avvp.interface import METHODS
from trainers.avvp.runner import Settings, most_frequent_class, train
from trainers.launching import Course, launch
from trainers.options import DEMO_UPDATES
from trainers.runs import Run

__all__ = ["Experiment", "default_roles"]


def default_roles(manifest: Manifest) -> dict[str, str]:
    """The features a manifest is used with when none are named."""
    return dict(DEMO_ROLES if manifest.header.corpus is not None else LLP_ROLES)


COURSE = Course(
    methods=METHODS,
    default_roles=default_roles,
    load=load_data,
    train=train,
    metric="segment/type",
    title="segment Type",
)


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
        if self.filter is not None and self.filter not in FILTERS:
            raise UserError(f"There is no filter {self.filter!r}; use {', '.join(FILTERS)}.")
        never_visible = self._never_visible()
        values = dict(self.values)
        if "never_visible" in {f.name for f in fields(method.hyperparameters)}:
            values["never_visible"] = never_visible
        settings = partial(
            Settings, filter=self.filter or method.filter, never_visible=never_visible
        )
        return launch(COURSE, self, seeds, settings, values=values)

    def _never_visible(self) -> str:
        if not self.manifest.classes:
            return ""
        name = self.never_visible or most_frequent_class(self.manifest)
        if name not in self.manifest.classes:
            known = ", ".join(self.manifest.classes)
            raise UserError(f"There is no class {name!r}; --never-visible takes one of {known}.")
        return name
