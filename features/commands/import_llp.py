"""Import the official feature folders of LLP (vggish, res152, r2plus1d_18)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from features.commands.import_options import add_target, finish, target
from features.importing import import_llp

__all__ = ["add", "run"]


def add(parser: ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="holds vggish, res152 and r2plus1d_18, or some of them, with <YouTube id>.npy",
    )
    add_target(parser)


def run(options: Namespace) -> int:
    """Imports what is not in the store yet."""
    return finish(import_llp(options.folder, **target(options)))
