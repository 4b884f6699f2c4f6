"""Small parsing problems for tests: views with real structure, and a runner that can be killed."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import torch

from trainers.avvp.interface import METHODS, DenseVal, Inputs, TrainView
from trainers.fitting import FitState
from trainers.random import RandomState

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
    kind = METHODS.get(name).hyperparameters
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**({k: v for k, v in SMALL.items() if k in known} | values))


class KilledError(Exception):
    """Raised in place of a kill."""


class Recorder:
    """Stands in for the runner: logs epochs, selects by loss order, can save and interrupt."""

    def __init__(
        self, state: FitState, rng: RandomState, *, interrupt_after: int | None = None
    ) -> None:
        self.state = state
        self.rng = rng
        self.interrupt_after = interrupt_after
        self.epochs: list[tuple[str, int]] = []
        self.logs: list[dict[str, float]] = []
        self.saved: bytes | None = None

    def __call__(self, phase: str, epoch: int, predictor: Any, **log: float) -> bool:
        self.epochs.append((phase, epoch))
        self.logs.append(log)
        # Alternating verdicts exercise both branches of methods that use the selected weights.
        selected = epoch % 2 == 1
        if selected:
            self.state.select(phase, predictor)
        if self.interrupt_after is not None and len(self.epochs) == self.interrupt_after:
            buffer = io.BytesIO()
            torch.save((self.state.state_dict(), self.rng.state_dict()), buffer)
            self.saved = buffer.getvalue()
            raise KilledError
        return selected


def fit(
    name: str,
    view: TrainView,
    hp: Any,
    seed: int = 0,
    *,
    resume: bytes | None = None,
    interrupt_after: int | None = None,
) -> tuple[Any, FitState, Recorder]:
    """Fits a registered method as the runner would.

    Returns:
        The predictor (None if interrupted), the fit state and the recorder.
    """
    rng, state = RandomState(seed), FitState()
    with rng.scope():
        recorder = Recorder(state, rng, interrupt_after=interrupt_after)
        if resume is not None:
            saved_state, saved_rng = torch.load(io.BytesIO(resume), weights_only=True)
            state.load_state_dict(saved_state)
            rng.load_state_dict(saved_rng)
        try:
            predictor = METHODS.get(name)().fit(view, hp, rng=rng, state=state, on_epoch=recorder)
        except KilledError:
            predictor = None
    return predictor, state, recorder
