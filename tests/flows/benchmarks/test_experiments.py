"""Experiment files: those that come along, and mistakes in one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flows.benchmarks.conditions import Condition, Variant
from flows.benchmarks.experiments import experiments, read_experiment
from flows.benchmarks.published import published_tables
from pipeline.errors import UserError
from trainers.tasks import find_task

FIVE_LEVELS = ["", "+correspondence:0.1", "+correspondence:0.2", "+correspondence:0.3",
               "+correspondence:0.4"]  # fmt: skip
GOOD: dict[str, Any] = {
    "title": "made up",
    "task": "action",
    "published": "action/ntl-1",
    "methods": ["ce", {"method": "ntl:alpha=0.2", "printed_as": "ntl"}],
    "noise": ["symmetric:0.2"],
    "levels": [{"noise": "none", "beside": "ucf101-51"}],
    "seeds": [0, 1],
    "reference": "ce",
    "against": "alpha",
    "remarks": ["One.", "Two."],
}


@pytest.mark.parametrize("name", experiments())
def test_every_experiment_file_can_be_read(name: str) -> None:
    sweep = read_experiment(name)
    assert len(set(sweep.variants)) == len(sweep.variants)
    assert len(set(sweep.conditions)) == len(sweep.conditions)
    assert sweep.reference in map(str, sweep.variants)
    assert sweep.seeds == sweep.noise_seeds == (0, 1, 2, 3, 4)
    assert "frozen features" in " ".join(sweep.remarks)
    find_task(sweep.task)


@pytest.mark.parametrize("name", [n for n in published_tables() if n.startswith("action/")])
def test_every_published_number_stands_beside_a_row(name: str) -> None:
    sweep = read_experiment(name.split("/")[1])
    assert sweep.published.name == name
    shown = [
        (dataset, tuple(values.values()))
        for condition in sweep.conditions
        for variant in sweep.variants
        for dataset, values in sweep.printed(variant, condition)
    ]
    titles = sweep.published.datasets
    wanted = [(titles[d], v) for (_, _, d), v in sweep.published.values.items()]
    assert sorted(shown) == sorted(wanted)


def test_levels_of_correspondence_stand_for_the_papers_data() -> None:
    sweep = read_experiment("ntl-1")
    first = [str(condition) for condition in sweep.conditions[:5]]
    assert first == [f"symmetric:0.2{level}" for level in FIVE_LEVELS]
    ((dataset, values),) = sweep.printed(Variant("ntl"), Condition.parse(first[2]))
    assert (dataset, values["clip@1"]) == ("mini-Kinetics-20", 63.45)
    assert sweep.printed(Variant("ce"), sweep.conditions[0]) == []
    unprinted = Condition.parse("symmetric:0.2+correspondence:0.2,donors=shuffle")
    assert sweep.printed(Variant("ntl"), unprinted) == []


def test_on_the_papers_own_data_nothing_stands_for_it() -> None:
    sweep = read_experiment("ntl-1").on_own_data("mini-Kinetics-30")
    assert [str(c) for c in sweep.conditions] == [f"symmetric:0.{n}" for n in (2, 4, 6, 8)]
    ((dataset, values),) = sweep.printed(Variant("ntl"), sweep.conditions[1])
    assert (dataset, values["clip@1"]) == ("mini-Kinetics-30", 58.57)
    assert read_experiment("ntl-1").on_own_data("demo-action") == read_experiment("ntl-1")


def test_on_clean_data_the_papers_setting_is_the_one_printed() -> None:
    sweep = read_experiment("ntl-4")
    (clean,) = sweep.conditions
    assert sweep.printed(Variant("ntl"), clean) == []
    found = sweep.printed(Variant.parse("ntl:alpha=0.9"), clean)
    assert [dataset for dataset, _ in found] == ["UCF101-51", "Kinetics-Sound"]


def test_own_data_stands_beside_its_own_column_only() -> None:
    sweep = read_experiment("ntl-4").on_own_data("kinetics-sound-31")
    (clean,) = sweep.conditions
    found = sweep.printed(Variant.parse("ntl:alpha=0.9"), clean)
    assert [dataset for dataset, _ in found] == ["Kinetics-Sound"]
    assert "kinetics-sound-31: Kinetics-Sound with a class list of its own" in sweep.remarks[-1]
    same = read_experiment("ntl-4").on_own_data("UCF101-51")
    assert [d for d, _ in same.printed(Variant("adamml"), clean)] == ["UCF101-51"]
    assert same.remarks == read_experiment("ntl-4").remarks
    # Other classes of mini-Kinetics and UCF101 are other data, whatever their number.
    for other in ("ucf101-50", "ucf101", "mini-kinetics-15", "kinetics"):
        assert read_experiment("ntl-1").on_own_data(other) == read_experiment("ntl-1")


def _write(folder: Path, **changes: Any) -> Path:
    """An experiment file with some values changed; None leaves a key out."""
    values = {key: value for key, value in (GOOD | changes).items() if value is not None}
    path = folder / "mine.json"
    path.write_text(json.dumps(values))
    return path


def test_what_is_in_a_file_is_what_is_run(tmp_path: Path) -> None:
    sweep = read_experiment(_write(tmp_path, reference="ntl:alpha=0.2"))
    assert (sweep.title, sweep.task, sweep.against) == ("made up", "action", "alpha")
    assert (sweep.seeds, sweep.reference) == ((0, 1), "ntl:alpha=0.2")
    assert sweep.printed_as == {"ntl:alpha=0.2": "ntl"}
    assert sweep.remarks == ("One.", "Two.")
    least = dict.fromkeys(("published", "levels", "seeds", "reference", "against", "remarks"))
    sweep = read_experiment(_write(tmp_path, **least, methods=["ce"]))
    assert (sweep.seeds, sweep.reference, sweep.remarks) == ((0, 1, 2, 3, 4), None, ())


MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    ({"title": 5}, "'title' is 5", "give a text"),
    ({"title": " "}, "'title' is ' '", "give a text"),
    ({"title": None}, "'title' is missing", "give a text"),
    ({"task": ["action"]}, "'task' is ['action']", "give a task"),
    ({"task": "actoin"}, "'task'", "did you mean 'action'"),
    ({"published": 1}, "'published' is 1", "give a published table"),
    ({"published": "action/ntl-9"}, "'published'", "did you mean 'action/ntl-"),
    ({"published": "../published/action/ntl-1"}, "'published'", "no published table"),
    ({"published": "action/ntl-1", "task": "avvp"}, "'published'", "of the task avvp"),
    ({"methods": "ce"}, "'methods' is 'ce'", "give a list of methods"),
    ({"methods": []}, "'methods' is []", "give a list of methods"),
    ({"methods": [3]}, "'methods' is [3]", "give a list of methods"),
    ({"methods": None}, "'methods' is missing", "give a list of methods"),
    ({"methods": ["ce", "ntll"]}, "'methods'", "did you mean 'ntl'"),
    ({"methods": ["ce:epoch=3"]}, "'methods'", "did you mean '--epochs'"),
    ({"methods": ["ce:epochs=many"]}, "'methods'", "--epochs"),
    ({"methods": ["ce", "ce"]}, "'methods'", "names ce twice"),
    ({"methods": [{"method": "ce"}]}, "entry 1 of methods", "'printed_as' is missing"),
    ({"methods": [{"printed_as": ""}]}, "entry 1 of methods", "'method' is missing"),
    ({"methods": [{"method": "ce", "printed_as": 1}]}, "'printed_as' is 1", "the method, or"),
    ({"methods": [{"method": "ce", "printed_as": "CE"}]}, "'printed_as'", "no method in action"),
    ({"methods": [{"method": "ce", "print": ""}]}, "'print'", "did you mean 'printed_as'"),
    ({"noise": "none"}, "'noise' is 'none'", "give a list of noise"),
    ({"noise": []}, "'noise' is []", "give a list of noise"),
    ({"noise": None}, "'noise' is missing", "give a list of noise"),
    ({"noise": [0.2]}, "'noise' is [0.2]", "give a list of noise"),
    ({"noise": ["symmetric"]}, "'noise'", "KIND:RATE"),
    ({"noise": ["symetric:0.2"]}, "'noise'", "did you mean 'symmetric'"),
    ({"noise": ["symmetric:0.2,incl"]}, "'noise'", "did you mean 'inclusive'"),
    ({"noise": ["none", "none"]}, "'noise'", "names none twice"),
    ({"levels": {"noise": "none"}}, "'levels' is {'noise'", "[[levels]]"),
    ({"levels": ["none"]}, "'levels' is ['none']", "[[levels]]"),
    ({"levels": [{"noise": "none"}]}, "entry 1 of levels", "'beside' is missing"),
    ({"levels": [{"beside": "ucf101-51"}]}, "entry 1 of levels", "'noise' is missing"),
    ({"levels": [{"noise": "none", "beside": "ucf101"}]}, "'beside'", "mean 'ucf101-51'"),
    ({"levels": [{"noise": "nine", "beside": "ucf101-51"}]}, "'noise'", "KIND:RATE"),
    ({"levels": [*GOOD["levels"], *GOOD["levels"]]}, "'levels'", "twice"),
    ({"levels": [{**GOOD["levels"][0], "besides": ""}]}, "'besides'", "did you mean 'beside'"),
    ({"published": None, "methods": ["ce"]}, "'levels'", "key published"),
    ({"published": None, "levels": None}, "'printed_as' is 'ntl'", "key published"),
    ({"seeds": "01"}, "'seeds' is '01'", "whole numbers from 0"),
    ({"seeds": 3}, "'seeds' is 3", "whole numbers from 0"),
    ({"seeds": []}, "'seeds' is []", "whole numbers from 0"),
    ({"seeds": [0.5, 1.5]}, "'seeds' is [0.5, 1.5]", "whole numbers from 0"),
    ({"seeds": [True]}, "'seeds' is [True]", "whole numbers from 0"),
    ({"seeds": ["0"]}, "'seeds' is ['0']", "whole numbers from 0"),
    ({"seeds": [-1]}, "'seeds' is [-1]", "whole numbers from 0"),
    ({"seeds": [1, 1]}, "'seeds' is [1, 1]", "each once"),
    ({"seeds": [2**63]}, "'seeds' is [9223372036854775808]", "whole numbers from 0"),
    ({"reference": 5}, "'reference' is 5", "one of ce, ntl:alpha=0.2"),
    ({"reference": "ntl"}, "'reference'", "known: ce, ntl:alpha=0.2"),
    ({"against": 5}, "'against' is 5", "hyper-parameter"),
    ({"against": "alhpa"}, "'against'", "did you mean 'alpha'"),
    ({"remarks": "one remark"}, "'remarks' is 'one remark'", "give a list of texts"),
    ({"remarks": ["one", 2]}, "'remarks' is ['one', 2]", "give a list of texts"),
    ({"seed": [0]}, "'seed'", "did you mean 'seeds'"),
]


@pytest.mark.parametrize(("changes", "problem", "remedy"), MISTAKES)
def test_every_key_is_checked_when_the_file_is_read(
    changes: dict[str, Any], problem: str, remedy: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as found:
        read_experiment(_write(tmp_path, **changes))
    said = str(found.value)
    assert "mine.json" in said
    assert problem in said
    assert remedy in said
    assert said.endswith((".", "?"))
    assert "\n" not in said


def test_a_file_that_cannot_be_read_is_a_mistake_of_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'ntl-"):
        read_experiment("ntl-7")
    for path in (tmp_path / "none.toml", tmp_path / "folder.toml"):
        (tmp_path / "folder.toml").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=f"{re.escape(str(path))} cannot be read .*--table"):
            read_experiment(path)
    damaged = tmp_path / "mine.toml"
    damaged.write_text("title = ")
    with pytest.raises(UserError, match="not valid TOML"):
        read_experiment(damaged)
