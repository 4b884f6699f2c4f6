"""Weights and the features they are given: of one kind and one width, or a sentence."""

from __future__ import annotations

import pytest

from pipeline.errors import UserError
from trainers.checkpoints import check_widths

SAVED = {
    "features": {"audio": "vggish-1", "visual": "resnet152-2", "motion": "r2plus1d_18-3"},
    "widths": {"audio": 128, "visual": 2048, "motion": 512},
}


def test_features_of_the_same_roles_and_widths_fit() -> None:
    check_widths(SAVED, {"visual": 2048, "audio": 128, "motion": 512})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"audio": 128, "visual": 512, "motion": 512},
            r"read visual features 2048 wide \(resnet152-2\) and the store's are 512 wide",
        ),
        (
            {"audio": 128, "visual": 2048},
            r"trained with motion features \(r2plus1d_18-3\); add --features motion=NAME",
        ),
        (
            {"audio": 128, "visual": 2048, "motion": 512, "depth": 3},
            "trained without depth features; leave depth=NAME out",
        ),
    ],
)
def test_others_end_with_one_sentence(given: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_widths(SAVED, given)


def test_weights_that_read_no_features_fit_any() -> None:
    check_widths({"features": {}, "widths": {"audio": 0, "visual": 0}}, {"audio": 128})
