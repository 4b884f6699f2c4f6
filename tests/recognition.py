"""Small recognition problems for tests: views with real structure."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tests.fitting import fit_method, small
from trainers.action.interface import METHODS, Inputs, KnownNoise, TrainView

__all__ = ["OWN", "SMALL", "WIDTHS", "fit", "make_inputs", "make_view", "small_settings"]

WIDTHS = {"visual": 20, "audio": 12}
CLIPS = 3
SMALL = {
    "width": 16,
    "batch_size": 8,
    "epochs": 2,
    "estimate_epochs": 2,
    "mrl_hidden": 16,
    "atoms": 12,
    "avr_iters": 10,
    "policy_width": 16,
    "policy_hidden": 8,
    "warmup": 1,
    "neighbor_count": 4,
}
"""Sizes that tests can afford; each method takes what it knows."""
OWN = {"adamml": {"epochs": 4, "main_epochs": 1, "final_epochs": 1}}
"""What a method needs beside them to go through all of its stages."""


def make_inputs(
    labels: np.ndarray,
    *,
    seed: int,
    heard: np.ndarray | None = None,
    clips: int = CLIPS,
    noise: float = 0.7,
    missing: float = 0.0,
) -> Inputs:
    """Features in which every class has its own direction in each modality.

    Args:
        labels: (N,) what is seen.
        seed: Of the noise; directions are the same for all seeds.
        heard: (N,) what is heard; None hears what is seen.
        clips: S.
        noise: Deviation of a clip's features around its class.
        missing: Share of clips that are not valid; the first one always is.
    """
    directions = np.random.default_rng(99)
    rng = np.random.default_rng(seed)
    n, tensors = len(labels), {}
    valid = rng.random((n, clips)) >= missing
    valid[:, 0] = True
    for role, width in WIDTHS.items():
        basis = directions.standard_normal((50, width))
        shown = basis[labels if role == "visual" or heard is None else heard][:, None]
        x = (shown + noise * rng.standard_normal((n, clips, width))) * valid[..., None]
        tensors[role] = torch.from_numpy(x.astype(np.float32))
    return Inputs(tensors["visual"], tensors["audio"], torch.from_numpy(valid))


def make_view(
    n: int = 24,
    classes: int = 5,
    seed: int = 0,
    *,
    flipped: float = 0.25,
    clips: int = CLIPS,
    missing: float = 0.2,
) -> TrainView:
    """A training view of N videos in which some labels are wrong and every other one has a group.

    What methods may be told of the noise is told to all.
    """
    rng = np.random.default_rng(seed)
    clean = np.arange(n) % classes
    labels = clean.copy()
    wrong = rng.permutation(n)[: int(flipped * n)]
    labels[wrong] = (labels[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return TrainView(
        inputs=make_inputs(clean, seed=seed, clips=clips, missing=missing),
        labels=torch.from_numpy(labels),
        groups=torch.arange(n) // 2,
        classes=tuple(f"class {c}" for c in range(classes)),
        noise=KnownNoise("symmetric", len(wrong) / n),
    )


def small_settings(name: str, **values: Any) -> Any:
    """A method's hyper-parameters at a width and length that tests can afford."""
    own = {} if "epochs" in values else OWN.get(name, {})
    return small(METHODS.get(name).hyperparameters, SMALL | own, **values)


def fit(name: str, view: TrainView, hp: Any, seed: int = 0, **options: Any) -> Any:
    """Fits a registered method; see `tests.fitting.fit_method`."""
    return fit_method(METHODS.get(name), view, hp, seed, **options)
