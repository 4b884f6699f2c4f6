"""Synthetic benchmark S of action recognition: simulated instances, noise in manifests, whole runs.

python -m tests.benchmark_s FOLDER [--variant ce "ntl full"] [--seed 0 1 2]
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.cores import available_cores
from features.simulated import SIMULATED_FEATURES, simulated_corpus
from features.store import Store
from pipeline.manifest import read_manifest
from pipeline.noise import Asymmetric, Correspondence, Kind, Symmetric, inject, write_noisy

__all__ = ["CONDITIONS", "VARIANTS", "Figures", "measure", "table"]

SHARED = {"epochs": 30, "batch_size": 64, "width": 128, "lr": 1e-3}
"""Constants of the specification for all methods."""

VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ce": ("ce", {}),
    "ntl none": ("ntl", {"contrast": "none"}),
    "ntl ins": ("ntl", {"contrast": "ins"}),
    "ntl cat": ("ntl", {"contrast": "cat"}),
    "ntl full": ("ntl", {}),
    "ntl full, alpha 0": ("ntl", {"alpha": "0"}),
    "gblend": ("gblend", {}),
    "adamml": (
        "adamml",
        {
            "segments": 3,
            "policy_width": 128,
            "policy_hidden": 64,
            # 5 passes, 15 alternations of two, 5 passes.
            "epochs": 40,
            "main_epochs": 5,
            "final_epochs": 5,
        },
    ),
    "avr": ("avr", {"atoms": 256, "epochs": 23, "robust_epochs": 8}),
    "mrl": ("mrl", {"mrl_hidden": 256}),
    "xdc_star": ("xdc_star", {}),
    "coteaching": ("coteaching", {}),
    "dividemix": ("dividemix", {}),
}
"""Registered method and settings beside `SHARED`, by the name in the specification's table."""

CONDITIONS: Mapping[str, tuple[Kind, float]] = {
    "sym60": (Symmetric(), 0.6),
    "asym40": (Asymmetric(), 0.4),
}
FOREIGN = 0.25
"""Share of the training videos whose sound comes from the pool."""


@dataclass(frozen=True)
class Figures:
    """What one run came to, shares from 0 to 1; NaN where there is no such number.

    Attributes:
        last, best: Test C@1 after the last epoch, and at its best epoch.
        pair: AUROC of the pair weights against foreign sounds.
        loss: AUROC of the loss against wrong labels.
        label: AUROC of the method's own first criterion.
        corrected: Share of corrected labels that are clean ones.
        seconds: Training time.
    """

    last: float
    best: float
    pair: float
    loss: float
    label: float
    corrected: float
    seconds: float


Job = tuple[str, str, int]
"""Variant, condition and seed; the noise has the seed of the training."""


def measure(folder: Path, jobs: Iterable[Job], *, workers: int | None = None) -> dict[Job, Figures]:
    """Runs what has not been run in this folder before, a process with one thread a core.

    Args:
        folder: Gets corpora, noisy manifests and runs.
        jobs: What to run.
        workers: Processes; default one a core.
    """
    jobs = list(jobs)
    for condition, seed in sorted({job[1:] for job in jobs}):
        _noisy(folder, condition, seed)
    # The longest ones first: a worker that begins them last keeps the others waiting.
    order = sorted(jobs, key=lambda job: job[0] not in ("dividemix", "avr", "ntl full"))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or available_cores(), mp_context=context) as pool:
        found = pool.map(_run, [folder] * len(order), order)
        return dict(zip(order, found, strict=True))


def _noisy(folder: Path, condition: str, seed: int) -> Path:
    """The corpus of a seed with foreign sounds and wrong labels; the manifest."""
    out = folder / f"seed{seed}" / f"{condition}.jsonl"
    if not out.exists():
        manifest, _ = simulated_corpus(folder / f"seed{seed}", seed)
        foreign = inject(
            read_manifest(manifest), Correspondence(donors="external"), rate=FOREIGN, seed=seed
        )
        kind, rate = CONDITIONS[condition]
        noisy = inject(foreign.manifest, kind, rate=rate, seed=seed, truth=foreign.truth)
        write_noisy(noisy, out)
    return out


def _run(folder: Path, job: Job) -> Figures:
    # Imported in the worker: its parent need not load torch.
    from trainers.action.experiment import Experiment

    variant, condition, seed = job
    method, values = VARIANTS[variant]
    (run,) = Experiment(
        method=method,
        manifest=read_manifest(_noisy(folder, condition, seed)),
        store=Store(folder / f"seed{seed}" / "store"),
        roles=SIMULATED_FEATURES,
        values=SHARED | values,
        detect_every=0,
        threads=1,
        runs=folder / "runs",
        quiet=True,
    ).run([seed])
    results = run.results()
    test, train = results["metrics"]["test"], results["metrics"]["train"]
    keys = ("detect/pair/auroc", "detect/label/auroc", "detect/auroc", "corrected/overall")
    found = [train.get(key) for key in keys]
    return Figures(
        test["last"]["clip@1"] / 100,
        test["oracle"]["clip@1"] / 100,
        *(float("nan") if value is None else value / 100 for value in found),
        seconds=results["seconds"],
    )


def table(figures: Mapping[Job, Figures]) -> str:
    """All figures as Markdown, a line a variant and condition, a number a seed."""
    names = ("last", "best", "pair", "loss", "label", "corrected")
    head = ("variant", "condition", *names, "seconds")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for variant, condition in dict.fromkeys(job[:2] for job in sorted(figures, key=_place)):
        rows = [figures[job] for job in sorted(figures) if job[:2] == (variant, condition)]
        cells = [" ".join(f"{getattr(row, name):.3f}" for row in rows) for name in names]
        seconds = f"{np.mean([row.seconds for row in rows]):.1f}"
        lines.append(f"| {' | '.join([variant, condition, *cells, seconds])} |")
    return "\n".join(lines)


def _place(job: Job) -> tuple[int, int, int]:
    variant, condition, seed = job
    return list(CONDITIONS).index(condition), list(VARIANTS).index(variant), seed


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--condition", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args(argv)
    jobs = [(v, c, s) for v in options.variant for c in options.condition for s in options.seed]
    print(table(measure(options.folder, jobs)))


if __name__ == "__main__":
    main()
