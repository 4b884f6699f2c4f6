"""What the command lines of all tasks share: options, roles, the data asked for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from features.store import Store
from pipeline.cli import Parser, read_config
from pipeline.errors import UserError
from pipeline.files import store_dir
from pipeline.manifest import Manifest, read_manifest
from pipeline.registry import Registry
from trainers.options import add_options

__all__ = ["common_options", "find_data", "list_methods", "parse", "parse_roles", "trained_weights"]


def common_options(
    parser: argparse.ArgumentParser, *, features: str, predicts: str, which: str
) -> None:
    """Adds the options that every task has.

    Args:
        parser: Where to add.
        features: Example of ``--features``.
        predicts: What ``--predict`` writes.
        which: Default of ``--which``.
    """
    parser.add_argument("--method", help="which algorithm; see --list-methods")
    parser.add_argument("--list-methods", action="store_true", help="print all methods and papers")
    parser.add_argument("--manifest", type=Path, help="default: the embedded corpus")
    parser.add_argument("--store", type=Path, help="feature store (default: ./store)")
    parser.add_argument(
        "--features", nargs="+", metavar="ROLE=NAME", default=[], help=f"such as {features}"
    )
    parser.add_argument("--runs", type=Path, help="where runs are kept (default: ./runs)")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="one run a seed")
    parser.add_argument(
        "--schedule", choices=["paper", "demo"],
        help="default: demo on the embedded corpus, the paper's elsewhere",
    )  # fmt: skip
    parser.add_argument(
        "--missing", choices=["drop", "zero", "error"], default="drop",
        help="clips without features: left out and predicted as nothing, zeros, or an error",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--evaluate", action="store_true", help="score a checkpoint")
    parser.add_argument("--predict", action="store_true", help=f"write {predicts}")
    parser.add_argument("--checkpoint", type=Path, help="weights to score or to predict with")
    parser.add_argument("--which", choices=["selected", "last"], default=which)
    parser.add_argument("--out", type=Path, help=f"{predicts} or metrics to write")


def parse(
    argv: list[str] | None,
    registry: Registry[Any],
    *,
    prog: str,
    description: str,
    add_common: Callable[[argparse.ArgumentParser], None],
    skip: Collection[str] = (),
) -> argparse.Namespace:
    """Parses a command whose options depend on the method it names.

    Args:
        argv: Arguments; None takes the process's.
        registry: The task's methods.
        prog: For usage.
        description: For ``--help``.
        add_common: Adds the options that do not depend on the method.
        skip: Hyper-parameters that another option sets.

    Returns:
        The options; ``values`` holds the hyper-parameters that were given.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--method")
    early.add_argument("--config", type=Path)
    known, _ = early.parse_known_args(argv)
    name = known.method
    if name is None and known.config is not None:
        name = read_config(known.config).get("method")
    parser = Parser(prog=prog, description=description, config=True)
    add_common(parser)
    common = {action.dest for action in parser._actions}
    if name is not None:
        add_options(parser, registry.get(name).hyperparameters, skip=skip)
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


def parse_roles(pairs: list[str]) -> dict[str, str]:
    """``["audio=vggish"]`` -> ``{"audio": "vggish"}``.

    Raises:
        UserError: If one is no pair.
    """
    roles = {}
    for pair in pairs:
        role, equals, name = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--features takes ROLE=NAME such as audio=vggish, not {pair!r}.")
        roles[role] = name
    return roles


def list_methods(registry: Registry[Any]) -> None:
    """Prints every method, its paper, and what it uses."""
    for name in registry.names():
        method = registry.get(name)
        extras = [method.supervision, *sorted(method.needs)]
        print(f"{name:32} {method.paper}  [{'; '.join(extras)}]")


def find_data(
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


def trained_weights(args: argparse.Namespace) -> Path:
    """The checkpoint that was named.

    Raises:
        UserError: If none was, or it is not there.
    """
    if args.checkpoint is None:
        raise UserError("Name the weights with --checkpoint FILE.")
    if not args.checkpoint.is_file():
        raise UserError(f"There is no checkpoint {args.checkpoint}; check the path.")
    return args.checkpoint
