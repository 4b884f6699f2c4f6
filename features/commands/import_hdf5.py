"""Import one HDF5 array (clips, steps, ...), such as AVE's, with a file that orders it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from features.commands.import_options import add_feature, add_target, finish, grid, target
from features.importing import import_hdf5

__all__ = ["add", "run"]


def add(parser: ArgumentParser) -> None:
    """Adds the command's options."""
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="the HDF5 file")
    add(
        "--order",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="an id a line, AVE's Annotations.txt, or index files such as train_order.h5",
    )
    add(
        "--annotations",
        type=Path,
        metavar="FILE",
        help="the list that index files pick lines of, such as Annotations.txt",
    )
    add("--dataset", metavar="KEY", help="the array (default: avadataset, or the only one)")
    add_target(parser)
    add_feature(parser)


def run(options: Namespace) -> int:
    """Imports what is not in the store yet."""
    return finish(
        import_hdf5(
            options.file,
            order=options.order,
            annotations=options.annotations,
            dataset=options.dataset,
            name=options.name,
            grid=grid(options),
            **target(options),
        )
    )
