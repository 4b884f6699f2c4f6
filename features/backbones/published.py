"""The published weight files that features are made with: a table.

A digest stands here only where it is known: torch.hub's names carry the first eight digits of
their SHA-256, the others are those that the publisher's site shows. None means unknown, and a file
that cannot be checked is never downloaded, only named.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.files import file_digest

__all__ = ["PUBLISHED", "WeightFile"]


@dataclass(frozen=True)
class WeightFile:
    """One published weight file.

    Args:
        name: What it is called in ``--weights NAME=FILE``; ``vggish.pca`` is an option's value.
        title: Network and training data.
        url: Where it can be downloaded.
        licence: Under which terms, as far as the publisher says.
        digest: ``sha256:`` or ``md5:`` and the digest or its first digits; None if unknown.
        size: Bytes, None if unknown.
        note: What else one must know to use it.
    """

    name: str
    title: str
    url: str
    licence: str
    digest: str | None = None
    size: int | None = None
    note: str = ""

    @property
    def file(self) -> str:
        """The file's name."""
        return unquote(urlsplit(self.url).path).rsplit("/", 1)[-1]

    @property
    def hub(self) -> str | None:
        """The repository on the Hugging Face hub, None for a file from elsewhere."""
        parts = urlsplit(self.url)
        if parts.netloc != "huggingface.co":
            return None
        return "/".join(parts.path.strip("/").split("/")[:2])

    @property
    def download(self) -> bool:
        """Whether it is fetched when it is not here: only what can be checked is."""
        return self.digest is not None

    @property
    def path(self) -> Path:
        """Where it is looked for: torch's cache, or the newest snapshot in the hub's.

        Whether the file is there is another question; see `Path.is_file`.
        """
        if self.hub is None:
            return _torch_cache() / self.file
        folder = _hub_cache() / f"models--{self.hub.replace('/', '--')}" / "snapshots"
        found = [path for path in folder.glob(f"*/{self.file}") if path.is_file()]
        return max(found, key=os.path.getmtime) if found else folder / "main" / self.file

    def matches(self, path: Path | str) -> bool | None:
        """Whether a file has the published digest; None if that is unknown.

        Raises:
            OSError: If the file cannot be read.
        """
        if self.digest is None:
            return None
        kind, _, digits = self.digest.partition(":")
        actual = file_digest(path) if kind == "sha256" else _md5(path)
        return actual.startswith(digits)

    def state(self) -> tuple[str, bool]:
        """Whether the file is at `path`, in words; and False if another file is there."""
        if not self.path.is_file():
            how = "downloaded when it is needed" if self.download else "fetch it by hand"
            return f"not here ({how}): {self.path}", True
        size = self.path.stat().st_size
        if self.size not in (None, size):
            return f"{size:,} bytes instead of {self.size:,}, not that file: {self.path}", False
        try:
            matches = self.matches(self.path)
        except OSError as error:
            return f"cannot be read ({error.strerror}): {self.path}", False
        if matches is None:
            return f"here, its digest is not published: {self.path}", True
        what = "here, as published" if matches else f"not {self.digest}, another file"
        return f"{what}: {self.path}", matches


def _torch_cache() -> Path:
    """Where torch.hub keeps files, without the seconds that importing torch takes."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def _hub_cache() -> Path:
    """Where the Hugging Face hub's client keeps files."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", os.path.join(cache, "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", os.path.join(home, "hub"))).expanduser()


def _md5(path: Path | str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


_TORCHVISION = "BSD-3-Clause (torchvision); terms of the training data may apply"
_TORCHVGGISH = "https://github.com/harritaylor/torchvggish/releases/download/v0.1/"

PUBLISHED: dict[str, WeightFile] = {
    entry.name: entry
    for entry in (
        WeightFile(
            "resnet152",
            "ResNet-152, ImageNet (torchvision IMAGENET1K_V1)",
            "https://download.pytorch.org/models/resnet152-394f9c45.pth",
            _TORCHVISION,
            "sha256:394f9c45",
            note="serves resnet152.frames too",
        ),
        WeightFile(
            "r2plus1d_18",
            "R(2+1)D-18, Kinetics-400 (torchvision KINETICS400_V1)",
            "https://download.pytorch.org/models/r2plus1d_18-91a641e6.pth",
            _TORCHVISION,
            "sha256:91a641e6",
        ),
        WeightFile(
            "squeezenet1_0",
            "SqueezeNet 1.0, ImageNet (torchvision IMAGENET1K_V1)",
            "https://download.pytorch.org/models/squeezenet1_0-b66bff10.pth",
            _TORCHVISION,
            "sha256:b66bff10",
        ),
        WeightFile(
            "vggish",
            "VGGish, YouTube-8M (harritaylor/torchvggish, converted from TensorFlow)",
            f"{_TORCHVGGISH}vggish-10086976.pth",
            "Apache-2.0",
            size=288_567_937,
        ),
        WeightFile(
            "vggish.pca",
            "VGGish post-processing: PCA whitening of the AudioSet release",
            f"{_TORCHVGGISH}vggish_pca_params-970ea276.pth",
            "Apache-2.0",
            size=181_358,
            note="used with --option vggish.pca=published",
        ),
        WeightFile(
            "panns_resnet22",
            "PANNs ResNet22, AudioSet, mAP 0.430",
            "https://zenodo.org/record/3987831/files/ResNet22_mAP%3D0.430.pth?download=1",
            "CC-BY-4.0",
            "md5:cf36d413096793c4e15dc752a3abd599",
        ),
        WeightFile(
            "clip_vit_b16",
            "CLIP ViT-B/16 (OpenAI, in transformers' layout)",
            "https://huggingface.co/openai/clip-vit-base-patch16/resolve/main/pytorch_model.bin",
            "MIT (OpenAI's repository; the model card states none)",
            "sha256:ec89c7b09c749a60aae3c9cd910516f24b58214a7df060b48962d14c469cfbf0",
        ),
        WeightFile(
            "clip_vit_l14",
            "CLIP ViT-L/14 (OpenAI, in transformers' layout)",
            "https://huggingface.co/openai/clip-vit-large-patch14/resolve/main/model.safetensors",
            "MIT (OpenAI's repository; the model card states none)",
            "sha256:a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
        ),
        WeightFile(
            "clap",
            "CLAP HTSAT, 630k with fusion (LAION, in transformers' layout)",
            "https://huggingface.co/laion/clap-htsat-fused/resolve/main/pytorch_model.bin",
            "Apache-2.0",
            "sha256:1ed5d0215d887551ddd0a49ce7311b21429ebdf1e6a129d4e68f743357225253",
        ),
    )
}
"""The table, by name."""
