"""Trained weights on other data: scores of a checkpoint, event tables for unlabelled videos."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from features.store import Store
from pipeline.cli import DONE
from pipeline.errors import UserError
from pipeline.files import write_atomic
from pipeline.manifest import Manifest
from trainers.avvp.data import LLP_ROLES, load_inputs, load_splits
from trainers.avvp.evaluation import evaluate
from trainers.avvp.filters import apply_filter
from trainers.avvp.interface import METHODS, Method, Predictor
from trainers.avvp.outputs import event_rows, write_events
from trainers.avvp.released import load_released
from trainers.checkpoints import (
    build_saved,
    check_classes,
    check_widths,
    moved,
    read_checkpoint,
    say_other_features,
)
from trainers.options import resolve
from trainers.roles import predict_split, say_failed
from trainers.tasks import AVVP

__all__ = ["Trained", "evaluate_checkpoint", "load_checkpoint", "predict_events"]

RELEASED_WIDTHS = {"audio": 128, "visual": 2048, "motion": 512}
"""Of VGGish, ResNet-152 and R(2+1)D-18, on which all released parsing weights were trained."""


@dataclass(frozen=True)
class Trained:
    """Weights in a network, and what they were trained for.

    Attributes:
        method: The algorithm.
        predictor: Ready to predict.
        classes: C names.
        saved: ``features``, role to feature (``name-specid`` of ours, names only for released
            weights), their ``widths``, and the prediction ``filter``.
        notes: What was left out of a released file.
    """

    method: type[Method]
    predictor: Predictor
    classes: tuple[str, ...]
    saved: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def load_checkpoint(
    path: Path,
    *,
    method: str | None,
    values: Mapping[str, Any],
    which: str,
    classes: tuple[str, ...],
    device: torch.device,
) -> Trained:
    """Loads our ``checkpoint.pt`` or a released HAN or JoMoLD state dict. Nothing in it can run.

    Args:
        path: The file.
        method: Needed for released files, which do not say what they are.
        values: Hyper-parameters of the network, for released files of another size.
        which: ``"selected"`` or ``"last"``, for ours.
        classes: Of the manifest, for released files.
        device: Where to predict.

    Raises:
        UserError: If it is neither, or does not fit.
    """
    # Released JoMoLD files carry generator states that only `load_released` admits.
    saved = read_checkpoint(path, "avvp", device)
    if saved is not None:
        kind, predictor = build_saved(
            path, saved, METHODS, method=method, which=which, device=device
        )
        return Trained(kind, predictor, tuple(saved["classes"]), saved)
    if method is None:
        raise UserError(
            f"{path} is no checkpoint of ours; say whose weights it holds with --method."
        )
    kind = METHODS.get(method)
    if not kind.released:
        raise UserError(f"No code or weights of {kind.title} were released; {path} cannot be its.")
    predictor = kind().build(RELEASED_WIDTHS, classes, resolve(kind.hyperparameters(), values))
    dropped = load_released(path, predictor.net)  # type: ignore[attr-defined]
    notes = (f"left out of the released file (unused there): {', '.join(dropped)}",)
    released = {"features": LLP_ROLES, "widths": RELEASED_WIDTHS, "filter": kind.filter}
    return Trained(kind, moved(predictor, device), classes, released, notes if dropped else ())


def evaluate_checkpoint(
    checkpoint: Path,
    manifest: Manifest,
    store: Store | None,
    *,
    method: str | None = None,
    values: Mapping[str, Any] | None = None,
    roles: Mapping[str, str] | None = None,
    filter_name: str | None = None,
    missing: str = "drop",
    which: str = "selected",
    device: torch.device,
    out: Path | None = None,
) -> int:
    """Prints (and with ``out`` writes as JSON) the ten numbers of validation and test.

    Returns:
        An exit code.

    Raises:
        UserError: If weights, features and manifest do not fit each other.
    """
    trained = load_checkpoint(
        checkpoint,
        method=method,
        values=values or {},
        which=which,
        classes=manifest.classes,
        device=device,
    )
    check_classes(trained.classes, manifest.classes, manifest.path)
    roles = roles or trained.saved["features"]
    splits = load_splits(manifest, store, roles, trained.method, missing=missing, device=device)
    check_widths(trained.saved, splits["test"].inputs.widths)
    if store is not None:
        say_other_features(trained.saved, roles, store)
    say_failed(splits, missing)
    name = filter_name or trained.saved["filter"]
    metrics = {
        key: evaluate(predict_split(trained.predictor, split), split, name)
        for key, split in splits.items()
    }
    for note in trained.notes:
        print(note)
    for split, numbers in metrics.items():
        shown = "  ".join(
            f"{key} {numbers[key]:.2f}" if numbers[key] is not None else f"{key} -"
            for key in AVVP.metrics
        )
        print(f"{split} ({name} filter): {shown}")
    if out is not None:
        write_atomic(out, json.dumps({"filter": name, "metrics": metrics}, indent=1) + "\n")
        print(f"written: {out}")
    return DONE


def predict_events(
    checkpoint: Path,
    manifest: Manifest,
    store: Store | None,
    *,
    out: Path,
    method: str | None = None,
    values: Mapping[str, Any] | None = None,
    roles: Mapping[str, str] | None = None,
    filter_name: str | None = None,
    missing: str = "drop",
    which: str = "selected",
    device: torch.device,
) -> int:
    """Writes an event table for all clips of a manifest, labelled or not.

    Clips may differ in length: they are predicted in groups of equal length.

    Returns:
        The number of clips that have no features and so no events.

    Raises:
        UserError: See `load_checkpoint` and `trainers.avvp.data.load_inputs`.
    """
    trained = load_checkpoint(
        checkpoint,
        method=method,
        values=values or {},
        which=which,
        classes=manifest.classes,
        device=device,
    )
    if not trained.classes:
        raise UserError("Released weights need a manifest that names the 25 classes of LLP.")
    if store is None:
        raise UserError("Predicting reads features; name their store with --store.")
    roles = roles or trained.saved["features"]
    name = filter_name or trained.saved["filter"]
    groups: dict[int, list[Any]] = {}
    for row in manifest.rows:
        groups.setdefault(round(row.end - row.start), []).append(row)
    found: dict[str, list[Any]] = {}
    failed: list[str] = []
    for rows in groups.values():
        inputs, present, _ = load_inputs(manifest, rows, store, roles, missing=missing)
        failed += [row.id for row, there in zip(rows, present, strict=True) if not there]
        if not present.any():
            continue
        check_widths(trained.saved, inputs.widths)
        prediction = trained.predictor.predict(inputs.to(device))
        audio, visual = apply_filter(name, prediction)
        kept = [row for row, there in zip(rows, present, strict=True) if there]
        for n, row in enumerate(kept):
            found[row.id] = [
                *event_rows(row.id, "audio", audio[n], prediction.audio[n], trained.classes),
                *event_rows(row.id, "visual", visual[n], prediction.visual[n], trained.classes),
            ]
    say_other_features(trained.saved, roles, store)
    table = [event for row in manifest.rows for event in found.get(row.id, [])]
    write_events(out, table)
    silent = sum(not events for events in found.values())
    print(
        f"written: {out}: {len(table)} events in {len(found)} clips "
        f"({silent} without any), {len(failed)} clips without features"
    )
    for row_id in failed:
        print(f"no features: {row_id}")
    return len(failed)
