"""From films to logits and pseudo labels, against transformers' own forward pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from features.__main__ import main
from features.backbones.weights import WeightChoice
from features.derived import read_derived
from features.extraction import plan, run_plan
from features.logits import (
    derive_logits,
    derive_valor_labels,
    rows_of_split,
    segment_logits,
)
from features.store import Store
from features.text import ClassPrompts, TextEmbeddings, valor_prompts
from pipeline.cli import DONE, PARTIAL
from pipeline.decode import open_decoder, read_audio
from pipeline.errors import UserError
from pipeline.manifest import Header, Manifest, Row, write_manifest
from tests.features.models import save_clap, save_clip
from tests.media import render_clip, sine

CLASSES = ("Speech", "Dog", "Violin_fiddle")
SECONDS = 3


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "clip_vit_l14": save_clip(folder / "l14", patch=14, width=768),
        "clap": save_clap(folder / "clap"),
    }


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    """Three clips to train on, one of them mute, one that carries another's sound, and a test."""
    folder = tmp_path_factory.mktemp("films")
    for n in range(3):
        tone = sine(300.0 * (n + 1), SECONDS, 16000)
        render_clip(folder / f"{n}.mp4", seconds=SECONDS, rate=8, audio=tone, clutter=n > 0)
    render_clip(folder / "mute.mp4", seconds=SECONDS, rate=8)
    rows = (
        Row("a", 0.0, 3.0, "train", ("Speech", "Dog"), video="0.mp4"),
        Row("b", 0.0, 3.0, "train", ("Violin_fiddle",), video="1.mp4", audio_id="a"),
        Row("mute", 0.0, 3.0, "train", ("Dog",), video="mute.mp4"),
        Row("c", 0.0, 3.0, "test", ("Dog",), video="2.mp4"),
    )
    made = Manifest(Header("films", "multilabel", CLASSES), rows, folder / "m.jsonl")
    write_manifest(made, made.path)
    return made


@pytest.fixture(scope="module")
def store(manifest, folders, tmp_path_factory) -> Store:
    path = tmp_path_factory.mktemp("store")
    report = run_plan(plan(manifest, path, list(folders), weights=folders))
    assert report.failed == 1  # the sound of the mute clip
    return Store(path)


def logits_of(store, manifest, folders, modality, rows=None, **options):
    prompts = valor_prompts(manifest.classes, modality)
    family = "clip_vit_l14" if modality == "visual" else "clap"
    weights = options.pop("weights", WeightChoice(str(folders[family])))
    return derive_logits(
        store,
        manifest,
        list(manifest.rows) if rows is None else rows,
        modality,
        weights=options.pop("choice", weights),
        prompts=options.pop("prompts", prompts),
        **options,
    )


def text_inputs(folder: Path, kind: str, texts):
    name = "CLIPTokenizer" if kind == "clip" else "RobertaTokenizer"
    tokenizer = getattr(transformers, name).from_pretrained(folder)
    return tokenizer(list(texts), padding=True, return_tensors="pt")


class TestLogits:
    def test_clip_equals_the_models_forward_pass(self, store, manifest, folders):
        artefact = logits_of(store, manifest, folders, "visual")
        assert artefact.ids == ("a", "b", "mute", "c")
        assert artefact.arrays["logits"].shape == (4, SECONDS, 3)
        folder = folders["clip_vit_l14"]
        model = transformers.CLIPModel.from_pretrained(folder).eval()
        texts = text_inputs(folder, "clip", valor_prompts(CLASSES, "visual").texts)
        for n, row in enumerate(manifest.rows):
            moments = np.arange(SECONDS) + 0.5
            frames = []
            path = str(manifest.media_path(row))
            for span, frame in open_decoder("pyav").frames(path, moments):
                frames += [frame] * (span.stop - span.start)
            pixels = transformers.CLIPImageProcessor()(frames, return_tensors="pt")
            with torch.inference_mode():
                theirs = model(**texts, **pixels).logits_per_image.numpy()
            np.testing.assert_allclose(artefact.arrays["logits"][n], theirs, atol=1e-5)
        assert np.ptp(artefact.arrays["logits"], axis=2).min() > 1e-3

    def test_clap_equals_the_models_forward_pass(self, store, manifest, folders):
        artefact = logits_of(store, manifest, folders, "audio")
        assert artefact.ids == ("a", "b", "c"), "the clip without sound is left out"
        folder = folders["clap"]
        model = transformers.ClapModel.from_pretrained(folder).eval()
        texts = text_inputs(folder, "clap", valor_prompts(CLASSES, "audio").texts)
        extractor = transformers.ClapFeatureExtractor(frequency_min=50)
        for n, name in enumerate(artefact.ids):
            row = next(row for row in manifest.rows if row.id == name)
            waveform = read_audio(str(manifest.media_path(row)), 0.0, 3.0, 48000)
            parts = list(waveform.reshape(SECONDS, 48000))
            sound = extractor(parts, sampling_rate=48000, return_tensors="pt")
            sound["is_longer"] = torch.zeros(SECONDS, 1, dtype=torch.bool)
            with torch.inference_mode():
                theirs = model(**texts, **sound).logits_per_audio.numpy()
            np.testing.assert_allclose(artefact.arrays["logits"][n], theirs, atol=1e-5)

    def test_found_again_without_the_text_tower(self, store, manifest, folders, monkeypatch):
        first = logits_of(store, manifest, folders, "visual")
        monkeypatch.setattr("features.logits.embed_texts", None)
        monkeypatch.setattr(Store, "read", None)
        again = logits_of(store, manifest, folders, "visual")
        np.testing.assert_array_equal(first.arrays["logits"], again.arrays["logits"])

    def test_labels_change_no_logits(self, store, manifest, folders):
        noisy = replace(
            manifest, rows=tuple(replace(row, labels=("Speech",)) for row in manifest.rows)
        )
        one, other = (logits_of(store, m, folders, "visual") for m in (manifest, noisy))
        assert one.key.id == other.key.id

    def test_prompts_and_rows_change_the_artefact(self, store, manifest, folders):
        own = ClassPrompts(CLASSES, ("speech", "a dog", "a violin"))
        keys = {
            logits_of(store, manifest, folders, "visual").key.id,
            logits_of(store, manifest, folders, "visual", prompts=own).key.id,
            logits_of(store, manifest, folders, "visual", rows=list(manifest.rows[:2])).key.id,
        }
        assert len(keys) == 3

    def test_length_of_a_segment_does_not_matter(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(2, 5, 8)).astype(np.float32)
        texts = rng.normal(size=(3, 8)).astype(np.float32)
        texts /= np.linalg.norm(texts, axis=1, keepdims=True)
        prompts = TextEmbeddings(("", "", ""), texts, 10.0)
        logits = segment_logits(x, prompts)
        assert logits.shape == (2, 5, 3)
        assert np.abs(logits).max() <= 10.0
        np.testing.assert_allclose(segment_logits(7 * x, prompts), logits, atol=1e-5)
        np.testing.assert_array_equal(segment_logits(0 * x, prompts), 0)

    def test_other_weights_than_the_features(self, store, manifest, folders, tmp_path):
        other = save_clip(tmp_path / "other", patch=14, width=768, seed=1)
        with pytest.raises(UserError, match=r"was made with the weights sha256:.*pass the same"):
            logits_of(store, manifest, folders, "visual", weights=WeightChoice(str(other)))

    def test_features_that_are_not_there(self, manifest, folders, tmp_path):
        with pytest.raises(UserError, match="There is no feature store"):
            logits_of(Store(tmp_path / "none"), manifest, folders, "audio")
        path = tmp_path / "store"
        part = replace(manifest, rows=manifest.rows[2:3])
        run_plan(plan(part, path, ["clap"], weights={"clap": folders["clap"]}))
        with pytest.raises(UserError, match="3 of 3 rows have no clap in the store"):
            logits_of(Store(path), manifest, folders, "audio")
        with pytest.raises(UserError, match="None of 1 rows has clap"):
            logits_of(Store(path), manifest, folders, "audio", rows=list(part.rows))


class TestValorLabels:
    def labels(self, store, manifest, folders, shift=0.0):
        rows = rows_of_split(manifest, ["train"])
        logits, prompts = {}, {}
        for modality in ("visual", "audio"):
            logits[modality] = logits_of(store, manifest, folders, modality, rows)
            values = logits[modality].arrays["logits"]
            median = tuple(float(v) + shift for v in np.median(values, axis=(0, 1)))
            prompts[modality] = replace(valor_prompts(CLASSES, modality), thresholds=median)
        chosen = manifest.split("train")
        return derive_valor_labels(store, manifest, chosen, logits, prompts), logits, prompts

    def test_are_labels_whose_logit_is_above_the_threshold(self, store, manifest, folders):
        artefact, logits, prompts = self.labels(store, manifest, folders)
        assert artefact.ids == ("a", "b"), "the mute clip has no sound to label"
        y = {"a": [1, 1, 0], "b": [0, 0, 1]}
        # b carries a's sound, so a's logits decide on b's labels.
        heard = {"a": "a", "b": "a"}
        for modality in ("visual", "audio"):
            labels = artefact.arrays[modality]
            assert labels.shape == (2, SECONDS, 3)
            assert labels.dtype == np.uint8
            for n, name in enumerate(artefact.ids):
                source = heard[name] if modality == "audio" else name
                values = logits[modality].arrays["logits"][logits[modality].ids.index(source)]
                for t in range(SECONDS):
                    for c in range(3):
                        present = values[t, c] > prompts[modality].thresholds[c]
                        assert labels[n, t, c] == y[name][c] * present
        both = np.concatenate([artefact.arrays[m].ravel() for m in ("visual", "audio")])
        assert 0 < both.mean() < 1

    def test_everything_the_key_should_hold(self, store, manifest, folders):
        key = self.labels(store, manifest, folders)[0].key
        assert key.id != self.labels(store, manifest, folders, shift=100.0)[0].key.id
        noisy = replace(
            manifest, rows=tuple(replace(row, labels=("Dog",)) for row in manifest.rows)
        )
        assert key.id != self.labels(store, noisy, folders)[0].key.id


class TestCommand:
    def arguments(self, store, manifest, folders, what):
        weights = [f"{name}={folder}" for name, folder in folders.items()]
        places = ["--manifest", str(manifest.path), "--store", str(store.path)]
        return ["derive", what, *places, "--weights", *weights, "--device", "cpu"]

    def test_logits(self, store, manifest, folders, capsys):
        arguments = self.arguments(store, manifest, folders, "clip-logits")
        assert main([*arguments, "--split", "train", "test"]) == DONE
        out = capsys.readouterr().out
        path = Path(out.split(": 4 rows")[0])
        assert path.parent == store.path / "derived"
        assert "logits (4, 3, 3)" in out
        artefact = read_derived(path)
        np.testing.assert_array_equal(
            artefact.arrays["logits"],
            logits_of(store, manifest, folders, "visual").arrays["logits"],
        )

    def test_valor_labels_and_rows_left_out(self, store, manifest, folders, tmp_path, capsys):
        arguments = self.arguments(store, manifest, folders, "valor-labels")
        out = tmp_path / "labels.h5"
        assert main([*arguments, "--out", str(out)]) == PARTIAL
        assert "1 rows without features were left out" in capsys.readouterr().out
        artefact = read_derived(out)
        assert artefact.key.name == "valor_labels"
        assert artefact.ids == ("a", "b")
        assert artefact.key.options["audio"] == {"Speech": 0.0, "Dog": 4.0, "Violin_fiddle": 3.0}

    def test_own_prompts(self, store, manifest, folders, tmp_path):
        file = tmp_path / "prompts.json"
        file.write_text('{"Speech": "talk", "Dog": "a dog", "Violin_fiddle": "a violin"}')
        arguments = self.arguments(store, manifest, folders, "clap-logits")
        assert main([*arguments, "--prompts", str(file), "--split", "test"]) == DONE
        with pytest.raises(UserError, match="thresholds hold for its own prompts only"):
            main(
                [
                    *self.arguments(store, manifest, folders, "valor-labels"),
                    "--prompts",
                    str(file),
                ]
            )

    @pytest.mark.parametrize(
        ("extra", "text"),
        [
            (["--weights", "clip=x"], "--weights takes KEY=VALUE with a key out of clap, "),
            (["--features", "sound=clap"], "--features takes KEY=VALUE with a key out of visual"),
            (["--split", "training"], "no rows of split 'training'; choose from test, train"),
        ],
    )
    def test_mistakes(self, store, manifest, folders, extra, text):
        with pytest.raises(UserError, match=text):
            main([*self.arguments(store, manifest, folders, "clap-logits"), *extra])
