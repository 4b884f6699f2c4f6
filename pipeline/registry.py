"""Things found by name: backbones, methods. One file each, or another package's entry point."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points
from types import ModuleType
from typing import Generic, TypeVar

from pipeline.errors import unknown_name

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to classes, filled by importing a package's modules and an entry-point group.

    A registered class has a class attribute ``name``. A duplicate name is an error, and so is a
    module that cannot be imported: a method that silently vanishes from a table is worse than a
    command that does not start.

    Args:
        kind: The word for errors, such as ``"avvp method"``.
        package: The package whose modules register themselves with `add`.
        group: The entry-point group under which other packages offer theirs.
    """

    def __init__(self, kind: str, *, package: str, group: str) -> None:
        self.kind = kind
        self.package = package
        self.group = group
        self._entries: dict[str, type[T]] = {}
        self._loaded = False

    def add(self, entry: type[T]) -> type[T]:
        """Registers a class under its ``name``; use as a decorator.

        Raises:
            ValueError: If the name is taken by another class.
        """
        name = entry.name  # type: ignore[attr-defined]
        taken = self._entries.get(name)
        if taken is not None and taken is not entry:
            both = " and ".join(f"{c.__module__}.{c.__qualname__}" for c in (taken, entry))
            raise ValueError(f"two classes register the {self.kind} {name!r}: {both}")
        self._entries[name] = entry
        return entry

    def _load(self) -> None:
        if self._loaded:
            return
        # Set first: a module that asks the registry while it is being imported must not recurse.
        self._loaded = True
        try:
            module: ModuleType = importlib.import_module(self.package)
            for info in pkgutil.iter_modules(module.__path__):
                importlib.import_module(f"{self.package}.{info.name}")
            for point in entry_points(group=self.group):
                self.add(point.load())
        except BaseException:
            self._loaded = False
            raise

    def names(self) -> tuple[str, ...]:
        """All registered names, sorted."""
        self._load()
        return tuple(sorted(self._entries))

    def get(self, name: str) -> type[T]:
        """The class of a name.

        Raises:
            UserError: If there is none; the nearest names are offered.
        """
        self._load()
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]
