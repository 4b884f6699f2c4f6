"""Reading experiment files: every key's type and content is checked before any work starts.

Experiment files are data under ``manifests/experiments/<name>.toml``, one for each published table
or figure: methods, noise, seeds, and which numbers of which paper stand beside ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from flows.benchmarks.conditions import Condition, Variant
from flows.benchmarks.noise import check_condition
from flows.benchmarks.plans import SEEDS, Level, Sweep
from flows.benchmarks.published import Published, read_published
from flows.benchmarks.tasks import read_values, registry
from pipeline.cli import MAX_SEED, read_config
from pipeline.errors import UserError, printable, unknown_name
from pipeline.manifest.classes import DATA_FOLDER
from trainers.tasks import find_task

__all__ = ["EXPERIMENTS_FOLDER", "experiments", "read_experiment"]

EXPERIMENTS_FOLDER = DATA_FOLDER / "experiments"
_KEYS = (
    "title", "task", "published", "methods", "noise", "levels", "seeds", "reference", "against",
    "remarks",
)  # fmt: skip
_METHODS = 'a list of methods such as ["ce", "ntl:contrast=ins"]'
_NOISE = 'a list of noise such as ["none", "symmetric:0.4"]'
_SEEDS = "a list of whole numbers from 0, each once, such as [0, 1, 2]"

T = TypeVar("T")


def experiments() -> tuple[str, ...]:
    """Names of all experiment files, sorted."""
    return tuple(sorted(path.stem for path in EXPERIMENTS_FOLDER.glob("*.toml")))


def read_experiment(name: str | Path) -> Sweep:
    """Reads an experiment file.

    Args:
        name: A name out of `experiments`, or a TOML or JSON file.

    Raises:
        UserError: If there is none, or something in it is wrong; names the file and the key.
    """
    path = Path(name)
    if path.suffix not in (".toml", ".json"):
        path = EXPERIMENTS_FOLDER / f"{name}.toml"
        if not path.is_file():
            raise unknown_name("table", str(name), experiments())
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(
            f"The experiment file {path} cannot be read ({error.strerror}); give --table a TOML "
            f"file or one of {', '.join(experiments())}."
        ) from error
    return _sweep(_Entries(read_config(path), f"the experiment file {path}"))


@dataclass(frozen=True)
class _Entries:
    """Keys and values of a file, or of a table in it; what is taken from them is checked.

    Attributes:
        values: As read.
        where: Names them in errors.
    """

    values: Mapping[str, Any]
    where: str

    def wrong(self, key: str, expected: str) -> UserError:
        """The error for a value of a wrong type, or for none."""
        if key not in self.values:
            return UserError(f"In {self.where} the key {key!r} is missing; give {expected}.")
        value = repr(self.values[key])
        shown = value if len(value) <= 80 else f"{value[:80]}..."
        return UserError(f"In {self.where} {key!r} is {printable(shown)}; give {expected}.")

    def only(self, known: Iterable[str]) -> None:
        """Refuses keys that mean nothing."""
        known = tuple(known)
        for key in self.values:
            if key not in known:
                raise unknown_name(f"key of {self.where}", key, known)

    def text(self, key: str, expected: str) -> str:
        """A text that is not blank."""
        value = self.values.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, expected)
        return value

    def items(self, key: str, kinds: type | tuple[type, ...], expected: str) -> list[Any]:
        """A list that is not empty, of values of some types; true and false are no numbers."""
        found = self.values.get(key)
        if (
            not isinstance(found, list)
            or not found
            or not all(isinstance(v, kinds) and not isinstance(v, bool) for v in found)
        ):
            raise self.wrong(key, expected)
        return found

    def parsed(self, key: str, parse: Callable[[str], T], text: str) -> T:
        """What a function makes of a text; its errors name the key."""
        try:
            return parse(text)
        except UserError as error:
            raise UserError(f"In {self.where}, {key!r}: {error}") from error

    def unknown(self, key: str, kind: str, name: str, known: Iterable[str]) -> UserError:
        """The error for a name that nobody knows; the nearest are offered."""
        return UserError(f"In {self.where}, {key!r}: {unknown_name(kind, name, known)}")

    def part(self, key: str, number: int, value: Any) -> _Entries:
        """A table that is an entry of a list, counted from 1."""
        return _Entries(value, f"{self.where}, entry {number} of {key},")

    def once(self, key: str, values: Sequence[Any]) -> None:
        """Refuses what stands twice."""
        twice = next((v for n, v in enumerate(values) if v in values[:n]), None)
        if twice is not None:
            raise UserError(f"In {self.where} {key!r} names {twice} twice; name it once.")


def _sweep(file: _Entries) -> Sweep:
    file.only(_KEYS)
    title = file.text("title", 'a text such as "noise on my data"')
    task = file.parsed("task", find_task, file.text("task", 'a task such as "action"')).name
    published = _published(file, task) if "published" in file.values else None
    printed_as = _methods(file, task, published)
    variants = tuple(printed_as)
    labels = [file.parsed("noise", _condition, text) for text in file.items("noise", str, _NOISE)]
    file.once("noise", list(map(str, labels)))
    levels = _levels(file, published) if "levels" in file.values else ()
    stands = dict.fromkeys(level.noise for level in levels) or (Condition(),)
    seeds = _seeds(file) if "seeds" in file.values else SEEDS
    remarks = file.values.get("remarks", [])
    if remarks != []:
        remarks = file.items("remarks", str, 'a list of texts such as ["ours: frozen features"]')
    return Sweep(
        task=task,
        title=title,
        variants=variants,
        conditions=tuple(label.joined(stand) for label in labels for stand in stands),
        seeds=seeds,
        noise_seeds=seeds,
        levels=levels,
        published=published,
        printed_as={str(v): row for v, row in printed_as.items() if row is not None},
        reference=_reference(file, variants) if "reference" in file.values else None,
        against=_against(file, task, variants) if "against" in file.values else None,
        remarks=tuple(remarks),
    )


def _published(file: _Entries, task: str) -> Published:
    name = file.text("published", 'a published table such as "action/ntl-1"')
    published = file.parsed("published", read_published, name)
    if published.name.partition("/")[0] != task:
        raise file.wrong("published", f"a published table of the task {task}, or leave it out")
    return published


def _methods(file: _Entries, task: str, published: Published | None) -> dict[Variant, str | None]:
    """The paper's row by variant: "" for none, None where both are written alike."""

    def parse(text: str) -> Variant:
        variant = Variant.parse(text)
        # For its errors: unknown methods, unknown options, values that do not fit.
        read_values(task, variant.method, dict(variant.options))
        return variant

    found: list[tuple[Variant, str | None]] = []
    for number, entry in enumerate(file.items("methods", (str, dict), _METHODS), start=1):
        if isinstance(entry, str):
            text, row = entry, None
        else:
            place = file.part("methods", number, entry)
            place.only(("method", "printed_as"))
            text = place.text("method", 'a method such as "ntl:alpha=0.9"')
            row = _printed_as(place, published)
        found.append((file.parsed("methods", parse, text), row))
    file.once("methods", [str(variant) for variant, _ in found])
    return dict(found)


def _printed_as(place: _Entries, published: Published | None) -> str:
    expected = 'the published table\'s name of the method, or "" where nothing stands beside it'
    row = place.values.get("printed_as")
    if not isinstance(row, str):
        raise place.wrong("printed_as", expected)
    if row and published is None:
        raise place.wrong("printed_as", "the file a key published, or write the method alone")
    if row and row not in published.methods:
        raise place.unknown("printed_as", f"method in {published.name}", row, published.methods)
    return row


def _condition(text: str) -> Condition:
    condition = Condition.parse(text)
    check_condition(condition)
    return condition


def _levels(file: _Entries, published: Published | None) -> tuple[Level, ...]:
    expected = 'tables [[levels]] with noise = "correspondence:0.4" and beside = "mini-kinetics-40"'
    if published is None:
        raise UserError(
            f"In {file.where} 'levels' stand beside nothing; name the published table with the "
            "key published, or leave them out."
        )
    levels = []
    for number, entry in enumerate(file.items("levels", dict, expected), start=1):
        place = file.part("levels", number, entry)
        place.only(("noise", "beside"))
        noise = place.parsed("noise", _condition, place.text("noise", 'noise such as "none"'))
        beside = place.text("beside", f"one of {', '.join(published.datasets)}")
        if beside not in published.datasets:
            raise place.unknown(
                "beside", f"data set in {published.name}", beside, published.datasets
            )
        levels.append(Level(noise, beside))
    file.once("levels", [f"{level.noise} beside {level.beside}" for level in levels])
    return tuple(levels)


def _seeds(file: _Entries) -> tuple[int, ...]:
    seeds = file.items("seeds", int, _SEEDS)
    if len(set(seeds)) < len(seeds) or not all(0 <= seed <= MAX_SEED for seed in seeds):
        raise file.wrong("seeds", _SEEDS)
    return tuple(seeds)


def _reference(file: _Entries, variants: Sequence[Variant]) -> str:
    names = list(map(str, variants))
    text = file.text("reference", f"one of {', '.join(names)}")
    name = str(file.parsed("reference", Variant.parse, text))
    if name not in names:
        raise file.unknown("reference", "method of this table", name, names)
    return name


def _against(file: _Entries, task: str, variants: Sequence[Variant]) -> str:
    methods = registry(task)
    known = {
        field.name
        for variant in variants
        for field in fields(methods.get(variant.method).hyperparameters)
    }
    name = file.text("against", 'a hyper-parameter such as "alpha"').replace("-", "_")
    if name not in known:
        raise file.unknown("against", "hyper-parameter of its methods", name, known)
    return name
