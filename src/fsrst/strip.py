"""Comparison strips: panels side by side, a title above each and a few lines of figures below.

Input: pictures uint8 (H, W, 3) of any size; output: one uint8 picture. All panels of a row get the
same height; a smaller picture is enlarged by whole pixels (nearest), so that a 32x32 input shows what
it holds. Nothing here is measured: strips are for looking at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fsrst.image import Pixels

MARGIN = 8  # [px]
FONT_SIZE = 15  # [px]
BACKGROUND = (255, 255, 255)
INK = (30, 30, 30)
FAINT = (110, 110, 110)


@dataclass(frozen=True)
class Panel:
    """One picture of a strip: ``pixels`` uint8 (H, W, 3), a title above, ``lines`` below."""

    title: str
    pixels: Pixels
    lines: tuple[str, ...] = ()


def draw_strip(panels: Sequence[Panel], height: int = 256) -> Pixels:
    """Draw ``panels`` from left to right, each ``height`` pixels high -> uint8 (H, W, 3)."""
    font = ImageFont.load_default(FONT_SIZE)
    step = FONT_SIZE + 4
    pictures = [_to_height(panel.pixels, height) for panel in panels]
    widths = [
        max([picture.width, *(round(font.getlength(text)) for text in (panel.title, *panel.lines))])
        for panel, picture in zip(panels, pictures, strict=True)
    ]
    lines_below = max((len(panel.lines) for panel in panels), default=0)
    canvas = Image.new(
        "RGB",
        (
            sum(widths) + MARGIN * (len(panels) + 1),
            MARGIN + step + height + (MARGIN + step * lines_below if lines_below else 0) + MARGIN,
        ),
        BACKGROUND,
    )
    draw = ImageDraw.Draw(canvas)
    left = MARGIN
    for panel, picture, width in zip(panels, pictures, widths, strict=True):
        draw.text((left, MARGIN - 3), panel.title, INK, font)
        canvas.paste(picture, (left, MARGIN + step))
        for row, text in enumerate(panel.lines):
            top = MARGIN + step + height + MARGIN // 2 + row * step
            draw.text((left, top), text, FAINT, font)
        left += width + MARGIN
    return np.asarray(canvas)


def _to_height(pixels: Pixels, height: int) -> Image.Image:
    picture = Image.fromarray(pixels)
    width = max(1, round(picture.width * height / picture.height))
    smaller = picture.height < height
    how = Image.Resampling.NEAREST if smaller else Image.Resampling.LANCZOS
    return picture.resize((width, height), how)
