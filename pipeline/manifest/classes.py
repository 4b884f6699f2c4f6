"""Class lists of known data sets, kept as data under ``manifests/<data set>/``."""

from __future__ import annotations

from pathlib import Path

import pipeline
from pipeline.errors import UserError

__all__ = ["DATA_FOLDER", "class_names", "read_classes", "shipped_lists"]

DATA_FOLDER = Path(pipeline.__file__).parent.parent / "manifests"
"""Class lists and descriptions of data sets; installed beside the packages."""


def class_names(dataset: str) -> tuple[str, ...]:
    """The classes of a data set in index order, one a line in its file."""
    path = DATA_FOLDER / dataset / "classes.txt"
    return tuple(path.read_text(encoding="utf-8").split("\n"))[:-1]


def shipped_lists() -> tuple[str, ...]:
    """Names of the class lists that come along, such as ``mini-kinetics/10``."""
    paths = (path.relative_to(DATA_FOLDER).with_suffix("") for path in DATA_FOLDER.glob("*/*.txt"))
    return tuple(sorted(path.as_posix() for path in paths))


def read_classes(where: Path | str) -> tuple[str, ...]:
    """Reads a class list, one name a line; blank lines do not count.

    Args:
        where: A file, or the name of a shipped list out of `shipped_lists`.

    Raises:
        UserError: If there is none, it is empty, or a name stands twice; names the line.
    """
    path = Path(where)
    if not path.is_file() and str(where) in shipped_lists():
        path = DATA_FOLDER / f"{where}.txt"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(
            f"The class list {path} cannot be read ({error.strerror}); give a file, or one of "
            f"{', '.join(shipped_lists())}."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"The class list {path} is not UTF-8 text; save it as UTF-8.") from error
    found: dict[str, int] = {}
    for number, name in enumerate((line.strip() for line in lines), 1):
        if name in found:
            raise UserError(
                f"{path.name} line {number}: the class {name!r} stands on line {found[name]} "
                "already; keep each once."
            )
        if name:
            found[name] = number
    if not found:
        raise UserError(f"The class list {path} is empty; write one class name a line.")
    return tuple(found)
