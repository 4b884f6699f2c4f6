"""Requests: names, options and weights as a user writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.extraction import parse_options, parse_weights
from features.requests import make_requests
from pipeline.errors import UserError


def test_options():
    texts = ["resnet152.frames.frame_rate=4", "vggish.activation=none", "vggish.pca=a=b.npz"]
    assert parse_options(texts) == {
        "resnet152.frames": {"frame_rate": "4"},
        "vggish": {"activation": "none", "pca": "a=b.npz"},
    }
    for text in ("vggish=none", "activation", "vggish.activation="):
        with pytest.raises(UserError, match=r"NAME\.OPTION=VALUE"):
            parse_options([text])


def test_options_of_a_network_reach_the_features_that_have_them():
    names = ["clap", "clap.map.pooled"]
    options = {"clap": {"hop": "2", "compute": "float16"}}
    requests = make_requests(names, random_weights=0, options=options)
    assert [dict(request.options) for request in requests] == [
        {"hop": 2.0, "compute": "float16"},
        {"compute": "float16"},
    ]
    with pytest.raises(UserError, match="hopp"):
        make_requests(names, random_weights=0, options={"clap": {"hopp": "2"}})


def test_weights():
    assert parse_weights(["a=x.pt", "b=y=z.pt"]) == {"a": Path("x.pt"), "b": Path("y=z.pt")}
    with pytest.raises(UserError, match="NAME=FILE"):
        parse_weights(["x.pt"])


def test_values_that_make_no_sense():
    for options in ({"preprocess": "vgg"}, {"frame_rate": 0}):
        (request,) = make_requests(
            ["squeezenet1_0"], random_weights=0, options={"squeezenet1_0": options}
        )
        with pytest.raises(UserError, match="make no sense"):
            request.build()
