"""Serves every deployment until interrupted: ``python -m flows.serve``.

Runs are then started with ``prefect deployment run extract-features`` (or by schedule, or in
Prefect's pages) and execute on this machine, in the folder where this command was started.
"""

from __future__ import annotations

from collections.abc import Sequence

from flows.environment import prepare_prefect, require_server
from pipeline.cli import DONE, Parser, run

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = Parser(prog="python -m flows.serve", description=__doc__)
    parser.add_argument("--limit", type=int, default=1, help="runs that may execute at once")
    args = parser.parse_args(argv)
    prepare_prefect()
    require_server()

    from prefect import serve

    from flows.deployments import prepared

    serve(*prepared(), limit=args.limit)
    return DONE


if __name__ == "__main__":
    run(main)
