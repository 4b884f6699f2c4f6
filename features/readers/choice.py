"""How clips are read: how many processes, and when a thread does as well."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from features.backbones.interface import BACKBONES, Backbone
from features.cores import available_cores
from features.readers.crew import Crew
from features.readers.interface import Job, Readers
from features.readers.local import ThreadReader
from pipeline.decode import open_decoder

__all__ = ["codec_threads", "default_readers", "open_readers"]

MOST_READERS = 16
"""Reader processes that one GPU is given at most; each holds blocks in memory."""


def default_readers(device: str, backbones: Sequence[Backbone], clips: int) -> int:
    """How many processes read for one model.

    On a CPU one: the model keeps the cores busy, and whole shards run beside each other. On a GPU
    all cores but one decode for it. A single clip of descriptors without weights is read here:
    starting a process would take as long as reading it.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
        backbones: What is asked for.
        clips: How many there are to read.
    """
    if device != "cpu":
        return max(1, min(MOST_READERS, available_cores() - 1))
    return 1 if clips > 1 or any(backbone.weights_required for backbone in backbones) else 0


def codec_threads(readers: int) -> int | None:
    """Codec threads of every reader: one where readers fill the cores, else as decoders choose."""
    return 1 if readers >= available_cores() else None


@contextlib.contextmanager
def open_readers(job: Job, count: int) -> Iterator[Readers]:
    """Starts reading.

    Backbones that a child cannot import (registered by the main program, say) are read for in a
    thread.

    Args:
        job: What to read.
        count: Processes; 0 reads in a thread of this one.

    Yields:
        The readers.
    """
    if count and job.clips and _importable(job):
        crew = Crew(job, count)
        # Only a stranger's backbone may be unknown elsewhere; waiting for the answer costs the
        # time in which the weights load.
        if not _foreign(job) or crew.problem() is None:
            with crew:
                yield crew
            return
        crew.__exit__()
    with ThreadReader(job, open_decoder(job.decoder)) as reader:
        yield reader


def _importable(job: Job) -> bool:
    kinds = [BACKBONES.get(request.name) for request in job.requests]
    return not any(k.__module__ == "__main__" or "<locals>" in k.__qualname__ for k in kinds)


def _foreign(job: Job) -> bool:
    package = f"{BACKBONES.package}."
    return any(not BACKBONES.get(r.name).__module__.startswith(package) for r in job.requests)
