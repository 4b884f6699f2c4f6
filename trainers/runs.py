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

__all__ = [
    "CHECKPOINT_SECONDS",
    "Run",
    "describe_environment",
    "find_runs",
    "peak_memory_bytes",
    "read_results",
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
        """The results of a finished run; see `read_results`."""
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


def read_results(path: Path) -> dict[str, Any]:
    """The content of a finished run's ``results.json``.

    Returns:
        The results and, under ``identity``, the run's configuration without its seed: what runs
        that may be averaged have in common.

    Raises:
        UserError: If the folder does not hold what a finished run leaves.
    """
    read: dict[str, dict[str, Any]] = {}
    for name, keys in (("results.json", {"method", "seed", "dataset", "metrics"}),
                       ("config.json", {"seed"})):  # fmt: skip
        try:
            read[name] = json.loads((path / name).read_text(encoding="utf-8"))
            if not isinstance(read[name], dict) or keys - read[name].keys():
                raise ValueError("it is not what a run writes")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"The run {path} has no usable {name} ({reason}); delete the folder and train "
                "the run again."
            ) from error
    config = read["config.json"]
    identity = {k: v for k, v in config.items() if k not in ("seed", "paths")}
    return {**read["results.json"], "identity": identity}


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


def find_runs(folders: list[Path]) -> list[Path]:
    """All finished runs below some folders, sorted; each once.

    A folder that cannot be read is left out, and so is one with the configuration and seed of
    another; standard error says so.

    Raises:
        UserError: If there is none.
    """
    seen: set[Path] = set()
    first: dict[str, Path] = {}
    repeated: list[tuple[Path, Path]] = []
    for path in sorted({done.parent for folder in folders for done in folder.rglob("DONE")}):
        # One folder may be reached by several names.
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        try:
            results = read_results(path)
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        known = [results["identity"], results["seed"], results.get("noise")]
        earlier = first.setdefault(object_digest(known), path)
        if earlier != path:
            repeated.append((path, earlier))
    if repeated:
        path, earlier = repeated[0]
        more = f"; so are {len(repeated) - 1} more folders" if len(repeated) > 1 else ""
        print(
            f"counted once: {path} is the same configuration and seed as {earlier}{more}.",
            file=sys.stderr,
        )
    if not first:
        names = ", ".join(str(folder) for folder in folders)
        raise UserError(f"There is no finished run in {names}; train one or name another folder.")
    return list(first.values())
