"""Tables of a sweep, of results that nobody trained."""

from __future__ import annotations

import dataclasses

from flows.benchmarks.conditions import Condition, Variant
from flows.benchmarks.experiments import read_experiment
from flows.benchmarks.plans import Sweep
from flows.benchmarks.tables import Cell, comparison_sheet, data_sheet, results_sheet
from tests.made_results import noisy_result
from trainers.report import compare

SYMMETRIC = Condition.parse("symmetric:0.4")


def _cell(method: str, value: float, *, seeds: int = 5, **more: object) -> Cell:
    """A method under one draw of noise a seed; its values grow with the square of the seed."""
    ran = (noisy_result(method, s, value + s * s, noise_seed=s) | more for s in range(seeds))
    return Cell(Variant(method), SYMMETRIC, tuple(ran), tuple(range(seeds, 5)))


def _sweep(*methods: str, reference: str | None = None) -> Sweep:
    variants = tuple(map(Variant, methods))
    return Sweep("action", "made", variants, (SYMMETRIC,), reference=reference)


def test_a_reference_that_trains_nothing_pairs_under_the_noise_of_every_seed() -> None:
    base, ours = _cell("chance", 10.0, updates=0), _cell("ce", 40.0, seeds=4)
    sheet = comparison_sheet(_sweep("chance", "ce", reference="chance"), [base, ours])
    assert sheet is not None
    (row,) = (dict(zip(sheet.columns, cells, strict=True)) for cells in sheet.rows)
    assert (row["seeds"], row["mean d"], row["needed"]) == ("4", "+30.00", "3.18")
    (found,) = compare([*base.results, *ours.results], "chance", "clip@1", epoch="last")
    assert row["seeds"] == str(len(found["seeds"])), "as python -m trainers.report counts them"


def test_what_a_paper_leaves_blank_is_blank() -> None:
    sweep = read_experiment("ntl-1")
    values = {key: (None, *numbers[1:]) for key, numbers in sweep.published.values.items()}
    paper = {key: text for key, text in sweep.published.paper.items() if key != "arxiv"}
    sweep = dataclasses.replace(
        sweep, published=dataclasses.replace(sweep.published, values=values, paper=paper)
    )
    made = [Cell(variant, sweep.conditions[0], ()) for variant in sweep.variants]
    sheets = {"-": results_sheet(sweep, made), "": data_sheet(sweep, made)}
    for blank, sheet in sheets.items():
        rows = [dict(zip(sheet.columns, cells, strict=True)) for cells in sheet.rows]
        (row,) = (row for row in rows if row["method"] == "ntl")
        assert row["paper C@1"] == blank
        assert float(row["paper C@5"]) > 0
    assert {row[sheets[""].columns.index("paper")] for row in sheets[""].rows} == {paper["title"]}


def test_rows_without_features_are_said_below_the_table() -> None:
    sweep, whole = _sweep("ce", "ntl"), _cell("ce", 40.0)
    plain = results_sheet(sweep, [whole]).notes
    assert not any("ithout features" in note for note in plain)
    lacking = _cell("ntl", 50.0, failed={"train": 5, "val": 0, "test": 2})
    (note,) = set(results_sheet(sweep, [whole, lacking]).notes) - set(plain)
    assert note == "Without features: 5 training, 2 test videos; those in test count as wrong."
