"""Commands on a feature store.

python -m features ls STORE
python -m features verify STORE
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.store import FeatureInfo, Store
from pipeline.cli import DONE, PARTIAL, Parser, run
from pipeline.files import store_dir
from pipeline.progress import Progress

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    parser = Parser(prog="python -m features", description="Look at a feature store and check it.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add(commands, "ls", "list features, their specs and what is there of them")
    _add(commands, "verify", "hash and open every shard; exit code 2 if one is damaged")
    options = parser.parse_args(argv)
    store = Store(options.store)
    return _list(store) if options.command == "ls" else _verify(store)


def _add(commands: Any, name: str, what: str) -> None:
    command: ArgumentParser = commands.add_parser(name, help=what, description=what)
    command.add_argument(
        "store", nargs="?", type=Path, default=store_dir(), metavar="STORE", help="the store"
    )


def _list(store: Store) -> int:
    infos = store.features()
    if not infos:
        print(f"{store.path} holds no features yet")
    for info in infos:
        print(_describe(info))
    return DONE


def _describe(info: FeatureInfo) -> str:
    step = " x ".join(map(str, info.shape))
    failed = f", {info.failed} failed" if info.failed else ""
    lines = [
        info.label,
        f"  {info.rows} rows{failed}, {info.steps} steps of {step} {info.dtype}, "
        f"{info.shards} shards, {info.size / 1e6:.1f} MB",
    ]
    lines += [f"  {key}: {value}" for key, value in _flat(info.values)]
    return "\n".join(lines)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested values as dotted keys, one a line, so that two specs can be told apart by eye."""
    flat = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{key}.")
        else:
            flat.append((f"{prefix}{key}", value))
    return flat


def _verify(store: Store) -> int:
    total = sum(info.shards for info in store.features())
    with Progress(total, "verify", unit="shards") as progress:
        damage = store.verify(on_shard=lambda whole: progress.advance("ok" if whole else "failed"))
    for item in damage:
        print(item)
    if damage:
        print(
            f"{len(damage)} damaged shards; delete each .h5 named above and extract again with "
            "python -m flows.extract, which redoes those shards only"
        )
        return PARTIAL
    print(f"{total} shards are whole")
    return DONE


if __name__ == "__main__":
    run(main)
