"""Finished runs that nobody trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NOISE = [{"kind": "symmetric", "rate": 0.4}, {"kind": "correspondence", "rate": 0.25}]


def write_run(
    folder: Path,
    *,
    seed: int = 0,
    noise: Sequence[Mapping[str, Any]] = NOISE,
    alpha: str = "linear",
    accuracy: float = 50.0,
    manifest: Path | None = None,
) -> Path:
    """A finished run with as much in it as figures read."""
    run = folder / f"action/ntl-{seed}-{alpha}"
    run.mkdir(parents=True)
    test = {"last": {"clip@1": accuracy}, "selected": {"clip@1": None}, "oracle": {"clip@1": 99.0}}
    results = {
        "schema": 1,
        "task": "action",
        "method": "ntl",
        "seed": seed,
        "updates": 100,
        "dataset": "made",
        "supervision": "noisy",
        "features": {},
        "noise": list(noise),
        "metrics": {"val": {"clip@1": None}, "test": test},
    }
    config = {
        "seed": seed,
        "manifest": "m",
        "hyperparameters": {"alpha": alpha},
        "paths": {"manifest": str(manifest)},
    }
    (run / "results.json").write_text(json.dumps(results))
    (run / "config.json").write_text(json.dumps(config))
    (run / "DONE").touch()
    return run
