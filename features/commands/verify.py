"""Hash and open every shard, and repair what is damaged; exit code 2 while something is.

python -m features verify STORE
python -m features verify STORE --repair --manifest M
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from features.commands.options import add_media_root, add_store, read_manifests
from features.naming import name_rows
from features.requests import parse_weights
from features.store import Damage, RowKey, Store, StoreCheck
from pipeline.cli import DONE, PARTIAL
from pipeline.errors import UserError
from pipeline.manifest import Manifest
from pipeline.progress import Progress

__all__ = ["add", "run"]

SHOWN = 5
"""Rows of a damaged shard that are named."""


def add(parser: ArgumentParser) -> None:
    """Adds the command's options."""
    add_store(parser)
    option = parser.add_argument
    option("--repair", action="store_true", help="set damaged shards aside and extract them again")
    option(
        "--manifest",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="FILE",
        help="manifests that the shards were extracted from; also names damaged rows by their ids",
    )
    add_media_root(parser)
    option(
        "--weights",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FILE",
        help="weight file of a network, where it is no longer where it was",
    )
    option("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where networks run")
    option("--workers", type=int, default=1, metavar="N", help="processes that extract")
    option("--all-rows", action="store_true", help="name every row of a damaged shard")


def run(options: Namespace) -> int:
    """Checks every shard of a store, and repairs it if asked to."""
    if options.workers < 1:
        raise UserError(f"At least 1 worker is needed, not {options.workers}; mend --workers.")
    store = Store(options.store)
    manifests = read_manifests(options.manifest, options.media_root)
    weights = parse_weights(options.weights)
    check = _check(store)
    keys = {key for item in check.damage for key in item.keys or ()}
    names = name_rows(store, keys, manifests)
    for item in check.damage:
        print(f"{item}{_rows(item, names, len(item.keys or ()) if options.all_rows else SHOWN)}")
    for leftover in check.leftovers:
        print(f"harmless: {leftover} (python -m features prune removes it)")
    for feature in check.indexes:
        print(f"harmless: {feature}/index.jsonl told of other shards; it is written anew")
    if not check.damage:
        print(f"{check.shards} shards are whole")
        return DONE
    print(f"{len(check.damage)} damaged, {check.shards} shards in all")
    if options.repair:
        return _repair(store, check, manifests, weights, options)
    print(
        f"repair them with python -m features verify {store.path} --repair --manifest M: it "
        "extracts those shards again and no others, and says how to import what was imported"
    )
    return PARTIAL


def _check(store: Store) -> StoreCheck:
    total = store.count_shards()
    with Progress(total, "verify", unit="shards") as progress:
        return store.check(on_shard=lambda whole: progress.advance("ok" if whole else "failed"))


def _repair(
    store: Store,
    check: StoreCheck,
    manifests: Sequence[Manifest],
    weights: Mapping[str, Path],
    options: Namespace,
) -> int:
    # Only a repair decodes and computes; a check starts without all that.
    from features.repair import carry_out, plan_repair

    repair = plan_repair(store, check.damage, manifests, weights=weights, device=options.device)
    print(f"{repair.work.rows} rows to extract again in {len(repair.work.tasks)} tasks", flush=True)
    with Progress(repair.work.rows, "repair") as progress:
        report = carry_out(repair, workers=options.workers, progress=progress)
    print(report)
    return PARTIAL if report.left else DONE


def _rows(item: Damage, names: Mapping[RowKey, str], shown: int) -> str:
    if item.keys is None:
        return "" if item.shard.endswith(".json") else "; nothing tells its rows"
    texts = [names[key] for key in item.keys[:shown]]
    more = f" and {len(item.keys) - shown} more" if len(item.keys) > shown else ""
    return f"; {len(item.keys)} rows: {', '.join(texts)}{more}"
