"""The interpreter, its packages and the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tomllib
from pathlib import Path

import numpy as np

from flows.checks.finding import GIB, SYNC, Finding

__all__ = [
    "check_gpu",
    "check_librosa",
    "check_machine",
    "check_packages",
    "check_python",
    "check_torch",
    "check_transformers",
]

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


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
        return Finding("fail", "; ".join(broken), SYNC)
    if other:
        more = f" and {len(other) - 5} more" if len(other) > 5 else ""
        text = f"{agreeing} as pinned, but {', '.join(other[:5])}{more}"
        return Finding("warn", text, "Run 'uv sync' to get the tested versions.")
    return Finding("ok", f"{len(direct)} needed, {agreeing} as pinned")


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


def check_transformers() -> Finding:
    """The extra that CLIP and CLAP need."""
    version = _installed("transformers")
    if version is None:
        return Finding(
            "warn",
            "not installed, so CLIP and CLAP cannot be extracted",
            "Run 'uv sync --extra clip' if you need them.",
        )
    from transformers import CLIPConfig, CLIPModel

    width = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
    words = {"vocab_size": 9, "bos_token_id": 0, "eos_token_id": 1}
    config = CLIPConfig(text_config=width | words, vision_config=width, projection_dim=8)
    parameters = CLIPModel(config).num_parameters()
    return Finding("ok", f"transformers {version}, a CLIP of {parameters:,} parameters built")


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
