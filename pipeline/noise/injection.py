"""From a manifest to a noisy one, with a record of what was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import object_digest
from pipeline.manifest import Manifest, Row, write_manifest
from pipeline.noise.belonging import check_belongs, check_free, corpus_keys, overlap, truth_of
from pipeline.noise.correspondence import Correspondence
from pipeline.noise.pool import append_pool
from pipeline.noise.rates import Nominal
from pipeline.noise.streams import VERSION, Streams
from pipeline.noise.training import Change, Kind, Task, Training
from pipeline.noise.truth import Truth, truth_path, update, write_truth

__all__ = ["Injection", "inject", "write_noisy"]


@dataclass(frozen=True)
class Injection:
    """A manifest made noisy, not yet written.

    Attributes:
        manifest: The noisy manifest; its path is still the parent's.
        truth: Originals of all changed rows, by id, of earlier noise too.
        note: What the user should know, or "".
    """

    manifest: Manifest
    truth: Truth
    note: str = ""

    @property
    def entry(self) -> Mapping[str, Any]:
        """What the header records of this noise: the last entry of its ``noise``."""
        return self.manifest.header.noise[-1]


def inject(
    manifest: Manifest,
    kind: Kind,
    *,
    rate: float | None = None,
    rates: Mapping[str, float] | None = None,
    seed: int = 0,
    pool: Manifest | None = None,
    truth: Truth | None = None,
) -> Injection:
    """Makes the training rows of a manifest noisy; all other rows stay.

        inject(read_manifest("clean.jsonl"), Symmetric(), rate=0.4, seed=0)

    Equal content, kind, options and seed meet the same noise in whatever order the rows stand, and
    what a rate changes a higher one changes too (donors inside the training set excepted).

    Args:
        manifest: The parent, clean or noisy.
        kind: Such as ``Symmetric(inclusive=True)``.
        rate: Share of the training rows, 0 to 1; with ``rates``, for the classes left out there.
        rates: Share by class.
        seed: Names the noise; no training seed.
        pool: Lends audio, for ``Correspondence(donors="external")``.
        truth: The parent's truth; default: the file beside it, where there is one.

    Raises:
        UserError: If kind, options, rates, truth and manifest do not fit together.
    """
    seed = _check(manifest, kind, seed)
    options = kind.options(manifest.classes)
    parent = manifest.content_digest()
    truth = _parent_truth(manifest, truth)
    if pool is not None:
        if not (isinstance(kind, Correspondence) and kind.donors == "external"):
            raise UserError(
                "A pool serves --kind correspondence --donors external only; leave it out."
            )
        options["pool"] = pool.content_digest()
        manifest = append_pool(manifest, pool)
    training = Training(manifest)
    if not len(training):
        raise UserError("The manifest has no training rows to make noisy; check its splits.")
    asked = kind.default_rate if rate is None and rates is None else rate
    nominal = Nominal.make(asked, rates, manifest.classes)
    order = object_digest(list(manifest.classes))
    streams = Streams(kind.name, options, seed, parent)
    change = kind.draw(Task(training, nominal, streams, Streams(kind.name, options, seed, order)))
    corpus = corpus_keys(manifest, truth)
    rows, truth = _apply(training, change, truth, corpus)
    name = [VERSION, kind.name, options, nominal.rate, nominal.by_class, seed, parent, order]
    entry = {
        "id": object_digest(name),
        "kind": kind.name,
        "options": options,
        **_figures(training, nominal, change),
        "classes": len(manifest.classes),
        "class_order": order,
        "seed": seed,
        "parent": parent,
        **change.details,
    }
    noise = (*manifest.header.noise, entry)
    if {Correspondence.name} < {n.get("kind") for n in noise}:
        entry["overlap"] = overlap([rows[n] for n in training.positions], truth, corpus)
    if corpus:
        entry["corpus_truth"] = sorted(corpus)
    return Injection(manifest.with_rows(rows, noise=noise, parent=parent), truth, change.note)


def write_noisy(injection: Injection, out: Path | str) -> Path:
    """Writes a noisy manifest and its truth beside it.

    Raises:
        UserError: If a file of the parent or another manifest's truth would be overwritten, or
            one cannot be written.
    """
    out = Path(out)
    # Checked before anything is written, or a truth without its manifest would stay behind.
    for path in (out, truth_path(out)):
        if path.is_dir():
            raise UserError(f"{path} is a folder; give --out the name of a file.")
    parent = injection.manifest.path
    if parent is not None:
        taken = {path.resolve() for path in (parent, truth_path(parent))}
        for path in (out, truth_path(out)):
            if path.resolve() in taken:
                raise UserError(
                    f"Writing {out} would overwrite {path.name} of the manifest that it is made "
                    "from; give another name as --out."
                )
    check_free(out)
    write_truth(injection.truth, truth_path(out))
    write_manifest(injection.manifest, out)
    return out


def _check(manifest: Manifest, kind: Kind, seed: int) -> int:
    """Checks what fits together whatever the options are; returns the seed as Python's int."""
    label_type = manifest.header.label_type
    if label_type not in kind.label_types:
        raise UserError(
            f"--kind {kind.name} makes {' or '.join(kind.label_types)} manifests noisy and this "
            f"one is {label_type}; choose a kind that fits."
        )
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise UserError(f"--seed is {seed!r}; use a whole number from 0.")
    return int(seed)


def _parent_truth(manifest: Manifest, truth: Truth | None) -> Truth:
    """The truth that came with the parent."""
    if truth is not None:
        # An empty one says that what came before is to count as the original.
        if truth:
            check_belongs(truth, manifest)
        return truth
    truth = truth_of(manifest)
    if truth is None and manifest.header.noise:
        name = truth_path(manifest.path).name if manifest.path else ""
        raise UserError(
            f"The manifest is noisy already and its truth {name} is not beside it; put it there "
            "or begin with the clean manifest."
        )
    return truth or {}


def _apply(
    training: Training, change: Change, truth: Truth, corpus: frozenset[str]
) -> tuple[tuple[Row, ...], Truth]:
    """All rows with their new values, in file order, and the truth of the result."""
    changed: dict[int, dict[str, Any]] = {}
    for field, values in change.values.items():
        for n, value in values.items():
            changed.setdefault(n, {})[field] = value
    rows = list(training.manifest.rows)
    for n, values in changed.items():
        rows[training.positions[n]] = replace(training.rows[n], **values)
    before = {training.rows[n].id: training.rows[n] for n in changed}
    after = {training.rows[n].id: values for n, values in changed.items()}
    truth = update(truth, before, after, corpus)
    return tuple(rows), {row.id: truth[row.id] for row in rows if row.id in truth}


def _figures(training: Training, nominal: Nominal, change: Change) -> dict[str, Any]:
    """What was asked for and what came of it."""
    n, changed = len(training), int(change.changed.sum())
    shares = zip(training.classes, change.hit.tolist(), change.counted.tolist(), strict=True)
    figures: dict[str, Any] = {"rate": nominal.mean(change.counted)}
    if nominal.by_class is not None:
        figures["rates"] = dict(nominal.by_class)
    return figures | {
        "realised": {
            "overall": changed / n,
            "per_class": {name: hit / of if of else None for name, hit, of in shares},
        },
        "count": int(change.drawn.sum()),
        "changed": changed,
        "rows": n,
    }
