"""Line charts and tables of the experiments, drawn with Pillow alone.

A chart is uint8 (H, W, 3). Values that are not finite break a line: a run that failed ends there.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fsrst.evaluate.explanation import COLOURS
from fsrst.image import Pixels, write_image

Point = tuple[float, float]

WIDTH, HEIGHT = 560, 400  # [px]
LEFT, RIGHT, TOP, BOTTOM = 72, 16, 36, 52  # margins [px]
FONT, TITLE = 13, 15  # [px]
INK, GRID, WHITE = (24, 24, 27), (226, 226, 230), (255, 255, 255)
SHARP = 2  # drawn so much larger, then reduced: smooth lines
TICKS = 5  # about so many on an axis
DECIMALS = 9  # beyond these a tick's rounding error lies


@dataclass(frozen=True)
class Curve:
    """One line of a chart; ``colour`` is a place among COLOURS, None the curve's own place."""

    label: str
    points: Sequence[Point] = field(repr=False)
    colour: int | None = None
    marks: bool = False
    thin: bool = False


def chart(
    curves: Sequence[Curve],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_y: bool = False,
    x_range: Point | None = None,
    y_range: Point | None = None,
    verticals: Sequence[float] = (),
    legend: bool = False,
) -> Pixels:
    """Draw ``curves`` over one pair of axes.

    Ranges default to those of the finite values; ``verticals`` are x positions marked by a line.
    The legend names each label once. A chart without any says so.
    """
    canvas = Image.new("RGB", (WIDTH * SHARP, HEIGHT * SHARP), WHITE)
    draw = ImageDraw.Draw(canvas)
    xs, ys = _finite(curves, log_y)
    if not xs:
        _text(draw, title, WIDTH / 2, TOP / 2, TITLE)
        _text(draw, "nothing to draw", WIDTH / 2, HEIGHT / 2, FONT)
        return _reduced(canvas)
    x_low, x_high = x_range or _widened(min(xs), max(xs), 0.0)
    low, high = y_range or (min(ys), max(ys))
    if log_y:
        low, high = math.log10(low), math.log10(high)
    y_low, y_high = (low, high) if y_range else _widened(low, high, 0.05)

    def place(x: float, y: float) -> Point:
        y = math.log10(y) if log_y else y
        across = (x - x_low) / (x_high - x_low)
        up = (y - y_low) / (y_high - y_low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (
            HEIGHT - TOP - BOTTOM
        )

    floor = 10**y_low if log_y else y_low
    x_marks = ticks(x_low, x_high)
    y_marks = log_ticks(y_low, y_high) if log_y else ticks(y_low, y_high)
    for x in x_marks:
        where = place(x, floor)
        _line(draw, [where, (where[0], TOP)], GRID, 1)
    for y in y_marks:
        where = place(x_low, y)
        _line(draw, [where, (WIDTH - RIGHT, where[1])], GRID, 1)
    for x in verticals:
        where = place(x, floor)
        _line(draw, [where, (where[0], TOP)], INK, 1)
    for number, curve in enumerate(curves):
        colour = _colour(number if curve.colour is None else curve.colour)
        for run in _unbroken(curve.points, log_y):
            spots = [place(x, y) for x, y in run]
            if len(spots) > 1:
                _line(draw, spots, colour, 1 if curve.thin else 2)
            if curve.marks or len(spots) == 1:
                for x, y in spots:
                    radius = 3.5
                    box = [v * SHARP for v in (x - radius, y - radius, x + radius, y + radius)]
                    draw.ellipse(box, fill=colour)
    for box in (  # what lies outside the ranges
        (0, 0, WIDTH, TOP - 5),
        (0, 0, LEFT - 5, HEIGHT),
        (WIDTH - RIGHT + 5, 0, WIDTH, HEIGHT),
        (0, HEIGHT - BOTTOM + 5, WIDTH, HEIGHT),
    ):
        draw.rectangle([edge * SHARP for edge in box], fill=WHITE)
    for x in x_marks:
        _text(draw, short(x), place(x, floor)[0], HEIGHT - BOTTOM + 12, FONT)
    for y in y_marks:
        _text(draw, short(y), LEFT - 6, place(x_low, y)[1], FONT, anchor="rm")
    _line(draw, [(LEFT, TOP), (LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM)], INK, 1)
    _text(draw, title, WIDTH / 2, TOP / 2, TITLE)
    _text(draw, x_label, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, FONT)
    _text(draw, y_label, 6, TOP - 10, FONT, anchor="lm")
    if legend:
        _legend(draw, curves)
    return _reduced(canvas)


def beside(charts: Sequence[Pixels], columns: int = 3) -> Pixels:
    """Charts of one size from left to right, ``columns`` in a row, on white."""
    rows = [charts[start : start + columns] for start in range(0, len(charts), columns)]
    width = max(len(row) for row in rows)
    blank = np.full_like(charts[0], 255)
    filled = [np.concatenate([*row, *[blank] * (width - len(row))], axis=1) for row in rows]
    return np.concatenate(filled)


def save(path: Path, picture: Pixels) -> None:
    write_image(path, picture)


def smoothed(points: Sequence[Point], count: int) -> list[Point]:
    """Means of runs of ``count`` neighbours, at the x of the run's last; an odd rest is kept."""
    runs = [points[start : start + count] for start in range(0, len(points), count)]
    return [(run[-1][0], sum(y for _, y in run) / len(run)) for run in runs]


def column(metrics: Path, key: str) -> list[Point]:
    """(samples, value) of a column of a run's metrics.csv; nothing of a run that wrote none."""
    if not metrics.is_file():
        return []
    with metrics.open(encoding="utf-8", newline="") as lines:
        return [(float(row["samples"]), float(row[key])) for row in csv.DictReader(lines)]


def seconds_of(rates: Sequence[Point]) -> float:
    """What a log's lines (samples so far, samples/s since the line before) add up to."""
    befores = [0.0, *(samples for samples, _ in rates)]
    return sum((s - before) / rate for (s, rate), before in zip(rates, befores, strict=False))


def ticks(low: float, high: float) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) in [low, high], about TICKS of them."""
    rough = (high - low) / TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [round(number * step, DECIMALS) for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between 10^low and 10^high; fewer than two: linear ones."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    factors = (1,) if high - low > 3 else (1, 2, 5)
    marks = [round(factor * 10.0**power, DECIMALS) for power in powers for factor in factors]
    marks = [mark for mark in marks if 10**low <= mark <= 10**high]
    return marks if len(marks) > 1 else ticks(10**low, 10**high)


def short(value: float) -> str:
    """A number as an axis shows it: 0.02, 1500, 40k, 3.2e-05."""
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.2g}"
    if abs(value) >= 10_000:
        return f"{value / 1000:.3g}k"
    return f"{value:.4g}"


def _finite(curves: Sequence[Curve], log_y: bool) -> tuple[list[float], list[float]]:
    points = [p for curve in curves for run in _unbroken(curve.points, log_y) for p in run]
    return [x for x, _ in points], [y for _, y in points]


def _unbroken(points: Sequence[Point], log_y: bool) -> list[list[Point]]:
    """Runs of neighbours that can be drawn."""
    runs: list[list[Point]] = [[]]
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y) and (y > 0 or not log_y):
            runs[-1].append((x, y))
        else:
            runs.append([])
    return [run for run in runs if run]


def _widened(low: float, high: float, part: float) -> Point:
    """A little room above and below; one value alone gets some too."""
    if high - low < 1e-12:
        room = abs(low) * 0.1 or 1.0
        return low - room, high + room
    return low - part * (high - low), high + part * (high - low)


def _colour(number: int) -> tuple[int, int, int]:
    red, green, blue = COLOURS[number % len(COLOURS)]
    return int(red), int(green), int(blue)


def _line(
    draw: ImageDraw.ImageDraw, spots: Sequence[Point], colour: tuple[int, int, int], width: int
) -> None:
    draw.line(
        [(x * SHARP, y * SHARP) for x, y in spots], fill=colour, width=width * SHARP, joint="curve"
    )


def _text(
    draw: ImageDraw.ImageDraw, text: str, x: float, y: float, size: int, anchor: str = "mm"
) -> None:
    font = ImageFont.load_default(size * SHARP)
    draw.text((x * SHARP, y * SHARP), text, INK, font, anchor=anchor)


def _legend(draw: ImageDraw.ImageDraw, curves: Sequence[Curve]) -> None:
    """Top right: a dash of colour and the label of every kind of curve."""
    colours: dict[str, int] = {}
    for number, curve in enumerate(curves):
        colours.setdefault(curve.label, number if curve.colour is None else curve.colour)
    for row, (label, colour) in enumerate(colours.items()):
        y = TOP + 12 + row * (FONT + 4)
        _line(draw, [(WIDTH - RIGHT - 28, y), (WIDTH - RIGHT - 8, y)], _colour(colour), 3)
        _text(draw, label, WIDTH - RIGHT - 34, y, FONT, anchor="rm")


def _reduced(canvas: Image.Image) -> Pixels:
    return np.asarray(canvas.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
