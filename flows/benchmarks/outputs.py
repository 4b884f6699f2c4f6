"""Where a sweep's tables and figure go: checked before any work, written after it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import write_atomic
from trainers.figures import SUFFIXES

__all__ = ["check_figure", "check_folder", "check_out", "write_tables"]


def check_out(out: Path, how: str) -> None:
    """Looks whether tables can be written.

    Raises:
        UserError: If a file is a folder, or its folder cannot be made or written to.
    """
    for path in _files(out, how):
        _check_file(path, "--out")


def check_figure(path: Path) -> None:
    """Looks whether a figure can be written.

    Raises:
        UserError: As `check_out`, or if its ending names no format of pictures.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"--figure {path} has none of the endings {', '.join(SUFFIXES)}; give it one of them."
        )
    _check_file(path, "--figure")


def _check_file(path: Path, option: str) -> None:
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder; name a file.")
    check_folder(path.parent, option)


def check_folder(folder: Path, option: str) -> None:
    """Makes a folder, if it is not there, and looks whether files can be made in it.

    Raises:
        UserError: If not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{option}: nothing can be written into the folder {folder} ({error.strerror}); "
            "name another place."
        ) from error


def write_tables(texts: Sequence[str], out: Path | None, how: str) -> None:
    """Prints tables or writes them.

    CSV holds one table a file: the second one, the comparison, goes to ``<stem>.paired.csv``.

    Args:
        texts: The results and, where there is a reference, the comparison.
        out: The file; None for standard output.
        how: The format they are in.
    """
    apart = how == "csv"
    if out is None:
        print(texts[0] if apart else "\n".join(texts), end="")
        if apart and len(texts) > 1:
            print(
                "the comparison is a CSV table of its own: --out FILE.csv writes it to "
                "FILE.paired.csv",
                file=sys.stderr,
            )
        return
    parts = list(texts) if apart else ["\n".join(texts)]
    for path, text in zip(_files(out, how), parts, strict=False):
        write_atomic(path, text)
        print(f"written: {path}")


def _files(out: Path, how: str) -> list[Path]:
    """The file of all tables, or those of the results and of the comparison."""
    return [out, out.with_name(f"{out.stem}.paired{out.suffix}")] if how == "csv" else [out]
