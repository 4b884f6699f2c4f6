"""From a manifest and a feature store to the tensors of a recognition run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from features.store import Store
from pipeline.errors import UserError
from pipeline.manifest import Manifest, Row
from trainers.action.interface import Inputs, KnownNoise, Method, TrainView
from trainers.clips import join_clips
from trainers.data import EVALUATED, SPLITS, LoadedRows, RunData, load_rows
from trainers.roles import fill_missing, read_roles, refuse_missing

__all__ = [
    "DEMO_ROLES",
    "KINETICS_ROLES",
    "ROLES",
    "ActionData",
    "EvalSplit",
    "known_noise",
    "label_indices",
    "load_data",
    "load_inputs",
    "load_splits",
]

ROLES = ("audio", "visual")
KINETICS_ROLES = {"audio": "panns_resnet22", "visual": "r2plus1d_18"}
DEMO_ROLES = {"audio": "logmel_stats", "visual": "frame_stats"}
# A transition matrix is told as what it generalises.
LABEL_NOISE = {"symmetric": "symmetric", "asymmetric": "asymmetric", "transition": "asymmetric"}


@dataclass(frozen=True)
class EvalSplit:
    """A split that predictions are scored on.

    Attributes:
        ids: N row ids.
        inputs: Features of the videos that have any, (M, S, ...).
        present: (N,) bool, which videos those are; the others are predicted as nothing.
        labels: (N,) int64.
    """

    ids: tuple[str, ...]
    inputs: Inputs
    present: np.ndarray
    labels: np.ndarray


ActionData = RunData[TrainView, EvalSplit]


def load_data(
    manifest: Manifest,
    store: Store | None,
    roles: Mapping[str, str],
    method: type[Method],
    *,
    missing: str = "drop",
    device: torch.device,
) -> ActionData:
    """Loads training, validation and test data of one method.

    Args:
        manifest: A multiclass manifest.
        store: The feature store.
        roles: Role to feature name, such as ``{"audio": "panns_resnet22", ...}``.
        method: Decides whether it is told the noise level.
        missing: What becomes of videos without features: ``drop`` (not trained on, predicted as
            nothing), ``zero`` (features of zeros) or ``error``.
        device: Where tensors go.

    Raises:
        UserError: If labels or features do not fit.
    """
    loaded = _load_rows(manifest, SPLITS, store, roles, method, missing=missing, device=device)
    view = TrainView(
        inputs=loaded.inputs["train"],
        labels=torch.from_numpy(label_indices(manifest, loaded.trained)).to(device),
        groups=_groups(loaded.trained).to(device),
        classes=manifest.classes,
        noise=known_noise(manifest) if "noise_level" in method.needs else None,
    )
    return loaded.run_data(view, _eval_splits(manifest, loaded))


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
    return _eval_splits(manifest, loaded)


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
    if manifest.header.label_type != "multiclass":
        raise UserError(
            f"Action recognition needs a multiclass manifest, this is {manifest.header.label_type};"
            " use --predict for videos without labels, trainers.avvp for several labels."
        )
    if store is None:
        raise UserError(f"{method.name} reads features; name their store with --store.")

    def read(rows: Sequence[Row]) -> tuple[Inputs, np.ndarray, dict[str, str]]:
        return load_inputs(manifest, rows, store, roles, missing=missing)

    return load_rows(manifest, splits, read, device=device, trained="video")


def _eval_splits(manifest: Manifest, loaded: LoadedRows[Inputs]) -> dict[str, EvalSplit]:
    return {
        name: EvalSplit(
            ids=tuple(row.id for row in loaded.rows[name]),
            inputs=loaded.inputs[name],
            present=loaded.present[name],
            labels=label_indices(manifest, loaded.rows[name]),
        )
        for name in EVALUATED
    }


def label_indices(manifest: Manifest, rows: Sequence[Row]) -> np.ndarray:
    """(N,) int64 class of each multiclass row."""
    column = {name: c for c, name in enumerate(manifest.classes)}
    return np.array([column[row.labels[0]] for row in rows], dtype=np.int64)


def _groups(rows: Sequence[Row]) -> torch.Tensor:
    """(N,) int64, equal for videos of one source."""
    number: dict[str, int] = {}
    return torch.tensor([number.setdefault(row.group, len(number)) for row in rows])


def known_noise(manifest: Manifest) -> KnownNoise:
    """The label noise that a manifest's header states: the kind of the last one, and the share of
    wrong labels that all of them make together if each strikes independently of the others."""
    kind, right = None, 1.0
    for entry in manifest.header.noise:
        if entry.get("kind") in LABEL_NOISE:
            kind = LABEL_NOISE[entry["kind"]]
            realised = entry.get("realised", {}).get("overall")
            right *= 1 - float(entry["rate"] if realised is None else realised)
    return KnownNoise(kind, 1 - right if kind else 0.0)


def load_inputs(
    manifest: Manifest,
    rows: Sequence[Row],
    store: Store,
    roles: Mapping[str, str],
    *,
    missing: str = "drop",
) -> tuple[Inputs, np.ndarray, dict[str, str]]:
    """Features of some rows, joined by time; a clip of the video is a step of the feature.

    A video's audio comes from the row that its ``audio_id`` names. Videos may have fewer clips
    than others, and one modality fewer than the other: what is there in both is valid.

    Args:
        manifest: The manifest.
        rows: N rows of it.
        store: Where the features are.
        roles: Role to feature name; ``audio`` and ``visual``.
        missing: See `load_data`.

    Returns:
        Inputs of M videos, (N,) bool that says which rows those are, and role to ``name-specid``.

    Raises:
        UserError: If a feature is not there, steps do not join, or, by choice, videos are missing.
    """
    read = read_roles(manifest, rows, store, roles, known=ROLES)
    visual, audio = read.tables["visual"], read.tables["audio"]
    for role, table in read.tables.items():
        if table.x.ndim != 2:
            shape = " x ".join(map(str, table.x.shape[1:]))
            raise UserError(
                f"The {role} feature {read.used[role]} has steps of {shape} values; recognition "
                "reads vectors, choose another feature with --features."
            )
    chosen = np.flatnonzero(read.present)
    x_v, x_a, valid = join_clips(visual, audio, chosen, rows, dtype=np.float32)
    there = valid.any(1)
    present = read.present.copy()
    present[chosen] = there
    if missing == "error":
        refuse_missing(rows, present)
    if not there.all():
        x_v, x_a, valid = x_v[there], x_a[there], valid[there]
    if missing == "zero":
        x_v, x_a, valid = (fill_missing(x, present) for x in (x_v, x_a, valid))
        # Zeros stand in for clips: a video without any could be neither visited nor scored.
        valid[~present] = True
        present = np.ones(len(rows), dtype=bool)
    return Inputs(*(torch.from_numpy(x) for x in (x_v, x_a, valid))), present, read.used
