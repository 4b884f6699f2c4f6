"""The difficulty check of the action corpus: its classifier, and that it reads the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.demo import build_corpus
from pipeline.demo.action_check import check_actions, clip_accuracy
from pipeline.errors import UserError


def _made(noise: float, *, shuffled: bool = False) -> float:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 12))
    labels = np.tile(np.arange(4), 20)
    features = centres[labels][:, None] + noise * rng.normal(size=(80, 5, 12))
    told = rng.permutation(labels) if shuffled else labels
    return clip_accuracy(features[:60], told[:60], features[60:], labels[60:])


def test_classifier_finds_what_is_there_and_nothing_where_labels_say_nothing() -> None:
    assert _made(0.1) == 1
    assert 0.4 < _made(1.2) < 0.98
    assert _made(0.1, shuffled=True) < 0.6


def test_check_reads_the_files(tmp_path: Path) -> None:
    sizes = {"train": 4, "val": 0, "test": 2, "pool": 0}
    manifest = build_corpus(tmp_path, kind="action", **sizes, workers=2)
    figures = check_actions(manifest)
    names = [figure.name for figure in figures]
    assert names == [
        f"perceptron on {what}, test clip@1"
        for what in ("sound and picture", "sound alone", "picture alone")
    ]
    assert all(0 <= figure.value <= 100 for figure in figures)
    assert [(f.low, f.high) for f in figures] == [(50, 95), (15, 80), (15, 80)]
    build_corpus(tmp_path, kind="action", **(sizes | {"test": 0}), workers=1)
    with pytest.raises(UserError, match="train and test"):
        check_actions(manifest)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_corpus_is_neither_trivial_nor_hopeless(tmp_path: Path) -> None:
    manifest = build_corpus(tmp_path, kind="action", val=0, pool=0, workers=2)
    figures = check_actions(manifest, workers=2)
    assert all(figure.passed for figure in figures), figures
    joint, sound, picture = (figure.value for figure in figures)
    assert joint > max(sound, picture) + 5
