"""The flow and its deployment, served by a real process to a real server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from distributed import KilledWorker
from prefect.states import Failed

from features.extraction import ShardTask, summarise
from features.store import Store
from flows.extract import prepare
from flows.extraction import (
    MAX_TASKS,
    PROGRESS_KEY,
    REPORT_KEY,
    _may_pass_next_time,
    _parts,
    _run,
    extract_shards,
)
from pipeline.errors import UserError
from tests.flows.conftest import wait_until

FEATURES = '["logmel_stats", "frame_stats"]'


@pytest.mark.parametrize("count", [1, MAX_TASKS, MAX_TASKS + 1, 10 * MAX_TASKS + 7])
def test_shards_are_grouped_so_that_task_runs_stay_few(count: int) -> None:
    tasks = [ShardTask(str(n), (), ()) for n in range(count)]
    parts = _parts(tasks)
    assert len(parts) <= MAX_TASKS
    assert [ShardTask.unpack(packed) for _, packs in parts for packed in packs] == tasks
    assert len({name for name, _ in parts}) == len(parts)
    assert parts[-1][0].endswith(f"{count} of {count}")


@pytest.mark.parametrize(
    ("error", "again"), [(OSError("disk full"), True), (UserError("x"), False)]
)
def test_only_what_may_pass_next_time_is_retried(error: Exception, again: bool) -> None:
    assert _may_pass_next_time(extract_shards, None, Failed(data=error)) is again


class DyingRunner:
    """A task runner whose second task kills every worker."""

    def submit(self, task: Any, parameters: dict[str, Any]) -> DyingRunner:
        self.calls = [*getattr(self, "calls", []), parameters["shards"]]
        future = DyingRunner()
        future.number, future.shards = len(self.calls), parameters["shards"]
        return future

    def result(self) -> list[Any]:
        if self.number == 2:
            raise KilledWorker("key", None, 3)
        return extract_shards.fn(self.shards)


def test_shards_that_kill_their_dask_worker_are_given_up(
    monkeypatch: pytest.MonkeyPatch, tiny_manifest: Path, tmp_path: Path
) -> None:
    for name in ("create_progress_artifact", "update_progress_artifact"):
        monkeypatch.setattr(f"flows.extraction.{name}", lambda *args, **kwargs: None)
    names = ["frame_stats"]
    work = prepare(manifest=tiny_manifest, store=tmp_path, features=names, shard_rows=1)
    report = summarise(work, list(_run(DyingRunner(), work, None)), 1.0)
    assert report.statuses["frame_stats"] == {("ok", ""): 2}
    (lost,) = report.lost
    assert report.failed == 1
    assert lost in report.table()


@pytest.mark.slow
def test_served_deployment(prefect_server: Any, tiny_manifest: Path, tmp_path: Path) -> None:
    """Serve, run by bare and by full name, watch, and look at what came of it."""
    log = tmp_path / "serve.log"
    store = tmp_path / "store"
    run = ("prefect", "deployment", "run", "--watch", "-p", f"manifest={tiny_manifest}")
    run += ("-p", f"store={store}", "-p", f"features={FEATURES}", "-p", "shard_rows=2")

    def registered() -> bool:
        return "extract-features/extract-features" in log.read_text()

    with prefect_server.served("flows.serve", log=log) as process:
        wait_until(registered, process, log, 120)
        bare = prefect_server.run(*run, "extract-features")
        assert bare.returncode == 0, bare.stdout + bare.stderr + log.read_text()
        assert [info.rows for info in Store(store).features()] == [3, 3]
        assert len(list(store.rglob("*.h5"))) == 4
        report = prefect_server.get(f"/artifacts/{REPORT_KEY}/latest")
        assert re.search(r"frame_stats +ok +3", report["data"])
        assert prefect_server.get(f"/artifacts/{PROGRESS_KEY}/latest")["data"] == 100.0

        again = prefect_server.run(*run, "extract-features/extract-features")
        assert again.returncode == 0, again.stdout + again.stderr
        report = prefect_server.get(f"/artifacts/{REPORT_KEY}/latest")
        assert report["data"].startswith("nothing to do: 3 rows")


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--dask", "local", "--workers", "1")])
def test_the_command_as_a_flow(
    more: tuple[str, ...], prefect_server: Any, broken_manifest: Path, tmp_path: Path
) -> None:
    words = ("flows.extract", "--manifest", str(broken_manifest), "--store", str(tmp_path / "s"))
    done = prefect_server.run(*words, "--features", "logmel_stats", "frame_stats", *more)
    assert done.returncode == 2, done.stdout + done.stderr
    for status in ("ok", "missing", "decode_error"):
        assert re.search(rf"frame_stats +{status} +1", done.stdout)
    report = prefect_server.get(f"/artifacts/{REPORT_KEY}/latest")
    assert "decode_error" in report["data"]


@pytest.mark.slow
def test_a_mistake_as_a_flow(prefect_server: Any, tiny_manifest: Path) -> None:
    words = ("flows.extract", "--manifest", str(tiny_manifest))
    wrong = prefect_server.run(*words, "--features", "logmel_stat")
    assert wrong.returncode == 1
    assert "did you mean 'logmel_stats'" in wrong.stderr
    assert "Traceback" not in wrong.stdout + wrong.stderr
