"""SqueezeNet 1.0: pooled maps, and its real weights on real clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from features.backbones import Clip, WeightChoice
from features.backbones.preprocessing import CAFFE, IMAGENET
from features.backbones.squeezenet import SqueezeNet10
from features.extraction import plan, run_plan
from features.store import Store
from pipeline.decode import open_decoder
from pipeline.manifest import Header, Manifest, Row

RANDOM = WeightChoice(seed=0)


def test_the_mean_of_pooled_maps(frames):
    backbone = SqueezeNet10(weights=RANDOM, frame_rate=2)
    pictures = [backbone.prepare(frame) for frame in frames[:4]]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torchvision.models.squeezenet1_0().eval()
    with torch.inference_mode():
        maps = network.features(IMAGENET.normalise(torch.from_numpy(np.stack(pictures))))
    expected = maps.mean((2, 3)).reshape(2, 2, 512).mean(1).numpy()
    x = backbone.compute(Clip(2, frames=pictures))
    np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-6)


def test_windows_have_their_seconds_worth_of_frames():
    assert SqueezeNet10(weights=RANDOM, frame_rate=4, windows=10).grid.frames == 8
    assert SqueezeNet10(weights=RANDOM, frame_rate=1, windows=3, window=0.5).grid.frames == 1


def test_random_weights_repeat_and_move_no_other_stream(frames):
    def features(seed: int) -> np.ndarray:
        backbone = SqueezeNet10(weights=WeightChoice(seed=seed), frame_rate=1)
        return backbone.compute(Clip(1, frames=[backbone.prepare(frames[0])]))

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = features(1)
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(first, features(1))
    assert not np.array_equal(first, features(2))


class TestRealWeights:
    @pytest.fixture
    def weights(self, shared) -> Path:
        return shared / "weights" / "squeezenet1_0_imagenet.pt"

    def test_the_input_is_known_from_the_file(self, weights):
        backbone = SqueezeNet10(weights=WeightChoice(file=str(weights)))
        assert backbone.preprocessing is CAFFE
        told = SqueezeNet10(weights=WeightChoice(file=str(weights)), preprocess="imagenet")
        assert told.preprocessing is IMAGENET
        assert told.spec() != backbone.spec()
        assert SqueezeNet10(weights=RANDOM).preprocessing is IMAGENET

    def test_a_cockatoo_is_a_cockatoo(self, shared, weights):
        network = torchvision.models.squeezenet1_0()
        network.load_state_dict(torch.load(weights, weights_only=True))
        film = shared / "media" / "clips" / "cockatoo.mp4"
        (frame,) = (f for _, f in open_decoder().frames(film, np.array([0.5])))
        names = torchvision.models.SqueezeNet1_0_Weights.IMAGENET1K_V1.meta["categories"]
        with torch.inference_mode():
            logits = network.eval()(CAFFE.normalise(torch.from_numpy(CAFFE.shrink(frame))[None]))
        probability, index = logits.softmax(1)[0].max(0)
        assert names[int(index)] == "sulphur-crested cockatoo"
        assert probability > 0.5

    def test_features_tell_clips_apart(self, shared, weights, tmp_path):
        folder = shared / "media" / "clips"
        rows = tuple(
            Row(path.stem, 0.0, 3.0, "test", (), video=path.name)
            for path in sorted(folder.iterdir())
        )
        manifest = Manifest(
            Header("clips", "none", (), media_root=str(folder)), rows, tmp_path / "m.jsonl"
        )
        work = plan(
            manifest,
            tmp_path / "store",
            ["squeezenet1_0"],
            weights={"squeezenet1_0": weights},
            options={"squeezenet1_0": {"frame_rate": 1}},
        )
        assert run_plan(work, readers=0).failed == 0
        store = Store(tmp_path / "store")
        x = store.read(store.find("squeezenet1_0"), manifest, manifest.rows).stacked()
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
        # Within a clip, seconds look more alike than the same seconds of other clips.
        within = np.einsum("nd,nd->n", x[:, 0], x[:, 2])
        across = (x[:, 0] @ x[:, 2].T)[~np.eye(len(x), dtype=bool)]
        assert np.median(within) > np.quantile(across, 0.9)
