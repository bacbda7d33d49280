"""SPAN: a modern efficient network without references, what a user would pick instead.

Source: Wan, Yu, Li et al., "Swift Parameter-free Attention Network for Efficient Super-Resolution",
CVPR Workshops 2024 (winner of NTIRE 2024's efficiency track); original code Apache-2.0, not used.

    x -> conv -> block 1 -> ... -> block 6 -> conv -> fuse(first, block 1, block 5, last) -> shuffle
    block: H = conv(silu(conv(silu(conv(x))))),  out = (x + H) * (sigmoid(H) - 1/2)

Each 3x3 convolution is learned as 1x1 -> 3x3 -> 1x1 plus a 1x1 skip, which together are one 3x3.

Deviations:
- The chain's single 3x3 kernel is computed from its parts first, in training too, and one
  convolution is done: the same function and gradients at a quarter of the cost.
- The output is added to the bicubic image, as in all networks here; the original has no such skip.
- The input is centred on 1/2, not on the mean colour of DIV2K. As in the original it is multiplied
  by 255 (the products of the blocks would vanish for values in [0, 1]); here the residual is
  divided by 255 again, which gives a fresh network a residual of sane size.
- Features are taken after each block, as the paper draws it. The original code is said to take a
  block's inner convolution in place of block 5.
- Loss and schedule are this project's (L1), not the original's stages.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsrst.models.baselines.bicubic import WithoutReferences
from fsrst.models.blocks import full_precision
from fsrst.models.interface import State, bicubic_skip

RANGE = 255.0
GAIN = 2  # widening inside a chain
BLOCKS = 6


class ChainConv(nn.Module):
    """3x3 convolution with zero padding, learned as 1x1 -> 3x3 -> 1x1 plus a 1x1 skip.

    The chain's input is padded before the first 1x1, so that its bias reaches the border as well:
    only then is the chain one 3x3 everywhere.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(inputs, GAIN * inputs, 1)
        self.conv = nn.Conv2d(GAIN * inputs, GAIN * outputs, 3)
        self.reduce = nn.Conv2d(GAIN * outputs, outputs, 1)
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weight (outputs, inputs, 3, 3) and bias (outputs) of the one convolution."""
        # roundings of three bfloat16 products would add up
        with full_precision(self.conv.weight):
            expand, reduce = self.expand.weight[:, :, 0, 0], self.reduce.weight[:, :, 0, 0]
            weight = torch.einsum("oj,jkyx,ki->oiyx", reduce, self.conv.weight, expand)
            weight = weight + F.pad(self.skip.weight, (1, 1, 1, 1))
            nothing = expand.new_zeros(1, expand.shape[1], 3, 3)
            bias = self.reduce(self.conv(self.expand(nothing))) + self.skip(nothing[..., :1, :1])
            return weight, bias.flatten()

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.kernel()
        return F.conv2d(x, weight, bias, padding=1)


class AttentionBlock(nn.Module):
    """Three convolutions whose result is also its own attention (SPAB)."""

    def __init__(self, conv1: nn.Module, conv2: nn.Module, conv3: nn.Module) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = conv1, conv2, conv3

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv3(F.silu(self.conv2(F.silu(self.conv1(x)))))
        return (x + h) * (torch.sigmoid(h) - 0.5)


class SPAN(WithoutReferences):
    """``width`` 48: 426,288 parameters once fused, 1,840,488 while training, at 4x.

    ``fused`` builds the form for inference, with plain convolutions: use ``fuse()``.
    """

    def __init__(self, *, width: int = 48, fused: bool = False, scale: int = 4) -> None:
        super().__init__("span", scale, width=width, fused=fused)

        def conv(inputs: int) -> nn.Module:
            if fused:
                return nn.Conv2d(inputs, width, 3, padding=1)
            return ChainConv(inputs, width)

        self.first = conv(3)
        self.blocks = nn.ModuleList(
            AttentionBlock(conv(width), conv(width), conv(width)) for _ in range(BLOCKS)
        )
        self.last = conv(width)
        self.mix = nn.Conv2d(4 * width, width, 1)
        self.output = nn.Conv2d(width, 3 * scale**2, 3, padding=1)

    def upscale(self, lr: Tensor, state: State) -> Tensor:
        """``lr`` (B, 3, h, w) -> (B, 3, s*h, s*w), unclamped; the state is not looked at."""
        features = [self.first((lr - 0.5) * RANGE)]  # (B, width, h, w) each
        for block in self.blocks:
            features.append(block(features[-1]))
        chosen = (features[0], features[1], features[5], self.last(features[6]))
        residual = F.pixel_shuffle(self.output(self.mix(torch.cat(chosen, dim=1))), self.scale)
        return bicubic_skip(lr, self.scale) + residual / RANGE

    @torch.no_grad()
    def fuse(self) -> "SPAN":
        """The same function with every chain as one convolution: for inference and export."""
        if self.options["fused"]:
            return self
        fused = SPAN(**{**self.options, "fused": True}).to(self.mix.weight)
        state = {
            key: value
            for key, value in self.state_dict().items()
            if key.startswith(("mix.", "output."))
        }
        for name, module in self.named_modules():
            if isinstance(module, ChainConv):
                state[f"{name}.weight"], state[f"{name}.bias"] = module.kernel()
        fused.load_state_dict(state)
        return fused.train(self.training)
