"""Which references are worth their place: those that show more than the input does.

One that shows no more fits the input as well as the input fits itself. A network that asks what
fits would follow it, instead of references that have detail to give, or of what it knows of faces:
docs/results.md, "Damaged inputs and references".
"""

from collections.abc import Sequence

import numpy as np

from fsrst.image import Pixels, crop_to, resize_bicubic

# how many times as many pixels along each side as the input a reference has at least, and how many
WORTH, WORTH_BESIDE = 1.5, 2.0  # where another has so many: chosen on training people, docs/log.md
# least ``finer_part``: what a smooth filter enlarged from the input's size has at most 0.32 (one of
# 2,600: 0.34), other pictures at least 0.35; training people, inputs of 16 to 128 px (docs/log.md)
WORTH_FINER = 0.33


def not_worth_it(pictures: Sequence[Pixels], height: int, width: int, scale: int) -> list[int]:
    """Positions of the references, uint8 (H, W, 3), that are not to be used for inputs of
    ``height`` x ``width`` [px], enlarged ``scale`` times.

    They were enlarged from hardly more than the input's size (``finer_part``), or cropped to its
    aspect they have less than ``WORTH`` times as many pixels along each side, or less than
    ``WORTH_BESIDE`` times where another, which was not enlarged, has so many.
    """
    times = np.array([min(p.shape[0] / height, p.shape[1] / width) for p in pictures])
    for i, picture in enumerate(pictures):
        if times[i] >= WORTH and finer_part(picture, height, width, scale) < WORTH_FINER:
            times[i] = 1.0  # all that it was enlarged from, or less
    least = WORTH_BESIDE if times.max(initial=0) >= WORTH_BESIDE else WORTH
    return [int(i) for i in np.flatnonzero(times < least)]


def finer_part(picture: Pixels, height: int, width: int, scale: int) -> float:
    """What reducing the reference to the input's size takes from it, by what reducing it to half of
    that takes: root mean squares, at the output's size; 0 (for a plain picture too) to about 1."""
    shown = crop_to(picture, scale * width, scale * height)

    def loss(high: int, wide: int) -> float:
        back = resize_bicubic(resize_bicubic(shown, wide, high), *shown.shape[1::-1])
        return float(np.sqrt(np.mean((np.float32(shown) - back) ** 2)))

    taken = loss(max(1, height // 2), max(1, width // 2))
    return loss(height, width) / taken if taken else 0.0
