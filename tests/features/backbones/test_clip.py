"""CLIP features: preprocessing, embeddings, weights in the hub's layout, and what goes wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers

from features.backbones import BACKBONES, Clip, WeightChoice
from features.backbones.clip import normalise, shrink
from features.requests import make_requests
from pipeline.errors import UserError
from tests.features.models import save_clap, save_clip

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip") / "b16")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth picture with some noise, (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    big = np.asarray(
        torch.nn.functional.interpolate(
            torch.from_numpy(coarse).permute(2, 0, 1)[None].float(), (height, width)
        )[0].permute(1, 2, 0)
    )
    return (big + rng.normal(0, 8, big.shape)).clip(0, 255).astype(np.uint8)


def build(name: str, weights: Path | str | None = None, **options):
    return BACKBONES.get(name)(
        weights=WeightChoice(None if weights is None else str(weights)), **options
    )


def clip_of(backbone, pictures) -> Clip:
    frames = [backbone.prepare(p) for p in pictures]
    return Clip(len(frames) // backbone.grid.frames, frames=frames)


class TestPreprocessing:
    @pytest.mark.parametrize(
        "size", [(360, 640), (720, 1281), (224, 224), (225, 399), (301, 224), (120, 160)]
    )
    def test_is_that_of_transformers_to_the_bit(self, size):
        frame = picture(1, *size)
        ours = normalise(torch.from_numpy(shrink(frame)))
        theirs = transformers.CLIPImageProcessor()(frame, return_tensors="pt")["pixel_values"][0]
        assert torch.equal(ours, theirs)

    def test_is_that_of_pillow_within_one_level(self):
        # OpenAI's code resizes with Pillow, whose fixed-point arithmetic rounds a few pixels
        # another way than torchvision's.
        from PIL import Image

        frame = picture(2, 360, 640)
        image = Image.fromarray(frame).resize((398, 224), Image.Resampling.BICUBIC)
        theirs = np.asarray(image)[:, 87 : 87 + 224].transpose(2, 0, 1).astype(int)
        assert np.abs(shrink(frame).astype(int) - theirs).max() <= 1


class TestFeatures:
    def test_frames_equal_the_models_own_embeddings(self, folder):
        backbone = build("clip_vit_b16.frames", folder, frame_rate=2)
        pictures = [picture(n, 96, 128) for n in range(4)]
        steps = backbone.compute(clip_of(backbone, pictures))
        model = transformers.CLIPModel.from_pretrained(folder).eval()
        inputs = transformers.CLIPImageProcessor()(pictures, return_tensors="pt")
        with torch.inference_mode():
            theirs = model.get_image_features(**inputs).pooler_output
        theirs = torch.nn.functional.normalize(theirs, dim=-1).numpy()
        assert steps.shape == (4, 512)
        assert steps.dtype == np.float32
        np.testing.assert_allclose(steps, theirs, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(steps, axis=1), 1, atol=1e-6)
        assert np.abs(steps[0] - steps[1]).max() > 0.01, "the model cannot tell pictures apart"

    def test_without_normalisation_lengths_differ(self, folder):
        pictures = [picture(n, 96, 128) for n in range(2)]
        raw = build("clip_vit_b16.frames", folder, frame_rate=1, normalise=False)
        unit = build("clip_vit_b16.frames", folder, frame_rate=1)
        steps, expected = (b.compute(clip_of(b, pictures)) for b in (raw, unit))
        lengths = np.linalg.norm(steps, axis=1, keepdims=True)
        assert abs(lengths[0, 0] - 1) > 0.01
        np.testing.assert_allclose(steps / lengths, expected, atol=1e-6)
        assert raw.spec() != unit.spec()

    def test_segments_are_the_mean_of_their_frames(self, folder):
        segments = build("clip_vit_b16", folder, frame_rate=2)
        clip = clip_of(segments, [picture(n, 96, 128) for n in range(4)])
        frames = segments.source.compute(clip)
        steps = segments.compute(clip)
        assert steps.shape == (2, 512)
        np.testing.assert_allclose(steps, frames.reshape(2, 2, 512).mean(axis=1), atol=1e-7)
        np.testing.assert_array_equal(segments.derive(frames), steps)
        np.testing.assert_allclose(segments.times(0.0, 2.0), [0.5, 1.5])
        np.testing.assert_allclose(segments.source.times(3.0, 5.0), [0.25, 0.75, 1.25, 1.75])

    def test_vit_l14_looks_at_one_frame_a_second(self, tmp_path):
        folder = save_clip(tmp_path / "l14", patch=14, width=768, tokenizer=False)
        backbone = build("clip_vit_l14", folder)
        assert backbone.grid.frames == 1
        np.testing.assert_allclose(backbone.grid.frame_times(10.0, 12.0).ravel(), [10.5, 11.5])
        steps = backbone.compute(clip_of(backbone, [picture(n, 96, 128) for n in range(2)]))
        assert steps.shape == (2, 768)
        np.testing.assert_allclose(np.linalg.norm(steps, axis=1), 1, atol=1e-6)

    def test_no_random_state_is_touched(self, folder):
        before = torch.random.get_rng_state()
        backbone = build("clip_vit_b16", folder)
        backbone.to("cpu")
        assert torch.equal(before, torch.random.get_rng_state())


class TestWeights:
    def test_a_weight_file_stands_for_its_folder(self, folder):
        by_file = build("clip_vit_b16", folder / "model.safetensors")
        assert by_file.source.spec() == build("clip_vit_b16", folder).source.spec()

    def test_digest_follows_weights_and_configuration(self, folder, tmp_path):
        spec = build("clip_vit_b16.frames", folder).spec()["weights"]
        assert spec.startswith("sha256:")
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        assert build("clip_vit_b16.frames", copy).spec()["weights"] == spec
        config = json.loads((copy / "config.json").read_text())
        config["vision_config"]["hidden_act"] = "gelu"
        (copy / "config.json").write_text(json.dumps(config))
        assert build("clip_vit_b16.frames", copy).spec()["weights"] != spec
        other = save_clip(tmp_path / "other", seed=1, tokenizer=False)
        assert build("clip_vit_b16.frames", other).spec()["weights"] != spec

    def test_what_names_code_or_types_is_left_aside(self, folder, tmp_path):
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        config = json.loads((copy / "config.json").read_text())
        config |= {"auto_map": {"AutoModel": "evil.Model"}, "dtype": "float16"}
        config["vision_config"] |= {"_attn_implementation": "somebody/kernel"}
        (copy / "config.json").write_text(json.dumps(config))
        (copy / "evil.py").write_text("raise SystemExit('the folder ran code')")
        pictures = [picture(n, 96, 128) for n in range(8)]
        steps, expected = (
            b.compute(clip_of(b, pictures))
            for b in (build("clip_vit_b16", f) for f in (copy, folder))
        )
        np.testing.assert_array_equal(steps, expected)

    @pytest.mark.slow
    def test_random_weights_of_the_published_size(self):
        backbone = BACKBONES.get("clip_vit_b16")(weights=WeightChoice(seed=3), frame_rate=1)
        assert backbone.source.spec()["weights"] == "random:3"
        steps = backbone.compute(clip_of(backbone, [picture(0, 96, 128)]))
        assert np.isfinite(steps).all()
        parts = backbone.network._module.state_dict()
        assert parts["vision.embeddings.patch_embedding.weight"].shape == (768, 3, 16, 16)
        assert parts["projection.weight"].shape == (512, 768)


class TestMistakes:
    def expect(self, name: str, weights: Path, text: str) -> None:
        def use() -> None:
            backbone = build(name, weights)
            backbone.source.spec()
            backbone.to("cpu")

        with pytest.raises(UserError, match=text) as error:
            use()
        assert str(error.value).endswith(".")
        assert "\n" not in str(error.value)

    def test_clap_for_clip(self, tmp_path):
        folder = save_clap(tmp_path / "clap", tokenizer=False)
        self.expect("clip_vit_b16", folder, "of type 'clap', but clip_vit_b16 needs .* 'clip'")

    def test_another_size_of_clip(self, tmp_path, folder):
        l14 = save_clip(tmp_path / "l14", patch=14, width=768, tokenizer=False)
        self.expect("clip_vit_b16", l14, "projection_dim 768, but clip_vit_b16 needs 512")
        b32 = save_clip(tmp_path / "b32", patch=32, tokenizer=False)
        self.expect("clip_vit_b16", b32, "patch_size 32, but clip_vit_b16 needs 16")
        # 32 is what a configuration means that does not say.
        config = json.loads((b32 / "config.json").read_text())
        del config["vision_config"]["patch_size"]
        (b32 / "config.json").write_text(json.dumps(config))
        self.expect("clip_vit_b16", b32, "patch_size 32, but clip_vit_b16 needs 16")

    def test_another_preprocessing(self, folder, tmp_path):
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        transformers.CLIPImageProcessor().save_pretrained(copy)
        build("clip_vit_b16.frames", copy).spec()
        transformers.CLIPImageProcessor(image_mean=[0.5, 0.5, 0.5]).save_pretrained(copy)
        self.expect("clip_vit_b16", copy, r"asks for image_mean \[0.5, 0.5, 0.5\]")

    def test_files_that_are_not_there(self, folder, tmp_path):
        empty = tmp_path / "empty"
        empty.mkdir()
        self.expect("clip_vit_b16", empty, "lacks config.json and model.safetensors or")
        (tmp_path / "vit.pt").write_bytes(b"numbers")
        self.expect("clip_vit_b16", tmp_path / "vit.pt", "are no folder with config.json")

    def test_files_that_are_damaged(self, folder, tmp_path):
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        (copy / "model.safetensors").write_bytes(b"\0" * 100)
        self.expect("clip_vit_b16", copy, "cannot be read as clip_vit_b16")
        (copy / "config.json").write_text("[1]")
        self.expect("clip_vit_b16", copy, "config.json holds no table")

    def test_a_pickle_runs_no_code(self, folder, tmp_path):
        import pickle

        class Evil:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "ran",))

        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        (copy / "model.safetensors").unlink()
        (copy / "pytorch_model.bin").write_bytes(pickle.dumps({"logit_scale": Evil()}, protocol=2))
        self.expect("clip_vit_b16", copy, "cannot be read as clip_vit_b16")
        assert not (tmp_path / "ran").exists()

    def test_weights_that_lack_a_parameter(self, folder, tmp_path):
        from safetensors.torch import load_file, save_file

        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        state = load_file(copy / "model.safetensors")
        del state["visual_projection.weight"]
        save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
        self.expect("clip_vit_b16", copy, "visual_projection.weight is missing")

    def test_options_that_make_no_sense(self, folder):
        (request,) = make_requests(
            ["clip_vit_b16"],
            weights={"clip_vit_b16": folder},
            options={"clip_vit_b16": {"frame-rate": "0"}},
        )
        with pytest.raises(UserError, match="frame_rate must be a whole number"):
            request.build()

    def test_the_extra_that_is_not_installed(self):
        code = (
            "import sys; sys.modules['transformers'] = None\n"
            "from features.backbones import BACKBONES\n"
            "from features.text import valor_prompts\n"
            "from pipeline.errors import UserError\n"
            "assert {'clap', 'clap.map', 'clip_vit_l14'} <= set(BACKBONES.names())\n"
            "for name in ('clap', 'clip_vit_b16'):\n"
            "    try: BACKBONES.get(name)()\n"
            "    except UserError as error: print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert len(lines) == 2
        assert all("pip install 'avnoise[clip]'" in line for line in lines)


class TestHub:
    def snapshot(self, tmp_path: Path, commit: str = "abc") -> Path:
        folder = tmp_path / "hub" / "models--openai--clip-vit-base-patch16" / "snapshots"
        return folder / commit

    def test_weights_in_the_cache_are_found(self, folder, tmp_path):
        shutil.copytree(folder, self.snapshot(tmp_path))
        cached, given = (build("clip_vit_b16", f).source for f in (None, folder))
        assert cached.spec() == given.spec()

    def test_what_was_not_published_is_refused(self, folder, tmp_path):
        snapshot = Path(shutil.copytree(folder, self.snapshot(tmp_path)))
        (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
        with pytest.raises(UserError, match=r"are not the published ones \(sha256:ec89c7b0"):
            build("clip_vit_b16").source.spec()

    def test_download_takes_what_is_needed_of_one_revision(self, folder, tmp_path, monkeypatch):
        asked = {}

        def download(repository, *, revision, allow_patterns):
            asked.update(repository=repository, revision=revision, patterns=allow_patterns)
            return shutil.copytree(folder, self.snapshot(tmp_path, revision))

        info = SimpleNamespace(sha="def")
        monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_: info)
        monkeypatch.setattr("huggingface_hub.snapshot_download", download)
        backbone = build("clip_vit_b16").source
        assert backbone.spec() == build("clip_vit_b16", folder).source.spec()
        assert (asked["repository"], asked["revision"]) == ("openai/clip-vit-base-patch16", "def")
        assert {"config.json", "pytorch_model.bin", "vocab.json"} <= set(asked["patterns"])

    def test_no_network_names_what_to_put_where(self, monkeypatch):
        def fail(*_):
            raise OSError("no network")

        monkeypatch.setattr("huggingface_hub.HfApi.model_info", fail)
        with pytest.raises(UserError, match=r"openai/clip-vit-base-patch16 .*pytorch_m") as error:
            build("clip_vit_b16").source.spec()
        assert "--weights clip_vit_b16=FOLDER" in str(error.value)
        assert "no network" in str(error.value)
