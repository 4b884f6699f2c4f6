"""Which features are asked for, with which options and weights; from plain values to backbones."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from features.backbones.interface import BACKBONES, Backbone
from features.backbones.weights import WeightChoice
from features.spec import FeatureSpec
from pipeline.decode import describe_audio, open_decoder
from pipeline.errors import UserError, unknown_name
from pipeline.grid import BLOCK, TAIL_HOLD

__all__ = [
    "FeatureRequest",
    "feature_spec",
    "make_requests",
    "parse_options",
    "parse_weights",
]


@dataclass(frozen=True)
class FeatureRequest:
    """One feature as plain values, so that it can travel to another process.

    Attributes:
        name: Name in the registry.
        options: The backbone's keyword options.
        weights: Weight file, or None for the published one.
        random_weights: Seed of random weights, or None.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()
    weights: str | None = None
    random_weights: int | None = None

    def build(self) -> Backbone:
        """The backbone, without its weights loaded; one instance a process.

        Raises:
            UserError: If the weight file is missing or an option's value makes no sense.
        """
        stamp = None
        if self.weights is not None:
            try:
                stamp = Path(self.weights).stat().st_mtime_ns
            except OSError as error:
                raise UserError(
                    f"The weights {self.weights} of {self.name} cannot be read "
                    f"({error.strerror}); correct --weights."
                ) from error
        return _build(self, stamp)

    def spec(self, decoder: str) -> FeatureSpec:
        """The feature's spec, which remembers how the feature was asked for.

        Args:
            decoder: Name of the video decoder.

        Raises:
            UserError: As `build` and `feature_spec`.
        """
        request = {
            "options": dict(self.options),
            "weights": None if self.weights is None else os.path.abspath(self.weights),
            "random_weights": self.random_weights,
            "decoder": decoder,
        }
        return replace(feature_spec(self.build(), decoder), request=request)


@lru_cache(maxsize=32)
def _build(request: FeatureRequest, stamp: int | None) -> Backbone:
    """Builds a backbone; the stamp only tells a replaced weight file from the one before."""
    options = dict(request.options)
    kind = BACKBONES.get(request.name)
    if kind.weights_required:
        options["weights"] = WeightChoice(request.weights, request.random_weights)
    try:
        return kind(**options)
    except ValueError as error:
        raise UserError(f"The options of {request.name} make no sense: {error}.") from error


def feature_spec(backbone: Backbone, decoder: str) -> FeatureSpec:
    """All that changes a value of a feature: its backbone, its grid and how media are decoded.

    Args:
        backbone: The backbone.
        decoder: Name of the video decoder.

    Raises:
        UserError: If the weights are not there (their digest is part of the spec).
    """
    blocks = {"block": BLOCK}
    if backbone.source is not None:
        source = feature_spec(backbone.source, decoder)
        media: dict[str, Any] = {"feature": source.name, "spec": dict(source.values)}
        # Computed from a row's steps, which are all there at once.
        blocks = {}
    elif backbone.modality == "audio":
        media = describe_audio(backbone.audio_rate)
    else:
        media = open_decoder(decoder).describe()
    return FeatureSpec(
        backbone.name,
        {
            "feature": backbone.spec(),
            "grid": backbone.grid.describe(),
            "media": media,
            "tail_hold": TAIL_HOLD,
            **blocks,
        },
    )


def make_requests(
    names: Sequence[str],
    *,
    weights: Mapping[str, Path | str] | None = None,
    random_weights: int | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[FeatureRequest]:
    """Checks what a user asks for.

    Weights and options are given under a feature's name, or under the part before its dot for
    all features of that network: ``resnet152`` serves ``resnet152.frames`` too.

    Args:
        names: Features.
        weights: Weight file by name.
        random_weights: Seed for every network without a weight file; None for published weights.
        options: Options by name; texts are converted.

    Returns:
        One request a name, repeated names once.

    Raises:
        UserError: If a name, an option or a value is unknown, or weights would not be used.
    """
    if not names:
        raise UserError(f"No feature is asked for; choose from {', '.join(BACKBONES.names())}.")
    names = list(dict.fromkeys(names))
    given_weights, given_options = dict(weights or {}), dict(options or {})
    answers = {key for name in names for key in (name, _family(name))}
    for what, given in (("weights", given_weights), ("options", given_options)):
        for key in given:
            if key not in answers:
                raise UserError(
                    f"There are {what} for {key!r}, which is not among the features asked for "
                    f"({', '.join(names)}); add it to --features or leave it out."
                )
    requests = []
    for name in names:
        kind = BACKBONES.get(name)
        file = given_weights.get(name, given_weights.get(_family(name)))
        if file is not None and not kind.weights_required:
            raise UserError(f"The feature {name} takes no weights; leave out --weights {name}=...")
        needs_seed = kind.weights_required and file is None
        chosen = _of_family(name, kind, given_options) | dict(given_options.get(name, {}))
        requests.append(
            FeatureRequest(
                name,
                _convert(name, kind, chosen),
                None if file is None else str(file),
                random_weights if needs_seed else None,
            )
        )
    return requests


def _family(name: str) -> str:
    return name.split(".")[0]


def _of_family(name: str, kind: type, options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Options that are given for a feature's whole network, as far as the feature has them.

    What the network's main feature alone has (`clap` a hop, `clap.map` none) is meant for that
    one; a key that neither has stays, and is refused with the nearest names.
    """
    family = _family(name)
    given = options.get(family, {})
    if name == family or not given or family not in BACKBONES.names():
        return dict(given)
    elsewhere = _known(BACKBONES.get(family)).keys() - _known(kind).keys()
    return {key: value for key, value in given.items() if key.replace("-", "_") not in elsewhere}


def _known(kind: type) -> dict[str, Any]:
    """Options of a backbone and their defaults."""
    return {
        key: parameter.default
        for key, parameter in inspect.signature(kind).parameters.items()
        if key != "weights"
    }


def _convert(name: str, kind: type, given: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    known = _known(kind)
    options = {}
    for key, value in given.items():
        key = key.replace("-", "_")
        if key not in known:
            raise unknown_name(f"option of {name} named", key, known)
        options[key] = _value(name, key, value, known[key])
    return tuple(sorted(options.items()))


def _value(name: str, key: str, value: Any, default: Any) -> Any:
    """A text as the type of the option's default; other values as they are."""
    if not isinstance(value, str) or default is None or isinstance(default, str):
        return value
    if isinstance(default, bool):
        if value.lower() in ("true", "false"):
            return value.lower() == "true"
        raise UserError(f"The option {name}.{key} is true or false, not {value!r}.")
    try:
        return type(default)(value)
    except ValueError as error:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise UserError(f"The option {name}.{key} takes {kind}, not {value!r}.") from error


def parse_weights(texts: Iterable[str]) -> dict[str, Path]:
    """Reads ``NAME=FILE`` arguments.

    Raises:
        UserError: If one has another form.
    """
    return {name: Path(file) for name, file in (_assignment("weights", t) for t in texts)}


def parse_options(texts: Iterable[str]) -> dict[str, dict[str, str]]:
    """Reads ``NAME.OPTION=VALUE`` arguments; a feature's name may hold dots.

    Raises:
        UserError: If one has another form.
    """
    options: dict[str, dict[str, str]] = {}
    for text in texts:
        left, value = _assignment("option", text)
        name, dot, key = left.rpartition(".")
        if not dot or not name or not key:
            raise UserError(f"--option takes NAME.OPTION=VALUE, not {text!r}.")
        options.setdefault(name, {})[key] = value
    return options


def _assignment(option: str, text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not equals or not left or not right:
        form = "NAME=FILE" if option == "weights" else "NAME.OPTION=VALUE"
        raise UserError(f"--{option} takes {form}, not {text!r}.")
    return left, right
