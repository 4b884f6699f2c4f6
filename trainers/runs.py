"""Run directories: named by what was run, complete when ``DONE`` is there, resumable before."""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import UserError
from pipeline.files import claim_file, object_digest, write_atomic
from trainers.finished import read_results

__all__ = [
    "CHECKPOINT_SECONDS",
    "Run",
    "describe_environment",
    "peak_memory_bytes",
    "save_torch",
]

CHECKPOINT_SECONDS = 60.0
"""An interrupted run loses at most about this much work."""


@dataclass(frozen=True)
class Run:
    """One training run's folder.

    Args:
        root: The folder of all runs.
        config: The resolved configuration; its hash names the run. Device, paths and threads do
            not belong in it.
    """

    root: Path
    config: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Hash of the configuration."""
        return object_digest(dict(self.config))

    @property
    def path(self) -> Path:
        """``<root>/<task>/<method>-<id>``."""
        return self.root / self.config["task"] / f"{self.config['method']}-{self.id}"

    @property
    def done(self) -> bool:
        """Whether the run has finished."""
        return (self.path / "DONE").is_file()

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Makes the folder and keeps other processes from training in it; waits while one does.

        Whoever waited finds the run `done`, or may go on with it.
        """
        self._make()
        lock = self.path / ".lock"
        with claim_file(lock, taken=self._wait):
            yield
            if self.done:
                lock.unlink(missing_ok=True)

    def _wait(self) -> None:
        print(f"{self.path.name} is being trained by another process; waiting for it.",
              file=sys.stderr, flush=True)  # fmt: skip

    def begin(self, *, paths: Mapping[str, str]) -> None:
        """Makes the folder and says what runs in it, or finds it from before an interruption.

        Args:
            paths: Where manifest and store were, for the reader of ``config.json``; not hashed.
        """
        self._make()
        self._write_json("config.json", {**self.config, "paths": dict(paths)})
        self._write_json("environment.json", describe_environment())

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The run folder {self.path} cannot be made ({error.strerror}); choose another "
                "with --runs."
            ) from error

    def finish(self, results: Mapping[str, Any]) -> None:
        """Writes the results and then, last, ``DONE``."""
        self._write_json("results.json", results)
        (self.path / "resume.pt").unlink(missing_ok=True)
        write_atomic(self.path / "DONE", time.strftime("%Y-%m-%dT%H:%M:%S\n"))

    def results(self) -> dict[str, Any]:
        """The results of a finished run; see `trainers.finished.read_results`."""
        return read_results(self.path)

    def log(self, line: Mapping[str, Any]) -> None:
        """Appends one line to ``metrics.jsonl``."""
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")

    def truncate_log(self, lines: int) -> None:
        """Forgets what was logged after the checkpoint that a run resumes from."""
        path = self.path / "metrics.jsonl"
        kept = path.read_text().splitlines()[:lines] if path.exists() else []
        write_atomic(path, "".join(line + "\n" for line in kept))

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        write_atomic(self.path / name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def save_torch(value: Any, path: Path) -> None:
    """Saves plain values and tensors so that a killed process leaves the old file or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        torch.save(value, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def describe_environment() -> dict[str, Any]:
    """What a result was computed with; recorded, never hashed."""
    packages = ("torch", "torchvision", "numpy", "h5py", "av", "librosa", "scikit-learn")
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: version(name) for name in packages},
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory held so far: of the GPU if one was used, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak if sys.platform == "darwin" else peak * 1024
