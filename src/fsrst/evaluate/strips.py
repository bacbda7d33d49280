"""Pictures beside each other with a title above and numbers below. Pillow and numpy only.

All panels of a strip have one height. Smaller pictures are enlarged a whole number of times by
nearest neighbour, so that every pixel stays visible and none is invented; what is then too large
is reduced by antialiased bicubic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fsrst.errors import FsrstError
from fsrst.image import Pixels

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

WHITE: Colour = (255, 255, 255)
INK: Colour = (24, 24, 27)
SMALLEST_FONT = 9  # [px]


@dataclass(frozen=True)
class Panel:
    """One picture of a strip; ``caption`` may have several lines."""

    title: str
    pixels: Pixels
    caption: str = ""


def strip(panels: Sequence[Panel], *, height: int = 256) -> Pixels:
    """Panels from left to right, pictures ``height`` px high -> uint8 (H, W, 3), on white.

    Text that is wider than its panel is set smaller, down to 9 px, then cut with "...".
    """
    if not panels:
        raise FsrstError("a strip needs at least one picture")
    font_size = max(12, height // 13)
    line = round(font_size * 1.35)
    gap = max(4, height // 32)
    pictures = [_to_height(panel.pixels, height) for panel in panels]
    titles = [panel.title.splitlines() for panel in panels]
    captions = [panel.caption.splitlines() for panel in panels]
    top = gap + line * max(map(len, titles))
    bottom = line * max(map(len, captions)) + gap
    width = gap + sum(picture.width + gap for picture in pictures)

    canvas = Image.new("RGB", (width, top + height + bottom), WHITE)
    draw = ImageDraw.Draw(canvas)
    left = gap
    for picture, title, caption in zip(pictures, titles, captions, strict=True):
        canvas.paste(picture, (left, top))
        middle = left + picture.width / 2
        first = top - line * len(title)  # titles stand on their pictures
        for number, text in enumerate(title):
            _write(draw, text, middle, first + line * (number + 0.5), picture.width, font_size)
        for number, text in enumerate(caption):
            y = top + height + line * (number + 0.6)
            _write(draw, text, middle, y, picture.width, font_size)
        left += picture.width + gap
    return np.asarray(canvas)


def panel_height(result: Pixels) -> int:
    """Height [px] at which a result can be judged: its own, from 256 up to 1024."""
    return max(256, min(int(result.shape[0]), 1024))


def sheet(rows: Sequence[Pixels]) -> Pixels:
    """Strips below each other, left-aligned on white -> uint8 (H, W, 3)."""
    if not rows:
        raise FsrstError("a sheet needs at least one strip")
    width = max(row.shape[1] for row in rows)
    filled = [
        np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255)
        for row in rows
    ]
    return np.concatenate(filled)


def _to_height(pixels: Pixels, height: int) -> Image.Image:
    picture = Image.fromarray(pixels)
    if picture.height == height:
        return picture
    times = -(-height // picture.height)
    if times > 1:
        enlarged = (picture.width * times, picture.height * times)
        picture = picture.resize(enlarged, Image.Resampling.NEAREST)
    width = max(1, round(picture.width * height / picture.height))
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def _write(
    draw: ImageDraw.ImageDraw, text: str, x: float, y: float, width: int, font_size: int
) -> None:
    """One line of text, centred at (x, y) [px], at most ``width`` px wide."""
    font: Font = ImageFont.load_default(font_size)
    while draw.textlength(text, font) > width and font_size > SMALLEST_FONT:
        font_size -= 1
        font = ImageFont.load_default(font_size)
    while draw.textlength(text, font) > width and len(text) > 4:
        text = text.removesuffix("...")[:-1] + "..."
    draw.text((x, y), text, INK, font, anchor="mm")
