"""List features, their specs and what is there of them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from features.commands.options import add_store
from features.spec import dotted
from features.store import FeatureInfo, Store
from pipeline.cli import DONE

__all__ = ["add", "run"]


def add(parser: ArgumentParser) -> None:
    """Adds the command's options."""
    add_store(parser)


def run(options: Namespace) -> int:
    """Prints every feature of a store."""
    store = Store(options.store)
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
    lines += [f"  {key}: {value}" for key, value in dotted(info.values)]
    return "\n".join(lines)
