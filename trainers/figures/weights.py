"""How correspondence weights of clean and altered pairs are spread."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError, unknown_name
from pipeline.noise import read_truth, truth_path
from trainers.figures.drawing import COLOURS, check_suffix, new_axes, save
from trainers.finished import config, labels, read_results
from trainers.results import noise_ids, noise_title

__all__ = ["WEIGHTS", "weights_histogram"]

WEIGHTS = {
    "mean": "mean of both sides",
    "visual": "visual side",
    "audio": "audio side",
}
"""Which weight of a pair is shown."""

BINS = (10, 40)
"""Fewest and most bars of a histogram."""


def weights_histogram(
    run: Path, out: Path, *, truth: Path | None = None, which: str = "mean"
) -> Path:
    """Draws how the correspondence weights of clean and altered pairs are spread (figure 8).

    Args:
        run: A finished run whose ``labels.h5`` holds ``weight_visual`` and ``weight_audio`` (N,).
        out: The picture; ``.png``, ``.svg`` or ``.pdf``.
        truth: The truth file of its manifest; None looks beside the manifest that the run was
            made with. Without any, all pairs are one histogram.
        which: One of `WEIGHTS`.

    Returns:
        ``out``.

    Raises:
        UserError: If the run has no weights, or the truth file cannot be read or is of another
            manifest.
    """
    if which not in WEIGHTS:
        raise unknown_name("weight", which, WEIGHTS)
    check_suffix(out)
    results = read_results(run)
    ids, weights = _weights(run, which)
    altered = _altered(run, results, ids, truth)
    bars = int(np.clip(round(math.sqrt(len(weights))), *BINS))
    edges = np.linspace(*_padded(weights), bars + 1)
    figure, axes = new_axes()
    if altered is None:
        groups = [("pairs (truth unknown)", np.ones(len(weights), dtype=bool))]
    else:
        groups = [("clean pairs", ~altered), ("altered pairs", altered)]
    for number, (name, chosen) in enumerate(groups):
        if not chosen.any():
            continue
        count = int(chosen.sum())
        share = np.full(count, 100.0 / count)
        common = {"bins": edges, "weights": share, "color": COLOURS[number]}
        axes.hist(weights[chosen], histtype="stepfilled", alpha=0.3, **common)
        axes.hist(
            weights[chosen],
            histtype="step",
            linewidth=1.5,
            linestyle=("-", "--")[number],
            label=f"{name} (n = {count:,})",
            **common,
        )
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(f"correspondence weight ω, {WEIGHTS[which]}")
    axes.set_ylabel("share of the pairs (%)")
    axes.set_title(_weights_title(results, weights, altered), fontsize="medium", loc="left")
    axes.legend(frameon=False)
    return save(figure, out)


def _weights(run: Path, which: str) -> tuple[list[str], np.ndarray]:
    """Ids and weights (N,) of a run."""
    found = labels(run)
    if not {"weight_visual", "weight_audio"} <= found.keys():
        raise UserError(
            f"The run {run} holds no correspondence weights; name a run of a method that weighs "
            "pairs, such as ntl."
        )
    names = ("visual", "audio") if which == "mean" else (which,)
    sides = [found[f"weight_{name}"].astype(float) for name in names]
    return list(found["id"]), np.mean(sides, axis=0)


def _altered(
    run: Path, results: Mapping[str, Any], ids: Sequence[str], path: Path | None
) -> np.ndarray | None:
    """Which pairs got another audio, (N,) bool; None where nobody knows."""
    if path is None:
        path = truth_path(config(run)["paths"]["manifest"])
        if not path.is_file():
            return None
    truth = read_truth(path)
    changed = {row_id for row_id, entry in truth.items() if "audio_id" in entry}
    _check_truth(path, truth.keys(), len(changed), results, ids)
    return np.array([row_id in changed for row_id in ids], dtype=bool)


def _check_truth(
    path: Path,
    known: Collection[str],
    changed: int,
    results: Mapping[str, Any],
    ids: Sequence[str],
) -> None:
    """Refuses the truth of another manifest than the run's.

    Args:
        path: The truth.
        known: Ids of its lines. Some may have had no features or stand in another split.
        changed: How many of them got another audio.
        results: Of the run.
        ids: What it was trained on.
    """
    expected = _altered_count(results["noise"])
    beside, own = _noise_beside(path), noise_ids(results)
    if beside is not None and beside != own:
        why = f"is of the noise {'+'.join(beside) or 'none'}, not {'+'.join(own) or 'none'}"
    elif known and known.isdisjoint(ids):
        why = "has no clip in common with the run"
    elif expected is not None and expected != changed:
        why = f"has {changed} clips with another sound, not {expected}"
    else:
        return
    raise UserError(
        f"The truth {path} {why}; pass the one of the manifest that the run was trained on with "
        "--truth."
    )


def _noise_beside(truth: Path) -> tuple[str, ...] | None:
    """Ids of the noise of the manifest beside a truth; None where there is none to read."""
    manifest = truth.with_name(truth.name.removesuffix(".truth.jsonl") + ".jsonl")
    try:
        with open(manifest, encoding="utf-8") as file:
            header = json.loads(file.readline())
        return noise_ids(header) if "manifest" in header else None
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _altered_count(noise: Sequence[Mapping[str, Any]]) -> int | None:
    """How many clips carry another sound after some noise; None where that is not recorded."""
    kinds = [entry["kind"] for entry in noise]
    if not noise or any("audio_id" in entry.get("corpus_truth", ()) for entry in noise):
        return None
    if "correspondence" not in kinds:
        return 0
    if "overlap" in noise[-1]:
        return noise[-1]["overlap"]["both"] + noise[-1]["overlap"]["altered"]
    return noise[-1].get("changed") if kinds == ["correspondence"] else None


def _weights_title(
    results: Mapping[str, Any], weights: np.ndarray, altered: np.ndarray | None
) -> str:
    text = f"{results['method']}, {results['dataset']}, {noise_title(results['noise'])}"
    if altered is None or altered.all() or not altered.any():
        return text
    from sklearn.metrics import roc_auc_score

    return f"{text}\nAUROC {roc_auc_score(altered, -weights):.3f}"


def _padded(values: np.ndarray) -> tuple[float, float]:
    """The range of some values, never empty."""
    low, high = float(values.min()), float(values.max())
    pad = 0.02 * (high - low) or 0.5
    return low - pad, high + pad
