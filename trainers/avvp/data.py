"""From a manifest and a feature store to the tensors that a parsing run trains and scores on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from features.store import FeatureTable, Store
from pipeline.errors import UserError
from pipeline.grid import join_steps
from pipeline.manifest import Manifest, Row, dense_matrices
from trainers.avvp.interface import DenseVal, Inputs, Method, TrainView
from trainers.avvp.metric import Truth
from trainers.roles import fill_missing, read_roles, refuse_missing, rows_digest

__all__ = [
    "DEMO_ROLES",
    "LLP_ROLES",
    "ROLES",
    "EvalSplit",
    "ParsingData",
    "load_data",
    "load_inputs",
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


@dataclass(frozen=True)
class ParsingData:
    """All that one run needs.

    Attributes:
        view: What the method sees.
        train_ids: N ids of the training clips that have features.
        splits: ``val`` and ``test``.
        features: Role to ``name-specid`` of the features used.
        widths: Role to feature width.
        rows_digest: Names the rows used, split by split.
        failed: Clips without features by split.
    """

    view: TrainView
    train_ids: tuple[str, ...]
    splits: dict[str, EvalSplit]
    features: dict[str, str]
    rows_digest: str
    failed: dict[str, int] = field(default_factory=dict)


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
    if manifest.header.label_type != "multilabel":
        raise UserError(
            f"Video parsing needs a multilabel manifest, this is {manifest.header.label_type}; "
            "use --predict for videos without labels."
        )
    rows = {name: manifest.split(name) for name in ("train", "val", "test")}
    reads_features = bool(method.roles)
    if reads_features and not rows["train"]:
        raise UserError("The manifest has no training rows; nothing can be trained on it.")
    dense = {name: _dense(manifest, rows[name]) for name in ("val", "test")}
    inputs: dict[str, Inputs] = {}
    present: dict[str, np.ndarray] = {}
    used: dict[str, str] = {}
    for name, split in rows.items():
        if reads_features:
            if store is None:
                raise UserError(f"{method.name} reads features; name their store with --store.")
            inputs[name], present[name], used = load_inputs(
                manifest, split, store, roles, missing=missing, segments=SEGMENTS
            )
        else:
            empty = torch.zeros(len(split), SEGMENTS, 0)
            inputs[name], present[name] = Inputs(empty, empty), np.ones(len(split), dtype=bool)
    splits = {}
    for name in ("val", "test"):
        labels = manifest.label_matrix(rows[name]).astype(np.float32)
        shown = inputs[name]
        if "test_labels" in method.needs:
            shown = _with_labels(shown, labels[present[name]], dense[name], present[name])
        splits[name] = EvalSplit(
            ids=tuple(row.id for row in rows[name]),
            inputs=shown.to(device),
            present=present[name],
            labels=labels,
            dense=dense[name],
            truth=None
            if dense[name] is None
            else Truth(dense[name][:, :, 0], dense[name][:, :, 1]),
        )
    trained = [row for row, there in zip(rows["train"], present["train"], strict=True) if there]
    return ParsingData(
        view=_view(manifest, trained, inputs["train"], splits["val"], method, device),
        train_ids=tuple(row.id for row in trained),
        splits=splits,
        features=used,
        rows_digest=rows_digest(rows, present),
        failed={name: int((~present[name]).sum()) for name in rows},
    )


def _dense(manifest: Manifest, rows: Sequence[Row]) -> np.ndarray | None:
    """(N, T, 2, C) bool, or None where the manifest has no annotations or the split no rows."""
    if manifest.header.annotations is None or not rows:
        return None
    return np.stack(dense_matrices(manifest, rows, SEGMENTS, HOP), axis=2)


def _view(
    manifest: Manifest,
    rows: Sequence[Row],
    inputs: Inputs,
    val: EvalSplit,
    method: type[Method],
    device: torch.device,
) -> TrainView:
    def matrix(modality: str | None) -> torch.Tensor:
        return torch.from_numpy(manifest.label_matrix(rows, modality).astype(np.float32)).to(device)

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
        inputs=inputs.to(device),
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
