"""What a noise did, as a table."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.table import Table

from pipeline.noise.injection import Injection

__all__ = ["SHOWN", "print_injection"]

SHOWN = 40
"""Classes listed before the rest is only counted."""


def print_injection(injection: Injection, stream: TextIO | None = None) -> None:
    """Prints the nominal and the realised rate, overall and by class, on standard output."""
    # Class names are data: square brackets and colons in them are not rich's markup.
    console = Console(file=stream, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 160
    entry = injection.entry
    nominal = entry.get("nominal", {}).get("overall", entry["rate"])
    options = ", ".join(f"{k}={_text(v)}" for k, v in entry["options"].items() if v is not None)
    console.print(f"{entry['kind']}{f' ({options})' if options else ''}, seed {entry['seed']}")
    console.print(
        f"{entry['changed']} of {entry['rows']} training rows changed, {entry['count']} drawn: "
        f"{_percent(entry['realised']['overall'])} for a nominal {_percent(nominal)}"
    )
    if "overlap" in entry:
        cells = ", ".join(f"{name} {count}" for name, count in entry["overlap"].items())
        console.print(f"labels flipped and audio altered, all noise together: {cells}")
    if "donors" in entry:
        donors = entry["donors"]
        again = ", some more than once" if donors["reused"] else ""
        console.print(f"{donors['used']} of {donors['pool']} rows of the pool lend audio{again}")
    _print_classes(injection, console)
    if injection.note:
        console.print(f"note: {injection.note}", soft_wrap=True)
    console.print(f"noise id {entry['id']}")


def _print_classes(injection: Injection, console: Console) -> None:
    entry = injection.entry
    shares = entry["realised"]["per_class"]
    if not shares:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("class", no_wrap=True)
    for title in ("nominal", "realised"):
        table.add_column(title, justify="right")
    nominal = entry["nominal"]["per_class"] if "nominal" in entry else entry.get("rates", {})
    for name in list(shares)[:SHOWN]:
        table.add_row(name, _percent(nominal.get(name, entry["rate"])), _percent(shares[name]))
    console.print(table)
    if len(shares) > SHOWN:
        console.print(f"and {len(shares) - SHOWN} more classes; the manifest's header has them all")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _text(value: object) -> str:
    return f"{len(value)} classes" if isinstance(value, dict) else str(value)
