"""Where the detail of an enlarged face came from, as one picture: every reference has a colour."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fsrst.evaluate.strips import Panel, panel_height, sheet, strip
from fsrst.image import Pixels, crop_to, to_uint8

# Okabe and Ito's colours, told apart by colour-blind people too; more follow in `colours_of`
COLOURS = np.array(
    [
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (204, 121, 167),
        (0, 114, 178),
        (213, 94, 0),
        (240, 228, 66),
        (150, 150, 150),
    ],
    dtype=np.float32,
)
NAMES = ("orange", "light blue", "green", "pink", "blue", "red", "yellow", "grey")
NONE = 32.0  # grey level of "from no reference"
FRAME = 0.04  # width of a reference's coloured frame, of its height
LEVELS = np.linspace(0, 255, 8, dtype=np.float32)  # of each channel of further colours
EYE = np.sqrt(np.array([2, 4, 3], np.float32))  # how much a channel's difference is seen


def colours_of(count: int) -> NDArray[np.float32]:
    """Colours (count, 3) of so many references in [0, 255], all different up to 500: the eight
    above, then each time the one that is farthest from all before, from white, black and ``NONE``.
    """
    further = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS), axis=-1).reshape(-1, 3)
    taken = [*COLOURS, *(np.full(3, level, np.float32) for level in (0, NONE, 255))]
    nearest = np.min([_seen(further, colour) for colour in taken], axis=0)
    found = list(COLOURS)
    while len(found) < count:
        found.append(further[nearest.argmax()])
        nearest = np.minimum(nearest, _seen(further, found[-1]))
    return np.array(found)[:count]


def _seen(colours: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """How different the colours (N, 3) look from another one, (N)."""
    seen: NDArray[np.float32] = np.linalg.norm((colours - other) * EYE, axis=1)
    return seen


def explanation(
    lr: Pixels,
    sr: Pixels,
    references: Sequence[Pixels],
    shares: NDArray[np.float32],
    left_out: Sequence[int] = (),
) -> Pixels:
    """A sheet: input, result, map and the result in the map's colours; below, the references.

    ``shares`` (N, H, W) as ``Upscaler.explain`` returns them; the map is dark where detail came
    from no reference. ``left_out``: positions of references that were not used.
    """
    height, width = sr.shape[:2]
    colours = colours_of(len(references))
    none = 1 - shares.sum(axis=0)
    painted = np.einsum("nhw,nc->hwc", shares, colours) + none[..., None] * NONE
    grey = sr.mean(axis=2, keepdims=True) / 255
    tinted = painted * (0.25 + 0.75 * grey)
    top = strip(
        [
            Panel(f"input {lr.shape[1]}x{lr.shape[0]}", lr),
            Panel("result", sr),
            Panel("detail from", _pixels(painted), f"no reference: {none.mean():.0%}"),
            Panel("on the face", _pixels(tinted)),
        ],
        height=panel_height(sr),
    )
    if not references:
        return top
    said = [f"{share.mean():.0%}" for share in shares]
    said[: len(NAMES)] = [f"{name}: {text}" for name, text in zip(NAMES, said, strict=False)]
    framed = [
        Panel(
            f"reference {number + 1}",
            _framed(crop_to(reference, width, height), colours[number]),
            "left out" if number in left_out else said[number],
        )
        for number, reference in enumerate(references)
    ]
    rows = [framed[i : i + 4] for i in range(0, len(framed), 4)]
    return sheet([top, *(strip(row, height=panel_height(sr)) for row in rows)])


def _framed(picture: Pixels, colour: NDArray[np.float32]) -> Pixels:
    edge = max(1, round(picture.shape[0] * FRAME))
    framed = np.empty_like(picture)
    framed[:] = _pixels(colour)
    framed[edge:-edge, edge:-edge] = picture[edge:-edge, edge:-edge]
    return framed


def _pixels(levels: NDArray[np.float32]) -> Pixels:
    return to_uint8(np.asarray(levels / 255, dtype=np.float32))
