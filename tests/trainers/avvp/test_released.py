"""Reading the weights that authors released, on made-up files of their layout."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.errors import UserError
from trainers.avvp.methods.han import HANHyperparameters, HANMethod
from trainers.avvp.networks.han import HAN
from trainers.avvp.released import load_released

WIDTHS = {"audio": 6, "visual": 8, "motion": 4}
HAN_DEAD = ("audio_encoder", "visual_encoder", "cmt_encoder", "hat_encoder.norm1")
MA_DEAD = ("t_att", "t_att2", "fc1", "fc2")
JOMOLD_DEAD = ("hat_encoder.norm1", "hat_encoder.norm2")


def _net(**options: int) -> HAN:
    return HAN(WIDTHS, 3, **{"width": 8, "ff": 8, **options})


def _weights(*dead: str) -> dict[str, Tensor]:
    """The state dict of a network by the released key map, written out by hand."""
    layer = "hat_encoder.layers.0"
    shapes = {
        "fc_prob": (3, 8),
        "fc_frame_att": (3, 8),
        "fc_av_att": (3, 8),
        "fc_a": (8, 6),
        "fc_v": (8, 8),
        "fc_st": (8, 4),
        "fc_fusion": (8, 16),
        f"{layer}.linear1": (8, 8),
        f"{layer}.linear2": (8, 8),
        f"{layer}.self_attn.out_proj": (8, 8),
        f"{layer}.cm_attn.out_proj": (8, 8),
    }
    weights = {}
    for name, (rows, columns) in shapes.items():
        weights[f"{name}.weight"] = torch.randn(rows, columns)
        weights[f"{name}.bias"] = torch.randn(rows)
    for norm in ("norm1", "norm2"):
        weights[f"{layer}.{norm}.weight"] = torch.randn(8)
        weights[f"{layer}.{norm}.bias"] = torch.randn(8)
    for attention in ("self_attn", "cm_attn"):
        weights[f"{layer}.{attention}.in_proj_weight"] = torch.randn(24, 8)
        weights[f"{layer}.{attention}.in_proj_bias"] = torch.randn(24)
    for name in dead:
        weights[f"{name}.weight"] = torch.randn(5)
    return weights


def _save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def _jomold(weights: dict[str, Tensor]) -> dict[str, object]:
    """Weights under ``model`` beside what its authors' script saves for resuming."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([parameter])
    return {
        "model": weights,
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "numpy": np.random.RandomState(0).get_state(),
        "python": random.Random(0).getstate(),
        "torch": torch.get_rng_state(),
    }


@pytest.mark.parametrize(
    ("dead", "wrap"),
    [(HAN_DEAD, dict), (MA_DEAD + HAN_DEAD, dict), (JOMOLD_DEAD, _jomold)],
    ids=["han", "ma", "jomold"],
)
def test_released_layouts_load_and_name_their_dead_parameters(
    tmp_path: Path, dead: tuple[str, ...], wrap: Callable[[dict[str, Tensor]], object]
) -> None:
    weights, net = _weights(*dead), _net()
    dropped = load_released(_save(tmp_path / "released.pt", wrap(weights)), net)
    assert sorted(dropped) == sorted(f"{name}.weight" for name in dead)
    loaded = net.state_dict()
    assert len(loaded) == len(weights) - len(dead)
    assert all(torch.equal(loaded[name], weights[name]) for name in loaded)


def test_numpy_states_load_under_their_old_name(tmp_path: Path) -> None:
    path = _save(tmp_path / "old.pt", _jomold(_weights()))
    content = path.read_bytes()
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    assert new in content
    # Pickle protocol 2 writes the module of a global as a line, so it can be shortened in place;
    # torch's own archive would notice, hence the plain pickle below.
    plain = tmp_path / "plain.pt"
    torch.save(_jomold(_weights()), plain, _use_new_zipfile_serialization=False)
    renamed = plain.read_bytes().replace(new, old)
    assert old in renamed
    plain.write_bytes(renamed)
    assert load_released(plain, _net()) == []


def test_a_predictor_takes_weights_as_well(tmp_path: Path) -> None:
    hp = HANHyperparameters(width=8, ff=8)
    predictor = HANMethod().build(WIDTHS, ("a", "b", "c"), hp)
    weights = _weights()
    load_released(_save(tmp_path / "w.pt", weights), predictor)
    assert torch.equal(predictor.net.fc_a.weight, weights["fc_a.weight"])


def test_unknown_and_missing_parameters_are_refused_by_name(tmp_path: Path) -> None:
    weights = _weights()
    weights["fc_beta.weight"] = weights.pop("fc_av_att.bias")
    net = _net()
    before = net.fc_a.weight.detach().clone()
    with pytest.raises(
        UserError, match=r"1 missing \(fc_av_att.bias\), 1 unknown \(fc_beta.weight\)"
    ):
        load_released(_save(tmp_path / "w.pt", weights), net)
    assert torch.equal(before, net.fc_a.weight)
    with pytest.raises(UserError, match=r"16 missing .* and 10 more\).* number of layers"):
        load_released(_save(tmp_path / "w.pt", _weights()), _net(layers=2))


def test_network_without_motion_cannot_take_released_weights(tmp_path: Path) -> None:
    net = HAN({"audio": 6, "visual": 8}, 3, width=8, ff=8)
    with pytest.raises(UserError, match=r"unknown \(fc_st.weight.*audio, visual and motion"):
        load_released(_save(tmp_path / "w.pt", _weights()), net)


def test_other_shapes_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fc_prob.weight \(3, 8\) for \(4, 8\)"):
        load_released(_save(tmp_path / "w.pt", _weights()), HAN(WIDTHS, 4, width=8, ff=8))


class _Trap:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"fc_a": 3}}, "holds no state dict"),
        ([1, 2], "holds no state dict"),
        ({"model": _Trap()}, "is not a file of released weights"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, content: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        load_released(_save(tmp_path / "w.pt", content), _net())
    assert not (tmp_path / "ran").exists()


def test_absent_and_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_released(tmp_path / "absent.pt", _net())
    (tmp_path / "text.pt").write_text("not a pickle")
    with pytest.raises(UserError, match="is not a file of released weights"):
        load_released(tmp_path / "text.pt", _net())
    (tmp_path / "empty.pt").touch()
    with pytest.raises(UserError, match="is not a file of released weights"):
        load_released(tmp_path / "empty.pt", _net())
