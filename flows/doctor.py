"""Is everything that is needed here, and does it work: ``python -m flows.doctor``.

Every check does a small piece of the real work (encodes and decodes a clip, commits a file, imports
Prefect's server), because versions that look right have failed on all of these before.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.environment import prepare_prefect
from pipeline.cli import DONE, USER_ERROR, Parser, run
from pipeline.files import data_dir, fsync_dir, runs_dir, store_dir

__all__ = ["CHECKS", "Check", "Finding", "examine", "main"]

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
GIB = 2**30
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
TINY = {"width": 128, "height": 96, "rate": 12, "frames": 24, "audio_rate": 16000}


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Args:
        status: ``"ok"``, ``"warn"`` (works, or is not needed by most) or ``"fail"``.
        text: What is here.
        remedy: What to do, where something is to be done.
    """

    status: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Args:
        name: What it is.
        look: Finds out; whatever it raises is a finding too.
        remedy: What to do where it raises.
        needed: Whether nothing works without it (a failure) or only an option (a warning).
    """

    name: str
    look: Callable[[], Finding]
    remedy: str
    needed: bool = True


def check_python() -> Finding:
    """The interpreter and the platform."""
    return Finding("ok", f"{platform.python_version()} on {platform.platform(terse=True)}")


def check_packages(pyproject: Path = PYPROJECT) -> Finding:
    """Compares what is installed with the exact versions that pyproject.toml names."""
    from packaging.requirements import Requirement

    if not pyproject.is_file():
        return Finding("ok", "installed without pyproject.toml, so there are no pins to compare")
    tables = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    direct = [Requirement(text) for text in tables["project"]["dependencies"]]
    pins = [
        Requirement(text)
        for text in tables.get("tool", {}).get("uv", {}).get("constraint-dependencies", [])
    ]
    broken, other, agreeing = [], [], 0
    for needed in direct:
        version = _installed(needed.name)
        applies = needed.marker is None or needed.marker.evaluate()
        if applies and (version is None or not needed.specifier.contains(version)):
            broken.append(f"{needed} ({version or 'not installed'})")
    for pin in pins:
        version = _installed(pin.name)
        if version is None:
            continue
        if pin.specifier.contains(version, prereleases=True):
            agreeing += 1
        else:
            other.append(f"{pin.name} {version} instead of {pin.specifier}")
    if broken:
        return Finding("fail", "; ".join(broken), "Run 'uv sync' in the project's folder.")
    if other:
        more = f" and {len(other) - 5} more" if len(other) > 5 else ""
        text = f"{agreeing} as pinned, but {', '.join(other[:5])}{more}"
        return Finding("warn", text, "Run 'uv sync' to get the tested versions.")
    return Finding("ok", f"{len(direct)} needed, {agreeing} as pinned")


def check_prefect() -> Finding:
    """Imports the server, and sees whether FastAPI takes the nulls that Prefect's client sends."""
    prepare_prefect()
    import fastapi
    import httpx
    import prefect.server.api.server

    app = fastapi.FastAPI()

    @app.post("/")
    async def echo(limit: int = fastapi.Body(200, embed=True)) -> int:
        return limit

    async def ask() -> int:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return (await client.post("/", json={"limit": None})).status_code

    text = f"Prefect {prefect.__version__}, FastAPI {fastapi.__version__}"
    if asyncio.run(ask()) != 200:
        return Finding(
            "warn",
            f"{text}: runs work, but Prefect's listing commands fail with status 422",
            "Install fastapi>=0.139,<0.151.",
        )
    return Finding("ok", text)


def check_plugin() -> Finding:
    """Whether ``prefect deployment run NAME`` will work without a slash, from this folder."""
    prepare_prefect()
    from prefect.settings import get_current_settings

    bearing = [
        entry
        for entry in importlib.metadata.entry_points(group="prefect.plugins")
        if entry.value == "flows.bare_names"
    ]
    if not bearing:
        return Finding("warn", "not installed", "Run 'uv pip install -e .' in the project.")
    bearing[0].load()
    settings = get_current_settings().plugins
    name = bearing[0].name
    denied = name in (settings.deny or ()) or (settings.allow and name not in settings.allow)
    if not settings.enabled or denied:
        return Finding(
            "warn",
            "switched off here, so deployments need their full names",
            f"Work in the project's folder, or set PREFECT_PLUGINS_ENABLED=1 and "
            f"PREFECT_PLUGINS_ALLOW={name}.",
        )
    return Finding("ok", f"{name} resolves deployment names without a slash")


def check_torch() -> Finding:
    """Runs one of torchvision's compiled operators: a CPU-only torch cannot load them."""
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0], [4.0, 4.0, 5.0, 5.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    if kept != [0, 2]:
        return Finding("fail", f"torchvision.ops.nms kept {kept} instead of [0, 2]", "Reinstall.")
    text = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    return Finding("ok", f"{text}, {torch.get_num_threads()} threads")


def check_gpu() -> Finding:
    """Multiplies two matrices on the GPU, where there is one."""
    import torch

    if not torch.cuda.is_available():
        return Finding("ok", "none; the CPU does the work")
    a = torch.arange(16.0, device="cuda").reshape(4, 4)
    wrong = not torch.allclose((a @ a).cpu(), a.cpu() @ a.cpu())
    memory = torch.cuda.get_device_properties(0).total_memory / GIB
    text = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
    if wrong:
        return Finding("fail", f"{text}, which multiplies wrongly", "Use --device cpu.")
    return Finding("ok", text)


def check_pyav() -> Finding:
    """Encodes a clip of two seconds, H.264 and AAC, and decodes it as extraction does."""
    import av

    from pipeline.decode import read_audio

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.mp4"
        _write_tiny(path)
        problem = _decode_tiny(path, "pyav")
        seconds = TINY["frames"] / TINY["rate"]
        tone = read_audio(path, 0.0, seconds, TINY["audio_rate"])
    if not problem and not 0.1 < float(np.sqrt(np.mean(tone**2))) < 1.0:
        problem = "the sound that came back is not the tone that went in"
    if problem:
        return Finding(
            "fail", problem, "Reinstall av from a wheel: 'uv pip install --reinstall av'."
        )
    return Finding("ok", f"PyAV {av.__version__}, a clip of H.264 and AAC written and read back")


def check_decord() -> Finding:
    """The second decoder, in its child process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.mp4"
        _write_tiny(path)
        problem = _decode_tiny(path, "decord")
    if problem:
        return Finding("warn", problem, "Keep to --decoder pyav.")
    return Finding("ok", "reads the same clip in a child process")


def check_librosa() -> Finding:
    """A log-Mel spectrogram of a tone: the loudest band must be the tone's."""
    import librosa

    rate = 16000
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)
    mel = librosa.feature.melspectrogram(y=tone, sr=rate, n_fft=512, n_mels=64, htk=True)
    centres = librosa.mel_frequencies(66, fmax=rate / 2, htk=True)[1:-1]
    loudest = float(centres[mel.mean(axis=1).argmax()])
    if abs(loudest - 1000) > 60:
        return Finding(
            "fail", f"a tone of 1000 Hz is seen at {loudest:.0f} Hz", "Reinstall librosa."
        )
    return Finding("ok", f"librosa {librosa.__version__}, a tone found in its Mel band")


def check_store() -> Finding:
    """Commits an HDF5 file in the store's folder as extraction does, and reads it back."""
    import h5py

    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    place = _existing(store_dir())
    with tempfile.TemporaryDirectory(dir=place, prefix=".doctor-") as folder:
        temporary, path = Path(folder) / "x.tmp", Path(folder) / "x.h5"
        with h5py.File(temporary, "w") as file:
            file["x"] = values
        handle = os.open(temporary, os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
        fsync_dir(path.parent)
        with h5py.File(path, "r") as file:
            same = np.array_equal(file["x"][:], values)
    if not same:
        return Finding("fail", f"{place} gives back other values", "Set AVNOISE_STORE elsewhere.")
    text = f"h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}"
    return Finding("ok", f"{text}, a file committed and read back in {place}")


def check_folders() -> Finding:
    """Whether the default folders can be written, and whether git leaves them alone."""
    folders = {"data": data_dir(), "store": store_dir(), "runs": runs_dir()}
    closed = [str(f) for f in folders.values() if not os.access(_existing(f), os.W_OK | os.X_OK)]
    if closed:
        remedy = "Set AVNOISE_DATA, AVNOISE_STORE and AVNOISE_RUNS to folders of yours."
        return Finding("fail", f"cannot write {', '.join(closed)}", remedy)
    seen = [str(f) for f in folders.values() if _git_sees(f)]
    if seen:
        return Finding("warn", f"git sees {', '.join(seen)}", "Add them to .gitignore.")
    return Finding("ok", ", ".join(str(f) for f in folders.values()))


def check_disk() -> Finding:
    """Free space where features go; LLP in all published features takes about 8 GB."""
    place = _existing(store_dir())
    free = shutil.disk_usage(place).free / GIB
    text = f"{free:.1f} GiB free at {place}"
    if free < 0.5:
        return Finding("fail", text, "The demo needs 0.5 GiB: make room, or set AVNOISE_STORE.")
    if free < 10:
        return Finding("warn", text, "Enough for the demo, not for LLP: set AVNOISE_STORE.")
    return Finding("ok", text)


def check_machine() -> Finding:
    """Cores this process may use, and memory."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory()
    text = (
        f"{cores} cores, {memory.total / GIB:.1f} GiB memory, {memory.available / GIB:.1f} GiB free"
    )
    if memory.available < 2 * GIB:
        return Finding("warn", text, "Close other programs: the demo takes up to 2 GiB.")
    return Finding("ok", text)


_SYNC = "Run 'uv sync' in the project's folder."

CHECKS = (
    Check("Python", check_python, "Use Python 3.11 or later."),
    Check("packages", check_packages, _SYNC),
    Check("machine", check_machine, _SYNC, needed=False),
    Check("disk", check_disk, "Set AVNOISE_STORE to a folder on a disk with room."),
    Check("folders", check_folders, "Set AVNOISE_DATA, AVNOISE_STORE and AVNOISE_RUNS."),
    Check("store", check_store, "Set AVNOISE_STORE to a folder on a local disk."),
    Check("torch", check_torch, f"{_SYNC} torchvision needs the torch of the ordinary index."),
    Check("GPU", check_gpu, "Check the driver with nvidia-smi, or use --device cpu."),
    Check("PyAV", check_pyav, _SYNC),
    Check("decord", check_decord, "Keep to --decoder pyav, the default.", needed=False),
    Check("librosa", check_librosa, _SYNC),
    Check("Prefect", check_prefect, f"{_SYNC} Prefect 3.8 needs fastapi>=0.139,<0.151."),
    Check("Prefect plugin", check_plugin, _SYNC, needed=False),
)


def examine(check: Check) -> Finding:
    """Runs a check; whatever it raises becomes a finding with the check's remedy."""
    try:
        return check.look()
    except Exception as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        return Finding("fail" if check.needed else "warn", text, check.remedy)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; exit code 1 when something needed fails."""
    Parser(prog="python -m flows.doctor", description=__doc__).parse_args(argv)
    table = Table("what", "", "found")
    console = Console()
    findings = []
    for check in CHECKS:
        with console.status(f"looking at {check.name}"):
            finding = examine(check)
        findings.append(finding)
        remedy = f"\n{finding.remedy}" if finding.remedy else ""
        status = Text(finding.status, COLOURS[finding.status])
        table.add_row(check.name, status, Text(finding.text + remedy))
    console.print(table)
    failed = sum(f.status == "fail" for f in findings)
    warned = sum(f.status == "warn" for f in findings)
    console.print(f"{len(findings) - failed - warned} ok, {warned} to know, {failed} failed")
    return USER_ERROR if failed else DONE


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that is there already."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _git_sees(folder: Path) -> bool:
    """Whether the folder lies in a git checkout that does not ignore it."""
    git = shutil.which("git")
    if git is None:
        return False
    ask: dict[str, Any] = {"cwd": _existing(folder), "capture_output": True, "check": False}
    inside = subprocess.run([git, "rev-parse", "--is-inside-work-tree"], **ask)
    if inside.returncode != 0:
        return False
    # A slash at the end: rules such as "data/" mean folders, and this one may not exist yet.
    ignored = subprocess.run([git, "check-ignore", "-q", f"{folder.absolute()}/"], **ask)
    return ignored.returncode == 1


def _write_tiny(path: Path) -> None:
    """Two seconds of a grey that brightens and a tone."""
    import av

    seconds = TINY["frames"] / TINY["rate"]
    times = np.arange(int(seconds * TINY["audio_rate"])) / TINY["audio_rate"]
    tone = (0.5 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=TINY["rate"])
        video.width, video.height, video.pix_fmt = TINY["width"], TINY["height"], "yuv420p"
        audio = container.add_stream("aac", rate=TINY["audio_rate"], layout="mono")
        for index in range(TINY["frames"]):
            picture = np.full((TINY["height"], TINY["width"], 3), 20 + 8 * index, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        sound.sample_rate = TINY["audio_rate"]
        container.mux(audio.encode(sound))
        container.mux(audio.encode())


def _decode_tiny(path: Path, decoder: str) -> str:
    """What is wrong with the frames that come back; an empty string where they are right."""
    from pipeline.decode import open_decoder

    times = np.array([0.04, 1.0, 1.9])
    means = np.full(len(times), np.nan)
    for place, frame in open_decoder(decoder).frames(path, times):
        means[place] = frame.mean()
    expected = 20 + 8 * np.floor(times * TINY["rate"])
    if not np.allclose(means, expected, atol=6):
        return f"{decoder} gave frames of brightness {means.round()}, not {expected.round()}"
    return ""


if __name__ == "__main__":
    run(main)
