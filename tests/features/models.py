"""Tiny CLIP and CLAP models with random weights, saved in the layout of the Hugging Face hub."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["save_clap", "save_clip"]

# The 256 bytes as the letters that byte-level vocabularies write them with (GPT-2).
_PLAIN = [*range(33, 127), *range(161, 173), *range(174, 256)]
_REST = [byte for byte in range(256) if byte not in _PLAIN]
LETTERS = [chr(c) for c in _PLAIN] + [chr(256 + n) for n in range(len(_REST))]


def save_clip(
    folder: Path, *, patch: int = 16, width: int = 512, seed: int = 0, tokenizer: bool = True
) -> Path:
    """Saves a CLIP of two narrow layers a tower that takes 224 x 224 pixels."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    merges = ["t h", "th e</w>", "p h"]
    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    tokens += [merge.replace(" ", "") for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 2, "projection_dim": width}
    text = {"vocab_size": len(tokens), "bos_token_id": len(tokens) - 2}
    text |= {"eos_token_id": len(tokens) - 1, "pad_token_id": len(tokens) - 1}
    config = CLIPConfig(
        text_config=small | text,
        vision_config=small | {"patch_size": patch, "image_size": 224},
        projection_dim=width,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(config)
        _stir(model)
    model.save_pretrained(folder)
    if tokenizer:
        _save_vocabulary(folder, tokens, merges)
    return folder


def save_clap(
    folder: Path,
    *,
    fusion: bool = True,
    hidden: int = 128,
    seed: int = 0,
    tokenizer: bool = True,
    safetensors: bool = True,
) -> Path:
    """Saves a CLAP with one layer a stage; its last map is ``hidden`` wide."""
    import torch
    from transformers import ClapConfig, ClapModel

    tokens = ["<s>", "<pad>", "</s>", "<unk>", *LETTERS, "<mask>"]
    config = ClapConfig(
        text_config={
            "vocab_size": len(tokens),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 90,
        },
        audio_config={
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 1, 1, 2],
            "patch_embeds_hidden_size": hidden // 8,
            "hidden_size": hidden,
            "enable_fusion": fusion,
            "fusion_type": "aff_2d" if fusion else None,
        },
        projection_dim=512,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ClapModel(config)
        _stir(model)
    if safetensors:
        model.save_pretrained(folder)
    else:
        config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    if tokenizer:
        _save_vocabulary(folder, tokens, [])
    return folder


def _stir(model) -> None:
    """Makes the first random weights larger, so that inputs differ visibly in the outputs."""
    import torch

    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)


def _save_vocabulary(folder: Path, tokens: list[str], merges: list[str]) -> None:
    vocabulary = {token: n for n, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
