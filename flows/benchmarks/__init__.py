"""Sweeps of methods, noise and seeds, and their tables beside published ones."""
