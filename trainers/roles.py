"""Features met by the roles they play: read for some rows, and scored where some are missing."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from features.backbones import BACKBONES
from features.store import FeatureInfo, FeatureTable, Store
from pipeline.errors import UserError
from pipeline.files import object_digest
from pipeline.manifest import Manifest, Row

__all__ = [
    "RoleTables",
    "Split",
    "describe_failed",
    "fill_missing",
    "noise_of",
    "predict_split",
    "read_roles",
    "refuse_missing",
    "rows_digest",
    "say_failed",
]


@dataclass(frozen=True)
class RoleTables:
    """Features of N rows.

    Attributes:
        tables: By role, N rows each.
        present: (N,) bool, rows that have features in every role.
        used: Role to ``name-specid``.
    """

    tables: dict[str, FeatureTable]
    present: np.ndarray
    used: dict[str, str]


def read_roles(
    manifest: Manifest,
    rows: Sequence[Row],
    store: Store,
    roles: Mapping[str, str],
    *,
    known: Sequence[str],
) -> RoleTables:
    """Reads the features of some rows; the audio is that of the row that ``audio_id`` names.

    Args:
        manifest: The manifest.
        rows: N rows of it.
        store: Where the features are.
        roles: Role to feature name; ``audio`` and ``visual`` are needed.
        known: Roles that the task has, in order.

    Raises:
        UserError: If a role is unknown or absent, or a feature is not there or of the other
            modality.
    """
    for role in roles:
        if role not in known:
            raise UserError(f"There is no role {role!r}; use {', '.join(known)}.")
    if absent := [role for role in ("audio", "visual") if role not in roles]:
        raise UserError(f"No feature is named for {absent[0]}; add --features {absent[0]}=NAME.")
    infos = {role: store.find(roles[role]) for role in known if role in roles}
    for role, info in infos.items():
        _check_modality(role, info)
    lenders = [manifest[row.audio_id] for row in rows]
    tables = {
        role: store.read(info, manifest, lenders if role == "audio" else rows)
        for role, info in infos.items()
    }
    present = np.logical_and.reduce([table.ok for table in tables.values()])
    return RoleTables(tables, present, {role: info.label for role, info in infos.items()})


def _check_modality(role: str, info: FeatureInfo) -> None:
    """Holds a feature whose modality is known to the roles of that modality.

    Raises:
        UserError: If it is the other one.
    """
    modality = _modality_of(info)
    if modality is not None and modality != ("audio" if role == "audio" else "visual"):
        raise UserError(
            f"{info.name} is {'an' if modality == 'audio' else 'a'} {modality} feature and "
            f"cannot be given as {role}; give --features {modality}={info.name} and name another "
            f"for {role}."
        )


def _modality_of(info: FeatureInfo) -> str | None:
    """``"audio"`` or ``"visual"``, or None where neither spec nor name tells."""
    imported = info.values.get("imported", {})
    if "modality" in imported:
        return imported["modality"]
    # Importing arrays under a backbone's name does not make them its; those of LLP are.
    ours = "feature" in info.values or imported.get("format") == "llp"
    return BACKBONES.get(info.name).modality if ours and info.name in BACKBONES.names() else None


def refuse_missing(rows: Sequence[Row], present: np.ndarray) -> None:
    """Ends where rows have no features.

    Raises:
        UserError: Naming the first one.
    """
    if not present.all():
        row = rows[int(np.flatnonzero(~present)[0])]
        raise UserError(
            f"{int((~present).sum())} clips have no features, {row.id!r} first; "
            "extract them or choose --missing drop."
        )


def fill_missing(x: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(M, ...) values of the rows that are present -> (N, ...), zeros in the others."""
    if present.all():
        return x
    full = np.zeros((len(present), *x.shape[1:]), dtype=x.dtype)
    full[present] = x
    return full


def rows_digest(rows: Mapping[str, Sequence[Row]], present: Mapping[str, np.ndarray]) -> str:
    """Names the rows used, split by split."""
    return object_digest(
        {n: [r.id for r, p in zip(rows[n], present[n], strict=True) if p] for n in rows}
    )


def describe_failed(failed: Mapping[str, int], missing: str) -> str | None:
    """One line about clips without features, or None if there are none."""
    if not any(failed.values()) or missing == "zero":
        return None
    counts = ", ".join(f"{n} {split}" for split, n in failed.items() if n)
    trained = "not trained on; " if "train" in failed else ""
    return f"clips without features: {counts} ({trained}predicted as nothing)"


def noise_of(manifest: Manifest) -> list[dict[str, Any]]:
    """The noise a manifest carries, oldest first, for results."""
    return [dict(n) for n in manifest.header.noise]


class Split(Protocol):
    """What is predicted: N rows, of which those that are present have features."""

    @property
    def inputs(self) -> Any: ...

    @property
    def present(self) -> np.ndarray: ...


def say_failed(splits: Mapping[str, Split], missing: str) -> None:
    """Tells on standard error how many clips of the splits that are scored have no features."""
    failed = {name: int((~split.present).sum()) for name, split in splits.items()}
    if note := describe_failed(failed, missing):
        print(note, file=sys.stderr)


def predict_split(predictor: Any, split: Split) -> Any:
    """Predicts a split; clips without features are predicted as nothing.

    Args:
        predictor: Has ``predict(inputs)``, which returns a dataclass of arrays (M, ...).
        split: Its ``inputs`` hold the M clips that have features.

    Returns:
        The same dataclass for all N clips, zeros where there are no features.
    """
    there = predictor.predict(split.inputs)
    values = (getattr(there, field.name) for field in dataclasses.fields(there))
    return type(there)(*(fill_missing(value, split.present) for value in values))
