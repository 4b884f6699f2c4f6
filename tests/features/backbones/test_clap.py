"""CLAP features: the front end, embeddings, the map and its reduction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from features.backbones import BACKBONES, Clip, WeightChoice
from features.backbones.clap import fill, front_end
from features.requests import make_requests
from pipeline.errors import UserError
from pipeline.mel import log_mel
from tests.features.models import save_clap, save_clip

RATE = 48000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_clap(tmp_path_factory.mktemp("clap") / "fused", hidden=768, tokenizer=False)


def extractor(*, fusion: bool):
    return transformers.ClapFeatureExtractor(
        frequency_min=50, truncation="fusion" if fusion else "rand_trunc"
    )


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """A chirp in noise, (n,) float32."""
    at = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(0, 0.05, len(at))
    return (0.4 * np.sin(2 * np.pi * (300 + 500 * seed + 900 * at) * at) + noise).astype(np.float32)


def build(name: str, weights: Path, **options):
    return BACKBONES.get(name)(weights=WeightChoice(str(weights)), **options)


def as_clip(waveform: np.ndarray, segments: int, hop: float = 1.0) -> Clip:
    return Clip(segments, waveform=waveform, starts=hop * np.arange(segments))


class TestFrontEnd:
    @pytest.mark.parametrize("fusion", [True, False])
    @pytest.mark.parametrize("seconds", [1.0, 3.3, 10.0])
    def test_is_that_of_transformers(self, fusion, seconds):
        waveform = sound(seconds)
        ours = log_mel(fill(waveform), front_end(fusion=fusion))
        theirs = extractor(fusion=fusion)(waveform, sampling_rate=RATE, return_tensors="np")
        mel = theirs["input_features"][0]  # (4 or 1, 1001, 64), of short sound all the same
        assert ours.shape == mel.shape[1:] == (1001, 64)
        np.testing.assert_allclose(ours, mel[0], atol=1e-4)
        assert (mel == mel[0]).all()

    def test_the_two_filter_banks_differ(self):
        a, b = (log_mel(fill(sound(1.0)), front_end(fusion=f)) for f in (True, False))
        assert np.abs(a - b).max() > 1

    def test_silence_follows_what_no_repetition_fills(self):
        filled = fill(np.ones(round(3.3 * RATE), dtype=np.float32))
        assert len(filled) == 10 * RATE
        assert filled[: round(9.9 * RATE)].all()
        assert not filled[round(9.9 * RATE) :].any()


class TestEmbeddings:
    @pytest.mark.parametrize("fusion", [True, False])
    def test_equal_the_models_own(self, fusion, folder, tmp_path):
        if not fusion:
            folder = save_clap(tmp_path / "plain", fusion=False, tokenizer=False)
        waveform = np.concatenate([sound(1.0, seed) for seed in range(3)])
        steps = build("clap", folder).compute(as_clip(waveform, 3))
        assert steps.shape == (3, 512)
        assert steps.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(steps, axis=1), 1, atol=1e-6)
        model = transformers.ClapModel.from_pretrained(folder).eval()
        parts = list(waveform.reshape(3, -1))
        inputs = extractor(fusion=fusion)(parts, sampling_rate=RATE, return_tensors="pt")
        # The extractor marks one short sound of a batch as a long one, at random.
        inputs["is_longer"] = torch.zeros(3, 1, dtype=torch.bool)
        with torch.inference_mode():
            theirs = model.get_audio_features(**inputs).pooler_output.numpy()
        np.testing.assert_allclose(steps, theirs, atol=1e-5)
        assert np.abs(steps[0] - steps[1]).max() > 1e-3, "the model cannot tell sounds apart"

    def test_sound_that_ends_early_is_filled_with_silence(self, folder):
        backbone = build("clap", folder)
        whole = as_clip(np.append(sound(1.5), np.zeros(RATE // 2, np.float32)), 2)
        short = as_clip(sound(1.5), 2)
        np.testing.assert_array_equal(backbone.compute(short), backbone.compute(whole))

    def test_spec_tells_the_front_ends_apart(self, folder, tmp_path):
        plain = save_clap(tmp_path / "plain", fusion=False, tokenizer=False)
        fused, unfused = (build("clap", f).spec()["front_end"] for f in (folder, plain))
        assert (fused["htk"], unfused["htk"]) == (True, False)

    def test_a_pickled_state_dict_gives_the_same(self, tmp_path):
        a = save_clap(tmp_path / "a", tokenizer=False)
        b = save_clap(tmp_path / "b", tokenizer=False, safetensors=False)
        steps = [build("clap", f).compute(as_clip(sound(1.0), 1)) for f in (a, b)]
        np.testing.assert_array_equal(*steps)


class TestMap:
    def test_is_the_last_map_of_the_tower(self, folder):
        backbone = build("clap.map", folder)
        assert backbone.grid.count(0.0, 10.0) == 1
        assert backbone.shape == (64, 768)
        waveform = sound(10.0)
        steps = backbone.compute(as_clip(waveform, 1, 10.0))
        model = transformers.ClapModel.from_pretrained(folder).eval()
        inputs = extractor(fusion=True)(waveform, sampling_rate=RATE, return_tensors="pt")
        inputs["is_longer"] = torch.zeros(1, 1, dtype=torch.bool)
        with torch.inference_mode():
            theirs = model.audio_model(**inputs).last_hidden_state[0]  # (768, 2, 32)
        assert theirs.shape == (768, 2, 32)
        np.testing.assert_allclose(steps[0], theirs.flatten(1).T, atol=1e-3)

    def test_reducing_before_the_first_layer_is_exact(self, folder):
        pooled = build("clap.map.pooled", folder)
        maps = np.random.default_rng(0).normal(size=(2, 64, 768)).astype(np.float32)
        steps = pooled.derive(maps)
        assert steps.shape == (20, 768)
        assert steps.dtype == np.float32
        torch.manual_seed(0)
        layer = torch.nn.Linear(768, 256)
        with torch.inference_mode():
            # As valor_pp computes it from the map: raised, layer, mean of halves, ten steps.
            grid = torch.from_numpy(maps).permute(0, 2, 1).reshape(2, 768, 2, 32)
            raised = torch.nn.functional.interpolate(grid, size=(2, 1024), mode="bicubic")
            wide = layer(raised.permute(0, 2, 3, 1)).mean(dim=1)  # (2, 1024, 256)
            theirs = torch.nn.functional.adaptive_avg_pool1d(wide.transpose(1, 2), 10)
            ours = layer(torch.from_numpy(steps)).reshape(2, 10, 256)
        np.testing.assert_allclose(ours, theirs.transpose(1, 2), atol=2e-6)

    def test_pooled_steps_are_seconds(self, folder):
        pooled = build("clap.map.pooled", folder)
        np.testing.assert_allclose(pooled.times(5.0, 25.0), np.arange(20) + 0.5)
        waveform = sound(10.0)
        clip = as_clip(waveform, 1, 10.0)
        np.testing.assert_array_equal(
            pooled.compute(clip), pooled.derive(pooled.source.compute(clip))
        )


class TestMistakes:
    def test_clip_for_clap(self, tmp_path):
        folder = save_clip(tmp_path / "clip", tokenizer=False)
        with pytest.raises(UserError, match="of type 'clip', but clap needs one of type 'clap'"):
            build("clap", folder).spec()

    def test_a_map_of_another_width(self, tmp_path):
        folder = save_clap(tmp_path / "narrow", hidden=128, tokenizer=False)
        build("clap", folder).spec()
        with pytest.raises(UserError, match="hidden_size 128, but clap needs 768"):
            build("clap.map", folder).spec()

    def test_another_front_end(self, tmp_path):
        folder = save_clap(tmp_path / "clap", tokenizer=False)
        extractor(fusion=True).save_pretrained(folder)
        build("clap", folder).spec()
        transformers.ClapFeatureExtractor(frequency_min=0).save_pretrained(folder)
        with pytest.raises(UserError, match="asks for frequency_min 0, but clap is computed"):
            build("clap", folder).spec()

    def test_segments_longer_than_the_tower_takes(self, folder):
        (request,) = make_requests(
            ["clap"], weights={"clap": folder}, options={"clap": {"hop": "12"}}
        )
        with pytest.raises(UserError, match=r"a segment lasts 0\.1 to 10 s, not 12"):
            request.build()
