"""The ten numbers: against the definition, by hand, and against published reference values."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.manifest import dense_matrices
from pipeline.manifest.llp import import_llp
from tests.plain_metric import plain_score
from trainers.avvp import metric
from trainers.avvp.metric import KEYS, LEVELS, Truth, score

SAMPLE = Path(__file__).parents[2] / "data" / "llp_sample"


def _random(rng: np.random.Generator, shape: tuple[int, int, int]) -> list[np.ndarray]:
    return [rng.random(shape) < rng.uniform(0, 0.5) for _ in range(4)]


def _row(*ones: int, segments: int = 10) -> np.ndarray:
    """One clip of one class, (1, T, 1) bool, with these segments on."""
    values = np.zeros((1, segments, 1), dtype=bool)
    values[0, list(ones), 0] = True
    return values


def test_tables_equal_run_by_run_on_1000_random_inputs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(1000):
        inputs = _random(rng, (1, 10, 6))
        assert score(*inputs) == pytest.approx(plain_score(*inputs), abs=1e-9)


def test_every_pair_of_rows_in_the_table() -> None:
    """All 2^5 x 2^5 pairs of five-segment rows, each alone."""
    codes = np.arange(32)
    rows = (codes[:, None] >> np.arange(5) & 1).astype(bool)  # (32, 5)
    for truth in rows:
        pred = rows[:, :, None]
        true = np.repeat(truth[None, :, None], 32, axis=0)
        ours, plain = score(pred, pred, true, true), plain_score(pred, pred, true, true)
        assert ours == pytest.approx(plain, abs=1e-9)


@given(
    segments=st.integers(1, 33),
    clips=st.integers(1, 4),
    classes=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_any_length_equals_run_by_run(segments: int, clips: int, classes: int, seed: int) -> None:
    inputs = _random(np.random.default_rng(seed), (clips, segments, classes))
    assert score(*inputs) == pytest.approx(plain_score(*inputs), abs=1e-9)


def test_both_ways_to_count_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = _random(np.random.default_rng(3), (300, 10, 25))
    by_tables = score(*inputs)
    monkeypatch.setattr(metric, "TABLE_SEGMENTS", 0)
    assert score(*inputs) == by_tables


def test_keys_are_the_ten_in_the_order_of_papers() -> None:
    assert tuple(score(_row(1), _row(1), _row(1), _row(1))) == KEYS
    assert KEYS[:5] == (
        "segment/audio",
        "segment/visual",
        "segment/audio_visual",
        "segment/type",
        "segment/event",
    )


def test_a_clip_empty_in_truth_and_prediction_scores_one() -> None:
    assert score(*[_row()] * 4) == dict.fromkeys(KEYS, 100.0)


def test_truth_with_itself_scores_one_with_empty_clips_among_it() -> None:
    audio, visual, *_ = _random(np.random.default_rng(5), (20, 10, 4))
    audio[3] = visual[3] = False
    assert score(audio, visual, audio, visual) == dict.fromkeys(KEYS, 100.0)


def test_iou_of_exactly_one_half_matches() -> None:
    everywhere, half, less = _row(*range(10)), _row(*range(5)), _row(*range(4))
    assert score(everywhere, everywhere, half, half)["event/audio"] == 100.0
    assert score(half, half, everywhere, everywhere)["event/audio"] == 100.0
    assert score(everywhere, everywhere, less, less)["event/audio"] == 0.0
    # Shifted: three segments shared, six covered.
    one, other = _row(0, 1, 2, 3, 4), _row(2, 3, 4, 5)
    assert score(one, one, other, other)["event/visual"] == 100.0


@pytest.mark.parametrize("segments", [10, 20])
def test_by_hand(segments: int) -> None:
    truth_audio = _row(0, 1, 2, 6, 7, segments=segments)
    pred_audio = _row(0, 1, 6, 9, segments=segments)
    truth_visual = _row(1, 2, segments=segments)
    pred_visual = _row(1, 9, segments=segments)
    result = score(pred_audio, pred_visual, truth_audio, truth_visual)
    # Audio segments: 3 right of 4 predicted, 5 true; visual: 1 of 2, 2 true.
    assert result["segment/audio"] == pytest.approx(100 * 6 / 9)
    assert result["segment/visual"] == pytest.approx(100 * 2 / 4)
    # At once: predicted {1, 9}, true {1, 2}.
    assert result["segment/audio_visual"] == pytest.approx(100 * 2 / 4)
    assert result["segment/type"] == pytest.approx(100 * (6 / 9 + 0.5 + 0.5) / 3)
    assert result["segment/event"] == pytest.approx(100 * 8 / 13)
    # Audio events: runs 0-1 and 6 match 0-2 (2/3) and 6-7 (1/2), run 9 does not.
    assert result["event/audio"] == pytest.approx(100 * 4 / 5)
    # Visual events: run 1 matches 1-2 (1/2), run 9 does not.
    assert result["event/visual"] == pytest.approx(100 * 2 / 3)
    assert result["event/event"] == pytest.approx(100 * 6 / 8)


def test_two_short_runs_do_not_both_match_one_long() -> None:
    truth, pred = _row(*range(10)), _row(0, 1, 2, 3, 5, 6, 7, 8, 9)
    # Of the two predicted runs the second alone covers half of the truth.
    assert score(pred, pred, truth, truth)["event/audio"] == pytest.approx(100 * 2 / 3)


def test_clips_count_alike_and_only_counted_classes_do() -> None:
    truth = np.zeros((2, 10, 3), dtype=bool)
    truth[0, :, 0] = truth[1, :, :2] = True
    pred = np.zeros_like(truth)
    pred[:, :, 0] = True
    # Clip 1: one class, right. Clip 2: one right, one missed, the third not counted.
    assert score(pred, pred, truth, truth)["segment/audio"] == pytest.approx(75.0)


def test_single_numbers_are_those_of_the_whole_score() -> None:
    pa, pv, ta, tv = _random(np.random.default_rng(7), (50, 10, 25))
    truth = Truth(ta, tv)
    whole = truth.score(pa, pv)
    assert truth.segment_audio(pa) == whole["segment/audio"]
    assert truth.event_visual(pv) == whole["event/visual"]


def test_scoring_leaves_its_inputs_alone() -> None:
    inputs = _random(np.random.default_rng(9), (5, 10, 4))
    copies = [x.copy() for x in inputs]
    score(*inputs)
    assert all(np.array_equal(a, b) for a, b in zip(inputs, copies, strict=True))


def test_wrong_inputs_are_refused() -> None:
    ok = _row(1)
    with pytest.raises(ValueError, match="threshold the prediction"):
        score(ok.astype(np.float32), ok, ok, ok)
    with pytest.raises(ValueError, match="shapes differ"):
        score(ok, _row(1, segments=9), ok, ok)
    with pytest.raises(ValueError, match="shapes differ"):
        Truth(ok, np.repeat(ok, 2, axis=2))
    with pytest.raises(ValueError, match="at least one clip"):
        score(*[np.zeros((0, 10, 3), dtype=bool)] * 4)


def test_1200_clips_are_scored_at_once() -> None:
    """Ten numbers of LLP's test split; 45 ms is what the lookup form is known to reach."""
    inputs = _random(np.random.default_rng(11), (1200, 10, 25))
    truth = Truth(*inputs[2:])
    truth.score(*inputs[:2])
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        truth.score(*inputs[:2])
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.045


# Truth with its modalities exchanged, segment then event level, from the made-up sample by
# tests.plain_metric.
SAMPLE_SWAPPED = {
    "val": (49.6896, 49.6896, 100, 66.4597, 49.6896, 50, 50, 100, 66.6667, 50),
    "test": (32.0181, 32.0181, 100, 54.6788, 32.0181, 21.4286, 21.4286, 100, 47.6190, 21.4286),
}


@pytest.mark.parametrize("split", ["val", "test"])
def test_swapped_truth_of_the_sample(tmp_path: Path, split: str) -> None:
    manifest = import_llp(SAMPLE, tmp_path / "sample.jsonl").manifest
    audio, visual = dense_matrices(manifest, manifest.split(split))
    swapped = score(visual, audio, audio, visual)
    assert tuple(swapped.values()) == pytest.approx(SAMPLE_SWAPPED[split], abs=1e-4)
    assert swapped == pytest.approx(plain_score(visual, audio, audio, visual), abs=1e-9)
    assert score(audio, visual, audio, visual) == dict.fromkeys(KEYS, 100.0)


# F at segment and event level; exchanging the modalities exchanges false positives and false
# negatives, so audio, visual and Event share one number and audio_visual is right everywhere.
LLP_SWAPPED = {
    ("2024", "val"): (57.2877, 52.6482),
    ("2024", "test"): (57.3976, 52.8497),
    ("pre2024", "val"): (57.2877, 52.6482),
    ("pre2024", "test"): (57.4223, 52.8914),
}
LLP_SWAPPED_TYPE = {"val": (71.5251, 68.4321), "test": (71.5984, 68.5665)}


@pytest.mark.parametrize("version", ["2024", "pre2024"])
def test_swapped_truth_of_llp(shared: Path, tmp_path: Path, version: str) -> None:
    manifest = import_llp(shared / "llp", tmp_path / "llp.jsonl", annotations=version).manifest
    for split in ("val", "test"):
        audio, visual = dense_matrices(manifest, manifest.split(split))
        swapped = score(visual, audio, audio, visual)
        for level, f in zip(LEVELS, LLP_SWAPPED[version, split], strict=True):
            for column in ("audio", "visual", "event"):
                assert swapped[f"{level}/{column}"] == pytest.approx(f, abs=1e-4)
            assert swapped[f"{level}/audio_visual"] == 100
        if version == "2024":
            types = (swapped["segment/type"], swapped["event/type"])
            assert types == pytest.approx(LLP_SWAPPED_TYPE[split], abs=1e-4)
        assert score(audio, visual, audio, visual) == dict.fromkeys(KEYS, 100.0)
