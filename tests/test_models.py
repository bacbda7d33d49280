"""The paper's network: exact counts, equations, limits."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fsrst.errors import FsrstError
from fsrst.models import build
from fsrst.models.aggregation import aggregate, distances, reference_weights
from fsrst.models.alignment import Localisation, affine_grid, warp
from fsrst.models.blocks import ResidualBlock
from fsrst.models.interface import log_absolute_error


def perturbed(name: str, seed: int = 0, **options: int) -> torch.nn.Module:
    """A model whose alignment is not the identity, as after training."""
    torch.manual_seed(seed)
    model = build(name, **options).eval()
    torch.nn.init.normal_(model.alignment.localisation.fc2.weight, std=0.05)
    return model


@pytest.mark.parametrize(("name", "count"), [("fsrst", 2_552_576), ("fsrst-small", 869_792)])
def test_parameter_counts_of_table_1(name: str, count: int) -> None:
    with torch.device("meta"):
        model = build(name)
    assert sum(p.numel() for p in model.parameters()) == count
    assert sum(p.numel() for p in model.alignment.parameters()) == 292_838


@pytest.mark.parametrize(("scale", "side"), [(4, 32), (8, 16)])
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_shapes_for_any_number_of_references(scale: int, side: int, n: int) -> None:
    model = perturbed("fsrst-small", scale=scale)
    lr, refs = torch.rand(2, 3, side, side), torch.rand(2, n, 3, 128, 128)
    sr = model(lr, refs)
    assert sr.shape == (2, 3, 128, 128)
    assert torch.isfinite(sr).all()
    assert torch.equal(sr, model.upscale(lr, model.encode(refs)))


def test_no_reference_equals_an_absent_one() -> None:
    model = perturbed("fsrst-small")
    lr = torch.rand(2, 3, 32, 32)
    none = model(lr, torch.rand(2, 0, 3, 128, 128))
    absent = model(lr, torch.rand(2, 3, 3, 128, 128), torch.zeros(2, 3))
    assert torch.allclose(none, absent, atol=1e-6)


def test_an_absent_reference_changes_nothing() -> None:
    model = perturbed("fsrst-small")
    lr, refs = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 3, 128, 128)
    two = model(lr, refs[:, :2])
    masked = model(lr, refs, torch.tensor([[1.0, 1.0, 0.0]]))
    assert torch.allclose(two, masked, atol=1e-5)


def test_order_of_references_does_not_matter() -> None:
    model = perturbed("fsrst-small")
    lr, refs = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 3, 128, 128)
    assert torch.allclose(model(lr, refs), model(lr, refs[:, [2, 0, 1]]), atol=1e-5)


def test_inputs_can_share_a_reference_set() -> None:
    model = perturbed("fsrst-small")
    lr, refs = torch.rand(4, 3, 32, 32), torch.rand(2, 3, 3, 128, 128)
    each = model(lr, refs.repeat_interleave(2, dim=0))
    assert torch.allclose(model(lr, refs), each, atol=1e-5)


@pytest.mark.parametrize(("inputs", "sets"), [(3, 2), (2, 4)])
def test_inputs_that_cannot_share_reference_sets_are_named(inputs: int, sets: int) -> None:
    model = perturbed("fsrst-small")
    with pytest.raises(ValueError, match=f"{inputs} inputs cannot share {sets} sets"):
        model(torch.rand(inputs, 3, 32, 32), torch.rand(sets, 1, 3, 128, 128))


def test_references_enter_as_luma() -> None:
    model = perturbed("fsrst-small")
    lr, refs = torch.rand(1, 3, 32, 32), torch.rand(1, 1, 3, 128, 128)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 1, 3, 1, 1)
    grey = (refs * weights).sum(2, keepdim=True).expand_as(refs)
    assert torch.allclose(model(lr, refs), model(lr, grey), atol=1e-5)
    assert not torch.allclose(model(lr, refs), model(lr, refs.flip(2)), atol=1e-5)


def test_output_is_not_clamped() -> None:
    model = perturbed("fsrst-small")
    torch.nn.init.constant_(model.constructor.last.bias, 2.0)
    assert model(torch.rand(1, 3, 32, 32), torch.rand(1, 1, 3, 128, 128)).min() > 1


def test_the_loss_is_the_mean_absolute_error_with_the_present_references() -> None:
    model = perturbed("fsrst-small")
    lr, refs, hr = (
        torch.rand(2, 3, 32, 32),
        torch.rand(2, 3, 3, 128, 128),
        torch.rand(2, 3, 128, 128),
    )
    present = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    error, unmasked = (model(lr, refs, there) - hr for there in (present, None))
    loss = model.loss({"lr": lr, "refs": refs, "present": present, "hr": hr})
    assert loss.item() == pytest.approx(error.abs().mean().item(), rel=1e-6)
    assert loss.item() != pytest.approx(unmasked.abs().mean().item(), rel=1e-5)


def test_log_l1_counts_a_tenth_less_error_alike_in_every_picture() -> None:
    hr = torch.rand(2, 3, 8, 8)
    errors = torch.tensor([0.02, 0.2]).view(2, 1, 1, 1)
    loss = log_absolute_error(hr + errors, hr).item()
    assert loss == pytest.approx(np.log(0.021) / 2 + np.log(0.201) / 2, rel=1e-4)
    better = []
    for less in ([0.9, 1.0], [1.0, 0.9]):
        fewer = errors * torch.tensor(less).view(2, 1, 1, 1)
        better.append(loss - log_absolute_error(hr + fewer, hr).item())
    assert better[0] == pytest.approx(better[1], rel=0.06)
    assert np.isfinite(log_absolute_error(hr, hr).item())  # nothing left to learn


def test_wrong_input_size_is_named() -> None:
    with pytest.raises(FsrstError, match="32x32 inputs, got 48x40"):
        build("fsrst-small")(torch.rand(1, 3, 40, 48), torch.rand(1, 0, 3, 160, 192))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fsrst-smal", {}, "did you mean 'fsrst-small'"),
        ("fsrst", {"scale": 3}, "scale 4 .* or 8 .*, not 3"),
        ("fsrst", {"depth": 3}, "depth"),
        ("fsrst", {"zzz": 3}, "model fsrst: unknown option 'zzz'; known: width, scale"),
        ("fsrst", {"widht": 7}, "model fsrst: unknown option 'widht'; did you mean 'width'"),
        ("fsrst", {"name": "mine"}, "unknown option 'name'"),
        ("fsrst", {"width": -3}, r"model fsrst cannot be made with width = -3 \(usual: 64\): "),
        ("fsrst", {"width": "big"}, r"model fsrst cannot be made with width = 'big' \(usual: 64\)"),
        ("ttsr", {"blocks": 3}, r"ttsr cannot be made with blocks = 3 \(usual: \(16, 16, 8, 4\)\)"),
    ],
)
def test_build_refuses(name: str, options: dict, message: str) -> None:
    with pytest.raises(FsrstError, match=message):
        build(name, **options)


def test_residual_block_is_pre_activation() -> None:
    block = ResidualBlock(8)
    x = torch.randn(1, 8, 5, 5)
    inner = F.conv2d(F.relu(x), block.conv1.weight, block.conv1.bias, padding=1)
    expected = x + F.conv2d(F.relu(inner), block.conv2.weight, block.conv2.bias, padding=1)
    assert torch.equal(block(x), expected)


# --- alignment (eq. 1-5) ---


@pytest.mark.parametrize("side", [16, 32])
def test_fresh_alignment_returns_its_input(side: int) -> None:
    features = torch.randn(2, 3, side, side)
    theta = Localisation(side)(torch.randn(2, 3, side, side), features)
    assert torch.equal(theta, torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(2, 2, 3))
    assert torch.allclose(warp(features, theta), features, atol=1e-5)


def test_grid_equals_the_frameworks() -> None:
    theta = torch.randn(3, 2, 3)
    ours = affine_grid(theta, 8, 12)
    assert torch.allclose(ours, F.affine_grid(theta, [3, 1, 8, 12], align_corners=False), atol=1e-6)


def test_theta_maps_output_to_reference_x_first() -> None:
    features = torch.zeros(1, 1, 16, 16)
    features[0, 0, 4, 9] = 1  # row 4, column 9
    theta = torch.tensor([[[1.0, 0, 2 * 2 / 16], [0, 1, 0]]])  # sample two pixels to the right
    moved = warp(features, theta)[0, 0]
    assert moved[4, 7] == pytest.approx(1, abs=1e-5)


def test_warp_mirrors_the_outside() -> None:
    features = torch.arange(16.0).view(1, 1, 1, 16).expand(1, 1, 16, 16)
    theta = torch.tensor([[[1.0, 0, 2.0], [0, 1, 0]]])  # one whole width to the right
    assert torch.allclose(warp(features, theta)[0, 0, 0], torch.arange(15.0, -1, -1), atol=1e-4)


# --- aggregation (eq. 6-11) ---


def test_positions_are_float32_under_autocast() -> None:
    features, theta = torch.rand(2, 3, 32, 32), torch.eye(2, 3).repeat(2, 1, 1)
    theta = theta + 0.1 * torch.rand(2, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        warped = warp(features, theta)
    assert torch.equal(warped, warp(features, theta))


def test_a_theta_that_is_no_number_reaches_the_loss() -> None:
    """The sampler alone would give a finite picture, and crash in its backward pass."""
    model = build("fsrst-small")
    with torch.no_grad():
        model.alignment.localisation.fc2.bias[2] = float("nan")
    refs, lr = torch.rand(2, 3, 3, 128, 128), torch.rand(2, 3, 32, 32)
    batch = {"lr": lr, "refs": refs, "present": torch.ones(2, 3), "hr": torch.rand(2, 3, 128, 128)}
    assert model.loss(batch).isnan()


def test_aggregation_by_hand() -> None:
    lr = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    aligned = torch.tensor([[1.0, 2.0, 1.0], [1.0, 5.0, 3.0]]).view(1, 2, 3, 1, 1)
    near, far = np.exp(-2.0), np.exp(-3.0)  # distances 2 and 3
    weights = np.array([near, far]) / (near + far + 1e-9)
    expected = [1 + 1, 2 + 2 * weights[0] + 5 * weights[1], 3 + weights[0] + 3 * weights[1]]
    result = aggregate(lr, aligned, torch.ones(1, 2)).flatten()
    assert result.tolist() == pytest.approx(expected, rel=1e-5)


def test_far_references_lose_all_weight() -> None:
    distance = torch.tensor([1.0, 15.0, 20.7, 30.0, 100.0]).view(5, 1, 1, 1)
    weights = reference_weights(distance, torch.ones(5, 1)).flatten()
    assert weights[0] == pytest.approx(1, abs=1e-6)
    assert weights[2] == pytest.approx(0.5, abs=0.02)  # the cliff
    assert weights[3] < 1e-3
    assert weights[4] < 1e-30


def test_distance_is_clamped_at_100() -> None:
    lr, aligned = torch.zeros(1, 3, 2, 2), torch.full((1, 1, 3, 2, 2), 1e4)
    assert distances(lr, aligned).unique().tolist() == [100.0]


def test_gradient_is_finite_where_a_reference_equals_the_input() -> None:
    lr = torch.randn(1, 3, 4, 4, requires_grad=True)
    aggregate(lr, torch.stack((lr, lr), dim=1), torch.ones(1, 2)).sum().backward()
    assert torch.isfinite(lr.grad).all()


def test_gradients_reach_every_parameter_and_are_finite() -> None:
    model = perturbed("fsrst-small").train()
    lr = torch.rand(1, 3, 32, 32)
    refs = F.interpolate(lr, scale_factor=4, mode="nearest")[:, None].repeat(1, 2, 1, 1, 1)
    model(lr, refs).abs().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


def test_aggregation_survives_half_precision() -> None:
    lr = torch.zeros(1, 3, 2, 2, dtype=torch.float16)
    aligned = torch.full((1, 2, 3, 2, 2), 100.0, dtype=torch.float16)  # 0/0 in half precision
    assert torch.isfinite(aggregate(lr, aligned, torch.ones(1, 2))).all()
