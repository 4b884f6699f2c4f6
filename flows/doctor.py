"""Is everything that is needed here, and does it work: ``python -m flows.doctor``.

Every check does a small piece of the real work (encodes and decodes a clip, commits a file, starts
a Dask worker), because versions that look right have failed on all of these before. The checks are
in `flows.checks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.checks.finding import SYNC, Check, examine
from flows.checks.installation import (
    check_gpu,
    check_librosa,
    check_machine,
    check_packages,
    check_python,
    check_torch,
    check_transformers,
)
from flows.checks.media import check_decord, check_pyav
from flows.checks.services import check_dask, check_plugin, check_prefect
from flows.checks.storage import check_claims, check_commits, check_disk, check_folders
from flows.checks.weights import check_weights
from pipeline.cli import DONE, USER_ERROR, Parser, run
from pipeline.files import store_dir

__all__ = ["checks", "main"]

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def checks(store: Path | None = None) -> tuple[Check, ...]:
    """Everything that is looked at, in order.

    Args:
        store: Where features are to go; the default store if None.
    """
    elsewhere = "Set AVNOISE_STORE, or pass --store, to a folder on a disk that"
    return (
        Check("Python", check_python, "Use Python 3.11 or later."),
        Check("packages", check_packages, SYNC),
        Check("machine", check_machine, SYNC, needed=False),
        Check("disk", partial(check_disk, store), f"{elsewhere} has room."),
        Check(
            "folders",
            partial(check_folders, store),
            "Set AVNOISE_DATA, AVNOISE_STORE and AVNOISE_RUNS.",
        ),
        Check("store", partial(check_commits, store), f"{elsewhere} can be written and is local."),
        Check(
            "claims",
            partial(check_claims, store),
            "Let one run at a time work on a store here: its disk has no locks or no hard links.",
            needed=False,
        ),
        Check("torch", check_torch, f"{SYNC} torchvision needs the torch of the ordinary index."),
        Check("GPU", check_gpu, "Check the driver with nvidia-smi, or use --device cpu."),
        Check("PyAV", check_pyav, SYNC),
        Check("decord", check_decord, "Keep to --decoder pyav, the default.", needed=False),
        Check("librosa", check_librosa, SYNC),
        Check("transformers", check_transformers, "Run 'uv sync --extra clip'.", needed=False),
        Check("weights", check_weights, "See 'python -m features weights'.", needed=False),
        Check("Dask", check_dask, f"{SYNC} Leave out --dask until then.", needed=False),
        Check("Prefect", check_prefect, f"{SYNC} Prefect 3.8 needs fastapi>=0.139,<0.151."),
        Check("Prefect plugin", check_plugin, SYNC, needed=False),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit code 1 when something needed fails."""
    parser = Parser(prog="python -m flows.doctor", description=__doc__)
    parser.add_argument(
        "--store", type=Path, metavar="DIR", help=f"where features are to go ({store_dir()})"
    )
    options = parser.parse_args(argv)
    table = Table("what", "", "found")
    console = Console()
    findings = []
    for check in checks(options.store):
        with console.status(f"looking at {check.name}"):
            finding = examine(check)
        findings.append(finding)
        remedy = f"\n{finding.remedy}" if finding.remedy else ""
        status = Text(finding.status, COLOURS[finding.status])
        table.add_row(check.name, status, Text(finding.text + remedy))
    console.print(table)
    failed = sum(f.status == "fail" for f in findings)
    warned = sum(f.status == "warn" for f in findings)
    console.print(f"{len(findings) - failed - warned} ok, {warned} to know, {failed} failed")
    return USER_ERROR if failed else DONE


if __name__ == "__main__":
    run(main)
