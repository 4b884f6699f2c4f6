"""`python -m flows.benchmark` from the command line down to its tables."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from flows.benchmark import main
from flows.benchmarks.jobs import Crew, run_jobs
from pipeline.errors import UserError
from tests.action_corpora import FEATURES, write_action_corpus
from tests.corpora import write_corpus
from tests.flows.conftest import PROJECT, wait_until
from tests.flows.small_sweeps import HAN, SMALL, plan_jobs, written

JOMOLD = f"jomold:{SMALL},epochs=1"
NOISE = ("none", "drop:0.3", "drop:0.3+correspondence:0.5")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains in this process, which has everything imported."""
    monkeypatch.setattr("flows.benchmark.worker_count", lambda workers, jobs: 0)


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def stamps(runs: Path) -> dict[Path, int]:
    """When the runs below a folder were finished."""
    return {path: path.stat().st_mtime_ns for path in runs.rglob("DONE")}


@pytest.mark.usefixtures("here")
def test_a_sweep_pairs_its_noise_and_is_found_again(
    corpus: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = tmp_path / "runs", tmp_path / "table.csv"
    words = [*corpus, "--method", HAN, JOMOLD, "--noise", *NOISE, "--seed", "0", "1"]
    words += [f"--runs={runs}", f"--paired-to={HAN}"]
    assert main([*words, f"--out={out}"]) == 0
    rows = table(out)
    assert [(r["method"], r["noise"]) for r in rows] == [
        (written(method), noise) for noise in NOISE for method in (HAN, JOMOLD)
    ]
    assert {r["seeds"] for r in rows} == {"0 1"}
    assert [r["noise seeds"] for r in rows[::2]] == ["", "0 1", "0 1"]
    for han, jomold in zip(rows[::2], rows[1::2], strict=True):
        for same in ("noise ids", "noise seeds", "realised", "data"):
            assert han[same] == jomold[same]
    assert rows[0]["noise ids"] == ""
    assert len(set(rows[2]["noise ids"].split())) == 2
    assert rows[4]["realised"] == "0.3000 + 0.5000"
    for row in rows:
        values = [
            json.loads(path.read_text())["metrics"]["test"]["selected"]["segment/type"]
            for path in runs.rglob("results.json")
            if written(row["method"]).startswith(path.parent.name.split("-")[0])
            and _noise_of(path) == row["noise"]
        ]
        assert len(values) == 2
        assert float(row["ours selected segment/type mean"]) == pytest.approx(
            sum(values) / 2, abs=0.006
        )
        assert float(row["ours selected segment/type se"]) == pytest.approx(
            abs(values[0] - values[1]) / 2, abs=0.006
        )
    paired = table(tmp_path / "table.paired.csv")
    assert [(r["method"], r["noise"]) for r in paired] == [
        (written(JOMOLD), noise) for noise in NOISE
    ]
    for row, han, jomold in zip(paired, rows[::2], rows[1::2], strict=True):
        key = "ours selected segment/type mean"
        d = float(jomold[key]) - float(han[key])
        assert float(row["mean d"]) == pytest.approx(d, abs=0.02)
        assert row["needed"] == "12.71"

    # One noisy manifest for each noise and seed, whatever the methods; the parent's stays clean.
    assert len(list((runs / "noise").glob("*.truth.jsonl"))) == 4
    before = stamps(runs)
    assert len(before) == 12
    capsys.readouterr()
    assert main(words) == 0
    assert stamps(runs) == before
    shown = capsys.readouterr()
    assert "12 skipped" in shown.err
    assert written(JOMOLD) in shown.out
    assert f"difference to {written(HAN)}" in shown.out


def _noise_of(path: Path) -> str:
    noise = json.loads(path.read_text())["noise"]
    return "+".join(f"{entry['kind']}:{entry['rate']:g}" for entry in noise) or "none"


@pytest.mark.usefixtures("here")
def test_noise_seeds_can_be_given(corpus: list[str], tmp_path: Path) -> None:
    out = tmp_path / "table.csv"
    words = [*corpus, "--method", "broadcast", "--noise", "drop:0.3", "--seed", "0", "1", "2"]
    words += [f"--runs={tmp_path}", "--format=csv", f"--out={out}"]
    assert main([*words, "--noise-seed", "7", "8"]) == 0
    (row,) = table(out)
    assert row["noise seeds"] == "7 8 7"
    assert len(row["noise ids"].split()) == 2


@pytest.mark.usefixtures("here")
def test_noise_that_the_manifest_has_already_is_named(
    corpus: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*corpus, "--method", "nothing", "--seed", "0", f"--runs={tmp_path}"]
    said = "the manifest has noise already: drop 30 %; what --noise names is added to it"
    assert main([*words, "--noise", "drop:0.3"]) == 0
    assert "noise already" not in capsys.readouterr().err
    (noisy,) = (path for path in tmp_path.glob("noise/*.jsonl") if "truth" not in path.name)
    words[1] = f"--manifest={noisy}"
    assert main([*words, "--noise", "none"]) == 0
    (line,) = (x for x in capsys.readouterr().err.splitlines() if "noise already" in x)
    assert line == f"{said}, and none means none added"


@pytest.mark.usefixtures("here")
def test_a_method_that_fails_leaves_the_others(
    corpus: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, bad = tmp_path / "table.md", "han:batch_size=0,epochs=1"
    words = [*corpus, "--method", bad, HAN, "--seed", "0", "1", f"--runs={tmp_path / 'runs'}"]
    assert main([*words, "--format=markdown", f"--out={out}"]) == 2
    shown = capsys.readouterr()
    assert "2 ok, 2 failed" in shown.err
    assert "2 of 4 runs failed" in shown.err
    assert "han:batch_size=0,epochs=1, none, seed 1" in shown.err
    lines = [line.split(" | ") for line in out.read_text().splitlines() if line.startswith("| han")]
    assert [line[2] for line in lines] == ["0 of 2", "2"]
    assert lines[0][3] == "-"
    assert re.fullmatch(r"\d+\.\d\d ± \d+\.\d\d", lines[1][3])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("text", ['{"method":', '{"schema": 7}', None])
def test_a_finished_run_that_is_damaged_leaves_the_others(
    corpus: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    out = tmp_path / "table.csv"
    words = [*corpus, "--method", "nothing", "broadcast", "--seed", "0", f"--runs={tmp_path}"]
    words += ["--paired-to=nothing", f"--out={out}"]
    assert main(words) == 0
    whole = table(out)
    (path,) = tmp_path.glob("avvp/broadcast-*/results.json")
    path.unlink()
    if text is not None:
        path.write_text(text)
    capsys.readouterr()
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert "0 ok, 1 failed, 1 skipped" in shown
    assert "1 of 2 runs failed" in shown
    assert f"broadcast, none, seed 0: The run {path.parent} has no usable results.json" in shown
    assert "delete the folder and train the run again." in shown
    assert "Traceback" not in shown
    first, second = table(out)
    assert first == whole[0]
    assert (second["method"], second["missing seeds"]) == ("broadcast", "0")


def test_mistakes_stop_a_sweep_before_it_begins(corpus: list[str], tmp_path: Path) -> None:
    words = [*corpus, f"--runs={tmp_path}"]
    for more, message in (
        ([], "--method NAME"),
        (["--method", "hann"], "did you mean 'han'"),
        (["--method", "han", "--noise", "dropp:0.3"], "did you mean 'drop'"),
        (["--method", "han", "--noise", "drop:0.3,empty=true"], "no option of drop noise 'empty'"),
        (["--method", "han", "--noise", "symmetric:0.3"], "multilabel"),
        (["--method", "han", "--paired-to", "jomold"], "no method of this table"),
        (["--method", "han", "--workers", "0"], "At least 1 worker"),
        (["--method", "han", "--figure", "a.png"], "--figure draws"),
        (["--method", "han", "--figure", "a.jpg"], "endings .png"),
        (["--method", "han", "--seed", "-1"], "whole numbers from 0"),
        (["--method", "han", "--out", str(tmp_path)], "is a folder"),
        (["--method", "han", "--out", f"{corpus[1][11:]}/t.csv"], "nothing can be written"),
        (["--method", "han", "--out", "t.csv", "--format", "text"], "--format is text"),
        (["--method", "han", "--runs", corpus[1][11:]], "nothing can be written"),
        (["--method", "han", "--store", "nostore"], "no feature store at nostore"),
        (["--method", "broadcast", "--store", "nostore"], "no feature store at nostore"),
        (["--method", "han", "nothing", "--features", "audio=sond", "visual=sight"], "'sond'"),
        (["--method", "han", "--features", "visual=sight"], "No feature is named for audio"),
        (["--table", "ntl-1"], "of the task action"),
        (["--table", "ntl-9"], "did you mean 'ntl-"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            main([*words, *more])
    assert not list(tmp_path.rglob("DONE"))
    with pytest.raises(UserError, match="Choose a --task"):
        main(["--method", "han"])


def test_what_is_wrong_for_all_runs_stops_a_sweep_before_it_begins(
    corpus: list[str], tmp_path: Path
) -> None:
    clean, store = write_action_corpus(tmp_path / "corpus")
    untrained = tmp_path / "untrained.jsonl"
    lines = clean.read_text().splitlines(keepends=True)
    untrained.write_text("".join(line for line in lines if '"train"' not in line))
    words = ["--task=action", "--method", "ce", "ntl", f"--runs={tmp_path / 'runs'}", *FEATURES]
    for manifest, message in (
        (untrained, "no training rows"),
        (Path(corpus[1].partition("=")[2]), "needs a multiclass manifest"),
        (tmp_path / "none.jsonl", "cannot be read"),
    ):
        for noise in ("none", "symmetric:0.2"):
            with pytest.raises(UserError, match=message):
                main([*words, f"--manifest={manifest}", f"--store={store}", "--noise", noise])
    # Without --store the default one is meant.
    with pytest.raises(UserError, match=f"no feature store at {tmp_path / 'store'}"):
        main([*words, f"--manifest={clean}"])
    assert not list((tmp_path / "runs").rglob("*.json*"))


@pytest.mark.usefixtures("here")
def test_what_one_method_lacks_leaves_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, store = write_corpus(tmp_path, sizes=(20, 6, 6), annotated=False)
    words = ["--task=avvp", f"--manifest={manifest}", f"--store={store}", "--seed", "0"]
    words += ["--features", "audio=sound", "visual=sight", f"--runs={tmp_path / 'runs'}"]
    assert main([*words, "--method", "rlld", HAN]) == 2
    assert "1 of 2 runs failed" in capsys.readouterr().err
    with pytest.raises(UserError, match="dense validation labels"):
        main([*words, "--method", "rlld"])


def test_a_figure_needs_two_values(tmp_path: Path) -> None:
    manifest, store = write_action_corpus(tmp_path / "corpus")
    words = ["--table=ntl-figure-6", f"--manifest={manifest}", f"--store={store}", *FEATURES]
    words += [f"--figure={tmp_path / 'a.png'}", f"--runs={tmp_path / 'runs'}", "--noise=none"]
    with pytest.raises(UserError, match="at least two values of alpha"):
        main([*words, "--method", "ntl:alpha=0.2", "ntl", "ce", "--seed", "0"])


PUBLISHED = {
    "published": 1,
    "name": "made-1",
    "task": "avvp",
    "paper": {"title": "Made up", "authors": "Nobody", "venue": "Nowhere, 1999", "arxiv": "0"},
    "table": "IX",
    "caption": "Made up",
    "unit": "percent",
    "epoch": None,
    "metrics": ["segment/type", "event/type"],
    "methods": {"broadcast": "Broadcast"},
    "datasets": {"elsewhere": "Elsewhere", "there": "There"},
    "remarks": ["Both numbers are made up."],
    "rows": [
        {"method": "broadcast", "noise": "none", "dataset": "elsewhere", "values": [77.7, 66.6]},
        {"method": "broadcast", "noise": "none", "dataset": "there", "values": [55.5, 44.4]},
    ],
}
EXPERIMENT = """
title = "made up"
task = "avvp"
published = "avvp/made-1"
methods = ["nothing", "broadcast"]
noise = ["none"]
seeds = [0, 1]
reference = "nothing"

[[levels]]
noise = "none"
beside = "elsewhere"

[[levels]]
noise = "correspondence:0.5"
beside = "there"
"""


@pytest.mark.usefixtures("here")
def test_published_numbers_stand_in_columns_of_their_own(
    corpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "published"
    (folder / "avvp").mkdir(parents=True)
    (folder / "avvp/made-1.json").write_text(json.dumps(PUBLISHED))
    monkeypatch.setattr("flows.benchmarks.published.PUBLISHED_FOLDER", folder)
    experiment = tmp_path / "made.toml"
    experiment.write_text(EXPERIMENT)
    words = [*corpus, f"--table={experiment}", f"--runs={tmp_path / 'runs'}"]
    for how in ("csv", "markdown", "text"):
        assert main([*words, f"--format={how}", f"--out={tmp_path / f'table.{how}'}"]) == 0
    nothing, ours, nothing_there, there = table(tmp_path / "table.csv")
    assert (there["noise"], there["paper data"]) == ("correspondence:0.5", "There")
    paper = [name for name in ours if name.startswith("paper")]
    assert paper == ["paper", "paper table", "paper data", "paper seg Type", "paper ev Type"]
    assert [ours[name] for name in paper] == ["arXiv 0", "IX", "Elsewhere", "77.70", "66.60"]
    assert nothing["paper seg Type"] == nothing_there["paper data"] == ""
    for row in (nothing, ours, there):
        own = [value for name, value in row.items() if name.startswith("ours selected")]
        assert not {"77.70", "66.60", "55.50", "44.40"} & set(own)
        assert all(re.fullmatch(r"[\d.]+", value) for value in own)
    for how in ("markdown", "text"):
        text = (tmp_path / f"table.{how}").read_text()
        assert "Nobody: Made up" in text
        assert "Both numbers are made up." in text
        assert "frozen features" in text
        (line,) = (x for x in text.splitlines() if "Elsewhere" in x and "77.70" in x)
        assert line.index("Elsewhere") < line.index("77.70")


RECOGNITION = """
title = "made up"
task = "action"
published = "action/ntl-1"
methods = [
    "ce:{small}",
    {{ method = "ntl:{small},warmup=1,alpha=0.2", printed_as = "ntl" }},
    {{ method = "ntl:{small},warmup=1,alpha=0.8", printed_as = "" }},
]
noise = ["symmetric:0.2"]
seeds = [0, 1]
reference = "ce:{small}"
against = "alpha"

[[levels]]
noise = "none"
beside = "ucf101-51"

[[levels]]
noise = "correspondence:0.4"
beside = "mini-kinetics-40"
"""


@pytest.mark.usefixtures("here")
def test_recognition_under_label_and_correspondence_noise(tmp_path: Path) -> None:
    manifest, store = write_action_corpus(tmp_path / "corpus")
    experiment, out = tmp_path / "made.toml", tmp_path / "table.csv"
    small = "batch_size=8,epochs=3,width=16"
    experiment.write_text(RECOGNITION.format(small=small))
    words = [f"--table={experiment}", f"--manifest={manifest}", f"--store={store}", *FEATURES]
    words += [f"--runs={tmp_path / 'runs'}", f"--figure={tmp_path / 'alpha.png'}"]
    assert main([*words, "--format=csv", f"--out={out}"]) == 0
    rows = table(out)
    assert [(r["noise"], r["passes"], r["paper C@1"]) for r in rows] == [
        ("symmetric:0.2", "3", ""),
        ("symmetric:0.2", "5", "83.18"),
        ("symmetric:0.2", "5", ""),
        ("symmetric:0.2+correspondence:0.4", "3", ""),
        ("symmetric:0.2+correspondence:0.4", "5", "62.79"),
        ("symmetric:0.2+correspondence:0.4", "5", ""),
    ]
    assert [r["paper data"] for r in rows[1::3]] == ["UCF101-51", "mini-Kinetics-40"]
    assert {r["realised"] for r in rows} == {"0.2000", "0.2000 + 0.4000"}
    for first, *others in (rows[:3], rows[3:]):
        assert {r["noise ids"] for r in others} == {first["noise ids"]}
    for row in rows:
        for epoch in ("last", "selected", "oracle"):
            assert 0 <= float(row[f"ours {epoch} clip@1 mean"]) <= 100
        assert float(row["ours oracle clip@1 mean"]) >= float(row["ours last clip@1 mean"])
    assert len(table(tmp_path / "table.paired.csv")) == 4
    assert (tmp_path / "alpha.png").stat().st_size > 5000


@pytest.mark.usefixtures("here")
def test_own_data_with_its_own_class_list_stands_beside_its_paper_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PUBLISHED["datasets"], "made", "Made")
    monkeypatch.setitem(PUBLISHED["rows"][0], "dataset", "made")
    folder = tmp_path / "published"
    (folder / "avvp").mkdir(parents=True)
    (folder / "avvp/made-1.json").write_text(json.dumps(PUBLISHED))
    monkeypatch.setattr("flows.benchmarks.published.PUBLISHED_FOLDER", folder)
    manifest, store = write_corpus(tmp_path / "corpus", sizes=(8, 4, 4))
    manifest.write_text(manifest.read_text().replace('"made"', '"made-5"', 1))
    experiment = tmp_path / "made.toml"
    experiment.write_text(EXPERIMENT.replace('"elsewhere"', '"made"'))
    words = [f"--table={experiment}", f"--manifest={manifest}", f"--store={store}"]
    assert main([*words, f"--runs={tmp_path / 'runs'}", "--format=markdown"]) == 0
    shown = capsys.readouterr().out
    assert "| Made | 77.70 | 66.60 |" in shown
    assert "There" not in shown
    assert "correspondence:0.5" not in shown
    assert "Ours is made-5: Made with a class list of its own" in shown


@pytest.mark.usefixtures("here")
def test_a_table_can_be_run_in_part(corpus: list[str], tmp_path: Path) -> None:
    experiment, out = tmp_path / "made.toml", tmp_path / "table.csv"
    plain = EXPERIMENT.replace('published = "avvp/made-1"\n', "").partition("[[levels]]")[0]
    experiment.write_text(plain)
    words = [*corpus, f"--table={experiment}", f"--runs={tmp_path / 'runs'}", "--format=csv"]
    assert main([*words, f"--out={out}", "--method=broadcast", "--noise=none", "--seed=3"]) == 0
    (row,) = table(out)
    assert (row["method"], row["noise"], row["seeds"]) == ("broadcast", "none", "3")
    # The reference is not among the methods, so nothing is compared.
    assert not (tmp_path / "table.paired.csv").exists()


def test_an_interrupted_sweep_goes_on(corpus: list[str], tmp_path: Path) -> None:
    jobs = plan_jobs(corpus, tmp_path, HAN, "broadcast", seed=(0, 1))
    sweep = run_jobs(jobs, 0)
    first = next(sweep)
    sweep.close()
    assert first.status == "ok"
    before = stamps(tmp_path)
    assert list(before) == [Path(first.path) / "DONE"]
    statuses = [outcome.status for outcome in run_jobs(jobs, 0)]
    assert statuses == ["skipped", "ok", "ok", "ok"]
    assert before.items() <= stamps(tmp_path).items()


@pytest.mark.slow
def test_a_process_that_dies_takes_down_only_its_run(corpus: list[str], tmp_path: Path) -> None:
    """The first job's process is killed each time it trains; the crew goes on with the second."""
    endless, short = plan_jobs(corpus, tmp_path, f"han:{SMALL},epochs=100000", "broadcast")
    with Crew() as crew:
        outcomes: list[Any] = []
        thread = threading.Thread(target=lambda: outcomes.append(crew.run(endless)))
        thread.start()
        killed: set[int] = set()
        end = time.monotonic() + 120
        while thread.is_alive() and time.monotonic() < end:
            logged = (tmp_path / "avvp").glob("han-*/metrics.jsonl")
            pids = {worker._process.pid for worker in list(crew._all)} - killed
            if pids and any(path.stat().st_size for path in logged):
                os.kill(pids.pop(), signal.SIGKILL)
                killed |= {worker._process.pid for worker in list(crew._all)}
            time.sleep(0.1)
        thread.join(10)
        assert len(killed) == 2
        assert "died twice" in outcomes[0].error
        assert crew.run(short).status == "ok"


@pytest.mark.slow
def test_a_killed_sweep_ends_its_processes_and_is_continued(
    corpus: list[str], tmp_path: Path
) -> None:
    runs, log = tmp_path / "runs", tmp_path / "log"
    words = [*corpus, "--method", "broadcast", f"han:{SMALL},epochs=300", f"--runs={runs}"]
    words += ["--seed", "0", "1", "--workers=1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.benchmark", *words],
            cwd=PROJECT, stdout=output, stderr=output,
        )  # fmt: skip
        try:
            wait_until(lambda: len(stamps(runs)) > 0, process, log, 120)
            children = _children(process.pid)
        finally:
            process.kill()
            process.wait()
    assert children
    end = time.monotonic() + 20
    while any(map(_alive, children)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(_alive, children))
    before = stamps(runs)
    assert len(before) < 4
    assert main([*words, "--workers=2"]) == 0
    after = stamps(runs)
    assert len(after) == 4
    assert before.items() <= after.items()


def _children(pid: int) -> list[int]:
    """Processes that a process, or a thread of it, has started."""
    listed = list(Path(f"/proc/{pid}/task").glob("*/children"))
    if not listed:
        pytest.skip("this platform does not list a process's children")
    return [int(child) for path in listed for child in path.read_text().split()]


def _alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_the_command_as_a_flow(prefect_server: Any, corpus: list[str], tmp_path: Path) -> None:
    words = ("flows.benchmark", *corpus, f"--runs={tmp_path}", "--seed", "0", "1")
    words += ("--workers=1", "--method", HAN, "broadcast", "han:batch_size=0,epochs=1")
    done = prefect_server.run(*words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "2 of 6 runs failed" in done.stderr
    before = stamps(tmp_path)
    assert len(before) == 4
    report = prefect_server.get("/artifacts/benchmark-report/latest")
    assert re.search(rf"\| {re.escape(written(HAN))} \| none \| 2 \|", report["data"])
    assert prefect_server.get("/artifacts/benchmark-progress/latest")["data"] == 100.0
    task_runs = prefect_server.post("/task_runs/filter", {"limit": 50})
    states = [run["state_type"] for run in task_runs if run["name"].startswith(("han", "broad"))]
    assert sorted(states) == ["COMPLETED"] * 4 + ["FAILED"] * 2

    again = prefect_server.run(*words)
    assert again.returncode == 2, again.stdout + again.stderr
    assert stamps(tmp_path) == before


@pytest.mark.slow
def test_served_deployment(prefect_server: Any, corpus: list[str], tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    named = dict(word[2:].split("=", 1) for word in corpus[:3])
    run = ["prefect", "deployment", "run", "--watch"]
    values = {**named, "method": '["broadcast"]', "seed": "[0, 1]", "runs": str(tmp_path / "runs")}
    for name, value in values.items():
        run += ["-p", f"{name}={value}"]
    with prefect_server.served("flows.serve", log=log) as process:
        wait_until(lambda: "benchmark/benchmark" in log.read_text(), process, log, 120)
        done = prefect_server.run(*run, "benchmark")
        assert done.returncode == 0, done.stdout + done.stderr + log.read_text()
    assert len(stamps(tmp_path / "runs")) == 2
