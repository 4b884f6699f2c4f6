"""The difficulty check: its metric, its classifier, and that it reads the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.demo import build_corpus
from pipeline.demo.check import Figure, check_corpus, clip_descriptor, linear_map, segment_type
from pipeline.descriptors import AUDIO_WIDTH, VISUAL_WIDTH
from pipeline.errors import UserError


def test_segment_type_by_hand() -> None:
    audio, visual, true_audio, true_visual = np.zeros((4, 1, 4, 2), dtype=bool)
    audio[0, :2, 0] = True
    true_audio[0, 1:4, 0] = True
    visual[0, :, 0] = True
    true_visual[0, :, 0] = True
    true_visual[0, :, 1] = True
    # Sound 2*1 / (2 + 3); picture (1 + 0) / 2; together 2*1 / (2 + 3).
    expected = 100 * (0.4 + 0.5 + 0.4) / 3
    assert segment_type(audio, visual, true_audio, true_visual) == pytest.approx(expected)


def test_segment_type_of_nothing_and_of_the_truth() -> None:
    truth = np.random.default_rng(0).random((2, 20, 10, 5)) < 0.2
    assert segment_type(*truth, *truth) == pytest.approx(100)
    empty = np.zeros((2, 1, 10, 5), dtype=bool)
    assert segment_type(*empty, *empty) == 100
    full = ~empty
    assert segment_type(*empty, *full) == 0


def test_linear_map_finds_what_is_linear_and_nothing_in_noise() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 20))
    labels = features[:, :4] > 0.7
    split = slice(0, 200), slice(200, 300)
    good = linear_map(features[split[0]], labels[split[0]], features[split[1]], labels[split[1]])
    noise = rng.normal(size=features.shape)
    bad = linear_map(noise[split[0]], labels[split[0]], noise[split[1]], labels[split[1]])
    assert good > 0.9
    assert bad < 0.5


def test_figure_tells_whether_it_is_in_range() -> None:
    assert Figure("x", 50.0, 30, 85).passed
    assert "ok" in str(Figure("x", 50.0, 30, 85))
    for value in (29.9, 85.1, float("nan")):
        figure = Figure("x", value, 30, 85)
        assert not figure.passed
        assert "OUT OF RANGE" in str(figure)


def test_check_reads_the_files(tmp_path: Path) -> None:
    manifest = build_corpus(tmp_path, train=4, val=2, test=1, workers=2)
    row = clip_descriptor(tmp_path / "videos" / "train-00000.mp4")
    assert row.shape == (AUDIO_WIDTH + VISUAL_WIDTH,)
    assert np.isfinite(row).all()
    figures = check_corpus(manifest)
    assert [f.name.split()[-1] for f in figures] == ["mAP", "Type", "Type"]
    assert all(0 <= f.value <= 100 for f in figures)
    build_corpus(tmp_path, train=4, val=0, test=1, workers=1)
    with pytest.raises(UserError, match="every split"):
        check_corpus(manifest)
