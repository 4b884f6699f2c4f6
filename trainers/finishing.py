"""The end of a training run, alike for all tasks: predictions, weights, and what is scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainers.bookkeeping import Bookkeeper, Weights, diverged
from trainers.checkpoints import save_checkpoint
from trainers.data import RunData
from trainers.outputs import write_predictions
from trainers.roles import predict_split
from trainers.runs import Run

__all__ = ["Outcome", "metric_blocks", "write_outcome"]


@dataclass(frozen=True)
class Outcome:
    """What a trained run predicts.

    Attributes:
        predictions: By epoch (``last``, ``selected``) and split, of N rows.
        seconds: Of training and predicting.
    """

    predictions: dict[str, dict[str, Any]]
    seconds: float


def write_outcome(
    run: Run, hp: Any, data: RunData[Any, Any], predictor: Any, book: Bookkeeper, **own: Any
) -> Outcome:
    """Predicts with the last and the selected weights and writes both, predictions and weights.

    Args:
        run: Gets ``predictions.h5`` and ``checkpoint.pt``.
        hp: Hyper-parameters.
        data: Of the run.
        predictor: Has its last weights now, and the selected ones afterwards.
        book: Of the run.
        **own: More plain values for the checkpoint.

    Raises:
        UserError: If a prediction is not a number.
    """
    weights = Weights.of(predictor, book)

    def predict(trained: Any) -> dict[str, Any]:
        return {name: predict_split(trained, split) for name, split in data.splits.items()}

    predictions = weights.by_epoch(predictor, predict)
    _refuse_nan(predictions)
    seconds = book.elapsed()
    ids = {name: split.ids for name, split in data.splits.items()}
    write_predictions(run.path / "predictions.h5", ids, predictions)
    save_checkpoint(run.path, run.config, hp, data.view, weights, **own)
    return Outcome(predictions, seconds)


def _refuse_nan(predictions: Mapping[str, Mapping[str, Any]]) -> None:
    for epoch, by_split in predictions.items():
        for name, prediction in by_split.items():
            arrays = (getattr(prediction, f.name) for f in dataclasses.fields(prediction))
            if any(np.isnan(x).any() for x in arrays):
                raise diverged(f"the {epoch} weights predict {name} with what is no number")


def metric_blocks(
    book: Bookkeeper,
    score: Callable[[str, str], Mapping[str, Any]],
    blank: Mapping[str, Any],
    *,
    oracle: bool = True,
) -> dict[str, Any]:
    """The blocks ``val`` and ``test`` of ``results.json``.

    Args:
        book: Of the run.
        score: Metrics of an epoch (``last``, ``selected``) on a split.
        blank: All keys without a value.
        oracle: Whether the best test epoch was found by these metrics.
    """
    return {
        "val": dict(score("selected", "val")),
        "test": {
            "last": dict(score("last", "test")),
            # Without validation rows no epoch is better than another.
            "selected": dict(blank if book.undecided else score("selected", "test")),
            "oracle": dict((book.oracle.metrics if oracle else None) or blank),
        },
    }
