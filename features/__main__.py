"""Commands on a feature store: ``python -m features COMMAND --help``.

A command is a module of `features.commands` with

- a docstring whose first line is its help,
- ``add(parser)``, which adds its options to an `argparse.ArgumentParser`, and
- ``run(options) -> int``, which does the work and returns the exit code.

Its line in `COMMANDS` is all that it takes to offer it. Modules of commands are imported at every
start, so they import what is slow (torch, scikit-learn) inside ``run``.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from features.commands import (
    derive,
    diff,
    export,
    import_hdf5,
    import_llp,
    import_npy,
    ls,
    prune,
    simulate,
    verify,
    weights,
)
from pipeline.cli import Parser, run

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, ModuleType] = {
    "ls": ls,
    "verify": verify,
    "diff": diff,
    "prune": prune,
    "export": export,
    "import-llp": import_llp,
    "import-npy": import_npy,
    "import-hdf5": import_hdf5,
    "derive": derive,
    "weights": weights,
    "simulate": simulate,
}
"""Module by command, in the order that ``--help`` lists them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    parser = Parser(prog="python -m features", description="Look at a feature store, check it.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        what = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=what, description=what)
        module.add(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(argv)
    return options.run(options)


if __name__ == "__main__":
    run(main)
