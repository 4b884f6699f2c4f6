"""Weights and the features they are given: of one kind and one width, or a sentence."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import UserError
from trainers.checkpoints import check_widths, say_other_features

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


class _Store:
    """Finds every feature, with a spec id of its own where none is named."""

    def find(self, name: str) -> Any:
        return SimpleNamespace(label=name if name[-13:-12] == "-" else f"{name}-{'0' * 12}")


@pytest.mark.parametrize(
    ("trained", "given", "said"),
    [
        ("sound-" + "0" * 12, "sound", ""),
        ("sound-" + "a" * 12, "sound-" + "a" * 12, ""),
        ("vggish", "clap", ""),
        (
            "sound-" + "a" * 12,
            "sound",
            f"these weights were trained on audio=sound-{'a' * 12} and are given "
            f"audio=sound-{'0' * 12}; what they predict from other features means little\n",
        ),
    ],
)
def test_features_that_weights_were_not_trained_on_are_told(
    trained: str, given: str, said: str, capsys: pytest.CaptureFixture
) -> None:
    saved = {"features": {"audio": trained, "visual": "sight-" + "0" * 12}}
    say_other_features(saved, {"audio": given, "visual": "sight"}, _Store())  # type: ignore[arg-type]
    assert capsys.readouterr().err == said
