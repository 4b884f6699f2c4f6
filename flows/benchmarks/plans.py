"""What a sweep runs, whether an experiment file says it, the command line, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from flows.benchmarks.conditions import Condition, Variant
from flows.benchmarks.published import Published
from flows.benchmarks.tasks import read_values
from pipeline.cli import MAX_SEED
from pipeline.errors import UserError, unknown_name

__all__ = ["SEEDS", "Level", "Sweep", "pair_noise_seeds"]

SEEDS = (0, 1, 2, 3, 4)


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
        given: The noise that the manifest has already, in words; empty without any.
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
    given: str = ""

    @property
    def caution(self) -> str | None:
        """That conditions come on top of the manifest's own noise; None where it has none."""
        if not self.given:
            return None
        return (
            f"the manifest has noise already: {self.given}; what --noise names is added to it, "
            "and none means none added"
        )

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
        for option, seeds in (("--seed", self.seeds), ("--noise-seed", self.noise_seeds)):
            if out := [seed for seed in seeds if not 0 <= seed <= MAX_SEED]:
                raise UserError(f"{option} is {out[0]}; use whole numbers from 0 to {MAX_SEED}.")
        for variant in self.variants:
            read_values(self.task, variant.method, dict(variant.options))
        if self.reference is not None and self.reference not in map(str, self.variants):
            raise unknown_name("method of this table", self.reference, map(str, self.variants))

    def on_own_data(self, dataset: str) -> Sweep:
        """The same for a data set of the paper: what stands for data sets is not injected.

        Its own published numbers stand beside ours then, and no other's.
        """
        own = None if self.published is None else self.published.dataset_of(dataset)
        if own is None:
            return self
        stands = [level.noise for level in self.levels if level.noise.steps]
        conditions = []
        for condition in self.conditions:
            less = (_without(condition, end) for end in stands)
            conditions.append(next((c for c in less if c is not None), condition))
        remarks = self.remarks
        if own != dataset.lower():
            remarks += (
                f"Ours is {dataset}: {self.published.datasets[own]} with a class list of its own, "
                "so the published numbers beside it are of other classes and not comparable.",
            )
        return replace(
            self,
            levels=(Level(Condition(), own),),
            conditions=tuple(dict.fromkeys(conditions)),
            remarks=remarks,
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


def pair_noise_seeds(seeds: Sequence[int], asked: Sequence[int] | None) -> tuple[int, ...]:
    """The noise seed of every training seed: the same number, or those asked for in turn.

    Raises:
        UserError: If more are asked for than there are training seeds.
    """
    if asked and len(asked) > len(seeds):
        raise UserError(
            f"--noise-seed names {len(asked)} seeds for {len(seeds)} training seeds "
            f"({' '.join(map(str, seeds))}); leave {' '.join(map(str, asked[len(seeds) :]))} out "
            "or name more with --seed."
        )
    return tuple(asked[n % len(asked)] if asked else seed for n, seed in enumerate(seeds))
