"""Reading what finished runs left: results, configuration, the log, labels."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.files import object_digest

__all__ = ["config", "find_runs", "labels", "lines", "read_results"]


def config(run: Path) -> dict[str, Any]:
    """The resolved configuration: ``config.json``, with where manifest and store were as ``paths``.

    Raises:
        UserError: If there is none, or it is not what a run writes.
    """
    return _read_json(run, "config.json", {"seed"})


def read_results(run: Path) -> dict[str, Any]:
    """The content of a finished run's ``results.json``.

    Returns:
        The results and, under ``identity``, the run's configuration without its seed: what runs
        that may be averaged have in common.

    Raises:
        UserError: If the folder does not hold what a finished run leaves.
    """
    results = _read_json(run, "results.json", {"method", "seed", "dataset", "metrics"})
    identity = {k: v for k, v in config(run).items() if k not in ("seed", "paths")}
    return {**results, "identity": identity}


def lines(run: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``, one an epoch; none of a method that trains nothing.

    Raises:
        UserError: If a line is damaged.
    """
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise _unusable(run, path.name, error) from error


def labels(run: Path) -> dict[str, np.ndarray]:
    """What a method thinks of the training labels: the arrays of ``labels.h5``.

    Returns:
        ``id`` (N,) and ``classes`` (K,) str, and arrays (N, ...) by name; empty where the run left
        no such file.

    Raises:
        UserError: If the file is damaged.
    """
    import h5py

    path = run / "labels.h5"
    if not path.is_file():
        return {}
    try:
        with h5py.File(path) as file:
            found = {
                name: data.asstr()[:] if h5py.check_string_dtype(data.dtype) else data[:]
                for name, data in file.items()
            }
        if "id" not in found:
            raise ValueError("it names no clips")
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged; delete the run's folder and train the run again."
        ) from error
    return found


def find_runs(folders: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """All finished runs below some folders, each once.

    A folder that cannot be read is left out, and so is one with the configuration and seed of
    another; standard error says so.

    Returns:
        Their results, as `read_results` gives them, by folder, sorted.

    Raises:
        UserError: If there is none.
    """
    found: dict[Path, dict[str, Any]] = {}
    seen: set[Path] = set()
    first: dict[str, Path] = {}
    repeated: list[tuple[Path, Path]] = []
    for path in sorted({done.parent for folder in folders for done in folder.rglob("DONE")}):
        # One folder may be reached by several names.
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        try:
            results = read_results(path)
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        known = [results["identity"], results["seed"], results.get("noise")]
        earlier = first.setdefault(object_digest(known), path)
        if earlier == path:
            found[path] = results
        else:
            repeated.append((path, earlier))
    if repeated:
        path, earlier = repeated[0]
        more = f"; so are {len(repeated) - 1} more folders" if len(repeated) > 1 else ""
        print(
            f"counted once: {path} is the same configuration and seed as {earlier}{more}.",
            file=sys.stderr,
        )
    if not found:
        names = ", ".join(str(folder) for folder in folders)
        raise UserError(f"There is no finished run in {names}; train one or name another folder.")
    return found


def _read_json(run: Path, name: str, keys: Collection[str]) -> dict[str, Any]:
    """An object that a run wrote, with some keys at least."""
    try:
        value = json.loads((run / name).read_text(encoding="utf-8"))
        if not isinstance(value, dict) or set(keys) - value.keys():
            raise ValueError("it is not what a run writes")
    except (OSError, ValueError) as error:
        raise _unusable(run, name, error) from error
    return value


def _unusable(run: Path, name: str, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(
        f"The run {run} has no usable {name} ({reason}); delete the folder and train the run again."
    )
