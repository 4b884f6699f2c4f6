"""Import any folder of <id>.npy files, arrays of steps by clip."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from features.commands.import_options import add_feature, add_target, finish, grid, target
from features.importing import import_npy

__all__ = ["add", "run"]


def add(parser: ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="holds <id>.npy, or sub-folders that do; an id is a row's or its video's name",
    )
    add_target(parser)
    add_feature(parser)
    parser.add_argument(
        "--shape",
        type=int,
        nargs="+",
        metavar="N",
        help="shape of one step (default: the most frequent one)",
    )


def run(options: Namespace) -> int:
    """Imports what is not in the store yet."""
    return finish(
        import_npy(
            options.folder,
            name=options.name,
            grid=grid(options),
            shape=options.shape,
            **target(options),
        )
    )
