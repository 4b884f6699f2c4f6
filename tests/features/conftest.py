"""Small films that the tests of features share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media import render_clip, sine


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    """Clips of three seconds, ``0`` to ``3``; ``mute`` has no sound, ``broken`` is no video."""
    folder = tmp_path_factory.mktemp("videos")
    for n in range(4):
        sound = sine(300.0 * (n + 1), 3.0, 16000)
        render_clip(folder / f"{n}.mp4", seconds=3.0, rate=8, audio=sound)
    render_clip(folder / "mute.mp4", seconds=3.0, rate=8)
    (folder / "broken.mp4").write_bytes(b"no film at all")
    return folder
