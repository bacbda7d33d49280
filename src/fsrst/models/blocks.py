"""The convolutional pieces: residual block, feature extractor, output constructor (Section 3)."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsrst.image import LUMA_WEIGHTS

FEATURES = 3  # channels of every feature map that is aligned and aggregated


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """No autocast inside, whatever is outside; the meta device (counting) knows no autocast."""
    kind = x.device.type
    return nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False)


def nan_if_lost(sampled: Tensor, place: Tensor) -> Tensor:
    """``sampled``; where ``place`` has a gradient, all NaN if any of it is.

    Samplers that reflect or repeat the border give a finite picture at a NaN place, and their
    backward pass crashes: so the loss shows it before.
    """
    return sampled + 0 * place.sum() if place.requires_grad else sampled


def each(x: Tensor, n: int) -> Tensor:
    """(B, ...) -> (B*N, ...): every entry n times in a row, once for each reference."""
    return x[:, None].expand(-1, n, *x.shape[1:]).flatten(0, 1)


def unshuffled_luma(refs: Tensor, scale: int) -> Tensor:
    """(B, N, 3, s*h, s*w) -> (B*N, s*s, h, w): luma, its blocks of s x s pixels as channels."""
    red, green, blue = LUMA_WEIGHTS
    luma = refs[:, :, 0] * red + refs[:, :, 1] * green + refs[:, :, 2] * blue
    return F.pixel_unshuffle(luma.view(-1, 1, *refs.shape[-2:]), scale)


class ResidualBlock(nn.Module):
    """Pre-activation block without normalisation: x + conv(relu(conv(relu(x))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv2(torch.relu(self.conv1(torch.relu(x))))
        return x + residual


def residual_trunk(
    inputs: int, width: int, blocks: int, outputs: int, *, bias: bool
) -> nn.Sequential:
    """conv3x3, ``blocks`` residual blocks, conv3x3 (its bias as given); no long skip."""
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1),
        *(ResidualBlock(width) for _ in range(blocks)),
        nn.Conv2d(width, outputs, 3, padding=1, bias=bias),
    )


class FeatureExtractor(nn.Module):
    """(B, inputs, h, w) -> (B, 3, h, w) by five residual blocks: one for L, one for all R_i."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.trunk = residual_trunk(inputs, width, 5, FEATURES, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.trunk(x)
        return features


class OutputConstructor(nn.Module):
    """The residual of eq. 12: (B, 3, h, w) -> (B, 3, s*h, s*w).

    Twenty residual blocks at low resolution, pixel-shuffle by ``scale``, then a conv3x3 on the
    high-resolution grid.
    """

    def __init__(self, width: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.trunk = residual_trunk(FEATURES, width, 20, 3 * scale**2, bias=False)
        self.last = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, fused: Tensor) -> Tensor:
        residual: Tensor = self.last(F.pixel_shuffle(self.trunk(fused), self.scale))
        return residual
