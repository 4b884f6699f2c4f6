"""The text side of CLIP and CLAP: class prompts, kept as data, and their embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from features.backbones.clap import CLAP
from features.backbones.clip import CLIP_VIT_B16, CLIP_VIT_L14
from features.backbones.hub import Checkpoint, HubModel, quiet
from features.backbones.weights import WeightChoice
from pipeline.errors import UserError, unknown_name
from pipeline.manifest.classes import DATA_FOLDER

__all__ = [
    "MODELS",
    "ClassPrompts",
    "TextEmbeddings",
    "checkpoint",
    "embed_texts",
    "lsld_prompts",
    "read_prompts",
    "valor_prompts",
]

MODELS: dict[str, HubModel] = {
    "clap": CLAP,
    "clip_vit_b16": CLIP_VIT_B16,
    "clip_vit_l14": CLIP_VIT_L14,
}
"""Models with a text tower, by feature family."""

TOKENS = 77
"""Every text is cut or padded to this length, so that its embedding does not depend on others."""

_PROMPTS = DATA_FOLDER / "llp" / "prompts.json"


@dataclass(frozen=True)
class ClassPrompts:
    """One prompt a class.

    Attributes:
        classes: C names.
        texts: C prompts.
        thresholds: C logits above which a class counts as present, or None.
    """

    classes: tuple[str, ...]
    texts: tuple[str, ...]
    thresholds: tuple[float, ...] | None = None


@dataclass(frozen=True)
class TextEmbeddings:
    """Embeddings of some texts in the space that a modality shares with them.

    Attributes:
        texts: P texts.
        x: (P, D) float32 of length 1.
        scale: What cosines are multiplied with to be logits.
    """

    texts: tuple[str, ...]
    x: np.ndarray
    scale: float


def valor_prompts(classes: Sequence[str], modality: str) -> ClassPrompts:
    """VALOR's captions and thresholds for LLP's classes (Lai et al. 2023, released code).

    Args:
        classes: C names of LLP's classes, in any order.
        modality: ``"audio"`` (CLAP) or ``"visual"`` (CLIP ViT-L/14).

    Raises:
        UserError: If a class is none of LLP's.
    """
    table = _published()["valor"][modality]
    return ClassPrompts(
        tuple(classes),
        _pick(classes, table["prompts"]),
        tuple(float(value) for value in _pick(classes, table["thresholds"])),
    )


def lsld_prompts(labels: Sequence[str], modality: str) -> list[tuple[str, frozenset[str]]]:
    """LSLD's prompts for a clip: one for every subset of its labels (Fan et al. 2023).

    Args:
        labels: The clip's labels out of LLP's classes, in class order.
        modality: ``"audio"`` or ``"visual"``.

    Returns:
        Prompts and the labels that each says are there: all of them, single ones, the other
        subsets from small to large, and "other" for none; the order decides ties.

    Raises:
        UserError: If a label is none of LLP's classes.
    """
    phrases = dict(zip(labels, _pick(labels, _published()["lsld"]["phrases"]), strict=True))
    sizes = dict.fromkeys([len(labels), *range(1, len(labels))]) if labels else {}
    subsets = [subset for size in sizes for subset in combinations(labels, size)]
    prompts = [(" and ".join(phrases[label] for label in s), frozenset(s)) for s in subsets]
    prefix = "This is a sound of " if modality == "audio" else ""
    return [(prefix + text, subset) for text, subset in [*prompts, ("other", frozenset())]]


def read_prompts(path: Path, classes: Sequence[str]) -> ClassPrompts:
    """Reads one's own prompts: a JSON table from class to prompt.

    Args:
        path: The file.
        classes: C names; all must be there.

    Raises:
        UserError: If the file is no such table, or lacks a class.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"The prompts {path} cannot be read ({error.strerror}); correct --prompts."
        ) from error
    except ValueError as error:
        raise UserError(f"The prompts {path} are no valid JSON ({error}); mend them.") from error
    if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
        raise UserError(f'The prompts {path} must be a table of texts, {{"class": "prompt"}}.')
    return ClassPrompts(tuple(classes), _pick(classes, table, path))


def checkpoint(family: str, weights: WeightChoice) -> Checkpoint:
    """The checkpoint of a model that has a text tower.

    Args:
        family: One of `MODELS`.
        weights: Which weights.

    Raises:
        UserError: If there is no such model.
    """
    if family not in MODELS:
        raise unknown_name("model with a text tower", family, MODELS)
    return Checkpoint(family, weights, MODELS[family])


def embed_texts(
    family: str, weights: WeightChoice, texts: Sequence[str], *, device: str = "cpu"
) -> TextEmbeddings:
    """Embeds texts.

    Args:
        family: One of `MODELS`.
        weights: Which weights; their folder must hold the tokenizer as well.
        texts: P texts.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        UserError: If weights or tokenizer are not there or are another model's.
    """
    import torch

    source = checkpoint(family, weights)
    tokens = _tokenize(source, texts)
    model = source.load().to(device)
    # CLAP has two scales; the one for sound as the query is the one that turns audio into logits.
    scale = model.logit_scale if MODELS[family].kind == "clip" else model.logit_scale_a
    rows = []
    with torch.inference_mode():
        for ids, mask in zip(tokens["input_ids"], tokens["attention_mask"], strict=True):
            # One after the other: a text's embedding does not depend on its neighbours.
            ids, mask = (torch.tensor([row], device=device) for row in (ids, mask))
            pooled = model.text_model(input_ids=ids, attention_mask=mask).pooler_output
            embedding = model.text_projection(pooled).float()  # (1, D)
            rows.append(torch.nn.functional.normalize(embedding, dim=-1).cpu())
        x = torch.cat(rows).numpy()
    return TextEmbeddings(tuple(texts), x, float(scale.exp()))


def _tokenize(source: Checkpoint, texts: Sequence[str]) -> Mapping[str, list[list[int]]]:
    """Token ids and masks, each P lists of `TOKENS` numbers."""
    if source.random:
        raise UserError(
            f"Random weights of {source.name} have no tokenizer; pass a folder with "
            f"--weights {source.name}=FOLDER."
        )
    folder = source.folder()
    whole = (folder / "tokenizer.json").is_file()
    if not whole and not all((folder / name).is_file() for name in ("vocab.json", "merges.txt")):
        raise UserError(
            f"The folder {folder} of {source.name} holds no tokenizer (tokenizer.json, or "
            "vocab.json and merges.txt); download these files of the model into it."
        )
    size = source.value("text_config.vocab_size", default=None)
    with quiet():
        tokenizer = _tokenizer(source, folder)
        tokens = tokenizer(list(texts), padding="max_length", truncation=True, max_length=TOKENS)
    largest = max(max(row) for row in tokens["input_ids"])
    if size is not None and largest >= size:
        raise UserError(
            f"The tokenizer in {folder} has more tokens than the model of {source.name} knows "
            f"({size}); download the model's own tokenizer into it."
        )
    return tokens


def _tokenizer(source: Checkpoint, folder: Path) -> Any:
    from transformers import CLIPTokenizer, RobertaTokenizer

    kind = CLIPTokenizer if source.model.kind == "clip" else RobertaTokenizer
    try:
        return kind.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        # The library below is in Rust and raises a bare Exception for a damaged vocabulary.
        raise UserError(
            f"The tokenizer in {folder} cannot be read ({str(error).splitlines()[0][:160]}); "
            f"download the tokenizer of {source.name} again."
        ) from error


def _published() -> dict[str, Any]:
    return json.loads(_PROMPTS.read_text(encoding="utf-8"))


def _pick(classes: Sequence[str], table: Mapping[str, Any], path: Path | None = None) -> tuple:
    absent = [name for name in classes if name not in table]
    if absent:
        where = "LLP's classes" if path is None else f"the prompts {path}"
        raise UserError(
            f"There is no prompt for {absent[0]!r}, which is not among {where}; pass --prompts "
            "FILE, a JSON table with a prompt for every class."
        )
    return tuple(table[name] for name in classes)
