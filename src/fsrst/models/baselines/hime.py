"""HIME: references aligned by deformable convolution; two networks.

``hime-small``  as the FSRST paper's authors rebuilt it for Table 1, weaknesses included
``hime``        a fair one: wide features, bounded offsets and masks, similarity per pixel

Source: Xiang et al., "HIME: Efficient Headshot Image Super-Resolution with Multiple
Exemplars", WACV 2023. It has no public code. The rebuilt one is in the FSRST authors' repository
(no licence): its facts were used, none of its lines.

Deviations of ``hime-small`` from the rebuilt one:
- Its weights s_i / (s_1 + ... + s_N), s = sigmoid(logit), divide 0 by 0 when all logits are below
  about -104. Here they are a softmax of log-sigmoids: the same quotient, without an epsilon.
- Positions of the sampler are clamped (``deformable.py``).
- In training, the statistics of the batch normalisation include the zeros of absent references.

What else is weak there is kept: features of three channels; a similarity that correlates columns
(W x W, so the input must be square) and is multiplied with the feature as if it were per pixel; an
offset network whose convolutions all start at 0. The latter never gets a gradient except for the
last bias (0 behind ReLU in front of it, weights 0 behind it), so that its offsets stay the same at
every pixel for ever: one shift per tap, not an alignment.

Deviations of ``hime`` from the paper (which gives no exact layers): FSRST's residual blocks and
counts of blocks, and references as unshuffled RGB, so that it has FSRST's size within 1.2 %; one
scale of alignment; similarity scaled by 1/sqrt(width); weights s_i / max(1, sum s_k), so that a
division is never by less than 1 and a single dissimilar reference can fade; L1 loss alone, without
the paper's loss on local texture.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsrst.models.baselines.bicubic import checked_scale
from fsrst.models.baselines.deformable import ModulatedDeformConv
from fsrst.models.blocks import FEATURES, each, full_precision, residual_trunk, unshuffled_luma
from fsrst.models.fsrst import LR_SIZES
from fsrst.models.interface import ReferenceSR, State, bicubic_skip, presence

MAX_OFFSET = 10.0  # [px] of the input: a third of the paper's 32
TAPS = 9
ABSENT = torch.finfo(torch.float32).min  # log-sigmoid of a reference that is not there


def conv3x3(inputs: int, outputs: int, *, bias: bool = True) -> nn.Conv2d:
    """3x3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


# --- hime-small: as rebuilt by the FSRST authors --------------------------------------------------


class NormalisedBlock(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))), batch normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(width), conv3x3(width, width)
        self.norm2, self.conv2 = nn.BatchNorm2d(width), conv3x3(width, width)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(torch.relu(self.norm1(x)))
        residual: Tensor = self.conv2(torch.relu(self.norm2(inner)))
        return x + residual


def normalised_blocks(width: int, count: int) -> list[nn.Module]:
    """``count`` blocks in a row."""
    return [NormalisedBlock(width) for _ in range(count)]


class PlainDeformAlignment(nn.Module):
    """(B, 3, h, w) of input and reference -> the reference aligned, >= 0. 2,742 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = nn.Sequential(
            nn.BatchNorm2d(2 * FEATURES),
            nn.ReLU(),
            conv3x3(2 * FEATURES, 4 * FEATURES),
            nn.BatchNorm2d(4 * FEATURES),
            nn.ReLU(),
            conv3x3(4 * FEATURES, 2 * TAPS),
        )
        self.deform = ModulatedDeformConv(FEATURES, FEATURES, groups=1)
        bound = (FEATURES * TAPS) ** -0.5
        nn.init.uniform_(self.deform.bias, -bound, bound)  # as torchvision's, which they took
        for layer in self.offsets:
            if isinstance(layer, nn.Conv2d):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, features_lr: Tensor, features_ref: Tensor) -> Tensor:
        offset = self.offsets(torch.cat((features_lr, features_ref), dim=1))  # (B, 18, h, w)
        return torch.relu(self.deform(features_ref, offset))


class ColumnAggregation(nn.Module):
    """(B, 3, h, h), aligned (B, N, 3, h, h), present (B, N) -> weighted mean (B, 3, h, h)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_lr = conv3x3(FEATURES, FEATURES)
        self.embed_refs = conv3x3(FEATURES, FEATURES)

    def forward(self, features_lr: Tensor, aligned: Tensor, present: Tensor) -> Tensor:
        embedded_lr = self.embed_lr(features_lr).float()  # (B, 3, h, w)
        embedded_refs = self.embed_refs(aligned.flatten(0, 1)).float().view(aligned.shape)
        with full_precision(aligned):
            logits = embedded_refs.transpose(-1, -2) @ embedded_lr[:, None]  # (B, N, 3, w, w)
            here = present.float()[:, :, None, None, None]
            # log-sigmoid; exporters write F.logsigmoid as log(sigmoid), which is - inf below -104
            closeness = (-F.softplus(-logits)).masked_fill(here == 0, ABSENT)
            weights = torch.softmax(closeness, dim=1) * here  # s_i / sum of s_k
            return (weights * aligned).sum(dim=1)


class HIMESmall(ReferenceSR):
    """``hime-small``: FSRST's figure 1 with deformable alignment. 2,159,032 parameters at 4x."""

    def __init__(self, *, width: int = 64, scale: int = 4) -> None:
        super().__init__()
        if scale not in LR_SIZES:
            raise ValueError(f"hime-small comes at scale 4 (32 px input) or 8 (16), not {scale}")
        self.name = "hime-small"
        self.options = {"width": width, "scale": scale}
        self.scale = scale
        self.lr_size = LR_SIZES[scale]
        self.extractor_lr = nn.Sequential(
            conv3x3(3, width), *normalised_blocks(width, 5), conv3x3(width, FEATURES)
        )
        self.extractor_refs = nn.Sequential(
            conv3x3(scale**2, width), *normalised_blocks(width, 3), conv3x3(width, FEATURES)
        )
        self.alignment = PlainDeformAlignment()
        self.aggregation = ColumnAggregation()
        self.constructor = nn.Sequential(
            conv3x3(FEATURES, width),
            *normalised_blocks(width, 8),
            conv3x3(width, width),
            *normalised_blocks(width, 12),
            conv3x3(width, 3 * scale**2, bias=False),
            nn.PixelShuffle(scale),
            conv3x3(3, 3),
        )

    def encode(self, refs: Tensor, present: Tensor | None = None) -> State:
        """``refs`` (B, N, 3, s*h, s*h) -> (features of their luma (B, N, 3, h, h), present)."""
        b, n, _, height, width = refs.shape
        present = presence(refs, present)
        if n == 0:
            return refs.new_zeros(b, 0, 3, height // self.scale, width // self.scale), present
        features = self.extractor_refs(unshuffled_luma(refs, self.scale))
        return features.view(b, n, *features.shape[1:]), present

    def upscale(self, lr: Tensor, state: State) -> Tensor:
        """``lr`` (B, 3, h, h), state of ``encode`` -> ``sr`` (B, 3, s*h, s*h), unclamped."""
        self.check_lr(lr)
        features_refs, present = state  # (B, N, 3, h, h), (B, N)
        features_lr = self.extractor_lr(lr)  # (B, 3, h, h)
        fused = features_lr
        if features_refs.shape[1] > 0:
            aligned = _align_each(self.alignment, features_lr, features_refs)
            fused = features_lr + self.aggregation(features_lr, aligned, present)
        residual: Tensor = self.constructor(fused)
        return bicubic_skip(lr, self.scale) + residual


# --- hime: fair -----------------------------------------------------------------------------------


class DeformAlignment(nn.Module):
    """(B, C, h, w) of input and reference -> the reference aligned; starts without any shift.

    Offsets are at most MAX_OFFSET [px] in y and in x, masks in (0, 1), both for each of ``groups``
    runs of channels.
    """

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.shifts = 2 * TAPS * groups
        self.offsets = nn.Sequential(
            conv3x3(2 * width, width),
            nn.LeakyReLU(0.1),
            conv3x3(width, width),
            nn.LeakyReLU(0.1),
            conv3x3(width, 3 * TAPS * groups),
        )
        last = self.offsets[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.deform = ModulatedDeformConv(width, width, groups=groups)

    def forward(self, features_lr: Tensor, features_ref: Tensor) -> Tensor:
        raw = self.offsets(torch.cat((features_lr, features_ref), dim=1)).float()
        offset = MAX_OFFSET * torch.tanh(raw[:, : self.shifts] / MAX_OFFSET)
        mask = torch.sigmoid(raw[:, self.shifts :])
        return F.leaky_relu(self.deform(features_ref, offset, mask), 0.1)


class SimilarityAggregation(nn.Module):
    """(B, C, h, w), aligned (B, N, C, h, w), present (B, N) -> weighted sum (B, C, h, w).

    Per pixel, s_i = sigmoid of the scaled product of the embedded features; weights
    s_i / max(1, sum of s_k).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed_lr = conv3x3(width, width)
        self.embed_refs = conv3x3(width, width)

    def forward(self, features_lr: Tensor, aligned: Tensor, present: Tensor) -> Tensor:
        embedded_lr = self.embed_lr(features_lr).float()
        embedded_refs = self.embed_refs(aligned.flatten(0, 1)).float().view(aligned.shape)
        product = (embedded_lr[:, None] * embedded_refs).sum(dim=2)  # (B, N, h, w)
        similarity = torch.sigmoid(product / features_lr.shape[1] ** 0.5)
        similarity = similarity * present[:, :, None, None]
        weights = similarity / similarity.sum(dim=1, keepdim=True).clamp_min(1)
        return (weights[:, :, None] * aligned).sum(dim=1)


class HIME(ReferenceSR):
    """``hime``: any size, ``width`` channels all the way. 2,582,124 parameters at 4x."""

    def __init__(self, *, width: int = 64, groups: int = 8, scale: int = 4) -> None:
        super().__init__()
        self.name = "hime"
        self.options = {"width": width, "groups": groups, "scale": scale}
        self.scale = checked_scale(self.name, scale)
        self.lr_size = None
        self.extractor_lr = residual_trunk(3, width, 5, width, bias=True)
        self.extractor_refs = residual_trunk(3 * scale**2, width, 3, width, bias=True)
        self.alignment = DeformAlignment(width, groups)
        self.aggregation = SimilarityAggregation(width)
        self.constructor = nn.Sequential(
            residual_trunk(width, width, 20, 3 * scale**2, bias=False),
            nn.PixelShuffle(scale),
            conv3x3(3, 3),
        )

    def encode(self, refs: Tensor, present: Tensor | None = None) -> State:
        """``refs`` (B, N, 3, s*h, s*w) -> (features (B, N, width, h, w), present (B, N))."""
        b, n, _, height, width = refs.shape
        present = presence(refs, present)
        if n == 0:
            low = height // self.scale, width // self.scale
            return refs.new_zeros(b, 0, self.options["width"], *low), present
        unshuffled = F.pixel_unshuffle(refs.reshape(b * n, 3, height, width), self.scale)
        features = self.extractor_refs(unshuffled)
        return features.view(b, n, *features.shape[1:]), present

    def upscale(self, lr: Tensor, state: State) -> Tensor:
        """``lr`` (B, 3, h, w), state of ``encode`` -> ``sr`` (B, 3, s*h, s*w), unclamped."""
        features_refs, present = state  # (B, N, width, h, w), (B, N)
        features_lr = self.extractor_lr(lr)  # (B, width, h, w)
        fused = features_lr
        if features_refs.shape[1] > 0:
            aligned = _align_each(self.alignment, features_lr, features_refs)
            fused = features_lr + self.aggregation(features_lr, aligned, present)
        residual: Tensor = self.constructor(fused)
        return bicubic_skip(lr, self.scale) + residual


def _align_each(alignment: nn.Module, features_lr: Tensor, features_refs: Tensor) -> Tensor:
    """Every reference with its own input: (B, C, h, w), (B, N, C, h, w) -> (B, N, C, h, w)."""
    b, n, c, h, w = features_refs.shape
    aligned: Tensor = alignment(each(features_lr, n), features_refs.reshape(b * n, c, h, w))
    return aligned.view(b, n, c, h, w)
