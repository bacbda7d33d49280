"""TTSR: texture transformer with hard and soft attention; one reference.

Source: Yang, Yang, Fu, Lu, Guo, "Learning Texture Transformer Network for Image Super-Resolution"
(CVPR 2020). The authors' code (researchmm/TTSR) is MIT; no line of it is here.
6,729,603 parameters: 6,174,275 and the trainable texture extractor's 555,328.

    L up, R blurred -> texture extractor -> arg-max of 3x3 patches (hard), its cosine S (soft)
    R -> texture extractor -> patches of three levels, laid where L wants them -> T1, T2, T4
    L -> 16 blocks -> x1 with T1 -> x2 with T2 -> x4 with T4, all levels exchanging -> S

Deviations:
- The first present reference is used, the others are ignored (TTSR takes one).
- Without a reference S is 0 everywhere: the network is then one without textures.
- Reconstruction loss only (L1): no perceptual, transferal or adversarial term, hence no frozen copy
  of the extractor.
- The output is not clamped in the training graph; the enlarged input is the framework's bicubic
  image, not Pillow's.
- The reference is blurred by Pillow's cubic kernel as a convolution, its edge repeated, and
  enlarged again by the framework's (a = -0.75).
- Augmentation is the project's, the same flips for input and references; the original flips and
  turns them independently.
- The extractor starts as ``vgg`` says, not always from ImageNet. It lies under ``alignment``, so
  that it learns at the lower rate, as in the original.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsrst.models.baselines.matching import best_match, cosine, transfer
from fsrst.models.baselines.vgg import VGG
from fsrst.models.blocks import full_precision
from fsrst.models.interface import ReferenceSR, State, presence

SCALE = 4


class PlainBlock(nn.Module):
    """x + conv(relu(conv(x))), as EDSR has it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.conv2(torch.relu(self.conv1(x)))
        return x + residual


def plain_blocks(width: int, count: int) -> list[nn.Module]:
    return [PlainBlock(width) for _ in range(count)]


class Enlarge(nn.Module):
    """Bicubic enlargement of a feature map, a = -0.75, as one convolution per channel.

    The framework's ``interpolate`` to rounding, but runtimes walk a cubic Resize value by value. In
    float32 always: the taps must add up to 1.
    """

    kernel: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        position = (torch.arange(scale) + 0.5) / scale - 0.5
        offset = (position[:, None] - torch.arange(-2, 3)).abs()  # (scale, 5 taps)
        taps = cubic(offset, -0.75)
        kernel = torch.einsum("iy,jx->ijyx", taps, taps).reshape(-1, 1, 5, 5)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, scale*h, scale*w)."""
        c = x.shape[1]
        with full_precision(x):
            padded = F.pad(x.float(), (2, 2, 2, 2), mode="replicate")
            blocks = F.conv2d(padded, self.kernel.repeat(c, 1, 1, 1), groups=c)
        return F.pixel_shuffle(blocks, self.scale)


class Blur(nn.Module):
    """Reduce by ``scale`` as Pillow does (cubic, a = -0.5, antialiased), then enlarge again: what
    the reference would look like had it been the input. (B, 3, s*h, s*w) -> the same."""

    kernel: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.enlarge = Enlarge(scale)
        taps = cubic(((torch.arange(4 * scale) + 0.5) / scale - 2).abs(), -0.5)
        taps = taps / taps.sum()
        kernel = torch.outer(taps, taps).repeat(3, 1, 1, 1)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        margin = (4 * self.scale - self.scale) // 2
        with full_precision(pictures):
            padded = F.pad(pictures.float(), (margin,) * 4, mode="replicate")
            small = F.conv2d(padded, self.kernel, stride=self.scale, groups=3)
        enlarged: Tensor = self.enlarge(small)
        return enlarged.clamp(0, 1)


def cubic(distance: Tensor, a: float) -> Tensor:
    """Keys' kernel at a distance >= 0."""
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))


class Exchange(nn.Module):
    """Every level hears all others (cross-scale feature integration).

    ``levels`` maps (B, c, 2^i*h, 2^i*w) -> the same. Upwards bicubic and a 1x1 convolution,
    downwards a 3x3 convolution of stride 2 per step, then a 3x3 convolution of all together.
    """

    def __init__(self, levels: int, width: int) -> None:
        super().__init__()
        self.paths = nn.ModuleDict(
            {
                f"{source}to{target}": self._path(target - source, width)
                for source in range(levels)
                for target in range(levels)
                if source != target
            }
        )
        self.merges = nn.ModuleList(
            nn.Conv2d(levels * width, width, 3, padding=1) for _ in range(levels)
        )

    @staticmethod
    def _path(steps: int, width: int) -> nn.Sequential:
        if steps > 0:
            return nn.Sequential(Enlarge(2**steps), nn.Conv2d(width, width, 1), nn.ReLU())
        downs = [
            (nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU()) for _ in range(-steps)
        ]
        return nn.Sequential(*(layer for down in downs for layer in down))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        merged = []
        for target, merge in enumerate(self.merges):
            heard = [
                x if source == target else self.paths[f"{source}to{target}"](x)
                for source, x in enumerate(maps)
            ]
            merged.append(torch.relu(merge(torch.cat(heard, dim=1))))
        return merged


class TTSR(ReferenceSR):
    """TTSR at 4x, any size of at least 4 px.

    ``blocks``: residual blocks of the first extraction and per trunk at x1, x2, x4. ``vgg``: see
    ``fsrst.models.baselines.vgg``.
    """

    reference_limit = 1
    chooses = True

    def __init__(
        self,
        *,
        name: str = "ttsr",
        width: int = 64,
        blocks: Sequence[int] = (16, 16, 8, 4),
        vgg: str = "random",
        vgg_width: int = 64,
    ) -> None:
        super().__init__()
        if len(blocks) != 4:
            raise ValueError(f"blocks are four numbers (first, x1, x2, x4), not {list(blocks)}")
        self.name = name
        self.scale = SCALE
        self.lr_size = None
        self.alignment = VGG(vgg_width)  # the texture extractor; see the last deviation
        self.options = {
            "width": width,
            "blocks": list(blocks),
            "vgg": self.alignment.start_from(vgg),
            "vgg_width": vgg_width,
        }
        self.blur = Blur(SCALE)
        self.enlarge = Enlarge(SCALE)

        def conv(inputs: int, outputs: int, side: int = 3) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, side, padding=side // 2)

        self.first = conv(3, width)
        self.extraction = nn.Sequential(*plain_blocks(width, blocks[0]), conv(width, width))
        self.enlargers = nn.ModuleList(
            nn.Sequential(conv(width, 4 * width), nn.PixelShuffle(2), nn.ReLU()) for _ in range(2)
        )
        self.enlarge_soft = nn.ModuleList((nn.Identity(), Enlarge(2), Enlarge(4)))
        self.heads = nn.ModuleList(
            conv(width + channels, width)
            for channels in (4 * vgg_width, 2 * vgg_width, vgg_width)  # at x1, x2, x4
        )
        self.exchanges = nn.ModuleList((Exchange(2, width), Exchange(3, width)))
        self.trunks = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(*plain_blocks(width, blocks[1 + level]), conv(width, width))
                for _ in range(level + 1)
            )
            for level in range(3)
        )
        self.to_output = nn.ModuleList(
            nn.Sequential(Enlarge(scale), conv(width, width, 1), nn.ReLU()) for scale in (4, 2)
        )
        self.last = nn.Sequential(
            conv(3 * width, width), nn.ReLU(), conv(width, width // 2), conv(width // 2, 3, 1)
        )

    def encode(self, refs: Tensor, present: Tensor | None = None) -> State:
        """``refs`` (B, N, 3, 4H, 4W) -> state of the first present one, repeated N times (without
        a copy): its blurred relu3_1 (B, N, 256, H, W), its relu3_1, relu2_1 and relu1_1
        (B, N, 64, 4H, 4W), and whether there is one (B, N). No reference counts as one of zeros."""
        ref, found, n = first_present(refs, present)
        relu1, relu2, relu3 = self.alignment(ref)
        key = self.alignment(self.blur(ref))[2]
        state = (key, relu3, relu2, relu1, found)
        return tuple(t[:, None].expand(-1, n, *t.shape[1:]) for t in state)

    def upscale(self, lr: Tensor, state: State) -> Tensor:
        """``lr`` (B, 3, h, w), state of ``encode`` -> ``sr`` (B, 3, 4h, 4w), unclamped."""
        key, relu3, relu2, relu1, found = (t[:, 0] for t in state)
        query = self.alignment(self.enlarge(lr).clamp(0, 1))[2]  # (B, 256, h, w)
        index = best_match(query, key, padding=1)  # hard attention
        soft = cosine(query, key, index) * found[:, None, None, None]  # (B, 1, h, w)
        textures = [transfer(values, index, 2**i) for i, values in enumerate((relu3, relu2, relu1))]

        x = torch.relu(self.first(lr * 2 - 1))
        maps = [x + self.extraction(x)]
        for level, texture in enumerate(textures):
            if level > 0:
                maps.append(self.enlargers[level - 1](maps[-1]))
            texture = self.heads[level](torch.cat((maps[-1], texture), dim=1))
            maps[-1] = maps[-1] + texture * self.enlarge_soft[level](soft)
            residuals = self.exchanges[level - 1](maps) if level > 0 else maps
            maps = [
                x + trunk(residual)
                for x, trunk, residual in zip(maps, self.trunks[level], residuals, strict=True)  # type: ignore[call-overload]
            ]
        outputs = [to_output(x) for to_output, x in zip(self.to_output, maps[:2], strict=True)]
        picture: Tensor = self.last(torch.cat((*outputs, maps[2]), dim=1))
        return (picture.float() + 1) / 2


def first_present(refs: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor, int]:
    """The first present reference (B, 3, s*h, s*w), whether there is one (B,) of 0 and 1, and N.

    N = 0 counts as one reference of zeros that is not present.
    """
    present = presence(refs, present)
    if refs.shape[1] == 0:
        refs = refs.new_zeros(refs.shape[0], 1, *refs.shape[2:])
        present = refs.new_zeros(refs.shape[:2])
    which = present.argmax(dim=1)  # the first of equals
    rows = torch.arange(refs.shape[0], device=refs.device)
    return refs[rows, which], present.amax(dim=1), refs.shape[1]
