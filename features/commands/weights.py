"""List the published weights, where they are published and which are here, with their digests."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from features.backbones.published import PUBLISHED, WeightFile
from pipeline.cli import DONE, PARTIAL
from pipeline.errors import unknown_name

__all__ = ["add", "run"]


def add(parser: ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"out of: {', '.join(PUBLISHED)} (default: all)"
    )


def run(options: Namespace) -> int:
    """Prints the table; exit code 2 if a file here is not the published one."""
    for name in options.names:
        if name not in PUBLISHED:
            raise unknown_name("weight file of", name, PUBLISHED)
    wrong = 0
    for name in options.names or PUBLISHED:
        entry = PUBLISHED[name]
        here, good = entry.state()
        wrong += not good
        print(_describe(entry, here))
    return PARTIAL if wrong else DONE


def _describe(entry: WeightFile, here: str) -> str:
    size = "size unknown" if entry.size is None else f"{entry.size:,} bytes"
    lines = [
        f"{entry.name}: {entry.title}",
        f"  file: {entry.file} ({size}, {entry.digest or 'digest unknown'})",
        f"  from: {entry.url}",
        f"  licence: {entry.licence}",
    ]
    if entry.note:
        lines.append(f"  note: {entry.note}")
    return "\n".join([*lines, f"  here: {here}"])
