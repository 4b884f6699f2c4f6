"""What methods of every task promise: checks that the contract tests of all tasks call."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tests.fitting import Recorder, fit_method
from trainers.checkpoints import moved
from trainers.fitting import FitState, Selection
from trainers.options import Hyperparameters

__all__ = [
    "Case",
    "arrays",
    "check_blindness",
    "check_declarations",
    "check_devices_agree",
    "check_losses",
    "check_move",
    "check_prediction",
    "check_resuming",
    "check_round_trip",
    "check_seeds",
    "equal",
]


@dataclass(frozen=True)
class Case:
    """A method with data and settings that tests can afford.

    Attributes:
        method: Its class.
        view: Training data with ``inputs`` and ``classes``.
        hp: Its settings.
    """

    method: type
    view: Any
    hp: Any

    def fit(self, seed: int = 0, **options: Any) -> tuple[Any, FitState, Recorder]:
        """Fits the method; see `tests.fitting.fit_method`."""
        return fit_method(self.method, self.view, self.hp, seed, **options)

    def predict(self, seed: int = 0) -> Any:
        """What the method predicts for the data that it was fitted to."""
        return self.fit(seed)[0].predict(self.view.inputs)

    def build(self) -> Any:
        """An untrained predictor."""
        return self.method().build(self.view.inputs.widths, self.view.classes, self.hp)


def arrays(prediction: Any) -> list[np.ndarray]:
    """The arrays of a prediction, in the order of its fields."""
    return [getattr(prediction, f.name) for f in dataclasses.fields(prediction)]


def equal(one: Any, other: Any) -> bool:
    """Whether two predictions are equal to the bit."""
    pairs = zip(arrays(one), arrays(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def _close(one: Any, other: Any, atol: float) -> None:
    for a, b in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


def check_declarations(method: Any, name: str, needs: Collection[str]) -> None:
    """The class attributes that all tasks read are there.

    Args:
        method: Its class.
        name: What it is registered by.
        needs: All that a method of the task may need.
    """
    assert method.name == name
    assert method.title
    assert method.paper
    assert method.supervision
    assert method.needs <= set(needs)
    assert all(isinstance(rule, Selection) for rule in method.selections.values())
    assert issubclass(method.hyperparameters, Hyperparameters)
    assert method.hyperparameters() == method.hyperparameters()
    if not method.released:
        assert not hasattr(method.hyperparameters(), "as_released")


def check_losses(case: Case, recorder: Recorder) -> None:
    """Finite losses in the phases that are declared, the last of them last."""
    assert recorder.logs
    assert all(math.isfinite(value) for log in recorder.logs for value in log.values())
    assert all("loss" in log for log in recorder.logs)
    declared = list(case.method.selections)
    assert {phase for phase, _ in recorder.epochs} <= set(declared)
    assert recorder.epochs[-1][0] == declared[-1]


def check_seeds(case: Case) -> None:
    """The same seed gives the same predictions to the bit, another seed others."""
    one, again, other = (case.predict(seed) for seed in (3, 3, 4))
    assert equal(one, again)
    assert not equal(one, other)


def check_prediction(case: Case, *, between: Callable[[Any], Any] | None = None) -> None:
    """Predicting changes nothing, and does not depend on what is predicted together.

    Args:
        case: What to fit.
        between: Asks the predictor for something else between two predictions.
    """
    predictor, _, _ = case.fit()
    inputs = case.view.inputs
    before = torch.get_rng_state()
    first = predictor.predict(inputs)
    if between is not None:
        between(predictor)
    assert equal(first, predictor.predict(inputs))
    assert torch.equal(before, torch.get_rng_state())
    singles = [predictor.predict(inputs[i : i + 1]) for i in range(3)]
    few = type(first)(*(array[:3] for array in arrays(first)))
    _close(few, type(first).concatenate(singles), atol=1e-5)


def check_round_trip(case: Case, inputs: Any) -> tuple[Any, Any]:
    """The weights go through a checkpoint.

    Args:
        case: What to fit.
        inputs: What to predict.

    Returns:
        The fitted predictor and the one with the loaded weights.
    """
    predictor, _, _ = case.fit()
    buffer = io.BytesIO()
    torch.save(predictor.state_dict(), buffer)
    buffer.seek(0)
    again = case.build()
    again.load_state_dict(torch.load(buffer, weights_only=True))
    assert equal(predictor.predict(inputs), again.predict(inputs))
    return predictor, again


def check_move(case: Case) -> None:
    """Every network goes to the device that a predictor is sent to."""
    predictor = moved(case.build(), torch.device("meta"))
    weights = predictor.state_dict()
    assert weights
    assert all(value.is_meta for value in weights.values())


def check_resuming(
    case: Case, judge: Callable[[Any, FitState], dict[str, np.ndarray] | None]
) -> None:
    """A run that is killed after any epoch and resumed ends as one that is not.

    Args:
        case: What to fit.
        judge: What the method thinks of the training data after its last epoch.
    """
    inputs = case.view.inputs
    whole, state, recorder = case.fit()
    expected, judged = whole.predict(inputs), judge(whole, state)
    for stop in range(1, len(recorder.epochs) + 1):
        _, _, cut = case.fit(interrupt_after=stop)
        rest, again, after = case.fit(resume=cut.saved)
        where = f"stopped after {cut.epochs[-1]}"
        assert cut.epochs + after.epochs == recorder.epochs
        assert equal(rest.predict(inputs), expected), where
        verdict = judge(rest, again)
        assert (verdict is None) == (judged is None)
        if judged is not None:
            assert verdict.keys() == judged.keys()
            for key, scores in judged.items():
                np.testing.assert_array_equal(verdict[key], scores, err_msg=where)


def check_blindness(case: Case, **hidden: Any) -> None:
    """Hiding something of the training data changes nothing.

    Args:
        case: What to fit.
        **hidden: Fields of the view and what they are replaced by.
    """
    blind = dataclasses.replace(case, view=dataclasses.replace(case.view, **hidden))
    inputs = case.view.inputs
    assert equal(*(c.fit()[0].predict(inputs) for c in (case, blind)))


def check_devices_agree(case: Case, device: torch.device) -> None:
    """Training on another device predicts the same within 1e-4."""
    values = {f.name: getattr(case.view, f.name) for f in dataclasses.fields(case.view)}
    there = {name: x.to(device) for name, x in values.items() if hasattr(x, "to")}
    other = dataclasses.replace(case, view=dataclasses.replace(case.view, **there))
    _close(case.predict(), other.predict(), atol=1e-4)
