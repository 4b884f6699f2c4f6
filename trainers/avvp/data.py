"""From a manifest and a feature store to the tensors that a parsing run trains and scores on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from features.store import FeatureTable, Store
from pipeline.errors import UserError
from pipeline.grid import join_steps
from pipeline.manifest import Manifest, Row, dense_matrices
from trainers.avvp.interface import DenseVal, Inputs, Method, TrainView
from trainers.avvp.metric import Truth
from trainers.data import EVALUATED, SPLITS, LoadedRows, RunData, load_rows
from trainers.roles import fill_missing, read_roles, refuse_missing

__all__ = [
    "DEMO_ROLES",
    "LLP_ROLES",
    "ROLES",
    "EvalSplit",
    "ParsingData",
    "load_data",
    "load_inputs",
    "load_splits",
]

ROLES = ("audio", "visual", "motion")
LLP_ROLES = {"audio": "vggish", "visual": "resnet152", "motion": "r2plus1d_18"}
DEMO_ROLES = {"audio": "logmel_stats", "visual": "frame_stats"}
SEGMENTS = 10
HOP = 1.0


@dataclass(frozen=True)
class EvalSplit:
    """A split that predictions are scored on.

    Attributes:
        ids: N clip ids.
        inputs: Features of the clips that have any, (M, ...).
        present: (N,) bool, which clips those are; the others are predicted as nothing.
        labels: (N, C) float32 weak labels.
        dense: (N, T, 2, C) bool dense labels, or None without annotations.
        truth: The same, ready for the metric.
    """

    ids: tuple[str, ...]
    inputs: Inputs
    present: np.ndarray
    labels: np.ndarray
    dense: np.ndarray | None
    truth: Truth | None

    def subset(self, rows: Sequence[int]) -> EvalSplit:
        """Some of the clips that have features.

        Args:
            rows: (K,) positions among the M clips of ``inputs``.
        """
        index = np.asarray(rows, dtype=np.int64)
        chosen = np.flatnonzero(self.present)[index]
        dense = None if self.dense is None else self.dense[chosen]
        return EvalSplit(
            ids=tuple(self.ids[n] for n in chosen),
            inputs=self.inputs[torch.from_numpy(index)],
            present=np.ones(len(index), dtype=bool),
            labels=self.labels[chosen],
            dense=dense,
            truth=None if dense is None else Truth(dense[:, :, 0], dense[:, :, 1]),
        )


ParsingData = RunData[TrainView, EvalSplit]


def load_data(
    manifest: Manifest,
    store: Store | None,
    roles: Mapping[str, str],
    method: type[Method],
    *,
    missing: str = "drop",
    device: torch.device,
) -> ParsingData:
    """Loads training, validation and test data of one method.

    Args:
        manifest: A multilabel manifest.
        store: The feature store; None for methods that read no features.
        roles: Role to feature name, such as ``{"audio": "vggish"}``.
        method: Decides which roles are read and what labels its inputs may carry.
        missing: What becomes of clips without features: ``drop`` (not trained on, predicted as
            nothing), ``zero`` (features of zeros) or ``error``.
        device: Where tensors go.

    Raises:
        UserError: If labels, features or annotations do not fit.
    """
    loaded = _load_rows(manifest, SPLITS, store, roles, method, missing=missing, device=device)
    splits = _eval_splits(manifest, loaded, method, device)
    return loaded.run_data(_view(manifest, loaded, splits["val"], method, device), splits)


def load_splits(
    manifest: Manifest,
    store: Store | None,
    roles: Mapping[str, str],
    method: type[Method],
    *,
    missing: str = "drop",
    device: torch.device,
) -> dict[str, EvalSplit]:
    """Loads validation and test data alone, to score weights on; see `load_data`."""
    loaded = _load_rows(manifest, EVALUATED, store, roles, method, missing=missing, device=device)
    return _eval_splits(manifest, loaded, method, device)


def _load_rows(
    manifest: Manifest,
    splits: Sequence[str],
    store: Store | None,
    roles: Mapping[str, str],
    method: type[Method],
    *,
    missing: str,
    device: torch.device,
) -> LoadedRows[Inputs]:
    """Features of some splits of a manifest whose labels fit; see `trainers.data.load_rows`."""
    if manifest.header.label_type != "multilabel":
        raise UserError(
            f"Video parsing needs a multilabel manifest, this is {manifest.header.label_type}; "
            "use --predict for videos without labels."
        )
    if not method.roles:
        return load_rows(manifest, splits, _no_features, device=device)
    if store is None:
        raise UserError(f"{method.name} reads features; name their store with --store.")

    def read(rows: Sequence[Row]) -> tuple[Inputs, np.ndarray, dict[str, str]]:
        return load_inputs(manifest, rows, store, roles, missing=missing, segments=SEGMENTS)

    return load_rows(manifest, splits, read, device=device, trained="clip")


def _no_features(rows: Sequence[Row]) -> tuple[Inputs, np.ndarray, dict[str, str]]:
    """What stands for the features of methods that read none."""
    empty = torch.zeros(len(rows), SEGMENTS, 0)
    return Inputs(empty, empty), np.ones(len(rows), dtype=bool), {}


def _eval_splits(
    manifest: Manifest, loaded: LoadedRows[Inputs], method: type[Method], device: torch.device
) -> dict[str, EvalSplit]:
    splits = {}
    for name in EVALUATED:
        rows, present, inputs = loaded.rows[name], loaded.present[name], loaded.inputs[name]
        labels = manifest.label_matrix(rows).astype(np.float32)
        dense = _dense(manifest, rows)
        if "test_labels" in method.needs:
            inputs = _with_labels(inputs, labels[present], dense, present).to(device)
        splits[name] = EvalSplit(
            ids=tuple(row.id for row in rows),
            inputs=inputs,
            present=present,
            labels=labels,
            dense=dense,
            truth=None if dense is None else Truth(dense[:, :, 0], dense[:, :, 1]),
        )
    return splits


def _dense(manifest: Manifest, rows: Sequence[Row]) -> np.ndarray | None:
    """(N, T, 2, C) bool, or None where the manifest has no annotations or the split no rows."""
    if manifest.header.annotations is None or not rows:
        return None
    return np.stack(dense_matrices(manifest, rows, SEGMENTS, HOP), axis=2)


def _view(
    manifest: Manifest,
    loaded: LoadedRows[Inputs],
    val: EvalSplit,
    method: type[Method],
    device: torch.device,
) -> TrainView:
    def matrix(modality: str | None) -> torch.Tensor:
        labels = manifest.label_matrix(loaded.trained, modality).astype(np.float32)
        return torch.from_numpy(labels).to(device)

    dense_val = None
    if "dense_val" in method.needs:
        if val.dense is None:
            raise UserError(
                f"{method.name} is rewarded on dense validation labels and this manifest has none; "
                "choose a weakly supervised method or annotate the validation split."
            )
        audio, visual = (val.dense[val.present][:, :, m] for m in (0, 1))
        dense_val = DenseVal(val.inputs, audio, visual)
    return TrainView(
        inputs=loaded.inputs["train"],
        labels=matrix(None),
        labels_audio=matrix("audio"),
        labels_visual=matrix("visual"),
        classes=manifest.classes,
        dense_val=dense_val,
    )


def _with_labels(
    inputs: Inputs, labels: np.ndarray, dense: np.ndarray | None, present: np.ndarray
) -> Inputs:
    return Inputs(
        audio=inputs.audio,
        visual=inputs.visual,
        motion=inputs.motion,
        labels=torch.from_numpy(labels),
        dense=None if dense is None else torch.from_numpy(dense[present].astype(np.float32)),
    )


def load_inputs(
    manifest: Manifest,
    rows: Sequence[Row],
    store: Store,
    roles: Mapping[str, str],
    *,
    missing: str = "drop",
    segments: int | None = None,
) -> tuple[Inputs, np.ndarray, dict[str, str]]:
    """Features of some rows, joined by time on one grid.

    A clip's audio comes from the row that its ``audio_id`` names.

    Args:
        manifest: The manifest.
        rows: N rows of it.
        store: Where the features are.
        roles: Role to feature name; ``audio`` and ``visual`` are needed.
        missing: See `load_data`.
        segments: Steps every clip must have; None accepts what the first clip has.

    Returns:
        Inputs of M clips, (N,) bool that says which rows those are, and role to ``name-specid``.

    Raises:
        UserError: If a feature is not there, steps do not join, or, by choice, clips are missing.
    """
    read = read_roles(manifest, rows, store, roles, known=ROLES)
    tables, present = read.tables, read.present
    if missing == "error":
        refuse_missing(rows, present)
    chosen = np.flatnonzero(present)
    anchor = segments or (int(tables["audio"].lengths[chosen[0]]) if present.any() else SEGMENTS)
    joined = {
        role: _joined(tables[role], tables["audio"], chosen, rows, anchor, role) for role in tables
    }
    if missing == "zero":
        joined = {role: fill_missing(x, present) for role, x in joined.items()}
        present = np.ones(len(rows), dtype=bool)
    tensors = {role: torch.from_numpy(x) for role, x in joined.items()}
    return Inputs(tensors["audio"], tensors["visual"], tensors.get("motion")), present, read.used


def _joined(
    table: FeatureTable,
    audio: FeatureTable,
    chosen: np.ndarray,
    rows: Sequence[Row],
    segments: int,
    role: str,
) -> np.ndarray:
    """Steps of one role on the audio's steps, (M, T, D) float32."""
    width = table.x.shape[1:]
    out = np.empty((len(chosen), segments, *width), dtype=np.float32)
    for place, n in enumerate(chosen):
        anchor = audio.t[audio.offset[n] : audio.offset[n + 1]]
        if len(anchor) != segments:
            raise UserError(
                f"The clip {rows[n].id!r} has {len(anchor)} audio steps where {segments} are "
                "needed; check its start and end in the manifest."
            )
        x, t = table.row(n), table.t[table.offset[n] : table.offset[n + 1]]
        if len(t) == segments and np.abs(t - anchor).max() <= HOP / 2:
            out[place] = x
        elif len(t) >= 2 * segments and len(t) % segments == 0:
            # Frames kept one by one: averaging them before a linear layer is exact.
            out[place] = x.reshape(segments, len(t) // segments, *width).mean(1, dtype=np.float32)
        else:
            out[place] = x[join_steps(anchor, t, hop=HOP, what=f"audio and {role} steps")]
    return out
