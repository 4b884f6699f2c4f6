"""The action corpus: one action a clip, which shows two things and sounds of two others.

Looks and sounds are those of the parsing corpus. Each comes and goes in seconds of its own, so a
second shows and sounds of all of an action, of some of it, or of nothing. As every look and every
sound belongs to several actions, sound and picture complete each other; as all clips of an action
draw on the same looks and sounds, the sound of another action can be told from the picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.demo.classes import class_table
from pipeline.demo.timelines import SECONDS, Timeline, clip_id, clip_rng, duration, place
from pipeline.manifest import Header, Manifest, Row, write_manifest

__all__ = ["ACTION_CLASS_FILE", "ActionClass", "Actions", "action_classes", "action_of"]

ACTION_CLASS_FILE = Path(__file__).parents[2] / "manifests" / "demo-action" / "classes.json"

_CORPUS = (1,)
"""Keeps the streams of this corpus apart from those of the parsing corpus."""
_ORDER = (1, 0)
"""Of the streams that put the actions of a split in order."""
_FULL = {"audio": 0.50, "visual": 0.75}
"""Probability that a sound, or a look, fills the clip; the others last 1 to 9 s."""


@dataclass(frozen=True, slots=True)
class ActionClass:
    """One action.

    Attributes:
        name: Its label.
        looks: Indices of the two events of the parsing corpus that are seen.
        sounds: Indices of the two that are heard.
    """

    name: str
    looks: tuple[int, int]
    sounds: tuple[int, int]


@cache
def action_classes() -> tuple[ActionClass, ...]:
    """Reads the class file, which is in alphabetical order."""
    data = json.loads(ACTION_CLASS_FILE.read_text(encoding="utf-8"))
    events = class_table().names

    def indices(names: list[str]) -> tuple[int, int]:
        first, second = (events.index(name) for name in names)
        return first, second

    return tuple(
        ActionClass(entry["name"], indices(entry["looks"]), indices(entry["sounds"]))
        for entry in data["classes"]
    )


def action_of(seed: int, split: str, index: int) -> int:
    """The action of a clip, as an index.

    Every run of as many clips as there are actions holds each once, so that a split of any size
    is balanced to one clip a class, and a larger one begins as a smaller one does.
    """
    turn, position = divmod(index, len(action_classes()))
    rng = clip_rng(seed, split, turn, "timeline", corpus=_ORDER)
    return int(rng.permutation(len(action_classes()))[position])


class Actions:
    """See `pipeline.demo.kinds.CorpusKind`.

    Rows of split ``pool`` are clips like the others, of sources of their own; they carry their
    label, so that audio can be borrowed from another class.
    """

    dataset = "demo-action"
    version = 1
    sizes: Mapping[str, int] = {"train": 600, "val": 100, "test": 300, "pool": 300}
    tables: tuple[str, ...] = ()

    def rng(self, seed: int, split: str, index: int, stream: str) -> np.random.Generator:
        """The generator of one stream of one clip; see `clip_rng`."""
        return clip_rng(seed, split, index, stream, corpus=_CORPUS)

    def timeline(self, seed: int, split: str, index: int) -> Timeline:
        """Draws when each look of a clip is seen and each sound of it is heard."""
        rng = self.rng(seed, split, index, "timeline")
        action = action_classes()[action_of(seed, split, index)]
        audio, visual = np.zeros((2, 4, SECONDS), dtype=bool)
        for k in range(2):
            visual[k] = place(rng, duration(rng.random(), _FULL["visual"]))
        for k in range(2, 4):
            audio[k] = place(rng, duration(rng.random(), _FULL["audio"]))
        return Timeline(clip_id(split, index), (*action.looks, *action.sounds), audio, visual)

    def write(self, path: Path, identity: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        """Writes the manifest."""
        classes = tuple(action.name for action in action_classes())
        header = Header(
            dataset=self.dataset,
            label_type="multiclass",
            classes=classes,
            corpus={**identity, **sizes},
        )
        rows = tuple(
            _row(split, index, classes[action_of(identity["seed"], split, index)])
            for split, size in sizes.items()
            for index in range(size)
        )
        write_manifest(Manifest(header, rows, path), path)


def _row(split: str, index: int, label: str) -> Row:
    name = clip_id(split, index)
    return Row(
        id=name,
        start=0.0,
        end=float(SECONDS),
        split=split,
        labels=(label,),
        video=f"videos/{name}.mp4",
    )
