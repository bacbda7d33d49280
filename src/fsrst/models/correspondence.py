"""Where a reference shows what the input shows, and how it is fetched from there (FSRST2).

No weights: a reference blurred as the input was can be compared with it directly.

Convention: a *place* is where to sample, in [-1, 1] of a picture, x first, as ``grid_sample`` takes
it (align_corners False); a *shift* is a distance from a pixel's own place [output px]; a *phase* is
one of the places inside an input pixel's block. Phases come last in every shape, behind the
picture's axes: as runtimes lay out what convolutions make, so nothing is moved between the two.
Tensors are divided by sizes, sizes not by each other: where they are free the exporter stumbles.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fsrst.models.blocks import full_precision, nan_if_lost

SHARPNESS, NOISE = 0.2, 1e-4  # how much worse than the best a shift may be and still count
COARSE, DRIFT = 2, 2  # the drift belongs to blocks of 2x2 px, and is at most 2 blocks [thumbnail]
FAR = 1e-3  # cost of a drift, for each pixel of its length
DRIFT_BLUR, DRIFT_SMOOTH = 1.2, 0.8  # standard deviations of Gaussians [blocks]


def estimated_drift(seen: Tensor, thumbnails: Tensor, theta: Tensor) -> Tensor:
    """How parts of the face have moved beyond theta: smooth, (M, 2, t/2, t/2) [thumbnail px].

    ``seen`` and ``thumbnails`` (M, 3, t, t) are the input and the reference at one small size, so
    this costs the same for any input. Every 2x2 pixels take the mean of the shifts that fit nearly
    as well as the best one, in a wide window.
    """
    m, _, side, _ = seen.shape
    seen = F.avg_pool2d(seen, COARSE)
    blocks = side // COARSE + 2 * DRIFT - 1
    still = seen.new_zeros(m, 2, blocks, blocks)
    place = positions(still, theta, (side, side), COARSE, block_centres(COARSE, DRIFT))
    cost = costs(seen, phases_of(sample(thumbnails, place), COARSE))
    table = shift_table(COARSE, DRIFT, seen)
    far = squares(table[:, :2]).sum(dim=1).sqrt() * FAR
    cost = gaussian(cost + far.view(1, -1, 1, 1), DRIFT_BLUR)  # far is the same everywhere
    mean = (nearness(cost).flatten(2).transpose(1, 2) @ table).transpose(1, 2)
    mean = mean.view(m, 3, *seen.shape[-2:])
    return gaussian(mean[:, :2] / mean[:, 2:], DRIFT_SMOOTH)


def gaussian(x: Tensor, deviation: float) -> Tensor:
    """(M, C, t, t) blurred both ways; at the border the weights that are left sum to 1."""
    place = torch.arange(x.shape[-1], device=x.device, dtype=torch.float32)
    weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * deviation**2))
    weights = weights / weights.sum(dim=1, keepdim=True)
    return weights @ x @ weights.transpose(0, 1)


def search(
    lr: Tensor, blurred: Tensor, theta: Tensor, drift: Tensor, scale: int, reach: int
) -> Tensor:
    """For every input pixel, the shift by which the reference fits best: (M, 2, h, w) [output px].

    ``lr`` (M, 3, h, w), ``blurred`` (M, 3, H, W), ``theta`` (M, 2, 3); ``drift`` (M, 2, t/2, t/2)
    is the drift around which is searched. The cost of a shift is the squared colour difference in a
    3x3 window. Shifts nearly as good as the best have a part in the result, which gives fractions
    of a pixel.
    """
    m, _, h, w = lr.shape
    across, side = 2 * reach, 2 * reach * scale  # window places and shifts along each axis
    # every block that begins from reach input pixels before the picture to just before its end
    starts = block_centres(scale, reach)
    size, blocks = (scale * h, scale * w), (h + across - 1, w + across - 1)
    begin = drift_of_blocks(drift, size, blocks, scale, reach)  # (M, 2, *blocks) [output px]
    there = to_blocks(theta, (blurred.shape[-2], blurred.shape[-1]), scale)
    place = positions(begin, there, size, scale, starts)
    cost = costs(lr, phases_of(sample(blurred, place), scale))  # (M, side * side, h, w)
    # zeros around it: they make the costs of all shifts less alike, and the choice is the same
    kernel = window_kernel(lr).expand(side * side, 1, 3, 3)
    cost = F.conv2d(cost, kernel, padding=1, groups=side * side)
    near = nearness(cost)
    table = shift_table(scale, reach, lr)  # one product gives both sums, and it is faster than them
    places = torch.eye(across**2, device=lr.device).repeat_interleave(scale**2, dim=0)
    sums = near.flatten(2).transpose(1, 2) @ torch.cat((table, places), dim=1)
    found = sums.transpose(1, 2).reshape(m, -1, h, w)  # x, y, 1, then every window place's part
    begun = [  # each window place began at its own block's drift
        found[:, None, 3 + y * across + x] * begin[:, :, y : y + h, x : x + w]
        for y in range(across)
        for x in range(across)
    ]
    return (found[:, :2] + sum(begun[1:], begun[0])) / found[:, 2:3]


def drift_of_blocks(
    drift: Tensor, size: tuple[int, int], blocks: tuple[int, int], scale: int, reach: int
) -> Tensor:
    """Drift (M, 2, t/2, t/2) [thumbnail px] -> where to look for each block (M, 2, *blocks)
    [output px]. The first begins ``reach`` input pixels before the picture, whose border goes on.
    """
    m, side = drift.shape[0], drift.shape[-1] * COARSE
    identity = drift.new_tensor([1.0, 0, 0, 0, 1, 0]).view(1, 2, 3)
    still = drift.new_zeros(m, 2, *blocks)
    there = sample(drift, positions(still, identity, size, scale, (scale * (1 - reach),)))
    height, width = size
    return torch.stack((there[:, 0] * width / side, there[:, 1] * height / side), dim=1)


def block_centres(scale: int, reach: int) -> tuple[float, ...]:
    """Centres of the first blocks of each phase, ``reach`` blocks before the picture, along an
    axis."""
    return tuple(phase - scale * reach + scale / 2 for phase in range(scale))


def costs(lr: Tensor, phases: Tensor) -> Tensor:
    """Squared colour differences of ``lr`` (M, 3, h, w) to ``phases`` (M, 3, h + k, w + k, P) at
    each of their (k + 1)**2 window places: (M, (k + 1)**2 * P, h, w)."""
    h, w = lr.shape[-2:]
    across = phases.shape[-2] - w + 1
    found = []
    for y in range(across):
        for x in range(across):
            shown = phases[:, :, y : y + h, x : x + w]
            # three tensors added: OpenVINO sums over a dimension slowly
            red, green, blue = (squares(shown[:, c] - lr[:, c, :, :, None]) for c in range(3))
            found.append(red + green + blue)
    return first(torch.cat(found, dim=-1))


def nearness(cost: Tensor) -> Tensor:
    """Costs (M, shifts, h, w) -> 1 for the best shift, less for those nearly as good, else 0."""
    least = cost.amin(dim=1, keepdim=True)
    return torch.exp((least - cost) / (least * SHARPNESS + NOISE))


def squares(x: Tensor) -> Tensor:
    """x * x: in torch on a CPU much faster than ``square``, which is a power."""
    return x * x


def shift_table(scale: int, reach: int, like: Tensor) -> Tensor:
    """(x, y, 1) of every shift, in the order of the cost's channels: by window place, by phase."""
    place = torch.arange(2 * reach, device=like.device) * scale
    phase = torch.arange(scale, device=like.device)
    line = place[:, None] + phase - scale * reach  # (2 reach, s)
    y = line[:, None, :, None].expand(-1, len(place), -1, scale)
    x = line[None, :, None, :].expand(len(place), -1, scale, -1)
    return torch.stack((x.flatten(), y.flatten(), torch.ones_like(x).flatten()), dim=1).to(like)


def pixel_centres(scale: int) -> tuple[float, ...]:
    """Centres of the pixels of a block, from its edge [output px]."""
    return tuple(phase + 0.5 for phase in range(scale))


def interpolated(shift: Tensor, scale: int) -> Tensor:
    """(M, 2, h, w), one shift per block -> (M, h, w, s*s, 2), one per pixel of each: bilinear."""
    line = shift.new_zeros(scale, 3)  # weights of the block before, itself and the one behind
    for row, centre in enumerate(pixel_centres(scale)):
        part = centre / scale - 0.5
        line[row] = line.new_tensor([max(0.0, -part), 1 - abs(part), max(0.0, part)])
    both = torch.eye(2, device=shift.device)
    kernel = torch.einsum("iy,jx,ab->ijabyx", line, line, both).reshape(2 * scale**2, 2, 3, 3)
    found = F.conv2d(F.pad(shift, (1, 1, 1, 1), mode="replicate"), kernel)
    m, _, h, w = shift.shape
    return last(found).reshape(m, h, w, scale**2, 2)


def positions(
    shift: Tensor,
    theta: Tensor,
    size: tuple[int, int],
    scale: int,
    centres: tuple[float, ...],
    *,
    smooth: bool = False,
) -> Tensor:
    """Where theta sends shifted points of the output: (M, h, w*P*P, 2) in [-1, 1], x first.

    ``shift`` (M, 2, h, w) [output px] belongs to the points at ``k * scale + centres[p]`` of both
    axes, an output of ``size`` (height, width): one for all of a block's, or if ``smooth``
    interpolated between blocks. ``phases_of`` orders what is sampled there.
    """
    h, w = shift.shape[-2:]
    height, width = size
    a, b, c, d, e, f = (t.view(-1, 1, 1) for t in theta.flatten(1).unbind(1))

    def turned(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:  # a distance [output px]
        x, y = x * 2 / width, y * 2 / height
        return a * x + b * y, d * x + e * y

    column = torch.arange(w, device=shift.device, dtype=torch.float32) * scale
    row = torch.arange(h, device=shift.device, dtype=torch.float32) * scale
    x, y = turned(column, row[:, None])
    begin = torch.stack((x + (c - a - b), y + (f - d - e)), dim=1)  # (M, 2, h, w)
    moved = torch.stack(turned(shift[:, 0], shift[:, 1]), dim=1)
    phase = shift.new_tensor(centres)
    x, y = turned(phase.repeat(len(centres)), phase.repeat_interleave(len(centres)))
    within = torch.stack((x, y), dim=-1)[:, :, None]  # (M, 1, 1, P*P, 2)
    if smooth:
        place = interpolated(moved, len(centres)) + last(begin)[:, :, :, None]
    else:
        place = last(begin + moved)[:, :, :, None]
    return (place + within).flatten(2, 3)


def phases_of(sampled: Tensor, scale: int) -> Tensor:
    """(M, C, h, w*s*s) as sampled at ``positions`` -> (M, C, h, w, s*s)."""
    return sampled.view(*sampled.shape[:3], -1, scale**2)


def as_channels(phases: Tensor) -> Tensor:
    """(M, C, h, w, P) -> (M, C*P, h, w), as if unshuffled."""
    return first(phases.permute(0, 2, 3, 1, 4).flatten(3))


def last(x: Tensor) -> Tensor:
    """(M, C, h, w) -> (M, h, w, C)."""
    return x.permute(0, 2, 3, 1)


def first(x: Tensor) -> Tensor:
    """(M, h, w, C) -> (M, C, h, w)."""
    return x.permute(0, 3, 1, 2)


def to_blocks(theta: Tensor, size: tuple[int, int], scale: int) -> Tensor:
    """Theta (M, 2, 3) that sends the centre of a block to its first pixel: there ``block_values``
    keeps the value of that block of a picture of ``size`` (height, width)."""
    height, width = size
    back = theta.new_zeros(2, 2, 3)  # along the width, and along the height
    back[0, 0, 2] = back[1, 1, 2] = scale - 1
    return theta - back[0] / width - back[1] / height


def sample(picture: Tensor, place: Tensor) -> Tensor:
    """Bilinear samples (M, C, h, w) of (M, C, H, W) at (M, h, w, 2); its border goes on outside."""
    with full_precision(picture):
        sampled = F.grid_sample(
            picture.float(), place, mode="bilinear", padding_mode="border", align_corners=False
        )
        return nan_if_lost(sampled, place)


def window(x: Tensor) -> Tensor:
    """Mean over 3x3 pixels, weighted 1 2 1 each way, of (M, C, h, w); its border goes on."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, window_kernel(x).expand(x.shape[1], 1, 3, 3), groups=x.shape[1])


def window_kernel(like: Tensor) -> Tensor:
    line = like.new_tensor([0.25, 0.5, 0.25])
    return (line[:, None] * line).view(1, 1, 3, 3)


def block_values(picture: Tensor, scale: int) -> Tensor:
    """(M, 3, H, W) -> the same shape: what an input pixel would show whose block begins there.

    Its every s-th value is Pillow's bicubic reduction (a = -0.5).
    """
    with full_precision(picture):
        rows = reduction(picture.shape[-2], scale, picture)
        columns = reduction(picture.shape[-1], scale, picture)
        return rows @ picture.float() @ columns.transpose(0, 1)


def reduction(length: int, scale: int, like: Tensor) -> Tensor:
    """(length, length): row i weighs a line's pixels for the block that begins at i."""
    pixel = torch.arange(length, device=like.device, dtype=torch.float32)
    x = ((pixel + 0.5 - pixel[:, None] - scale / 2) / scale).abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    return weights / weights.sum(dim=1, keepdim=True)
