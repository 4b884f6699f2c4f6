"""Accuracy of clips and videos, and detection of noise, against plain loops and known cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.manifest import Header, Manifest, Row
from trainers.action.detection import TrueNoise, detection, pair_weights, read_true_noise
from trainers.action.evaluation import blank_metrics, evaluate, video_probabilities
from trainers.action.interface import Embedding, Prediction, Verdict


def _plain(logits: np.ndarray, valid: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The three numbers written as sentences, one clip after the other."""
    top1, top5, video = [], [], []
    for x, there, y in zip(logits, valid, labels, strict=True):
        if not there.any():
            top1 += [False] * len(there)
            top5 += [False] * len(there)
            video.append(False)
            continue
        shares = []
        for scores in x[there]:
            order = sorted(range(len(scores)), key=lambda k: (-scores[k], k))
            top1.append(order[0] == y)
            top5.append(y in order[:5])
            power = np.exp(scores - scores.max())
            shares.append(power / power.sum())
        mean = np.mean(shares, axis=0)
        video.append(int(np.argmax(mean)) == y)
    return {
        "clip@1": 100 * np.mean(top1), "clip@5": 100 * np.mean(top5),
        "video@1": 100 * np.mean(video),
    }  # fmt: skip


@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 9), st.integers(0, 10**6))
def test_accuracies_are_those_of_a_plain_loop(n: int, clips: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Whole numbers make ties.
    logits = rng.integers(-2, 3, (n, clips, classes)).astype(np.float64)
    logits += 1e-4 * rng.integers(0, 2, logits.shape)
    valid = rng.random((n, clips)) < 0.7
    labels = rng.integers(0, classes, n)
    found = evaluate(Prediction(logits, valid), labels)
    assert found == pytest.approx(_plain(logits, valid, labels))


def test_clips_and_videos_agree_where_there_is_one_clip() -> None:
    logits = np.random.default_rng(0).standard_normal((50, 1, 7)).astype(np.float32)
    found = evaluate(Prediction(logits, np.ones((50, 1), bool)), np.arange(50) % 7)
    assert found["clip@1"] == found["video@1"]
    assert found["clip@1"] < found["clip@5"]


def test_fewer_than_five_classes_are_all_among_the_first_five() -> None:
    logits = np.random.default_rng(0).standard_normal((9, 2, 4))
    valid = np.ones((9, 2), bool)
    assert evaluate(Prediction(logits, valid), np.arange(9) % 4)["clip@5"] == 100.0


def test_videos_are_decided_by_probabilities_not_by_logits() -> None:
    logits = np.array([[[9.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    valid = np.ones((1, 3), bool)
    shares = video_probabilities(Prediction(logits, valid))
    assert shares.sum() == pytest.approx(1)
    logits_win, shares_win = logits.mean((0, 1)).argmax(), shares[0].argmax()
    assert logits_win == shares_win == 0
    several = np.array([[[3.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]])
    prediction = Prediction(several, np.ones((1, 4), bool))
    assert several.mean((0, 1)).argmax() == 0, "equal sums: the first"
    assert evaluate(prediction, np.array([1]))["video@1"] == 100.0


def test_what_is_no_number_is_wrong() -> None:
    logits = np.full((3, 2, 4), np.nan)
    found = evaluate(Prediction(logits, np.ones((3, 2), bool)), np.array([0, 1, 3]))
    assert set(found.values()) == {0.0}


def test_videos_predicted_as_nothing_are_wrong_with_all_their_clips() -> None:
    logits = np.zeros((4, 2, 3))
    logits[:, :, 0] = 1
    valid = np.ones((4, 2), bool)
    valid[3] = False
    found = evaluate(Prediction(logits, valid), np.zeros(4, dtype=int))
    assert found == {"clip@1": 75.0, "clip@5": 75.0, "video@1": 75.0}
    valid[0, 1] = False
    assert evaluate(Prediction(logits, valid), np.zeros(4, dtype=int))["clip@1"] == pytest.approx(
        100 * 5 / 7
    ), "a clip that is not valid is not counted"


def test_nothing_to_score_is_blank() -> None:
    empty = Prediction(np.zeros((0, 3, 5)), np.zeros((0, 3), bool))
    assert evaluate(empty, np.zeros(0, dtype=int)) == blank_metrics()


def _manifest(folder: Path, noise: tuple = ({"kind": "symmetric", "rate": 0.5},)) -> Manifest:
    rows = tuple(
        Row(id=f"v{n}", start=0, end=10, split="train", labels=("b",), audio_id=f"v{n // 2}")
        for n in range(4)
    )
    header = Header("d", "multiclass", ("a", "b"), noise=noise)
    return Manifest(header, rows, folder / "m.jsonl")


def test_the_truth_holds_changed_rows_only(tmp_path: Path) -> None:
    manifest = _manifest(tmp_path)
    ids = ["v3", "v0", "v1"]
    assert read_true_noise(manifest, ids) is None, "there is no truth file"
    entries = [{"id": "v1", "audio_id": "v1"}, {"id": "v3", "labels": ["a"], "audio_id": "v3"}]
    (tmp_path / "m.truth.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    truth = read_true_noise(manifest, ids)
    np.testing.assert_array_equal(truth.labels, [0, 1, 1])
    np.testing.assert_array_equal(truth.flipped, [True, False, False])
    np.testing.assert_array_equal(truth.altered, [True, False, True])
    assert read_true_noise(_manifest(tmp_path, noise=()), ids) is None, "nothing was injected"


def test_detectors_are_scored_each_by_its_own_criterion() -> None:
    labels = np.array([0, 1, 0, 1])
    flipped = np.array([True, False, False, False])
    altered = np.array([False, False, True, True])
    truth = TrueNoise(labels, flipped, altered)
    loss = np.array([3.0, 0.1, 0.2, 0.3], dtype=np.float32)
    weights = np.array([[0.9, 0.9], [0.8, 0.8], [0.1, 0.1], [0.85, 0.85]])
    verdict = Verdict(
        keep={"share": np.array([0.0, 1.0, 1.0, 1.0]), "worse": np.array([1.0, 0.0, 0.5, 0.5])},
        weights=weights,
        corrected=np.array([0, 1, 0, 0]),
    )
    found = detection(truth, loss, verdict, verdict.weights)
    assert found["detect/auroc"] == found["detect/label/share/auroc"] == 100.0
    assert found["detect/label/auroc"] == 100.0
    assert found["detect/label/worse/auroc"] == 0.0
    assert found["detect/pair/auroc"] == pytest.approx(75.0)
    assert found["weight/clean"] == pytest.approx(85.0)
    assert found["weight/altered"] == pytest.approx(47.5)
    assert found["given/overall"] == 75.0
    assert found["corrected/overall"] == 75.0
    assert found["corrected/flipped"] == 100.0


def test_undefined_scores_are_left_out() -> None:
    clean = TrueNoise(np.zeros(3, dtype=int), np.zeros(3, bool), np.zeros(3, bool))
    verdict = Verdict(corrected=np.array([0, 0, 1]))
    found = detection(clean, np.ones(3, dtype=np.float32), verdict, None)
    assert found == {"given/overall": 100.0, "corrected/overall": pytest.approx(200 / 3)}


def test_pairs_of_any_method_are_weighed_by_its_embeddings() -> None:
    import torch
    from torch.nn.functional import normalize

    from trainers.action.interface import Inputs

    class Echo:
        """Its embeddings are the features."""

        def embed(self, inputs: Inputs) -> Embedding:
            return Embedding(normalize(inputs.visual, dim=-1), normalize(inputs.audio, dim=-1))

    n, classes = 40, 4
    basis = torch.eye(classes)
    seen = torch.arange(n) % classes
    heard = seen.clone()
    heard[:6] = (heard[:6] + 1) % classes
    g = torch.Generator().manual_seed(0)

    def clips(c: torch.Tensor) -> torch.Tensor:
        return basis[c][:, None] + 0.1 * torch.randn(n, 2, classes, generator=g)

    inputs = Inputs(clips(seen), clips(heard), torch.ones(n, 2, dtype=torch.bool))
    weights = pair_weights(Echo(), inputs, neighbours=5)
    assert weights.shape == (n, 2)
    assert weights[6:].mean() > weights[:6].mean() + 0.3
