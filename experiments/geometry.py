"""Affine maps between two pictures: drawn, inverted, compared, and found without any network.

Convention: theta (B, 2, 3) sends output coordinates to sampling positions, both in [-1, 1], x first
(``fsrst.models.alignment``). ``warp(y, theta)`` lays y over x; outside y its mirror image is seen.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from fsrst.image import LUMA_WEIGHTS
from fsrst.models.alignment import IDENTITY, affine_grid, warp

ROTATION, SHIFT, ZOOM = 10.0, 0.1, 0.2  # +- [degrees], +- [part of the side], 1 +- (the paper's)
CORNERS = ((-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0))
LEVELS = (16, 32, 64, 128)  # [px] sides at which least squares works, coarse to fine
STEPS = 8  # at each of them
DAMPING = 1e-3  # of the mean curvature


def identity(like: Tensor) -> Tensor:
    """(B, 2, 3): nothing moves, for every picture of ``like``."""
    return torch.tensor(IDENTITY).view(1, 2, 3).repeat(like.shape[0], 1, 1)


def draw_maps(rng: Generator, count: int) -> Tensor:
    """Random maps (count, 2, 3) of rotation, shift and scale, no shear, in the paper's ranges."""
    angle = np.deg2rad(rng.uniform(-ROTATION, ROTATION, count))
    zoom = rng.uniform(1 - ZOOM, 1 + ZOOM, count)
    shift = rng.uniform(-2 * SHIFT, 2 * SHIFT, (2, count))  # a side is 2 long
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    rows = np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]]])  # (2, 3, count)
    return torch.from_numpy(rows.transpose(2, 0, 1).astype(np.float32))


def inverse(theta: Tensor) -> Tensor:
    linear = torch.linalg.inv(theta[:, :, :2])
    return torch.cat((linear, -linear @ theta[:, :, 2:]), dim=2)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """The map of ``warp(warp(y, first), second)``, without sampling twice."""
    linear, shift = first[:, :, :2], first[:, :, 2:]
    return torch.cat((linear @ second[:, :, :2], linear @ second[:, :, 2:] + shift), dim=2)


def numbers_error(theta: Tensor, truth: Tensor) -> Tensor:
    """(B,): mean absolute error of the six numbers."""
    return (theta - truth).abs().mean(dim=(1, 2))


def corner_error(theta: Tensor, truth: Tensor, side: int) -> Tensor:
    """(B,): mean distance between where the two send the corners [px of a ``side`` px picture]."""
    corners = theta.new_tensor([(*corner, 1.0) for corner in CORNERS])  # (4, 3)
    moved = corners @ (theta - truth).transpose(1, 2)  # (B, 4, 2)
    return moved.norm(dim=2).mean(dim=1) * (side / 2)


def image_error(x: Tensor, y: Tensor, theta: Tensor, crop: int | None = None) -> Tensor:
    """(B,): mean absolute difference of x and y laid over it, values in [0, 1]; of the centred
    ``crop`` x ``crop`` px alone, if given."""
    difference = (warp(y, theta) - x).abs()
    if crop is not None:
        top, left = ((length - crop) // 2 for length in x.shape[-2:])
        difference = difference[:, :, top : top + crop, left : left + crop]
    return difference.mean(dim=(1, 2, 3))


@torch.no_grad()
def least_squares(
    x: Tensor, y: Tensor, start: Tensor | None = None, levels: tuple[int, ...] = LEVELS
) -> Tensor:
    """theta (B, 2, 3) by Gauss-Newton steps on the squared luma difference, coarse to fine.

    No learning (Lucas and Kanade 1981; forward additive form). Luma has mean 0 and deviation 1 in
    each picture, so light matters less. Where the result fits worse than ``start`` (default: the
    identity), that is returned.
    """
    start = identity(x) if start is None else start
    theta = start
    x_luma, y_luma = _normalised(x), _normalised(y)
    for side in levels:
        x_small = F.interpolate(x_luma, (side, side), mode="area")
        y_small = F.interpolate(y_luma, (side, side), mode="area")
        slopes = _slopes(y_small)
        points = affine_grid(identity(x[:1]), side, side).view(1, -1, 2)  # (1, side*side, 2)
        for _ in range(STEPS):
            theta = theta + _step(theta, x_small, y_small, slopes, points)
    better = image_error(x_luma, y_luma, theta) < image_error(x_luma, y_luma, start)
    return torch.where(better.view(-1, 1, 1), theta, start)


def _step(theta: Tensor, x: Tensor, y: Tensor, slopes: Tensor, points: Tensor) -> Tensor:
    """One Gauss-Newton step: the change of theta (B, 2, 3)."""
    b, _, side, _ = x.shape
    seen = warp(torch.cat((y, slopes), dim=1), theta).flatten(2)  # (B, 3, pixels)
    place = affine_grid(theta, side, side).view(b, -1, 2)
    inside = (place.abs() <= 1).all(dim=2).to(x.dtype)  # mirrored pixels tell nothing
    error = (x.flatten(1) - seen[:, 0]) * inside  # (B, pixels)
    one = torch.cat((points, torch.ones_like(points[:, :, :1])), dim=2)  # x, y, 1
    by_x, by_y = (seen[:, k, :, None] * one * inside[:, :, None] for k in (1, 2))
    jacobian = torch.cat((by_x, by_y), dim=2)  # (B, pixels, 6)
    normal = jacobian.transpose(1, 2) @ jacobian
    curvature = normal.diagonal(dim1=1, dim2=2).mean(dim=1).view(-1, 1, 1)
    normal = normal + (DAMPING * curvature + 1e-9) * torch.eye(6)
    change = torch.linalg.solve(normal, jacobian.transpose(1, 2) @ error[:, :, None])
    return change.view(b, 2, 3).clamp(-0.2, 0.2)


def _slopes(y: Tensor) -> Tensor:
    """Change of y (B, 1, h, w) along x and along y, per unit of the coordinates: (B, 2, h, w)."""
    padded = F.pad(y, (1, 1, 1, 1), mode="replicate")
    along_x = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) * (y.shape[-1] / 4)
    along_y = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) * (y.shape[-2] / 4)
    return torch.cat((along_x, along_y), dim=1)


def _normalised(picture: Tensor) -> Tensor:
    weights = picture.new_tensor(LUMA_WEIGHTS).view(1, 3, 1, 1)
    luma = (picture * weights).sum(dim=1, keepdim=True)
    deviation, mean = torch.std_mean(luma, dim=(2, 3), keepdim=True)
    return (luma - mean) / (deviation + 1e-6)
