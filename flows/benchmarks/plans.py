"""What a sweep runs: an experiment file, the command line, or both.

Experiment files are data under ``manifests/experiments/<name>.toml``, one for each published table
or figure: methods, noise, seeds, and which numbers of which paper stand beside ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flows.benchmarks.conditions import Condition, Variant
from flows.benchmarks.published import Published, read_published
from flows.benchmarks.tasks import find_task, read_values
from pipeline.cli import read_config
from pipeline.errors import UserError, unknown_name
from pipeline.manifest.classes import DATA_FOLDER

__all__ = [
    "EXPERIMENTS_FOLDER",
    "SEEDS",
    "Level",
    "Sweep",
    "experiments",
    "pair_noise_seeds",
    "read_experiment",
]

EXPERIMENTS_FOLDER = DATA_FOLDER / "experiments"
SEEDS = (0, 1, 2, 3, 4)
_KEYS = {
    "title", "task", "published", "methods", "noise", "levels", "seeds", "reference", "against",
    "remarks",
}  # fmt: skip


@dataclass(frozen=True)
class Level:
    """Noise that stands for another data set of the paper.

    Attributes:
        noise: What we inject besides the label noise.
        beside: The paper's data set whose numbers stand beside ours.
    """

    noise: Condition
    beside: str


@dataclass(frozen=True)
class Sweep:
    """Methods, noise and seeds.

    Attributes:
        task: Name of the task.
        title: Heading of the table.
        variants: Methods with their options; rows of the table.
        conditions: Noise; groups of rows.
        seeds: Training seeds.
        noise_seeds: Noise seed of every training seed, the same for all methods.
        levels: Which part of a condition stands for which data set of the paper.
        published: Numbers to stand beside ours.
        printed_as: The paper's row by our variant, where the two are written differently.
        reference: The variant that the others are compared with; None for no comparison.
        against: The hyper-parameter on the horizontal axis, where the table is a figure.
        remarks: What readers must know.
    """

    task: str
    title: str
    variants: tuple[Variant, ...]
    conditions: tuple[Condition, ...]
    seeds: tuple[int, ...] = SEEDS
    noise_seeds: tuple[int, ...] = SEEDS
    levels: tuple[Level, ...] = ()
    published: Published | None = None
    printed_as: Mapping[str, str] = field(default_factory=dict)
    reference: str | None = None
    against: str | None = None
    remarks: tuple[str, ...] = ()

    def check(self) -> None:
        """Looks for mistakes before any work starts.

        Raises:
            UserError: If there is nothing to run, or a method or an option is unknown.
        """
        if not self.variants:
            raise UserError("Choose what to run with --method NAME ... or a --table.")
        for name, values in (("--method", self.variants), ("--noise", self.conditions)):
            texts = list(map(str, values))
            for text in texts:
                if texts.count(text) > 1:
                    raise UserError(f"{name} names {text} twice; name it once.")
        if len(set(self.seeds)) != len(self.seeds):
            raise UserError(f"--seed names a seed twice: {self.seeds}; name each once.")
        for variant in self.variants:
            read_values(self.task, variant.method, dict(variant.options))
        if self.reference is not None and self.reference not in map(str, self.variants):
            raise unknown_name("method of this table", self.reference, map(str, self.variants))

    def on_own_data(self, dataset: str) -> Sweep:
        """The same for a data set of the paper: what stands for data sets is not injected."""
        if self.published is None or dataset.lower() not in self.published.datasets:
            return self
        stands = [level.noise for level in self.levels if level.noise.steps]
        conditions = []
        for condition in self.conditions:
            less = (_without(condition, end) for end in stands)
            conditions.append(next((c for c in less if c is not None), condition))
        return replace(
            self,
            levels=(Level(Condition(), dataset.lower()),),
            conditions=tuple(dict.fromkeys(conditions)),
        )

    def printed(self, variant: Variant, condition: Condition) -> list[tuple[str, dict[str, float]]]:
        """The paper's data sets and numbers for a row of ours."""
        found = []
        if self.published is not None:
            method = self.printed_as.get(str(variant), str(variant))
            for level in self.levels:
                label = _without(condition, level.noise)
                if label is None:
                    continue
                values = self.published.look_up(method, str(label), level.beside)
                if values:
                    found.append((self.published.datasets[level.beside], values))
        return found


def _without(condition: Condition, end: Condition) -> Condition | None:
    """A condition less its end; None where it ends otherwise."""
    n = len(condition.steps) - len(end.steps)
    return Condition(condition.steps[:n]) if condition.steps[n:] == end.steps else None


def experiments() -> tuple[str, ...]:
    """Names of all experiment files, sorted."""
    return tuple(sorted(path.stem for path in EXPERIMENTS_FOLDER.glob("*.toml")))


def read_experiment(name: str | Path) -> Sweep:
    """Reads an experiment file.

    Args:
        name: A name out of `experiments`, or a TOML or JSON file.

    Raises:
        UserError: If there is none, or something in it is wrong.
    """
    path = Path(name)
    if path.suffix not in (".toml", ".json"):
        path = EXPERIMENTS_FOLDER / f"{name}.toml"
        if not path.is_file():
            raise unknown_name("table", str(name), experiments())
    values = read_config(path)
    for key in values:
        if key not in _KEYS:
            raise unknown_name(f"key of an experiment file ({path.name})", key, _KEYS)
    try:
        return _sweep(values)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"The experiment file {path} lacks or misuses {error}; mend it after the files in "
            f"{EXPERIMENTS_FOLDER}."
        ) from error


def _sweep(values: Mapping[str, Any]) -> Sweep:
    variants, printed_as = [], {}
    for entry in values["methods"]:
        text = entry if isinstance(entry, str) else entry["method"]
        variants.append(Variant.parse(text))
        if not isinstance(entry, str):
            printed_as[str(variants[-1])] = entry["printed_as"]
    levels = tuple(
        Level(Condition.parse(entry["noise"]), entry["beside"])
        for entry in values.get("levels", [])
    )
    labels = [Condition.parse(text) for text in values["noise"]]
    stands = dict.fromkeys(level.noise for level in levels) or (Condition(),)
    seeds = tuple(values.get("seeds", SEEDS))
    published = values.get("published")
    return Sweep(
        task=find_task(values["task"]).name,
        title=values["title"],
        variants=tuple(variants),
        conditions=tuple(label.joined(stand) for label in labels for stand in stands),
        seeds=seeds,
        noise_seeds=seeds,
        levels=levels,
        published=None if published is None else read_published(published),
        printed_as=printed_as,
        reference=values.get("reference"),
        against=values.get("against"),
        remarks=tuple(values.get("remarks", ())),
    )


def pair_noise_seeds(seeds: Sequence[int], asked: Sequence[int] | None) -> tuple[int, ...]:
    """The noise seed of every training seed: the same number, or those asked for in turn."""
    return tuple(asked[n % len(asked)] if asked else seed for n, seed in enumerate(seeds))
