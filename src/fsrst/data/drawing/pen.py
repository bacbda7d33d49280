"""A drawn portrait: who it is comes from ``identity``, how it is seen comes from ``view``.

Conventions. Head coordinates: origin at the centre of the head, x to the right of the picture, y
down, unit = side of the picture; the face spans about |x| < 0.25 and -0.38 < y < 0.35. The head is
an ellipsoid, so that turning it moves the nose more than the ears. Everything is painted on a
canvas three times as large and averaged down, then lit. No learned part, no file, no torch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from fsrst.image import Pixels

Colour = tuple[int, int, int]
Points = NDArray[np.float64]

ELLIPSOID = (0.28, 0.43, 0.26)  # half axes x, y, z of the head, in head coordinates
SUPERSAMPLING = 3
BLACK: Colour = (18, 14, 14)
WHITE: Colour = (250, 248, 244)
SKINS: tuple[Colour, ...] = (
    (250, 222, 200), (242, 204, 178), (232, 188, 156), (214, 164, 126), (184, 130, 94),
    (142, 96, 68), (104, 70, 52),
)  # fmt: skip
HAIRS: tuple[Colour, ...] = (
    (30, 26, 28), (52, 36, 28), (88, 56, 36), (128, 84, 48), (190, 146, 84), (222, 190, 130),
    (150, 62, 32), (168, 166, 166), (44, 40, 60),
)  # fmt: skip
IRISES: tuple[Colour, ...] = (
    (86, 54, 30), (58, 38, 26), (120, 86, 44), (84, 112, 64), (70, 112, 150), (110, 140, 160),
)  # fmt: skip
CLOTHS: tuple[Colour, ...] = (
    (40, 60, 110), (140, 40, 48), (236, 234, 228), (46, 48, 52), (50, 110, 92), (214, 168, 60),
    (120, 80, 140), (90, 140, 190), (206, 110, 80),
)  # fmt: skip


class Dice:
    """Seeded choices; the numbers depend on the key alone."""

    def __init__(self, *key: int) -> None:
        self._rng = np.random.default_rng(key)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self._rng.random())

    def chance(self, probability: float) -> bool:
        return float(self._rng.random()) < probability

    def index(self, count: int) -> int:
        return min(count - 1, int(self._rng.random() * count))

    def colour(self, colours: Sequence[Colour], spread: float = 0.08) -> Colour:
        """One of ``colours``, mixed a little towards another one."""
        first, second = colours[self.index(len(colours))], colours[self.index(len(colours))]
        return mix(first, second, self.between(0.0, 2 * spread))

    def many(self, *shape: int) -> Points:
        """Uniform numbers in [-1, 1] of the given shape."""
        return self._rng.random(shape) * 2 - 1


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """``first`` with ``share`` (0..1) of ``second``."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


@dataclass(frozen=True)
class Person:
    """What several parts of one face share; all lengths in head coordinates."""

    key: int
    skin: Colour
    dark_skin: Colour
    hair: Colour
    style: str
    cheek: float
    jaw: float
    chin: float
    eye_x: float
    eye_y: float
    mouth_y: float
    feminine: bool
    age: float  # 0 young .. 1 old


@dataclass(frozen=True)
class View:
    """Pose (radians, picture sides), expression (about -1..1) and light of one picture."""

    key: int
    yaw: float
    pitch: float
    roll: float
    scale: float
    shift: tuple[float, float]
    smile: float
    mouth_open: float
    lids: float
    gaze: tuple[float, float]
    brow_raise: float
    light: tuple[float, float]
    light_strength: float
    exposure: float
    warmth: float


def person_of(identity: int) -> Person:
    dice = Dice(identity, 1)
    tone = dice.between(0, len(SKINS) - 1.001)
    skin = mix(SKINS[int(tone)], SKINS[int(tone) + 1], tone % 1)
    feminine = dice.chance(0.5)
    age = dice.between(0, 1) ** 1.5
    hair = dice.colour(HAIRS[:3] if tone > 3.5 else HAIRS)
    if age > 0.75:
        hair = mix(hair, (190, 188, 186), dice.between(0.3, 0.9))
    styles = ("long", "bob", "curly", "swept", "long") if feminine else (
        "short", "short", "swept", "curly", "cropped"
    )  # fmt: skip
    return Person(
        key=identity,
        skin=skin,
        dark_skin=mix(mix(skin, (120, 40, 30), 0.3), BLACK, 0.22),
        hair=hair,
        style=styles[dice.index(len(styles))],
        cheek=dice.between(0.225, 0.262),
        jaw=dice.between(0.165, 0.2) if feminine else dice.between(0.185, 0.225),
        chin=dice.between(0.33, 0.372),
        eye_x=dice.between(0.099, 0.116),
        eye_y=dice.between(-0.035, -0.005),
        mouth_y=dice.between(0.195, 0.225),
        feminine=feminine,
        age=age,
    )


def view_of(identity: int, view: int) -> View:
    dice = Dice(identity, 2, view)
    smile = dice.between(-0.35, 1.0)
    return View(
        key=view,
        yaw=dice.between(-0.2, 0.2),
        pitch=dice.between(-0.1, 0.1),
        roll=dice.between(-0.07, 0.07),
        scale=dice.between(1.03, 1.11),
        shift=(dice.between(-0.025, 0.025), dice.between(-0.02, 0.02)),
        smile=smile,
        mouth_open=max(0.0, dice.between(-0.5, 1.0)) * (1.0 if smile > 0.2 else 0.5),
        lids=dice.between(0.72, 1.05),
        gaze=(dice.between(-0.5, 0.5), dice.between(-0.25, 0.3)),
        brow_raise=dice.between(-0.5, 1.0),
        light=(dice.between(-0.8, 0.8), dice.between(-0.75, 0.1)),
        light_strength=dice.between(0.15, 0.4),
        exposure=dice.between(0.93, 1.05),
        warmth=dice.between(-0.04, 0.04),
    )


def smooth(points: ArrayLike, closed: bool = False, steps: int = 8) -> Points:
    """Catmull-Rom curve through ``points`` (k, 2): an array (about k * steps, 2)."""
    knots = np.asarray(points, dtype=np.float64)
    if closed:
        knots = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        knots = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    a, b, c, d = knots[:-3, None], knots[1:-2, None], knots[2:-1, None], knots[3:, None]
    t = (np.arange(steps) / steps)[None, :, None]
    curve = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2
        + (3 * b - a - 3 * c + d) * t**3
    )  # fmt: skip
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, knots[-2:-1]])


def oval(x: float, y: float, radius_x: float, radius_y: float, steps: int = 24) -> Points:
    angles = np.arange(steps) * (2 * np.pi / steps)
    return np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], 1)


def bends(start: Points, middle: Points, end: Points, steps: int = 7) -> Points:
    """Quadratic curves between arrays (n, 2): an array (n, steps, 2)."""
    t = np.linspace(0, 1, steps)[None, :, None]
    bent: Points = (
        (1 - t) ** 2 * start[:, None] + 2 * t * (1 - t) * middle[:, None] + t**2 * end[:, None]
    )
    return bent


class Pen:
    """Paints shapes given in head coordinates onto the canvas, as the view's pose shows them."""

    def __init__(self, background: Image.Image, view: View) -> None:
        self.canvas = background
        self.side = background.width
        self.mask = Image.new("L", background.size, 0)
        self._draw = ImageDraw.Draw(self.canvas)
        self._mask_draw = ImageDraw.Draw(self.mask)
        self.view = view
        cos, sin = np.cos(view.roll), np.sin(view.roll)
        self._turn = np.array([[cos, sin], [-sin, cos]]) * view.scale * self.side
        self._origin = (np.array([0.5, 0.515]) + view.shift) * self.side

    def place(self, points: Points, lift: float = 0.0) -> Points:
        """Head coordinates (..., 2) -> canvas pixels; ``lift`` is the height above the head."""
        a, b, c = ELLIPSOID
        x, y = points[..., 0], points[..., 1]
        z = c * np.sqrt(np.maximum(0.0, 1 - (x / a) ** 2 - (y / b) ** 2)) + lift
        view = self.view
        turned_x = x * np.cos(view.yaw) + z * np.sin(view.yaw)
        depth = z * np.cos(view.yaw) - x * np.sin(view.yaw)
        turned_y = y * np.cos(view.pitch) + (depth - 0.12) * np.sin(view.pitch)
        turned: Points = np.stack([turned_x, turned_y], -1) @ self._turn + self._origin
        return turned

    def pixels(self, length: float) -> int:
        return max(1, round(length * self.view.scale * self.side))

    def fill(
        self, points: Points, colour: Colour, *, lift: float = 0.0, body: bool = False
    ) -> None:
        """A filled polygon; ``body`` marks a part of the silhouette, which the light falls on."""
        corners = self.place(points, lift).ravel().tolist()
        self._draw.polygon(corners, fill=colour)
        if body:
            self._mask_draw.polygon(corners, fill=255)

    def stroke(self, points: Points, colour: Colour, width: float, *, lift: float = 0.0) -> None:
        path = self.place(points, lift).ravel().tolist()
        self._draw.line(path, fill=colour, width=self.pixels(width))

    def strokes(
        self, curves: Points, colours: Sequence[Colour], width: float, *, lift: float = 0.0
    ) -> None:
        """Many curves (n, k, 2), coloured in turn."""
        thick = self.pixels(width)
        paths = self.place(curves, lift).reshape(len(curves), -1).tolist()
        for number, path in enumerate(paths):
            self._draw.line(path, fill=colours[number % len(colours)], width=thick)

    def dots(
        self, points: Points, radii: Points, colours: Sequence[Colour], lift: float = 0.0
    ) -> None:
        sizes = (np.asarray(radii) * self.view.scale * self.side).tolist()
        for number, (x, y) in enumerate(self.place(points, lift).tolist()):
            r = sizes[number]
            self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colours[number % len(colours)])

    @contextmanager
    def inside(self, outline: Points) -> Iterator[None]:
        """Within ``with pen.inside(outline):`` paint only reaches the inside of the outline."""
        corners = self.place(outline)
        low = np.clip(np.floor(corners.min(0)), 0, self.side - 1)
        high = np.clip(np.ceil(corners.max(0)) + 1, low + 1, self.side)
        box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        whole, whole_draw, whole_origin = self.canvas, self._draw, self._origin
        self.canvas = whole.crop(box)
        self._draw, self._origin = ImageDraw.Draw(self.canvas), whole_origin - low
        try:
            yield
        finally:
            window = Image.new("L", self.canvas.size, 0)
            ImageDraw.Draw(window).polygon((corners - low).ravel().tolist(), fill=255)
            whole.paste(self.canvas, box, window)
            self.canvas, self._draw, self._origin = whole, whole_draw, whole_origin


def background(view: View, identity: int, side: int) -> Image.Image:
    """Two colours running into each other and two soft patches."""
    dice = Dice(identity, 3, view.key)
    first, second, third = (np.array(dice.colour(CLOTHS, 0.4), np.float64) for _ in range(3))
    grey = np.full(3, dice.between(90, 200))
    ramp = np.linspace(0, 1, 12)
    down, across = ramp[:, None, None], ramp[None, :, None]
    share = np.clip(across * dice.between(-1, 1) + down * dice.between(-1, 1) + 0.5, 0, 1)
    colours = first * (1 - share) + second * share
    for _ in range(2):
        distance = (across - dice.between(0, 1)) ** 2 + (down - dice.between(0, 1)) ** 2
        patch = np.exp(-distance / dice.between(0.01, 0.08))
        colours = colours * (1 - 0.7 * patch) + third * 0.7 * patch
    colours = colours * 0.45 + grey * 0.55
    small = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def lit(pixels: Pixels, mask: Pixels, person: Person, view: View) -> Pixels:
    """Light from ``view.light`` on the head's ellipsoid, and the soft shadows of a face."""
    size = pixels.shape[0]
    grid = ((np.arange(size) + 0.5) / size).astype(np.float32)
    x = (grid - 0.5 - view.shift[0]) / view.scale
    y = (grid - 0.515 - view.shift[1]) / view.scale
    a, b, c = ELLIPSOID
    normal_x, normal_y = (x / a)[None, :] * 0.9, (y / b)[:, None] * 0.9
    length = np.sqrt(normal_x**2 + normal_y**2 + 1e-6)
    shrink = np.minimum(1, 0.97 / length)
    normal_x, normal_y = normal_x * shrink, normal_y * shrink
    normal_z = np.sqrt(1 - np.minimum(0.95, normal_x**2 + normal_y**2))
    light_x, light_y = view.light
    light_z = float(np.sqrt(max(0.2, 1.2 - light_x**2 - light_y**2)))
    facing = normal_x * light_x + normal_y * light_y + normal_z * light_z
    shade = 1 + view.light_strength * (np.maximum(facing, -0.2) - 0.75)

    def soft(at_x: float, at_y: float, wide: float, high: float, lift: float = 0.0) -> Pixels:
        """A soft spot that moves with the head's turn (its roll is too small to matter)."""
        z = c * float(np.sqrt(max(0.0, 1 - (at_x / a) ** 2 - (at_y / b) ** 2))) + lift
        centre_x = at_x * np.cos(view.yaw) + z * np.sin(view.yaw) - at_y * view.roll
        centre_y = at_y + (z - 0.12) * np.sin(view.pitch) + at_x * view.roll
        columns = np.exp(-(((x - centre_x) / wide) ** 2))
        rows = np.exp(-(((y - centre_y) / high) ** 2))
        spot: Pixels = rows[:, None] * columns[None, :]
        return spot

    side = 1.0 if light_x > 0 else -1.0
    shade = shade - 0.10 * soft(-person.eye_x, person.eye_y - 0.03, 0.05, 0.03)
    shade = shade - 0.10 * soft(person.eye_x, person.eye_y - 0.03, 0.05, 0.03)
    shade = shade - 0.16 * abs(light_x) * soft(-side * 0.045, 0.07, 0.028, 0.07, 0.02)
    shade = shade + 0.10 * soft(side * 0.006, 0.06, 0.016, 0.08, 0.05)
    shade = shade - 0.10 * soft(0, person.mouth_y + 0.055, 0.06, 0.016)
    shade = shade + 0.06 * soft(side * 0.03, -0.2, 0.1, 0.06)
    shade = shade - 0.35 * soft(0, person.chin + 0.045, 0.17, 0.04)
    blush = soft(-0.125, 0.095, 0.06, 0.045) + soft(0.125, 0.095, 0.06, 0.045)
    blush = blush + 0.8 * soft(0, 0.115, 0.04, 0.03, 0.05)
    tint = np.stack([np.zeros_like(blush), blush, blush * 0.8], -1) * 0.075
    inside = mask[:, :, None].astype(np.float32) / np.float32(255)
    gain = 1 + ((shade[:, :, None] - tint) - 1) * inside
    colour = np.array([1 + view.warmth, 1, 1 - view.warmth], np.float32) * view.exposure
    values = pixels.astype(np.float32) * gain.astype(np.float32) * colour
    out: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return out
