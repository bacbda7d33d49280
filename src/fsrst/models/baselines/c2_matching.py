"""C2-Matching: learned correspondence between low and high resolution; one reference; three stages.

Source: Jiang, Chan, Wang, Loy, Liu, "Robust Reference-based Super-Resolution via C2-Matching" (CVPR
2021). The authors' code (yumingj/C2-Matching) has an Apache-2.0 LICENSE file, its README says MIT;
no line of it is here. 9,976,203 parameters: the restoration's 8,865,547 and two extractors of
555,328.

    1. ``c2-teacher``   two extractors learn where a warped picture went, both in high resolution
    2. ``c2-student``   the same with the first picture in low resolution; the teacher's correlation
                        guides it
    3. ``c2-matching``  the student's extractors, frozen, find the place; the restoration reads VGG
                        features there by deformable convolution at x1, x2, x4

The extractors are parameters without gradient, hence counted; the VGG that encodes the reference is
made of buffers: needed at run time, but in no published count. See ``vgg`` for its numbers.

Deviations:
- The first present reference is used, the others are ignored. Without one its features are zeros.
- The nine taps of the deformable convolution start from the match of the patch centred on their
  pixel (the paper's equation); pixels at the border, which have no whole patch, take their
  neighbour's. Sampling positions are clamped to two pixels outside the map.
- The offset convolutions (under ``alignment``) learn at one lower rate; the original has three.
- ``extractors`` may be random or VGG's, for runs without the first two stages.
- Reconstruction loss only (L1); torch's default start of convolutions, that of the offsets zero.
- Those of the first two stages: see ``c2_extractors``.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsrst.errors import FsrstError
from fsrst.models.baselines.c2_extractors import copy_extractors
from fsrst.models.baselines.deformable import ModulatedDeformConv
from fsrst.models.baselines.matching import best_match, flow
from fsrst.models.baselines.ttsr import SCALE, Enlarge, first_present, plain_blocks
from fsrst.models.baselines.vgg import LOADED, VGG, as_buffers, frozen
from fsrst.models.blocks import each
from fsrst.models.interface import ReferenceSR, State, presence

GROUPS = 8  # of offsets in a deformable convolution
TAPS = 9
SLOPE = 0.1  # of all leaky ReLUs


class Offsets(nn.Module):
    """Where and how much each tap reads: content (B, c, h, w), reference features (B, C, h, w) and
    matched flow (B, 2, h, w) -> offsets (B, 8*9*2, h, w) [px], y first, and mask (B, 8*9, h, w).

    Starts at the matched place with mask 0.5.
    """

    def __init__(self, content: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(content + channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, GROUPS * TAPS * 3, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, content: Tensor, features: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        x = F.leaky_relu(self.conv1(torch.cat((content, features), dim=1)), SLOPE)
        x = self.last(F.leaky_relu(self.conv2(x), SLOPE)).float()
        offset, mask = x.split((GROUPS * TAPS * 2, GROUPS * TAPS), dim=1)
        return offset + flow.repeat(1, GROUPS * TAPS, 1, 1), torch.sigmoid(mask)


class Head(nn.Module):
    """Content (B, c, h, w) and the one aligned reference (B, 1, C, h, w) -> (B, c, h, w)."""

    def __init__(self, content: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(content + channels, content, 3, padding=1)

    def forward(self, content: Tensor, aligned: Tensor, present: Tensor) -> Tensor:
        reference = aligned[:, 0] * present[:, :1, None, None]
        return F.leaky_relu(self.conv(torch.cat((content, reference), dim=1)), SLOPE)


class MatchedRestoration(ReferenceSR):
    """The network of C2-Matching and MRefSR at 4x, any size of at least 3 px.

    They differ in how many references ``encode`` keeps and in ``merges``, which join the content
    with the aligned references: (B, c, h, w), (B, N, C, h, w), (B, N) -> (B, c, h, w).
    """

    chooses = True

    def __init__(
        self,
        *,
        name: str,
        merge: type[nn.Module],
        width: int,
        blocks: int,
        vgg: str,
        vgg_width: int,
        extractors: str,
    ) -> None:
        super().__init__()
        self.name = name
        self.scale = SCALE
        self.lr_size = None
        encoder = VGG(vgg_width)
        vgg_label = encoder.start_from(vgg)
        self.extractor_lr = VGG(vgg_width, last_relu=False)
        self.extractor_refs = copy.deepcopy(self.extractor_lr)  # of two starts nothing would match
        self.enlarge = Enlarge(SCALE)
        self.options = {
            "width": width,
            "blocks": blocks,
            "vgg": vgg_label,
            "vgg_width": vgg_width,
            "extractors": self._start_extractors(extractors, encoder),
        }
        self.encoder = as_buffers(encoder)
        frozen(self.extractor_lr)
        frozen(self.extractor_refs)

        channels = (4 * vgg_width, 2 * vgg_width, vgg_width)  # at x1, x2, x4
        self.content = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(SLOPE), *plain_blocks(width, blocks)
        )
        self.alignment = nn.ModuleList(Offsets(width, c) for c in channels)
        self.samplers = nn.ModuleList(ModulatedDeformConv(c, c, 3, GROUPS) for c in channels)
        self.merges = nn.ModuleList(merge(width, c) for c in channels)
        self.bodies = nn.ModuleList(nn.Sequential(*plain_blocks(width, blocks)) for _ in channels)
        self.enlargers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.LeakyReLU(SLOPE)
            )
            for _ in channels[1:]
        )
        self.last = nn.Sequential(
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width // 2, 3, 3, padding=1),
        )

    def _start_extractors(self, source: str, encoder: VGG) -> str:
        """``random``, ``vgg`` (the encoder's numbers), or the weights file of a c2-student."""
        if source == "vgg":
            for extractor in (self.extractor_lr, self.extractor_refs):
                extractor.load_state_dict(encoder.state_dict())
        elif source != "random" and not source.startswith(LOADED):
            return copy_extractors(source, self.extractor_lr, self.extractor_refs)
        return source

    def encode(self, refs: Tensor, present: Tensor | None = None) -> State:
        """``refs`` (B, N, 3, 4h, 4w) -> features to match (B, N, 256, h, w), to read
        (B, N, 256, h, w), (B, N, 128, 2h, 2w), (B, N, 64, 4h, 4w), and ``present`` (B, N).

        No reference counts as one of zeros that is not present.
        """
        present = presence(refs, present)
        if refs.shape[1] == 0:
            refs = refs.new_zeros(refs.shape[0], 1, *refs.shape[2:])
            present = refs.new_zeros(refs.shape[:2])
        b, n = refs.shape[:2]
        pictures = refs.flatten(0, 1)
        x4, x2, x1 = self.encoder(pictures)
        key = self.extractor_refs(pictures)[2]
        return *(t.view(b, n, *t.shape[1:]) for t in (key, x1, x2, x4)), present

    def upscale(self, lr: Tensor, state: State) -> Tensor:
        """``lr`` (B, 3, h, w), state of references (4h, 4w) -> ``sr`` (B, 3, 4h, 4w), unclamped."""
        *features, present = state
        key, *levels = (t.flatten(0, 1) for t in features)  # (B*N, C, ..)
        b, n = present.shape
        if not torch.compiler.is_compiling():  # an exported graph has no error messages
            self._check_sizes(lr, key)
        matched = self.match(lr, key, n)  # (B*N, 2, h, w)
        content = self.content(lr)
        for level, (reference, offsets) in enumerate(zip(levels, self.alignment, strict=True)):
            if level > 0:
                content = self.enlargers[level - 1](content)
                matched = matched.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) * 2
            offset, mask = offsets(each(content, n), reference, matched)
            aligned = F.leaky_relu(self.samplers[level](reference, offset, mask), SLOPE)
            aligned = aligned.view(b, n, *aligned.shape[1:])  # (B, N, C, 2^i*h, 2^i*w)
            merged = self.merges[level](content, aligned, present)
            content = content + self.bodies[level](merged)
        size = [SCALE * side for side in lr.shape[-2:]]
        base = F.interpolate(lr.float(), size, mode="bilinear", align_corners=False)
        residual: Tensor = self.last(content)
        return base + residual.float()

    def match(self, lr: Tensor, key: Tensor, n: int) -> Tensor:
        """Flow from every pixel to its place in each of ``n`` references: (B*n, 2, h, w) [px]."""
        query = each(self.extractor_lr(self.enlarge(lr).clamp(0, 1))[2], n)
        index = best_match(query, key, padding=0)  # (B*n, h - 2, w - 2)
        found = flow(index, key.shape[-2] - 2, key.shape[-1] - 2)
        return F.pad(found, (1, 1, 1, 1), mode="replicate")

    def _check_sizes(self, lr: Tensor, key: Tensor) -> None:
        h, w = lr.shape[-2:]
        if min(h, w) < 3:
            raise FsrstError(f"{self.name} takes inputs of at least 3x3 px, got {w}x{h}")
        if key.shape[-2:] != lr.shape[-2:]:
            raise FsrstError(
                f"{self.name}: the references of an input of {w}x{h} px must be {4 * w}x{4 * h},"
                f" not {4 * key.shape[-1]}x{4 * key.shape[-2]}; resize them first"
            )


class C2Matching(MatchedRestoration):
    """Stage 3. ``extractors`` names the weights file of a c2-student."""

    reference_limit = 1

    def __init__(
        self,
        *,
        name: str = "c2-matching",
        width: int = 64,
        blocks: int = 16,
        vgg: str = "random",
        vgg_width: int = 64,
        extractors: str = "random",
    ) -> None:
        super().__init__(
            name=name,
            merge=Head,
            width=width,
            blocks=blocks,
            vgg=vgg,
            vgg_width=vgg_width,
            extractors=extractors,
        )

    def encode(self, refs: Tensor, present: Tensor | None = None) -> State:
        """As the base class, of the first present reference alone, repeated N times (no copy)."""
        ref, found, n = first_present(refs, present)
        state = super().encode(ref[:, None], found[:, None])
        return tuple(t.expand(-1, n, *t.shape[2:]) for t in state)

    def upscale(self, lr: Tensor, state: State) -> Tensor:
        return super().upscale(lr, tuple(t[:, :1] for t in state))
