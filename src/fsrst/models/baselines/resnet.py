"""ResNet without references: row 0 of the FSRST paper's Table 2.

Source: Jois, DiLillo, Storer, ACCV 2024, Table 2 ("a ResNet of about the same size"). The authors'
file never entered their public code, so its layers are not known.

Deviations, or rather choices: FSRST's own residual block, first convolution and output constructor,
with as many blocks in one row as bring it nearest below FSRST's size (34 blocks of 64 channels:
2,540,628 parameters against 2,552,576; small: 46 of 32 channels, 865,620 against 869,792), and no
3-channel bottleneck between extractor and constructor, as there is nothing to align.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from fsrst.models.baselines.bicubic import WithoutReferences
from fsrst.models.blocks import residual_trunk
from fsrst.models.interface import State, bicubic_skip


class ResNet(WithoutReferences):
    """``blocks`` residual blocks of ``width`` channels, pixel-shuffle, conv3x3, plus bicubic."""

    def __init__(self, *, name: str, width: int, blocks: int, scale: int = 4) -> None:
        super().__init__(name, scale, width=width, blocks=blocks)
        self.trunk = residual_trunk(3, width, blocks, 3 * scale**2, bias=False)
        self.last = nn.Conv2d(3, 3, 3, padding=1)

    def upscale(self, lr: Tensor, state: State) -> Tensor:
        """``lr`` (B, 3, h, w) -> (B, 3, s*h, s*w), unclamped; the state is not looked at."""
        residual: Tensor = self.last(F.pixel_shuffle(self.trunk(lr), self.scale))
        return bicubic_skip(lr, self.scale) + residual
