"""What may happen to a training sample: motion, light and damage, shared or of one picture alone.

The paper moves target and references together only, so its aligner sees natural misalignment alone;
the ``refs_`` options move every reference against the input.
"""

import io
import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.random import Generator
from PIL import Image

from fsrst.errors import FsrstError
from fsrst.image import Pixels

PROBABILITIES = (
    "reduced",
    "lr_damage",
    "refs_damage",
    "refs_background",
    "refs_as_found",
    "one_reference",
    "reference_dropout",
    "wrong_person",
)
# 1 +- the value, which stays above 0
FACTORS = ("zoom", "light", "colour", "refs_zoom", "refs_light", "refs_colour")

# half axes of the ellipse of a head that is cut out [fraction of the size]
HEAD_WIDTH, HEAD_HEIGHT = (0.28, 0.4), (0.38, 0.5)


@dataclass(frozen=True)
class Augmentation:
    """The zeros and False of the default change nothing.

    Raises
    ------
    FsrstError
        If a value is of another type, or out of its range.
    """

    flip: bool = False  # left-right, the same for target and references
    quarter_turns: bool = False  # quarter turns too, the same for all (the paper's, with flip)
    degrees: float = 0.0  # shared rotation, +- [degrees]
    translate: float = 0.0  # shared shift, +- [fraction of the size]
    zoom: float = 0.0  # shared scale, 1 +- zoom
    light: float = 0.0  # shared gain and gamma, 1 +- light
    colour: float = 0.0  # shared gain of each channel, 1 +- colour
    # probability that of a set of larger pictures more is cut out than a sample's size, and
    # reduced to it, so that faces come in all sizes
    reduced: float = 0.0
    refs_degrees: float = 0.0  # rotation, shift and scale again, independently for every reference
    refs_translate: float = 0.0
    refs_zoom: float = 0.0
    refs_light: float = 0.0  # independent gain and gamma of a reference, 1 +- light
    refs_colour: float = 0.0  # independent gain of each of its channels, 1 +- colour
    refs_damage: float = 0.0  # probability that a reference was kept small, or as a poor JPEG
    refs_background: float = 0.0  # probability that a sample's references have another background
    refs_as_found: float = 0.0  # probability that the ``refs_`` changes above leave a sample alone
    lr_damage: float = 0.0  # probability that an input went through ``degrade_poorly``
    one_reference: float = 0.0  # probability that a sample keeps one of its references
    # probability that a sample keeps only 0..n-1 of its references, where it does not keep one
    reference_dropout: float = 0.0
    # probability that all references show somebody else of the same set, filmed as the target is,
    # as in the scores; where a set shows one person alone, the sample keeps its own
    wrong_person: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if field.type is bool:
                good, expected = isinstance(value, bool), "true or false"
            elif field.name in PROBABILITIES:
                good, expected = number and 0 <= value <= 1, "a number from 0 to 1"
            elif field.name in FACTORS:
                good, expected = number and 0 <= value < 1, "a number from 0 to below 1"
            else:
                good, expected = number and 0 <= value < math.inf, "a number of 0 or more"
            if not good:
                raise FsrstError(f"augmentation: {field.name} must be {expected}, got {value!r}")


# (3, 3): (x, y, 1) of the output -> of the input, from the centre, in sizes of the picture
Matrix = np.ndarray


def draw_affine(rng: Generator, degrees: float, translate: float, zoom: float) -> Matrix | None:
    """A random motion for ``move``; None if all three are 0 (then ``rng`` is not asked).

    ``degrees``: rotation, uniform in +- degrees. ``zoom``: enlargement, uniform in 1 +- zoom.
    ``translate``: shift in x and in y, each uniform in +- translate [fraction of the size].
    """
    if degrees == translate == zoom == 0:
        return None
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    factor = rng.uniform(1 - zoom, 1 + zoom)
    shift = rng.uniform(-translate, translate, 2)
    cos, sin = np.cos(angle) / factor, np.sin(angle) / factor
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]], [0, 0, 1]])


def compose(first: Matrix | None, second: Matrix | None) -> Matrix | None:
    """One matrix for ``move(move(picture, second), first)``: a place of the output goes through
    ``first``, then ``second``. None is no motion."""
    if first is None or second is None:
        return second if first is None else first
    both: Matrix = second @ first
    return both


def move(picture: Pixels, matrix: Matrix | None) -> Pixels:
    """The square picture resampled by Pillow's bicubic, outside mirrored; with None as it is."""
    if matrix is None:
        return picture
    size = picture.shape[0]
    inner = size / 2
    linear, shift = matrix[:2, :2], matrix[:2, 2] * size
    reach = np.abs(linear).sum(axis=1) * inner + np.abs(shift)  # farthest from the centre
    pad = max(size // 8, math.ceil(float(reach.max()) - inner) + 2)
    padded = np.pad(picture, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    offset = inner - linear @ (inner, inner) + shift + pad
    coefficients = (*linear[0], offset[0], *linear[1], offset[1])
    moved = Image.fromarray(padded).transform(
        (size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
    )
    return np.asarray(moved)


# (256, 3): the new value of each value of each channel
Tones = np.ndarray


def draw_tones(rng: Generator, light: float, colour: float) -> Tones | None:
    """For ``relight``: every value v in [0, 1] becomes gain * v ** gamma, clipped: gamma uniform in
    1 +- ``light``, the gain so too and, for each channel on its own, again in 1 +- ``colour``.

    Of an amount that is 0 ``rng`` is not asked; None if both are.
    """
    if light == colour == 0:
        return None
    gain, gamma = rng.uniform(1 - light, 1 + light, 2) if light else (1.0, 1.0)
    gains = gain * (rng.uniform(1 - colour, 1 + colour, 3) if colour else np.ones(3))
    values = np.clip((np.arange(256)[:, None] / 255) ** gamma * gains * 255, 0, 255)
    tones: Tones = np.rint(values).astype(np.uint8)
    return tones


def relight(picture: Pixels, tones: Tones | None) -> Pixels:
    """The picture in other tones; with None as it is."""
    if tones is None:
        return picture
    lit: Pixels = np.take_along_axis(tones, picture.reshape(-1, 3), axis=0).reshape(picture.shape)
    return lit


def cut_out(picture: Pixels, background: Pixels, width: float, height: float) -> Pixels:
    """A head in the middle of the square picture before another ``background``, (3,) or a picture
    of the same size: all but an ellipse of these half axes [fraction of the size] is covered, as
    roughly as video calls do it."""
    place = (np.arange(picture.shape[0]) + 0.5) / picture.shape[0] - 0.5
    distance = np.hypot(place / width, place[:, None] / height)  # 1 on the ellipse
    share = np.clip((1.1 - distance) / 0.2, 0, 1)[..., None]
    covered: Pixels = np.rint(picture * share + background * (1 - share)).astype(np.uint8)
    return covered


def damage(picture: Pixels, rng: Generator, probability: float) -> Pixels:
    """With ``probability``, what bad storage makes of a picture: 2 to 4 times smaller and enlarged
    again, or a JPEG of quality 10 to 60."""
    if probability == 0 or rng.random() >= probability:
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    if rng.random() < 0.5:
        (width, height), factor = image.size, rng.uniform(2, 4)
        small = (max(1, round(width / factor)), max(1, round(height / factor)))
        image = image.resize(small, Image.Resampling.BICUBIC)
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    return as_jpeg(picture, int(rng.integers(10, 61)))


def as_jpeg(picture: Pixels, quality: int) -> Pixels:
    """What a JPEG of that quality keeps of a picture."""
    stored = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(stored, "JPEG", quality=quality)
    return np.asarray(Image.open(stored))
