"""Any number of aligned references become one feature map (eq. 6-11)."""

import torch
from torch import Tensor

MAX_DISTANCE = 100.0
EPSILON = 1e-9  # eq. 9: makes every weight vanish when all references are far


def distances(features_lr: Tensor, aligned: Tensor) -> Tensor:
    """Per-pixel distance of each reference to the input, at most 100 (eq. 6, 7).

    (B, 3, h, w), (B, N, 3, h, w) -> (B, N, h, w). The square is kept above 1e-12 (a distance of
    1e-6), because the square root has an infinite gradient at 0: there the gradient is 0.
    """
    squared = (features_lr[:, None] - aligned).square().sum(dim=2)
    return squared.clamp_min(1e-12).sqrt().clamp_max(MAX_DISTANCE)


def reference_weights(distance: Tensor, present: Tensor) -> Tensor:
    """Share of each reference at each pixel (eq. 8, 9): (B, N, h, w), (B, N) -> (B, N, h, w).

    They sum to 1 while a reference is near, and to 0 where all are farther than about 20.7 + ln N.
    """
    closeness = torch.exp(-distance) * present[:, :, None, None]
    return closeness / (closeness.sum(dim=1, keepdim=True) + EPSILON)


def aggregate(features_lr: Tensor, aligned: Tensor, present: Tensor) -> Tensor:
    """F_C = F_L + the weighted sum of the aligned references (eq. 10, 11) -> (B, 3, h, w).

    ``present`` (B, N) of 0 and 1: a reference with 0 has no part; with none, F_C = F_L. Computed in
    float32 whatever the inputs are: eps and exp(-100) vanish in half precision (0/0).
    """
    features_lr, aligned, present = features_lr.float(), aligned.float(), present.float()
    weights = reference_weights(distances(features_lr, aligned), present)
    return features_lr + (weights[:, :, None] * aligned).sum(dim=1)
