"""What loading has in common for all tasks: rows by split, their features, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import torch

from pipeline.errors import UserError
from pipeline.manifest import Manifest, Row
from trainers.roles import rows_digest

__all__ = ["EVALUATED", "SPLITS", "LoadedRows", "RunData", "load_rows"]

EVALUATED = ("val", "test")
SPLITS = ("train", *EVALUATED)

Inputs = TypeVar("Inputs")
Split = TypeVar("Split")
View = TypeVar("View")


@dataclass(frozen=True)
class RunData(Generic[View, Split]):
    """All that one run needs.

    Attributes:
        view: What the method sees.
        train_ids: N ids of the training rows that have features.
        splits: ``val`` and ``test``.
        features: Role to ``name-specid`` of the features used.
        rows_digest: Names the rows used, split by split.
        failed: Rows without features by split.
    """

    view: View
    train_ids: tuple[str, ...]
    splits: dict[str, Split]
    features: dict[str, str]
    rows_digest: str
    failed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedRows(Generic[Inputs]):
    """Rows of some splits and their features.

    Attributes:
        rows: By split, N rows.
        inputs: By split, features of the M rows that have any.
        present: By split, (N,) bool, which rows those are.
        features: Role to ``name-specid`` of the features used.
    """

    rows: dict[str, Sequence[Row]]
    inputs: dict[str, Inputs]
    present: dict[str, np.ndarray]
    features: dict[str, str]

    @property
    def trained(self) -> list[Row]:
        """The M training rows that have features."""
        pairs = zip(self.rows["train"], self.present["train"], strict=True)
        return [row for row, there in pairs if there]

    def run_data(self, view: View, splits: Mapping[str, Split]) -> RunData[View, Split]:
        """The data of a run that trains on the view and is scored on the splits."""
        return RunData(
            view=view,
            train_ids=tuple(row.id for row in self.trained),
            splits=dict(splits),
            features=self.features,
            rows_digest=rows_digest(self.rows, self.present),
            failed={name: int((~there).sum()) for name, there in self.present.items()},
        )


def load_rows(
    manifest: Manifest,
    splits: Sequence[str],
    read: Callable[[Sequence[Row]], tuple[Inputs, np.ndarray, dict[str, str]]],
    *,
    device: torch.device,
    trained: str | None = None,
) -> LoadedRows[Inputs]:
    """Reads the features of some splits.

    Args:
        manifest: The manifest.
        splits: Names out of `SPLITS`.
        read: From N rows to inputs of M of them, (N,) bool that says which, and role to
            ``name-specid``.
        device: Where inputs go.
        trained: What a training row is called. If training rows are asked for, some must have
            features; None does without, for methods that learn nothing from them.

    Raises:
        UserError: If there is nothing to train on.
    """
    rows = {name: manifest.split(name) for name in splits}
    learns = trained is not None and "train" in rows
    if learns and not rows["train"]:
        raise UserError("The manifest has no training rows; nothing can be trained on it.")
    inputs: dict[str, Inputs] = {}
    present: dict[str, np.ndarray] = {}
    used: dict[str, str] = {}
    for name, split in rows.items():
        found, present[name], used = read(split)
        inputs[name] = found.to(device)
    if learns and not present["train"].any():
        raise UserError(
            f"No training {trained} has features in both modalities; extract them, or see what "
            "python -m features ls says of the store."
        )
    return LoadedRows(rows, inputs, present, used)
