"""Backbones: what turns a clip's sound or pictures into features; one file each."""

from features.backbones.common import NetworkFeature, make_grid, mean_of_frames
from features.backbones.interface import BACKBONES, Backbone, Clip
from features.backbones.published import PUBLISHED, WeightFile
from features.backbones.weights import Network, WeightChoice

__all__ = [
    "BACKBONES",
    "PUBLISHED",
    "Backbone",
    "Clip",
    "Network",
    "NetworkFeature",
    "WeightChoice",
    "WeightFile",
    "make_grid",
    "mean_of_frames",
]
