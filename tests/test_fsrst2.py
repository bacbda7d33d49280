"""FSRST2: what it promises of sizes, references and shares, and that its search finds things."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fsrst.data.degradation import degrade
from fsrst.data.synthetic import draw_face
from fsrst.errors import FsrstError
from fsrst.image import resize_bicubic, to_planes
from fsrst.models import build
from fsrst.models.alignment import IDENTITY, affine_grid, warp
from fsrst.models.correspondence import (
    as_channels,
    block_values,
    estimated_drift,
    phases_of,
    pixel_centres,
    positions,
    search,
    shift_table,
)
from fsrst.models.fsrst2 import FSRST2, SEARCH_CHUNK, at_half, luma
from fsrst.models.interface import ReferenceSR
from fsrst.models.pose import POSE_LIMIT, matched_light, thumbnail

SMALL: dict[str, Any] = {"name": "tiny", "width": 8, "blocks": 1, "head_width": 8}


def network(seed: int = 0, **options: Any) -> FSRST2:
    """A tiny one, with something to say in every layer: some start as zeros."""
    torch.manual_seed(seed)
    model = FSRST2(**{**SMALL, **options}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    return model


def planes(*pictures: Any) -> Tensor:
    return torch.from_numpy(np.stack([to_planes(picture) for picture in pictures]))


def inputs(b: int = 2, n: int = 3, h: int = 9, w: int = 14, s: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    lr = torch.rand(b, 3, h, w, generator=generator)
    return lr, torch.rand(b, n, 3, s * h, s * w, generator=generator)


@pytest.mark.parametrize("size", [(8, 13), (32, 32), (32, 64), (128, 256)])
def test_thumbnails_are_means_of_large_pictures_and_interpolate_small_ones(
    size: tuple[int, int],
) -> None:
    """Every pixel counts: single ones of a large noisy picture would say little."""
    picture = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(3))
    if min(size) > 64:
        wanted = F.adaptive_avg_pool2d(picture, 32)
    else:
        wanted = F.interpolate(picture, size=(32, 32), mode="bilinear", align_corners=False)
    assert torch.allclose(thumbnail(picture), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [("fsrst2", 957_125, 1.96e9), ("fsrst2-small", 416_613, 0.53e9)],
)
def test_size_and_cost(name: str, parameters: int, macs: float) -> None:
    """At most the paper's FSRST and FSRST-small, of which a frame costs 1.96 and 0.53 GMAC."""
    model = build(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        state = model.encode(torch.rand(1, 3, 3, 128, 128))
        before = counter.get_total_flops()
        model.upscale(torch.rand(1, 3, 32, 32), state)
    assert (counter.get_total_flops() - before) / 2 < macs


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("n", [0, 1, 4])
def test_any_size_and_number_of_references(scale: int, n: int) -> None:
    lr, refs = inputs(n=n, s=scale)
    sr = network(scale=scale)(lr, refs)
    assert sr.shape == (2, 3, 9 * scale, 14 * scale)
    assert sr.isfinite().all()


def test_order_of_references_does_not_matter() -> None:
    model = network()
    lr, refs = inputs()
    order = [2, 0, 1]
    shares = model.upscale_explained(lr, model.encode(refs))[1]
    sr, moved = model.upscale_explained(lr, model.encode(refs[:, order]))
    assert torch.allclose(sr, model(lr, refs), atol=1e-5)
    assert torch.allclose(moved, shares[:, order], atol=1e-5)


def test_absent_references_have_no_part() -> None:
    """None at all, places that are empty, and empty places beside a real one."""
    model = network()
    _, refs = inputs()
    lr = torch.nn.functional.avg_pool2d(refs[:, 1], 4)  # the second reference fits
    none = model(lr, refs[:, :0])
    assert torch.allclose(model(lr, refs, torch.zeros(2, 3)), none, atol=1e-6)
    present = torch.tensor([[0.0, 1, 0], [0, 1, 0]])
    assert torch.allclose(model(lr, refs, present), model(lr, refs[:, 1:2]), atol=1e-5)
    assert not torch.allclose(model(lr, refs, present), none, atol=1e-3)


def test_sharing_a_reference_set() -> None:
    model = network()
    lr, refs = inputs(b=4)
    shared = model(lr, refs[:2])
    assert torch.allclose(shared, model(lr, refs[:2].repeat_interleave(2, 0)), atol=1e-5)


def test_shares() -> None:
    model = network()
    lr, refs = inputs()
    shares = model.upscale_explained(lr, model.encode(refs))[1]
    assert shares.shape == (2, 3, 36, 56)
    assert shares.min() >= 0
    assert 0 < shares.sum(dim=1).max() < 1
    assert model.upscale_explained(lr, model.encode(refs[:, :0]))[1].shape == (2, 0, 36, 56)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_block_values_are_pillows_reduction(scale: int) -> None:
    face = draw_face(3, 0, 128)
    values = block_values(planes(face), scale)[:, :, ::scale, ::scale]
    pillow = planes(degrade(face, scale))
    assert (values.clamp(0, 1) - pillow).abs().max() < 1.5 / 255  # Pillow rounds twice


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("reach", [1, 2])
def test_shifts_are_counted_as_the_search_makes_them(scale: int, reach: int) -> None:
    table = shift_table(scale, reach, torch.zeros(1))
    shifts = range(-scale * reach, scale * reach)
    assert {tuple(row) for row in table.int().tolist()} == {
        (x, y, 1) for y in shifts for x in shifts
    }
    assert len(table) == len(shifts) ** 2


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (2, -2), (-3, 1)])
def test_search_finds_a_shift(dx: int, dy: int) -> None:
    """The input is a reduction of what the reference shows dx, dy pixels further on."""
    generator = np.random.default_rng(2)
    whole = resize_bicubic(generator.integers(0, 256, (24, 24, 3), dtype=np.uint8), 192, 192)
    ref, target = whole[16:144, 16:144], whole[16 + dy : 144 + dy, 16 + dx : 144 + dx]
    theta = torch.tensor([IDENTITY]).view(1, 2, 3)
    lr, still = planes(degrade(target, 4)), torch.zeros(1, 2, 16, 16)
    found = search(lr, block_values(planes(ref), 4), theta, still, 4, 1)
    inner = found[0, :, 4:-4, 4:-4]
    assert torch.allclose(
        inner.median(dim=2).values.median(dim=1).values[0], torch.tensor(float(dx)), atol=0.1
    )
    assert (inner - torch.tensor([float(dx), float(dy)]).view(2, 1, 1)).abs().mean() < 0.25


def test_drift_finds_what_moved_as_a_whole() -> None:
    """The upper half shows what the reference shows 2 pixels to the right, the lower half stays."""
    generator = np.random.default_rng(2)
    ref = planes(resize_bicubic(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8), 32, 32))
    seen = ref.clone()
    seen[..., :16, :] = ref.roll(-2, dims=3)[..., :16, :]
    moved = estimated_drift(seen, ref, torch.tensor([IDENTITY]).view(1, 2, 3))
    assert moved.shape == (1, 2, 16, 16)
    assert (moved[0, 0, 1:6, 2:-2] - 2).abs().mean() < 0.3
    assert moved[0, 1, 1:6, 2:-2].abs().mean() < 0.3
    assert moved[0, :, 11:-1, 2:-2].abs().mean() < 0.2


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("h", "w"), [(9, 14), (32, 32)])
def test_search_around_a_drift_finds_what_lies_beyond_its_reach(h: int, w: int, axis: int) -> None:
    generator = np.random.default_rng(2)
    whole = resize_bicubic(generator.integers(0, 256, (h, w, 3), dtype=np.uint8), w * 8, h * 8)
    ref = whole[12 : 12 + 4 * h, 12 : 12 + 4 * w]
    x, y = (12 + 9, 12) if axis == 0 else (12, 12 + 9)  # 9 output pixels on, 4 can be searched
    target = whole[y : y + 4 * h, x : x + 4 * w]
    theta = torch.tensor([IDENTITY]).view(1, 2, 3)
    moved = torch.zeros(1, 2, 16, 16)
    side = 4 * (w, h)[axis]
    moved[:, axis] = 8 * 32 / side  # nearly there: 8 output pixels in pixels of a thumbnail
    lr = planes(degrade(target, 4))
    found = search(lr, block_values(planes(ref), 4), theta, moved, 4, 1)[0, :, 2:-4, 2:-4]
    assert (found[axis] - 9).abs().median() < 0.3
    assert found[1 - axis].abs().median() < 0.3


def test_unshifted_positions_are_the_affine_grid() -> None:
    theta = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(1))
    place = positions(torch.zeros(2, 2, 6, 10), theta, (24, 40), 4, (2.0,))
    assert torch.allclose(place, affine_grid(theta, 6, 10), atol=1e-5)


@pytest.mark.parametrize("points", [2, 4])
def test_shifts_between_blocks_are_interpolated(points: int) -> None:
    """A shift that grows linearly is met exactly between blocks' centres, and theta turns it."""
    theta = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(2))
    shift = torch.stack((torch.arange(10.0).expand(6, 10), torch.zeros(6, 10)))[None]
    centres = tuple(centre * 4 / points for centre in pixel_centres(points))
    place = positions(shift, theta, (24, 40), 4, centres, smooth=True)
    found = phases_of(place.permute(0, 3, 1, 2), points)  # (1, 2, 6, 10, points**2)
    whole = F.pixel_shuffle(as_channels(found), points)[0, :, :, points:-points]
    x = torch.arange(0.5, 10 * points)[None] / points - 0.5  # the shift, and where [input px]
    grid = affine_grid(theta, 6 * points, 10 * points)[0].permute(2, 0, 1)
    expected = grid + theta[0, :, :1, None] * x * (2 / 40)
    assert torch.allclose(whole, expected[:, :, points:-points], atol=1e-5)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_detail_for_the_head_is_as_shuffled(scale: int) -> None:
    detail = torch.randn(2, 3, 5, 7, scale**2)
    shuffled = F.pixel_shuffle(as_channels(detail), scale)
    assert torch.equal(at_half(detail, scale), F.pixel_unshuffle(shuffled, 2))


def test_untrained_it_already_follows_the_rule() -> None:
    """Scores start from the costs: a reference that shows the target gives its detail at once."""
    torch.manual_seed(0)
    model = FSRST2(**SMALL).eval()
    face = draw_face(5, 0, 128)
    moved = np.roll(face, (2, -3), axis=(0, 1))
    other = draw_face(9, 1, 128)
    lr = planes(degrade(face, 4))

    def error(*references: Any) -> float:
        refs = planes(*references)[None] if references else torch.zeros(1, 0, 3, 128, 128)
        return float((model(lr, refs) - planes(face))[:, :, 8:-8, 8:-8].square().mean())

    with torch.no_grad():
        alone = error()
        assert error(moved) < 0.3 * alone  # 5 dB
        assert error(other, moved) < 0.4 * alone
        assert error(other) < 1.1 * alone


def test_a_pose_that_does_not_help_is_not_used() -> None:
    model = network()
    assert model.alignment is not None
    with torch.no_grad():
        model.alignment.fc2.bias.fill_(1.0)  # always a large change
    lr, _ = inputs(b=1, h=32, w=32)
    thumbnails = lr[:, None]
    theta, moved, gain, offset = model.pose(lr, thumbnails)
    assert torch.equal(theta.flatten(), torch.tensor(IDENTITY))
    assert moved.abs().max() < 0.05
    assert (gain == 1).all()
    assert (offset == 0).all()


def looking_aside(shift: float, **options: Any) -> FSRST2:
    """A network whose theta is one shift to the right for all references."""
    model = network(**options)
    if model.alignment is not None:
        with torch.no_grad():
            model.alignment.fc2.weight.zero_()
            model.alignment.fc2.bias.zero_()
            model.alignment.fc2.bias[2] = math.atanh(shift / POSE_LIMIT)
    return model


def seen_aside() -> tuple[Tensor, Tensor]:
    """An input, and a thumbnail that shows it 5 of 32 pixels further on: a shift of 0.3."""
    generator = np.random.default_rng(2)
    lr = planes(resize_bicubic(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8), 32, 32))
    return lr, warp(lr, torch.tensor([[[1.0, 0, -0.3], [0, 1, 0]]]))


def test_a_pose_that_helps_beyond_the_drift_is_used() -> None:
    """The drift looks 4 px around."""
    lr, thumbnail = seen_aside()
    theta = looking_aside(0.3).pose(lr, thumbnail[:, None])[0]
    assert theta[0, 0, 2] == pytest.approx(0.3)


@pytest.mark.parametrize(("factor", "lift", "first"), [(0.6, 0.2, 1.0), (0.3, 0.4, 2.5)])
def test_light_is_compared_again_once_a_reference_is_laid_over_the_input(
    factor: float, lift: float, first: float
) -> None:
    """As the thumbnails lie, the first looks like another scene, the second's gain is bounded."""
    lr, thumbnail = seen_aside()
    changed = thumbnail * factor + lift
    assert matched_light(changed, lr)[0].flatten().tolist() == pytest.approx([first] * 3)
    gain, offset = looking_aside(0.3).pose(lr, changed[:, None])[2:]
    assert gain.flatten().tolist() == pytest.approx([1 / factor] * 3, rel=0.05)
    assert (gain * lift + offset).abs().max() < 0.03


@pytest.mark.parametrize("lift", [0.0, 0.2])
@pytest.mark.parametrize("gains", [(0.6, 0.6, 0.6), (0.8, 1.0, 0.9), (0.95, 0.95, 0.95)], ids=str)
def test_references_in_another_light_serve_as_well(
    gains: tuple[float, float, float], lift: float
) -> None:
    """The light is found, and a reference darkened, tinted or hazy gives nearly what it gave."""
    torch.manual_seed(0)
    model = FSRST2(**SMALL).eval()
    face = draw_face(5, 0, 128)
    lr, truth = planes(degrade(face, 4)), planes(face)
    ref = planes(np.roll(face, (2, -3), axis=(0, 1)))[None]
    changed = ref * torch.tensor(gains).view(3, 1, 1) + lift
    gain, offset = model.pose(lr, model.encode(changed)[3])[2:]
    assert gain.flatten().tolist() == pytest.approx([1 / g for g in gains], rel=0.03)
    assert offset.flatten().tolist() == pytest.approx([-lift / g for g in gains], abs=0.02)

    def error(*references: Tensor) -> float:
        refs = torch.cat([*references, torch.zeros(1, 0, 3, 128, 128)], dim=1)
        return float((model(lr, refs) - truth)[:, :, 8:-8, 8:-8].square().mean())

    with torch.no_grad():
        as_it_was, alone = error(ref), error()
        assert as_it_was < 0.3 * alone
        assert error(changed) < 0.4 * alone


@pytest.mark.parametrize("behind", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("gain", [1.0, 0.7])
def test_the_light_of_a_face_is_found_before_another_background(behind: float, gain: float) -> None:
    seen = thumbnail(planes(draw_face(5, 0, 128)))
    picture = torch.full_like(seen, behind)
    middle = slice(4, 28)
    picture[..., middle, middle] = seen[..., middle, middle] * gain
    found, offset = matched_light(picture, seen)
    assert found.flatten().tolist() == pytest.approx([1 / gain] * 3, rel=0.15)
    assert offset.abs().max() < 0.08


def test_a_picture_of_something_else_keeps_its_light() -> None:
    generator = torch.Generator().manual_seed(3)
    picture, other = torch.rand(2, 4, 3, 32, 32, generator=generator)
    gain, offset = matched_light(picture, other)
    assert (gain == 1).all()
    assert (offset == 0).all()


@pytest.mark.parametrize(
    "options",
    [
        {"reach": 0},
        {"reach": 2},
        {"coarse": False},
        {"none": False},
        {"detail": False, "features": 3},
        {"grey": True},
        {"flow": False},
        {"drift": False},
    ],
    ids=str,
)
def test_ablations(options: dict[str, Any]) -> None:
    model = network(**options)
    lr, refs = inputs()
    assert model(lr, refs).isfinite().all()
    assert {k: model.options[k] for k in options} == options
    none = model(lr, refs, torch.zeros(2, 3))
    assert torch.allclose(none, model(lr, refs[:, :0]), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"reach": 0},
        {"coarse": False},
        {"none": False},
        {"detail": False},
        {"grey": True},
        {"flow": False},
        {"drift": False},
    ],
    ids=str,
)
@torch.no_grad()
def test_what_an_ablation_takes_away_had_a_part(options: dict[str, Any]) -> None:
    shift = 12 / 64  # 12 of 128 pixels
    full, less = looking_aside(shift), looking_aside(shift, **options)
    less.load_state_dict(full.state_dict(), strict=False)
    face = draw_face(5, 0, 128)
    lr, refs = planes(degrade(face, 4)), planes(np.roll(face, 12, axis=1), np.roll(face, 3, axis=0))
    found = less(lr, refs[None])
    assert (full(lr, refs[None]) - found).abs().max() > 1e-3
    if less.grey:
        grey = torch.einsum("nchw,c->nhw", refs, torch.tensor([0.299, 0.587, 0.114]))
        assert torch.allclose(found, less(lr, grey[None, :, None].repeat(1, 1, 3, 1, 1)), atol=1e-5)


def test_without_the_none_choice_references_share_everything() -> None:
    model = network(none=False)
    lr, refs = inputs()
    shares = model.upscale_explained(lr, model.encode(refs))[1]
    assert torch.allclose(shares.sum(dim=1), torch.ones(2, 36, 56), atol=1e-5)


def test_training_searches_in_groups_and_finds_the_same() -> None:
    model = network()
    lr, refs = inputs(b=4, n=5)
    assert 2 * SEARCH_CHUNK < 4 * 5
    assert torch.allclose(model.train()(lr, refs), model.eval()(lr, refs), atol=1e-5)


def test_the_sketch_is_the_detail_at_twice_the_inputs_resolution() -> None:
    _, refs = inputs(s=8)
    detail, sketch, *_ = network(scale=8).encode(refs)
    assert sketch.shape == (2, 3, 3, 18, 28)
    assert torch.allclose(sketch[0, 1, 2, 3, 4], detail[0, 1, 2, 12:16, 16:20].mean(), atol=1e-6)


def test_training_step_in_bfloat16() -> None:
    """Finite also for flat, equal and missing references; every part learns."""
    model = network().train()
    lr, refs = inputs(b=4)
    refs[0] = 0.5
    refs[1] = refs[1, :1]
    present = torch.tensor([[1.0, 1, 1], [1, 1, 1], [0, 0, 0], [1, 0, 1]])
    hr = torch.rand(4, 3, 36, 56)
    batch = {"lr": lr, "refs": refs, "present": present, "hr": hr}
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(batch)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("part", ["flow", "pose"])
def test_a_place_that_is_no_number_reaches_the_loss(part: str) -> None:
    model = network().train()
    assert model.flow is not None and model.alignment is not None
    layer = model.flow if part == "flow" else model.alignment.fc2
    with torch.no_grad():
        layer.bias[0] = float("nan")
    lr, refs = inputs()
    batch = {"lr": lr, "refs": refs, "present": torch.ones(2, 3), "hr": torch.rand(2, 3, 36, 56)}
    assert model.loss(batch).isnan()


def test_pose_loss_sees_the_pose_alone() -> None:
    """The picture's error does not reach theta, the pose's does not reach the rest."""
    model = network().train()
    lr, refs = inputs()
    batch = {"lr": lr, "refs": refs, "present": torch.ones(2, 3), "hr": torch.rand(2, 3, 36, 56)}
    super(FSRST2, model).loss(batch).backward()
    alone = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.loss(batch).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("alignment."):
            assert alone[name] is None and parameter.grad.any(), name
        else:
            assert torch.equal(parameter.grad, alone[name]), name


def pose_loss(model: FSRST2, lr: Tensor, refs: Tensor, present: Tensor) -> float:
    """What the network adds to the loss of all networks."""
    hr = torch.zeros(len(lr), 3, *refs.shape[-2:])
    batch = {"lr": lr, "refs": refs, "present": present, "hr": hr}
    with torch.no_grad():
        return float(model.loss(batch) - ReferenceSR.loss(model, batch))


def test_pose_loss_falls_when_present_references_are_laid_over_the_input() -> None:
    lr, thumbnail = seen_aside()
    ref = torch.nn.functional.interpolate(thumbnail, scale_factor=4)
    refs, present = torch.stack((ref, 1 - ref), dim=1), torch.tensor([[1.0, 0]])
    wrong, good = (pose_loss(looking_aside(shift), lr, refs, present) for shift in (0.0, 0.3))
    assert 0 < good < 0.3 * wrong
    assert good == pytest.approx(pose_loss(looking_aside(0.3), lr, refs[:, :1], present[:, :1]))


def test_pose_loss_does_not_see_the_light() -> None:
    lr, _ = seen_aside()
    ref = torch.nn.functional.interpolate(lr, scale_factor=4)
    dark = pose_loss(looking_aside(0.0), lr, 0.5 * ref[:, None], torch.ones(1, 1))
    assert dark == pytest.approx(0, abs=1e-3)


def test_pose_loss_of_grey_references_is_that_of_their_luma() -> None:
    """What the coarse transformer learns from is what ``pose`` will show it."""
    model, present = network(grey=True), torch.ones(2, 3)
    lr, refs = inputs()
    grey = [luma(picture.flatten(0, -4)).view(picture.shape) for picture in (lr, refs)]
    colour = pose_loss(model, lr, refs, present)
    assert colour == pytest.approx(pose_loss(model, *grey, present), rel=1e-4)
    assert colour != pytest.approx(pose_loss(network(), lr, refs, present), rel=1e-3)


def test_pose_loss_looks_at_the_first_input_of_a_shared_reference_set() -> None:
    model = network()
    lr, refs = inputs(b=4)
    refs, present = refs[:2], torch.ones(2, 3)
    shared = pose_loss(model, lr, refs, present)
    assert shared == pytest.approx(pose_loss(model, lr[::2], refs, present), rel=1e-4)
    assert shared != pytest.approx(pose_loss(model, lr[:2], refs, present), rel=1e-3)


def test_wrong_options() -> None:
    with pytest.raises(FsrstError, match="scales 2, 4 and 8, not 3"):
        build("fsrst2", scale=3)
    with pytest.raises(FsrstError, match="reach"):
        build("fsrst2-small", reach=-1)
