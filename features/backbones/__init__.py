"""Backbones: what turns a clip's sound or pictures into features; one file each."""

from features.backbones.interface import BACKBONES, Backbone, Clip
from features.backbones.weights import WeightChoice

__all__ = ["BACKBONES", "Backbone", "Clip", "WeightChoice"]
