"""Which published weights are here, and whether they are what was published."""

from __future__ import annotations

from features.backbones.published import PUBLISHED
from flows.checks.finding import Finding

__all__ = ["check_weights"]


def check_weights() -> Finding:
    """Looks for every published weight file where it would be used, and compares its digest."""
    here, unchecked, absent, wrong = [], [], [], []
    for name, entry in PUBLISHED.items():
        state, good = entry.state()
        if not good:
            wrong.append(f"{name}: {state}")
        elif not entry.path.is_file():
            absent.append(name)
        else:
            (here if entry.digest else unchecked).append(name)
    if wrong:
        return Finding(
            "warn",
            "; ".join(wrong),
            "Delete that file and fetch it again: 'python -m features weights' says from where.",
        )
    parts = [
        f"{what}: {', '.join(names)}"
        for what, names in (
            ("here as published", here),
            ("here, with no published digest", unchecked),
            ("not here", absent),
        )
        if names
    ]
    remedy = "'python -m features weights' says where each belongs." if absent else ""
    return Finding("ok", "; ".join(parts), remedy)
