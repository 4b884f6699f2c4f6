"""One training run of a recognition method, from data to ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.manifest import Manifest
from trainers.action.correspondence import NEIGHBOURS
from trainers.action.data import ActionData, EvalSplit
from trainers.action.detection import TrueNoise, detection, pair_weights, read_true_noise
from trainers.action.evaluation import blank_metrics, evaluate
from trainers.action.interface import METHODS, Hyperparameters, Method, Predictor, Verdict
from trainers.action.outputs import write_labels
from trainers.action.training import per_video_loss
from trainers.bookkeeping import (
    Bookkeeper,
    Report,
    Weights,
    common_config,
    common_results,
    fit_run,
)
from trainers.checkpoints import save_checkpoint
from trainers.fitting import FitState
from trainers.outputs import write_predictions
from trainers.roles import predict_split
from trainers.runs import CHECKPOINT_SECONDS, Run

__all__ = ["Settings", "score_split", "train"]


@dataclass(frozen=True)
class Settings:
    """What to train and how; everything here but ``threads`` and ``detect_every`` names the run.

    Attributes:
        method: Registered name.
        hp: Its hyper-parameters.
        seed: Seeds initialisation, data order, dropout and the method's own draws.
        schedule: ``"paper"`` or ``"demo"``, already applied to ``hp``; recorded.
        missing: What becomes of videos without features.
        threads: CPU threads.
        detect_every: Epochs from one look at noise detection to the next; 0 looks at the end only.
    """

    method: str
    hp: Hyperparameters
    seed: int
    schedule: str
    missing: str
    threads: int | None = None
    detect_every: int = 1


def train(
    settings: Settings,
    manifest: Manifest,
    data: ActionData,
    runs: Path,
    *,
    paths: Mapping[str, str] | None = None,
    report: Report | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Run:
    """Trains one method with one seed, or finds that this was done, or goes on where it stopped.

    Args:
        settings: What to train.
        manifest: Where the data came from.
        data: See `trainers.action.data.load_data`.
        runs: Folder of all runs.
        paths: Recorded in ``config.json``.
        report: Told of every epoch.
        checkpoint_seconds: Least time between two resume points.

    Returns:
        The finished run.
    """
    method = METHODS.get(settings.method)
    common = common_config(
        "action", settings.method, settings.seed, settings.schedule, settings.hp, manifest, data
    )
    run = Run(runs, common | {"missing": settings.missing})
    if run.done:
        return run
    judge = _Judge(method, settings.hp, data, read_true_noise(manifest, data.train_ids))

    def observe(predictor: Predictor, state: FitState, phase: str, epoch: int) -> dict[str, Any]:
        every = settings.detect_every
        # Only in the last phase is a method's verdict on its way to the one it ends with.
        last = phase == next(reversed(method.selections))
        if judge.truth is None or not last or not every or epoch % every:
            return {}
        return {"train": judge(predictor, state).metrics}

    def finish(predictor: Predictor, book: Bookkeeper) -> dict[str, Any]:
        weights = Weights.of(predictor, book)
        verdict = judge(predictor, book.state)
        if verdict.own is not None:
            write_labels(
                run.path / "labels.h5",
                data.train_ids,
                data.view.classes,
                verdict.own,
                verdict.loss,
            )
        predictions = weights.by_epoch(
            predictor,
            lambda trained: {n: predict_split(trained, split) for n, split in data.splits.items()},
        )
        seconds = book.elapsed()
        ids = {name: split.ids for name, split in data.splits.items()}
        write_predictions(run.path / "predictions.h5", ids, predictions)
        save_checkpoint(run.path, run.config, settings.hp, data.view, weights)
        scores = {
            epoch: {n: evaluate(found, data.splits[n].labels) for n, found in by_split.items()}
            for epoch, by_split in predictions.items()
        }
        return _results(
            run, settings, manifest, data, method, scores, verdict.metrics, book, seconds
        )

    return fit_run(
        run,
        method,
        settings.hp,
        seed=settings.seed,
        view=data.view,
        evaluate=lambda predictor, state, name: score_split(predictor, data.splits[name]),
        observe=observe,
        finish=finish,
        threads=settings.threads,
        paths=paths,
        report=report,
        checkpoint_seconds=checkpoint_seconds,
    )


def score_split(predictor: Predictor, split: EvalSplit) -> dict[str, float | None]:
    """The three numbers of a split, or blanks where it has no videos."""
    if not len(split.ids):
        return blank_metrics()
    return evaluate(predict_split(predictor, split), split.labels)


@dataclass(frozen=True)
class _Judgement:
    """What a method thinks of the training data, and how right it is.

    Attributes:
        own: The method's verdict; None if it judges nothing.
        loss: (N,) cross-entropy of every training label.
        metrics: See `trainers.action.detection.detection`; empty where no truth is known.
    """

    own: Verdict | None
    loss: np.ndarray
    metrics: dict[str, float]


@dataclass(frozen=True)
class _Judge:
    """Asks a predictor about the training data; the truth stays here."""

    method: type[Method]
    hp: Hyperparameters
    data: ActionData
    truth: TrueNoise | None

    def __call__(self, predictor: Predictor, state: FitState) -> _Judgement:
        view = self.data.view
        own = self.method().verdict(predictor, view, self.hp, state)
        if own is None and self.truth is None:
            return _Judgement(None, np.zeros(0, dtype=np.float32), {})
        loss = per_video_loss(predictor.predict(view.inputs), view.labels)
        if self.truth is None:
            return _Judgement(own, loss, {})
        verdict = Verdict() if own is None else own
        weights = verdict.weights
        if weights is None and self.truth.altered.any():
            near = getattr(self.hp, "neighbor_count", NEIGHBOURS)
            weights = pair_weights(predictor, view.inputs, neighbours=near)
        return _Judgement(own, loss, detection(self.truth, loss, verdict, weights))


def _results(
    run: Run,
    settings: Settings,
    manifest: Manifest,
    data: ActionData,
    method: type[Method],
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]],
    found: Mapping[str, float],
    book: Bookkeeper,
    seconds: float,
) -> dict[str, Any]:
    """The content of ``results.json``; see README, "Results"."""
    selection = book.selection()
    # Without validation videos no epoch is better than another.
    selected = blank_metrics() if selection["value"] is None else scores["selected"]["test"]
    passes, steps = settings.hp.passes(), settings.hp.steps_per_epoch(len(data.view))
    metrics: dict[str, Any] = {
        "val": dict(scores["selected"]["val"]),
        "test": {
            "last": dict(scores["last"]["test"]),
            "selected": dict(selected),
            "oracle": book.oracle.metrics or blank_metrics(),
        },
    }
    if found:
        metrics["train"] = dict(found)
    return common_results(
        run.config,
        method,
        settings.hp,
        manifest,
        data.view.inputs.device,
        book,
        seconds,
        filter=None,
        updates=book.state.values.get("updates", passes * steps),
        passes=passes,
        classes=len(data.view.classes),
        train_videos=len(data.view),
        metrics=metrics,
    )
