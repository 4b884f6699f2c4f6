"""Arguments and the last lines that the three import commands share."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from features.importing import ImportReport, make_grid
from features.importing.show import on_terminal
from features.store import Store
from pipeline.cli import DONE, PARTIAL
from pipeline.files import store_dir
from pipeline.grid import Grid
from pipeline.manifest import read_manifest

__all__ = ["add_feature", "add_target", "finish", "grid", "target"]


def add_target(parser: ArgumentParser) -> None:
    """Adds where to import to."""
    add = parser.add_argument
    add("--manifest", type=Path, required=True, metavar="FILE", help="the rows to import for")
    add("--store", type=Path, default=store_dir(), metavar="DIR", help="where features go")
    add("--shard-rows", type=int, default=64, metavar="N", help="clips a shard")


def add_feature(parser: ArgumentParser) -> None:
    """Adds the feature's name and grid, which files of arrays do not tell."""
    add = parser.add_argument
    add("--name", required=True, help="the feature's name from now on")
    add("--hop", type=float, default=1.0, metavar="SECONDS", help="from one step to the next")
    add("--window", type=float, metavar="SECONDS", help="that a step covers (default: the hop)")
    add("--origin", type=float, default=0.0, metavar="SECONDS", help="where the first step begins")
    add(
        "--number",
        type=int,
        metavar="N",
        help="this many steps of --window seconds, spread evenly over every clip, whatever its "
        "length (in place of --hop and --origin)",
    )


def grid(options: Namespace) -> Grid:
    """The grid asked for."""
    return make_grid(
        hop=options.hop, window=options.window, origin=options.origin, number=options.number
    )


def target(options: Namespace) -> dict[str, Any]:
    """Arguments of an import function."""
    return {
        "manifest": read_manifest(options.manifest),
        "store": Store(options.store),
        "shard_rows": options.shard_rows,
        "display": on_terminal,
    }


def finish(report: ImportReport) -> int:
    """Prints what was imported; exit code 2 if a row has no features."""
    for place, names in report.strangers.items():
        if names:
            place = place.encode(errors="backslashreplace").decode()
            print(f"{place}: {len(names)} names belong to no manifest row, such as {names[0]!r}")
    for note in report.notes:
        print(note)
    for spec in report.features:
        print(f"feature {spec.folder}")
    print(report.table())
    return PARTIAL if report.failed else DONE
