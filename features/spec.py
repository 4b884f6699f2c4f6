"""What a feature is: all that changes one of its values, and the id hashed from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.files import object_digest, read_sealed

__all__ = ["FeatureSpec", "dotted"]


@dataclass(frozen=True)
class FeatureSpec:
    """A feature's name and everything that changes one of its values.

    Library versions, device, thread count and date are no part of it: they are recorded beside
    each shard, but two machines that follow the same spec make the same feature.

    Args:
        name: The feature's name, such as ``"resnet152.frames"``.
        values: Plain values (texts, numbers, lists, dicts) that JSON can carry.
        request: How to ask for it again, where it was computed from media: options, weight file
            or seed of random weights, decoder. Recorded, never hashed.
    """

    name: str
    values: Mapping[str, Any]
    request: Mapping[str, Any] | None = field(default=None, compare=False)

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
        request = {} if self.request is None else {"request": dict(self.request)}
        values = dict(self.values)
        return {"schema": 1, "name": self.name, "id": self.id, "values": values, **request}

    @classmethod
    def read(cls, path: Path) -> FeatureSpec:
        """Reads a ``spec.json`` and compares it with its folder's name.

        Raises:
            ValueError: If it is none, was changed, or is another folder's.
            OSError: If it cannot be read.
        """
        value = read_sealed(path.read_bytes())
        try:
            spec = cls(value["name"], value["values"], value.get("request"))
            plain = isinstance(spec.name, str) and isinstance(spec.values, dict)
            if not plain or not isinstance(spec.request, dict | None):
                raise ValueError("it is no spec of a feature")
            if value != spec.to_json() or path.parent.name != spec.folder:
                raise ValueError(f"its text was changed: it is not that of {path.parent.name}")
        except KeyError as error:
            raise ValueError(f"it lacks {error}") from error
        return spec


def dotted(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested values as dotted keys, so that two specs can be told apart by eye."""
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += dotted(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found
