"""What the tests of backbones share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.decode import open_decoder
from tests.media import render_clip, sine


@pytest.fixture(scope="package")
def film(tmp_path_factory) -> Path:
    """Two seconds of picture and sound."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return render_clip(path, seconds=2.0, rate=8, audio=sine(500.0, 2.0, 16000))


@pytest.fixture(scope="package")
def frames(film: Path) -> list[np.ndarray]:
    """Sixteen frames of the film, spread evenly."""
    times = (np.arange(16) + 0.5) / 8
    return [frame for _, frame in open_decoder().frames(film, times)]
