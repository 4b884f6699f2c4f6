"""What a sweep runs: texts of methods and noise, and experiment files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.benchmarks.conditions import Condition, Variant
from flows.benchmarks.plans import Sweep, experiments, pair_noise_seeds, read_experiment
from flows.benchmarks.published import published_tables
from flows.benchmarks.tasks import find_task, read_values
from pipeline.errors import UserError

FIVE_LEVELS = ["", "+correspondence:0.1", "+correspondence:0.2", "+correspondence:0.3",
               "+correspondence:0.4"]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("ntl", "ntl"),
        ("ntl:contrast=ins", "ntl:contrast=ins"),
        (" ntl : warm-up=2 , alpha=0.4", "ntl:alpha=0.4,warm_up=2"),
    ],
)
def test_a_variant_is_written_in_one_way(text: str, written: str) -> None:
    assert str(Variant.parse(text)) == written
    assert Variant.parse(written) == Variant.parse(text)


@pytest.mark.parametrize("text", ["", ":a=1", "ntl:ins", "ntl:a=1,a=2", "ntl:=1", "ntl:a="])
def test_what_is_no_variant_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        Variant.parse(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("none", "none"),
        ("symmetric:0.40", "symmetric:0.4"),
        ("symmetric:0.4+correspondence:0.2", "symmetric:0.4+correspondence:0.2"),
        ("none+correspondence:1", "correspondence:1"),
        ("asymmetric:0.2,half-exact,flip=half", "asymmetric:0.2,flip=half,half_exact=true"),
        ("symmetric:rates=r.csv", "symmetric:rates=r.csv"),
    ],
)
def test_a_condition_is_written_in_one_way(text: str, written: str) -> None:
    assert str(Condition.parse(text)) == written
    assert Condition.parse(written) == Condition.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "symmetric", "symmetric:1.5", "symmetric:-0.1", ":0.2", "symmetric:0.2,0.3", "a:0.1+"],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="KIND:RATE"):
        Condition.parse(text)


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


def test_mistakes_in_experiment_files_say_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'ntl-"):
        read_experiment("ntl-7")
    path = tmp_path / "mine.toml"
    path.write_text('title = "x"\ntask = "avvp"\nmethod = ["han"]\n')
    with pytest.raises(UserError, match="did you mean 'methods'"):
        read_experiment(path)
    path.write_text('title = "x"\ntask = "avvp"\nmethods = ["han"]\n')
    with pytest.raises(UserError, match="'noise'"):
        read_experiment(path)
    path.write_text('title = "x"\ntask = "avp"\nmethods = ["han"]\nnoise = ["none"]\n')
    with pytest.raises(UserError, match="did you mean 'avvp'"):
        read_experiment(path)


def _sweep(*methods: str) -> Sweep:
    return Sweep("avvp", "made", tuple(map(Variant.parse, methods)), (Condition(),))


def test_mistakes_are_found_before_any_work() -> None:
    _sweep("han", "han:epochs=2").check()
    with pytest.raises(UserError, match="did you mean 'han'"):
        _sweep("hann").check()
    with pytest.raises(UserError, match="did you mean '--epochs'"):
        _sweep("han:epoch=2").check()
    with pytest.raises(UserError, match="names han twice"):
        _sweep("han", "han").check()
    with pytest.raises(UserError, match="names a seed twice"):
        replace(_sweep("han"), seeds=(1, 1)).check()
    with pytest.raises(UserError, match="no method of this table 'jomold'"):
        replace(_sweep("han"), reference="jomold").check()


def test_values_are_converted_as_on_the_command_line() -> None:
    values = read_values("avvp", "jomold", {"epochs": "3", "lr": "0.1", "as_released": "true"})
    assert values == {"epochs": 3, "lr": 0.1, "as_released": True}


def test_noise_seeds_follow_the_training_seeds_unless_given() -> None:
    assert pair_noise_seeds((3, 4), None) == (3, 4)
    assert pair_noise_seeds((0, 1, 2), [7, 8]) == (7, 8, 7)
