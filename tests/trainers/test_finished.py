"""What finished runs left, found and read."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.errors import UserError
from tests.made_results import write_run
from trainers.finished import config, find_runs, labels, lines, read_results
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
