"""What a decode pass gives to every backbone: blocks, shared frames, sound in time."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from features.backbones.interface import Backbone
from features.decoding import Block, Failed, Part, Tools, passes, read_clip, time_limit
from pipeline.decode import open_decoder, read_audio
from pipeline.errors import MediaError
from pipeline.grid import BLOCK, SegmentGrid
from pipeline.stages import StageClock
from tests.features.misbehaving import Cuts, Overlapping, Windows
from tests.media import render_clip

SECONDS = 75.0


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> str:
    """A minute and a quarter: three blocks of seconds, two pieces of sound."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, round((SECONDS + 1) * 11025))
    return str(
        render_clip(
            tmp_path_factory.mktemp("long") / "long.mkv",
            seconds=SECONDS + 1.0,
            rate=4,
            audio=noise.astype(np.float32),
            audio_rate=11025,
            audio_codec="pcm_s16le",
        )
    )


def read(film: str, *backbones: Backbone, end: float = SECONDS) -> dict[str, list[Part]]:
    parts: dict[str, list[Part]] = defaultdict(list)
    for part in read_clip(film, 0.0, end, backbones, Tools(open_decoder())):
        parts[part.feature].append(part)
    return parts


def steps(backbone: Backbone, blocks: list[Part]) -> np.ndarray:
    return np.concatenate([backbone.compute(block.clip) for block in blocks])


class TestBlocks:
    @pytest.mark.parametrize("backbone", [Overlapping(), Windows()], ids=lambda b: b.name)
    def test_pictures_of_blocks_are_those_of_the_whole(self, film, backbone):
        blocks = read(film, backbone)[backbone.name]
        assert [block.number for block in blocks] == list(range(len(blocks)))
        assert len(blocks) == (3 if backbone.name == "test.overlapping" else 5)
        assert max(block.clip.segments for block in blocks) <= BLOCK
        moments = backbone.grid.frame_times(0.0, SECONDS)
        expected = np.empty((*moments.shape, 3), dtype=np.float32)
        for place in np.ndindex(moments.shape):
            ((_, frame),) = open_decoder().frames(film, moments[place][None])
            expected[place] = backbone.prepare(frame).reshape(-1, 3).mean(axis=0)
        np.testing.assert_allclose(
            steps(backbone, blocks), expected.mean(axis=1), rtol=0, atol=1e-3
        )

    def test_sound_of_blocks_is_that_of_the_whole_to_the_bit(self, film):
        backbone = Cuts()
        blocks = read(film, backbone)[backbone.name]
        assert len(blocks) == 4
        longest = max(len(block.clip.waveform) for block in blocks) / backbone.audio_rate
        assert longest < (BLOCK + 1) * 0.7 + 1.1
        first, last = backbone.grid.extent(0.0, SECONDS)
        whole = read_audio(film, first, last, backbone.audio_rate)
        starts = [round(at * backbone.audio_rate) for at in backbone.grid.starts(0.0, SECONDS)]
        expected = np.zeros((len(starts), 12000), dtype=np.float32)
        for row, start in zip(expected, starts, strict=True):
            part = whole[start : start + 12000]
            row[: len(part)] = part
        np.testing.assert_array_equal(steps(backbone, blocks), expected[:, ::600])

    def test_a_row_of_one_block_is_one_block(self, film):
        for backbone in (Overlapping(), Cuts()):
            (block,) = read(film, backbone, end=20.0)[backbone.name]
            assert block.clip.segments == backbone.grid.count(0.0, 20.0)

    def test_features_together_get_what_each_gets_alone(self, film):
        together = read(film, Overlapping(), Cuts(), Windows())
        for backbone in (Overlapping(), Cuts(), Windows()):
            alone = read(film, backbone)[backbone.name]
            np.testing.assert_array_equal(
                steps(backbone, together[backbone.name]), steps(backbone, alone)
            )

    def test_failure_in_the_middle_comes_after_good_blocks(self, film):
        for backbone in (Overlapping(), Cuts()):
            parts = read(film, backbone, end=SECONDS + 20)[backbone.name]
            assert [type(part) for part in parts[:-1]] == [Block] * (len(parts) - 1)
            assert len(parts) > 1
            assert isinstance(parts[-1], Failed)
            assert parts[-1].error.status == "too_short"


class TestPasses:
    def test_one_for_all_pictures_and_one_for_each_kind_of_sound(self):
        shifted = Cuts()
        shifted.grid = SegmentGrid(hop=0.7, window=1.1, origin=0.5)
        both = Cuts(), Cuts()
        groups = passes([Overlapping(), *both, Windows(), shifted], 0.0, 10.0)
        assert [len(group) for group in groups] == [2, 2, 1]
        assert passes(both, 0.0, 0.1) == []

    def test_backbones_alike_share_the_resizing(self, film):
        counts = defaultdict(int)

        class Counting(Overlapping):
            def prepare(self, frame):
                counts[self.name] += 1
                return super().prepare(frame)

        one, two, other = Counting(), Counting(), Counting()
        for number, backbone in enumerate((one, two, other)):
            backbone.name = f"counting{number}"
        one.preparation = two.preparation = "small"
        parts = read(film, one, two, other, end=10.0)
        assert counts["counting0"] == counts["counting2"] > 0
        assert counts["counting1"] == 0
        np.testing.assert_array_equal(
            steps(one, parts["counting0"]), steps(other, parts["counting2"])
        )
        np.testing.assert_array_equal(
            steps(two, parts["counting1"]), steps(other, parts["counting2"])
        )


class TestLimits:
    def test_only_steps_under_way_are_watched(self, film):
        told: list[float | None] = []
        tools = Tools(open_decoder(), 30.0, expect=told.append)
        for _ in read_clip(film, 0.0, 5.0, [Overlapping(), Cuts()], tools):
            assert told[-1] is None
        limits = [limit for limit in told if limit is not None]
        assert told[::2] == limits
        assert max(limits) == 30.0
        assert 0.0 < min(limits) < 30.0

    def test_long_clips_have_more_time(self):
        assert time_limit(30.0, 5.0, 15.0) == 30.0
        assert time_limit(30.0, 60.0, 360.0) == 150.0
        assert time_limit(None, 0.0, 10.0) is None

    def test_stages_are_counted(self, film):
        clock = StageClock()
        with clock.running():
            read(film, Overlapping(), Cuts(), end=5.0)
        assert set(clock.seconds) == {"open", "decode", "sound", "resize"}

    def test_sound_that_is_no_number(self, film, monkeypatch):
        def silence(*args, **kwargs):
            yield np.zeros(11025 * 60, dtype=np.float32)
            yield np.full(11025 * 20, np.nan, dtype=np.float32)

        monkeypatch.setattr("features.decoding.read_audio_blocks", silence)
        *_, last = read(film, Cuts())["test.cuts"]
        assert isinstance(last, Failed)
        assert "no finite numbers" in last.error.reason

    def test_a_decoder_that_stops_early(self, film):
        class Early:
            def frames(self, path, times, *, timeout):
                yield slice(0, 3), np.zeros((96, 128, 3), dtype=np.uint8)

        (part,) = read_clip(film, 0.0, 5.0, [Overlapping()], Tools(Early()))
        assert isinstance(part, Failed)
        assert isinstance(part.error, MediaError)
        assert "stopped before" in part.error.reason
