"""The coarse pose of FSRST2 (``fsrst2.py``): small pictures, laid over one another and relit.

References and input are compared as thumbnails of one size, whatever theirs: the paper's spatial
transformer (eq. 2-5), bounded, says where a head is, and two moments of its colours how it is lit.
What is behind a face may be another place, so the middle of the pictures has the last word.
"""

import math

import torch
from torch import Tensor, nn

from fsrst.models.alignment import IDENTITY, affine_grid
from fsrst.models.blocks import full_precision
from fsrst.models.correspondence import COARSE, positions, sample, squares

POSE_SIDE = 32  # of a thumbnail [px]
POSE_LIMIT = 0.4  # largest change of each of theta's six numbers
MISFIT_RATIO = 0.9  # theta and light are changed where that brings the misfit below this part of it
CENTRAL = (0.7, 1e-3)  # the middle's light: below this part, and by at least so much [mean square]
MIDDLE = 0.35  # how far a picture's middle reaches from its centre [of its side]
GAIN_LIMIT = 2.5  # of a change of light, each way; there are two


class CoarseTransformer(nn.Module):
    """Two thumbnails (M, 3, 32, 32) -> theta (M, 2, 3), a bounded change of the identity (eq. 4).

    The thumbnails have one size whatever the input's, so the fully connected layer limits nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(6, 32, 5, padding=2, stride=2),
            nn.ReLU(),
            nn.Conv2d(32, 32, 5, padding=2, stride=2),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
        )
        # fully connected layers as convolutions, which OpenVINO computes ten times faster here
        self.fc1 = nn.Conv2d(32, 64, POSE_SIDE // 4)
        self.fc2 = nn.Conv2d(64, 6, 1)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)  # type: ignore[arg-type]

    def forward(self, lr: Tensor, ref: Tensor) -> Tensor:
        with full_precision(lr):
            x = self.convolutions(torch.cat((lr, ref), dim=1).float() - 0.5)
            change = torch.tanh(self.fc2(torch.relu(self.fc1(x))).flatten(1))
            theta: Tensor = change * POSE_LIMIT + change.new_tensor(IDENTITY)
        return theta.view(-1, 2, 3)


def pose_error(alignment: nn.Module, seen: Tensor, thumbnails: Tensor, present: Tensor) -> Tensor:
    """Mean absolute difference of inputs ``seen`` (M, 3, 32, 32) from references' ``thumbnails``
    (M, 3, 32, 32) that are relit and laid over them, where ``present`` (M,)."""
    gain, offset = matched_light(thumbnails, seen)  # nearly as ``FSRST2.pose`` sees them
    thumbnails = thumbnails * gain + offset
    theta = alignment(seen, thumbnails)
    with full_precision(theta):
        laid = sample(thumbnails, affine_grid(theta, POSE_SIDE, POSE_SIDE))
    error: Tensor = (laid - seen).abs().mean(dim=(1, 2, 3)) * present
    return error.sum() / (present.sum() + 1e-6)


def lay(thumbnails: Tensor, theta: Tensor, drift: Tensor) -> Tensor:
    """Thumbnails (M, 3, 32, 32) as theta (M, 2, 3) and a drift (M, 2, 16, 16) lay them over the
    input's (eq. 3), seen at the centres of every 2x2 pixels: (M, 3, 16, 16)."""
    return sample(thumbnails, positions(drift, theta, (POSE_SIDE, POSE_SIDE), COARSE, (1.0,)))


def matched_light(picture: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and offset (M, 3, 1, 1) that give ``picture`` (M, 3, t, t) the means and deviations of
    ``other``'s colours, where that makes them clearly more alike; else 1 and 0. Those of the middle
    instead, where that makes the middle much more alike still: behind the face is another place.
    """
    gain = torch.ones_like(picture[:, :, :1, :1])
    offset = torch.zeros_like(gain)
    for mean, ratio, least in ((whole_mean, MISFIT_RATIO, 0.0), (central_mean, *CENTRAL)):
        level, other_level = mean(picture), mean(other)
        deviation = mean(squares(picture - level)).sqrt()
        other_deviation = mean(squares(other - other_level)).sqrt()
        found = (other_deviation / (deviation + 1e-3)).clamp(1 / GAIN_LIMIT, GAIN_LIMIT)
        lift = other_level - found * level
        before = mean(squares(picture * gain + offset - other)).mean(dim=1, keepdim=True)
        after = mean(squares(picture * found + lift - other)).mean(dim=1, keepdim=True)
        better = (after + least < ratio * before).to(gain.dtype)
        gain = better * found + (1 - better) * gain
        offset = better * lift + (1 - better) * offset
    return gain, offset


def whole_mean(picture: Tensor) -> Tensor:
    """(M, C, t, t) -> (M, C, 1, 1)."""
    return picture.mean(dim=(2, 3), keepdim=True)


def central_mean(picture: Tensor) -> Tensor:
    """(M, C, t, t) -> (M, C, 1, 1): the mean in a smooth window about the middle, where faces are.

    It ends within the face: a background is so far from a face's few tones that its hundredth part
    would be half of their deviation.
    """
    side = picture.shape[-1]
    place = (torch.arange(side, device=picture.device, dtype=torch.float32) + 0.5) / side
    distance = ((place - 0.5).abs() / MIDDLE).clamp(max=1)
    weights = torch.cos(distance * (math.pi / 2)) ** 2
    weights = weights / weights.sum()
    return (picture * (weights[:, None] * weights)).sum(dim=(2, 3), keepdim=True)


def second_where(second: Tensor, ways: Tensor) -> Tensor:
    """Of two ways (2 * M, ...) the second where ``second`` (M,) says so, else the first."""
    pair = ways.view(2, -1, *ways.shape[1:])
    take = second.to(ways.dtype).view(-1, *[1] * (ways.dim() - 1))
    return take * pair[1] + (1 - take) * pair[0]


def thumbnail(picture: Tensor) -> Tensor:
    """(M, 3, h, w) of any size -> (M, 3, 32, 32): means of what lies under each of its pixels."""
    with full_precision(picture):
        rows, columns = averages(picture.shape[-2], picture), averages(picture.shape[-1], picture)
        return rows @ picture.float() @ columns.transpose(0, 1)


def averages(length: int, like: Tensor) -> Tensor:
    """(32, length): row i weighs a line's pixels by how much of them lies in its i-th part of 32,
    widened to a pixel's width where it is smaller (which is linear interpolation)."""
    pixel = torch.arange(length, device=like.device, dtype=torch.float32)
    part = (pixel[-1:] + 1) / POSE_SIDE
    centre = (torch.arange(POSE_SIDE, device=like.device)[:, None] + 0.5) * part
    half = part.clamp(min=1) / 2
    under = torch.minimum(pixel + 1, centre + half) - torch.maximum(pixel, centre - half)
    weights = under.clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)
