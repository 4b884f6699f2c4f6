"""Trainers on cached features: `avvp` (video parsing) and what every task shares."""
