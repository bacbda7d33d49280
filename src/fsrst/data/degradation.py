"""High resolution -> low resolution: as the paper made its inputs (Section 4), and as life does."""

import numpy as np
from numpy.random import Generator
from PIL import Image

from fsrst.data.augmentation import as_jpeg
from fsrst.errors import FsrstError
from fsrst.image import Pixels, resize_bicubic

FILTERS = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.BOX)
NOISE = 8.0  # largest standard deviation [grey levels]
QUALITY = (30, 95)  # of a JPEG


def degrade(hr: Pixels, scale: int) -> Pixels:
    """Pillow's antialiased bicubic on 8-bit values: uint8 (s*h, s*w, 3) -> uint8 (h, w, 3).

    Raises
    ------
    FsrstError
        If a side is no multiple of ``scale``.
    """
    return resize_bicubic(hr, *_reduced_size(hr, scale))


def degrade_poorly(hr: Pixels, scale: int, rng: Generator) -> Pixels:
    """``degrade`` as cameras and calls do it, for training: reduced by one of three filters; then,
    each in half of the cases, noise and JPEG of a strength drawn at random.

    Raises ``FsrstError`` as ``degrade`` does.
    """
    size = _reduced_size(hr, scale)
    lr: Pixels = np.asarray(Image.fromarray(hr).resize(size, FILTERS[rng.integers(len(FILTERS))]))
    if rng.random() < 0.5:
        lr = noisy(lr, rng, rng.uniform(0, NOISE))
    if rng.random() < 0.5:
        lr = as_jpeg(lr, int(rng.integers(QUALITY[0], QUALITY[1] + 1)))
    return lr


def noisy(picture: Pixels, rng: Generator, deviation: float) -> Pixels:
    """Gaussian noise of a standard deviation [grey levels], drawn for each channel alone."""
    noise = rng.normal(0, deviation, picture.shape)
    return np.rint(picture + noise).clip(0, 255).astype(np.uint8)


def _reduced_size(hr: Pixels, scale: int) -> tuple[int, int]:
    """(width, height)"""
    height, width = hr.shape[:2]
    if height % scale or width % scale:
        raise FsrstError(
            f"a {width}x{height} picture cannot be reduced {scale} times exactly; its sides must be"
            f" multiples of {scale}: prepare with such a --size"
        )
    return width // scale, height // scale
