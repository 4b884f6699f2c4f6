"""Weakly supervised audio-visual video parsing on cached features."""
