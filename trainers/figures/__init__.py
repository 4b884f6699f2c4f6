"""Figures of finished runs, after those of NTL (Han et al., IEEE TMM 2024).

`weights_histogram` is its figure 8: how the estimated correspondence weights of clean and altered
pairs are spread. `accuracy_figure` is its figure 6: accuracy against a hyper-parameter, for each
noise a line. ``python -m trainers.figures`` draws both.
"""

from trainers.figures.accuracy import Line, accuracy_figure, accuracy_lines
from trainers.figures.command import main
from trainers.figures.drawing import SUFFIXES
from trainers.figures.weights import WEIGHTS, weights_histogram

__all__ = [
    "SUFFIXES",
    "WEIGHTS",
    "Line",
    "accuracy_figure",
    "accuracy_lines",
    "main",
    "weights_histogram",
]
