"""A run with weighed pairs, and the figures that tests draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.trainers.figures.made_runs import write_run


@pytest.fixture
def weighted(tmp_path: Path) -> Path:
    """A run with 400 weighed pairs, every fourth of which was altered, and the truth of it."""
    rng = np.random.default_rng(0)
    altered = np.arange(400) % 4 == 0
    weights = np.clip(np.where(altered, 0.3, 0.6) + 0.15 * rng.standard_normal((2, 400)), 0, 1)
    manifest = tmp_path / "made.jsonl"
    run = write_run(tmp_path / "runs", manifest=manifest)
    with h5py.File(run / "labels.h5", "w") as file:
        ids = [f"clip{n}" for n in range(400)]
        file.create_dataset("id", data=ids, dtype=h5py.string_dtype())
        file.create_dataset("weight_visual", data=weights[0].astype(np.float32))
        file.create_dataset("weight_audio", data=weights[1].astype(np.float32))
    lines = [{"id": f"clip{n}", "audio_id": f"clip{n}"} for n in np.flatnonzero(altered)]
    # A wrong label alone alters no pair.
    lines += [{"id": "clip1", "labels": ["a"]}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "made.truth.jsonl").write_text(text)
    return run


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved while a test runs."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures
