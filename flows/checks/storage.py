"""Where features go: folders, room, and whether the disk keeps the promises that commits need."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from flows.checks.finding import GIB, Finding, existing
from pipeline.files import append_lines, data_dir, fsync_dir, runs_dir, store_dir

__all__ = ["check_claims", "check_commits", "check_disk", "check_folders"]

COARSE = 0.1
"""Seconds between time stamps of a disk above which a replaced video may go unnoticed."""
SKEW = 30.0
"""Seconds between the disk's clock and ours; claims without a heartbeat are judged by both."""


def check_commits(store: Path | None = None) -> Finding:
    """Commits an HDF5 file in the store's folder as extraction does, over one that is being read.

    Args:
        store: The store; the default one if None.
    """
    import h5py

    place = existing(store or store_dir())
    with tempfile.TemporaryDirectory(dir=place, prefix=".doctor-") as folder:
        path = Path(folder) / "x.h5"
        old, new = np.zeros(12, np.float32), np.arange(12, dtype=np.float32)
        _commit(path, old)
        with h5py.File(path, "r") as reading:
            _commit(path, new)
            undisturbed = np.array_equal(reading["x"][:], old)
        with h5py.File(path, "r") as file:
            same = np.array_equal(file["x"][:], new)
        left = [entry.name for entry in Path(folder).iterdir() if entry != path]
    if not same or not undisturbed or left:
        what = "gives back other values" if not same else "does not replace files in one step"
        return Finding(
            "fail",
            f"{place} {what}",
            "Set AVNOISE_STORE, or pass --store, to a folder on a local disk.",
        )
    text = f"h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}"
    return Finding("ok", f"{text}: written, renamed over another and read back in {place}")


def _commit(path: Path, values: np.ndarray) -> None:
    import h5py

    temporary = path.with_suffix(".tmp")
    with h5py.File(temporary, "w") as file:
        file["x"] = values
    handle = os.open(temporary, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(temporary, path)
    fsync_dir(path.parent)


def check_claims(store: Path | None = None) -> Finding:
    """Whether two runs can keep apart on the store's disk, and replaced files be noticed there.

    Args:
        store: The store; the default one if None.
    """
    place = existing(store or store_dir())
    with tempfile.TemporaryDirectory(dir=place, prefix=".doctor-") as folder:
        claim = Path(folder) / "x.claim"
        for wanted in (True, False):
            try:
                os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                made = True
            except FileExistsError:
                made = False
            if made != wanted:
                return Finding(
                    "fail",
                    f"{place} lets two runs make the same claim (no O_EXCL)",
                    "Let one run at a time work on this store, or move it to a local disk.",
                )
        skew = time.time() - claim.stat().st_mtime
        os.link(claim, claim.with_suffix(".again"))
        append_lines(Path(folder) / "index.jsonl", ["{}"])
        tick = _tick(claim)
    if abs(skew) > SKEW:
        return Finding(
            "warn",
            f"the clock of {place} is off ours by {skew:.0f} s",
            "Set both clocks by NTP: a claim counts as given up after two minutes.",
        )
    if tick > COARSE:
        return Finding(
            "warn",
            f"time stamps in {place} are {tick:.1f} s apart",
            "Do not replace a video on such a disk by one of the same size while extracting.",
        )
    return Finding("ok", f"exclusive claims, locks, links; time stamps {tick * 1000:.3g} ms apart")


def _tick(path: Path, patience: float = 2.5) -> float:
    """Seconds between two modification times that the disk tells apart."""
    first = path.stat().st_mtime_ns
    until = time.monotonic() + patience
    while time.monotonic() < until:
        path.write_bytes(b"x")
        if (now := path.stat().st_mtime_ns) != first:
            # The first step may have been cut short; the second is a whole one.
            while (then := _written(path)) == now and time.monotonic() < until:
                pass
            return (then - now) / 1e9 if then != now else patience
    return patience


def _written(path: Path) -> int:
    path.write_bytes(b"x")
    return path.stat().st_mtime_ns


def check_folders(store: Path | None = None) -> Finding:
    """Whether the folders can be written, and whether git leaves them alone.

    Args:
        store: The store; the default one if None.
    """
    folders = {"data": data_dir(), "store": store or store_dir(), "runs": runs_dir()}
    closed = [str(f) for f in folders.values() if not os.access(existing(f), os.W_OK | os.X_OK)]
    if closed:
        remedy = "Set AVNOISE_DATA, AVNOISE_STORE and AVNOISE_RUNS to folders of yours."
        return Finding("fail", f"cannot write {', '.join(closed)}", remedy)
    seen = [str(f) for f in folders.values() if _git_sees(f)]
    if seen:
        return Finding("warn", f"git sees {', '.join(seen)}", "Add them to .gitignore.")
    return Finding("ok", ", ".join(str(f) for f in folders.values()))


def check_disk(store: Path | None = None) -> Finding:
    """Free space where features go; LLP in all published features takes about 8 GB.

    Args:
        store: The store; the default one if None.
    """
    place = existing(store or store_dir())
    free = shutil.disk_usage(place).free / GIB
    text = f"{free:.1f} GiB free at {place}"
    if free < 0.5:
        return Finding("fail", text, "The demo needs 0.5 GiB: make room, or set AVNOISE_STORE.")
    if free < 10:
        return Finding("warn", text, "Enough for the demo, not for LLP: set AVNOISE_STORE.")
    return Finding("ok", text)


def _git_sees(folder: Path) -> bool:
    """Whether the folder lies in a git checkout that does not ignore it."""
    git = shutil.which("git")
    if git is None:
        return False
    ask: dict[str, Any] = {"cwd": existing(folder), "capture_output": True, "check": False}
    inside = subprocess.run([git, "rev-parse", "--is-inside-work-tree"], **ask)
    if inside.returncode != 0:
        return False
    # A slash at the end: rules such as "data/" mean folders, and this one may not exist yet.
    ignored = subprocess.run([git, "check-ignore", "-q", f"{folder.absolute()}/"], **ask)
    return ignored.returncode == 1
