"""Results of runs that nobody trained, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path

from trainers.runs import Run
from trainers.tasks import AVVP


def made_result(method: str, seed: int, value: float, **more: object) -> dict:
    """What ``results.json`` of a parsing run holds; every number but one blank is ``value``."""
    metrics = dict.fromkeys(AVVP.metrics, value) | {"segment/visual": None}
    block = {"val": metrics, "test": {"last": metrics, "selected": metrics, "oracle": metrics}}
    return {
        "schema": 1, "method": method, "seed": seed, "as_released": False, "supervision": "weak",
        "dataset": "d", "features": {"audio": "a-1"}, "updates": 300, "metrics": block,
        "metrics_never_visible": {"class": "Speech", **block},
    } | more  # fmt: skip


def made_config(method: str, seed: int, **more: object) -> dict:
    """What ``config.json`` of a run holds."""
    return {
        "task": "avvp",
        "method": method,
        "seed": seed,
        "manifest": "m",
        "dataset": "d",
        "features": {"audio": "a-1"},
        "rows": "r",
        "noise": [],
        "annotations": "x",
    } | more


def write_run(root: Path, method: str, seed: int, value: float, **config: object) -> Run:
    """Writes a finished parsing run."""
    run = Run(root, made_config(method, seed, **config))
    run.begin(paths={"manifest": "somewhere"})
    run.finish(made_result(method, seed, value))
    return run


def noisy_result(
    method: str, seed: int, value: float, *, noise_seed: int, rate: float = 0.4
) -> dict:
    """A recognition result under one draw of symmetric noise, as `read_results` gives it."""
    noise = [
        {"kind": "symmetric", "options": {"inclusive": False}, "rate": rate, "seed": noise_seed,
         "parent": "clean", "id": f"{rate}-{noise_seed}", "realised": {"overall": rate}}
    ]  # fmt: skip
    metrics = {"clip@1": value, "clip@5": 2 * value, "video@1": None}
    config = made_config(method, seed, task="action", manifest=f"{rate}-{noise_seed}", noise=noise,
                         rows=f"r{noise_seed}", hyperparameters={"lr": 0.001})  # fmt: skip
    config.pop("seed")
    return {
        "schema": 1, "task": "action", "method": method, "seed": seed, "as_released": False,
        "supervision": "noisy", "needs": [], "dataset": "d", "features": {"audio": "a-1"},
        "updates": 100, "passes": 60, "seconds": 2.0, "schedule": "demo", "noise": noise,
        "selection": {"epoch": 3, "oracle_epoch": 7},
        "metrics": {"val": metrics, "test": dict.fromkeys(("last", "selected", "oracle"), metrics)},
        "identity": config,
    }  # fmt: skip
