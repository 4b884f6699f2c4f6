"""Which events a clip holds and when each is heard and seen, in steps of one second.

The statistics are those of LLP (Tian, Li and Xu 2020): several labels a clip, one dominant class
that is heard but seldom seen, and events that fill most of a clip, longer in the picture than in
the sound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.demo.classes import ClassTable, class_table
from pipeline.manifest import DenseEvent

__all__ = [
    "SECONDS",
    "SPLIT_NAMES",
    "Timeline",
    "clip_id",
    "clip_rng",
    "draw_timeline",
    "duration",
    "place",
]

SECONDS = 10
SPLIT_NAMES = ("train", "val", "test", "pool")
"""A split's place numbers its streams; what is added stands last."""

_STREAMS = {"timeline": 0, "picture": 1, "sound": 2}

_FULL = {"audio": 0.40, "visual": 0.64}
"""Probability that an event fills the clip. The others last 1 to 9 s, each length equally likely,
so that a present event fills 0.70 (audio) and 0.82 (visual) of the clip on average."""
_CORRELATION = 0.8
"""Correlation of the two durations of an event that is both heard and seen."""
_BROKEN = 0.45
"""Probability that an event shorter than the clip comes in several runs."""
_PLACEMENTS = 4
"""Visual placements drawn for an event that is also heard; the one that overlaps most is kept."""


@dataclass(frozen=True)
class Timeline:
    """When each event of a clip is heard and seen.

    Attributes:
        id: The clip.
        classes: Indices of the clip's labels, ascending (K,).
        audio, visual: (K, SECONDS) bool, whether event k is heard, or seen, in each second.
    """

    id: str
    classes: tuple[int, ...]
    audio: np.ndarray
    visual: np.ndarray

    def labels(self, modality: str | None = None) -> tuple[str, ...]:
        """Names of the events of one modality, or of the clip, in index order."""
        names = class_table().names
        if modality is None:
            return tuple(names[c] for c in self.classes)
        present = self.active(modality).any(axis=1)
        return tuple(names[c] for c, here in zip(self.classes, present, strict=True) if here)

    def active(self, modality: str) -> np.ndarray:
        """The timeline of ``"audio"`` or ``"visual"``, (K, SECONDS) bool."""
        return {"audio": self.audio, "visual": self.visual}[modality]

    def events(self) -> list[DenseEvent]:
        """All runs of all events, audio first, then by class and onset."""
        found = []
        for modality in ("audio", "visual"):
            for name, row in zip(self.labels(), self.active(modality), strict=True):
                steps = np.diff(np.concatenate([[0], row.astype(np.int8), [0]]))
                runs = zip(np.flatnonzero(steps > 0), np.flatnonzero(steps < 0), strict=True)
                found += [DenseEvent(self.id, modality, float(a), float(b), name) for a, b in runs]
        return found

    def truth(self) -> dict[str, Any]:
        """The line of the truth file."""
        return {
            "id": self.id,
            "labels_audio": list(self.labels("audio")),
            "labels_visual": list(self.labels("visual")),
            "events": [[e.modality, int(e.onset), int(e.offset), e.label] for e in self.events()],
        }


def clip_id(split: str, index: int) -> str:
    """The id of a split's clip."""
    return f"{split}-{index:05d}"


def clip_rng(
    seed: int, split: str, index: int, stream: str, *, corpus: tuple[int, ...] = ()
) -> np.random.Generator:
    """The generator of one stream of one clip.

    It depends on its arguments alone, so that a clip is the same in a corpus of any size and a
    change to the sounds never moves the pictures.

    Args:
        seed: The corpus's seed.
        split: One of `SPLIT_NAMES`.
        index: The clip's number in its split.
        stream: ``"timeline"``, ``"picture"`` or ``"sound"``.
        corpus: What keeps the streams of another corpus of the same seed apart.
    """
    key = (SPLIT_NAMES.index(split), index, _STREAMS[stream], *corpus)
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=key))


def draw_timeline(seed: int, split: str, index: int) -> Timeline:
    """Draws the events of one clip.

    Args:
        seed: The corpus's seed.
        split: One of `SPLIT_NAMES`.
        index: The clip's number in its split.
    """
    rng = clip_rng(seed, split, index, "timeline")
    table = class_table()
    classes = _draw_classes(rng, table, split)
    audio = np.zeros((len(classes), SECONDS), dtype=bool)
    visual = np.zeros((len(classes), SECONDS), dtype=bool)
    for k, c in enumerate(classes):
        event = table.classes[c]
        kind = rng.choice(3, p=(event.audio, event.visual, event.both))
        heard, seen = _draw_durations(rng)
        if kind != 1:
            audio[k] = place(rng, heard)
        if kind == 0:
            continue
        options = [place(rng, seen) for _ in range(_PLACEMENTS if kind == 2 else 1)]
        visual[k] = max(options, key=lambda option: (option & audio[k]).sum())
        if kind == 2 and not (audio[k] & visual[k]).any():
            # Short events may still miss each other; then they are seen from where they sound.
            visual[k] = np.roll(visual[k], int(audio[k].argmax()) - int(visual[k].argmax()))
    return Timeline(clip_id(split, index), tuple(int(c) for c in classes), audio, visual)


def _draw_classes(rng: np.random.Generator, table: ClassTable, split: str) -> np.ndarray:
    """Indices of the clip's labels, ascending."""
    share = table.labels_per_clip[split]
    count = 1 + rng.choice(len(share), p=share)
    dominant = count > 1 and rng.random() < table.dominant_share
    weight = np.array([c.weight for c in table.classes])
    others = rng.choice(len(weight), count - dominant, replace=False, p=weight / weight.sum())
    return np.sort(np.append(others, [table.dominant] if dominant else []).astype(int))


def _draw_durations(rng: np.random.Generator) -> tuple[int, int]:
    """Seconds for which an event is heard and seen, were it both."""
    shared, own = rng.normal(), rng.normal(size=2)
    normal = math.sqrt(_CORRELATION) * shared + math.sqrt(1 - _CORRELATION) * own
    heard, seen = (
        duration(0.5 * (1 + math.erf(value / math.sqrt(2))), _FULL[modality])
        for value, modality in zip(normal, ("audio", "visual"), strict=True)
    )
    return heard, seen


def duration(level: float, full: float) -> int:
    """Seconds at one level of the distribution of durations, longest first.

    Args:
        level: Share of the distribution that lasts longer, 0 to 1.
        full: Share that fills the clip; the others last 1 to 9 s, each length equally likely.
    """
    if level < full:
        return SECONDS
    return max(1, SECONDS - 1 - int((level - full) / (1 - full) * (SECONDS - 1)))


def place(rng: np.random.Generator, seconds: int) -> np.ndarray:
    """Places some seconds on the clip in one run or several, (SECONDS,) bool."""
    pause = SECONDS - seconds
    runs = 1
    if seconds > 1 and pause > 0 and rng.random() < _BROKEN:
        runs = int(rng.integers(2, min(3, seconds, pause + 1) + 1))
    # Lengths are drawn as a random composition; pauses between runs are at least a second,
    # the ones before and after may be none.
    cuts = np.sort(rng.choice(np.arange(1, seconds), runs - 1, replace=False))
    lengths = np.diff(np.concatenate([[0], cuts, [seconds]])).astype(int)
    slack = rng.multinomial(pause - (runs - 1), np.full(runs + 1, 1 / (runs + 1)))
    row = np.zeros(SECONDS, dtype=bool)
    position = slack[0]
    for length, gap in zip(lengths, slack[1:] + 1, strict=True):
        row[position : position + length] = True
        position += length + gap
    return row
