"""``python -m pipeline.noise`` from file to file, and what trainers get to see of it."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from features.store import Store
from pipeline.errors import UserError
from pipeline.manifest import Manifest, read_manifest, write_manifest
from pipeline.noise import KINDS, read_truth, truth_path
from pipeline.noise.__main__ import main
from tests.corpora import ROLES, write_corpus
from tests.noisy import make_manifest, names
from trainers.action import interface as action
from trainers.avvp import interface as avvp
from trainers.avvp.data import load_data

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    write_manifest(make_manifest(50), tmp_path / "clean.jsonl")
    return tmp_path / "clean.jsonl"


def noise(*argv: Any) -> int:
    return main([str(arg) for arg in argv])


def test_a_chain_of_commands(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, both = (clean.with_name(f"{name}.jsonl") for name in ("first", "both"))
    assert noise(clean, "--out", first, "--kind", "symmetric", "--rate", 0.4, "--seed", 3) == 0
    out = capsys.readouterr().out
    assert "20 of 50 training rows changed, 20 drawn: 40.00 % for a nominal 40.00 %" in out
    entry = read_manifest(first).header.noise[0]
    assert f"noise id {entry['id']}\nwrote {first} and first.truth.jsonl" in out
    assert noise(first, "--out", both, "--kind", "correspondence", "--rate", 0.2) == 0
    out = capsys.readouterr().out
    assert "correspondence (donors=derangement, different_class=False), seed 0" in out
    assert "labels flipped and audio altered, all noise together: both" in out
    manifest = read_manifest(both)
    assert [n["kind"] for n in manifest.header.noise] == ["symmetric", "correspondence"]
    truth = read_truth(truth_path(both))
    assert sum("labels" in e for e in truth.values()) == 20
    assert sum("audio_id" in e for e in truth.values()) == 10


def test_it_runs_as_a_module_and_says_mistakes_in_one_sentence(clean: Path) -> None:
    command = [sys.executable, "-m", "pipeline.noise", str(clean), "--kind", "drop"]
    command += ["--rate", "0.1", "--dry-run"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "error: --kind drop makes multilabel manifests noisy and this one is multiclass; choose a "
        "kind that fits.\n"
    )


def test_dry_run_writes_nothing(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(clean.parent.iterdir())
    out = clean.with_name("out.jsonl")
    for more in ([], ["--out", out]):
        assert noise(clean, "--kind", "asymmetric", "--rate", 0.2, "--dry-run", *more) == 0
        assert "nothing was written" in capsys.readouterr().out
    assert sorted(clean.parent.iterdir()) == before


def test_files_of_options(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = clean.parent
    classes = names(5)
    rates = folder / "rates.csv"
    rates.write_text(f"class,rate\n{classes[0]},0.5\n")
    mapping = folder / "map.json"
    mapping.write_text(json.dumps({classes[0]: classes[1]}))
    matrix = folder / "matrix.json"
    matrix.write_text(json.dumps({a: dict.fromkeys(classes, 0.2) for a in classes}))
    out = folder / "out.jsonl"
    common = ["--out", out, "--kind"]
    flags = ["--flip", "custom", "--map", mapping, "--rates", rates, "--rate", 0]
    assert noise(clean, *common, "asymmetric", *flags) == 0
    entry = read_manifest(out).header.noise[0]
    assert entry["options"]["map"] == {classes[0]: classes[1]}
    assert entry["rates"] == {name: 0.5 * (name == classes[0]) for name in classes}
    assert entry["changed"] > 0
    assert noise(clean, *common, "transition", "--matrix", matrix) == 0
    assert read_manifest(out).header.noise[0]["rate"] == 1
    assert "transition (matrix=" in capsys.readouterr().out


def test_a_pool_from_a_file(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = clean.with_name("pool.jsonl")
    other = make_manifest(0, pool=7)
    rows = [row for row in other if row.split == "pool"]
    write_manifest(Manifest(other.header, tuple(rows)), pool)
    out = clean.with_name("out.jsonl")
    common = [clean, "--kind", "correspondence", "--donors", "external", "--rate", 0.2]
    assert noise(*common, "--pool", pool, "--out", out) == 0
    assert "7 of 7 rows of the pool lend audio, some more than once" in capsys.readouterr().out
    assert len(read_manifest(out).split("pool")) == 7
    with pytest.raises(UserError, match="would overwrite the pool"):
        noise(*common, "--pool", pool, "--out", pool)
    with pytest.raises(UserError, match=r"source 'train/\d+\.mp4' of the pool clean\.jsonl stands"):
        noise(*common, "--pool", clean, "--out", out)


def test_the_nominal_rate_of_a_matrix_is_what_stands_off_its_diagonal(
    clean: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = names(5)
    rows = {name: {name: 0.75, classes[0]: 0.25} for name in classes[1:]} | {
        classes[0]: {classes[0]: 1}
    }
    matrix = clean.with_name("matrix.json")
    matrix.write_text(json.dumps(rows))
    assert noise(clean, "--dry-run", "--kind", "transition", "--matrix", matrix) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    shown = {words[0]: words[1:3] for words in lines if words and words[0] in classes}
    assert shown == {n: ["0.00" if n == classes[0] else "25.00", "%"] for n in classes}
    kept = sum(row.labels == (classes[0],) for row in read_manifest(clean).split("train"))
    assert lines[1][-2:] == [f"{(50 - kept) / 50 * 25:.2f}", "%"]


def command(clean: Path, out: Path, **streams: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command as a process of its own."""
    argv = [sys.executable, "-m", "pipeline.noise", str(clean), "--out", str(out)]
    argv += ["--kind", "symmetric", "--rate", "0.4"]
    return subprocess.run(argv, cwd=REPOSITORY, text=True, stderr=subprocess.PIPE, **streams)


def test_a_reader_that_goes_away_takes_nothing_with_it(clean: Path) -> None:
    out = clean.with_name("out.jsonl")
    reader, writer = os.pipe()
    os.close(reader)
    done = command(clean, out, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(read_manifest(out)) == len(read_manifest(clean))
    assert len(read_truth(truth_path(out))) == 20


def test_an_output_that_cannot_be_written_is_one_sentence(clean: Path) -> None:
    before = sorted(clean.parent.iterdir())
    folder, below = clean.parent, clean / "below.jsonl"
    for out, message in (
        (folder, f"{folder} is a folder; give --out the name of a file."),
        (
            below,
            f"{truth_path(below)} cannot be written (Not a directory); free some space, mend the "
            "permissions or choose another place.",
        ),
    ):
        done = command(clean, out, stdout=subprocess.PIPE)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {message}\n")
    assert sorted(clean.parent.iterdir()) == before


def test_many_classes_are_cut_in_the_table_only(tmp_path: Path, capsys: Any) -> None:
    write_manifest(make_manifest(60, 45), tmp_path / "m.jsonl")
    out = tmp_path / "o.jsonl"
    assert noise(tmp_path / "m.jsonl", "--out", out, "--kind", "symmetric", "--rate", 0.5) == 0
    assert "and 5 more classes; the manifest's header has them all" in capsys.readouterr().out
    assert len(read_manifest(out).header.noise[0]["realised"]["per_class"]) == 45


def test_a_note_says_that_rows_were_too_few(tmp_path: Path, capsys: Any) -> None:
    write_manifest(make_manifest(40, label_type="multilabel"), tmp_path / "m.jsonl")
    assert noise(tmp_path / "m.jsonl", "--kind", "drop", "--rate", 1, "--dry-run") == 0
    assert "have a label to spare; all were drawn instead of 40." in capsys.readouterr().out


MISTAKES = {
    "nowhere to write": (["--kind", "symmetric", "--rate", "0.4"], "pass --out FILE, or --dry-run"),
    "no rate": (["--kind", "symmetric", "--dry-run"], "No rate was given; pass --rate"),
    "unknown kind": (["--kind", "symetric"], "invalid choice: 'symetric'"),
    "unknown option": (["--kind", "symmetric", "--rat", "1"], "no option '--rat'; did you mean"),
    "rate": (["--kind", "symmetric", "--rate", "40", "--dry-run"], "use a share from 0 to 1"),
    "flip of another kind": (
        ["--kind", "symmetric", "--flip", "half", "--dry-run"],
        "--flip belongs to --kind asymmetric",
    ),
    "switch of another kind": (
        ["--kind", "asymmetric", "--different-class", "--dry-run"],
        "--different-class belongs to --kind correspondence",
    ),
    "pool of another kind": (
        ["--kind", "symmetric", "--rate", "0.1", "--pool", "x", "--dry-run"],
        "--pool belongs to --kind correspondence",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(case: str, clean: Path) -> None:
    argv, message = MISTAKES[case]
    with pytest.raises(UserError, match=message):
        noise(clean, *argv)


def test_help_defines_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        noise("--help")
    text = " ".join(capsys.readouterr().out.split())
    for name, kind in KINDS.items():
        assert f"--kind {name}:" in text
        assert " ".join(kind.definition.split()) in text


def test_trainers_never_open_the_truth(tmp_path: Path) -> None:
    path, store = write_corpus(tmp_path, sizes=(12, 4, 4))
    out = tmp_path / "noisy.jsonl"
    assert noise(path, "--out", out, "--kind", "drop", "--rate", 0.5) == 0

    def labels() -> torch.Tensor:
        data = load_data(
            read_manifest(out),
            Store(store),
            ROLES,
            avvp.METHODS.get("han"),
            device=torch.device("cpu"),
        )
        return data.view.labels

    before = labels()
    truth_path(out).write_text("-1\n")
    with pytest.raises(UserError, match="no truth entry"):
        read_truth(truth_path(out))
    assert torch.equal(labels(), before)


def test_no_method_knows_of_the_truth_unless_it_says_so() -> None:
    for registry in (avvp.METHODS, action.METHODS):
        methods = [registry.get(name) for name in registry.names()]
        assert len(methods) > 3
        for method in methods:
            text = inspect.getsource(sys.modules[method.__module__])
            assert "truth" in method.needs or "pipeline.noise" not in text
