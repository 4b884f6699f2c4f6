"""From a predictor to the ten numbers of a split."""

from __future__ import annotations

from trainers.avvp.data import EvalSplit
from trainers.avvp.filters import apply_filter
from trainers.avvp.interface import Prediction
from trainers.tasks import AVVP

__all__ = ["blank_metrics", "evaluate"]


def blank_metrics() -> dict[str, float | None]:
    """All ten keys without a value: no annotations, or not computed."""
    return dict.fromkeys(AVVP.metrics)


def evaluate(prediction: Prediction, split: EvalSplit, filter_name: str) -> dict[str, float | None]:
    """The ten numbers in percent, or blanks where the split has no dense annotations."""
    if split.truth is None:
        return blank_metrics()
    return split.truth.score(*apply_filter(filter_name, prediction))
