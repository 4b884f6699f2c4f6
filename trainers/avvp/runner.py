"""One training run of a parsing method, from data to ``results.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.manifest import Manifest
from trainers.avvp.data import ParsingData
from trainers.avvp.evaluation import blank_metrics, evaluate
from trainers.avvp.interface import METHODS, Hyperparameters, Method, Prediction, Predictor
from trainers.avvp.outputs import write_labels, write_verdict
from trainers.bookkeeping import Bookkeeper, common_config, common_results, fit_run
from trainers.detection import detection_metrics
from trainers.finishing import Outcome, metric_blocks, write_outcome
from trainers.fitting import FitState
from trainers.roles import predict_split
from trainers.runs import CHECKPOINT_SECONDS, Run

__all__ = ["Settings", "most_frequent_class", "train"]


@dataclass(frozen=True)
class Settings:
    """What to train and how; everything here but ``threads`` names the run.

    Attributes:
        method: Registered name.
        hp: Its hyper-parameters.
        seed: Seeds initialisation, data order, dropout and the method's own draws.
        schedule: ``"paper"`` or ``"demo"``, already applied to ``hp``; recorded.
        filter: Prediction filter; the method's own by default.
        missing: What becomes of clips without features.
        never_visible: Class deleted from visual predictions in the extra metrics.
        threads: CPU threads.
    """

    method: str
    hp: Hyperparameters
    seed: int
    schedule: str
    filter: str
    missing: str
    never_visible: str
    threads: int | None = None


def train(
    settings: Settings,
    manifest: Manifest,
    data: ParsingData,
    runs: Path,
    *,
    paths: Mapping[str, str] | None = None,
    report: Any = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Run:
    """Trains one method with one seed, or finds that this was done, or goes on where it stopped.

    Args:
        settings: What to train.
        manifest: Where the data came from.
        data: See `trainers.avvp.data.load_data`.
        runs: Folder of all runs.
        paths: Recorded in ``config.json``.
        report: Called with (phase, epoch, log) after every epoch.
        checkpoint_seconds: Least time between two resume points.

    Returns:
        The finished run.
    """
    method = METHODS.get(settings.method)
    run = Run(runs, _config(settings, manifest, data))

    def evaluated(predictor: Predictor, state: FitState, name: str) -> dict[str, Any]:
        split = data.splits[name]
        # A method rewarded on part of the validation clips is selected on the others.
        unseen = state.values.get("selection_rows") if name == "val" else None
        if unseen is not None:
            split = split.subset(unseen)
        return evaluate(predict_split(predictor, split), split, settings.filter)

    def finish(predictor: Predictor, book: Bookkeeper) -> dict[str, Any]:
        return _finish(run, settings, manifest, data, method, predictor, book)

    return fit_run(
        run,
        method,
        settings.hp,
        seed=settings.seed,
        view=data.view,
        evaluate=evaluated,
        finish=finish,
        threads=settings.threads,
        paths=paths,
        report=report,
        checkpoint_seconds=checkpoint_seconds,
    )


def most_frequent_class(manifest: Manifest) -> str:
    """The class with the most training labels: the default for "never visible" (LLP: Speech)."""
    rows = manifest.split("train") or manifest.rows
    counts = manifest.label_matrix(rows).sum(0)
    return manifest.classes[int(np.argmax(counts))]


def _config(settings: Settings, manifest: Manifest, data: ParsingData) -> dict[str, Any]:
    common = common_config(
        "avvp", settings.method, settings.seed, settings.schedule, settings.hp, manifest, data
    )
    return common | {
        "filter": settings.filter,
        "missing": settings.missing,
        "never_visible": settings.never_visible,
    }


def _finish(
    run: Run,
    settings: Settings,
    manifest: Manifest,
    data: ParsingData,
    method: type[Method],
    predictor: Predictor,
    book: Bookkeeper,
) -> dict[str, Any]:
    """Predicts with the last and the selected weights and writes everything but the results."""
    keep = method().keep_scores(predictor, data.view, settings.hp, book.state)
    outcome = write_outcome(run, settings.hp, data, predictor, book, filter=settings.filter)
    write_verdict(run.path / "denoiser.json", data.view.classes, book.state.values)
    results = _results(run, settings, manifest, data, method, outcome, book)
    if keep is not None:
        write_labels(run.path / "labels.h5", data.train_ids, data.view.classes, keep)
        if detection := detection_metrics(manifest, data.train_ids, keep):
            results["metrics"]["train"] = detection
    return results


def _results(
    run: Run,
    settings: Settings,
    manifest: Manifest,
    data: ParsingData,
    method: type[Method],
    outcome: Outcome,
    book: Bookkeeper,
) -> dict[str, Any]:
    """The content of ``results.json``; see README, "Results"."""
    never = manifest.classes.index(settings.never_visible) if settings.never_visible else None

    def metrics(filter_name: str, hidden: int | None = None) -> dict[str, Any]:
        def score(epoch: str, name: str) -> dict[str, Any]:
            prediction = outcome.predictions[epoch][name]
            if hidden is not None:
                prediction = _without_visual(prediction, hidden)
            return evaluate(prediction, data.splits[name], filter_name)

        # Only the method's own filter is scored in every epoch.
        own = filter_name == settings.filter and hidden is None
        return metric_blocks(book, score, blank_metrics(), oracle=own)

    return common_results(
        run.config,
        method,
        settings.hp,
        manifest,
        data,
        book,
        outcome.seconds,
        filter=settings.filter,
        updates=settings.hp.updates(len(data.view)),
        metrics=metrics(settings.filter),
        metrics_modality=metrics("modality"),
        metrics_never_visible={
            "class": settings.never_visible,
            **metrics(settings.filter, never),
        },
    )


def _without_visual(prediction: Prediction, column: int) -> Prediction:
    """The prediction with one class deleted from the picture."""
    visual, visual_clip = prediction.visual.copy(), prediction.visual_clip.copy()
    visual[:, :, column] = 0
    visual_clip[:, column] = 0
    return dataclasses.replace(prediction, visual=visual, visual_clip=visual_clip)
