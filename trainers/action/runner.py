"""One training run of a recognition method, from data to ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.manifest import Manifest
from trainers.action.correspondence import near_videos
from trainers.action.data import ActionData, EvalSplit
from trainers.action.detection import read_true_noise
from trainers.action.evaluation import blank_metrics, evaluate
from trainers.action.interface import METHODS, Hyperparameters, Predictor
from trainers.action.judging import Judge
from trainers.action.outputs import write_labels
from trainers.bookkeeping import Bookkeeper, Report, common_config, common_results, fit_run
from trainers.finishing import metric_blocks, write_outcome
from trainers.fitting import FitState
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
    truth = read_true_noise(manifest, data.train_ids)
    near = near_videos(manifest.header.dataset)
    judge = Judge(method, settings.hp, data.view, truth, near)

    def observe(predictor: Predictor, state: FitState, phase: str, epoch: int) -> dict[str, Any]:
        every = settings.detect_every
        # Only in the last phase is a method's verdict on its way to the one it ends with.
        last = phase == next(reversed(method.selections))
        if judge.truth is None or not last or not every or epoch % every:
            return {}
        return {"train": judge(predictor, state).metrics}

    return fit_run(
        run,
        method,
        settings.hp,
        seed=settings.seed,
        view=data.view,
        evaluate=lambda predictor, state, name: score_split(predictor, data.splits[name]),
        observe=observe,
        finish=lambda predictor, book: _finish(
            run, settings, manifest, data, judge, predictor, book
        ),
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


def _finish(
    run: Run,
    settings: Settings,
    manifest: Manifest,
    data: ActionData,
    judge: Judge,
    predictor: Predictor,
    book: Bookkeeper,
) -> dict[str, Any]:
    """Judges, predicts, writes everything but the results and returns these; see README."""
    view, hp = data.view, settings.hp
    judgement = judge(predictor, book.state)
    if (own := judgement.own) is not None:
        path = run.path / "labels.h5"
        write_labels(path, data.train_ids, view.classes, own, judgement.loss)
    outcome = write_outcome(run, hp, data, predictor, book)

    def score(epoch: str, name: str) -> dict[str, float | None]:
        return evaluate(outcome.predictions[epoch][name], data.splits[name].labels)

    metrics = metric_blocks(book, score, blank_metrics())
    if judgement.metrics:
        metrics["train"] = judgement.metrics
    return common_results(
        run.config,
        judge.method,
        hp,
        manifest,
        data,
        book,
        outcome.seconds,
        filter=None,
        updates=book.state.values.get("updates", hp.updates(len(view))),
        passes=hp.passes(),
        classes=len(view.classes),
        train_videos=len(view),
        metrics=metrics,
    )
