"""Modulated deformable convolution (DCNv2), from the framework's bilinear sampling alone.

Source: Zhu, Hu, Lin, Dai, "Deformable ConvNets v2", CVPR 2019, equation 1, and Dai et al.,
"Deformable Convolutional Networks", ICCV 2017, equation 3 (bilinear sampling). The originals' CUDA
extensions (MIT; BSD-3 for the usual PyTorch one) were not used.

    y(p) = bias + sum over taps t of  weight_t . ( mask_t(p) * x(p + tap_t + offset_t(p)) )

Conventions: offsets in pixels of ``x``, y before x, taps row by row; the channels of ``x`` are
split into ``groups`` equal runs, each with its own offsets and mask; ``x`` is 0 outside its
picture, and a position less than one pixel outside still sees the border bilinearly.

Deviations: stride 1, dilation 1 and one weight group only, which is all that the compared systems
use. Positions are clamped to two pixels outside the picture, where value and gradient are 0 anyway:
no finite or infinite offset can leave the sampler's range. A NaN stays NaN, so that it is seen.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ModulatedDeformConv(nn.Module):
    """A ``kernel`` x ``kernel`` convolution (odd, stride 1) whose every tap looks where it is told.

    Parameters ``weight`` (outputs, inputs, kernel, kernel) and ``bias`` (outputs) start as those of
    an ordinary convolution, the bias at 0.

    Raises
    ------
    ValueError
        If ``kernel`` is even, or ``inputs`` is no multiple of ``groups``.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, groups: int = 8) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"the kernel of a deformable convolution is odd, not {kernel}")
        if groups < 1 or inputs % groups:
            raise ValueError(f"{inputs} channels cannot be shared by {groups} groups of offsets")
        self.kernel = kernel
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """``x`` (B, C, h, w) -> (B, outputs, h, w), float32 at least.

        ``offset`` (B, groups*k*k*2, h, w) [px]: for group g and tap t, channel 2*(g*k*k + t) is y
        and the next one x. ``mask`` (B, groups*k*k, h, w) in [0, 1]; None means 1 everywhere.

        One tap after the other: the memory is that of one copy of ``x``, not of k*k.
        """
        b, channels, h, w = x.shape
        taps, reach = self.kernel**2, self.kernel // 2
        dtype = torch.promote_types(x.dtype, torch.float32)  # bfloat16 positions would be rounded
        y0 = torch.arange(h, dtype=dtype, device=x.device)[:, None]
        x0 = torch.arange(w, dtype=dtype, device=x.device)
        x_groups = x.to(dtype).reshape(b * self.groups, channels // self.groups, h, w)
        offsets = offset.to(dtype).reshape(b * self.groups, taps, 2, h, w)
        masks = None if mask is None else mask.to(dtype).reshape(b * self.groups, taps, 1, h, w)
        result = self.bias.to(dtype)[:, None, None]
        for tap in range(taps):
            row, column = divmod(tap, self.kernel)
            y = (y0 + (row - reach) + offsets[:, tap, 0]).clamp(-2, h + 1)  # (B*groups, h, w)
            x_ = (x0 + (column - reach) + offsets[:, tap, 1]).clamp(-2, w + 1)
            grid = torch.stack(((2 * x_ + 1) / w - 1, (2 * y + 1) / h - 1), dim=-1)
            seen = F.grid_sample(x_groups, grid, padding_mode="zeros", align_corners=False)
            if masks is not None:
                seen = seen * masks[:, tap]
            weight = self.weight[:, :, row, column, None, None]
            result = result + F.conv2d(seen.reshape(b, channels, h, w), weight)
        return result
