"""Class prompts as they were published, and text embeddings."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from features.backbones.weights import WeightChoice
from features.text import embed_texts, lsld_prompts, read_prompts, valor_prompts
from pipeline.errors import UserError
from pipeline.manifest.classes import class_names
from tests.features.models import save_clap, save_clip

LLP = class_names("llp")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("text")
    return {
        "clip_vit_b16": save_clip(folder / "clip"),
        "clap": save_clap(folder / "clap", fusion=False),
    }


class TestPrompts:
    def test_valor_has_one_for_every_class_of_llp(self):
        for modality, start in (("visual", "A photo of "), ("audio", "This is a sound of ")):
            prompts = valor_prompts(LLP, modality)
            assert len(set(prompts.texts)) == len(prompts.thresholds) == 25
            assert all(text.startswith(start) for text in prompts.texts)

    def test_valor_is_spelt_as_released(self):
        visual = dict(zip(LLP, valor_prompts(LLP, "visual").texts, strict=True))
        assert visual["Speech"] == "A photo of people talking."
        assert visual["Accordion"] == "A photo of an accordion."
        assert visual["Vacuum_cleaner"] == "A photo of a vaccum cleaner."
        assert visual["Acoustic_guitar"] == "A photo of a acoustic guiter."
        audio = dict(zip(LLP, valor_prompts(LLP, "audio").texts, strict=True))
        assert audio["Frying_(food)"] == "This is a sound of frying (food)"
        assert audio["Chicken_rooster"] == "This is a sound of chicken, rooster"
        assert audio["Baby_cry_infant_cry"] == "This is a sound of baby cry, infant cry"

    def test_valor_thresholds(self):
        visual = "20 15 18 14 15 18 18 15 15 15 15 18 15 15 15 15 15 15 15 16 14 15 15 15 18"
        audio = "0 0 1 4 6 -2 4 4 2 2 2 1 2 3 0 2 2 2 0 2 -1 2 3 3 0"
        for modality, published in (("visual", visual), ("audio", audio)):
            values = [float(value) for value in published.split()]
            assert list(valor_prompts(LLP, modality).thresholds) == values
        assert valor_prompts(("Dog", "Speech"), "visual").thresholds == (14.0, 20.0)

    def test_lsld_has_one_for_every_subset(self):
        prompts = lsld_prompts(("Speech", "Dog", "Violin_fiddle"), "audio")
        assert [text.removeprefix("This is a sound of ") for text, _ in prompts] == [
            "Speeching and Dog and playing the Violin",
            "Speeching",
            "Dog",
            "playing the Violin",
            "Speeching and Dog",
            "Speeching and playing the Violin",
            "Dog and playing the Violin",
            "other",
        ]
        assert prompts[5][1] == {"Speech", "Violin_fiddle"}
        assert prompts[-1][1] == frozenset()
        assert lsld_prompts(("Cat",), "visual") == [
            ("Cat", frozenset({"Cat"})),
            ("other", frozenset()),
        ]

    def test_unknown_classes(self):
        with pytest.raises(UserError, match=r"no prompt for 'Whale'.*--prompts FILE"):
            valor_prompts(("Dog", "Whale"), "visual")

    def test_own_prompts(self, tmp_path):
        file = tmp_path / "prompts.json"
        file.write_text(json.dumps({"b": "B!", "a": "A!"}))
        assert read_prompts(file, ("a", "b")).texts == ("A!", "B!")
        with pytest.raises(UserError, match="no prompt for 'c'"):
            read_prompts(file, ("a", "c"))
        for text, why in (("[1]", "must be a table"), ("{", "no valid JSON"), ("{}", "no prompt")):
            file.write_text(text)
            with pytest.raises(UserError, match=why):
                read_prompts(file, ("a",))
        with pytest.raises(UserError, match="cannot be read"):
            read_prompts(tmp_path / "absent.json", ("a",))


class TestEmbeddings:
    @pytest.mark.parametrize("family", ["clip_vit_b16", "clap"])
    def test_equal_the_models_own(self, folders, family):
        import torch
        from transformers import ClapModel, CLIPModel, CLIPTokenizer, RobertaTokenizer

        folder = folders[family]
        texts = ("A photo of the dog.", "people", "This is a sound of rain and thunder")
        ours = embed_texts(family, WeightChoice(str(folder)), texts)
        clip = family != "clap"
        tokenizer = (CLIPTokenizer if clip else RobertaTokenizer).from_pretrained(folder)
        model = (CLIPModel if clip else ClapModel).from_pretrained(folder).eval()
        with torch.inference_mode():
            # Padded to the longest here: the length of the padding changes nothing.
            inputs = tokenizer(list(texts), padding=True, return_tensors="pt")
            theirs = model.get_text_features(**inputs).pooler_output
        theirs = torch.nn.functional.normalize(theirs, dim=-1).numpy()
        np.testing.assert_allclose(ours.x, theirs, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(ours.x, axis=1), 1, atol=1e-6)
        assert all(np.abs(a - b).max() > 1e-3 for a, b in pairwise(ours.x))
        scale = model.logit_scale if clip else model.logit_scale_a
        assert ours.scale == pytest.approx(scale.detach().exp().item())

    def test_do_not_depend_on_neighbours(self, folders):
        weights = WeightChoice(str(folders["clap"]))
        alone = embed_texts("clap", weights, ("a dog",))
        among = embed_texts("clap", weights, ("a much longer text about something else", "a dog"))
        np.testing.assert_array_equal(alone.x[0], among.x[1])

    def test_whole_tokenizer_file(self, folders, tmp_path):
        from transformers import CLIPTokenizer

        copy = Path(shutil.copytree(folders["clip_vit_b16"], tmp_path / "copy"))
        CLIPTokenizer.from_pretrained(copy).save_pretrained(copy)
        for name in ("vocab.json", "merges.txt"):
            (copy / name).unlink(missing_ok=True)
        assert (copy / "tokenizer.json").is_file()
        ours, theirs = (
            embed_texts("clip_vit_b16", WeightChoice(str(f)), ("the photo",))
            for f in (copy, folders["clip_vit_b16"])
        )
        np.testing.assert_array_equal(ours.x, theirs.x)

    def test_no_tokenizer(self, tmp_path):
        folder = save_clip(tmp_path / "clip", tokenizer=False)
        with pytest.raises(UserError, match=r"holds no tokenizer \(tokenizer.json, or vocab.json"):
            embed_texts("clip_vit_b16", WeightChoice(str(folder)), ("a",))
        with pytest.raises(UserError, match="Random weights of clap have no tokenizer"):
            embed_texts("clap", WeightChoice(seed=0), ("a",))

    def test_a_damaged_tokenizer(self, tmp_path, folders):
        copy = Path(shutil.copytree(folders["clip_vit_b16"], tmp_path / "copy"))
        (copy / "merges.txt").write_text("#version: 0.2\nx y z\nq nothing\n")
        with pytest.raises(UserError, match=r"The tokenizer in .* cannot be read"):
            embed_texts("clip_vit_b16", WeightChoice(str(copy)), ("a",))

    def test_another_models_tokenizer(self, tmp_path, folders):
        copy = Path(shutil.copytree(folders["clap"], tmp_path / "copy"))
        vocabulary = json.loads((copy / "vocab.json").read_text())
        vocabulary["dog"] = len(vocabulary) + 5
        vocabulary |= {"do": len(vocabulary) + 5, "d": vocabulary["d"]}
        (copy / "vocab.json").write_text(json.dumps(vocabulary))
        (copy / "merges.txt").write_text("#version: 0.2\nd o\ndo g\n")
        with pytest.raises(UserError, match="has more tokens than the model of clap knows"):
            embed_texts("clap", WeightChoice(str(copy)), ("dog",))

    def test_unknown_models(self):
        with pytest.raises(UserError, match="no model with a text tower 'resnet152'"):
            embed_texts("resnet152", WeightChoice(), ("a",))
