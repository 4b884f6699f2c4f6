"""The runner's side of a training run, alike for all tasks: epochs, selection, resume points."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.errors import UserError
from pipeline.manifest import Manifest
from trainers.fitting import FitState, Selection, copied
from trainers.random import RandomState
from trainers.roles import noise_of
from trainers.runs import CHECKPOINT_SECONDS, Run, peak_memory_bytes, save_torch

__all__ = [
    "Best",
    "Bookkeeper",
    "Report",
    "Weights",
    "common_config",
    "common_results",
    "diverged",
    "fit_run",
]

Report = Callable[[str, int, Mapping[str, Any]], None]
"""Called with phase, epoch and the epoch's line of ``metrics.jsonl``."""


@dataclass
class Best:
    """The best epoch by one rule."""

    epoch: int = 0
    value: float | None = None
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass
class Bookkeeper:
    """An `trainers.fitting.OnEpoch` that scores, selects, logs and saves.

    Attributes:
        run: Where lines and resume points go.
        selections: The method's rules by phase.
        state: The run's.
        rng: The run's.
        evaluate: Metrics of a predictor on ``"val"`` or ``"test"``.
        observe: More for an epoch's line, by key, given the phase and the predictor.
        report: Told of every epoch.
        checkpoint_seconds: Least time between two resume points.
        best: The best epoch by phase.
        oracle: The best epoch on test, of the last phase.
        lines: Lines logged.
        seconds: Of the parts of the run that were interrupted.
    """

    run: Run
    selections: Mapping[str, Selection]
    state: FitState
    rng: RandomState
    evaluate: Callable[[Any, str], dict[str, Any]]
    observe: Callable[[str, int, Any], Mapping[str, Any]] | None = None
    report: Report | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    best: dict[str, Best] = field(default_factory=dict)
    oracle: Best = field(default_factory=Best)
    lines: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._begin = self._saved = time.monotonic()

    @property
    def phase(self) -> str | None:
        """The phase whose selected epoch is reported: the last one."""
        return next(reversed(self.selections), None)

    def __call__(self, phase: str, epoch: int, predictor: Any, **log: float) -> bool:
        """See `trainers.fitting.OnEpoch`.

        Raises:
            UserError: If a number to log is not finite.
        """
        for name, number in log.items():
            if not math.isfinite(number):
                raise diverged(f"{name} is {number} after epoch {epoch} of phase {phase}")
        rule = self.selections[phase]
        val = self.evaluate(predictor, "val")
        value = val[rule.metric]
        best = self.best.setdefault(phase, Best())
        selected = value is None or rule.better(value, best.value)
        if selected:
            self.best[phase] = Best(epoch, value, val)
            self.state.select(phase, predictor)
        line: dict[str, Any] = {"phase": phase, "epoch": epoch, "selected": selected, **log}
        line["val"] = val
        if phase == self.phase:
            line["test"] = self._test(predictor, epoch, rule)
        if self.observe is not None:
            line |= self.observe(phase, epoch, predictor)
        line["seconds"] = round(self.elapsed(), 3)
        self.run.log(line)
        self.lines += 1
        if self.report is not None:
            self.report(phase, epoch, line)
        if time.monotonic() - self._saved >= self.checkpoint_seconds:
            self.save()
        return selected

    def _test(self, predictor: Any, epoch: int, rule: Selection) -> dict[str, Any]:
        test = self.evaluate(predictor, "test")
        value = test[rule.metric]
        if value is not None and rule.better(value, self.oracle.value):
            self.oracle = Best(epoch, value, test)
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
        """Goes back to the saved point, or to the beginning if there is none that can be read."""
        path = self.run.path / "resume.pt"
        if path.exists():
            try:
                saved = torch.load(path, map_location=device, weights_only=True)
                fit, rng, lines, seconds = (saved[k] for k in ("fit", "rng", "lines", "seconds"))
                best = {phase: Best(**values) for phase, values in saved["best"].items()}
                oracle = Best(**saved["oracle"])
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                # A file that was cut or overwritten fails in whatever part of torch meets it.
                print(
                    f"{path} cannot be read ({type(error).__name__}); the run starts again from "
                    "its beginning.",
                    file=sys.stderr,
                    flush=True,
                )
            else:
                self.state.load_state_dict(fit)
                self.rng.load_state_dict(rng)
                self.best, self.oracle, self.lines, self.seconds = best, oracle, lines, seconds
        self.run.truncate_log(self.lines)

    @property
    def undecided(self) -> bool:
        """Whether an epoch was to be selected, and no validation metric says which."""
        return self.phase is not None and self.best.get(self.phase, Best()).value is None

    def selection(self) -> dict[str, Any]:
        """How the reported epoch was chosen, for ``results.json``; blank where none was."""
        best = self.best.get(self.phase, Best()) if self.phase else Best()
        return {
            "metric": self.selections[self.phase].metric if self.phase else None,
            "epoch": None if best.value is None else best.epoch,
            "value": best.value,
            "oracle_epoch": self.oracle.epoch or None,
        }


def diverged(what: str) -> UserError:
    """Says that training came to numbers without meaning: that must not become a result."""
    return UserError(
        f"Training has diverged: {what}; lower --lr, or look for values in the features that are "
        "out of all proportion."
    )


@dataclass(frozen=True)
class Weights:
    """A predictor's weights after the last and the selected epoch.

    Attributes:
        last: State dict, of its own memory.
        selected: Likewise; the last one where no epoch was selected.
    """

    last: dict[str, Any]
    selected: dict[str, Any]

    @classmethod
    def of(cls, predictor: Any, book: Bookkeeper) -> Weights:
        """Those of a predictor that was just trained."""
        last = copied(predictor.state_dict())
        selected = book.state.selected(book.phase) if book.phase else None
        return cls(last, last if selected is None else selected)

    def by_epoch(self, predictor: Any, compute: Callable[[Any], Any]) -> dict[str, Any]:
        """What a function makes of the predictor with the last and with the selected weights."""
        found = {}
        for epoch, weights in (("last", self.last), ("selected", self.selected)):
            predictor.load_state_dict(weights)
            found[epoch] = compute(predictor)
        return found


def fit_run(
    run: Run,
    method: Any,
    hp: Any,
    *,
    seed: int,
    view: Any,
    evaluate: Callable[[Any, FitState, str], dict[str, Any]],
    observe: Callable[[Any, FitState, str, int], Mapping[str, Any]] | None = None,
    finish: Callable[[Any, Bookkeeper], Mapping[str, Any]],
    threads: int | None = None,
    paths: Mapping[str, str] | None = None,
    report: Report | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Run:
    """Trains one method with one seed, or finds that this was done, or goes on where it stopped.

    Args:
        run: The folder; its configuration names everything that the result depends on.
        method: A method's class.
        hp: Its hyper-parameters.
        seed: Of the run.
        view: What the method sees; its ``inputs`` say on which device it trains.
        evaluate: Metrics of (predictor, state) on a split.
        observe: More for an epoch's line, from (predictor, state, phase, epoch).
        finish: Writes the run's files from the trained predictor and returns the results.
        threads: CPU threads; None leaves torch's choice.
        paths: Recorded in ``config.json``.
        report: Told of every epoch.
        checkpoint_seconds: Least time between two resume points.

    Returns:
        The finished run.
    """
    if run.done:
        return run
    if threads:
        torch.set_num_threads(threads)
    device = view.inputs.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    rng, state = RandomState(seed), FitState()
    watch = None
    if observe is not None:

        def watch(phase: str, epoch: int, predictor: Any) -> Mapping[str, Any]:
            return observe(predictor, state, phase, epoch)

    with run.claim():
        if run.done:  # by whom this process waited for
            return run
        run.begin(paths=paths or {})
        with rng.scope():
            book = Bookkeeper(
                run,
                method.selections,
                state,
                rng,
                lambda predictor, split: evaluate(predictor, state, split),
                watch,
                report,
                checkpoint_seconds,
            )
            book.resume(device)
            predictor = method().fit(view, hp, rng=rng, state=state, on_epoch=book)
        run.finish(finish(predictor, book))
    return run


def common_config(
    task: str, method: str, seed: int, schedule: str, hp: Any, manifest: Manifest, data: Any
) -> dict[str, Any]:
    """What names a run of every task; the task adds its own options.

    Args:
        task: Name of the task.
        method: Registered name.
        seed: Of the run.
        schedule: Already applied to ``hp``.
        hp: Hyper-parameters.
        manifest: Where the data came from.
        data: Has ``rows_digest`` and ``features``.
    """
    annotations = manifest.header.annotations
    return {
        "task": task,
        "method": method,
        "seed": seed,
        "schedule": schedule,
        "hyperparameters": dataclasses.asdict(hp),
        "dataset": manifest.header.dataset,
        "manifest": manifest.content_digest(),
        "annotations": None if annotations is None else annotations["digest"],
        "rows": data.rows_digest,
        "features": data.features,
        "noise": noise_of(manifest),
    }


def common_results(
    config: Mapping[str, Any],
    method: Any,
    hp: Any,
    manifest: Manifest,
    data: Any,
    book: Bookkeeper,
    seconds: float,
    **own: Any,
) -> dict[str, Any]:
    """The part of ``results.json`` that all tasks have; see README, "Results".

    Args:
        config: The run's.
        method: The method's class.
        hp: Its hyper-parameters.
        manifest: Where the data came from.
        data: Has the training ``view`` and, by split, how many rows have ``failed``.
        book: Of the run.
        seconds: Of training and predicting.
        **own: What the task states: ``filter``, ``updates``, ``metrics`` and more.
    """
    annotations = manifest.header.annotations or {}
    head = {
        "schema": 1,
        **{key: config[key] for key in ("task", "method", "seed", "schedule", "dataset")},
        **{key: config[key] for key in ("features", "noise")},
        "as_released": bool(getattr(hp, "as_released", False)),
        "supervision": method.supervision,
        "needs": sorted(method.needs - hp.spared()),
        "annotations": annotations.get("version") or annotations.get("digest"),
        "failed": data.failed,
    }
    return {
        **head,
        **own,
        "selection": book.selection(),
        "seconds": round(seconds, 3),
        "peak_memory_bytes": peak_memory_bytes(data.view.inputs.device),
        "threads": torch.get_num_threads(),
    }
