"""The compared systems: counts, costs, equations, limits; tiny widths, full size only on meta."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fsrst.errors import FsrstError
from fsrst.models import ReferenceSR
from fsrst.models.baselines import BASELINES
from fsrst.models.baselines.hime import MAX_OFFSET, ColumnAggregation, DeformAlignment, HIMESmall
from fsrst.models.baselines.span import SPAN, ChainConv
from fsrst.models.interface import bicubic_skip

TINY: dict[str, dict[str, Any]] = {
    "bicubic": {},
    "resnet": {"width": 8, "blocks": 2},
    "resnet-small": {"width": 4, "blocks": 1},
    "span": {"width": 8},
    "hime-small": {"width": 8},
    "hime": {"width": 8, "groups": 2},
}
WITH_REFERENCES = ("hime-small", "hime")
WITHOUT_REFERENCES = ("bicubic", "resnet", "resnet-small", "span")
ANY_SIZE = (*WITHOUT_REFERENCES, "hime")


def tiny(name: str, **options: Any) -> ReferenceSR:
    """A small network of random weights whose alignment moves things, as after training."""
    torch.manual_seed(0)
    model = BASELINES[name](**{**TINY[name], **options}).eval()
    if name in WITH_REFERENCES:
        for layer in model.alignment.offsets:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.2)
    return model


def parameters_of(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def pictures(b: int = 2, n: int = 3, side: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return (
        torch.rand(b, 3, side, side, generator=generator),
        torch.rand(b, n, 3, 4 * side, 4 * side, generator=generator),
    )


# --- what is printed about them -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("bicubic", 0),
        ("resnet", 2_540_628),
        ("resnet-small", 865_620),
        ("span", 1_840_488),
        ("hime-small", 2_159_032),
        ("hime", 2_582_124),
    ],
)
def test_parameter_counts(name: str, count: int) -> None:
    with torch.device("meta"):
        model = BASELINES[name]()
    assert parameters_of(model) == count
    assert set(BASELINES) == set(TINY)


def test_span_is_small_once_fused() -> None:
    with torch.device("meta"):
        assert parameters_of(SPAN().fuse()) == 426_288


def test_alignment_of_hime_small() -> None:
    assert parameters_of(tiny("hime-small").alignment) == 2_742


@pytest.mark.parametrize(
    ("name", "giga"), [("hime-small", 2.68), ("span", 0.44), ("resnet", 2.60), ("hime", 3.86)]
)
def test_multiply_accumulates_from_32_px_with_three_references(name: str, giga: float) -> None:
    """The first two are published facts; the others hold what the tables print."""
    with torch.device("meta"), torch.no_grad():
        model = BASELINES[name]().eval()
        model = model.fuse() if isinstance(model, SPAN) else model
        with FlopCounterMode(display=False) as counter:
            model(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 3, 128, 128))
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga, rel=0.015)


# --- the interface --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("n", [0, 1, 2])
def test_shapes_for_any_number_of_references(name: str, n: int) -> None:
    model = tiny(name)
    lr, refs = pictures(n=n)
    with torch.no_grad():
        state = model.encode(refs)
        sr = model.upscale(lr, state)
        assert torch.equal(sr, model(lr, refs))
    assert sr.shape == (2, 3, 128, 128)
    assert torch.isfinite(sr).all()
    assert all(tensor.shape[:2] == (2, n) for tensor in state)
    assert torch.equal(state[-1], torch.ones(2, n))


@pytest.mark.parametrize("name", ANY_SIZE)
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_any_size_and_scale(name: str, scale: int) -> None:
    model = tiny(name, scale=scale)
    assert (model.scale, model.lr_size) == (scale, None)
    with torch.no_grad():
        sr = model(torch.rand(1, 3, 9, 14), torch.rand(1, 2, 3, 9 * scale, 14 * scale))
    assert sr.shape == (1, 3, 9 * scale, 14 * scale)


def test_hime_small_comes_at_8x_too() -> None:
    with torch.no_grad():
        sr = tiny("hime-small", scale=8)(torch.rand(1, 3, 16, 16), torch.rand(1, 1, 3, 128, 128))
    assert sr.shape == (1, 3, 128, 128)


@pytest.mark.parametrize("name", WITH_REFERENCES)
@torch.no_grad()
def test_no_reference_equals_an_absent_one(name: str) -> None:
    model = tiny(name)
    lr, refs = pictures()
    none = model(lr, refs[:, :0])
    absent = model(lr, refs, torch.zeros(2, 3))
    zeros = model(lr, torch.zeros(2, 1, 3, 128, 128), torch.zeros(2, 1))
    assert torch.allclose(none, absent, atol=1e-6)
    assert torch.allclose(none, zeros, atol=1e-6)
    assert not torch.allclose(none, model(lr, refs), atol=1e-4)


@pytest.mark.parametrize("name", WITH_REFERENCES)
@torch.no_grad()
def test_absent_references_and_their_order_change_nothing(name: str) -> None:
    model = tiny(name)
    lr, refs = pictures(b=1)
    two = model(lr, refs[:, :2])
    assert torch.allclose(two, model(lr, refs, torch.tensor([[1.0, 1.0, 0.0]])), atol=1e-5)
    assert torch.allclose(model(lr, refs), model(lr, refs[:, [2, 0, 1]]), atol=1e-5)
    assert not torch.allclose(two, model(lr, refs[:, 1:]), atol=1e-4)


@pytest.mark.parametrize("name", WITH_REFERENCES)
@torch.no_grad()
def test_entries_of_a_batch_are_not_mixed(name: str) -> None:
    model = tiny(name)
    lr, refs = pictures()
    assert torch.allclose(model(lr, refs)[1:], model(lr[1:], refs[1:]), atol=1e-5)


@pytest.mark.parametrize("name", WITHOUT_REFERENCES)
@torch.no_grad()
def test_networks_without_references_do_not_look_at_them(name: str) -> None:
    model = tiny(name)
    lr, refs = pictures()
    assert torch.equal(model(lr, refs), model(lr, 1 - refs[:, :1]))


@pytest.mark.parametrize("name", WITH_REFERENCES)
@torch.no_grad()
def test_inputs_can_share_a_reference_set(name: str) -> None:
    model = tiny(name)
    lr, refs = pictures(b=4, n=2)
    each = model(lr, refs[:2].repeat_interleave(2, dim=0))
    assert torch.allclose(model(lr, refs[:2]), each, atol=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_options_make_the_same_network_again(name: str) -> None:
    model = tiny(name)
    again = BASELINES[model.name](**model.options)
    again.load_state_dict(model.state_dict())
    lr, refs = pictures(b=1, n=1)
    with torch.no_grad():
        assert torch.equal(again.eval()(lr, refs), model(lr, refs))


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "bicubic"])
def test_a_training_step_in_bfloat16_is_finite(name: str) -> None:
    model = tiny(name).train().to(memory_format=torch.channels_last)
    lr, refs = pictures()
    present = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sr = model(lr, refs * present[:, :, None, None, None], present)
        loss = F.l1_loss(sr, torch.zeros_like(sr))
    assert sr.dtype == torch.float32
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "bicubic"])
def test_output_is_a_residual_on_bicubic_and_not_clamped(name: str) -> None:
    model = tiny(name)
    last = [m for m in model.modules() if isinstance(m, nn.Conv2d)][-1]
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, 2.0)
    lr, refs = pictures(n=1)
    residual = model(lr, refs) - bicubic_skip(lr, 4)
    assert torch.allclose(residual, torch.full_like(residual, 2 / (255 if name == "span" else 1)))


def test_bicubic_is_the_frameworks() -> None:
    lr, refs = pictures()
    expected = F.interpolate(lr, scale_factor=4, mode="bicubic").clamp(0, 1)
    assert torch.equal(tiny("bicubic")(lr, refs), expected)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bicubic", {"scale": 3}, "bicubic enlarges 2, 4, 8 times, not 3"),
        ("resnet", {"scale": 5}, "resnet enlarges"),
        ("hime", {"width": 10, "groups": 8}, "10 channels cannot be shared by 8 groups"),
        ("hime-small", {"scale": 2}, "scale 4 .* or 8 .*, not 2"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BASELINES[name](**options)


def test_hime_small_names_a_wrong_size() -> None:
    with pytest.raises(FsrstError, match="32x32 inputs, got 40x32"):
        tiny("hime-small")(torch.rand(1, 3, 32, 40), torch.rand(1, 0, 3, 128, 160))


# --- SPAN -----------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_chain_is_its_three_convolutions_and_skip() -> None:
    torch.manual_seed(2)
    chain = ChainConv(3, 5).double()
    x = torch.randn(2, 3, 6, 7).double()
    padded = F.pad(x, (1, 1, 1, 1))
    expected = chain.reduce(chain.conv(chain.expand(padded))) + chain.skip(x)
    assert torch.allclose(chain(x), expected, atol=1e-12)


@torch.no_grad()
def test_fused_span_is_the_same_function() -> None:
    model = tiny("span").double()
    fused = model.fuse()
    assert isinstance(fused, SPAN) and fused.options == {"scale": 4, "width": 8, "fused": True}
    assert not [m for m in fused.modules() if isinstance(m, ChainConv)]
    assert not fused.training and model.train().fuse().training
    lr, refs = (tensor.double() for tensor in pictures(n=0))
    assert torch.allclose(fused(lr, refs), model(lr, refs), atol=1e-12)
    assert fused.fuse() is fused


@torch.no_grad()
def test_span_by_hand() -> None:
    model = tiny("span").double()
    lr, refs = (tensor.double() for tensor in pictures(b=1, n=0, side=8))
    x = model.first((lr - 0.5) * 255)
    outputs = [x]
    for block in model.blocks:
        h = block.conv3(F.silu(block.conv2(F.silu(block.conv1(x)))))
        x = (x + h) * (1 / (1 + torch.exp(-h)) - 0.5)
        outputs.append(x)
    mixed = model.mix(torch.cat((outputs[0], outputs[1], outputs[5], model.last(x)), dim=1))
    residual = F.pixel_shuffle(model.output(mixed), 4) / 255
    assert torch.allclose(model(lr, refs), bicubic_skip(lr, 4) + residual, atol=1e-9)


# --- HIME -----------------------------------------------------------------------------------------


def test_offsets_of_hime_small_never_differ_between_pixels() -> None:
    """Its offset network starts at 0 in every convolution: only the last bias ever learns."""
    torch.manual_seed(0)
    model = HIMESmall(width=8).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    lr, refs = pictures(n=1)
    for _ in range(2):
        F.l1_loss(model(lr, refs), torch.zeros(2, 3, 128, 128)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()
    first, last = model.alignment.offsets[2], model.alignment.offsets[5]
    assert last.bias.abs().max() > 0
    assert not first.weight.any() and not last.weight.any()
    offset = model.alignment.offsets(torch.randn(1, 6, 32, 32))
    assert torch.equal(offset, last.bias.view(1, 18, 1, 1).expand_as(offset))


@torch.no_grad()
def test_columns_of_hime_small_are_weighted_by_a_quotient_of_sigmoids() -> None:
    torch.manual_seed(3)
    aggregation = ColumnAggregation()
    lr, aligned = torch.randn(1, 3, 6, 6), torch.rand(1, 2, 3, 6, 6)
    embedded = aggregation.embed_lr(lr)
    scores = [
        torch.sigmoid(aggregation.embed_refs(aligned[:, i]).transpose(-1, -2) @ embedded)
        for i in range(2)
    ]
    expected = (scores[0] * aligned[:, 0] + scores[1] * aligned[:, 1]) / (scores[0] + scores[1])
    assert torch.allclose(aggregation(lr, aligned, torch.ones(1, 2)), expected, atol=1e-6)


def test_hime_small_does_not_divide_by_zero() -> None:
    torch.manual_seed(3)
    aggregation = ColumnAggregation()
    lr = torch.full((1, 3, 32, 32), 50.0, requires_grad=True)
    nn.init.constant_(aggregation.embed_lr.weight, 1.0)
    nn.init.constant_(aggregation.embed_refs.weight, -1.0)  # logits far below -104
    aligned = torch.rand(1, 2, 3, 32, 32)
    result = aggregation(lr, aligned, torch.ones(1, 2))
    assert torch.isfinite(result).all() and result.min() > 0
    result.sum().backward()
    assert torch.isfinite(lr.grad).all()


@torch.no_grad()
def test_a_fresh_alignment_of_hime_shifts_nothing() -> None:
    torch.manual_seed(4)
    alignment = DeformAlignment(8, groups=2)
    lr, reference = torch.randn(1, 8, 6, 7), torch.randn(1, 8, 6, 7)
    weight, bias = alignment.deform.weight, alignment.deform.bias
    expected = F.leaky_relu(F.conv2d(reference, 0.5 * weight, bias, padding=1), 0.1)
    assert torch.allclose(alignment(lr, reference), expected, atol=1e-5)


@torch.no_grad()
def test_offsets_of_hime_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    alignment = DeformAlignment(8, groups=2)
    nn.init.normal_(alignment.offsets[-1].weight, std=1e4)
    seen: dict[str, Tensor] = {}

    def spy(x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        seen.update(offset=offset, mask=mask)
        return x

    monkeypatch.setattr(alignment.deform, "forward", spy)
    alignment(torch.randn(1, 8, 6, 7), torch.randn(1, 8, 6, 7))
    assert seen["offset"].abs().max() == pytest.approx(MAX_OFFSET)
    assert seen["offset"].shape == (1, 36, 6, 7) and seen["mask"].shape == (1, 18, 6, 7)
    assert seen["mask"].min() >= 0 and seen["mask"].max() <= 1


@torch.no_grad()
def test_hime_judges_every_pixel_and_divides_by_one_at_least() -> None:
    aggregation = tiny("hime").aggregation
    for embed in (aggregation.embed_lr, aggregation.embed_refs):
        nn.init.dirac_(embed.weight)  # embedded features = features
        nn.init.zeros_(embed.bias)
    lr = torch.full((1, 8, 4, 4), 2.0)
    aligned = torch.full((1, 2, 8, 4, 4), 2.0)
    aligned[:, :, :, 1, 2] = -2.0  # unlike the input at one pixel
    result = aggregation(lr, aligned, torch.ones(1, 2))
    assert result[0, 0, 0, 0].item() == pytest.approx(2, abs=1e-4)  # the mean of two alike
    alike = torch.sigmoid(torch.tensor(-8 * 4 / 8**0.5)).item()
    assert result[0, 0, 1, 2].item() == pytest.approx(-2 * 2 * alike, rel=1e-3)  # faded, not -2
