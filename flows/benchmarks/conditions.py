"""What a sweep varies, as text: variants of methods, and noise.

A variant is a method with options of its own, ``ntl:contrast=ins,alpha=0.4``. A condition is noise
of one or more kinds, injected from left to right, such as ``symmetric:0.4+correspondence:0.2``,
with options of its own after a comma (``correspondence:0.2,donors=shuffle``), or ``none``. Both are
written in one way only, so that their texts can be keys.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import UserError

__all__ = ["NONE", "Condition", "NoiseStep", "Variant"]

NONE = "none"


Options = tuple[tuple[str, str], ...]


def _options(text: str, what: str) -> tuple[list[str], dict[str, str]]:
    """Parts without and with a ``=``."""
    bare, options = [], {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            bare.append(part)
        elif not name or not value or name in options:
            raise UserError(f"{part!r} in {what} must be one NAME=VALUE; mend it.")
        else:
            options[name.strip().replace("-", "_")] = value.strip()
    return bare, options


@dataclass(frozen=True)
class Variant:
    """A method and the options that make it another row of a table.

    Attributes:
        method: Registered name.
        options: Names and texts of hyper-parameters, sorted.
    """

    method: str
    options: Options = ()

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Reads ``method`` or ``method:name=value,name=value``.

        Raises:
            UserError: If it is neither.
        """
        method, _, rest = text.partition(":")
        bare, options = _options(rest, f"the method {text!r}")
        if bare or not method.strip():
            raise UserError(
                f"A method is NAME or NAME:OPTION=VALUE,OPTION=VALUE, such as "
                f"ntl:contrast=ins, not {text!r}."
            )
        return cls(method.strip(), tuple(sorted(options.items())))

    def __str__(self) -> str:
        options = ",".join(f"{name}={value}" for name, value in self.options)
        return f"{self.method}:{options}" if options else self.method


@dataclass(frozen=True)
class NoiseStep:
    """One injection.

    Attributes:
        kind: Such as ``"symmetric"``.
        rate: Share of the training rows; None where a file of rates says it.
        options: Names and texts of further options, sorted; a flag's text is ``true``.
    """

    kind: str
    rate: float | None
    options: Options = ()

    def __str__(self) -> str:
        options = [f"{name}={value}" for name, value in self.options]
        rate = [] if self.rate is None else [f"{self.rate:g}"]
        rest = ",".join(rate + options)
        return f"{self.kind}:{rest}" if rest else self.kind


@dataclass(frozen=True)
class Condition:
    """Noise of one or more kinds, oldest first; no steps where nothing is injected."""

    steps: tuple[NoiseStep, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Reads ``none`` or ``kind:rate,name=value+kind:rate``.

        Raises:
            UserError: If it is neither, or a rate is no number from 0 to 1.
        """
        parts = [part.strip() for part in text.split("+")]
        if parts == [NONE]:
            return cls()
        return cls(tuple(_step(part, text) for part in parts if part != NONE))

    def joined(self, other: Condition) -> Condition:
        """This noise, and then the other."""
        return Condition(self.steps + other.steps)

    def __str__(self) -> str:
        return "+".join(map(str, self.steps)) or NONE


def _step(text: str, whole: str) -> NoiseStep:
    kind, _, rest = text.partition(":")
    bare, options = _options(rest, f"the noise {whole!r}")
    rate = None
    for word in bare:
        try:
            value = float(word)
        except ValueError:
            options[word.replace("-", "_")] = "true"
            continue
        if rate is not None or not 0 <= value <= 1:
            rate = None
            break
        rate = value
    if not kind or (rate is None and not options):
        raise UserError(
            f"Noise is KIND:RATE with a rate from 0 to 1, such as symmetric:0.4 or "
            f"symmetric:0.4+correspondence:0.2, not {whole!r}."
        )
    return NoiseStep(kind, rate, tuple(sorted(options.items())))
