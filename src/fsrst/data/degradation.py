"""High resolution -> low resolution, as the paper made its inputs (Section 4)."""

from fsrst.errors import FsrstError
from fsrst.image import Pixels, resize_bicubic


def degrade(hr: Pixels, scale: int) -> Pixels:
    """Pillow's antialiased bicubic on 8-bit values: uint8 (s*h, s*w, 3) -> uint8 (h, w, 3).

    Raises
    ------
    FsrstError
        If a side is no multiple of ``scale``.
    """
    height, width = hr.shape[:2]
    if height % scale or width % scale:
        raise FsrstError(
            f"a {width}x{height} picture cannot be reduced {scale} times exactly; its sides must be"
            f" multiples of {scale}: prepare with such a --size"
        )
    return resize_bicubic(hr, width // scale, height // scale)
