"""How a feature of a store was made, so that a part of it can be made again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.requests import FeatureRequest, make_requests
from features.spec import FeatureSpec
from features.store.layout import RECORD
from features.store.leftovers import shard_files
from pipeline.decode import DECODERS
from pipeline.errors import UserError

__all__ = ["Recipe", "find_recipe"]


@dataclass(frozen=True)
class Recipe:
    """A feature as it was asked for.

    Attributes:
        request: The feature.
        decoder: Name of the video decoder.
        spec: What the two make.
    """

    request: FeatureRequest
    decoder: str
    spec: FeatureSpec


def find_recipe(folder: Path, *, weights: Mapping[str, Path | str]) -> Recipe | None:
    """Finds out how a feature was made, from what stands beside it.

    ``spec.json`` and the records may be damaged: what counts is that the outcome has the spec id
    that the folder is named by.

    Args:
        folder: The feature's folder.
        weights: Weight file by feature or network, in place of the one it was made with.

    Returns:
        The recipe, or None if nothing tells (imported features have none).

    Raises:
        UserError: If weights are missing, or what is recorded makes another feature.
    """
    name = folder.name[: -len("-012345678901")]
    problem: UserError | None = None
    told = False
    for how in _recorded(folder):
        told = True
        try:
            recipe = _recipe(name, how, weights)
        except UserError as error:
            problem = problem or error
            continue
        except (TypeError, ValueError, OverflowError):
            # Damaged text that is still JSON; another record tells.
            continue
        if recipe.spec.folder == folder.name:
            return recipe
        problem = UserError(
            f"What is recorded of {folder.name} makes {recipe.spec.folder} here; pass the weights "
            f"that it was made with as --weights {name}=FILE, or extract it anew with "
            "python -m flows.extract."
        )
    if problem is not None:
        raise problem
    return None if told else _by_default(folder, name, weights)


def _recorded(folder: Path) -> Iterator[dict[str, Any]]:
    """Every different request that is recorded; damaged text may make it nonsense."""
    seen: list[Any] = []
    paths = [folder / f"{name}{RECORD}" for name in sorted(shard_files(folder, RECORD))]
    for path in (folder / "spec.json", *paths):
        with contextlib.suppress(OSError, ValueError, RecursionError, TypeError, AttributeError):
            value = json.loads(path.read_bytes())
            how = value.get("environment", value).get("request")
            if isinstance(how, dict) and how not in seen:
                seen.append(how)
                yield how


def _recipe(name: str, how: Mapping[str, Any], weights: Mapping[str, Path | str]) -> Recipe:
    try:
        # JSON has no tuples, and options are hashed.
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in how["options"].items()}
        file, seed, decoder = how["weights"], how["random_weights"], str(how["decoder"])
    except (KeyError, AttributeError) as error:
        raise UserError(f"What is recorded of {name} lacks {error}; extract it anew.") from error
    file = weights.get(name, weights.get(name.split(".")[0], file))
    given = {} if file is None else {name: str(file)}
    (request,) = make_requests([name], weights=given, random_weights=seed, options={name: options})
    return Recipe(request, decoder, request.spec(decoder))


def _by_default(folder: Path, name: str, weights: Mapping[str, Path | str]) -> Recipe | None:
    """Tries default options, for features that were made before requests were recorded."""
    for decoder in DECODERS:
        how = {"options": {}, "weights": None, "random_weights": None, "decoder": decoder}
        with contextlib.suppress(UserError):
            recipe = _recipe(name, how, weights)
            if recipe.spec.folder == folder.name:
                return recipe
    return None
