"""``checkpoint.pt``: the weights of a finished run and what they need to predict again."""

from __future__ import annotations

import dataclasses
import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from features.store import Store
from pipeline.errors import UserError
from pipeline.registry import Registry
from trainers.bookkeeping import Weights
from trainers.options import resolve
from trainers.runs import save_torch

__all__ = [
    "build_saved",
    "check_classes",
    "check_widths",
    "moved",
    "read_checkpoint",
    "save_checkpoint",
    "say_other_features",
]


def save_checkpoint(
    folder: Path, config: Mapping[str, Any], hp: Any, view: Any, weights: Weights, **own: Any
) -> None:
    """Writes a run's ``checkpoint.pt``, which loads with ``weights_only``.

    Args:
        folder: Of the run.
        config: The run's; its task, method and features are kept.
        hp: Hyper-parameters.
        view: Gives widths and classes.
        weights: Of the last and the selected epoch.
        **own: More plain values.
    """
    kept = {key: config[key] for key in ("task", "method", "features")}
    save_torch(
        {
            "schema": 1,
            **kept,
            **own,
            "hyperparameters": dataclasses.asdict(hp),
            "widths": view.inputs.widths,
            "classes": list(view.classes),
            "last": weights.last,
            "selected": weights.selected,
        },
        folder / "checkpoint.pt",
    )


def read_checkpoint(path: Path, task: str, device: torch.device) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, or None if the file is not of this task or not ours.

    Nothing in it can run.
    """
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError):
        return None
    return saved if isinstance(saved, dict) and saved.get("task") == task else None


def build_saved(
    path: Path,
    saved: Mapping[str, Any],
    registry: Registry[Any],
    *,
    method: str | None,
    which: str,
    device: torch.device,
) -> tuple[type[Any], Any]:
    """The method and the predictor of a checkpoint.

    Args:
        path: For errors.
        saved: What `read_checkpoint` gave.
        registry: The task's methods.
        method: What the user said it holds, or None.
        which: ``"selected"`` or ``"last"``.
        device: Where to predict.

    Raises:
        UserError: If it holds another method.
    """
    kind = registry.get(saved["method"])
    if method is not None and method != kind.name:
        raise UserError(f"{path} holds weights of {kind.name}, not {method}; leave --method out.")
    hp = resolve(kind.hyperparameters(), saved["hyperparameters"])
    predictor = kind().build(saved["widths"], tuple(saved["classes"]), hp)
    predictor.load_state_dict(saved[which])
    return kind, moved(predictor, device)


def moved(predictor: Any, device: torch.device) -> Any:
    """The predictor with its networks, where it has any, on a device."""
    for part in vars(predictor).values():
        if isinstance(part, torch.nn.Module):
            part.to(device)
    return predictor


def check_classes(trained: tuple[str, ...], given: tuple[str, ...], where: Any) -> None:
    """Holds a manifest to the classes that weights were trained for.

    Raises:
        UserError: If they differ.
    """
    if given != trained:
        raise UserError(
            f"The weights were trained for {len(trained)} classes that are not those of "
            f"{where}; use a manifest of the same classes in the same order."
        )


def check_widths(saved: Mapping[str, Any], given: Mapping[str, int]) -> None:
    """Holds features to those that weights were trained on.

    Args:
        saved: Of the weights: ``features``, role to name, and ``widths``, role to width. Weights
            that read no features fit any.
        given: Role to width of the features to predict from.

    Raises:
        UserError: If a role or a width differs.
    """
    features = saved["features"]
    for role, name in features.items():
        width = saved["widths"][role]
        if role not in given:
            raise UserError(
                f"These weights were trained with {role} features ({name}); "
                f"add --features {role}=NAME."
            )
        if given[role] != width:
            raise UserError(
                f"These weights read {role} features {width} wide ({name}) and the store's are "
                f"{given[role]} wide; choose the feature with --features."
            )
    if features and (more := [role for role in given if role not in features]):
        raise UserError(
            f"These weights were trained without {more[0]} features; leave {more[0]}=NAME out of "
            "--features."
        )


def say_other_features(saved: Mapping[str, Any], roles: Mapping[str, str], store: Store) -> None:
    """Tells on standard error which features are not those that weights were trained on.

    Args:
        saved: Of the weights: ``features``, role to ``name-specid``. Released weights know names
            alone, which tell too little to compare.
        roles: Role to feature to predict from.
        store: Where those are.

    Raises:
        UserError: If one is not there.
    """
    trained = {r: f for r, f in saved["features"].items() if re.search("-[0-9a-f]{12}$", f)}
    given = {role: store.find(roles[role]).label for role in trained if role in roles}
    others = [role for role in given if given[role] != trained[role]]
    if others:
        print(
            f"these weights were trained on {' '.join(f'{r}={trained[r]}' for r in others)} and "
            f"are given {' '.join(f'{r}={given[r]}' for r in others)}; what they predict from "
            "other features means little",
            file=sys.stderr,
        )
