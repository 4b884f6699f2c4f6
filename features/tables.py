"""The tables that commands on features end with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pipeline.stages import STAGES

__all__ = ["number_table", "stage_table", "status_table"]

REASON = 100
"""Characters of a reason that are shown."""


def status_table(statuses: Mapping[str, Counter[tuple[str, str]]]) -> str:
    """Rows by feature, status and reason: fine ones first, then the most frequent.

    Args:
        statuses: By feature, how often each (status, reason) occurs.
    """
    lines = [("feature", "status", "rows", "reason")]
    for name, counts in sorted(statuses.items()):
        order = sorted(counts.items(), key=lambda item: (item[0][0] != "ok", -item[1], item[0]))
        lines += [(name, status, str(count), _short(reason)) for (status, reason), count in order]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join(
        f"{name:<{widths[0]}}  {status:<{widths[1]}}  {count:>{widths[2]}}  {reason}".rstrip()
        for name, status, count, reason in lines
    )


def stage_table(seconds: Mapping[str, float], clips: int) -> str:
    """Where the time of an extraction went.

    Args:
        seconds: By stage, summed over processes; they work beside each other, so the sum may be
            more than the clock on the wall shows.
        clips: Clips that were worked on.
    """
    busy = sum(seconds.values())
    order = {name: number for number, name in enumerate(STAGES)}
    lines = [("stage", "seconds", "share", "clips/s")]
    for name in sorted(seconds, key=lambda name: order.get(name, len(order))):
        spent = seconds[name]
        share = f"{100 * spent / busy:.1f} %" if busy else ""
        lines.append((name, f"{spent:.2f}", share, f"{clips / spent:.1f}" if spent else ""))
    return number_table(lines)


def number_table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of equally many texts: names on the left, columns of numbers after them."""
    first, *rest = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        "  ".join([f"{name:<{first}}", *map(str.rjust, numbers, rest)]) for name, *numbers in lines
    )


def _short(reason: str) -> str:
    return reason if len(reason) <= REASON else f"{reason[: REASON - 3]}..."
