"""Two backbones for tests, the second computed from the first, and a run of them.

python -m tests.features.derived_pair MANIFEST STORE SHARD_ROWS NAME ...
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from features.backbones.descriptors import FrameStats
from features.backbones.interface import BACKBONES
from features.extraction import plan, run_plan
from pipeline.cli import DONE, PARTIAL, run
from pipeline.manifest import read_manifest

__all__ = ["DoubledFrames", "PlainFrames", "main"]


@BACKBONES.add
class PlainFrames(FrameStats):
    """Frame statistics under another name."""

    name = "pair.plain"

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"backbone": self.name}


@BACKBONES.add
class DoubledFrames(PlainFrames):
    """Twice the values of `PlainFrames`."""

    name = "pair.doubled"

    def __init__(self) -> None:
        super().__init__()
        self.source = PlainFrames()

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"backbone": self.name}

    def compute(self, clip: Any) -> np.ndarray:
        return self.derive(self.source.compute(clip))

    def derive(self, steps: np.ndarray) -> np.ndarray:
        return 2 * steps


def main(argv: Sequence[str] | None = None) -> int:
    """Extracts, and says how many clips it worked on."""
    manifest, store, shard_rows, *names = sys.argv[1:] if argv is None else argv
    work = plan(read_manifest(manifest), store, names, shard_rows=int(shard_rows))
    # Whoever starts two of these wants both to have planned before one of them commits.
    print("planned", flush=True)
    sys.stdin.readline()
    report = run_plan(work, workers=1, readers=0)
    print(report.extracted, os.getpid(), flush=True)
    return PARTIAL if report.failed else DONE


if __name__ == "__main__":
    run(main)
