"""Correspondence by patches: for every place of the input, the place of the reference like it.

Used by TTSR, C2-Matching and MRefSR. Convention: feature maps (B, C, h, w) of the input (``query``)
and (B, C, H, W) of the reference (``key``), of any two sizes; a patch is 3x3 and named by its
centre; an index is ``y * W' + x`` in the H' x W' grid of the reference's patches.

All pairs are compared (the cost is quadratic in the pixels) but never held at once: the inputs'
patches are taken in ``PIECES`` parts. So 128 -> 512, which is 16,384 x 16,384 pairs, needs 1.1 to
3.5 GB in the three networks (docs/results.md, "Memory of a large frame").
Choices are made in float32: bfloat16 has 8 bits and would choose at random among near equals.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fsrst.models.blocks import full_precision

PIECES = 16  # a constant, so that an exported graph of any size keeps the bound


def patches(features: Tensor, padding: int) -> Tensor:
    """All 3x3 patches: (B, C, h, w) -> (B, 9*C, h', w'), the nine places row by row.

    ``padding`` 1 surrounds the map by zeros (h' = h); 0 has no patches that stick out (h' = h - 2).
    """
    padded = F.pad(features, (padding,) * 4)
    h, w = features.shape[-2] + 2 * padding - 2, features.shape[-1] + 2 * padding - 2
    return torch.cat(
        [padded[:, :, dy : dy + h, dx : dx + w] for dy in range(3) for dx in range(3)], dim=1
    )


@torch.no_grad()
def best_match(query: Tensor, key: Tensor, *, padding: int) -> Tensor:
    """Index of the reference patch with the largest cosine to each input patch (arg-max).

    (B, C, h, w), (B, C, H, W) -> (B, h', w') int64; of several equals the first.
    """
    with full_precision(query):
        offered = F.normalize(patches(key.float(), padding).flatten(2), dim=1)  # (B, 9C, H'W')
        wanted = patches(query.float(), padding)  # not normalised: that changes no choice
        b, c, h, w = wanted.shape
        length = (h * w + PIECES - 1) // PIECES
        rows = F.pad(wanted.flatten(2), (0, length * PIECES - h * w)).transpose(1, 2)
        pieces = rows.reshape(b, PIECES, length, c)
        best = [(pieces[:, i] @ offered).argmax(dim=2) for i in range(PIECES)]  # (B, length) each
    return torch.cat(best, dim=1)[:, : h * w].reshape(b, h, w)


def cosine(query: Tensor, key: Tensor, index: Tensor) -> Tensor:
    """How alike the matched patches are: (B, 1, h, w) in [-1, 1], with gradients to both maps.

    ``index`` (B, h, w) comes from ``best_match`` with padding 1.
    """
    with full_precision(query):
        h, w = query.shape[-2:]
        ours, theirs = F.pad(query.float(), (1, 1, 1, 1)), _padded_rows_last(key.float())
        dot = length_ours = length_theirs = query.new_zeros(1, dtype=torch.float32)
        for dy, dx, place in _places(index, *key.shape[-2:]):
            mine, found = ours[:, :, dy : dy + h, dx : dx + w], gather(theirs, place)
            dot = dot + (mine * found).sum(dim=1)
            length_ours = length_ours + mine.square().sum(dim=1)
            length_theirs = length_theirs + found.square().sum(dim=1)
        return (dot * (length_ours * length_theirs).clamp_min(1e-12).rsqrt())[:, None]


def transfer(values: Tensor, index: Tensor, scale: int) -> Tensor:
    """Lay the matched patches of a finer map over the input and average where they overlap.

    ``values`` (B, C, scale*H, scale*W); ``index`` (B, h, w) from ``best_match`` with padding 1 on
    (H, W) -> (B, C, scale*h, scale*w). A patch is 3x3 blocks of ``scale`` x ``scale`` values; each
    block of the output is the sum of the nine patches that cover it, divided by 9 (also at the
    border, where fewer do).
    """
    blocks = F.pixel_unshuffle(values, scale)
    padded = _padded_rows_last(blocks)
    total = values.new_zeros(1)
    for dy, dx, place in _places(index, *blocks.shape[-2:]):
        laid = F.pad(gather(padded, place), (dx, 2 - dx, dy, 2 - dy))  # where it lies in the patch
        total = total + laid[:, :, 1:-1, 1:-1]
    return F.pixel_shuffle(total / 9, scale)


def gather(values: Tensor, index: Tensor) -> Tensor:
    """Columns of ``values`` (B, C, H, W) at ``index`` (B, h, w) -> (B, C, h, w)."""
    b, c, height, width = values.shape
    rows = values.permute(0, 2, 3, 1).reshape(b * height * width, c)
    first = torch.arange(b, device=index.device).view(b, 1, 1) * (height * width)
    return F.embedding(index + first, rows).permute(0, 3, 1, 2)


def _padded_rows_last(values: Tensor) -> Tensor:
    """Zeros around, and a place's channels side by side, so that ``gather`` copies no map."""
    return F.pad(values, (1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)


def _places(index: Tensor, height: int, width: int) -> Iterator[tuple[int, int, Tensor]]:
    """The nine places of each matched patch (dy, dx, index in the padded map of width + 2)."""
    y, x = _coordinates(height, width, index.device)
    corner = (y * (width + 2) + x)[index]
    for dy in range(3):
        for dx in range(3):
            yield dy, dx, corner + (dy * (width + 2) + dx)


def _coordinates(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """y and x of each index: tables, because exporters cannot divide by a size that is free."""
    y = torch.arange(height, device=device)[:, None].expand(height, width)
    x = torch.arange(width, device=device).expand(height, width)
    return y.flatten(), x.flatten()


def flow(index: Tensor, height: int, width: int) -> Tensor:
    """From each patch to its match, y first [px]: (B, h, w) -> (B, 2, h, w) float32.

    ``height`` and ``width`` are those of the reference's grid of patches.
    """
    h, w = index.shape[-2:]
    y, x = _coordinates(height, width, index.device)
    dy = y[index] - torch.arange(h, device=index.device)[:, None]
    dx = x[index] - torch.arange(w, device=index.device)
    return torch.stack((dy, dx), dim=1).float()
