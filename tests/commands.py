"""What the training commands of all tasks promise: helpers and checks that their tests share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.errors import UserError
from trainers import bookkeeping

__all__ = [
    "RESULTS",
    "RUN_FILES",
    "Trainer",
    "check_finished_runs",
    "check_killed_run",
    "check_mistake",
    "only",
    "results_of",
]

Corpus = tuple[Path, Path]
"""A manifest and a feature store."""

RUN_FILES = {
    "config.json", "environment.json", "metrics.jsonl", "results.json", "predictions.h5",
    "checkpoint.pt", "DONE",
}  # fmt: skip
"""What every run leaves."""

RESULTS = {
    "schema", "task", "method", "seed", "as_released", "supervision", "needs", "filter",
    "annotations", "schedule", "updates", "dataset", "features", "noise", "metrics", "selection",
    "failed", "seconds", "peak_memory_bytes", "threads",
}  # fmt: skip
"""What every ``results.json`` says."""


@dataclass(frozen=True)
class Trainer:
    """A task's command, to train with on small corpora.

    Attributes:
        main: Runs it.
        train: The function of the task's runner that makes a run.
        features: Its ``--features``.
    """

    main: Callable[[list[str]], int]
    train: Callable[..., Any]
    features: Sequence[str]

    def __call__(self, corpus: Corpus, runs: Path, *more: str) -> int:
        manifest, store = corpus
        common = ["--manifest", str(manifest), "--store", str(store), "--runs", str(runs)]
        return self.main([*common, *self.features, "--threads", "1", *more])


def only(runs: Path) -> Path:
    """The one finished run in a folder."""
    (run,) = [done.parent for done in runs.rglob("DONE")]
    return run


def results_of(runs: Path) -> dict[str, Any]:
    """The results of the one finished run in a folder."""
    return json.loads((only(runs) / "results.json").read_text())


def check_finished_runs(
    trainer: Trainer, corpus: Corpus, runs: Path, argv: Sequence[str], capsys: pytest.CaptureFixture
) -> None:
    """A finished run is found and not repeated, and every seed is a run."""
    assert trainer(corpus, runs, *argv) == 0
    stamp = (only(runs) / "DONE").stat().st_mtime_ns
    capsys.readouterr()
    assert trainer(corpus, runs, *argv, "--seed", "0", "1") == 0
    printed = capsys.readouterr()
    assert "nothing to train" in printed.err
    assert "±" in printed.out
    found = [done.stat().st_mtime_ns for done in runs.rglob("DONE")]
    assert len(found) == 2
    assert stamp in found


def check_killed_run(
    trainer: Trainer,
    corpus: Corpus,
    folder: Path,
    argv: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    after: int,
) -> None:
    """A run that is killed after some epochs goes on and ends with the same numbers."""
    assert trainer(corpus, folder / "whole", *argv) == 0
    whole = only(folder / "whole")
    monkeypatch.setattr(
        trainer.train,
        "__kwdefaults__",
        {**trainer.train.__kwdefaults__, "checkpoint_seconds": 0.0},
    )
    original = bookkeeping.Bookkeeper.__call__
    epochs = []

    def dying(self: object, *args: object, **log: float) -> bool:
        selected = original(self, *args, **log)
        epochs.append(args[:2])
        if len(epochs) == after:
            raise KeyboardInterrupt
        return selected

    monkeypatch.setattr(bookkeeping.Bookkeeper, "__call__", dying)
    with pytest.raises(KeyboardInterrupt):
        trainer(corpus, folder / "cut", *argv)
    assert not list((folder / "cut").rglob("DONE"))
    assert trainer(corpus, folder / "cut", *argv) == 0
    cut = only(folder / "cut")
    logs = [(run / "metrics.jsonl").read_text().splitlines() for run in (whole, cut)]
    assert len(logs[0]) == len(logs[1])
    assert len(epochs) == len(logs[0]), "finished epochs were trained again"
    assert whole.name == cut.name
    one, other = (results_of(folder / name) for name in ("whole", "cut"))
    assert one["metrics"] == other["metrics"]
    assert one["selection"] == other["selection"]
    with h5py.File(whole / "predictions.h5") as a, h5py.File(cut / "predictions.h5") as b:
        assert set(a["test/last"]) == set(b["test/last"])
        for key, dataset in a["test/last"].items():
            np.testing.assert_array_equal(dataset[:], b[f"test/last/{key}"][:])


def check_mistake(
    trainer: Trainer, corpus: Corpus, runs: Path, argv: Sequence[str], message: str
) -> None:
    """A mistake ends with one sentence, before work begins."""
    manifest, store = corpus
    common = ["--manifest", str(manifest), "--store", str(store), "--runs", str(runs)]
    with pytest.raises(UserError, match=message) as found:
        trainer.main([*common, *argv])
    assert "\n" not in str(found.value)
    assert not list(runs.rglob("config.json")), "work had begun"
