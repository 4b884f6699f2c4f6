"""Tables of finished runs, and comparisons of methods on paired seeds.

python -m trainers.report runs
python -m trainers.report runs --paired-to han --metric segment/type
python -m trainers.report runs/action --paired-to ce --metric clip@1 --epoch last
python -m trainers.report runs --format markdown --out table.md
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.cli import DONE, Parser, run
from pipeline.errors import UserError, unknown_name
from pipeline.files import write_atomic
from trainers.figures import noise_title
from trainers.results import SHOWN, cell_identity, group_seeds, noise_ids, paired
from trainers.runs import find_runs, read_results
from trainers.sheets import detection_sheet, paired_sheet, results_sheet, variant_names
from trainers.tables import FORMATS, Sheet, render

__all__ = ["comparable", "compare", "main", "report_sheets"]

SAME_DATA = ("task", "dataset", "manifest", "annotations", "rows", "features", "noise")
"""What two runs must share to be compared; features only where both read any."""


def comparable(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two results come from the same data and kind of noise, so that their seeds pair."""
    mine, theirs = cell_identity(one), cell_identity(other)

    def same(key: str) -> bool:
        # Reference rows read no features and use every clip.
        return mine.get(key) == theirs.get(key) or (
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
        reference: The reference method, or one of its configurations as tables name it.
        metric: Key such as ``"segment/type"``.
        epoch: ``"selected"`` or ``"last"``.
        which: See `paired`.

    Returns:
        For each other method, setting and noise: ``method``, ``name`` (with the settings that
        differ), ``noise`` in words, and what `paired` says.

    Raises:
        UserError: If the reference has no run, or several configurations of it fit one method.
    """
    groups = group_seeds(results)
    names = variant_names(groups)
    references = [
        (name, group)
        for name, group in zip(names, groups, strict=True)
        if reference in (name, group[0]["method"])
    ]
    if not references:
        raise unknown_name("finished run of a method", reference, {r["method"] for r in results})
    taken = {name for name, _ in references}
    rows = []
    for name, group in zip(names, groups, strict=True):
        if name in taken:
            continue
        fitting = [base for base in references if comparable(group[0], base[1][0])]
        if not fitting:
            continue
        if len(fitting) > 1:
            choices = ", ".join(repr(base) for base, _ in fitting)
            raise UserError(
                f"{len(fitting)} configurations of {reference} fit {name}; name one of them: "
                f"{choices}."
            )
        # A reference without randomness is the same number for every seed.
        base = fitting[0][1]
        if not base[0]["updates"]:
            base = [
                {**base_run, "seed": r["seed"]}
                for r in group
                for base_run in base
                if noise_ids(base_run) == noise_ids(r)
            ]
        found = paired(group, base, metric, epoch=epoch, which=which)
        noise = noise_title(group[0].get("noise", ()))
        rows.append({"method": group[0]["method"], "name": name, "noise": noise, **found})
    return rows


def report_sheets(results: Sequence[dict[str, Any]], *, separate: bool = False) -> list[Sheet]:
    """The tables of finished runs: by data and epoch, and of noise that was found.

    Args:
        results: Contents of ``results.json`` files, with identity, of any tasks.
        separate: See `trainers.sheets.results_sheet`.
    """
    sheets = []
    by_data: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for result in results:
        root = str(cell_identity(result)["manifest"])
        by_data.setdefault((result.get("task", "avvp"), result["dataset"], root), []).append(result)
    for (task, dataset, root), group in by_data.items():
        where = f"{dataset} ({root}), test"
        frozen = "frozen features" if any(r["features"] for r in group) else "no features"
        for epoch in ("selected", "last") if task == "avvp" else ("last", "selected", "oracle"):
            title = f"{where}, {epoch} epoch, percent, {frozen}"
            sheets.append(results_sheet(group, epoch=epoch, title=title, separate=separate))
        never = [r for r in group if r["updates"] and "metrics_never_visible" in r]
        if never:
            hidden = never[0]["metrics_never_visible"]["class"]
            sheets.append(
                results_sheet(
                    never,
                    which="metrics_never_visible",
                    title=f"the same (selected epoch) with {hidden} deleted from the picture",
                    separate=separate,
                )
            )
        found = detection_sheet(group, separate=separate)
        if found is not None:
            sheets.append(found)
    return sheets


def _choose(results: Sequence[dict[str, Any]], metric: str | None) -> tuple[str, str]:
    """The task and the metric of a comparison."""
    tasks = list(dict.fromkeys(r.get("task", "avvp") for r in results))
    if metric is None:
        if len(tasks) > 1:
            raise UserError(
                f"The runs are of {', '.join(tasks)}; say what to compare with --metric."
            )
        return tasks[0], SHOWN[tasks[0]].metric
    for task in tasks:
        if metric in SHOWN[task].metrics:
            return task, metric
    raise unknown_name("metric", metric, [key for task in tasks for key in SHOWN[task].metrics])


def main(argv: list[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    parser = Parser(prog="python -m trainers.report", description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders that hold finished runs")
    parser.add_argument("--paired-to", metavar="METHOD", help="compare all others with this one")
    parser.add_argument(
        "--metric", help="metric of the comparison (default: segment/type, clip@1 for recognition)"
    )
    parser.add_argument(
        "--epoch",
        choices=["selected", "last"],
        help="epoch of the comparison (default: selected, last for recognition)",
    )
    parser.add_argument(
        "--filter",
        choices=["own", "modality"],
        default="own",
        help="of parsing: compare each under its method's filter, or all under modality",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="text",
        help="CSV is for programs: every statistic in a column of its own",
    )
    parser.add_argument("--out", type=Path, help="file to write in place of printing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse_args(argv)
    results = [read_results(path) for path in find_runs(args.runs)]
    task, metric = _choose(results, args.metric) if args.paired_to or args.metric else ("", "")
    rows = None
    if args.paired_to:
        which = "metrics" if args.filter == "own" or task != "avvp" else "metrics_modality"
        epoch = args.epoch or SHOWN[task].epoch
        mine = [r for r in results if r.get("task", "avvp") == task]
        rows = compare(mine, args.paired_to, metric, epoch=epoch, which=which)
    if args.json:
        return _emit(json.dumps({"results": results, "paired": rows}, indent=1) + "\n", args.out)
    sheets = report_sheets(results, separate=args.format == "csv")
    if rows is not None:
        filters = args.filter if task == "avvp" else ""
        sheets.append(paired_sheet(rows, args.paired_to, metric, epoch, filters))
    width = None if args.out or not sys.stdout.isatty() else shutil.get_terminal_size().columns
    parts = [render(sheet, args.format, **({"width": width} if width else {})) for sheet in sheets]
    return _emit("\n".join(parts), args.out)


def _emit(text: str, out: Path | None) -> int:
    if out is None:
        print(text, end="")
    else:
        write_atomic(out, text)
        print(f"written: {out}")
    return DONE


if __name__ == "__main__":
    run(main)
