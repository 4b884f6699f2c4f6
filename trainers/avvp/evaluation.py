"""From a predictor to the ten numbers of a split."""

from __future__ import annotations

import dataclasses

import numpy as np

from trainers.avvp.data import EvalSplit
from trainers.avvp.filters import apply_filter
from trainers.avvp.interface import Prediction, Predictor
from trainers.results import METRIC_TITLES

__all__ = ["blank_metrics", "evaluate", "predict_split"]


def blank_metrics() -> dict[str, float | None]:
    """All ten keys without a value: no annotations, or not computed."""
    return dict.fromkeys(METRIC_TITLES)


def predict_split(predictor: Predictor, split: EvalSplit) -> Prediction:
    """Predicts a split; clips without features are predicted as nothing.

    Returns:
        A prediction of all N clips, in the split's order.
    """
    there = predictor.predict(split.inputs)
    if split.present.all():
        return there
    whole = {}
    for field in dataclasses.fields(there):
        part = getattr(there, field.name)
        whole[field.name] = np.zeros((len(split.present), *part.shape[1:]), dtype=part.dtype)
        whole[field.name][split.present] = part
    return Prediction(**whole)


def evaluate(prediction: Prediction, split: EvalSplit, filter_name: str) -> dict[str, float | None]:
    """The ten numbers in percent, or blanks where the split has no dense annotations."""
    if split.truth is None:
        return blank_metrics()
    return split.truth.score(*apply_filter(filter_name, prediction))
