"""The table of weights: facts that can be checked here, places, digests, downloads, the command."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
import torchvision

from features.__main__ import main
from features.backbones import BACKBONES, WeightChoice
from features.backbones.published import PUBLISHED, WeightFile
from features.backbones.weights import Network, read_state
from pipeline.cli import DONE, PARTIAL
from pipeline.errors import UserError

CONTENT = b"numbers"


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """Empty caches."""
    for name in ("HF_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.fixture
def entry() -> WeightFile:
    digest = hashlib.sha256(CONTENT).hexdigest()[:8]
    return WeightFile(
        "tiny", "Tiny", "https://example.org/a/t%3D1.pth?x=1", "none", f"sha256:{digest}"
    )


def put(entry: WeightFile, content: bytes = CONTENT) -> Path:
    entry.path.parent.mkdir(parents=True, exist_ok=True)
    entry.path.write_bytes(content)
    return entry.path


def test_torchvisions_addresses():
    models = torchvision.models
    for name, weights in {
        "resnet152": models.ResNet152_Weights.IMAGENET1K_V1,
        "squeezenet1_0": models.SqueezeNet1_0_Weights.IMAGENET1K_V1,
        "r2plus1d_18": models.video.R2Plus1D_18_Weights.KINETICS400_V1,
    }.items():
        assert PUBLISHED[name].url == weights.url
        assert PUBLISHED[name].digest == f"sha256:{weights.url[-12:-4]}"


def test_every_network_has_its_line():
    families = {
        name.split(".")[0] for name in BACKBONES.names() if BACKBONES.get(name).weights_required
    }
    assert families == {name.split(".")[0] for name in PUBLISHED}


@pytest.mark.parametrize("name", PUBLISHED)
def test_lines_are_complete(name):
    line = PUBLISHED[name]
    assert line.name == name
    assert line.url.startswith("https://")
    assert line.file.endswith((".pth", ".bin", ".safetensors"))
    assert line.title
    assert line.licence
    if line.digest is not None:
        kind, _, digits = line.digest.partition(":")
        assert kind in ("sha256", "md5")
        assert len(digits) in (8, 32 if kind == "md5" else 64)
        assert int(digits, 16)


def test_files_are_looked_for_where_torch_keeps_them(home):
    assert PUBLISHED["vggish"].path == Path(
        torch.hub.get_dir(), "checkpoints", "vggish-10086976.pth"
    )
    assert PUBLISHED["panns_resnet22"].path.name == "ResNet22_mAP=0.430.pth"
    assert PUBLISHED["panns_resnet22"].hub is None


def test_files_of_the_hub_are_looked_for_where_its_client_keeps_them(home):
    line = PUBLISHED["clap"]
    assert not line.path.is_file()
    cache = home / "huggingface" / "hub"
    snapshot = cache / "models--laion--clap-htsat-fused" / "snapshots" / "0123456789abcdef"
    snapshot.mkdir(parents=True)
    (snapshot / line.file).write_bytes(CONTENT)
    assert line.path == snapshot / line.file
    found = huggingface_hub.try_to_load_from_cache(
        line.hub, line.file, cache_dir=cache, revision=snapshot.name
    )
    assert Path(found) == line.path


def test_digests(home, entry):
    path = put(entry)
    assert entry.matches(path) is True
    md5 = replace(entry, digest=f"md5:{hashlib.md5(CONTENT).hexdigest()}")
    assert md5.matches(path) is True
    assert replace(entry, digest="sha256:00000000").matches(path) is False
    assert replace(entry, digest=None).matches(path) is None


def test_states(home, entry):
    text, good = entry.state()
    assert good
    assert text == f"not here (downloaded when it is needed): {entry.path}"
    put(entry)
    assert entry.state() == (f"here, as published: {entry.path}", True)
    unknown = replace(entry, digest=None)
    assert unknown.state() == (f"here, its digest is not published: {entry.path}", True)
    text, good = replace(unknown, size=8).state()
    assert (text.split(":")[0], good) == ("7 bytes instead of 8, not that file", False)
    put(entry, b"another")
    text, good = entry.state()
    assert (text.split(": ")[0], good) == (f"not {entry.digest}, another file", False)


class TestDownload:
    @pytest.fixture
    def network(self, home, entry) -> Network:
        return Network("tiny", WeightChoice(), lambda: torch.nn.Linear(1, 1), published=entry)

    def sends(self, monkeypatch, content: bytes) -> None:
        monkeypatch.setattr(
            torch.hub,
            "download_url_to_file",
            lambda url, path: Path(path).write_bytes(content),
        )

    def test_what_is_as_published_is_kept(self, network, entry, monkeypatch):
        self.sends(monkeypatch, CONTENT)
        assert network.file() == entry.path
        assert [path.name for path in entry.path.parent.iterdir()] == ["t=1.pth"]
        assert network.digest() == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"

    def test_what_is_not_is_refused(self, network, entry, monkeypatch):
        self.sends(monkeypatch, b"half of it")
        with pytest.raises(UserError, match="what came is not sha256:"):
            network.file()
        assert list(entry.path.parent.iterdir()) == []

    def test_what_cannot_be_checked_is_not_downloaded(self, home, entry, monkeypatch):
        self.sends(monkeypatch, CONTENT)
        network = Network(
            "tiny",
            WeightChoice(),
            lambda: torch.nn.Linear(1, 1),
            published=replace(entry, digest=None),
        )
        with pytest.raises(UserError, match="nothing says what their digest should be"):
            network.file()

    def test_a_network_without_published_weights(self):
        network = Network("own", WeightChoice(), lambda: torch.nn.Linear(1, 1))
        with pytest.raises(
            UserError, match=r"no published weights of own; pass --weights own=FILE"
        ):
            network.digest()


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(UserError, match="cannot be read as a plain state dict"):
        read_state("tiny", tmp_path / "trap.pth", inside="model")
    assert not (tmp_path / "ran").exists()


class TestCommand:
    def test_lists_every_line(self, home, capsys):
        assert main(["weights"]) == DONE
        text = capsys.readouterr().out
        for line in PUBLISHED.values():
            assert f"{line.name}: {line.title}" in text
            assert line.url in text
        assert "CC-BY-4.0" in text
        assert "digest unknown" in text

    def test_tells_another_file_from_the_published_one(self, home, capsys):
        put(PUBLISHED["resnet152"])
        put(PUBLISHED["vggish.pca"])
        assert main(["weights", "resnet152"]) == PARTIAL
        assert "not sha256:394f9c45, another file" in capsys.readouterr().out
        assert main(["weights", "vggish.pca"]) == PARTIAL
        assert "instead of 181,358" in capsys.readouterr().out
        assert main(["weights", "squeezenet1_0"]) == DONE

    def test_unknown_names(self, home):
        with pytest.raises(UserError, match="did you mean 'vggish'"):
            main(["weights", "vgish"])
