"""What finished runs left, found and read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.errors import UserError
from tests.made_results import write_run
from trainers.finished import config, find_runs, labels, lines, read_results
from trainers.report import main
from trainers.results import group_seeds


def test_runs_are_found_with_their_results(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, "han", seed, 50.0 + seed) for seed in (0, 1)]
    found = find_runs([tmp_path])
    assert list(found) == sorted(run.path for run in runs)
    assert found == {path: read_results(path) for path in found}
    with pytest.raises(UserError, match="no finished run"):
        find_runs([tmp_path / "empty"])


def test_a_run_that_is_there_twice_counts_once(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    first = write_run(tmp_path / "a", "han", 0, 50.0)
    write_run(tmp_path / "a", "han", 1, 52.0)
    folders = [tmp_path / "a", tmp_path / "a" / ".." / "a"]
    found = list(find_runs(folders))
    assert len(found) == 2
    assert capsys.readouterr().err == "", "one folder by two names is no matter"
    (group,) = group_seeds([read_results(found[0])] * 2 + [read_results(found[1])])
    assert [r["seed"] for r in group] == [0, 1]
    shutil.copytree(first.path, tmp_path / "b" / "copy")
    assert find_runs([tmp_path]) == find_runs([tmp_path / "a"])
    assert "copy is the same configuration and seed as" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [("results.json", None), ("config.json", None), ("results.json", '{"method":'),
     ("config.json", "[]"), ("results.json", "{}")],
)  # fmt: skip
def test_a_broken_run_is_left_out_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, name: str, text: str | None
) -> None:
    good, bad = (write_run(tmp_path, "han", seed, 50.0) for seed in (0, 1))
    if text is None:
        (bad.path / name).unlink()
    else:
        (bad.path / name).write_text(text)
    assert find_runs([tmp_path]) == {good.path: read_results(good.path)}
    (line,) = capsys.readouterr().err.splitlines()
    assert str(bad.path) in line
    assert "delete the folder" in line
    with pytest.raises(UserError, match="no finished run"):
        find_runs([bad.path])
    with pytest.raises(UserError, match=f"no usable {name}"):
        read_results(bad.path)


def test_configuration_and_log_are_read_back(tmp_path: Path) -> None:
    run = write_run(tmp_path, "han", 3, 50.0)
    assert config(run.path) == {**run.config, "paths": {"manifest": "somewhere"}}
    assert lines(run.path) == [], "a method that trains nothing has no epochs"
    logged = [{"phase": "train", "epoch": 1, "loss": 0.5}, {"phase": "train", "epoch": 2}]
    for line in logged:
        run.log(line)
    assert lines(run.path) == logged
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"phase": "tr')
    with pytest.raises(UserError, match=r"no usable metrics\.jsonl"):
        lines(run.path)


def test_labels_are_read_back(tmp_path: Path) -> None:
    assert labels(tmp_path) == {}, "not every method says something of the labels"
    keep = np.arange(6, dtype=np.float32).reshape(3, 2)
    with h5py.File(tmp_path / "labels.h5", "w") as file:
        file.create_dataset("id", data=["a", "b", "ü"], dtype=h5py.string_dtype())
        file.create_dataset("audio", data=keep)
    found = labels(tmp_path)
    assert found["id"].tolist() == ["a", "b", "ü"]
    np.testing.assert_array_equal(found["audio"], keep)
    whole = (tmp_path / "labels.h5").read_bytes()
    (tmp_path / "labels.h5").write_bytes(whole[:500])
    with pytest.raises(UserError, match=r"labels\.h5 is damaged; delete"):
        labels(tmp_path)
    (tmp_path / "labels.h5").unlink()
    with h5py.File(tmp_path / "labels.h5", "w") as file:
        file.create_dataset("audio", data=keep)
    with pytest.raises(UserError, match=r"labels\.h5 is damaged; delete"):
        labels(tmp_path)


DAMAGED = [
    (("schema",), 7, "schema is 7, not 1"),
    (("schema",), True, "schema is true, not 1"),
    (("task",), "avp", 'task is "avp", not one of avvp, action'),
    (("method",), None, "method is null"),
    (("seed",), "0", 'seed is "0"'),
    (("seed",), 1, "seed is not that of its results.json"),
    (("updates",), -1, "updates is -1, not a whole number from 0"),
    (("noise",), 5, "noise is 5, not a list of objects"),
    (("noise",), [5], "noise is [5], not a list of objects"),
    (("noise",), [{"rate": 0.4}], "entry 1 of noise, kind is missing"),
    (("noise",), [{"kind": "drop", "rate": "0.4"}], 'entry 1 of noise, rate is "0.4"'),
    (("metrics",), [], "metrics is [], not an object"),
    (("metrics", "test"), {}, "metrics.test.last is missing"),
    (("metrics", "test", "last", "segment/type"), "high", 'segment/type is "high", not a finite'),
    (("metrics", "test", "last", "segment/type"), float("nan"), "NaN is no finite number"),
    (("metrics", "val", "segment/type"), 10**400, "not a finite number or null"),
    (("metrics_never_visible", "class"), 5, "metrics_never_visible.class is 5"),
    (("metrics_modality",), {}, "metrics_modality.val is missing"),
    (("failed",), {"test": "2"}, "failed is"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value", "reason"), DAMAGED)
def test_a_result_with_a_bad_value_is_left_out_with_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    place: tuple[str, ...],
    value: object,
    reason: str,
) -> None:
    good, bad = (write_run(tmp_path, "han", seed, 50.0) for seed in (1, 0))
    path = bad.path / "results.json"
    whole = json.loads(path.read_text())
    part = whole
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    path.write_text(json.dumps(whole))
    assert find_runs([tmp_path]) == {good.path: read_results(good.path)}
    (line,) = capsys.readouterr().err.splitlines()
    assert f"left out: The run {bad.path} has no usable" in line
    assert reason in line
    assert line.endswith("delete the folder and train the run again.")
    assert main([str(tmp_path), "--json"]) == 0


@pytest.mark.parametrize(
    ("key", "value"), [("task", "action"), ("noise", [{"kind": "drop", "rate": 0.3}])]
)
def test_a_result_that_is_not_of_its_configuration_is_refused(
    tmp_path: Path, key: str, value: object
) -> None:
    run = write_run(tmp_path, "han", 0, 50.0, **{key: value})
    with pytest.raises(UserError, match=f"{key} is not that of its results"):
        read_results(run.path)


def test_a_result_of_before_tasks_had_names_and_one_with_more_keys_are_read(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path, "han", 0, 50.0)
    path = run.path / "results.json"
    result = json.loads(path.read_text())
    assert "task" not in result
    more = {"task": "avvp", "failed": {"train": 5, "val": 0, "test": 2}, "later": [None]}
    path.write_text(json.dumps(result | more))
    assert read_results(run.path)["failed"]["train"] == 5
