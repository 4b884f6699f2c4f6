"""Backbones: what they are given, where their weights come from, what their specs say."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from features import decoding
from features.backbones import BACKBONES, Clip, WeightChoice
from features.backbones.networks.vggish import VGGishNetwork
from features.backbones.preprocessing import CAFFE, IMAGENET, KINETICS
from features.backbones.resnet import ResNet152, ResNet152Frames
from features.backbones.squeezenet import SqueezeNet10
from features.backbones.vggish import VGGish, postprocess
from features.backbones.video import R2Plus1D18
from features.extraction import plan, run_plan
from features.requests import feature_spec, make_requests
from features.store import Store
from pipeline.decode import open_decoder
from pipeline.errors import UserError
from pipeline.manifest import Header, Manifest, Row
from pipeline.mel import vggish_patches
from tests.features.builders import film_manifest
from tests.media import render_clip, sine

RANDOM = WeightChoice(seed=0)

VGGISH_CHECKPOINT = {
    "features.0.weight": (64, 1, 3, 3),
    "features.0.bias": (64,),
    "features.3.weight": (128, 64, 3, 3),
    "features.3.bias": (128,),
    "features.6.weight": (256, 128, 3, 3),
    "features.6.bias": (256,),
    "features.8.weight": (256, 256, 3, 3),
    "features.8.bias": (256,),
    "features.11.weight": (512, 256, 3, 3),
    "features.11.bias": (512,),
    "features.13.weight": (512, 512, 3, 3),
    "features.13.bias": (512,),
    "embeddings.0.weight": (4096, 12288),
    "embeddings.0.bias": (4096,),
    "embeddings.2.weight": (4096, 4096),
    "embeddings.2.bias": (4096,),
    "embeddings.4.weight": (128, 4096),
    "embeddings.4.bias": (128,),
}
"""Names and shapes of vggish-10086976.pth."""


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return render_clip(path, seconds=2.0, rate=8, audio=sine(500.0, 2.0, 16000))


def frames(film: Path, count: int) -> list[np.ndarray]:
    times = (np.arange(count) + 0.5) * 2.0 / count
    return [frame for _, frame in open_decoder().frames(film, times)]


class TestRegistry:
    def test_names(self):
        assert set(BACKBONES.names()) >= {
            "frame_stats",
            "logmel_stats",
            "r2plus1d_18",
            "resnet152",
            "resnet152.frames",
            "squeezenet1_0",
            "vggish",
        }

    @pytest.mark.parametrize("name", BACKBONES.names())
    def test_spec_is_plain_json_and_states_the_grid(self, name):
        (request,) = make_requests([name], random_weights=3)
        spec = feature_spec(request.build(), "pyav")
        text = json.dumps(spec.to_json())
        assert spec.values["grid"]["hop"] == 1.0
        assert ("random:3" in text) == BACKBONES.get(name).weights_required
        assert json.loads(text)["id"] == spec.id

    @pytest.mark.parametrize("name", BACKBONES.names())
    def test_spec_id_follows_weights_options_and_decoder(self, name):
        kind = BACKBONES.get(name)

        def spec_id(seed: int = 0, decoder: str = "pyav", **options: object) -> str:
            (request,) = make_requests([name], random_weights=seed, options={name: options})
            return feature_spec(request.build(), decoder).id

        assert spec_id() == spec_id()
        if kind.weights_required:
            assert spec_id(seed=1) != spec_id()
        if kind.modality == "visual":
            rate = "frames" if name in ("frame_stats", "r2plus1d_18") else "frame_rate"
            assert spec_id(**{rate: 2}) != spec_id()
        if find_spec("decord") is not None:
            # Sound is PyAV's whatever decodes the pictures.
            assert (spec_id(decoder="decord") != spec_id()) == (kind.modality == "visual")


class TestPreprocessing:
    @pytest.mark.parametrize("size", [(97, 131, 3), (480, 270, 3), (256, 256, 3)])
    def test_equals_the_weights_own_transforms(self, size):
        frame = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
        tensor = torch.from_numpy(frame).permute(2, 0, 1)
        for weights in (
            torchvision.models.ResNet152_Weights.IMAGENET1K_V1,
            torchvision.models.SqueezeNet1_0_Weights.IMAGENET1K_V1,
        ):
            ours = IMAGENET.normalise(torch.from_numpy(IMAGENET.shrink(frame)))
            assert torch.equal(ours, weights.transforms()(tensor))
        video = torchvision.models.video.R2Plus1D_18_Weights.KINETICS400_V1.transforms()
        ours = KINETICS.normalise(torch.from_numpy(KINETICS.shrink(frame)))
        assert torch.equal(ours, video(tensor[None])[:, 0])

    def test_urls_are_torchvisions(self):
        from features.backbones import resnet, squeezenet, video

        models = torchvision.models
        assert resnet.IMAGENET1K_V1.url == models.ResNet152_Weights.IMAGENET1K_V1.url
        assert squeezenet.IMAGENET1K_V1.url == models.SqueezeNet1_0_Weights.IMAGENET1K_V1.url
        assert video.KINETICS400_V1.url == models.video.R2Plus1D_18_Weights.KINETICS400_V1.url

    def test_caffe_is_bgr_minus_the_mean(self):
        frame = np.zeros((300, 400, 3), dtype=np.uint8)
        frame[...] = (10, 20, 30)
        values = CAFFE.normalise(torch.from_numpy(CAFFE.shrink(frame)))
        assert values.shape == (3, 227, 227)
        assert values[:, 0, 0].tolist() == [30 - 104, 20 - 117, 10 - 123]


class TestVGGish:
    def test_parameters_are_those_of_the_published_checkpoint(self):
        state = VGGishNetwork(activation=True).state_dict()
        assert {key: tuple(value.shape) for key, value in state.items()} == VGGISH_CHECKPOINT
        assert state.keys() == VGGishNetwork(activation=False).state_dict().keys()

    def test_flattening_is_channels_last(self):
        network = VGGishNetwork(activation=False).eval()
        patches = torch.rand(2, 96, 64)
        maps = network.features(patches[:, None]).detach().numpy()
        flat = torch.from_numpy(np.moveaxis(maps, 1, 3).reshape(2, -1).copy())
        torch.testing.assert_close(network(patches), network.embeddings(flat))

    def test_activation_is_the_only_difference(self):
        waveform = sine(440.0, 2.0, 16000)
        plain, relu = (
            VGGish(weights=RANDOM, activation=name).compute(Clip(2, waveform=waveform))
            for name in ("none", "relu")
        )
        assert plain.shape == (2, 128)
        assert plain.min() < 0
        np.testing.assert_array_equal(relu, plain.clip(0))

    def test_windows(self):
        backbone = VGGish(weights=RANDOM)
        np.testing.assert_allclose(backbone.times(4.0, 7.0), [0.48, 1.48, 2.48])
        assert vggish_patches(sine(440.0, 2.0, 16000), count=2).shape == (2, 96, 64)

    def test_postprocessing(self, tmp_path):
        rng = np.random.default_rng(0)
        vectors, means = rng.normal(size=(128, 128)).astype("f4") / 8, rng.normal(size=128)
        np.savez(tmp_path / "pca.npz", pca_eigen_vectors=vectors, pca_means=means[:, None])
        clip = Clip(2, waveform=sine(440.0, 2.0, 16000))
        raw = VGGish(weights=RANDOM)
        whitened = VGGish(weights=RANDOM, pca=str(tmp_path / "pca.npz"))
        x = whitened.compute(clip)
        assert x.min() >= 0
        assert x.max() <= 255
        np.testing.assert_array_equal(x, np.round(x))
        expected = np.clip(
            vectors.astype("f8") @ (raw.compute(clip)[0].astype("f8") - means), -2, 2
        )
        np.testing.assert_allclose(x[0], np.round((expected + 2) * 63.75))
        assert raw.spec()["postprocessing"] == "none"
        assert "pca" in whitened.spec()["postprocessing"]
        extremes = postprocess(np.array([[9.0, -9.0]]), np.eye(2), np.zeros(2))
        assert extremes.tolist() == [[255.0, 0.0]]
        with pytest.raises(UserError, match="is not there"):
            VGGish(weights=RANDOM, pca=str(tmp_path / "no.npz")).spec()
        np.savez(tmp_path / "odd.npz", pca_means=means)
        with pytest.raises(UserError, match="must hold pca_eigen_vectors"):
            VGGish(weights=RANDOM, pca=str(tmp_path / "odd.npz")).spec()


class TestNetworks:
    def test_r2plus1d(self, film):
        backbone = R2Plus1D18(weights=RANDOM, frames=4)
        pictures = [backbone.prepare(frame) for frame in frames(film, 8)]
        x = backbone.compute(Clip(2, frames=pictures))
        assert x.shape == (2, 512)
        first = backbone.compute(Clip(1, frames=pictures[:4]))
        np.testing.assert_allclose(x[:1], first, rtol=1e-4, atol=1e-6)

    def test_squeezenet_is_the_mean_of_pooled_maps(self, film):
        backbone = SqueezeNet10(weights=RANDOM, frame_rate=2)
        pictures = [backbone.prepare(frame) for frame in frames(film, 4)]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = torchvision.models.squeezenet1_0().eval()
        with torch.inference_mode():
            maps = network.features(IMAGENET.normalise(torch.from_numpy(np.stack(pictures))))
        expected = maps.mean((2, 3)).reshape(2, 2, 512).mean(1).numpy()
        x = backbone.compute(Clip(2, frames=pictures))
        np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-6)

    def test_random_weights_repeat_and_move_no_other_stream(self):
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        clip = Clip(1, waveform=sine(440.0, 1.0, 16000))
        first = VGGish(weights=WeightChoice(seed=1)).compute(clip)
        assert torch.equal(torch.rand(3), expected)
        np.testing.assert_array_equal(first, VGGish(weights=WeightChoice(seed=1)).compute(clip))
        assert not np.array_equal(first, VGGish(weights=WeightChoice(seed=2)).compute(clip))

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_gpu_agrees_with_cpu(self, film):
        for backbone in (SqueezeNet10(weights=RANDOM), R2Plus1D18(weights=RANDOM)):
            pictures = [backbone.prepare(frame) for frame in frames(film, 16)]
            x = backbone.compute(Clip(2, frames=pictures))
            backbone.to("cuda")
            np.testing.assert_allclose(
                backbone.compute(Clip(2, frames=pictures)), x, rtol=1e-2, atol=1e-3
            )


class TestDerived:
    def test_frames_and_mean_in_one_pass_and_from_the_store(self, film, tmp_path, monkeypatch):
        manifest = film_manifest(film.parent, "film", end=2.0)
        runs = []
        compute = ResNet152Frames.compute
        monkeypatch.setattr(
            ResNet152Frames, "compute", lambda self, clip: runs.append(1) or compute(self, clip)
        )
        both, later, alone = (tmp_path / name for name in ("both", "later", "alone"))
        options = {"random_weights": 0, "options": {"resnet152": {"frame_rate": 2}}}
        run_plan(plan(manifest, both, ["resnet152", "resnet152.frames"], **options))
        assert len(runs) == 1
        store = Store(both)
        steps = store.read(store.find("resnet152.frames"), manifest, manifest.rows)
        mean = store.read(store.find("resnet152"), manifest, manifest.rows)
        assert steps.x.shape == (4, 2048)
        np.testing.assert_allclose(steps.t, [0.25, 0.75, 1.25, 1.75])
        np.testing.assert_allclose(mean.t, [0.5, 1.5])
        np.testing.assert_array_equal(
            mean.x, steps.x.reshape(2, 2, 2048).mean(1, dtype="f8").astype("f4")
        )

        run_plan(plan(manifest, later, ["resnet152.frames"], **options))
        with monkeypatch.context() as patch:
            patch.setattr(decoding, "read_clip", None)
            patch.setattr(
                "features.shards.read_clip", lambda *a, **k: pytest.fail("something was decoded")
            )
            report = run_plan(plan(manifest, later, ["resnet152"], **options))
        assert report.failed == 0
        run_plan(plan(manifest, alone, ["resnet152"], **options))
        bytes_of = [
            next(folder.glob("resnet152-*/*.h5")).read_bytes() for folder in (both, later, alone)
        ]
        assert bytes_of[0] == bytes_of[1] == bytes_of[2]

    def test_the_mean_comes_from_the_store_when_the_video_is_gone(self, film, tmp_path):
        copy = tmp_path / "film.mp4"
        copy.write_bytes(film.read_bytes())
        manifest = film_manifest(copy.parent, "film", end=2.0)
        options = {"random_weights": 0, "options": {"resnet152": {"frame_rate": 1}}}
        run_plan(plan(manifest, tmp_path / "store", ["resnet152.frames"], **options))
        copy.unlink()
        report = run_plan(plan(manifest, tmp_path / "store", ["resnet152"], **options))
        assert report.statuses["resnet152"] == {("ok", ""): 1}
        store = Store(tmp_path / "store")
        assert store.read(store.find("resnet152"), manifest, manifest.rows).ok.all()

    def test_options_and_weights_of_the_family(self, tmp_path):
        file = tmp_path / "w.pth"
        file.write_bytes(b"")
        requests = make_requests(
            ["resnet152", "resnet152.frames"],
            weights={"resnet152": file},
            options={"resnet152": {"frame-rate": "4"}},
        )
        assert {r.options for r in requests} == {(("frame_rate", 4),)}
        assert {r.weights for r in requests} == {str(file)}

    def test_rates_below_one_are_refused(self):
        with pytest.raises(ValueError, match="at least 1"):
            ResNet152(frame_rate=0)


class TestRealWeights:
    """SqueezeNet with its real weights on real clips."""

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
        assert run_plan(work).failed == 0
        store = Store(tmp_path / "store")
        x = store.read(store.find("squeezenet1_0"), manifest, manifest.rows).stacked()
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
        # Within a clip, seconds look more alike than the same seconds of other clips.
        within = np.einsum("nd,nd->n", x[:, 0], x[:, 2])
        across = (x[:, 0] @ x[:, 2].T)[~np.eye(len(x), dtype=bool)]
        assert np.median(within) > np.quantile(across, 0.9)
