"""Trained weights on other data: scores of a checkpoint, likely classes of unlabelled videos."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from features.store import Store
from pipeline.cli import DONE
from pipeline.errors import UserError
from pipeline.files import write_atomic
from pipeline.manifest import Manifest
from trainers.action.data import load_inputs, load_splits
from trainers.action.evaluation import METRICS
from trainers.action.interface import METHODS, Method, Predictor
from trainers.action.outputs import write_table
from trainers.action.runner import score_split
from trainers.checkpoints import (
    build_saved,
    check_classes,
    check_widths,
    read_checkpoint,
    say_other_features,
)
from trainers.roles import say_failed

__all__ = ["evaluate_checkpoint", "load_checkpoint", "predict_classes"]


def load_checkpoint(
    path: Path, *, method: str | None, which: str, device: torch.device
) -> tuple[type[Method], Predictor, dict[str, Any]]:
    """Loads a ``checkpoint.pt`` of this task. Nothing in it can run.

    Args:
        path: The file.
        method: What it should hold; None takes what it says.
        which: ``"selected"`` or ``"last"``.
        device: Where to predict.

    Returns:
        The method, a predictor ready to predict, and what else the file says.

    Raises:
        UserError: If it is no such file, or holds another method.
    """
    saved = read_checkpoint(path, "action", device)
    if saved is None:
        raise UserError(
            f"{path} is no checkpoint of trainers.action; name the checkpoint.pt of a run."
        )
    kind, predictor = build_saved(path, saved, METHODS, method=method, which=which, device=device)
    return kind, predictor, saved


def evaluate_checkpoint(
    checkpoint: Path,
    manifest: Manifest,
    store: Store | None,
    *,
    method: str | None = None,
    roles: Mapping[str, str] | None = None,
    missing: str = "drop",
    which: str = "last",
    device: torch.device,
    out: Path | None = None,
) -> int:
    """Prints (and with ``out`` writes as JSON) the three numbers of validation and test.

    Returns:
        An exit code.

    Raises:
        UserError: If weights, features and manifest do not fit each other.
    """
    kind, predictor, saved = load_checkpoint(checkpoint, method=method, which=which, device=device)
    check_classes(tuple(saved["classes"]), manifest.classes, manifest.path)
    roles = roles or saved["features"]
    splits = load_splits(manifest, store, roles, kind, missing=missing, device=device)
    check_widths(saved, splits["test"].inputs.widths)
    say_other_features(saved, roles, store)
    say_failed(splits, missing)
    metrics = {name: score_split(predictor, split) for name, split in splits.items()}
    for name, numbers in metrics.items():
        shown = (f"{m} {'-' if numbers[m] is None else f'{numbers[m]:.2f}'}" for m in METRICS)
        print(f"{name}: {'  '.join(shown)}")
    if out is not None:
        write_atomic(out, json.dumps({"which": which, "metrics": metrics}, indent=1) + "\n")
        print(f"written: {out}")
    return DONE


def predict_classes(
    checkpoint: Path,
    manifest: Manifest,
    store: Store | None,
    *,
    out: Path,
    method: str | None = None,
    roles: Mapping[str, str] | None = None,
    missing: str = "drop",
    which: str = "last",
    device: torch.device,
) -> int:
    """Writes the likeliest classes of all videos of a manifest, labelled or not.

    Returns:
        The number of videos that have no features and so no classes.

    Raises:
        UserError: See `load_checkpoint` and `trainers.action.data.load_inputs`.
    """
    _, predictor, saved = load_checkpoint(checkpoint, method=method, which=which, device=device)
    if store is None:
        raise UserError("Predicting reads features; name their store with --store.")
    rows = manifest.split("train", "val", "test")
    roles = roles or saved["features"]
    inputs, present, _ = load_inputs(manifest, rows, store, roles, missing=missing)
    check_widths(saved, inputs.widths)
    say_other_features(saved, roles, store)
    ids = [row.id for row, there in zip(rows, present, strict=True) if there]
    failed = [row.id for row, there in zip(rows, present, strict=True) if not there]
    write_table(out, ids, predictor.predict(inputs.to(device)), saved["classes"])
    print(f"written: {out}: classes of {len(ids)} videos, {len(failed)} videos without features")
    for row_id in failed:
        print(f"no features: {row_id}")
    return len(failed)
