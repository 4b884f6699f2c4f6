"""Resume points: gone back to, or said to be unreadable and left."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import UserError
from trainers.bookkeeping import Bookkeeper
from trainers.fitting import FitState, Selection
from trainers.random import RandomState
from trainers.runs import Run


def _book(root: Path, value: float | None = 1.0) -> Bookkeeper:
    run = Run(root, {"task": "avvp", "method": "made", "seed": 0})
    run.path.mkdir(parents=True, exist_ok=True)
    metrics = {"m": value}
    return Bookkeeper(
        run, {"train": Selection("m")}, FitState(), RandomState(0), lambda *_: metrics,
        checkpoint_seconds=0.0,
    )  # fmt: skip


def _train(book: Bookkeeper, epochs: int) -> list[int]:
    """Walks the epochs that are left."""
    net = torch.nn.Linear(2, 2)
    book.state.track(net=net)
    walked = []
    for epoch in book.state.epochs("train", epochs):
        book("train", epoch, net)
        walked.append(epoch)
    return walked


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _text(path: Path) -> None:
    path.write_text("not a checkpoint")


def _other(path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, path)


@pytest.mark.parametrize("damage", [_cut, _empty, _text, _other])
def test_a_damaged_resume_point_begins_the_run_again(
    damage: Callable[[Path], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RandomState(0).scope():
        first = _book(tmp_path)
        assert _train(first, 2) == [1, 2]
        point, log = first.run.path / "resume.pt", first.run.path / "metrics.jsonl"
        damage(point)
        again = _book(tmp_path)
        again.resume(torch.device("cpu"))
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"{point} cannot be read" in said
        assert "starts again from its beginning" in said
        assert (again.lines, again.seconds, again.best, again.oracle.epoch) == (0, 0.0, {}, 0)
        assert log.read_text() == ""
        assert _train(again, 3) == [1, 2, 3]
        assert len(log.read_text().splitlines()) == 3


def test_a_whole_resume_point_is_gone_back_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RandomState(0).scope():
        _train(_book(tmp_path), 2)
        again = _book(tmp_path)
        again.resume(torch.device("cpu"))
        assert capsys.readouterr().err == ""
        assert (again.lines, again.oracle.epoch) == (2, 2)
        assert _train(again, 3) == [3]


def test_a_lack_of_memory_is_no_damaged_resume_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    with RandomState(0).scope():
        _train(_book(tmp_path), 1)
        monkeypatch.setattr(torch, "load", full)
        with pytest.raises(MemoryError):
            _book(tmp_path).resume(torch.device("cpu"))


def test_without_validation_metrics_no_epoch_is_selected(tmp_path: Path) -> None:
    with RandomState(0).scope():
        blank, scored = _book(tmp_path / "blank", None), _book(tmp_path / "scored")
        untrained = _book(tmp_path / "untrained")
        _train(blank, 2)
        _train(scored, 2)
    nothing = {"metric": "m", "epoch": None, "value": None, "oracle_epoch": None}
    assert blank.selection() == untrained.selection() == nothing
    assert scored.selection() == {"metric": "m", "epoch": 2, "value": 1.0, "oracle_epoch": 2}
    assert (blank.undecided, scored.undecided, untrained.undecided) == (True, False, True)
    assert blank.state.selected("train") is not None, "either weights may be loaded"


def test_a_method_without_phases_has_nothing_to_select(tmp_path: Path) -> None:
    book = _book(tmp_path)
    book.selections = {}
    assert not book.undecided
    assert set(book.selection().values()) == {None}


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_diverged_epoch_ends_the_run(loss: float, tmp_path: Path) -> None:
    book = _book(tmp_path)
    net = torch.nn.Linear(2, 2)
    book("train", 1, net, loss=0.5)
    with pytest.raises(UserError, match=f"loss is {loss} after epoch 2 of phase train; lower --lr"):
        book("train", 2, net, loss=loss)
    assert len((book.run.path / "metrics.jsonl").read_text().splitlines()) == 1
