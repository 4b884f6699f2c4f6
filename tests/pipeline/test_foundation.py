"""Errors, files, registries, command lines and time grids."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import pickle
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli import PARTIAL, Parser, WholeNumber, run
from pipeline.errors import MediaError, UserError, unknown_name
from pipeline.files import canonical_json, file_digest, object_digest, write_atomic
from pipeline.grid import SegmentGrid, join_steps
from pipeline.progress import Progress
from pipeline.registry import Registry

REPOSITORY = Path(__file__).parents[2]


def test_media_errors_survive_pickling_and_refuse_unknown_statuses() -> None:
    error = pickle.loads(pickle.dumps(MediaError("no_audio", "two\nlines")))
    assert (error.status, error.reason) == ("no_audio", "two lines")
    with pytest.raises(ValueError, match="not a failure status"):
        MediaError("ok", "")
    with pytest.raises(ValueError, match="not a failure status"):
        MediaError("broken", "")


def test_an_unknown_name_offers_the_nearest() -> None:
    assert "'jomold'" in str(unknown_name("method", "jomould", ["han", "jomold", "rlld"]))
    assert "known: han, rlld" in str(unknown_name("method", "zzz", ["rlld", "han"]))


def test_write_atomic_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = write_atomic(tmp_path / "new" / "a.txt", "one")
    write_atomic(path, b"two")
    assert path.read_text() == "two"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
    with pytest.raises(TypeError):
        write_atomic(path, 3)  # type: ignore[arg-type]
    assert path.read_text() == "two"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_what_cannot_be_written_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path / "folder", "Is a directory"),
        (tmp_path / "file" / "a", "Not a directory"),
        (tmp_path / "file" / "b" / "a", "Not a directory"),
        (tmp_path / ("a" * 300), "File name too long"),
    ):
        with pytest.raises(UserError) as told:
            write_atomic(path, "text")
        assert str(told.value).startswith(f"{path} cannot be written ({reason}); free some space")
        # Callers that can do without the file, or know a better remedy, catch it as what it is.
        assert isinstance(told.value, OSError)
        assert told.value.strerror == reason
        again = pickle.loads(pickle.dumps(told.value))
        assert (type(again), str(again)) == (type(told.value), str(told.value))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_a_full_disk_is_named_after_the_file_and_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_atomic(tmp_path / "a.txt", "one")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"a\.txt cannot be written \(No space left on device\)"):
        write_atomic(path, "two")
    assert path.read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_digests_do_not_depend_on_key_order(tmp_path: Path) -> None:
    assert object_digest({"b": 1, "a": [1.5, "ü"]}) == object_digest({"a": [1.5, "ü"], "b": 1})
    assert object_digest({"a": 1}) != object_digest({"a": 1.0001})
    with pytest.raises(ValueError):
        canonical_json({"a": float("nan")})
    (tmp_path / "f").write_bytes(b"abc")
    assert file_digest(tmp_path / "f").startswith("ba7816bf8f01cfea")


def test_a_registry_finds_modules_and_refuses_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("made_up_package")
    package.__path__ = []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_up_package", package)
    registry: Registry = Registry("thing", package="made_up_package", group="avnoise.none")
    one = registry.add(type("One", (), {"name": "one"}))
    assert registry.names() == ("one",)
    assert registry.get("one") is one
    assert registry.add(one) is one
    with pytest.raises(ValueError, match="two classes register the thing 'one'"):
        registry.add(type("Other", (), {"name": "one"}))
    with pytest.raises(UserError, match="no thing 'two'"):
        registry.get("two")


def test_an_import_error_in_a_registered_package_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_methods").mkdir()
    (tmp_path / "broken_methods" / "__init__.py").write_text("")
    (tmp_path / "broken_methods" / "bad.py").write_text("import not_a_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry = Registry("thing", package="broken_methods", group="avnoise.none")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="not_a_module_anywhere"):
            registry.names()


def _parser() -> Parser:
    parser = Parser(prog="x", config=True)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    return parser


def test_command_line_wins_over_configuration_wins_over_defaults(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("batch-size = 32\nseed = [1, 2]\n")
    assert _parser().parse_args([]).batch_size == 16
    args = _parser().parse_args(["--config", str(config)])
    assert (args.batch_size, args.seed) == (32, [1, 2])
    assert _parser().parse_args(["--config", str(config), "--batch-size", "8"]).batch_size == 8
    config.write_text("batch_sise = 3\n")
    with pytest.raises(UserError, match="batch_size"):
        _parser().parse_args(["--config", str(config)])
    config.write_text("batch_size = \n")
    with pytest.raises(UserError, match="not valid TOML"):
        _parser().parse_args(["--config", str(config)])


def _optional_float(text: str) -> float | None:
    return None if text == "none" else float(text)


def _wide_parser() -> Parser:
    parser = _parser()
    parser.add_argument("--which", choices=["last", "best"], default="last")
    parser.add_argument("--levels", type=int, nargs="*", choices=[1, 2], default=[1])
    parser.add_argument("--rate", type=_optional_float, default=0.5)
    parser.add_argument("--threads", type=WholeNumber(1, 8))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--name", default="n")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--warm", action=argparse.BooleanOptionalAction, default=True)
    return parser


def _configured(folder: Path, **values: object) -> argparse.Namespace:
    path = folder / "c.json"
    path.write_text(json.dumps(values))
    return _wide_parser().parse_args(["--config", str(path)])


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("seed", 3, [3]),
        ("seed", [3, 4], [3, 4]),
        ("levels", [], []),
        ("batch_size", 8, 8),
        ("rate", 1, 1.0),
        ("rate", None, None),
        ("threads", 8, 8),
        ("out", "x/y", Path("x/y")),
        ("name", 5, "5"),
        ("which", "best", "best"),
        ("dry_run", True, True),
        ("dry_run", False, False),
        ("warm", False, False),
    ],
)
def test_a_files_values_are_converted_as_the_command_lines(
    tmp_path: Path, key: str, value: object, meant: object
) -> None:
    args = vars(_configured(tmp_path, **{key: value}))
    assert args.pop(key) == meant
    defaults = vars(_wide_parser().parse_args([]))
    del defaults[key], defaults["config"], args["config"]
    assert args == defaults, "nothing else changes"


@pytest.mark.parametrize(
    ("key", "value", "takes"),
    [
        ("which", "Best", "one of last, best"),
        ("which", ["best"], "one of last, best"),
        ("levels", [1, 3], "one of 1, 2, or a list of such"),
        ("batch_size", "three", "a whole number"),
        ("batch_size", 3.7, "a whole number"),
        ("batch_size", True, "a whole number"),
        ("batch_size", [8], "a whole number"),
        ("batch_size", None, "a whole number"),
        ("seed", [1.5], "a whole number, or a list of such"),
        ("seed", [[1]], "a whole number, or a list of such"),
        ("seed", [], "a whole number, or a list of such"),
        ("threads", 0, "a whole number from 1 to 8"),
        ("rate", {"a": 1}, "text, or none"),
        ("out", None, "a path"),
        ("name", None, "text"),
        ("name", True, "text"),
        ("dry_run", "yes", "true or false"),
        ("dry_run", 1, "true or false"),
        ("warm", None, "true or false"),
    ],
)
def test_a_files_mistake_is_one_sentence(
    tmp_path: Path, key: str, value: object, takes: str
) -> None:
    with pytest.raises(UserError) as told:
        _configured(tmp_path, **{key: value})
    end = f"c.json sets {key} to {json.dumps(value)}; give {takes}."
    assert str(told.value).endswith(end)


def test_a_file_names_no_other_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no option of c\.json named 'config'"):
        _configured(tmp_path, config="other.json")
    with pytest.raises(UserError, match="--config: expected one argument"):
        _parser().parse_args(["--config"])


def test_one_option_of_a_file_can_be_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"batch-size": 8, "unknown": 1}')
    assert _parser().file_value(path, "batch_size") == 8
    assert _parser().file_value(path, "seed") is None
    path.write_text('{"batch-size": [8]}')
    with pytest.raises(UserError, match=r"sets batch-size to \[8\]; give a whole number\."):
        _parser().file_value(path, "batch_size")


@pytest.mark.parametrize("text", ["0", "-4", "9", "two", "1.5", "9" * 5000])
def test_whole_numbers_are_held_to_their_limits(text: str) -> None:
    assert _wide_parser().parse_args(["--threads", "8"]).threads == 8
    with pytest.raises(UserError, match=f"'{text}' is not a whole number from 1 to 8; see"):
        _wide_parser().parse_args(["--threads", text])


def test_unknown_options_offer_the_nearest() -> None:
    with pytest.raises(UserError, match="--batch-size"):
        _parser().parse_args(["--batch-sise", "3"])
    with pytest.raises(UserError, match="invalid int"):
        _parser().parse_args(["--batch-size", "three"])


def test_user_errors_end_with_one_sentence_and_code_1(capsys: pytest.CaptureFixture) -> None:
    def fail() -> int:
        raise UserError("Do this instead.")

    with pytest.raises(SystemExit) as end:
        run(fail)
    assert end.value.code == 1
    assert capsys.readouterr().err == "error: Do this instead.\n"
    with pytest.raises(SystemExit) as end:
        run(lambda: PARTIAL)
    assert end.value.code == 2


GONE = {
    "print": ("print('x')\n    return 2", 2),
    "much": ("print('x' * 10**6)\n    return 0", 0),
    "rich": ("Console().print('x')\n    return 2", 0),
    "help": ("Parser(prog='x').parse_args(['--help'])", 0),
    "mistake": ("print('x')\n    raise UserError('Do this.')", 1),
    "exit": ("raise SystemExit(3)", 3),
}
"""What a command does, and the exit code where nobody reads what it prints."""


@pytest.mark.parametrize("case", GONE)
def test_a_reader_that_goes_away_changes_no_exit_code(case: str) -> None:
    body, code = GONE[case]
    lines = ["from rich.console import Console", "from pipeline.cli import Parser, run"]
    lines += ["from pipeline.errors import UserError", f"def main():\n    {body}", "run(main)"]
    reader, writer = os.pipe()
    os.close(reader)
    # Where every print is written at once, the first one ends the command, whose code is then 0.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=REPOSITORY,
        env=environment,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (code, "error: Do this.\n" if code == 1 else "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("body", ["print('short')", "print('long\\n' * 10**5)"])
def test_a_full_disk_is_one_sentence(body: str) -> None:
    lines = ["from pipeline.cli import run", f"def main():\n    {body}\n    return 0", "run(main)"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(lines)],
            cwd=REPOSITORY,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "error: the output cannot be written (No space left on device); free some space or choose "
        "another place.\n"
    )


def test_other_failures_of_the_system_are_not_called_a_full_disk() -> None:
    def main() -> int:
        raise PermissionError(errno.EACCES, "denied")

    with pytest.raises(PermissionError):
        run(main)


def test_a_command_runs_without_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as end:
        run(lambda: PARTIAL)
    assert end.value.code == PARTIAL


def test_frames_are_sampled_at_the_middle_of_their_slots() -> None:
    grid = SegmentGrid(hop=1.0, frames=4)
    times = grid.frame_times(23.0, 33.0)
    assert times.shape == (10, 4)
    np.testing.assert_allclose(times[0], [23.125, 23.375, 23.625, 23.875])
    np.testing.assert_allclose(times.ravel(), 23 + (np.arange(40) + 0.5) / 4)


@given(
    start=st.floats(0, 1e4),
    length=st.floats(0.01, 300),
    hop=st.sampled_from([0.5, 0.96, 1.0, 2.0]),
    frames=st.integers(1, 16),
)
def test_grids_cover_at_least_half_of_every_step(
    start: float, length: float, hop: float, frames: int
) -> None:
    grid = SegmentGrid(hop=hop, frames=frames)
    end = start + length
    count = grid.count(start, end)
    assert (count - 0.5) * hop <= length + 1e-3
    assert length < (count + 0.5) * hop + 1e-3
    times = grid.frame_times(start, end).ravel()
    assert len(times) == count * frames
    assert (np.diff(times) > 0).all()
    if count:
        np.testing.assert_allclose(np.diff(times), hop / frames, atol=1e-6)
        assert times[0] > start


def test_steps_join_by_nearest_time_or_not_at_all() -> None:
    np.testing.assert_array_equal(
        join_steps(np.arange(4) + 0.5, np.arange(8) / 2 + 0.3, hop=1.0), [0, 2, 4, 6]
    )
    np.testing.assert_array_equal(join_steps(np.array([0.5]), np.array([0.48]), hop=1.0), [0])
    with pytest.raises(UserError, match="do not share a time grid"):
        join_steps(np.arange(10) + 0.5, np.arange(5) + 0.5, hop=1.0)
    with pytest.raises(UserError, match="no steps"):
        join_steps(np.arange(3), np.zeros(0), hop=1.0)


@given(count=st.integers(1, 40), extra=st.integers(0, 5), shift=st.floats(-0.49, 0.49))
def test_joining_a_shifted_grid_is_the_identity(count: int, extra: int, shift: float) -> None:
    anchor = np.arange(count) + 0.5
    other = np.arange(count + extra) + 0.5 + shift
    np.testing.assert_array_equal(join_steps(anchor, other, hop=1.0), np.arange(count))


def test_progress_counts_what_failed_and_was_skipped() -> None:
    out = io.StringIO()
    with Progress(5, "extract", stream=out) as progress:
        progress.advance("ok", 2)
        progress.advance("failed")
        progress.advance("skipped", 2)
    line = out.getvalue().splitlines()[-1]
    assert line.startswith("extract: 5/5 (2 ok, 1 failed, 2 skipped")
    assert "left" not in line


def test_slow_pieces_are_counted_by_the_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("pipeline.progress.time.monotonic", lambda: now[0])
    out = io.StringIO()
    with Progress(3, "benchmark", unit="runs", stream=out) as progress:
        now[0] = 40.0
        progress.advance()
    assert out.getvalue().splitlines()[-1].endswith("0 skipped, 1.5 runs/min, 80 s left)")
