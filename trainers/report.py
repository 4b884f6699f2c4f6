"""Tables of finished runs, and comparisons of methods on paired seeds.

python -m trainers.report runs
python -m trainers.report runs --paired-to han --metric segment/type
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from pipeline.cli import DONE, Parser, run
from pipeline.errors import UserError, unknown_name
from trainers.results import METRIC_TITLES, group_seeds, paired, print_table, results_table
from trainers.runs import find_runs, read_results

__all__ = ["comparable", "compare", "main"]

SAME_DATA = ("task", "dataset", "manifest", "annotations", "rows", "features", "noise")
"""What two runs must share to be compared; features only where both read any."""


def comparable(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two results come from the same data, so that their seeds pair."""

    def same(key: str) -> bool:
        a, b = one["identity"].get(key), other["identity"].get(key)
        # Reference rows read no features and use every clip.
        return a == b or (
            key in ("features", "rows") and not (one["features"] and other["features"])
        )

    return all(same(key) for key in SAME_DATA)


def compare(
    results: Sequence[dict[str, Any]],
    reference: str,
    metric: str,
    *,
    epoch: str = "selected",
    which: str = "metrics",
) -> list[dict[str, Any]]:
    """Pairs every method with a reference method on the seeds that both have.

    Args:
        results: Contents of ``results.json`` files, with identity.
        reference: Name of the reference method.
        metric: Key such as ``"segment/type"``.
        epoch: ``"selected"`` or ``"last"``.
        which: See `paired`.

    Returns:
        For each other method (configuration) its name and what `paired` says.

    Raises:
        UserError: If the reference has no run, or several configurations of it fit one method.
    """
    groups = group_seeds(results)
    references = [group for group in groups if group[0]["method"] == reference]
    if not references:
        raise unknown_name("finished run of a method", reference, {r["method"] for r in results})
    rows = []
    for group in groups:
        if group[0]["method"] == reference:
            continue
        fitting = [r for r in references if comparable(group[0], r[0])]
        if not fitting:
            continue
        if len(fitting) > 1:
            raise UserError(
                f"{len(fitting)} configurations of {reference} fit {group[0]['method']}; "
                "name folders with one of them."
            )
        # A reference without randomness is the same number for every seed.
        base = fitting[0]
        if not base[0]["updates"]:
            base = [{**base[0], "seed": r["seed"]} for r in group]
        found = paired(group, base, metric, epoch=epoch, which=which)
        rows.append({"method": group[0]["method"], **found})
    return rows


def _paired_table(
    rows: Sequence[dict[str, Any]], reference: str, metric: str, epoch: str, filter_name: str
) -> Table:
    title = f"difference to {reference}, {metric}, test, {epoch} epoch, {filter_name} filter"
    table = Table(title=title, title_justify="left")
    for name in ("method", "seeds", "mean d", "sd d", "t", "needed", "verdict", "d by seed"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        verdict = "above" if row["above"] else "below" if row["below"] else "not shown"

        def number(value: float | None) -> str:
            return "-" if value is None else f"{value:+.2f}"

        table.add_row(
            row["method"], str(len(row["seeds"])), number(row["mean"]), number(row["sd"]),
            number(row["t"]), number(row["critical"]), verdict,
            " ".join(f"{d:+.2f}" for d in row["differences"]),
        )  # fmt: skip
    return table


def main(argv: list[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    parser = Parser(prog="python -m trainers.report", description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders that hold finished runs")
    parser.add_argument("--paired-to", metavar="METHOD", help="compare all others with this one")
    parser.add_argument("--metric", default="segment/type", help="metric of the comparison")
    parser.add_argument(
        "--epoch", choices=["selected", "last"], default="selected", help="epoch of the comparison"
    )
    parser.add_argument(
        "--filter",
        choices=["own", "modality"],
        default="own",
        help="compare each under its method's filter, or both under the modality filter",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse_args(argv)
    if args.metric not in METRIC_TITLES:
        raise unknown_name("metric", args.metric, METRIC_TITLES)
    results = [read_results(path) for path in find_runs(args.runs)]
    rows = None
    if args.paired_to:
        which = "metrics" if args.filter == "own" else "metrics_modality"
        rows = compare(results, args.paired_to, args.metric, epoch=args.epoch, which=which)
    if args.json:
        print(json.dumps({"results": results, "paired": rows}, indent=1))
        return DONE
    by_data: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        key = (result["dataset"], str(result["identity"]["manifest"]))
        by_data.setdefault(key, []).append(result)
    for (dataset, digest), group in by_data.items():
        for epoch in ("selected", "last"):
            title = f"{dataset} ({digest}), test, {epoch} epoch, F-scores in percent"
            print_table(results_table(group, epoch=epoch, title=title))
        never = [r for r in group if r["updates"]]
        if never:
            hidden = never[0]["metrics_never_visible"]["class"]
            title = f"the same (selected epoch) with {hidden} deleted from the picture"
            print_table(results_table(never, which="metrics_never_visible", title=title))
    if rows is not None:
        print_table(_paired_table(rows, args.paired_to, args.metric, args.epoch, args.filter))
    return DONE


if __name__ == "__main__":
    run(main)
