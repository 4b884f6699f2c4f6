"""What a recognition method thinks of its training data, and how right it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainers.action.correspondence import NEIGHBOURS
from trainers.action.detection import TrueNoise, detection, pair_weights
from trainers.action.interface import Hyperparameters, Method, Predictor, TrainView, Verdict
from trainers.action.training import per_video_loss
from trainers.fitting import FitState

__all__ = ["Judge", "Judgement"]


@dataclass(frozen=True)
class Judgement:
    """What a method thinks of the training data, and how right it is.

    Attributes:
        own: The method's verdict; None if it judges nothing.
        loss: (N,) cross-entropy of every training label; empty where nothing is judged.
        metrics: See `trainers.action.detection.detection`; empty where no truth is known.
    """

    own: Verdict | None
    loss: np.ndarray
    metrics: dict[str, float]


@dataclass(frozen=True)
class Judge:
    """Asks a predictor about the training data; the truth stays here.

    Attributes:
        method: The algorithm.
        hp: Its hyper-parameters.
        view: The training data, N videos.
        truth: Which of them were altered; None where that is not known.
        neighbours: How many videos are near another when pairs are weighed for a method that
            weighs none: as many for all methods, whatever they call near, or their scores could
            not be compared.
    """

    method: type[Method]
    hp: Hyperparameters
    view: TrainView
    truth: TrueNoise | None
    neighbours: int = NEIGHBOURS

    def __call__(self, predictor: Predictor, state: FitState) -> Judgement:
        """Judges with a predictor as it stands, at the run's state."""
        own = self.method().verdict(predictor, self.view, self.hp, state)
        if own is None and self.truth is None:
            return Judgement(None, np.zeros(0, dtype=np.float32), {})
        loss = per_video_loss(predictor.predict(self.view.inputs), self.view.labels)
        if self.truth is None:
            return Judgement(own, loss, {})
        verdict = Verdict() if own is None else own
        weights = verdict.weights
        if weights is None and self.truth.altered.any():
            weights = pair_weights(predictor, self.view.inputs, neighbours=self.neighbours)
        return Judgement(own, loss, detection(self.truth, loss, verdict, weights))
