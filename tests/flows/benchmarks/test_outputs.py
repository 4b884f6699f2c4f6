"""Where tables and figures go."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.benchmarks.outputs import check_figure, check_folder, check_out
from flows.benchmarks.outputs import write_tables as write
from pipeline.errors import UserError


@pytest.mark.parametrize("name", ["w.csv", "w.dat", "w"])
def test_two_csv_tables_are_two_files(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / name
    paired = tmp_path / f"w.paired{out.suffix}"
    write(["a,b\n1,2\n", "c\n3\n"], out, "csv")
    assert (out.read_text(), paired.read_text()) == ("a,b\n1,2\n", "c\n3\n")
    assert capsys.readouterr().out == f"written: {out}\nwritten: {paired}\n"
    paired.unlink()
    write(["a\n1\n"], out, "csv")
    assert not paired.exists()


def test_standard_output_holds_one_csv_table(capsys: pytest.CaptureFixture[str]) -> None:
    write(["a\n1\n", "c\n3\n"], None, "csv")
    shown = capsys.readouterr()
    assert shown.out == "a\n1\n"
    assert "--out FILE.csv" in shown.err
    write(["one\n", "two\n"], None, "text")
    assert capsys.readouterr().out == "one\n\ntwo\n"


def test_text_tables_share_a_file(tmp_path: Path) -> None:
    write(["one\n", "two\n"], tmp_path / "w.md", "markdown")
    assert (tmp_path / "w.md").read_text() == "one\n\ntwo\n"


def test_what_cannot_be_written_is_found_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "w.paired.csv").mkdir()
    check_out(tmp_path / "made/here/w.csv", "csv")
    check_out(tmp_path / "w.csv", "markdown")
    for path, how, message in (
        (tmp_path, "text", "is a folder"),
        (tmp_path / "w.csv", "csv", "w.paired.csv is a folder"),
        (tmp_path / "file/w.csv", "csv", "nothing can be written"),
        (tmp_path / "file/more/w.csv", "csv", "nothing can be written"),
    ):
        with pytest.raises(UserError, match=f"^--out.*{message}"):
            check_out(path, how)
    check_figure(tmp_path / "alpha.SVG")
    for name, message in (
        ("a.jpg", "endings .png, .svg, .pdf"),
        ("a", "endings .png"),
        ("file/a.png", "nothing can be written"),
    ):
        with pytest.raises(UserError, match=f"^--figure.*{message}"):
            check_figure(tmp_path / name)
    with pytest.raises(UserError, match="--runs: nothing can be written"):
        check_folder(tmp_path / "file", "--runs")
