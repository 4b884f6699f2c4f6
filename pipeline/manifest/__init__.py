"""Manifests: which interval of which video carries which (noisy) label."""

from pipeline.manifest.files import (
    DenseEvent,
    dense_matrices,
    read_dense,
    read_manifest,
    write_dense,
    write_manifest,
)
from pipeline.manifest.schema import LABEL_TYPES, SPLITS, Header, Manifest, Row

__all__ = [
    "LABEL_TYPES",
    "SPLITS",
    "DenseEvent",
    "Header",
    "Manifest",
    "Row",
    "dense_matrices",
    "read_dense",
    "read_manifest",
    "write_dense",
    "write_manifest",
]
