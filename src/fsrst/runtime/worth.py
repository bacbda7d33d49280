"""Which references are worth their place: those that show more than the input does.

One that shows no more fits the input as well as the input fits itself. A network that asks what
fits would follow it, instead of references that have detail to give, or of what it knows of faces:
docs/results.md, "Damaged inputs and references".
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from fsrst.image import Pixels

# how many times as many pixels along each side as the input a reference has at least, and how many
WORTH, WORTH_BESIDE = 1.5, 2.0  # where another has so many: chosen on training people, docs/log.md
# least ``finer_part``: what a smooth filter enlarged from the input's size has at most 0.32 (one of
# 2,600: 0.34), other pictures at least 0.35; training people, inputs of 16 to 128 px (docs/log.md)
WORTH_FINER = 0.33
# and ``in_blocks``: what was enlarged in blocks has at most 0.35, other pictures at least 0.63
WORTH_IN_BLOCKS = 0.45


def not_worth_it(
    pictures: Sequence[Pixels], shown: Sequence[Pixels], height: int, width: int
) -> list[int]:
    """Positions of the references, uint8 (H, W, 3), that are not to be used for inputs of
    ``height`` x ``width`` [px]; ``shown`` are they as the network sees them, at the output's size.

    They were enlarged from hardly more than the input's size (``finer_part``), or cropped to its
    aspect they have less than ``WORTH`` times as many pixels along each side, or less than
    ``WORTH_BESIDE`` times where another, which was not enlarged, has so many.
    """
    times = np.array([min(p.shape[0] / height, p.shape[1] / width) for p in pictures])
    for i, picture in enumerate(shown):
        if times[i] >= WORTH and (
            finer_part(picture, height, width) < WORTH_FINER
            or finer_part(picture, height, width, in_blocks=True) < WORTH_IN_BLOCKS
        ):
            times[i] = 1.0  # all that it was enlarged from, or less
    least = WORTH_BESIDE if times.max(initial=0) >= WORTH_BESIDE else WORTH
    return [int(i) for i in np.flatnonzero(times < least)]


def finer_part(shown: Pixels, height: int, width: int, *, in_blocks: bool = False) -> float:
    """What reducing the reference to the input's size takes from it, by what reducing it to half of
    that takes: root mean squares, at the output's size; 0 (for a plain picture too) to about 1.

    Both by bicubic; ``in_blocks`` the first by means of blocks, each one colour when enlarged.
    """
    picture = Image.fromarray(shown)

    def loss(high: int, wide: int, down: Image.Resampling, up: Image.Resampling) -> float:
        back = picture.resize((wide, high), down).resize(picture.size, up)
        return float(np.sqrt(np.mean((np.float32(shown) - np.asarray(back)) ** 2)))

    smooth = Image.Resampling.BICUBIC, Image.Resampling.BICUBIC
    blocks = Image.Resampling.BOX, Image.Resampling.NEAREST
    taken = loss(max(1, height // 2), max(1, width // 2), *smooth)
    return loss(height, width, *(blocks if in_blocks else smooth)) / taken if taken else 0.0
