"""Figures of finished runs.

python -m trainers.figures runs/action/ntl-1f0a --out weights.png
python -m trainers.figures runs --figure accuracy --against alpha --metric clip@1 --out alpha.pdf

``weights`` is figure 8 of NTL (Han et al., IEEE TMM 2024): how the estimated correspondence weights
of clean and altered pairs are spread. ``accuracy`` is its figure 6: accuracy against a
hyper-parameter, for each noise a line.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.cli import DONE, Parser
from pipeline.errors import UserError
from trainers.figures.accuracy import accuracy_figure, accuracy_lines
from trainers.figures.weights import WEIGHTS, weights_histogram
from trainers.finished import find_runs
from trainers.tasks import EPOCHS

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    parser = Parser(prog="python -m trainers.figures", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("runs", type=Path, nargs="+", help="finished runs, or folders that hold some")
    add("--figure", choices=("weights", "accuracy"), default="weights", help="what to draw")
    add("--out", type=Path, required=True, metavar="FILE", help="a .png, .svg or .pdf file")
    add("--truth", type=Path, metavar="FILE", help="truth (default: beside the run's manifest)")
    add("--which", choices=tuple(WEIGHTS), default="mean", help="which weight of a pair")
    add("--against", default="alpha", metavar="NAME", help="hyper-parameter of the accuracy")
    add("--metric", default="clip@1", help="metric of the accuracy")
    add("--epoch", choices=EPOCHS, default="last", help="test epoch")
    args = parser.parse_args(argv)
    found = find_runs(args.runs)
    if args.figure == "weights":
        first = next(iter(found))
        if len(found) > 1:
            raise UserError(
                f"{len(found)} finished runs are there; name the folder of one, such as {first}."
            )
        path = weights_histogram(first, args.out, truth=args.truth, which=args.which)
    else:
        lines = accuracy_lines(found.values(), args.against, args.metric, epoch=args.epoch)
        path = accuracy_figure(lines, args.out, against=args.against, metric=args.metric)
    print(f"written: {path}")
    return DONE
