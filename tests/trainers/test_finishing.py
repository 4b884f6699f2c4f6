"""The end of a run: which blocks of results are blank, and what is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from trainers.bookkeeping import Best, Bookkeeper
from trainers.data import RunData
from trainers.finishing import metric_blocks, write_outcome
from trainers.fitting import FitState, Selection
from trainers.random import RandomState
from trainers.runs import Run

BLANK = {"m": None}


def _book(root: Path, best: Best, oracle: Best) -> Bookkeeper:
    run = Run(root, {"task": "made", "method": "made", "seed": 0, "features": {"audio": "a-1"}})
    run.path.mkdir(parents=True, exist_ok=True)
    book = Bookkeeper(run, {"train": Selection("m")}, FitState(), RandomState(0), lambda *_: BLANK)
    book.best, book.oracle = {"train": best}, oracle
    return book


def _score(epoch: str, split: str) -> dict[str, str]:
    return {"m": f"{split} {epoch}"}


def test_every_epoch_has_its_block(tmp_path: Path) -> None:
    book = _book(tmp_path, Best(2, 50.0), Best(3, 60.0, {"m": 60.0}))
    last, selected = {"m": "test last"}, {"m": "test selected"}
    assert metric_blocks(book, _score, BLANK) == {
        "val": {"m": "val selected"},
        "test": {"last": last, "selected": selected, "oracle": {"m": 60.0}},
    }
    other = metric_blocks(book, _score, BLANK, oracle=False)
    assert other["test"] == {"last": last, "selected": selected, "oracle": BLANK}


def test_without_validation_no_epoch_is_better_than_another(tmp_path: Path) -> None:
    blocks = metric_blocks(_book(tmp_path, Best(2, None), Best()), _score, BLANK)
    assert blocks["test"] == {"last": {"m": "test last"}, "selected": BLANK, "oracle": BLANK}


@dataclass(frozen=True)
class _Prediction:
    score: np.ndarray


@dataclass(frozen=True)
class _Inputs:
    x: torch.Tensor

    @property
    def widths(self) -> dict[str, int]:
        return {"audio": self.x.shape[-1]}


@dataclass(frozen=True)
class _Split:
    ids: tuple[str, ...]
    inputs: _Inputs
    present: np.ndarray


@dataclass(frozen=True)
class _View:
    inputs: _Inputs
    classes: tuple[str, ...]


@dataclass(frozen=True)
class _Settings:
    lr: float = 0.1


class _Predictor(torch.nn.Linear):
    def predict(self, inputs: _Inputs) -> _Prediction:
        return _Prediction(self(inputs.x).detach().numpy())


def _data(inputs: _Inputs) -> RunData[_View, _Split]:
    split = _Split(("a", "b", "c"), inputs, np.array([True, False, True]))
    return RunData(_View(inputs, ("k",)), ("t",), {"test": split}, {"audio": "a-1"}, "digest")


@pytest.mark.parametrize("epoch", ["last", "selected"])
def test_predictions_that_are_no_numbers_are_not_written(epoch: str, tmp_path: Path) -> None:
    book = _book(tmp_path, Best(1, 50.0), Best())
    inputs, predictor = _Inputs(torch.eye(2)), _Predictor(2, 1)
    with torch.no_grad():
        sound = predictor.weight.clone()
        predictor.weight.copy_(sound if epoch == "last" else torch.full((1, 2), torch.nan))
        book.state.select("train", predictor)
        predictor.weight.copy_(sound if epoch == "selected" else torch.full((1, 2), torch.nan))
    with pytest.raises(UserError, match=f"the {epoch} weights predict test .*lower --lr"):
        write_outcome(book.run, _Settings(), _data(inputs), predictor, book)
    assert list(book.run.path.iterdir()) == []


def test_predictions_and_weights_of_both_epochs_are_written(tmp_path: Path) -> None:
    book = _book(tmp_path, Best(1, 50.0), Best())
    inputs = _Inputs(torch.eye(2))
    predictor = _Predictor(2, 1)
    book.state.select("train", predictor)
    chosen = predictor.predict(inputs).score
    torch.nn.init.ones_(predictor.weight)
    last = predictor.predict(inputs).score
    outcome = write_outcome(book.run, _Settings(), _data(inputs), predictor, book, filter="video")
    assert outcome.seconds >= 0
    with h5py.File(book.run.path / "predictions.h5") as file:
        assert list(file["test/last/id"].asstr()) == ["a", "b", "c"]
        for epoch, expected in (("last", last), ("selected", chosen)):
            score = file[f"test/{epoch}/score"][:]
            np.testing.assert_array_equal(score, outcome.predictions[epoch]["test"].score)
            np.testing.assert_array_equal(score[[0, 2]], expected)
            assert not score[1].any(), "nothing is predicted without features"
    saved = torch.load(book.run.path / "checkpoint.pt", weights_only=True)
    assert (saved["filter"], saved["widths"]) == ("video", {"audio": 2})
    assert torch.equal(saved["last"]["weight"], torch.ones(1, 2))
    assert torch.equal(saved["selected"]["weight"], predictor.weight), "loaded last"
