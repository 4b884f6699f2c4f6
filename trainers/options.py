"""Hyper-parameter dataclasses: their options and limits, and the demo schedule that scales them."""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from pipeline.errors import UserError, unknown_name

__all__ = [
    "DEMO_BATCH",
    "DEMO_UPDATES",
    "Hyperparameters",
    "add_options",
    "check_options",
    "demo_schedule",
    "option",
    "resolve",
]

DEMO_BATCH = 32
DEMO_UPDATES = 300
DEMO_EPISODE = 8

H = TypeVar("H")


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Settings that every trained method has; a method's own dataclass adds to them.

    Fields become options (``--lr``, ``--batch-size``), defaults are the paper's, or the
    specification's where backbones are frozen. Fields counted in epochs carry
    ``metadata={"unit": "epochs"}`` so that the demo schedule can scale them.
    """

    @classmethod
    def published(cls, dataset: str) -> Self:
        """The defaults as the paper has them for a data set, by the name in its manifest."""
        return cls()

    def steps_per_epoch(self, n: int) -> int:
        """Updates in one pass over ``n`` training rows."""
        raise ValueError(f"{type(self).__name__} has no training steps")

    def passes(self) -> int:
        """Passes over the training rows in the whole run, for tasks whose results state them."""
        raise ValueError(f"{type(self).__name__} does not count its passes")

    def updates(self, n: int) -> int:
        """Updates in the whole run over ``n`` training rows; none where nothing is trained."""
        epochs = getattr(self, "epochs", 0)
        return epochs * self.steps_per_epoch(n) if epochs else 0

    def check(self, view: Any) -> None:
        """Refuses training data that these settings cannot work with, before any work starts.

        Args:
            view: What a method of the task is given to train on.

        Raises:
            UserError: Naming the option to change.
        """

    def spared(self) -> frozenset[str]:
        """What of the method's ``needs`` these settings do without; it is not printed then."""
        return frozenset()


def option(default: Any, help: str, **metadata: Any) -> Any:
    """A hyper-parameter's field.

    Args:
        default: The paper's value.
        help: For ``--help``.
        **metadata: ``choices``; ``unit="epochs"`` for what the demo schedule scales; ``low`` and
            ``high``, the inclusive limits that `check_options` holds it to.
    """
    return dataclasses.field(default=default, metadata={"help": help, **metadata})


def check_options(hp: Any) -> None:
    """Holds a dataclass made of `option` fields to their choices and limits.

    Raises:
        UserError: Naming the option and what it takes.
    """
    for f in dataclasses.fields(hp):
        value, flag = getattr(hp, f.name), f"--{f.name.replace('_', '-')}"
        choices = f.metadata.get("choices")
        if choices is not None and value not in choices:
            raise UserError(f"{flag} {value!r} is not known; choose one of {', '.join(choices)}.")
        if value is not None and not _within(value, f):
            raise UserError(f"{flag} {value} is out of range; give {_range(f)}.")


def _within(value: Any, f: dataclasses.Field[Any]) -> bool:
    low, high = f.metadata.get("low"), f.metadata.get("high")
    return (low is None or value >= low) and (high is None or value <= high)


def _range(f: dataclasses.Field[Any]) -> str:
    low, high = f.metadata.get("low"), f.metadata.get("high")
    return f"at least {low}" if high is None else f"at least {low} and at most {high}"


def _plain_type(annotation: Any) -> tuple[type, bool]:
    """The type that a field's text is converted to, and whether ``none`` is allowed."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        options = [a for a in typing.get_args(annotation) if a is not type(None)]
        return _plain_type(options[0])[0], True
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return type(typing.get_args(annotation)[0]), False
    return annotation, False


def _converter(kind: type, optional: bool) -> Any:
    def convert(text: str) -> Any:
        if optional and text.lower() == "none":
            return None
        return kind(text)

    # argparse names the converter in its errors.
    convert.__name__ = kind.__name__
    return convert


def add_options(parser: argparse.ArgumentParser, kind: type, *, skip: Collection[str] = ()) -> None:
    """Adds one option for each field of a hyper-parameter dataclass.

    Options that are not given leave no attribute, so that a schedule can still move defaults.

    Args:
        parser: Where to add.
        kind: The dataclass.
        skip: Fields that another option of the command sets.
    """
    hints = typing.get_type_hints(kind)
    group = parser.add_argument_group(f"hyper-parameters ({kind.__name__})")
    for field in dataclasses.fields(kind):
        if field.name in skip:
            continue
        name = f"--{field.name.replace('_', '-')}"
        shown = field.default
        text = f"{field.metadata.get('help', '')} (default: {shown})".strip()
        convert, optional = _plain_type(hints[field.name])
        if convert is bool:
            group.add_argument(
                name, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
            )
            continue
        group.add_argument(
            name,
            type=_converter(convert, optional),
            choices=field.metadata.get("choices"),
            default=argparse.SUPPRESS,
            metavar=None if field.metadata.get("choices") else convert.__name__.upper(),
            # Percent signs are argparse's own formatting.
            help=text.replace("%", "%%"),
        )


def resolve(defaults: H, values: Mapping[str, Any]) -> H:
    """Replaces some hyper-parameters.

    Raises:
        UserError: If a name is unknown (the nearest are offered) or a value is refused.
    """
    known = {field.name for field in dataclasses.fields(defaults)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise unknown_name(f"hyper-parameter of {type(defaults).__name__}", name, known)
    try:
        return dataclasses.replace(defaults, **values)  # type: ignore[type-var]
    except ValueError as error:
        raise UserError(f"{error}.") from error


def demo_schedule(hp: H, n: int, *, updates: int = DEMO_UPDATES) -> H:
    """Scales a published schedule to a corpus too small for it, by one rule for all methods.

    The batch becomes 32, the epochs whatever gives about ``updates`` updates, and everything
    counted in epochs (step decay, warm-up) shrinks or grows by the same factor as the epochs;
    RLLD's episodes become 8 steps long. The rule was fixed before methods were compared.

    Args:
        hp: A method's hyper-parameters with the paper's schedule.
        n: Training clips.
        updates: Updates to aim at.

    Returns:
        The scaled hyper-parameters; unchanged if the method does not train.
    """
    fields = {field.name: field for field in dataclasses.fields(hp)}  # type: ignore[arg-type]
    if "epochs" not in fields:
        return hp
    paper_epochs = hp.epochs  # type: ignore[attr-defined]
    changes: dict[str, Any] = {"batch_size": DEMO_BATCH}
    if "episode_length" in fields:
        changes["episode_length"] = DEMO_EPISODE
    smaller = dataclasses.replace(hp, **changes)  # type: ignore[type-var]
    epochs = max(1, round(updates / smaller.steps_per_epoch(n)))
    factor = epochs / paper_epochs
    for name, field in fields.items():
        if field.metadata.get("unit") == "epochs" and name != "epochs":
            value = getattr(hp, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            changes[name] = max(1, round(value * factor)) if whole else value * factor
    return dataclasses.replace(hp, epochs=epochs, **changes)  # type: ignore[type-var]
