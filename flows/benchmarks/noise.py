"""Noisy manifests of a sweep: kept below the runs and named, so found again, by their noise id."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from flows.benchmarks.conditions import Condition, NoiseStep
from pipeline.errors import UserError, unknown_name
from pipeline.manifest import Manifest, read_manifest
from pipeline.noise import (
    KINDS,
    Injection,
    inject,
    read_map,
    read_matrix,
    read_rates,
    truth_path,
    write_noisy,
)

__all__ = ["noisy_manifest"]


def noisy_manifest(manifest: Manifest, condition: Condition, seed: int, folder: Path) -> Path:
    """A manifest with noise, made unless it is there.

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
    if not _is_there(path, manifest):
        write_noisy(made, path)
    return path


def _inject(manifest: Manifest, step: NoiseStep, seed: int, earlier: Injection | None) -> Injection:
    if step.kind not in KINDS:
        raise unknown_name("kind of noise", step.kind, KINDS)
    kind = KINDS[step.kind]
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
    default = {field.name: field.default for field in dataclasses.fields(kind)}
    if name not in default:
        raise unknown_name(f"option of {kind.name} noise", name, [*default, "rates", "pool"])
    if name == "map":
        return read_map(text)
    if name == "matrix":
        return read_matrix(text, manifest.classes)
    if isinstance(default[name], bool):
        if text not in ("true", "false"):
            raise UserError(f"{name} of {kind.name} noise is true or false, not {text!r}; mend it.")
        return text == "true"
    return text


def _is_there(path: Path, manifest: Manifest) -> bool:
    """Whether a noisy manifest is there and finds the videos where the manifest does."""
    if not path.is_file() or not truth_path(path).is_file():
        return False
    with path.open(encoding="utf-8") as file:
        root = path.parent / json.loads(file.readline())["media_root"]
    return root.resolve() == manifest.media_root.resolve()
