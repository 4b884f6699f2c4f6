"""Tables of finished runs, and comparisons of methods on paired seeds.

python -m trainers.report runs
python -m trainers.report runs --paired-to han --metric segment/type
python -m trainers.report runs/action --paired-to ce --metric clip@1 --epoch last
python -m trainers.report runs --format markdown --out table.md
python -m trainers.report runs --paired-to han --format csv --out table.csv
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
from trainers.finished import find_runs
from trainers.results import (
    by_data,
    cell_identity,
    named_groups,
    noise_title,
    over_seeds,
    paired,
)
from trainers.sheets import (
    data_sheet,
    detection_sheet,
    paired_data_sheet,
    paired_sheet,
    results_sheet,
)
from trainers.tables import FORMATS, Sheet, render, table_format
from trainers.tasks import Task, find_task, task_name

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
        For each other method, setting and noise, by data set, noise and name: ``task``,
        ``dataset``, ``manifest`` (digest of the clean one), ``data`` in words, ``method``, ``name``
        (with the settings that differ), ``reference`` (its name), ``noise`` in words, and what
        `paired` says.

    Raises:
        UserError: If the reference has no run, or several configurations of it fit one method.
    """
    rows: list[dict[str, Any]] = []
    known: set[str] = set()
    for (task, dataset, root), mine in by_data(results).items():
        groups = named_groups(mine)
        known |= {name for name, _ in groups} | {group[0]["method"] for _, group in groups}
        references = [
            (name, group) for name, group in groups if reference in (name, group[0]["method"])
        ]
        taken = {name for name, _ in references}
        where = {"task": task, "dataset": dataset, "manifest": root, "data": f"{dataset} ({root})"}
        for name, group in groups:
            base = None if name in taken else _reference(name, group, reference, references)
            if base is None:
                continue
            found = paired(group, over_seeds(base[1], group), metric, epoch=epoch, which=which)
            noise = noise_title(group[0].get("noise", ()))
            about = {"method": group[0]["method"], "name": name, "reference": base[0]}
            rows.append({**where, **about, "noise": noise, **found})
    if reference not in known:
        raise unknown_name("finished run of a method", reference, known)
    return rows


def _reference(
    name: str,
    group: Sequence[dict[str, Any]],
    reference: str,
    references: Sequence[tuple[str, list[dict[str, Any]]]],
) -> tuple[str, list[dict[str, Any]]] | None:
    """The one reference that has a group's data and noise; None without any."""
    fitting = [base for base in references if comparable(group[0], base[1][0])]
    if len(fitting) > 1:
        choices = ", ".join(repr(base) for base, _ in fitting)
        raise UserError(
            f"{len(fitting)} configurations of {reference} fit {name}; name one of them: {choices}."
        )
    return fitting[0] if fitting else None


def report_sheets(results: Sequence[dict[str, Any]]) -> list[Sheet]:
    """The tables of finished runs for readers: by data and epoch, and of noise that was found.

    Args:
        results: Contents of ``results.json`` files, with identity, of any tasks.
    """
    sheets = []
    for (name, dataset, root), group in by_data(results).items():
        task, where = find_task(name), f"{dataset} ({root})"
        frozen = "frozen features" if any(r["features"] for r in group) else "no features"
        for epoch in task.epochs:
            title = f"{where}, test, {epoch} epoch, percent, {frozen}"
            sheets.append(results_sheet(group, epoch=epoch, title=title))
        for variation in task.variations:
            some = [r for r in group if variation.name(r) is not None]
            if some:
                how = variation.heading.format(variation.name(some[0]))
                title = f"{where}, the same ({task.epoch} epoch) {how}"
                sheets.append(results_sheet(some, which=variation.key, title=title, among=group))
        found = detection_sheet(group, among=group)
        if found is not None:
            sheets.append(found)
    return sheets


def _tasks(results: Sequence[dict[str, Any]]) -> list[Task]:
    return [find_task(name) for name in dict.fromkeys(map(task_name, results))]


def _check_filter(name: str, tasks: Sequence[Task]) -> None:
    """Refuses a filter that no task has, but for the default, which every comparison is under."""
    if name != "own" and not any(name in task.filters for task in tasks):
        names = ", ".join(task.name for task in tasks)
        raise UserError(
            f"--filter {name} is of parsing, and what is compared is {names}, which has no "
            "filters; leave --filter out."
        )


def _choose(results: Sequence[dict[str, Any]], metric: str | None) -> tuple[Task, str]:
    """The task and the metric of a comparison."""
    tasks = _tasks(results)
    if metric is None:
        if len(tasks) > 1:
            names = ", ".join(task.name for task in tasks)
            raise UserError(f"The runs are of {names}; say what to compare with --metric.")
        return tasks[0], tasks[0].metric
    for task in tasks:
        if metric in task.metrics:
            return task, metric
    raise unknown_name("metric", metric, [key for task in tasks for key in task.metrics])


def main(argv: list[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    if args.json and args.format is not None:
        raise UserError("--json prints JSON and no table; leave it or --format out.")
    how = table_format(args.format, args.out)
    results = list(find_runs(args.runs).values())
    rows = None
    if args.paired_to or args.metric:
        task, metric = _choose(results, args.metric)
    _check_filter(args.filter, [task] if args.paired_to else _tasks(results))
    if args.paired_to:
        filter_name = args.filter if task.filters else ""
        which = task.filters.get(filter_name, "metrics")
        epoch = args.epoch or task.epoch
        mine = [r for r in results if task_name(r) == task.name]
        rows = compare(mine, args.paired_to, metric, epoch=epoch, which=which)
    if args.json:
        text = json.dumps({"results": results, "paired": rows}, indent=1, allow_nan=False) + "\n"
        return _emit([text], args.out)
    if how == "csv":
        tables = [render(data_sheet(results), "csv")] if args.out or rows is None else []
        if rows is not None:
            tables.append(render(paired_data_sheet(rows, metric, epoch, filter_name), "csv"))
        return _emit(tables, args.out)
    sheets = report_sheets(results)
    if rows is not None:
        sheets.append(paired_sheet(rows, args.paired_to, metric, epoch, filter_name))
    width = None if args.out or not sys.stdout.isatty() else shutil.get_terminal_size().columns
    return _emit(["\n".join(render(s, how, width=width) for s in sheets)], args.out)


def _parser() -> Parser:
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
        help="default: by the ending of --out, or text; csv is for programs; printed, it is one "
        "table: the comparison where --paired-to asks "
        "for one, else all results",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="file to write in place of printing; csv writes results there and the comparison "
        "beside it: FILE.csv and FILE.paired.csv",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def _emit(texts: Sequence[str], out: Path | None) -> int:
    """Prints a table, or writes it, and a comparison after it beside it."""
    if out is None:
        print(*texts, sep="", end="")
        return DONE
    places = [out, out.with_name(f"{out.stem}.paired{out.suffix}")][: len(texts)]
    for place, text in zip(places, texts, strict=True):
        write_atomic(place, text)
        print(f"written: {place}")
    return DONE


if __name__ == "__main__":
    run(main)
