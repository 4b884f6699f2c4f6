"""Sweeps of methods that are small enough to train in a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.benchmarks.jobs import Job
from flows.benchmarks.preparing import prepare

SMALL = "width=16,ff=16,batch_size=8"
HAN = f"han:{SMALL},epochs=1"


def written(text: str) -> str:
    """A method as tables write it."""
    name, options = text.split(":")
    return f"{name}:{','.join(sorted(options.split(',')))}"


def plan_jobs(
    corpus: Sequence[str], runs: Path, *method: str, seed: Sequence[int] = (0,)
) -> list[Job]:
    """The jobs of some methods on a corpus that is named by options."""
    named = dict(word[2:].split("=", 1) for word in corpus[:3])
    return prepare(**named, features=corpus[4:], method=method, seed=seed, runs=runs)[1]
