"""FSRST2: every pixel's detail is looked up in the references, judged, and only then used.

    R_i -> detail_i = R_i - up(down(R_i)), blurred_i (what an input would show of R_i)       once
    L, blurred_i -> theta_i (coarse pose), light_i, drift_i
    L in light_i, blurred_i -> shift of every input pixel (best in a window)
    detail_i there, at 2x -> features_i and scores -> shares of R_1..R_n and of "none of them"
    detail_i moved there, after a small flow -> times shares = shared detail
    L, shared features, shared detail -> trunk at 1x, head at s/2 -> + bicubic(L) + detail -> S

What the paper's network (``fsrst.py``) squeezes through three channels at the input's resolution
stays here what it is: detail at the output's resolution. Any input size, any number of references
in any order, scales 2, 4 and 8. The search has no weights: it compares colours, because a reference
blurred as the input was can be compared with it directly.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsrst.image import LUMA_WEIGHTS
from fsrst.models.alignment import IDENTITY
from fsrst.models.blocks import ResidualBlock, each, full_precision
from fsrst.models.correspondence import (
    COARSE,
    as_channels,
    block_values,
    estimated_drift,
    first,
    last,
    phases_of,
    pixel_centres,
    positions,
    sample,
    search,
    squares,
    to_blocks,
    window,
)
from fsrst.models.interface import ReferenceSR, State, bicubic_skip, presence
from fsrst.models.pose import (
    MISFIT_RATIO,
    POSE_SIDE,
    CoarseTransformer,
    central_mean,
    lay,
    matched_light,
    pose_error,
    second_where,
    thumbnail,
)

SCALES = (2, 4, 8)
POSE_WEIGHT = 0.1  # of the coarse transformer's own loss
SKETCH = 2  # places each way of an input pixel at which detail is judged before it is fetched
CONTRAST = 4.0  # detail and misfit are small numbers: the networks see them this much larger
FLOW_LIMIT = 2.0  # largest correction of a shift [output px]
TRUST, TOLERANCE = 300.0, 0.01  # the start of the scores: TRUST * (TOLERANCE - cost)
SEARCH_CHUNK = 8  # pairs of pictures that are searched together in training
ABSENT = -1e4  # score of an empty place


class FSRST2(ReferenceSR):
    """``width`` channels, ``blocks`` residual blocks in the trunk, ``head_width`` at s/2.

    ``name`` is that in the weights; ``scale`` is 2, 4 or 8. ``reach`` [input px] bounds the search
    to 2 * s * reach shifts along each axis. The remaining options take parts away, for the
    ablations of docs/results.md: ``reach`` 0 (no search), ``coarse`` (the spatial transformer),
    ``drift`` (what moves beyond it), ``flow`` (the last correction), ``none`` (the choice of no
    reference), ``detail`` (else references come in as features only), ``features`` (their
    channels), ``grey`` references.

    Raises
    ------
    ValueError
        For another scale, a negative ``reach``, or no feature at all.
    """

    def __init__(
        self,
        *,
        name: str,
        width: int,
        blocks: int,
        head_width: int,
        scale: int = 4,
        reach: int = 1,
        coarse: bool = True,
        none: bool = True,
        detail: bool = True,
        features: int | None = None,
        grey: bool = False,
        flow: bool = True,
        drift: bool = True,
    ) -> None:
        super().__init__()
        if scale not in SCALES:
            raise ValueError(f"{name} comes at scales 2, 4 and 8, not {scale}")
        if reach < 0 or (features is not None and features < 1):
            raise ValueError(f"{name}: reach is 0 or more, features 1 or more")
        self.name = name
        self.options: dict[str, Any] = {
            "scale": scale,
            "reach": reach,
            "coarse": coarse,
            "none": none,
            "detail": detail,
            "features": features,
            "grey": grey,
            "flow": flow,
            "drift": drift,
        }
        self.scale, self.lr_size, self.explains = scale, None, True
        self.reach, self.use_drift, self.grey, self.carries_detail = reach, drift, grey, detail
        channels, pixels = features or width, scale**2
        self.extractor_lr = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), *(ResidualBlock(width) for _ in range(3))
        )
        self.alignment = CoarseTransformer() if coarse else None
        # what a reference shows beside what the input shows: two convolutions of what would be one,
        # for the input's part is the same for all references
        self.compare_lr = nn.Conv2d(width, channels, 3, padding=1)
        self.compare_refs = nn.Conv2d(3 * SKETCH**2 + 6, channels, 3, padding=1, bias=False)
        self.extractor_refs = ResidualBlock(channels)
        self.flow = nn.Conv2d(channels, 2, 3, padding=1) if flow else None
        self.score = nn.Conv2d(channels, pixels, 3, padding=1)
        self.score_mean = nn.Conv2d(channels, pixels, 3, padding=1, bias=False)
        self.score_none = nn.Conv2d(width, pixels, 3, padding=1) if none else None
        self.trust = nn.Parameter(torch.tensor([TRUST]))
        self.features_none = nn.Parameter(torch.zeros(channels, 1, 1))
        self.trunk = nn.Sequential(
            nn.Conv2d(width + channels + 3 * pixels, width, 3, padding=1),
            *(ResidualBlock(width) for _ in range(blocks)),
        )
        self.head = Head(width, head_width, scale)
        for layer in (self.flow, self.score, self.score_mean, self.score_none, self.head.last):
            if layer is not None:  # at first the costs alone decide, and nothing is added
                nn.init.zeros_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def encode(self, refs: Tensor, present: Tensor | None = None) -> State:
        """(detail (B, N, 3, H, W), sketch, blurred (B, N, 3, H, W), thumbnails, present).

        Detail and sketch are differences, about 0; blurred and thumbnails are pictures in [0, 1].

        The sketch (B, N, 3, 2H/s, 2W/s) is the detail at twice the input's resolution, which is
        enough to judge it; the thumbnails are (B, N, 3, 32, 32).

        ``refs`` (B, N, 3, H, W): multiples of the scale, not necessarily the output's size.
        """
        b, n, _, height, width = refs.shape
        present = presence(refs, present)
        flat = refs.reshape(b * n, 3, height, width).float()
        if self.grey:
            flat = luma(flat)
        blurred = block_values(flat, self.scale)
        low = blurred[:, :, :: self.scale, :: self.scale]
        detail = flat - bicubic_skip(low, self.scale)
        thumbnails = thumbnail(low).view(b, n, 3, POSE_SIDE, POSE_SIDE)
        sketch = F.avg_pool2d(detail, self.scale // SKETCH)
        return (
            detail.view(refs.shape),
            sketch.view(*refs.shape[:3], *sketch.shape[-2:]),
            blurred.view(refs.shape),
            thumbnails,
            present,
        )

    def upscale(self, lr: Tensor, state: State) -> Tensor:
        """``lr`` (B, 3, h, w), state of ``encode`` -> ``sr`` (B, 3, s*h, s*w), unclamped."""
        return self.upscale_explained(lr, state)[0]

    def upscale_explained(self, lr: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """``lr`` (B, 3, h, w), state of ``encode`` -> ``sr`` (B, 3, s*h, s*w), and the share of
        every reference in each output pixel, (B, N, s*h, s*w).

        The shares of a pixel and that of "none of them" sum to 1.
        """
        detail, sketch, blurred, thumbnails, present = state
        b, n = present.shape
        h, w = lr.shape[-2:]
        lr = lr.float()
        features_lr = self.extractor_lr(lr)  # (B, width, h, w)
        if n == 0:
            shares = lr.new_zeros(b, 0, h, w, self.scale**2)
            fused = self.features_none.float() * lr.new_ones(b, 1, h, w)
            used = lr.new_zeros(b, 3, h, w, self.scale**2)
        else:
            colours = luma(lr) if self.grey else lr
            theta, drift, gain, offset = self.pose(colours, thumbnails)
            lit = (each(colours, n) - offset) / gain  # the input in the light of each reference
            shift, fit = self.correspond(lit, blurred.flatten(0, 1), theta, drift, gain)
            light = gain * CONTRAST
            # judged (B*N, 3, h, w, 4), features (B*N, channels, h, w)
            judged = self.move(sketch.flatten(0, 1), shift, theta, SKETCH) * light[..., None]
            seen = self.compare_refs(torch.cat((as_channels(judged), fit), dim=1))
            expected = first(each(last(self.compare_lr(features_lr)), n))
            features = self.extractor_refs(seen + expected)
            scores, flow = self.verdict(features)
            shares, fused = self.share(features_lr, features, scores, fit[:, 3:4], present)
            fetched = self.move(detail.flatten(0, 1), shift + flow, theta, self.scale)
            found = fetched.view(b, n, *fetched.shape[1:]) * light.view(b, n, 3, 1, 1, 1)
            used = (shares[:, :, None] * found).sum(dim=1)  # (B, 3, h, w, s*s), times CONTRAST
        if not self.carries_detail:
            used = used * 0
        trunk = self.trunk(torch.cat((features_lr.float(), fused, as_channels(used)), dim=1))
        sr = bicubic_skip(lr, self.scale) + self.head(trunk, at_half(used, self.scale))
        return sr, F.pixel_shuffle(as_channels(shares), self.scale)

    @torch.no_grad()  # the coarse transformer has a loss of its own
    def pose(self, lr: Tensor, thumbnails: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """theta (B*N, 2, 3) of every reference; what moves beyond it, (B*N, 2, 16, 16); and by
        which gain and offset, (B*N, 3, 1, 1) each, its colours become the input's.

        The coarse transformer's theta where, drift and all, it explains the input better than the
        identity does; else the identity. The light is compared twice: as the thumbnails are, so
        that what shows the same can be found, and again once they are laid over the input.
        """
        b, n = thumbnails.shape[:2]
        seen, thumbs = each(thumbnail(lr), n), thumbnails.flatten(0, 1)
        with full_precision(lr):
            gain, offset = matched_light(thumbs, seen)
            thumbs = thumbs * gain + offset
            ways = lr.new_tensor(IDENTITY).view(1, 2, 3).expand(b * n, 2, 3)
            if self.alignment is not None:
                ways = torch.cat((ways, self.alignment(seen, thumbs)))
            count = ways.shape[0] // thumbs.shape[0]
            thumbs, again = thumbs.repeat(count, 1, 1, 1), seen.repeat(count, 1, 1, 1)
            drift = self.drift_of(ways, again, thumbs)
            laid = lay(thumbs, ways, drift)
            blocks = F.avg_pool2d(seen, COARSE)
            theta = ways[: b * n]
            if count > 1:
                wrong = central_mean(squares(laid - blocks.repeat(count, 1, 1, 1)))
                misfit = wrong.view(count, b * n, 3).sum(dim=2)
                better = misfit[1] < MISFIT_RATIO * misfit[0]
                theta, drift, laid = (second_where(better, way) for way in (ways, drift, laid))
            more, further = matched_light(laid, blocks)
            return theta, drift, gain * more, offset * more + further

    def drift_of(self, theta: Tensor, seen: Tensor, thumbs: Tensor) -> Tensor:
        """The drift, where there is a search that begins from it; else zeros."""
        if self.reach and self.use_drift:
            return estimated_drift(seen, thumbs, theta)
        return torch.zeros_like(thumbs[:, :2, ::COARSE, ::COARSE])

    def move(self, detail: Tensor, shift: Tensor, theta: Tensor, points: int) -> Tensor:
        """Detail (M, 3, ., .) brought to the input by shifts (M, 2, h, w) [output px], at
        ``points`` places each way of every input pixel: (M, 3, h, w, points**2)."""
        s, (h, w) = self.scale, shift.shape[-2:]
        centres = tuple(centre * s / points for centre in pixel_centres(points))
        with full_precision(shift):
            place = positions(shift, theta, (s * h, s * w), s, centres, smooth=True)
            return phases_of(sample(detail, place), points)

    @torch.no_grad()
    def correspond(
        self, lit: Tensor, blurred: Tensor, theta: Tensor, drift: Tensor, gain: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Where each reference shows what an input pixel shows.

        ``lit`` (B*N, 3, h, w), ``blurred`` (B*N, 3, H, W), ``theta`` (B*N, 2, 3), ``drift``
        (B*N, 2, 16, 16) -> shifts (B*N, 2, h, w) [output px] and how well they fit
        (B*N, 6, h, w): colour misfit in the input's light and its mean square in a window (root),
        both times ``CONTRAST``, and roughness of the shifts.
        """
        s, (h, w) = self.scale, lit.shape[-2:]
        with full_precision(lit):  # positions need more than 8 bits
            pairs = (lit, blurred, theta, drift)
            if not self.reach:
                shift = lit.new_zeros(lit.shape[0], 2, h, w)
            elif self.training:  # a few at a time: their costs stay in the processor's cache
                parts = zip(*(torch.split(t, SEARCH_CHUNK) for t in pairs), strict=True)
                shift = torch.cat([search(a, r, t, d, s, self.reach) for a, r, t, d in parts])
            else:
                shift = search(*pairs, s, self.reach)  # (B*N, 2, h, w) [output px]
            there = to_blocks(theta, (blurred.shape[-2], blurred.shape[-1]), s)
            place = positions(shift, there, (s * h, s * w), s, (s / 2,))
            misfit = (lit - sample(blurred, place)) * (gain * CONTRAST)
            cost = window(squares(misfit).sum(dim=1, keepdim=True)).sqrt()
            rough = (shift - window(shift)).abs() / s
        return shift, torch.cat((misfit, cost, rough), dim=1)

    def verdict(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What is thought of each reference (B*N, h, w, s*s), and the last correction of its shift
        (B*N, 2, h, w) [output px]: two convolutions as one, which takes half the time."""
        x, pixels = torch.relu(features), self.scale**2
        if self.flow is None:
            return last(self.score(x)), x.new_zeros(1, 2, 1, 1)
        layers = (self.score, self.flow)
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers if layer.bias is not None])
        both = last(F.conv2d(x, weight, bias, padding=1)).float()
        flow = torch.tanh(first(both[..., pixels:])) * FLOW_LIMIT
        return both[..., :pixels], flow

    def share(
        self, features_lr: Tensor, features: Tensor, scores: Tensor, cost: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Shares per output pixel (B, N, h, w, s*s), and features fused by them (B, c, h, w).

        A reference's score depends on its own features, on their mean over all references (do the
        others agree?) and on its cost (B*N, 1, h, w); that of "none of them" on the input alone.
        """
        b, n = present.shape
        h, w = features_lr.shape[-2:]
        there = present.float().view(b, n, 1, 1, 1)
        own = features.float().view(b, n, -1, h, w)
        mean = (own * there).sum(dim=1) / (there.sum(dim=1) + 1e-6)
        agreed = last(self.score_mean(torch.relu(mean)))
        scores = scores.view(b, n, h, w, -1) + agreed[:, None]
        fit = TOLERANCE - (cost / CONTRAST).square()
        scores = scores.float() + self.trust.float() * fit.view(b, n, h, w, 1)
        scores = scores + (1 - there) * ABSENT
        if self.score_none is not None:
            none = last(self.score_none(torch.relu(features_lr))).float()
            shares = torch.softmax(torch.cat((scores, none[:, None]), dim=1), dim=1)[:, :n]
        else:
            shares = torch.softmax(scores, dim=1) * there
        weights = shares.mean(dim=-1).view(b, n, 1, h, w)
        fused = (weights * own).sum(dim=1)
        return shares, fused + (1 - weights.sum(dim=1)) * self.features_none.float()

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """``picture_error`` of the output, and mean absolute error of the input seen through theta.

        The second teaches the coarse transformer: a small reference laid over the input by theta
        should look like it. No gradient of the picture reaches theta, whose search for sharp detail
        would be noise.
        """
        loss = super().loss(batch)
        if self.alignment is None or batch["refs"].shape[1] == 0:
            return loss
        lr, refs = batch["lr"][:: batch["lr"].shape[0] // batch["refs"].shape[0]], batch["refs"]
        flat = refs.flatten(0, 1).float()
        if self.grey:
            lr, flat = luma(lr), luma(flat)
        low = F.interpolate(flat, scale_factor=1 / self.scale, mode="area")
        seen = each(thumbnail(lr), refs.shape[1])
        error = pose_error(self.alignment, seen, thumbnail(low), batch["present"].flatten())
        return loss + POSE_WEIGHT * error


class Head(nn.Module):
    """Trunk (B, width, h, w), detail (B, 12, s*h/2, s*w/2) -> (B, 3, s*h, s*w): the detail, and
    what is added to it, made at s/2."""

    def __init__(self, width: int, head_width: int, scale: int) -> None:
        super().__init__()
        self.step = scale // 2
        self.first = nn.Conv2d(width, head_width * self.step**2, 3, padding=1)
        self.mix = nn.Conv2d(head_width + 12, head_width, 3, padding=1)
        self.block = ResidualBlock(head_width)
        self.last = nn.Conv2d(head_width, 12, 3, padding=1)

    def forward(self, trunk: Tensor, detail: Tensor) -> Tensor:
        x = F.pixel_shuffle(self.first(torch.relu(trunk)), self.step)
        x = self.mix(torch.cat((x, detail.to(x.dtype)), dim=1))
        residual = self.last(torch.relu(self.block(x))).float()
        return F.pixel_shuffle(residual + detail / CONTRAST, 2)


def at_half(detail: Tensor, scale: int) -> Tensor:
    """Detail (B, C, h, w, s*s) -> (B, 4*C, s*h/2, s*w/2), as if shuffled, and unshuffled by 2."""
    b, c, h, w, _ = detail.shape
    half = scale // 2
    blocks = detail.view(b, c, h, w, half, 2, half, 2)
    return blocks.permute(0, 1, 5, 7, 2, 4, 3, 6).reshape(b, 4 * c, h * half, w * half)


def luma(picture: Tensor) -> Tensor:
    """(M, 3, h, w) -> the same shape, three times the luma."""
    weights = picture.new_tensor(LUMA_WEIGHTS).view(1, 3, 1, 1)
    return (picture * weights).sum(dim=1, keepdim=True).expand_as(picture)
