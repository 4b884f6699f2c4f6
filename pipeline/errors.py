"""The two kinds of failure a user meets: a mistake of theirs, and media that cannot be used."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "MEDIA_STATUSES",
    "MediaError",
    "UserError",
    "WriteError",
    "printable",
    "unknown_name",
]

MEDIA_STATUSES = (
    "ok",
    "no_audio",
    "no_video",
    "too_short",
    "decode_error",
    "timeout",
    "missing",
)
"""Every status a row of a feature shard can have. All but ``ok`` carry a reason and no values."""


class UserError(Exception):
    """A mistake the user can mend: one clear sentence that says the remedy.

    Commands print it without a traceback and exit with code 1 (see `pipeline.cli.run`).
    """


class WriteError(UserError, OSError):
    """A file that cannot be written; made of errno, reason and the file's name.

    It is an `OSError` as well: callers that know a better remedy, or can do without the file,
    catch it as one.
    """

    def __str__(self) -> str:
        return (
            f"{printable(str(self.filename))} cannot be written ({self.strerror}); free some "
            "space, mend the permissions or choose another place."
        )


class MediaError(Exception):
    """A clip that gives no features. It becomes a row with a status and never stops a run.

    Args:
        status: One of `MEDIA_STATUSES` except ``ok``.
        reason: What was found, for the report; becomes one line that can be printed.
    """

    def __init__(self, status: str, reason: str) -> None:
        if status not in MEDIA_STATUSES or status == "ok":
            raise ValueError(f"{status!r} is not a failure status; use one of {MEDIA_STATUSES[1:]}")
        self.status = status
        self.reason = printable(" ".join(reason.split()))
        super().__init__(f"{status}: {self.reason}")

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str]]:
        # Exceptions pickle their formatted message by default; decoding runs in child processes.
        return type(self), (self.status, self.reason)


def printable(text: str) -> str:
    """A text that any terminal and file takes: what cannot be printed becomes an escape.

    File names hold line ends, terminal commands and bytes that are no text; messages repeat them.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Builds the error for a name nobody registered, with the nearest known names offered."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    if close:
        hint = f"did you mean {' or '.join(repr(c) for c in close)}?"
    else:
        hint = f"known: {', '.join(choices) if choices else 'none'}."
    return UserError(f"There is no {kind} {name!r}; {hint}")
