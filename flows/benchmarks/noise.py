"""Noisy manifests of a sweep: kept below the runs and named, so found again, by their noise id."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from flows.benchmarks.conditions import Condition, NoiseStep
from pipeline.errors import UserError, unknown_name
from pipeline.files import canonical_json
from pipeline.manifest import Manifest, read_manifest
from pipeline.noise import (
    KINDS,
    Correspondence,
    Injection,
    inject,
    read_map,
    read_matrix,
    read_rates,
    read_truth,
    truth_path,
    write_noisy,
)

__all__ = ["check_condition", "noisy_manifest"]

_FILES = ("rates", "pool")
"""Options that are no fields of a kind; only sound is taken from a pool."""


def check_condition(condition: Condition) -> None:
    """Looks for kinds of noise, and options of theirs, that there are not.

    Raises:
        UserError: Naming the first one; the nearest are offered.
    """
    for step in condition.steps:
        kind = _kind(step)
        for name, _ in step.options:
            if name not in _FILES:
                _default(kind, name)


def noisy_manifest(manifest: Manifest, condition: Condition, seed: int, folder: Path) -> Path:
    """A manifest with noise, made unless it is there and whole.

    Args:
        manifest: The manifest without it, as read from its file.
        condition: The noise.
        seed: Its seed, the same for every step; the kinds draw from streams of their own.
        folder: Where noisy manifests are kept.

    Returns:
        The file; the manifest's own where nothing is to be injected.

    Raises:
        UserError: If the noise does not fit the manifest.
    """
    made: Injection | None = None
    for step in condition.steps:
        made = _inject(manifest, step, seed, made)
    if made is None:
        return manifest.path
    # The last id is hashed from the content that the earlier steps left, so it names them all.
    path = folder / f"{manifest.header.dataset}-{made.entry['id']}.jsonl"
    if not _is_whole(path, made):
        write_noisy(made, path)
    return path


def _inject(manifest: Manifest, step: NoiseStep, seed: int, earlier: Injection | None) -> Injection:
    kind = _kind(step)
    options = dict(step.options)
    classes = manifest.classes
    rates = read_rates(options.pop("rates"), classes) if "rates" in options else None
    pool = read_manifest(options.pop("pool")) if "pool" in options else None
    values: dict[str, Any] = {}
    for name, text in options.items():
        values[name] = _value(kind, name, text, manifest)
    return inject(
        manifest if earlier is None else earlier.manifest,
        kind(**values),
        rate=step.rate,
        rates=rates,
        seed=seed,
        pool=pool,
        truth=None if earlier is None else earlier.truth,
    )


def _value(kind: type, name: str, text: str, manifest: Manifest) -> Any:
    """An option of a kind, from its text."""
    default = _default(kind, name)
    if name == "map":
        return read_map(text)
    if name == "matrix":
        return read_matrix(text, manifest.classes)
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise UserError(f"{name} of {kind.name} noise is true or false, not {text!r}; mend it.")
        return text == "true"
    return text


def _kind(step: NoiseStep) -> type:
    if step.kind not in KINDS:
        raise unknown_name("kind of noise", step.kind, KINDS)
    return KINDS[step.kind]


def _default(kind: type, name: str) -> Any:
    """The default of an option of a kind."""
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    if name not in defaults:
        files = [file for file in _FILES if file != "pool" or kind is Correspondence]
        raise unknown_name(f"option of {kind.name} noise", name, [*defaults, *files])
    return defaults[name]


def _is_whole(path: Path, made: Injection) -> bool:
    """Whether a noisy manifest and its truth hold what the injection gives, row by row."""
    try:
        found, truth = read_manifest(path), read_truth(truth_path(path))
    except UserError:
        # Not there, or cut off: it is written again, so nobody has to mend it.
        return False
    return (
        found.rows == made.manifest.rows
        and _header(found) == _header(made.manifest)
        and canonical_json(list(truth.values())) == canonical_json(list(made.truth.values()))
    )


def _header(manifest: Manifest) -> str:
    """A header as one text, with its paths resolved: they are written relative to its folder."""
    header = manifest.header.to_json() | {"media_root": str(manifest.media_root.resolve())}
    if header["annotations"] is not None:
        file = (manifest.folder / header["annotations"]["file"]).resolve()
        header["annotations"] |= {"file": str(file)}
    return canonical_json(header)
