"""The table of tasks fits the packages it describes."""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import fields

import pytest

import features.demo
from pipeline.errors import UserError
from tests.made_results import made_result
from trainers.tasks import AVVP, EPOCHS, TASKS, Task, find_task, task_name


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_a_task_is_a_package_of_its_name(task: Task) -> None:
    experiment = importlib.import_module(f"trainers.{task.name}.experiment").Experiment
    assert importlib.import_module(f"trainers.{task.name}.interface").METHODS.names()
    assert task.quick.keys() <= {field.name for field in fields(experiment)}
    assert callable(getattr(features.demo, task.demo))
    assert find_task(task.name) is task


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_what_ranks_is_shown(task: Task) -> None:
    assert task.metric in task.shown
    assert len(set(task.headings.values())) == len(task.metrics), "columns are unique"
    assert set(task.epochs) <= set(EPOCHS)
    assert task.epoch != "oracle", "nothing is ranked on the best test epoch"


def test_tables_for_readers_show_some_of_many_metrics() -> None:
    few = dataclasses.replace(AVVP, brief=("event/type", "segment/type"))
    assert few.shown == {"event/type": "ev Type", "segment/type": "seg Type"}
    assert list(AVVP.shown) == list(AVVP.metrics)


def test_results_name_their_task_and_what_was_altered() -> None:
    result = made_result("han", 0, 50.0)
    assert (task_name(result), task_name(result | {"task": "action"})) == ("avvp", "action")
    (never_visible,) = AVVP.variations
    assert never_visible.name(result) == "Speech"
    assert never_visible.name(result | {"updates": 0}) is None
    del result["metrics_never_visible"]
    assert never_visible.name(result) is None


def test_an_unknown_task_is_refused_and_the_nearest_offered() -> None:
    with pytest.raises(UserError, match="did you mean 'action'"):
        find_task("actoin")
