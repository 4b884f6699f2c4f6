"""CLIP and CLAP checkpoints: folders in the layout of the Hugging Face hub.

A folder holds ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``. Only numbers are
read from it: the classes are those of transformers, never the folder's own code, a pickle is read
with weights_only, and what the configuration says of data types, kernels or quantisation is left
aside.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.backbones.published import PUBLISHED
from features.backbones.weights import Network, WeightChoice
from pipeline.errors import UserError
from pipeline.files import file_digest, object_digest

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "HubModel", "HubNetwork", "quiet", "require_transformers"]

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""In the order of preference: the first cannot hold anything but numbers."""
PREPROCESSING = "preprocessor_config.json"
SMALL_FILES = (
    CONFIG,
    PREPROCESSING,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)
_IGNORED = (
    "auto_map",
    "quantization_config",
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
    "dtype",
    "torch_dtype",
)
"""Keys of a configuration that name code, kernels or types instead of the network's shape."""

_DAMAGE = (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError)
"""What reading a file that is no checkpoint raises, beside safetensors' own error."""


@dataclass(frozen=True)
class HubModel:
    """One architecture with its published sizes.

    Args:
        kind: ``"clip"`` or ``"clap"``, the ``model_type`` of a configuration.
        config: The published model's configuration: what random weights are made for.
        fixed: Dotted keys of ``config`` that any checkpoint for the feature must agree with.
        preprocessing: What our front end does, by the keys of ``preprocessor_config.json``. A
            folder that has this file and says otherwise is refused.
    """

    kind: str
    config: Mapping[str, Any]
    fixed: tuple[str, ...]
    preprocessing: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """Where a model's weights are, which they are, and the model they make.

    Args:
        name: The feature family, as in ``--weights NAME=FOLDER``.
        choice: Which weights; ``file`` is a folder, or the weight file in it.
        model: What they must be the weights of.
    """

    name: str
    choice: WeightChoice
    model: HubModel

    @property
    def random(self) -> bool:
        """Whether the weights are random."""
        return self.choice.file is None and self.choice.seed is not None

    def folder(self) -> Path:
        """The folder with configuration and weights, from the hub if need be.

        Raises:
            UserError: If it is not there and cannot be downloaded, or lacks a file.
        """
        if self.choice.file is None:
            folder = self._cached() or self._download()
        else:
            given = Path(self.choice.file)
            folder = given.parent if given.name in WEIGHTS else given
        if not folder.is_dir():
            raise UserError(
                f"The weights {folder} of {self.name} are no folder with {CONFIG} and {WEIGHTS[0]} "
                f"or {WEIGHTS[1]}; pass one with --weights {self.name}=FOLDER."
            )
        lacks = [] if (folder / CONFIG).is_file() else [CONFIG]
        if _weight_file(folder) is None:
            lacks.append(" or ".join(WEIGHTS))
        if lacks:
            raise UserError(
                f"The folder {folder} of {self.name} lacks {' and '.join(lacks)}; download "
                f"{_page(self.name)} and pass it with --weights {self.name}=FOLDER."
            )
        return folder

    def _cached(self) -> Path | None:
        """The newest whole snapshot in the hub's cache."""
        snapshots = PUBLISHED[self.name].path.parents[1]
        files = [(folder, _weight_file(folder)) for folder in snapshots.glob("*")]
        whole = [folder / file for folder, file in files if file and (folder / CONFIG).is_file()]
        return max(whole, key=os.path.getmtime).parent if whole else None

    def _download(self) -> Path:
        """Fetches the published weight file and the small files beside it into the hub's cache."""
        published = PUBLISHED[self.name]
        require_transformers(self.name)
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError

        # Its bases are what any failure of the network raises, whichever HTTP library is below.
        network = HfHubHTTPError.__bases__
        try:
            revision = HfApi().model_info(published.hub).sha
            folder = snapshot_download(
                published.hub, revision=revision, allow_patterns=[*SMALL_FILES, published.file]
            )
        except (ValueError, *network) as error:
            raise UserError(
                f"The weights of {self.name} are not here (downloading failed: "
                f"{_first_line(error)}); download {_page(self.name)} ({CONFIG}, {published.file} "
                f"and the tokenizer's files) elsewhere and pass the folder with --weights "
                f"{self.name}=FOLDER (--random-weights SEED runs without, for a trial)."
            ) from error
        return Path(folder)

    def file(self) -> Path:
        """The weight file; the published one is compared with its published digest.

        Raises:
            UserError: See `folder`; if what is in the hub's cache is not what was published.
        """
        folder = self.folder()
        file = folder / str(_weight_file(folder))
        published = PUBLISHED[self.name]
        if self.choice.file is None and file.name == published.file and published.digest:
            digest = f"sha256:{_file_digest(str(file), file.stat().st_mtime_ns)}"
            if digest != published.digest:
                raise UserError(
                    f"The weights {file} of {self.name} are not the published ones "
                    f"({published.digest}); delete {folder} and download {_page(self.name)} again."
                )
        return file

    def digest(self) -> str:
        """What a spec says of the weights: hashed from weight file and configuration.

        Raises:
            UserError: See `folder`; if the configuration is another model's.
        """
        if self.random:
            return f"random:{self.choice.seed}"
        self._check()
        file = self.file()
        weights = _file_digest(str(file), file.stat().st_mtime_ns)
        return f"sha256:{object_digest([weights, self._values()], 64)}"

    def value(self, key: str, *, default: Any) -> Any:
        """A value of the configuration by its dotted key, read without transformers.

        Raises:
            UserError: See `folder`.
        """
        return _dotted(self.model.config if self.random else self._values(), key, default)

    def _check(self) -> None:
        """Refuses another model's configuration, and one that was trained on another front end.

        Raises:
            UserError: If it does.
        """
        values = self._values()
        kind = values.get("model_type")
        if kind != self.model.kind:
            raise self._another(f"of type {kind!r}", f"one of type {self.model.kind!r}")
        self._check_sizes(values)
        path = self.folder() / PREPROCESSING
        settings = self._read(path) if path.is_file() else {}
        for key, should in self.model.preprocessing.items():
            if key in settings and not _same(settings[key], should):
                raise UserError(
                    f"The file {path} asks for {key} {settings[key]}, but {self.name} is computed "
                    f"with {should}; pass the folder of {_page(self.name)}."
                )

    def _check_sizes(self, values: Mapping[str, Any]) -> None:
        """Refuses other sizes; what ``values`` leave out is looked at again when it is loaded."""
        for key in self.model.fixed:
            should = _dotted(self.model.config, key, None)
            value = _dotted(values, key, should)
            if value != should:
                raise self._another(f"with {key} {value}", str(should))

    def _another(self, is_: str, should: str) -> UserError:
        return UserError(
            f"The folder {self.folder()} holds a model {is_}, but {self.name} needs {should}; pass "
            f"the folder of {_page(self.name)} with --weights {self.name}=FOLDER."
        )

    def load(self) -> Any:
        """The model with its weights, float32, on the CPU, for inference.

        Returns:
            A CLIPModel or ClapModel of transformers.

        Raises:
            UserError: If the weights are not there, cannot be read or are another model's.
        """
        import torch

        require_transformers(self.name)
        configuration, kind = _classes(self.model.kind)
        if not self.random:
            self._check()
        values = dict(self.model.config) if self.random else self._values()
        try:
            config = configuration.from_dict(values)
        except (TypeError, ValueError, AttributeError) as error:
            raise self._unreadable(error) from error
        self._check_sizes(config.to_dict())
        # Building draws random numbers; nobody else's stream may move because of it.
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.choice.seed or 0)
            model = kind(config) if self.random else self._load(kind, config)
        return model.eval().requires_grad_(False)

    def _load(self, kind: Any, config: Any) -> Any:
        import torch
        from safetensors import SafetensorError

        file = self.file()
        try:
            model, report = kind.from_pretrained(
                str(file.parent),
                config=config,
                dtype=torch.float32,
                use_safetensors=file.name == WEIGHTS[0],
                weights_only=True,
                local_files_only=True,
                output_loading_info=True,
            )
        except (*_DAMAGE, SafetensorError) as error:
            raise self._unreadable(error) from error
        lacks = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
        if lacks:
            more = f" and {len(lacks) - 1} more" if len(lacks) > 1 else ""
            raise UserError(
                f"The weights {file} do not fit {self.name}: {lacks[0]}{more} is missing or of "
                f"another shape than {CONFIG} says; download the folder again."
            )
        # The numbers lie in the mapped file, at addresses that other kernels are chosen for: the
        # last bits of a value would depend on the file's format, and its end on the file's life.
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
        return model

    def _values(self) -> dict[str, Any]:
        """The configuration's values as they shape the network."""
        values = self._read(self.folder() / CONFIG)
        parts = {
            key: {k: v for k, v in part.items() if k not in _IGNORED}
            for key, part in values.items()
            if isinstance(part, dict)
        }
        return {key: value for key, value in (values | parts).items() if key not in _IGNORED}

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error
        if not isinstance(values, dict):
            raise self._unreadable(ValueError(f"{path.name} holds no table"))
        return values

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(
            f"The folder {self.folder()} cannot be read as {self.name} ({_first_line(error)}); "
            f"download {_page(self.name)} again."
        )


class HubNetwork(Network):
    """A part of a hub model as a `Network`: batches, devices and errors are the same.

    Args:
        checkpoint: The weights.
        part: Takes what computes the feature out of the model.
        compute: See `Network`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        part: Callable[[Any], torch.nn.Module],
        *,
        compute: str = "float32",
    ) -> None:
        require_transformers(checkpoint.name)
        super().__init__(
            checkpoint.name,
            checkpoint.choice,
            lambda: part(checkpoint.load()),
            published=PUBLISHED[checkpoint.name],
            compute=compute,
        )
        self.checkpoint = checkpoint

    def file(self) -> Path:
        """See `Network`."""
        return self.checkpoint.file()

    def digest(self) -> str:
        """See `Network`."""
        return self.checkpoint.digest()

    def _load(self) -> torch.nn.Module:
        return self._make().eval().requires_grad_(False)


def require_transformers(name: str) -> None:
    """Says how to install what CLIP and CLAP need.

    Raises:
        UserError: If transformers is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise UserError(
            f"The feature {name} needs transformers, which is not installed; install it with "
            "pip install 'avnoise[clip]' (in a checkout: uv sync --extra clip)."
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' own bars and warnings off the terminal; what matters is raised."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _classes(kind: str) -> tuple[Any, Any]:
    """Configuration and model class of transformers."""
    import transformers

    if kind == "clip":
        return transformers.CLIPConfig, transformers.CLIPModel
    return transformers.ClapConfig, transformers.ClapModel


def _weight_file(folder: Path) -> str | None:
    return next((name for name in WEIGHTS if (folder / name).is_file()), None)


def _page(name: str) -> str:
    return f"https://huggingface.co/{PUBLISHED[name].hub}"


def _dotted(values: Mapping[str, Any], key: str, default: Any) -> Any:
    for part in key.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return default
        values = values[part]
    return values


def _same(value: Any, should: Any) -> bool:
    """Compares settings; a size may be written as a number or as a table of equal numbers."""
    if isinstance(value, dict):
        return all(_same(part, should) for part in value.values())
    if isinstance(value, list) and isinstance(should, tuple):
        return len(value) == len(should) and all(map(_same, value, should))
    if isinstance(value, int | float) and isinstance(should, int | float):
        return math.isclose(value, should)
    return value == should


def _first_line(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text.splitlines()[0][:160]


@lru_cache(maxsize=64)
def _file_digest(path: str, stamp: int) -> str:
    """A file's digest; the stamp only tells a replaced file from the one before."""
    return file_digest(path)
