"""What a feature is: all that changes one of its values, and the id hashed from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.files import object_digest

__all__ = ["FeatureSpec"]


@dataclass(frozen=True)
class FeatureSpec:
    """A feature's name and everything that changes one of its values.

    Library versions, device, thread count and date are no part of it: they are recorded beside
    each shard, but two machines that follow the same spec make the same feature.

    Args:
        name: The feature's name, such as ``"resnet152.frames"``.
        values: Plain values (texts, numbers, lists, dicts) that JSON can carry.
    """

    name: str
    values: Mapping[str, Any]

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits that name the values."""
        return object_digest(self.values)

    @property
    def folder(self) -> str:
        """The feature's folder in a store, and its unambiguous name for the user."""
        return f"{self.name}-{self.id}"

    def to_json(self) -> dict[str, Any]:
        """What ``spec.json`` holds."""
        return {"schema": 1, "name": self.name, "id": self.id, "values": dict(self.values)}
