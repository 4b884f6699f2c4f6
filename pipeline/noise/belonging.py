"""Whether a truth belongs to a manifest, as far as rows and header can tell.

A truth is found by its name alone. Files are renamed, copied and written anew, so before it is used
it is held against the manifest beside it: what it says was changed must differ, and the number of
changed rows must be one that the header's noise can have left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import UserError
from pipeline.manifest import Manifest, Row
from pipeline.noise.kinds import KINDS
from pipeline.noise.truth import FIELDS, Truth, differs, read_truth, truth_path

__all__ = ["check_belongs", "check_free", "corpus_keys", "overlap", "truth_of"]

MODALITY_FIELDS = ("labels_audio", "labels_visual")


def truth_of(manifest: Manifest) -> Truth | None:
    """Reads the truth beside a manifest; None where there is none.

    Raises:
        UserError: If it cannot be read, or is that of another manifest.
    """
    path = None if manifest.path is None else truth_path(manifest.path)
    if path is None or not path.is_file():
        return None
    truth = read_truth(path)
    check_belongs(truth, manifest)
    return truth


def check_belongs(truth: Truth, manifest: Manifest) -> None:
    """Refuses the truth of another manifest.

    Without noise in the header a truth is the corpus's own, of which only the rows are checked.

    Raises:
        UserError: Names both and what tells them apart.
    """
    why = _missing(truth, manifest)
    if why is None and manifest.header.noise:
        corpus = corpus_keys(manifest, truth)
        why = _unchanged(truth, manifest, corpus) or _miscounted(truth, manifest, corpus)
    if why is not None:
        name = manifest.path.name if manifest.path else "the manifest"
        beside = truth_path(manifest.path).name if manifest.path else "given"
        raise UserError(
            f"The truth {beside} does not fit {name}: {why}; write the noise again, to a file of "
            "its own."
        )


def corpus_keys(manifest: Manifest, truth: Truth) -> frozenset[str]:
    """Keys that the corpus states by itself: those of the truth of a manifest without noise."""
    if manifest.header.noise:
        return frozenset(manifest.header.noise[-1].get("corpus_truth", ()))
    return frozenset(key for entry in truth.values() for key in entry) - {"id"}


def overlap(rows: Sequence[Row], truth: Truth, corpus: frozenset[str]) -> dict[str, int]:
    """Training rows with a wrong label, a foreign audio, both or neither.

    Wrong is what differs from the oldest original, so a row that was changed back is clean here
    although it counts in the realised rate of the noise that changed it back.
    """
    fields = ["labels", *(f for f in MODALITY_FIELDS if f not in corpus)]
    flipped, altered = differs(rows, truth, fields), differs(rows, truth, ["audio_id"])
    cells = {
        "both": flipped & altered,
        "flipped": flipped & ~altered,
        "altered": ~flipped & altered,
        "neither": ~flipped & ~altered,
    }
    return {name: int(np.count_nonzero(cell)) for name, cell in cells.items()}


def check_free(out: Path) -> None:
    """Refuses a manifest whose truth would be that of another one in the same folder too.

    Raises:
        UserError: If names differ only after the last dot, or the name is that of a truth.
    """
    if out.name.endswith(".truth.jsonl"):
        raise UserError(
            f"{out.name} is named as the truth of a manifest; give --out a name that does not end "
            "in .truth.jsonl."
        )
    if not out.parent.is_dir():
        return
    for path in sorted(out.parent.iterdir()):
        if path.name != out.name and truth_path(path) == truth_path(out) and _is_manifest(path):
            other = out.with_name(f"{out.name}.jsonl")
            if out.suffix == ".jsonl" or other.exists():
                other = out.with_name(f"{out.stem}-noisy.jsonl")
            raise UserError(
                f"{out.name} would share the truth {truth_path(out).name} with {path.name}; give "
                f"another --out, such as {other.name}."
            )


def _is_manifest(path: Path) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            header = json.loads(file.readline())
    except (OSError, ValueError):
        return False
    return isinstance(header, dict) and "manifest" in header


def _missing(truth: Truth, manifest: Manifest) -> str | None:
    """What of a truth is unknown to the manifest: a row, or a class."""
    known = set(manifest.classes)
    for row_id, entry in truth.items():
        if row_id not in manifest:
            return f"it names the row {row_id!r}, which the manifest does not have"
        for field in FIELDS:
            if field == "audio_id":
                continue
            for label in entry.get(field, ()):
                if label not in known:
                    return f"it gives the row {row_id!r} the label {label!r}, which is no class"
    return None


def _unchanged(truth: Truth, manifest: Manifest, corpus: frozenset[str]) -> str | None:
    """The first row that is as it was before any noise, although the truth says it was changed."""
    for row_id, entry in truth.items():
        row = manifest[row_id]
        for field in FIELDS:
            if field not in entry or field in corpus:
                continue
            if not differs([row], {row_id: {field: entry[field]}}, [field])[0]:
                return f"it says that {field} of the row {row_id!r} was changed, which it was not"
    return None


def _miscounted(truth: Truth, manifest: Manifest, corpus: frozenset[str]) -> str | None:
    """How many rows were changed, where the header's noise cannot have left that number."""
    noise, rows = manifest.header.noise, manifest.split("train")
    if "overlap" in noise[-1]:
        told, found = noise[-1]["overlap"], overlap(rows, truth, corpus)
        for name, count in found.items():
            if count != told.get(name):
                return f"by it {count} training rows are {name}, by the header {told.get(name)}"
    if any("changed" not in entry or entry.get("kind") not in KINDS for entry in noise):
        return None
    # A kind that touches several of these always changes the first one that it touches.
    for fields in (("audio_id",), ("labels",), ("labels", *MODALITY_FIELDS)):
        if not corpus.isdisjoint(fields):
            continue
        kinds = [n for n in noise if not set(fields).isdisjoint(KINDS[n["kind"]].touches)]
        counts = [entry["changed"] for entry in kinds]
        found = int(np.count_nonzero(differs(rows, truth, fields)))
        # What one noise alone changed stays changed; what two did may be back to its original.
        most = sum(counts)
        least = max(0, 2 * max(counts, default=0) - most)
        if not least <= found <= most:
            span = f"{most}" if least == most else f"{least} to {most}"
            return f"it changes {fields[0]} of {found} training rows, the header's noise {span}"
    return None
