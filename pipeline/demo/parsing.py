"""The parsing corpus: several labels a clip, some of which hold in one modality only, as in LLP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.demo.classes import class_table
from pipeline.demo.timelines import SECONDS, Timeline, clip_rng, draw_timeline
from pipeline.files import write_atomic
from pipeline.manifest import Header, Manifest, Row, write_dense, write_manifest

__all__ = ["CORPUS_VERSION", "DATASET", "Parsing"]

CORPUS_VERSION = 2
"""Raised by hand whenever a timeline, a frame, a sound or the encoding of a seed changes."""
DATASET = "demo-avvp"

_DENSE = "manifest.dense.tsv"
_TRUTH = "manifest.truth.jsonl"


class Parsing:
    """See `pipeline.demo.kinds.CorpusKind`."""

    dataset = DATASET
    version = CORPUS_VERSION
    sizes: Mapping[str, int] = {"train": 300, "val": 75, "test": 150}
    tables = (_DENSE, _TRUTH)

    timeline = staticmethod(draw_timeline)
    rng = staticmethod(clip_rng)

    def write(self, path: Path, identity: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        """Writes the truth, the dense annotations and, last, the manifest that names them."""
        timelines = {
            split: [draw_timeline(identity["seed"], split, index) for index in range(size)]
            for split, size in sizes.items()
        }
        truth = [json.dumps(t.truth(), ensure_ascii=False) + "\n" for t in timelines["train"]]
        write_atomic(path.with_name(_TRUTH), "".join(truth))
        dense = [e for split in ("val", "test") for t in timelines[split] for e in t.events()]
        header = Header(
            dataset=self.dataset,
            label_type="multilabel",
            classes=class_table().names,
            annotations=write_dense(dense, path.with_name(_DENSE)),
            corpus={**identity, **sizes},
        )
        rows = tuple(_row(t, split) for split, some in timelines.items() for t in some)
        write_manifest(Manifest(header, rows, path), path)


def _row(timeline: Timeline, split: str) -> Row:
    return Row(
        id=timeline.id,
        start=0.0,
        end=float(SECONDS),
        split=split,
        labels=timeline.labels(),
        video=f"videos/{timeline.id}.mp4",
    )
