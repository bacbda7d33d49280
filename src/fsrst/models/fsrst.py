"""FSRST (ACCV 2024), Figure 1: the paper's network in its two sizes.

    L ---> features_lr ---------------+--> align -> aggregate -> constructor -> + -> S
    R_i -> luma -> unshuffle -> features_refs -^                   bicubic(L) --^

Jois, DiLillo, Storer: "Reference-Based Face Super-Resolution Using the Spatial Transformer".
Deviations: luma is a float, where the authors' prepared references hold whole levels; the sum of
eq. 12 is not clamped; distances (eq. 6, 7) are at least 1e-6, for their gradient at 0.
"""

from torch import Tensor

from fsrst.models.aggregation import aggregate
from fsrst.models.alignment import SpatialTransformer
from fsrst.models.blocks import FeatureExtractor, OutputConstructor, unshuffled_luma
from fsrst.models.interface import ReferenceSR, State, bicubic_skip, presence

LR_SIZES = {4: 32, 8: 16}  # scale -> side of the input [px]; the output is 128 either way


class FSRST(ReferenceSR):
    """The paper's network: ``width`` 64 is FSRST, 32 is FSRST-small; ``scale`` 4 or 8."""

    def __init__(self, *, name: str, width: int, scale: int = 4) -> None:
        super().__init__()
        if scale not in LR_SIZES:
            raise ValueError(f"{name} comes at scale 4 (32 px input) or 8 (16 px), not {scale}")
        self.name = name
        self.options = {"scale": scale}
        self.scale = scale
        self.lr_size = LR_SIZES[scale]
        self.extractor_lr = FeatureExtractor(3, width)
        self.extractor_refs = FeatureExtractor(scale**2, width)
        self.alignment = SpatialTransformer(self.lr_size)
        self.constructor = OutputConstructor(width, scale)

    def encode(self, refs: Tensor, present: Tensor | None = None) -> State:
        """``refs`` (B, N, 3, s*h, s*w) -> (features (B, N, 3, h, w), present (B, N))."""
        b, n, _, height, width = refs.shape
        present = presence(refs, present)
        if n == 0:
            return refs.new_zeros(b, 0, 3, height // self.scale, width // self.scale), present
        features = self.extractor_refs(unshuffled_luma(refs, self.scale))  # (B*N, 3, h, w)
        return features.view(b, n, *features.shape[1:]), present

    def upscale(self, lr: Tensor, state: State) -> Tensor:
        """``lr`` (B, 3, h, w), state of ``encode`` -> ``sr`` (B, 3, s*h, s*w), unclamped."""
        self.check_lr(lr)
        features_refs, present = state  # (B, N, 3, h, w), (B, N)
        features_lr = self.extractor_lr(lr)  # (B, 3, h, w)
        fused = features_lr.float()
        if features_refs.shape[1] > 0:
            aligned = self.alignment(features_lr, features_refs)  # (B, N, 3, h, w)
            fused = aggregate(features_lr, aligned, present)  # (B, 3, h, w)
        residual: Tensor = self.constructor(fused)  # (B, 3, s*h, s*w)
        return bicubic_skip(lr.float(), self.scale) + residual.float()  # eq. 12
