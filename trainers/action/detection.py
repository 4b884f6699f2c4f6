"""How well wrong labels and foreign sounds are found, against the truth beside a noisy manifest.

Evaluation only: what is computed here reaches no method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.manifest import Manifest
from pipeline.noise import original, truth_of
from trainers.action.correspondence import NEIGHBOURS, correspondence_weights, video_embedding
from trainers.action.interface import Inputs, Predictor, Verdict
from trainers.detection import detector_scores

__all__ = ["TrueNoise", "detection", "pair_weights", "read_true_noise"]


@dataclass(frozen=True)
class TrueNoise:
    """What was done to N training videos.

    Attributes:
        labels: (N,) int64 labels before any noise.
        flipped: (N,) bool, the given label is another one.
        altered: (N,) bool, the sound is not the one that came with the picture.
    """

    labels: np.ndarray
    flipped: np.ndarray
    altered: np.ndarray


def read_true_noise(manifest: Manifest, ids: Sequence[str]) -> TrueNoise | None:
    """Reads the truth of training videos; None where no noise was injected or its truth is not
    beside the manifest.

    Args:
        manifest: The noisy manifest.
        ids: N training videos.

    Raises:
        UserError: If the truth file is none, or that of another manifest.
    """
    truth = truth_of(manifest) if manifest.header.noise else None
    if truth is None:
        return None
    column = {name: c for c, name in enumerate(manifest.classes)}
    rows = [manifest[row_id] for row_id in ids]
    entries = [truth.get(row_id, {}) for row_id in ids]
    given = [column[row.labels[0]] for row in rows]
    clean = [
        column[original(row, entry, "labels")[0]] for row, entry in zip(rows, entries, strict=True)
    ]
    altered = [
        original(row, entry, "audio_id") != row.audio_id
        for row, entry in zip(rows, entries, strict=True)
    ]
    labels = np.array(clean, dtype=np.int64)
    return TrueNoise(labels, labels != np.array(given), np.array(altered, dtype=bool))


def pair_weights(
    predictor: Predictor, inputs: Inputs, *, neighbours: int = NEIGHBOURS
) -> np.ndarray:
    """Correspondence weights by a predictor's own embeddings, for methods that weigh no pairs.

    Args:
        predictor: Embeds clips.
        inputs: N training videos.
        neighbours: How many videos are near another.

    Returns:
        (N, 2) float32, of the visual and of the audio side.
    """
    with torch.no_grad():
        z = video_embedding(predictor, inputs)
        both = correspondence_weights(z.visual, z.audio, neighbours=neighbours)
    return torch.stack(both, 1).float().cpu().numpy()


def detection(
    truth: TrueNoise, loss: np.ndarray, verdict: Verdict, weights: np.ndarray | None
) -> dict[str, float]:
    """Scores everything that judges labels or pairs.

    Args:
        truth: Of N training videos.
        loss: (N,) cross-entropy of each given label.
        verdict: What the method itself thinks; an empty one if it judges nothing.
        weights: (N, 2) of pairs, the method's or `pair_weights`; None to leave them out.

    Returns:
        Percentages, those that the noise defines: ``detect/label/*`` of the loss against flipped
        labels, ``detect/label/<criterion>/*`` of each criterion of the method, of which the first
        is ``detect/*`` as well; ``detect/pair/*`` of 1 - (w_v + w_a)/2 against altered sounds, with
        the mean weights of clean and altered pairs; ``corrected/overall`` and
        ``corrected/flipped``, the share of corrected labels that are the clean ones, and
        ``given/overall``, that of the given ones.
    """
    found = detector_scores("detect/label", truth.flipped, loss)
    for place, (name, keep) in enumerate(verdict.keep.items()):
        scores = detector_scores(f"detect/label/{name}", truth.flipped, 1 - keep)
        found |= scores
        if place == 0:
            found |= {key.replace(f"/label/{name}", ""): value for key, value in scores.items()}
    if weights is not None:
        mean = weights.mean(1)
        found |= detector_scores("detect/pair", truth.altered, 1 - mean)
        for name, kind in (("clean", ~truth.altered), ("altered", truth.altered)):
            if kind.any():
                found[f"weight/{name}"] = 100 * float(mean[kind].mean())
    if verdict.corrected is not None:
        right = verdict.corrected == truth.labels
        found["given/overall"] = 100 * float((~truth.flipped).mean())
        found["corrected/overall"] = 100 * float(right.mean())
        if truth.flipped.any():
            found["corrected/flipped"] = 100 * float(right[truth.flipped].mean())
    return found
