"""The command line that all tasks share: options, data, training, trained weights."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.store import Store
from pipeline.cli import DONE, MAX_SEED, PARTIAL, Parser, WholeNumber
from pipeline.errors import UserError
from pipeline.files import store_dir
from pipeline.manifest import Manifest, read_manifest
from pipeline.registry import Registry
from trainers.launching import choose_device
from trainers.options import add_options

__all__ = ["Command", "parse_roles", "task_main"]

SEED = WholeNumber(0, MAX_SEED)
THREADS = WholeNumber(1, 4096)
"""More than any machine has cores; where threads cannot be made, the process just ends."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What the command of a task has of its own.

    Attributes:
        task: Its package in ``trainers``.
        description: For ``--help``.
        methods: The task's methods.
        ensure_demo: Builds the embedded corpus where it is not there.
        features: Example of ``--features``.
        predicts: What ``--predict`` writes.
        which: Default of ``--which``.
        add_options: Adds the options that other tasks do not have.
        skip: Hyper-parameters that one of these sets.
        experiment: The task's ``Experiment``.
        asked: Its fields that are options which other tasks do not have.
        applied: Likewise of `evaluate` and `predict`: parameter to option.
        evaluate: Scores a checkpoint and returns the exit code.
        predict: Writes a table and returns how many rows have no features.
        show: Prints the results of an experiment's runs.
    """

    task: str
    description: str
    methods: Registry[Any]
    ensure_demo: Callable[..., tuple[Path, Path]]
    features: str
    predicts: str
    which: str
    add_options: Callable[[argparse.ArgumentParser], None]
    skip: Collection[str] = ()
    experiment: Callable[..., Any]
    asked: Collection[str]
    applied: Mapping[str, str]
    evaluate: Callable[..., int]
    predict: Callable[..., int]
    show: Callable[[list[dict[str, Any]]], None]


def task_main(argv: list[str] | None, command: Command) -> int:
    """Runs the command of a task.

    Args:
        argv: Arguments; None takes the process's.
        command: The task's.

    Returns:
        An exit code.

    Raises:
        UserError: If anything that is asked for does not fit.
    """
    args = _parse(argv, command)
    if args.list_methods:
        _list_methods(command.methods)
        return DONE
    if args.evaluate or args.predict:
        return _apply(args, command)
    if args.method is None:
        raise UserError("Choose an algorithm with --method NAME; --list-methods shows them.")
    return _train(args, command)


def _train(args: argparse.Namespace, command: Command) -> int:
    method = command.methods.get(args.method)
    # All recognition reads features; of parsing, references may name no roles.
    reads_features = bool(getattr(method, "roles", True))
    manifest, store = _find_data(args, command.ensure_demo, reads_features=reads_features)
    experiment = command.experiment(
        method=args.method,
        manifest=manifest,
        store=store,
        roles=parse_roles(args.features),
        values=args.values,
        schedule=args.schedule,
        missing=args.missing,
        device=choose_device(args.device),
        threads=args.threads,
        runs=args.runs,
        **{name: getattr(args, name) for name in command.asked},
    )
    runs = experiment.run(args.seed)
    command.show([run.results() for run in runs])
    for run in runs:
        print(f"written: {run.path}")
    return DONE


def _apply(args: argparse.Namespace, command: Command) -> int:
    checkpoint = _trained_weights(args)
    manifest, store = _find_data(args, command.ensure_demo)
    options = {
        "method": args.method,
        "roles": parse_roles(args.features),
        "missing": args.missing,
        "which": args.which,
        "device": choose_device(args.device),
        "out": args.out,
        **{parameter: getattr(args, name) for parameter, name in command.applied.items()},
    }
    if not args.predict:
        return command.evaluate(checkpoint, manifest, store, **options)
    if args.out is None:
        raise UserError(f"Name a file for {command.predicts} with --out.")
    return PARTIAL if command.predict(checkpoint, manifest, store, **options) else DONE


def _common_options(parser: argparse.ArgumentParser, command: Command) -> None:
    """Adds the options that every task has."""
    parser.add_argument("--method", help="which algorithm; see --list-methods")
    parser.add_argument("--list-methods", action="store_true", help="print all methods and papers")
    parser.add_argument("--manifest", type=Path, help="default: the embedded corpus")
    parser.add_argument("--store", type=Path, help="feature store (default: ./store)")
    parser.add_argument(
        "--features", nargs="+", metavar="ROLE=NAME", default=[], help=f"such as {command.features}"
    )
    parser.add_argument("--runs", type=Path, help="where runs are kept (default: ./runs)")
    parser.add_argument("--seed", type=SEED, nargs="+", default=[0], help="one run a seed")
    parser.add_argument(
        "--schedule", choices=["paper", "demo"],
        help="default: demo on the embedded corpus, the paper's elsewhere",
    )  # fmt: skip
    parser.add_argument(
        "--missing", choices=["drop", "zero", "error"], default="drop",
        help="clips without features: left out and predicted as nothing, zeros, or an error",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--threads", type=THREADS, help="CPU threads (default: all cores)")
    parser.add_argument("--evaluate", action="store_true", help="score a checkpoint")
    parser.add_argument("--predict", action="store_true", help=f"write {command.predicts}")
    parser.add_argument("--checkpoint", type=Path, help="weights to score or to predict with")
    parser.add_argument("--which", choices=["selected", "last"], default=command.which)
    parser.add_argument("--out", type=Path, help=f"{command.predicts} or metrics to write")


def _parse(argv: list[str] | None, command: Command) -> argparse.Namespace:
    """Parses a command whose options depend on the method it names.

    Returns:
        The options; ``values`` holds the hyper-parameters that were given.
    """
    prog = f"python -m trainers.{command.task}"
    early = Parser(prog=prog, add_help=False)
    early.add_argument("--method")
    early.add_argument("--config", type=Path)
    known, _ = early.parse_known_args(argv)
    parser = Parser(prog=prog, description=command.description, config=True)
    _common_options(parser, command)
    command.add_options(parser)
    name = known.method
    if name is None and known.config is not None:
        name = parser.file_value(known.config, "method")
    common = {action.dest for action in parser._actions}
    if name is not None:
        add_options(parser, command.methods.get(name).hyperparameters, skip=command.skip)
    if name is None:
        _, rest = parser.parse_known_args(argv)
        if rest and rest[0].startswith("--"):
            raise UserError(
                f"Without a method there is no option {rest[0].split('=')[0]!r}; if it is a "
                "method's own, name that with --method (--list-methods shows them)."
            )
    args = parser.parse_args(argv)
    # Hyper-parameters are what the method's own dataclass added and the user has given.
    args.values = {k: v for k, v in vars(args).items() if k not in common | {"values"}}
    return args


def parse_roles(pairs: Iterable[str]) -> dict[str, str]:
    """``["audio=vggish"]`` -> ``{"audio": "vggish"}``.

    Raises:
        UserError: If one is no pair.
    """
    roles = {}
    for pair in pairs:
        role, _, name = pair.partition("=")
        if not role or not name:
            raise UserError(f"--features takes ROLE=NAME such as audio=vggish, not {pair!r}.")
        roles[role] = name
    return roles


def _list_methods(registry: Registry[Any]) -> None:
    """Prints every method, its paper, and what it uses."""
    for name in registry.names():
        method = registry.get(name)
        extras = [method.supervision, *sorted(method.needs)]
        print(f"{name:32} {method.paper}  [{'; '.join(extras)}]")


def _find_data(
    args: argparse.Namespace,
    ensure: Callable[..., tuple[Path, Path]],
    *,
    reads_features: bool = True,
) -> tuple[Manifest, Store | None]:
    """The manifest and the store asked for, or the embedded corpus with its features.

    Args:
        args: Has ``manifest`` and ``store``.
        ensure: Builds the embedded corpus where it is not there.
        reads_features: Whether a store is needed.

    Raises:
        UserError: If there is no store.
    """
    if args.manifest is None:
        manifest_path, store_path = ensure(store=args.store)
        return read_manifest(manifest_path), Store(store_path)
    manifest = read_manifest(args.manifest)
    if not reads_features:
        return manifest, None
    path = args.store or store_dir()
    if not path.is_dir():
        raise UserError(
            f"There is no feature store at {path}; extract features with python -m flows.extract "
            f"--manifest {args.manifest} --store {path} or name it with --store."
        )
    return manifest, Store(path)


def _trained_weights(args: argparse.Namespace) -> Path:
    """The checkpoint that was named.

    Raises:
        UserError: If none was, or it is not there.
    """
    if args.checkpoint is None:
        raise UserError("Name the weights with --checkpoint FILE.")
    if not args.checkpoint.is_file():
        raise UserError(f"There is no checkpoint {args.checkpoint}; check the path.")
    return args.checkpoint
