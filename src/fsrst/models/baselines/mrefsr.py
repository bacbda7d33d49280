"""MRefSR: C2-Matching's network run for every reference, fused by attention; any number of them.

Source: Zhang, Li, He, Li, Ding, Zhang, "LMR: A Large-Scale Multi-Reference Dataset for
Reference-based Super-Resolution" (ICCV 2023). The authors' code (wdmwhh/MRefSR) has BasicSR's
Apache-2.0 LICENSE, its README a badge of MIT; no line of it is here. The restoration has 23,711,633
parameters, 15,214,918 of them in the three fusions, which replace C2-Matching's heads. With the two
frozen extractors that C2-Matching's student provides there are 24,822,289 (the comparison's table
says 24.00 M, which nothing explains).

Deviations: those of ``c2_matching`` but the first; and an absent reference has weight 0, without
any the fused value is 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsrst.models.baselines.c2_matching import SLOPE, MatchedRestoration
from fsrst.models.blocks import each


class Fusion(nn.Module):
    """Content (B, c, h, w), aligned references (B, N, C, h, w), present (B, N) -> (B, c, h, w).

    Each pixel of the content asks the references at that pixel; their weighted values then scale
    and shift themselves by what content and values say together.
    """

    def __init__(self, content: int, channels: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.query = nn.Sequential(nn.Conv2d(content, channels, 1), nn.PReLU())
        self.key = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.PReLU())
        self.value = nn.Conv2d(channels, wide, 3, padding=1)
        self.joint = nn.Conv2d(content + wide, wide, 1)
        self.scale = self._modulation(wide)
        self.shift = self._modulation(wide)
        self.last = nn.Conv2d(content + wide, content, 1)

    @staticmethod
    def _modulation(width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, content: Tensor, aligned: Tensor, present: Tensor) -> Tensor:
        b, n = present.shape
        references = aligned.flatten(0, 1)
        query, key = each(self.query(content), n).float(), self.key(references).float()
        logits = (query * key).sum(dim=1).view(b, n, *content.shape[-2:])
        weights = attention(logits / query.shape[1] ** 0.5, present)  # (B, N, h, w)
        values = self.value(references).view(b, n, -1, *content.shape[-2:])
        fused = (weights[:, :, None] * values).sum(dim=1)  # (B, 2C, h, w)
        joint = F.leaky_relu(self.joint(torch.cat((content, fused), dim=1)), SLOPE)
        fused = fused * torch.sigmoid(self.scale(joint)) * 2 + self.shift(joint)
        return F.leaky_relu(self.last(torch.cat((content, fused), dim=1)), SLOPE)


def attention(logits: Tensor, present: Tensor) -> Tensor:
    """Softmax over the present references: (B, N, h, w), (B, N) -> (B, N, h, w); all 0 if none."""
    here = present[:, :, None, None]
    return torch.softmax(logits.masked_fill(here == 0, -1e4), dim=1) * here


class MRefSR(MatchedRestoration):
    """MRefSR at 4x. ``extractors`` names the weights file of a c2-student."""

    def __init__(
        self,
        *,
        name: str = "mrefsr",
        width: int = 64,
        blocks: int = 16,
        vgg: str = "random",
        vgg_width: int = 64,
        extractors: str = "random",
    ) -> None:
        super().__init__(
            name=name,
            merge=Fusion,
            width=width,
            blocks=blocks,
            vgg=vgg,
            vgg_width=vgg_width,
            extractors=extractors,
        )
