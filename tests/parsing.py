"""Small parsing problems for tests: views with real structure."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tests.fitting import fit_method, small
from trainers.avvp.interface import METHODS, DenseVal, Inputs, TrainView

WIDTHS = {"audio": 12, "visual": 20, "motion": 8}
SEGMENTS = 10
SMALL = {
    "width": 16,
    "ff": 16,
    "batch_size": 8,
    "epochs": 2,
    "lr_step": 1,
    "episode_length": 2,
}


def make_inputs(
    events: np.ndarray, seed: int, *, motion: bool = True, noise: float = 0.5
) -> Inputs:
    """Features in which every class has its own direction.

    Args:
        events: (N, T, 2, C) bool, audio and visual.
        seed: Of the noise; directions are the same for all seeds.
    """
    directions = np.random.default_rng(99)
    rng = np.random.default_rng(seed)
    tensors = {}
    for role, width in WIDTHS.items():
        basis = directions.standard_normal((events.shape[-1], width))
        shown = events[:, :, 0 if role == "audio" else 1] @ basis
        x = shown + noise * rng.standard_normal((*events.shape[:2], width))
        tensors[role] = torch.from_numpy(x.astype(np.float32))
    return Inputs(tensors["audio"], tensors["visual"], tensors["motion"] if motion else None)


def make_events(n: int, classes: int, seed: int) -> np.ndarray:
    """(N, T, 2, C) bool; the first class is heard in half the clips and seldom seen."""
    rng = np.random.default_rng(seed)
    events = np.zeros((n, SEGMENTS, 2, classes), dtype=bool)
    for i in range(n):
        chosen = rng.choice(np.arange(1, classes), size=rng.integers(1, 3), replace=False)
        if rng.random() < 0.5:
            chosen = np.append(chosen, 0)
        for c in chosen:
            for m in (0, 1):
                if m == 1 and rng.random() < (0.8 if c == 0 else 0.1):
                    continue
                begin = rng.integers(0, 4)
                events[i, begin : begin + rng.integers(4, 8), m, c] = True
        if not events[i].any():
            events[i, :, 0, 0] = True
    return events


def make_view(
    n: int = 24, classes: int = 5, seed: int = 0, *, dense_val: bool = True, motion: bool = True
) -> TrainView:
    """A training view of N clips, with a densely annotated validation split of N // 2."""
    events = make_events(n, classes, seed)
    labels = torch.from_numpy(events.any((1, 2)).astype(np.float32))
    val = make_events(n // 2, classes, seed + 1)
    return TrainView(
        inputs=make_inputs(events, seed, motion=motion),
        labels=labels,
        labels_audio=labels.clone(),
        labels_visual=labels.clone(),
        classes=tuple(f"class {c}" for c in range(classes)),
        dense_val=DenseVal(make_inputs(val, seed + 1, motion=motion), val[:, :, 0], val[:, :, 1])
        if dense_val
        else None,
    )


def small_settings(name: str, **values: Any) -> Any:
    """A method's hyper-parameters at a width and length that tests can afford."""
    return small(METHODS.get(name).hyperparameters, SMALL, **values)


def fit(name: str, view: TrainView, hp: Any, seed: int = 0, **options: Any) -> Any:
    """Fits a registered method; see `tests.fitting.fit_method`."""
    return fit_method(METHODS.get(name), view, hp, seed, **options)
