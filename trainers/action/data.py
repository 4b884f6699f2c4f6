"""From a manifest and a feature store to the tensors of a recognition run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from features.store import FeatureTable, Store
from pipeline.errors import UserError
from pipeline.grid import join_steps
from pipeline.manifest import Manifest, Row
from trainers.action.interface import Inputs, KnownNoise, Method, TrainView
from trainers.roles import fill_missing, read_roles, refuse_missing, rows_digest

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


@dataclass(frozen=True)
class ActionData:
    """All that one run needs.

    Attributes:
        view: What the method sees.
        train_ids: N ids of the training videos that have features.
        splits: ``val`` and ``test``.
        features: Role to ``name-specid`` of the features used.
        rows_digest: Names the rows used, split by split.
        failed: Videos without features by split.
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
    if manifest.header.label_type != "multiclass":
        raise UserError(
            f"Action recognition needs a multiclass manifest, this is {manifest.header.label_type};"
            " use --predict for videos without labels, trainers.avvp for several labels."
        )
    if store is None:
        raise UserError(f"{method.name} reads features; name their store with --store.")
    rows = {name: manifest.split(name) for name in ("train", "val", "test")}
    if not rows["train"]:
        raise UserError("The manifest has no training rows; nothing can be trained on it.")
    inputs: dict[str, Inputs] = {}
    present: dict[str, np.ndarray] = {}
    used: dict[str, str] = {}
    for name, split in rows.items():
        inputs[name], present[name], used = load_inputs(
            manifest, split, store, roles, missing=missing
        )
        inputs[name] = inputs[name].to(device)
    if not present["train"].any():
        raise UserError(
            "No training video has features in both modalities; extract them, or see what "
            "python -m features ls says of the store."
        )
    trained = [row for row, there in zip(rows["train"], present["train"], strict=True) if there]
    return ActionData(
        view=TrainView(
            inputs=inputs["train"],
            labels=torch.from_numpy(label_indices(manifest, trained)).to(device),
            groups=_groups(trained).to(device),
            classes=manifest.classes,
            noise=known_noise(manifest) if "noise_level" in method.needs else None,
        ),
        train_ids=tuple(row.id for row in trained),
        splits={
            name: EvalSplit(
                ids=tuple(row.id for row in rows[name]),
                inputs=inputs[name],
                present=present[name],
                labels=label_indices(manifest, rows[name]),
            )
            for name in ("val", "test")
        },
        features=used,
        rows_digest=rows_digest(rows, present),
        failed={name: int((~present[name]).sum()) for name in rows},
    )


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
    x_v, x_a, valid = _aligned(visual, audio, chosen) or _joined(visual, audio, chosen, rows)
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


def _aligned(
    visual: FeatureTable, audio: FeatureTable, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """What `_joined` gives, where all videos have the same steps in both modalities, else None.

    Nearly every corpus is of this kind, and joining one by one would cost minutes on a large one.
    """
    tables = [table.select(chosen) for table in (visual, audio)]
    steps = np.concatenate([table.lengths for table in tables])
    if not len(steps) or (steps != steps[0]).any():
        return None
    t_v, t_a = (table.t.reshape(len(chosen), -1) for table in tables)
    hop = _hop(t_v)
    if np.abs(t_v - t_a).max() > hop / 2:
        return None
    # The store's memory may be shared or of another type; a tensor wants its own.
    x_v, x_a = (np.array(table.stacked(), dtype=np.float32) for table in tables)
    return x_v, x_a, np.ones(t_v.shape, dtype=bool)


def _joined(
    visual: FeatureTable, audio: FeatureTable, chosen: np.ndarray, rows: Sequence[Row]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips that two features share, video by video.

    The feature with fewer steps leads: each of them must have its partner in the other.

    Returns:
        (M, S, Dv) and (M, S, Da) float32, zeros where (M, S) bool says that a clip is not valid.
    """
    steps = int(np.minimum(visual.lengths, audio.lengths)[chosen].max(initial=0))
    x_v = np.zeros((len(chosen), steps, visual.x.shape[-1]), dtype=np.float32)
    x_a = np.zeros((len(chosen), steps, audio.x.shape[-1]), dtype=np.float32)
    valid = np.zeros((len(chosen), steps), dtype=bool)
    for place, n in enumerate(chosen):
        t_v, t_a = (t.t[t.offset[n] : t.offset[n + 1]] for t in (visual, audio))
        what = f"steps of sound and picture of {rows[n].id!r}"
        if len(t_v) <= len(t_a):
            i_v = np.arange(len(t_v))
            i_a = join_steps(t_v, t_a, hop=_hop(t_v), what=what)
        else:
            i_a = np.arange(len(t_a))
            i_v = join_steps(t_a, t_v, hop=_hop(t_a), what=what)
        count = len(i_v)
        x_v[place, :count], x_a[place, :count] = visual.row(n)[i_v], audio.row(n)[i_a]
        valid[place, :count] = True
    return x_v, x_a, valid


def _hop(t: np.ndarray) -> float:
    """Least seconds between two steps; one second where there is one step only."""
    return float(np.diff(t).min()) if t.shape[-1] > 1 else 1.0
