"""All kinds of noise by name."""

from __future__ import annotations

from pipeline.noise.correspondence import Correspondence
from pipeline.noise.multiclass import Asymmetric, Symmetric, Transition
from pipeline.noise.multilabel import Drop, Modality, Spurious
from pipeline.noise.training import Kind

__all__ = ["KINDS"]

KINDS: dict[str, type[Kind]] = {
    kind.name: kind
    for kind in (Symmetric, Asymmetric, Transition, Correspondence, Modality, Drop, Spurious)
}
