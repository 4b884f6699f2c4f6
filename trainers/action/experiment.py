"""One recognition method with several seeds: what the command line and sweeps call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from features.store import Store
from pipeline.errors import UserError
from pipeline.manifest import Manifest
from trainers.action.data import DEMO_ROLES, KINETICS_ROLES, load_data
from trainers.action.interface import METHODS
from trainers.action.runner import Settings, train
from trainers.launching import Course, launch
from trainers.runs import Run

__all__ = ["DEMO_UPDATES", "Experiment", "default_roles"]

DEMO_UPDATES = 1080
"""Makes the published 60 epochs of the demo corpus' 18 full batches of 32."""


def default_roles(manifest: Manifest) -> dict[str, str]:
    """The features a manifest is used with when none are named."""
    return dict(DEMO_ROLES if manifest.header.corpus is not None else KINETICS_ROLES)


COURSE = Course(
    methods=METHODS,
    default_roles=default_roles,
    load=load_data,
    train=train,
    metric="clip@1",
    title="clip@1",
)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A method, what it is run on, and its settings.

    Attributes:
        method: Registered name.
        manifest: Where rows and labels come from.
        store: Feature store.
        roles: Role to feature name; empty takes the defaults.
        values: Hyper-parameters given explicitly; they win over the schedule.
        schedule: ``"paper"``, ``"demo"`` or None for the manifest's default.
        updates: Updates that the demo schedule aims at.
        missing: ``drop``, ``zero`` or ``error``.
        detect_every: Epochs from one look at noise detection to the next; 0: at the end only.
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
    missing: str = "drop"
    detect_every: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int | None = None
    runs: Path | None = None
    quiet: bool = False

    def run(self, seeds: Sequence[int]) -> list[Run]:
        """Trains once for every seed, or finds what is there already.

        Raises:
            UserError: If anything about the request does not fit, before any work starts.
        """
        if self.detect_every < 0:
            raise UserError(f"--detect-every {self.detect_every} is out of range; give 0 or more.")
        settings = partial(Settings, detect_every=self.detect_every)
        return launch(COURSE, self, seeds, settings, values=self.values)
