"""The shared network against its definition (methods/avvp.md, section 3)."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.avvp.interface import Inputs
from trainers.avvp.networks.denoiser import Denoiser
from trainers.avvp.networks.han import HAN
from trainers.avvp.networks.layers import HANLayer, mmil_pooling, segment_means

LLP = {"audio": 128, "visual": 2048, "motion": 512}
WIDTHS = {"audio": 6, "visual": 10, "motion": 4}


def _inputs(n: int = 3, segments: int = 10, *, motion: bool = True) -> Inputs:
    torch.manual_seed(1)
    shapes = {role: (n, segments, width) for role, width in WIDTHS.items()}
    return Inputs(
        torch.randn(shapes["audio"]),
        torch.randn(shapes["visual"]),
        torch.randn(shapes["motion"]) if motion else None,
    )


def _han(**options: object) -> HAN:
    torch.manual_seed(0)
    return HAN(WIDTHS, 5, **{"width": 16, "ff": 12, **options})


def test_live_parameters_are_as_many_as_published() -> None:
    assert sum(p.numel() for p in HAN(LLP, 25).parameters()) == 4_569_675
    assert sum(p.numel() for p in Denoiser(LLP, 25).parameters()) == 4_569_625


def _layer_by_definition(layer: HANLayer, q: Tensor, o: Tensor, with_ca: bool) -> Tensor:
    h = q + layer.self_attn(q, q, q)[0]
    if with_ca:
        h = h + layer.cm_attn(q, o, o)[0]
    h = layer.norm1(h)
    return layer.norm2(h + layer.linear2(F.relu(layer.linear1(h))))


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("with_ca", [True, False])
def test_layer_equals_its_definition(heads: int, with_ca: bool) -> None:
    torch.manual_seed(0)
    layer = HANLayer(16, heads=heads, ff=12).eval()
    for attention in (layer.self_attn, layer.cm_attn):
        nn.init.normal_(attention.in_proj_bias)
        nn.init.normal_(attention.out_proj.bias)
    q, o = torch.randn(2, 3, 7, 16)
    expected = _layer_by_definition(layer, q, o, with_ca)
    torch.testing.assert_close(layer(q, o, with_ca=with_ca), expected, atol=1e-5, rtol=0)


def test_layer_gradients_equal_those_of_the_definition() -> None:
    torch.manual_seed(0)
    layer = HANLayer(8, heads=2, ff=6).double().eval()
    q, o = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    weight = torch.randn(3, 5, 8, dtype=torch.float64)
    gradients = []
    for forward in (
        lambda: layer(q, o),
        lambda: _layer_by_definition(layer, q, o, True),
    ):
        layer.zero_grad()
        (forward() * weight).sum().backward()
        gradients.append([p.grad.clone() for p in layer.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_layer_drops_in_five_places_in_training_only() -> None:
    torch.manual_seed(0)
    layer = HANLayer(64, ff=64, dropout=0.999)
    q, o = torch.randn(2, 4, 5, 64)
    # With nearly all dropped, only residuals are left.
    expected = layer.norm2(layer.norm1(q))
    assert (layer(q, o) - expected).abs().median() < 1e-3
    assert (layer.eval()(q, o) - expected).abs().median() > 1e-2


def test_swapping_the_inputs_of_the_layer_swaps_its_outputs() -> None:
    net = _han().eval()
    streams = net.embed(_inputs())
    with torch.no_grad():
        out, swapped = net.hat_encoder(streams), net.hat_encoder(streams.flip(0))
    torch.testing.assert_close(out, swapped.flip(0))


@pytest.mark.parametrize("with_ca", [True, False])
def test_audio_depends_on_the_picture_only_through_cross_attention(with_ca: bool) -> None:
    net, inputs = _han().eval(), _inputs()
    other = dataclasses.replace(inputs, visual=inputs.visual + 1)
    one, two = net(inputs, with_ca=with_ca), net(other, with_ca=with_ca)
    assert torch.equal(one.audio_clip, two.audio_clip) is not with_ca
    assert torch.equal(one.p[:, :, 0], two.p[:, :, 0]) is not with_ca
    assert not torch.equal(one.visual_clip, two.visual_clip)


def test_trunk_is_linear_without_anything_else() -> None:
    net, inputs = _han(), _inputs()
    audio, visual = net.embed(inputs)
    torch.testing.assert_close(audio, inputs.audio @ net.fc_a.weight.T + net.fc_a.bias)
    both = torch.cat((net.fc_v(inputs.visual), net.fc_st(inputs.motion)), -1)
    torch.testing.assert_close(visual, both @ net.fc_fusion.weight.T + net.fc_fusion.bias)


def test_without_motion_the_visual_stream_is_the_visual_feature_alone() -> None:
    inputs = _inputs(motion=False)
    net = HAN(inputs.widths, 5, width=16)
    assert not hasattr(net, "fc_st")
    assert not hasattr(net, "fc_fusion")
    torch.testing.assert_close(net.embed(inputs)[1], net.fc_v(inputs.visual))


def test_pooling_equals_its_definition() -> None:
    net, inputs = _han().eval(), _inputs()
    out = net(inputs)
    for b in range(3):
        x = torch.stack((out.audio_out[b], out.visual_out[b]), dim=1)  # (T, 2, D)
        p = torch.sigmoid(net.fc_prob(x))
        w = torch.softmax(net.fc_frame_att(x), dim=0)
        u = torch.softmax(net.fc_av_att(x), dim=1)
        torch.testing.assert_close(out.p[b], p)
        torch.testing.assert_close(out.audio_clip[b], (w * p)[:, 0].sum(0))
        torch.testing.assert_close(out.visual_clip[b], (w * p)[:, 1].sum(0))
        torch.testing.assert_close(out.clip[b], (w * u * p).sum((0, 1)))


def test_clip_of_a_modality_is_a_convex_combination_and_that_of_both_is_not() -> None:
    torch.manual_seed(0)
    heads = [nn.Linear(4, 3) for _ in range(3)]
    nn.init.constant_(heads[0].bias, 20.0)
    # Time and modality weights agree on one cell in each modality, so that both count in full.
    x = torch.zeros(2, 1, 2, 4)
    x[0, 0, 0, 0] = x[1, 0, 1, 0] = 1
    for head in heads[1:]:
        nn.init.zeros_(head.weight)
        head.weight.data[:, 0] = 30.0
    pooled = mmil_pooling(x, *heads)
    assert (pooled.audio_clip <= pooled.p[:, :, 0].amax(1) + 1e-6).all()
    assert (pooled.visual_clip <= pooled.p[:, :, 1].amax(1) + 1e-6).all()
    assert (pooled.clip > 1.9).all()
    out = _han().eval()(_inputs(8))
    assert (out.audio_clip <= out.p[:, :, 0].amax(1) + 1e-6).all()
    assert (out.visual_clip <= out.p[:, :, 1].amax(1) + 1e-6).all()


@pytest.mark.parametrize("shape", ["flat", "nested"])
def test_pooled_features_and_frames_give_the_same(shape: str) -> None:
    net, inputs = _han().eval(), _inputs()
    frames = torch.randn(3, 10, 8, WIDTHS["visual"])
    given = frames.flatten(1, 2) if shape == "flat" else frames
    one = net(dataclasses.replace(inputs, visual=given))
    two = net(dataclasses.replace(inputs, visual=frames.mean(2)))
    # What the published network does: the linear layer first, then the mean over eight frames.
    after = net.fc_v(frames).mean(2)
    visual = net.fc_fusion(torch.cat((after, net.fc_st(inputs.motion)), -1))
    three = net.parse(torch.stack((net.fc_a(inputs.audio), visual)))
    for a, b, c in zip(one, two, three, strict=True):
        assert (a - b).abs().max() < 1e-5
        assert (a - c).abs().max() < 1e-5


def test_pooled_features_pass_untouched() -> None:
    x = torch.randn(2, 10, 4)
    assert segment_means(x, 10) is x


@pytest.mark.parametrize("segments", [1, 7, 13])
def test_number_of_segments_is_free(segments: int) -> None:
    out = _han()(_inputs(2, segments))
    assert out.p.shape == (2, segments, 2, 5)
    assert out.visual_in.shape == (2, segments, 16)


def test_as_released_every_layer_reads_the_input() -> None:
    chained, released = _han(layers=3).eval(), _han(layers=3, chained=False).eval()
    x = chained.embed(_inputs())
    last = released.hat_encoder.layers[-1]
    torch.testing.assert_close(released.hat_encoder(x), last(x, x.flip(0)))
    assert not torch.allclose(released.hat_encoder(x), chained.hat_encoder(x), atol=1e-3)
    first = _han(), _han(chained=False)
    x = first[0].eval().embed(_inputs())
    assert torch.equal(first[0].hat_encoder(x), first[1].eval().hat_encoder(x))


def test_dropout_of_the_heads_touches_the_visual_stream_only() -> None:
    net, inputs = _han(dropout=0.0, cls_dropout=0.5), _inputs()
    one, two, plain = net(inputs), net(inputs), net.eval()(inputs)
    assert torch.equal(one.p[:, :, 0], plain.p[:, :, 0])
    assert not torch.equal(one.p[:, :, 1], two.p[:, :, 1])
    # The contrastive loss reads the stream before this dropout.
    assert torch.equal(one.visual_out, plain.visual_out)


def test_denoiser_reads_features_and_labels_of_both_modalities() -> None:
    torch.manual_seed(0)
    net, inputs = Denoiser(WIDTHS, 5, width=16), _inputs()
    labels = torch.zeros(3, 2, 5)
    base = net(inputs, labels)
    assert base.shape == (3, 2, 5)
    for m in (0, 1):
        changed = labels.clone()
        changed[:, m, 2] = 1
        assert not torch.allclose(net(inputs, changed), base)
    assert not torch.allclose(net(dataclasses.replace(inputs, audio=-inputs.audio), labels), base)
    assert not torch.allclose(net(dataclasses.replace(inputs, motion=-inputs.motion), labels), base)


def test_denoiser_has_no_dropout_and_keeps_nine_labels_of_ten_at_first() -> None:
    torch.manual_seed(0)
    net, inputs, labels = Denoiser(WIDTHS, 5, width=16), _inputs(), torch.ones(3, 2, 5)
    assert torch.equal(net(inputs, labels), net(inputs, labels))
    nn.init.zeros_(net.fc_keep.weight)
    torch.testing.assert_close(torch.sigmoid(net(inputs, labels)), torch.full((3, 2, 5), 0.9))


def test_denoiser_options() -> None:
    inputs, labels = _inputs(motion=False), torch.ones(3, 2, 5)
    torch.manual_seed(0)
    blind = Denoiser(inputs.widths, 5, width=16, state_labels=False)
    assert torch.equal(blind(inputs, labels), blind(inputs, 0 * labels))
    attentive = Denoiser(inputs.widths, 5, width=16, pooling="attention", keep_bias=0.0)
    nn.init.zeros_(attentive.fc_frame_att.weight)
    nn.init.zeros_(attentive.fc_frame_att.bias)
    uniform = attentive(inputs, labels)
    attentive.pooling = "mean"
    torch.testing.assert_close(uniform, attentive(inputs, labels))
