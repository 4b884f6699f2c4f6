"""Frames and sound of real media, placed by presentation time.

`open_decoder` gives a `Decoder`, whose ``frames(path, times)`` yields the pictures on screen at
given moments; `read_audio` gives the sound of an interval, `read_audio_blocks` that of a long one
piece by piece. All count seconds from the start of the container and raise
`pipeline.errors.MediaError` for what cannot be had.
"""

from __future__ import annotations

from typing import Any

from pipeline.decode.audio import describe_audio, read_audio, read_audio_blocks
from pipeline.decode.decord import DecordDecoder
from pipeline.decode.interface import Decoder, MediaInfo
from pipeline.decode.null import NullDecoder
from pipeline.decode.probe import probe
from pipeline.decode.pyav import PyAVDecoder
from pipeline.errors import unknown_name

__all__ = [
    "DECODERS",
    "Decoder",
    "MediaInfo",
    "describe_audio",
    "open_decoder",
    "probe",
    "read_audio",
    "read_audio_blocks",
]

DECODERS: dict[str, type[PyAVDecoder] | type[DecordDecoder]] = {
    entry.name: entry for entry in (PyAVDecoder, DecordDecoder)
}
"""Decoders by name; the first is the default."""


def open_decoder(name: str = "pyav", **options: Any) -> Decoder:
    """Makes a decoder.

    Args:
        name: One of `DECODERS`, or ``"null"`` for the one that opens no file.
        **options: Its own, such as ``threads``.

    Raises:
        UserError: If there is no such decoder, or it is not installed here.
    """
    if name == NullDecoder.name:
        return NullDecoder(**options)
    if name not in DECODERS:
        raise unknown_name("decoder", name, DECODERS)
    return DECODERS[name](**options)
