"""Backbones, one-pass extraction and the feature store."""
