"""Loading rows split by split, for training and for scoring alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from pipeline.manifest import Header, Manifest, Row
from trainers.data import EVALUATED, SPLITS, load_rows

CPU = torch.device("cpu")


def _manifest(*splits: str) -> Manifest:
    rows = [Row(id=f"{s}{n}", start=0, end=1, split=s, labels=()) for n, s in enumerate(splits)]
    return Manifest(Header("made", "none", ()), tuple(rows))


def _reader(*failed: str):
    def read(rows: Sequence[Row]) -> tuple[torch.Tensor, np.ndarray, dict[str, str]]:
        present = np.array([row.id not in failed for row in rows], dtype=bool)
        return torch.ones(int(present.sum()), 2), present, {"audio": "sound-1"}

    return read


def test_failed_rows_are_counted_and_not_trained_on() -> None:
    manifest = _manifest("train", "train", "val", "test")
    loaded = load_rows(manifest, SPLITS, _reader("train0", "test3"), device=CPU, trained="clip")
    data = loaded.run_data("view", {"val": 1, "test": 2})
    assert data.train_ids == ("train1",)
    assert data.failed == {"train": 1, "val": 0, "test": 1}
    assert (data.view, data.splits, data.features) == (
        "view",
        {"val": 1, "test": 2},
        {"audio": "sound-1"},
    )
    whole = load_rows(manifest, SPLITS, _reader(), device=CPU, trained="clip")
    assert whole.run_data("view", {}).rows_digest != data.rows_digest


def test_what_cannot_be_trained_on_is_refused_and_can_be_scored() -> None:
    empty, broken = _manifest("val", "test"), _manifest("train", "test")
    with pytest.raises(UserError, match="no training rows; nothing can be trained"):
        load_rows(empty, SPLITS, _reader(), device=CPU, trained="clip")
    with pytest.raises(UserError, match="No training clip has features in both modalities"):
        load_rows(broken, SPLITS, _reader("train0"), device=CPU, trained="clip")
    for manifest in (empty, broken):
        loaded = load_rows(manifest, EVALUATED, _reader("train0"), device=CPU, trained="clip")
        assert len(loaded.inputs["test"]) == 1
    assert not load_rows(empty, SPLITS, _reader(), device=CPU).trained
