"""What the figures have in common: colours, axes, files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "MARKERS", "SUFFIXES", "check_suffix", "new_axes", "save"]

# Okabe and Ito's colours, which readers with any colour vision tell apart; yellow is too pale.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SUFFIXES = (".png", ".svg", ".pdf")


def new_axes(*, entries: int = 0) -> tuple[Figure, Axes]:
    """Axes with room for some entries of a legend, one below the other, under them."""
    # Not through pyplot: that keeps figures and a backend for the whole process.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0 + 0.18 * max(0, entries - 4)), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def check_suffix(out: Path) -> None:
    """Looks whether a file's ending names a format of pictures.

    Raises:
        UserError: If not.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"A figure is written as {', '.join(SUFFIXES)}; mend --out {out}.")


def save(figure: Figure, out: Path) -> Path:
    """Writes a figure and returns its file.

    Raises:
        UserError: If it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=150)
    except OSError as error:
        raise UserError(
            f"The figure {out} cannot be written ({error.strerror}); mend --out."
        ) from error
    return out
