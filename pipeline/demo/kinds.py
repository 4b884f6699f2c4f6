"""The kinds of corpora that can be rendered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.demo.actions import Actions
from pipeline.demo.parsing import Parsing
from pipeline.demo.timelines import Timeline
from pipeline.errors import unknown_name

__all__ = ["KINDS", "CorpusKind", "corpus_kind"]


class CorpusKind(Protocol):
    """What tells one rendered corpus from another.

    Attributes:
        dataset: Name in manifests, and of the default folder.
        version: Raised by hand whenever a timeline, a frame, a sound or the encoding changes.
        sizes: Clips of each split when nobody says otherwise.
        tables: Files that stand beside the manifest.
    """

    dataset: str
    version: int
    sizes: Mapping[str, int]
    tables: tuple[str, ...]

    def timeline(self, seed: int, split: str, index: int) -> Timeline:
        """When each event of a clip is heard and seen."""

    def rng(self, seed: int, split: str, index: int, stream: str) -> np.random.Generator:
        """The generator of one stream of one clip."""

    def write(self, path: Path, identity: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        """Writes the tables and, last, the manifest.

        Args:
            path: The manifest.
            identity: Name, version and seed.
            sizes: Clips of each split.
        """


KINDS: dict[str, CorpusKind] = {"parsing": Parsing(), "action": Actions()}


def corpus_kind(name: str) -> CorpusKind:
    """A kind by its name.

    Raises:
        UserError: If there is none; offers the nearest name.
    """
    if name not in KINDS:
        raise unknown_name("kind of corpus", name, KINDS)
    return KINDS[name]
