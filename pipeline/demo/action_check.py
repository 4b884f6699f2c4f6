"""Is the action corpus neither trivial nor hopeless? Measured before any method is trained on it.

A plain classifier on clean labels must name most seconds but not all. Sound alone and picture
alone must say much of the action and less than both, or noise in their correspondence would not
matter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.demo.check import Figure, describe_all, segment_descriptors
from pipeline.descriptors import AUDIO_WIDTH
from pipeline.errors import UserError
from pipeline.manifest import read_manifest
from pipeline.progress import Advance

__all__ = ["check_actions", "clip_accuracy"]

JOINT_RANGE = (50.0, 95.0)
SINGLE_RANGE = (15.0, 80.0)

_HIDDEN = (512, 512)
_EPOCHS = 60
_BATCH = 32


def check_actions(
    manifest_path: Path, *, workers: int = 1, progress: Advance | None = None
) -> list[Figure]:
    """Measures a rendered action corpus from its files.

    Args:
        manifest_path: The corpus's manifest.
        workers: Processes that decode.
        progress: Hears of every clip described.

    Returns:
        Accuracy over the seconds of test clips from both descriptors, from the audio one and from
        the visual one.

    Raises:
        UserError: If there are no training or no test clips.
        MediaError: If a file cannot be decoded.
    """
    manifest = read_manifest(manifest_path)
    train, test = manifest.split("train"), manifest.split("test")
    if not (train and test):
        raise UserError("The check needs clips of train and test; build the corpus with some.")
    paths = [manifest.media_root / row.video for row in (*train, *test)]
    features = describe_all(segment_descriptors, paths, workers=workers, progress=progress)
    labels = manifest.label_matrix((*train, *test)).argmax(axis=1)
    n = len(train)
    parts = {
        "sound and picture": (slice(None), JOINT_RANGE),
        "sound alone": (slice(AUDIO_WIDTH), SINGLE_RANGE),
        "picture alone": (slice(AUDIO_WIDTH, None), SINGLE_RANGE),
    }
    return [
        Figure(
            f"perceptron on {name}, test clip@1",
            100 * clip_accuracy(features[:n, :, of], labels[:n], features[n:, :, of], labels[n:]),
            *allowed,
        )
        for name, (of, allowed) in parts.items()
    ]


def clip_accuracy(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    *,
    seed: int = 0,
) -> float:
    """Share of test seconds that a perceptron names right, 0 to 1.

    As in training on clips, an epoch visits every video once, with one second drawn from it.

    Args:
        train, test: Features (N, T, D) and (M, T, D).
        train_labels, test_labels: Class indices (N,) and (M,).
        seed: Of the initial weights and the draws.
    """
    from sklearn.neural_network import MLPClassifier

    mean, deviation = train.mean(axis=(0, 1)), train.std(axis=(0, 1)) + 1e-6
    train, test = (train - mean) / deviation, (test - mean) / deviation
    rng = np.random.default_rng(seed)
    model = MLPClassifier(
        _HIDDEN, batch_size=min(_BATCH, len(train)), random_state=int(rng.integers(2**31))
    )
    videos, classes = np.arange(len(train)), np.unique(train_labels)
    for _ in range(_EPOCHS):
        second = rng.integers(train.shape[1], size=len(train))
        model.partial_fit(train[videos, second], train_labels, classes=classes)
    named = model.predict(test.reshape(-1, test.shape[2])).reshape(test.shape[:2])
    return float((named == test_labels[:, None]).mean())
