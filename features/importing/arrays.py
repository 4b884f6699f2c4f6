"""Reading ``.npy`` files that somebody else wrote: nothing in them is trusted, nothing can run."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from pipeline.errors import MediaError, UserError

__all__ = ["Form", "Stamp", "as_stored", "check_form", "read_array", "read_form", "stored_dtype"]

Stamp = tuple[int, int]
"""A file's size and modification time in nanoseconds."""

STORED = {"uint8": "uint8", "float16": "float16", "float32": "float32", "float64": "float32"}
"""Type in the store by type in the file; halving the digits of float64 is part of the spec."""

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Form(NamedTuple):
    """What an array's header says.

    Attributes:
        shape: Of the whole array, (T, ...).
        dtype: Its type without byte order, such as ``"float32"``.
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def step(self) -> tuple[int, ...]:
        """Shape of one step."""
        return self.shape[1:]


def stored_dtype(dtype: str) -> str | None:
    """The type that values are stored in, or None for types that are no features."""
    return STORED.get(dtype)


def read_form(file: BinaryIO, size: int) -> Form:
    """Reads a ``.npy`` header and compares it with the file's size; no value is read.

    Args:
        file: Opened at its beginning.
        size: Bytes of the file.

    Raises:
        MediaError: If the file is empty, of another format, cut short or of a type that is no
            feature; pickled objects are among these and are never loaded.
    """
    if size == 0:
        raise MediaError("decode_error", "the file is empty")
    try:
        version = np.lib.format.read_magic(file)
        # Version 3 exists for names of fields beyond Latin-1: no feature has such a type.
        if version not in _HEADERS:
            raise MediaError("decode_error", "the .npy format version is unknown")
        shape, _, dtype = _HEADERS[version](file)
    except (OSError, MediaError):
        raise
    except Exception as error:
        # A header is a Python literal, and a damaged one fails in numpy's reader, in the parser
        # or in the tokeniser, each with errors of its own; none of them says more than this.
        raise MediaError("decode_error", "the file is no .npy array") from error
    if dtype.hasobject:
        raise MediaError("decode_error", "it holds pickled objects, which are never loaded")
    if stored_dtype(dtype.name) is None or dtype.subdtype is not None:
        raise MediaError("decode_error", f"{dtype.name} values are no features")
    if not shape or any(length < 0 for length in shape):
        raise MediaError("decode_error", f"an array of shape {shape} has no steps")
    told = file.tell() + math.prod(shape) * dtype.itemsize
    if size < told:
        raise MediaError("decode_error", f"the file is truncated: {size} of {told} bytes")
    if size > told:
        raise MediaError("decode_error", f"{size - told} bytes follow the array")
    return Form(tuple(int(length) for length in shape), dtype.name)


def read_array(path: str, stamp: Stamp) -> np.ndarray:
    """Reads an array whose header was found fine.

    Args:
        path: The file.
        stamp: Of the file when it was hashed.

    Raises:
        UserError: If the file was changed or vanished since.
        MediaError: If it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if (status.st_size, status.st_mtime_ns) != stamp:
                raise _changed(path)
            return np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise _changed(path) from error
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "the values are cut short"
        raise MediaError("decode_error", f"the file cannot be read ({reason})") from error


def _changed(path: str) -> UserError:
    return UserError(f"{path} was changed while it was imported; run the command again.")


def check_form(form: Form, *, shape: Sequence[int], dtype: str, steps: int, hop: str) -> None:
    """Compares an array's header with what a feature's row must be.

    Args:
        form: The header.
        shape: Shape of one step.
        dtype: Type that the feature is stored in.
        steps: Steps that the clip's grid has.
        hop: The grid in words, for the reason.

    Raises:
        MediaError: If it is something else.
    """
    if form.step != tuple(shape):
        raise MediaError("decode_error", f"steps of shape {form.step} instead of {tuple(shape)}")
    if not np.can_cast(stored_dtype(form.dtype) or form.dtype, dtype, "safe"):
        raise MediaError("decode_error", f"{form.dtype} values in a feature of {dtype}")
    told = f"{form.shape[0]} steps where the clip has {steps} ({hop})"
    if form.shape[0] < steps:
        raise MediaError("too_short", told)
    if form.shape[0] > steps or steps == 0:
        raise MediaError("decode_error", told)


def as_stored(values: np.ndarray, dtype: str) -> np.ndarray:
    """Converts values to the type they are stored in.

    Args:
        values: (T, ...).
        dtype: One of `features.store.layout.DTYPES`.

    Raises:
        MediaError: If a value is no finite number, before or after.
    """
    # What leaves the range of float32 becomes infinite, and is found as such.
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(values, dtype=dtype)
    if not np.isfinite(values).all():
        raise MediaError("decode_error", "the values are no finite numbers")
    return values
