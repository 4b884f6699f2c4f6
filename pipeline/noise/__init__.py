"""Noise in manifests: wrong labels and sound that does not belong to the picture, by recipe.

Noise is made here, once, and never inside a trainer: every method and every training seed meets the
same. It changes training rows of a manifest, so features are extracted once for all of it.
"""

from pipeline.noise.belonging import truth_of
from pipeline.noise.correspondence import Correspondence
from pipeline.noise.injection import Injection, inject, write_noisy
from pipeline.noise.kinds import KINDS
from pipeline.noise.multiclass import Asymmetric, Symmetric, Transition
from pipeline.noise.multilabel import Drop, Modality, Spurious
from pipeline.noise.report import print_injection
from pipeline.noise.tables import read_map, read_matrix, read_rates
from pipeline.noise.training import Kind
from pipeline.noise.truth import differs, original, read_truth, truth_path

__all__ = [
    "KINDS",
    "Asymmetric",
    "Correspondence",
    "Drop",
    "Injection",
    "Kind",
    "Modality",
    "Spurious",
    "Symmetric",
    "Transition",
    "differs",
    "inject",
    "original",
    "print_injection",
    "read_map",
    "read_matrix",
    "read_rates",
    "read_truth",
    "truth_of",
    "truth_path",
    "write_noisy",
]
