"""Rehearse a large corpus without media: planning, claiming, committing and indexing."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from features.commands.options import add_store
from features.rehearsal import rehearse
from pipeline.cli import DONE, PARTIAL
from pipeline.errors import UserError
from pipeline.progress import Progress

__all__ = ["add", "run"]


def add(parser: ArgumentParser) -> None:
    """Adds the command's options."""
    add_store(parser)
    add = parser.add_argument
    add("--rows", type=int, default=20_000, metavar="N", help="clips")
    add("--shard-rows", type=int, default=128, metavar="N", help="clips a shard")
    add("--workers", type=int, default=1, metavar="N", help="processes")
    add(
        "--kill",
        action="store_true",
        help="begin in a process that is killed half-way, then measure the resumption",
    )


def run(options: Namespace) -> int:
    """Fills a store with a corpus of nothing; prints what it took."""
    for name in ("rows", "shard_rows", "workers"):
        if getattr(options, name) < 1:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} is at least 1, not {getattr(options, name)}; mend it.")
    figures = rehearse(
        options.store,
        options.rows,
        shard_rows=options.shard_rows,
        workers=options.workers,
        kill=options.kill,
        progress=lambda work: Progress(work.rows, "simulate", stream=sys.stderr),
    )
    print(figures)
    return DONE if figures.correct else PARTIAL
