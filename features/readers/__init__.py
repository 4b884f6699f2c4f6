"""Reading clips ahead of the model: in child processes, which may crash or hang, or in a thread.

`open_readers` gives something that yields, for one clip after the other, the blocks that each
backbone needs of it.
"""

from __future__ import annotations

from features.readers.choice import codec_threads, default_readers, open_readers
from features.readers.interface import Delivery, Interval, Job, Readers

__all__ = [
    "Delivery",
    "Interval",
    "Job",
    "Readers",
    "codec_threads",
    "default_readers",
    "open_readers",
]
