"""Wrong classes: counts, values, nesting, and what is refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.noise import Asymmetric, Symmetric, Transition, inject
from pipeline.noise.rates import whole
from tests.noisy import labels_of, make_manifest, names

SOFT = np.array([[0.7, 0.2, 0.1, 0.0], [0.1, 0.8, 0.0, 0.1], [0, 0, 1, 0], [0.3, 0.3, 0.2, 0.2]])
KINDS = [
    Symmetric(),
    Symmetric(inclusive=True),
    Asymmetric(),
    Asymmetric(flip="cycle"),
    Asymmetric(flip="half"),
    Asymmetric(flip="custom", map={"z0": "y1", "x2": "y1"}),
    Transition(matrix=SOFT),
]
EXACT = [Symmetric(), Asymmetric(), Asymmetric(flip="cycle")]
RATES = st.floats(0, 1)
BY_NAME = {"argvalues": KINDS, "ids": [f"{k.name}-{n}" for n, k in enumerate(KINDS)]}


def changes(manifest: Any, noisy: Any) -> dict[str, tuple[str, str]]:
    """Old and new class of rows that changed."""
    old, new = labels_of(manifest), labels_of(noisy)
    return {i: (old[i][0], new[i][0]) for i in old if old[i] != new[i]}


@pytest.mark.parametrize("kind", EXACT, ids=lambda k: f"{k.name}-{getattr(k, 'flip', '')}")
@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 60), k=st.integers(2, 6), rate=RATES, seed=st.integers(0, 99))
def test_exactly_m_rows_change(kind: Any, n: int, k: int, rate: float, seed: int) -> None:
    manifest = make_manifest(n, k, seed=seed)
    noisy = inject(manifest, kind, rate=rate, seed=seed)
    found = changes(manifest, noisy)
    assert len(found) == whole(rate, n) == noisy.entry["count"] == noisy.entry["changed"]
    assert noisy.entry["realised"]["overall"] == len(found) / n
    assert {new for _, new in found.values()} <= set(names(k))
    assert noisy.truth.keys() == found.keys()
    assert all(noisy.truth[i]["labels"] == [old] for i, (old, _) in found.items())


@pytest.mark.parametrize("kind", **BY_NAME)
@settings(max_examples=20, deadline=None)
@given(rates=st.tuples(RATES, RATES).map(sorted), seed=st.integers(0, 99))
def test_sets_and_values_nest_in_the_rate(kind: Any, rates: list[float], seed: int) -> None:
    manifest = make_manifest(50, 4, seed=seed)
    low, high = (changes(manifest, inject(manifest, kind, rate=r, seed=7)) for r in rates)
    assert low.items() <= high.items()


@pytest.mark.parametrize("kind", **BY_NAME)
def test_rate_zero_and_rate_one(kind: Any) -> None:
    manifest = make_manifest(50, 4)
    none = inject(manifest, kind, rate=0)
    assert none.manifest.rows == manifest.rows
    assert none.truth == {}
    every = inject(manifest, kind, rate=1.0)
    assert every.entry["count"] == 50
    if kind in EXACT:
        assert len(changes(manifest, every)) == 50


@pytest.mark.parametrize("kind", **BY_NAME)
def test_class_conditional_counts(kind: Any) -> None:
    manifest = make_manifest(200, 4)
    rates = dict(zip(names(4), (0.1, 0.2, 0.3, 0.4), strict=True))
    noisy = inject(manifest, kind, rates=rates)
    have = Counter(label for (label,) in labels_of(manifest).values())
    assert noisy.entry["count"] == sum(whole(rates[c], have[c]) for c in have)
    lost = Counter(old for old, _ in changes(manifest, noisy).values())
    for c in have:
        assert noisy.entry["realised"]["per_class"][c] == lost[c] / have[c]
        if kind in EXACT:
            assert lost[c] == whole(rates[c], have[c])
    assert noisy.entry["rates"] == rates
    assert noisy.entry["rate"] == pytest.approx(sum(rates[c] * have[c] for c in have) / 200)


def test_inclusive_keeps_one_in_k() -> None:
    manifest = make_manifest(6_000, 10)
    noisy = inject(manifest, Symmetric(inclusive=True), rate=0.5)
    expected = 0.5 * 0.9
    assert abs(noisy.entry["realised"]["overall"] - expected) < 4 * np.sqrt(0.5 * 0.09 / 6_000)


def test_new_classes_are_uniform_over_the_others() -> None:
    manifest = make_manifest(6_000, 5)
    found = Counter(changes(manifest, inject(manifest, Symmetric(), rate=1)).values())
    assert len(found) == 20
    assert max(abs(count - 300) for count in found.values()) < 75


def test_pairflip_is_the_next_class_in_header_order() -> None:
    manifest = make_manifest(60, 5)
    order = names(5)
    for old, new in changes(manifest, inject(manifest, Asymmetric(), rate=1)).values():
        assert order.index(new) == (order.index(old) + 1) % 5


def test_cycle_is_one_cycle_of_the_seed() -> None:
    kind = Asymmetric(flip="cycle")
    found = inject(make_manifest(60, 7), kind, rate=0.5, seed=3).entry["map"]
    steps, at = [], names(7)[0]
    for _ in range(7):
        at = found[at]
        steps.append(at)
    assert sorted(steps) == sorted(names(7))
    # The seed decides, not the rows.
    assert inject(make_manifest(20, 7, seed=5), kind, rate=0.1, seed=3).entry["map"] == found
    assert inject(make_manifest(60, 7), kind, rate=0.5, seed=4).entry["map"] != found


@pytest.mark.parametrize("k", [2, 3, 6, 7])
def test_half_maps_half_of_the_classes_one_to_one(k: int) -> None:
    manifest = make_manifest(400, k)
    noisy = inject(manifest, Asymmetric(flip="half"), rate=0.6)
    found = noisy.entry["map"]
    assert len(found) == k // 2 == len(set(found.values()))
    assert not found.keys() & set(found.values())
    old = labels_of(manifest)
    moved = changes(manifest, noisy)
    assert all(found[a] == b for a, b in moved.values())
    share = sum(label in found for (label,) in old.values()) / 400
    assert noisy.entry["count"] == 240
    assert abs(len(moved) / 400 - 0.6 * share) < 4 * np.sqrt(0.6 * share * (1 - share) / 400)
    exact = inject(manifest, Asymmetric(flip="half", half_exact=True), rate=0.2)
    assert exact.entry["changed"] == 80
    with pytest.raises(UserError, match=r"use a rate of at most 0\.\d+"):
        inject(manifest, Asymmetric(flip="half", half_exact=True), rate=0.9)


def test_custom_changes_mapped_classes_only() -> None:
    manifest = make_manifest(80, 4)
    mapping = {"z0": "y1", "x2": "y1"}
    found = changes(manifest, inject(manifest, Asymmetric(flip="custom", map=mapping), rate=1))
    old = labels_of(manifest)
    assert found.keys() == {i for i, (label,) in old.items() if label in mapping}
    assert all(mapping[a] == b for a, b in found.values())


def test_transition_follows_its_matrix() -> None:
    n = 6_000
    manifest = make_manifest(n, 4)
    old, new = labels_of(manifest), labels_of(inject(manifest, Transition(matrix=SOFT)))
    pairs = Counter((old[i][0], new[i][0]) for i in old)
    for a, name in enumerate(names(4)):
        have = sum(count for (c, _), count in pairs.items() if c == name)
        for b, other in enumerate(names(4)):
            p = SOFT[a, b]
            assert abs(pairs[name, other] / have - p) <= 4 * np.sqrt(p * (1 - p) / have)


def test_transition_records_what_its_matrix_states() -> None:
    manifest = make_manifest(200, 4)
    matrix = np.array([[1, 0, 0, 0], [0.1, 0.9, 0, 0], [0, 0, 0.7, 0.3], [0.25] * 4])
    noisy = inject(manifest, Transition(matrix=matrix))
    have = Counter(label for (label,) in labels_of(manifest).values())
    stated = dict(zip(names(4), (0, 0.1, 0.3, 0.75), strict=True))
    assert noisy.entry["nominal"]["per_class"] == stated
    overall = sum(stated[name] * have[name] for name in stated) / 200
    assert noisy.entry["nominal"]["overall"] == pytest.approx(overall)
    # The rate says how many rows are drawn; the id is made of that and the matrix.
    assert (noisy.entry["rate"], noisy.entry["count"]) == (1, 200)
    half = inject(manifest, Transition(matrix=matrix), rate=0.5).entry["nominal"]
    assert half["overall"] == pytest.approx(overall / 2)
    rates = dict(zip(names(4), (1, 0.5, 0, 0.2), strict=True))
    mixed = inject(manifest, Transition(matrix=matrix), rates=rates).entry["nominal"]
    assert mixed["per_class"] == pytest.approx({n: rates[n] * stated[n] for n in rates})


def test_the_id_of_transition_noise_stays() -> None:
    entry = inject(make_manifest(20, 4), Transition(matrix=SOFT), seed=2).entry
    assert entry["id"] == "d1b1deea5a7b"


def test_transition_with_identity_changes_nothing() -> None:
    manifest = make_manifest(50, 4)
    noisy = inject(manifest, Transition(matrix=np.eye(4)))
    assert noisy.manifest.rows == manifest.rows
    assert noisy.entry["count"] == 50
    assert noisy.entry["rate"] == 1


BAD = {
    "one class": (1, Symmetric(), "needs another class"),
    "flip": (4, Asymmetric(flip="pair"), "no flip 'pair'; did you mean 'pairflip'"),
    "map without custom": (4, Asymmetric(map={"z0": "y1"}), "belong together"),
    "custom without map": (4, Asymmetric(flip="custom"), "belong together"),
    "half-exact alone": (4, Asymmetric(half_exact=True), "belongs to --flip half"),
    "map to itself": (4, Asymmetric(flip="custom", map={"z0": "z0"}), "to itself"),
    "map of no class": (4, Asymmetric(flip="custom", map={}), "names no class, so no row can"),
    "map of nothing known": (4, Asymmetric(flip="custom", map={"z0": "q"}), "no class 'q'"),
    "no matrix": (4, Transition(), "needs --matrix"),
    "matrix of other size": (3, Transition(matrix=np.eye(4)), r"shape \(4, 4\), not \(3, 3\)"),
    "row sum": (
        2,
        Transition(matrix=np.array([[0.5, 0.5], [0.5, 0.4]])),
        "Row 'y1' of the transition matrix sums to 0.9, not 1",
    ),
    "negative": (2, Transition(matrix=np.array([[1.5, -0.5], [0, 1]])), "Row 'z0'.* holds -0.5"),
    "nan": (2, Transition(matrix=np.array([[1, 0], [np.nan, 1]])), "Row 'y1'.* holds nan"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused(case: str) -> None:
    classes, kind, message = BAD[case]
    with pytest.raises(UserError, match=message):
        inject(make_manifest(10, classes), kind, rate=0.5)


def test_half_exact_refuses_rates() -> None:
    with pytest.raises(UserError, match="exclude each other"):
        inject(
            make_manifest(10, 4),
            Asymmetric(flip="half", half_exact=True),
            rates=dict.fromkeys(names(4), 0.1),
        )


def test_label_type_is_checked() -> None:
    manifest = make_manifest(10, 4, label_type="multilabel")
    for kind in KINDS:
        with pytest.raises(UserError, match="multiclass manifests noisy and this one is multil"):
            inject(manifest, kind, rate=0.5)


@pytest.mark.parametrize("seed", [-1, 0.5, True])
def test_seed_is_checked(seed: Any) -> None:
    with pytest.raises(UserError, match="whole number"):
        inject(make_manifest(10, 4), Symmetric(), rate=0.5, seed=seed)


def test_training_rows_are_needed() -> None:
    with pytest.raises(UserError, match="no training rows"):
        inject(make_manifest(0, 4), Symmetric(), rate=0.5)
