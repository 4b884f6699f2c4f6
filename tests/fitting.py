"""What stands in for the runner in tests of methods: it can be killed and resumed."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import torch

from trainers.fitting import FitState
from trainers.random import RandomState

__all__ = ["KilledError", "Recorder", "fit_method", "small"]


def small(kind: type, defaults: dict[str, Any], **values: Any) -> Any:
    """Hyper-parameters of a method; of the defaults, those that it has."""
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**({k: v for k, v in defaults.items() if k in known} | values))


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


def fit_method(
    method: type,
    view: Any,
    hp: Any,
    seed: int = 0,
    *,
    resume: bytes | None = None,
    interrupt_after: int | None = None,
) -> tuple[Any, FitState, Recorder]:
    """Fits a method as the runner would.

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
            predictor = method().fit(view, hp, rng=rng, state=state, on_epoch=recorder)
        except KilledError:
            predictor = None
    return predictor, state, recorder
