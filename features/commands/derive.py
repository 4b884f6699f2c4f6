"""Compute logits of class prompts or VALOR's pseudo labels from CLIP and CLAP features."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli import DONE, PARTIAL
from pipeline.errors import UserError
from pipeline.files import store_dir
from pipeline.progress import Progress

if TYPE_CHECKING:
    from features.derived import Derived
    from features.store import Store
    from features.text import ClassPrompts
    from pipeline.manifest import Manifest, Row

__all__ = ["add", "run"]

ARTEFACTS = {
    "clip-logits": ("visual",),
    "clap-logits": ("audio",),
    "valor-labels": ("visual", "audio"),
}


def add(parser: ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("artefact", choices=tuple(ARTEFACTS), help="what to compute")
    parser.add_argument("--manifest", type=Path, required=True, metavar="M", help="the manifest")
    parser.add_argument("--store", type=Path, default=store_dir(), metavar="S", help="the store")
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="NAME=FOLDER",
        help="folders of weights with tokenizer (default: the hub's cache)",
    )
    parser.add_argument(
        "--features",
        nargs="+",
        default=[],
        metavar="ROLE=NAME",
        help="features to take (default: visual=clip_vit_l14 audio=clap)",
    )
    parser.add_argument(
        "--split", nargs="+", default=["train"], metavar="SPLIT", help="rows of these splits"
    )
    parser.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="JSON table of a prompt for every class (default: VALOR's for LLP's classes)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        choices=("auto", "cpu", "cuda"),
        help="where the text tower runs",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write a copy of the artefact here"
    )


def run(options: Namespace) -> int:
    """Finds or makes the artefact and says where it is; exit code 2 if rows had to be left out."""
    from features.derived import write_derived
    from features.logits import derive_valor_labels, rows_of_split
    from features.store import Store
    from pipeline.manifest import read_manifest

    manifest, store = read_manifest(options.manifest), Store(options.store)
    modalities = ARTEFACTS[options.artefact]
    if options.prompts is not None and options.artefact == "valor-labels":
        raise UserError(
            "VALOR's thresholds hold for its own prompts only; leave out --prompts, or derive "
            "clip-logits and clap-logits."
        )
    rows = rows_of_split(manifest, options.split)
    prompts = {m: _prompts(options, manifest, m) for m in modalities}
    logits = {m: _logits(options, store, manifest, rows, m, prompts[m]) for m in modalities}
    artefact = logits[modalities[0]]
    if options.artefact == "valor-labels":
        rows = list(manifest.split(*options.split))
        artefact = derive_valor_labels(store, manifest, rows, logits, prompts)
    path = artefact.key.path(store.path)
    if options.out is not None:
        path = write_derived(options.out, artefact)
    left_out = len(rows) - len(artefact.ids)
    shapes = ", ".join(f"{name} {array.shape}" for name, array in artefact.arrays.items())
    print(f"{path}: {len(artefact.ids)} rows, {shapes}")
    if left_out:
        print(f"{left_out} rows without features were left out")
    return PARTIAL if left_out else DONE


def _prompts(options: Namespace, manifest: Manifest, modality: str) -> ClassPrompts:
    from features.text import read_prompts, valor_prompts

    if options.prompts is not None:
        return read_prompts(options.prompts, manifest.classes)
    return valor_prompts(manifest.classes, modality)


def _logits(
    options: Namespace,
    store: Store,
    manifest: Manifest,
    rows: list[Row],
    modality: str,
    prompts: ClassPrompts,
) -> Derived:
    from features.backbones.weights import WeightChoice
    from features.logits import FEATURES, derive_logits
    from features.planning import choose_device
    from features.text import MODELS

    chosen = _assigned(options.features, "--features", FEATURES)
    feature = chosen.get(modality, FEATURES[modality])
    folders = _assigned(options.weights, "--weights", MODELS)
    family = next((name for name in MODELS if feature.startswith(name)), feature)
    with Progress(len(rows), f"{modality} logits", unit="rows") as progress:
        return derive_logits(
            store,
            manifest,
            rows,
            modality,
            weights=WeightChoice(folders.get(family)),
            prompts=prompts,
            feature=feature,
            device=choose_device(options.device),
            progress=progress,
        )


def _assigned(texts: Sequence[str], option: str, known: Mapping[str, Any]) -> dict[str, str]:
    """``KEY=VALUE`` arguments as a table."""
    table = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not value or key not in known:
            raise UserError(
                f"{option} takes KEY=VALUE with a key out of {', '.join(known)}, not {text!r}."
            )
        table[key] = value
    return table
