"""One training run of a parsing method, from data to ``results.json``."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.manifest import Manifest
from trainers.avvp.data import EvalSplit, ParsingData, noise_of
from trainers.avvp.evaluation import blank_metrics, evaluate, predict_split
from trainers.avvp.interface import METHODS, Hyperparameters, Method, Prediction, Predictor
from trainers.avvp.outputs import write_labels, write_predictions, write_verdict
from trainers.detection import detection_metrics
from trainers.fitting import FitState, Selection
from trainers.random import RandomState
from trainers.runs import CHECKPOINT_SECONDS, Run, peak_memory_bytes, save_torch

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
    if run.done:
        return run
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = data.view.inputs.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    run.begin(paths=paths or {})
    rng = RandomState(settings.seed)
    state = FitState()
    with rng.scope():
        book = _Bookkeeper(run, method, settings, data, state, rng, report, checkpoint_seconds)
        book.resume(device)
        predictor = method().fit(data.view, settings.hp, rng=rng, state=state, on_epoch=book)
    _finish(run, settings, manifest, data, method, predictor, state, book)
    return run


def most_frequent_class(manifest: Manifest) -> str:
    """The class with the most training labels: the default for "never visible" (LLP: Speech)."""
    rows = manifest.split("train") or manifest.rows
    counts = manifest.label_matrix(rows).sum(0)
    return manifest.classes[int(np.argmax(counts))]


def _config(settings: Settings, manifest: Manifest, data: ParsingData) -> dict[str, Any]:
    annotations = manifest.header.annotations
    return {
        "task": "avvp",
        "method": settings.method,
        "seed": settings.seed,
        "schedule": settings.schedule,
        "filter": settings.filter,
        "missing": settings.missing,
        "never_visible": settings.never_visible,
        "hyperparameters": dataclasses.asdict(settings.hp),
        "dataset": manifest.header.dataset,
        "manifest": manifest.content_digest(),
        "annotations": None if annotations is None else annotations["digest"],
        "rows": data.rows_digest,
        "features": data.features,
        "noise": noise_of(manifest),
    }


@dataclass
class _Best:
    """The best epoch by one rule."""

    epoch: int = 0
    value: float | None = None
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Bookkeeper:
    """The runner's side of `trainers.fitting.OnEpoch`: metrics, selection, resume points."""

    run: Run
    method: type[Method]
    settings: Settings
    data: ParsingData
    state: FitState
    rng: RandomState
    report: Any
    checkpoint_seconds: float
    best: dict[str, _Best] = field(default_factory=dict)
    oracle: _Best = field(default_factory=_Best)
    lines: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._begin = self._saved = time.monotonic()

    @property
    def phase(self) -> str | None:
        """The phase whose selected epoch is reported: the last one."""
        return next(reversed(self.method.selections), None)

    def __call__(self, phase: str, epoch: int, predictor: Predictor, **log: float) -> bool:
        """See `trainers.fitting.OnEpoch`."""
        rule = self.method.selections[phase]
        val = self._evaluate(predictor, "val")
        value = val[rule.metric]
        best = self.best.setdefault(phase, _Best())
        selected = value is None or rule.better(value, best.value)
        if selected:
            self.best[phase] = _Best(epoch, value, val)
            self.state.select(phase, predictor)
        line: dict[str, Any] = {"phase": phase, "epoch": epoch, "selected": selected, **log}
        line["val"] = val
        if phase == self.phase:
            line["test"] = self._test(predictor, epoch, rule)
        line["seconds"] = round(self.elapsed(), 3)
        self.run.log(line)
        self.lines += 1
        if self.report is not None:
            self.report(phase, epoch, line)
        if time.monotonic() - self._saved >= self.checkpoint_seconds:
            self.save()
        return selected

    def _evaluate(self, predictor: Predictor, name: str) -> dict[str, Any]:
        split = self.data.splits[name]
        # A method rewarded on part of the validation clips is selected on the others.
        unseen = self.state.values.get("selection_rows") if name == "val" else None
        if unseen is not None:
            split = split.subset(unseen)
        return evaluate(predict_split(predictor, split), split, self.settings.filter)

    def _test(self, predictor: Predictor, epoch: int, rule: Selection) -> dict[str, Any]:
        test = self._evaluate(predictor, "test")
        value = test[rule.metric]
        if value is not None and rule.better(value, self.oracle.value):
            self.oracle = _Best(epoch, value, test)
        return test

    def elapsed(self) -> float:
        """Seconds of training, earlier parts of an interrupted run counted in."""
        return self.seconds + time.monotonic() - self._begin

    def save(self) -> None:
        """Writes the point that an interrupted run resumes from."""
        self._saved = time.monotonic()
        save_torch(
            {
                "fit": self.state.state_dict(),
                "rng": self.rng.state_dict(),
                "best": {phase: dataclasses.asdict(best) for phase, best in self.best.items()},
                "oracle": dataclasses.asdict(self.oracle),
                "lines": self.lines,
                "seconds": self.elapsed(),
            },
            self.run.path / "resume.pt",
        )

    def resume(self, device: torch.device) -> None:
        """Goes back to the saved point, or to the beginning if there is none."""
        path = self.run.path / "resume.pt"
        if path.exists():
            saved = torch.load(path, map_location=device, weights_only=True)
            self.state.load_state_dict(saved["fit"])
            self.rng.load_state_dict(saved["rng"])
            self.best = {phase: _Best(**best) for phase, best in saved["best"].items()}
            self.oracle = _Best(**saved["oracle"])
            self.lines = saved["lines"]
            self.seconds = saved["seconds"]
        self.run.truncate_log(self.lines)


def _copy(state: Any) -> Any:
    """A state dict whose tensors no longer change with the network."""
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {key: _copy(value) for key, value in state.items()}
    return state


def _finish(
    run: Run,
    settings: Settings,
    manifest: Manifest,
    data: ParsingData,
    method: type[Method],
    predictor: Predictor,
    state: FitState,
    book: _Bookkeeper,
) -> None:
    """Predicts with the last and the selected weights and writes everything."""
    last = _copy(predictor.state_dict())
    selected = state.selected(book.phase) if book.phase else None
    keep = method().keep_scores(predictor, data.view, settings.hp, state)
    predictions: dict[str, dict[str, Prediction]] = {}
    for epoch, weights in (("last", last), ("selected", selected)):
        if weights is not None:
            predictor.load_state_dict(weights)
        predictions[epoch] = {
            name: predict_split(predictor, split) for name, split in data.splits.items()
        }
    seconds = book.elapsed()
    write_predictions(run.path / "predictions.h5", data.splits, predictions)
    detection: dict[str, Any] = {}
    if keep is not None:
        write_labels(run.path / "labels.h5", data.train_ids, data.view.classes, keep)
        detection = detection_metrics(manifest, data.train_ids, keep)
    save_torch(
        {
            "schema": 1,
            "task": "avvp",
            "method": settings.method,
            "hyperparameters": dataclasses.asdict(settings.hp),
            "widths": data.view.inputs.widths,
            "classes": list(data.view.classes),
            "features": data.features,
            "filter": settings.filter,
            "last": last,
            "selected": last if selected is None else selected,
        },
        run.path / "checkpoint.pt",
    )
    write_verdict(run.path / "denoiser.json", data.view.classes, state.values)
    results = _results(settings, manifest, data, method, predictions, book, seconds)
    if detection:
        results["metrics"]["train"] = detection
    run.finish(results)


def _results(
    settings: Settings,
    manifest: Manifest,
    data: ParsingData,
    method: type[Method],
    predictions: Mapping[str, Mapping[str, Prediction]],
    book: _Bookkeeper,
    seconds: float,
) -> dict[str, Any]:
    """The content of ``results.json``; see README, "Results"."""
    never = manifest.classes.index(settings.never_visible) if settings.never_visible else None

    def metrics(filter_name: str, hidden: int | None = None) -> dict[str, Any]:
        def of(epoch: str, split: EvalSplit, name: str) -> dict[str, Any]:
            prediction = predictions[epoch][name]
            if hidden is not None:
                prediction = _without_visual(prediction, hidden)
            return evaluate(prediction, split, filter_name)

        val, test = data.splits["val"], data.splits["test"]
        return {
            "val": of("selected", val, "val"),
            "test": {
                "last": of("last", test, "test"),
                "selected": of("selected", test, "test"),
                # Only the method's own filter is scored in every epoch.
                "oracle": book.oracle.metrics
                if filter_name == settings.filter and hidden is None and book.oracle.metrics
                else blank_metrics(),
            },
        }

    phase = book.phase
    best = book.best.get(phase) if phase else None
    annotations = manifest.header.annotations or {}
    steps = getattr(settings.hp, "epochs", 0)
    return {
        "schema": 1,
        "task": "avvp",
        "method": settings.method,
        "seed": settings.seed,
        "as_released": bool(getattr(settings.hp, "as_released", False)),
        "supervision": method.supervision,
        "needs": sorted(method.needs),
        "filter": settings.filter,
        "annotations": annotations.get("version") or annotations.get("digest"),
        "schedule": settings.schedule,
        "updates": steps * settings.hp.steps_per_epoch(len(data.view)) if steps else 0,
        "dataset": manifest.header.dataset,
        "features": data.features,
        "noise": noise_of(manifest),
        "metrics": metrics(settings.filter),
        "metrics_modality": metrics("modality"),
        "metrics_never_visible": {
            "class": settings.never_visible,
            **metrics(settings.filter, never),
        },
        "selection": {
            "metric": method.selections[phase].metric if phase else None,
            "epoch": best.epoch if best else None,
            "value": best.value if best else None,
            "oracle_epoch": book.oracle.epoch or None,
        },
        "seconds": round(seconds, 3),
        "peak_memory_bytes": peak_memory_bytes(data.view.inputs.device),
        "threads": torch.get_num_threads(),
    }


def _without_visual(prediction: Prediction, column: int) -> Prediction:
    """The prediction with one class deleted from the picture."""
    visual, visual_clip = prediction.visual.copy(), prediction.visual_clip.copy()
    visual[:, :, column] = 0
    visual_clip[:, column] = 0
    return dataclasses.replace(prediction, visual=visual, visual_clip=visual_clip)
