"""Segment logits of class prompts, and the pseudo labels that VALOR reads from them.

A logit is the model's scale times the cosine of a segment's embedding with a prompt's, as in
transformers' ``logits_per_image`` and ``logits_per_audio``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from features.backbones.weights import WeightChoice
from features.derived import Derived, DerivedKey, find_or_make
from features.store import FeatureInfo, Store
from features.text import ClassPrompts, TextEmbeddings, checkpoint, embed_texts
from pipeline.errors import UserError
from pipeline.files import object_digest
from pipeline.manifest import Manifest
from pipeline.manifest import Row as ManifestRow
from pipeline.progress import Advance

__all__ = [
    "FEATURES",
    "derive_logits",
    "derive_prompts",
    "derive_valor_labels",
    "rows_of_split",
    "segment_logits",
]

FEATURES = {"visual": "clip_vit_l14", "audio": "clap"}
"""The feature that logits are computed from by default, by modality."""

_ARTEFACTS = {"visual": "clip_logits", "audio": "clap_logits"}
_ROWS = 1024
"""Clips read at a time, so that memory does not grow with the corpus."""


def segment_logits(x: np.ndarray, prompts: TextEmbeddings) -> np.ndarray:
    """Logits of every segment for every prompt.

    Args:
        x: (..., D) embeddings of segments, of any length but zero.
        prompts: P prompts.

    Returns:
        (..., P) float32; 0 for an embedding of length zero.
    """
    segments = x.astype(np.float64)
    length = np.linalg.norm(segments, axis=-1, keepdims=True)
    cosine = (segments / np.where(length > 0, length, 1.0)) @ prompts.x.T.astype(np.float64)
    return (prompts.scale * cosine).astype(np.float32)


def derive_prompts(
    store: Store,
    family: str,
    weights: WeightChoice,
    prompts: ClassPrompts,
    *,
    device: str = "cpu",
) -> tuple[Derived, TextEmbeddings]:
    """The embeddings of class prompts, from the store's artefacts where they have been made.

    Args:
        store: Where artefacts are kept.
        family: One of `features.text.MODELS`.
        weights: Which weights.
        prompts: C prompts.
        device: Where the text tower runs.

    Returns:
        The artefact ``prompt_embeddings`` (id: class; ``x`` (C, D), ``scale`` (C,)), and what it
        holds.

    Raises:
        UserError: If weights or tokenizer are not there or are another model's.
    """
    key = DerivedKey(
        "prompt_embeddings",
        inputs={"model": family, "weights": checkpoint(family, weights).digest()},
        method="text tower and projection, of length 1, padded to 77 tokens; 1",
        options={"classes": list(prompts.classes), "texts": list(prompts.texts)},
    )

    def make() -> Derived:
        texts = embed_texts(family, weights, prompts.texts, device=device)
        scale = np.full(len(prompts.texts), texts.scale)
        return Derived(key, prompts.classes, {"x": texts.x, "scale": scale})

    artefact = find_or_make(store.path, key, make)
    scale = float(artefact.arrays["scale"][0])
    return artefact, TextEmbeddings(prompts.texts, artefact.arrays["x"], scale)


def derive_logits(
    store: Store,
    manifest: Manifest,
    rows: Sequence[ManifestRow],
    modality: str,
    *,
    weights: WeightChoice,
    prompts: ClassPrompts,
    feature: str | None = None,
    device: str = "cpu",
    progress: Advance | None = None,
) -> Derived:
    """Segment logits of some rows, from the store's artefacts where they have been made.

    Args:
        store: Where features and artefacts are.
        manifest: The rows' manifest.
        rows: Rows; those without the feature (no sound, say) are left out.
        modality: ``"visual"`` (CLIP) or ``"audio"`` (CLAP).
        weights: Those that the feature was extracted with.
        prompts: C prompts.
        feature: The feature's name or label; default that of `FEATURES`.
        device: Where the text tower runs.
        progress: Told of every row.

    Returns:
        The artefact ``clip_logits`` or ``clap_logits``: ``logits`` (N, T, C) float32.

    Raises:
        UserError: If the feature is not there or of other weights, or clips differ in length.
    """
    info = store.find(feature or FEATURES[modality])
    family = info.name.split(".")[0]
    _check_weights(info, family, weights)
    artefact, texts = derive_prompts(store, family, weights, prompts, device=device)
    if info.shape != texts.x.shape[1:]:
        raise UserError(
            f"The steps of {info.label} have shape {info.shape}, but the prompts of {family} have "
            f"{texts.x.shape[1]} values; choose an embedding with --feature."
        )
    usable = _with_feature(store, info, manifest, rows)
    if progress is not None:
        progress.advance("skipped", len(rows) - len(usable))
    key = DerivedKey(
        _ARTEFACTS[modality],
        inputs={
            "feature": info.label,
            "prompts": artefact.key.label,
            "dataset": manifest.header.dataset,
            "rows": object_digest([[row.id, row.start, row.end] for row in usable], 32),
        },
        method="scale times cosine; 1",
        options={"classes": list(prompts.classes)},
    )

    def make() -> Derived:
        parts = []
        for begin in range(0, len(usable), _ROWS):
            part = usable[begin : begin + _ROWS]
            parts.append(segment_logits(store.read(info, manifest, part).stacked(), texts))
            if progress is not None:
                progress.advance(n=len(part))
        if len({part.shape[1:] for part in parts}) > 1:
            raise UserError(
                f"The rows of {info.label} differ in length; cut the clips of the manifest to "
                "equal length."
            )
        return Derived(key, tuple(row.id for row in usable), {"logits": np.concatenate(parts)})

    return find_or_make(store.path, key, make)


def derive_valor_labels(
    store: Store,
    manifest: Manifest,
    rows: Sequence[ManifestRow],
    logits: Mapping[str, Derived],
    prompts: Mapping[str, ClassPrompts],
) -> Derived:
    """VALOR's segment pseudo labels, y(c) [logit(t, c) > threshold(c)] (Lai et al. 2023).

    The sound that counts is the one that a row carries: with noisy correspondence that is another
    row's.

    Args:
        store: Where artefacts are kept.
        manifest: The rows' manifest, whose labels are y.
        rows: Rows; those that lack logits of a modality are left out.
        logits: ``"visual"`` and ``"audio"``: what `derive_logits` gave.
        prompts: By modality the prompts with thresholds that the logits are of.

    Returns:
        The artefact ``valor_labels``: ``audio`` and ``visual`` (N, T, C) uint8.

    Raises:
        UserError: If no row has both, or they differ in their number of segments.
    """
    heard, seen = set(logits["audio"].ids), set(logits["visual"].ids)
    usable = [row for row in rows if row.id in seen and row.audio_id in heard]
    if not usable:
        raise UserError("No row has logits of both modalities; extract both features first.")
    key = DerivedKey(
        "valor_labels",
        inputs={
            "manifest": manifest.content_digest(),
            "rows": object_digest([row.id for row in usable], 32),
            **{modality: artefact.key.label for modality, artefact in sorted(logits.items())},
        },
        method="label and logit above threshold; 1",
        options={
            m: dict(zip(p.classes, p.thresholds or (), strict=True)) for m, p in prompts.items()
        },
    )

    def make() -> Derived:
        arrays = {}
        for modality, artefact in logits.items():
            ids = [row.id if modality == "visual" else row.audio_id for row in usable]
            values = artefact.arrays["logits"][artefact.select(ids)]  # (N, T, C)
            above = values > np.array(prompts[modality].thresholds)
            labels = manifest.label_matrix(usable, modality)  # (N, C)
            arrays[modality] = (above & labels[:, None]).astype(np.uint8)
        if arrays["audio"].shape != arrays["visual"].shape:
            raise UserError(
                f"Sound has {arrays['audio'].shape[1]} segments a clip and pictures have "
                f"{arrays['visual'].shape[1]}; extract both features with the same hop."
            )
        return Derived(key, tuple(row.id for row in usable), arrays)

    return find_or_make(store.path, key, make)


def rows_of_split(manifest: Manifest, splits: Sequence[str]) -> list[ManifestRow]:
    """The rows of some splits and those whose sound they carry, in file order.

    Raises:
        UserError: If a split has no rows.
    """
    for name in splits:
        if not manifest.split(name):
            there = ", ".join(sorted({row.split for row in manifest.rows}))
            raise UserError(
                f"The manifest {manifest.path} has no rows of split {name!r}; choose from {there}."
            )
    chosen = manifest.split(*splits)
    wanted = {row.id for row in chosen} | {row.audio_id for row in chosen}
    return [row for row in manifest.rows if row.id in wanted]


def _with_feature(
    store: Store, info: FeatureInfo, manifest: Manifest, rows: Sequence[ManifestRow]
) -> list[ManifestRow]:
    """Rows that have the feature, told from the index without reading a value."""
    index = store.index(info.folder.name)
    usable, absent = [], []
    for row, media in zip(rows, store.media(info, manifest, rows), strict=True):
        place = None if index is None else index.find(media, row.start, row.end)
        if place is None:
            absent.append(row)
        elif place[1] not in place[0].failures:
            usable.append(row)
    if absent:
        # Never extracted, which the store explains; failing and being absent are two things.
        store.read(info, manifest, absent)
    if not usable:
        raise UserError(
            f"None of {len(rows)} rows has {info.name}; see why with python -m features ls "
            f"{store.path}."
        )
    return usable


def _check_weights(info: FeatureInfo, family: str, weights: WeightChoice) -> None:
    """Prompts and segments meet only in the space of one and the same model."""
    if info.imported:
        return
    made = _weights_of(info.values)
    given = checkpoint(family, weights).digest()
    if made != given:
        raise UserError(
            f"The feature {info.label} was made with the weights {made}, but those given are "
            f"{given}; pass the same with --weights {family}=FOLDER."
        )


def _weights_of(values: Mapping) -> str | None:
    """The weights in a feature's spec, or in that of the feature it was computed from."""
    own = values.get("feature", {}).get("weights")
    source = values.get("media", {}).get("spec")
    return _weights_of(source) if own is None and source is not None else own
