"""Modulated deformable convolution: against a direct loop in float64, and its limits."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsrst.models.baselines.deformable import ModulatedDeformConv


def direct(conv: ModulatedDeformConv, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
    """The published equation, one number after the other."""
    b, channels, h, w = x.shape
    k, groups = conv.kernel, conv.groups
    result = conv.bias.detach().view(1, -1, 1, 1).repeat(b, 1, h, w)

    def at(i: int, c: int, y: int, x_: int) -> Tensor | float:
        return x[i, c, y, x_] if 0 <= y < h and 0 <= x_ < w else 0.0

    for i in range(b):
        for c in range(channels):
            group = c // (channels // groups)
            for tap in range(k * k):
                channel = group * k * k + tap
                for y in range(h):
                    for x_ in range(w):
                        py = y + tap // k - k // 2 + offset[i, 2 * channel, y, x_].item()
                        px = x_ + tap % k - k // 2 + offset[i, 2 * channel + 1, y, x_].item()
                        top, left = int(py // 1), int(px // 1)
                        dy, dx = py - top, px - left
                        value = (
                            (1 - dy) * (1 - dx) * at(i, c, top, left)
                            + (1 - dy) * dx * at(i, c, top, left + 1)
                            + dy * (1 - dx) * at(i, c, top + 1, left)
                            + dy * dx * at(i, c, top + 1, left + 1)
                        ) * mask[i, channel, y, x_]
                        result[i, :, y, x_] += conv.weight[:, c, tap // k, tap % k] * value
    return result


def deform_case(
    *, inputs: int = 4, kernel: int = 3, groups: int = 2, b: int = 2, size: tuple[int, int] = (5, 4)
) -> tuple[ModulatedDeformConv, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    conv = ModulatedDeformConv(inputs, 3, kernel=kernel, groups=groups).double()
    nn.init.normal_(conv.bias)
    taps = groups * kernel**2
    x = torch.randn(b, inputs, *size).double()
    offset = 2 * torch.randn(b, 2 * taps, *size).double()  # several pixels beyond the border, too
    return conv, x, offset, torch.rand(b, taps, *size).double()


@pytest.mark.parametrize(("kernel", "groups"), [(3, 1), (3, 2), (3, 4), (1, 2)])
@torch.no_grad()
def test_deformable_convolution_equals_a_direct_loop(kernel: int, groups: int) -> None:
    conv, x, offset, mask = deform_case(kernel=kernel, groups=groups)
    assert torch.allclose(conv(x, offset, mask), direct(conv, x, offset, mask), atol=1e-12)


@torch.no_grad()
def test_without_offsets_it_is_a_convolution() -> None:
    conv, x, offset, mask = deform_case()
    expected = F.conv2d(x, conv.weight, conv.bias, padding=1)
    assert torch.allclose(conv(x, 0 * offset), expected, atol=1e-12)
    assert torch.allclose(conv(x, 0 * offset, 1 + 0 * mask), expected, atol=1e-12)


@torch.no_grad()
def test_offsets_are_pixels_y_first() -> None:
    conv = ModulatedDeformConv(1, 1, kernel=1, groups=1)
    nn.init.ones_(conv.weight)
    x = torch.zeros(1, 1, 7, 9)
    x[0, 0, 4, 6] = 1
    offset = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1).expand(1, 2, 7, 9)  # look down and right
    assert conv(x, offset)[0, 0, 3, 3].item() == pytest.approx(1, abs=1e-5)


def test_deformable_gradients() -> None:
    conv, x, offset, mask = deform_case(inputs=2, groups=2, b=1, size=(3, 4))
    inputs = [tensor.requires_grad_() for tensor in (x, offset, mask)]
    weights = [parameter.detach().requires_grad_() for parameter in (conv.weight, conv.bias)]

    def run(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        state = {"weight": weight, "bias": bias}
        result: Tensor = torch.func.functional_call(conv, state, (x, offset, mask))
        return result

    assert torch.autograd.gradcheck(run, (*inputs, *weights))


def test_endless_offsets_see_nothing_and_break_nothing() -> None:
    conv, x, offset, mask = deform_case()
    offset = torch.full_like(offset, float("inf")).requires_grad_()
    result = conv(x, offset, mask)
    assert torch.equal(result, conv.bias.view(1, 3, 1, 1).expand_as(result))
    result.sum().backward()
    assert torch.equal(offset.grad, torch.zeros_like(offset))


def test_positions_are_not_rounded_to_bfloat16() -> None:
    conv = ModulatedDeformConv(1, 1, kernel=1, groups=1)
    nn.init.ones_(conv.weight)
    ramp = torch.arange(512.0).view(1, 1, 1, 512)  # bfloat16 knows only even numbers from 256 on
    offset = torch.zeros(1, 2, 1, 512, dtype=torch.bfloat16)
    offset[:, 1] = 0.5
    seen = conv(ramp, offset)[0, 0, 0]
    assert torch.allclose(seen[300:400], torch.arange(300.5, 400), atol=1e-2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModulatedDeformConv(4, 4, kernel=2), "odd, not 2"),
        (lambda: ModulatedDeformConv(4, 4, groups=3), "4 channels cannot be shared by 3"),
        (lambda: ModulatedDeformConv(4, 4, groups=0), "by 0 groups"),
    ],
)
def test_deformable_convolution_refuses(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
