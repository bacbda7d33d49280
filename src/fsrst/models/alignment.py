"""The spatial transformer that lays reference features over the input's (eq. 1-5).

Convention: theta (2, 3) maps *output* (input-face) coordinates to *sampling* positions in the
reference, both in [-1, 1] with x first; align_corners = False, so -1 and 1 are the outer edges of
the border pixels; outside the reference its mirror image is sampled (reflection padding).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsrst.models.blocks import FEATURES, each, full_precision, nan_if_lost

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def affine_grid(theta: Tensor, height: int, width: int) -> Tensor:
    """Sampling positions of every output pixel (eq. 2): theta (B, 2, 3) -> (B, height, width, 2).

    The same numbers as the framework's function; a product by hand, because exporters know that.
    """
    x = (torch.arange(width, dtype=theta.dtype, device=theta.device) * 2 + 1) / width - 1
    y = (torch.arange(height, dtype=theta.dtype, device=theta.device) * 2 + 1) / height - 1
    ones = torch.ones(height, width, dtype=theta.dtype, device=theta.device)
    points = torch.stack((ones * x, ones * y[:, None], ones), dim=-1)  # (h, w, 3)
    grid = points.view(1, height * width, 3) @ theta.transpose(1, 2)  # (B, h*w, 2)
    return grid.view(-1, height, width, 2)


def warp(features: Tensor, theta: Tensor) -> Tensor:
    """Sample ``features`` (B, C, h, w) where ``theta`` (B, 2, 3) says, bilinearly (eq. 3, 5)."""
    with full_precision(features):  # positions in bfloat16 are off by up to a tenth of a pixel
        grid = affine_grid(theta, features.shape[-2], features.shape[-1])
        sampled = F.grid_sample(
            features.to(theta.dtype),
            grid,
            mode="bilinear",
            padding_mode="reflection",
            align_corners=False,
        )
        return nan_if_lost(sampled, theta)


class Localisation(nn.Module):
    """F_L and F_R -> theta (eq. 4): (B, 3, h, h) twice -> (B, 2, 3). 292,838 parameters.

    Starts as the identity: the last layer's weights are 0 and its bias is (1, 0, 0, 0, 1, 0). The
    fully connected layer sees 16 x 16 positions, so ``lr_size`` must be 32 (max-pooled once) or 16.
    """

    def __init__(self, lr_size: int) -> None:
        super().__init__()
        if lr_size not in (16, 32):
            raise ValueError(f"the localisation net is made for 16 or 32 px, not {lr_size}")
        self.pooled = lr_size == 32
        self.conv1 = nn.Conv2d(2 * FEATURES, 32, 5, padding=2)
        self.conv2 = nn.Conv2d(32, 32, 5, padding=2)
        self.fc1 = nn.Linear(16 * 16 * 32, 32)
        self.fc2 = nn.Linear(32, 6)
        nn.init.zeros_(self.fc2.weight)
        with torch.no_grad():
            self.fc2.bias.copy_(torch.tensor(IDENTITY))

    def forward(self, features_lr: Tensor, features_ref: Tensor) -> Tensor:
        x = self.conv1(torch.cat((features_lr, features_ref), dim=1))
        if self.pooled:
            x = F.max_pool2d(x, 2)
        x = torch.relu(self.conv2(torch.relu(x)))
        with full_precision(x):
            theta: Tensor = self.fc2(torch.relu(self.fc1(x.float().flatten(1))))
        return theta.view(-1, 2, 3)


class SpatialTransformer(nn.Module):
    """Align every reference to the input: (B, 3, h, w), (B, N, 3, h, w) -> (B, N, 3, h, w)."""

    def __init__(self, lr_size: int) -> None:
        super().__init__()
        self.localisation = Localisation(lr_size)

    def forward(self, features_lr: Tensor, features_refs: Tensor) -> Tensor:
        b, n, c, h, w = features_refs.shape
        each_ref = features_refs.reshape(b * n, c, h, w)
        theta = self.localisation(each(features_lr, n), each_ref)  # eq. 4
        return warp(each_ref, theta).view(b, n, c, h, w)  # eq. 5
