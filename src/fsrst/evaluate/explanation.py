"""Where the detail of an enlarged face came from, as one picture: every reference has a colour."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fsrst.evaluate.strips import Panel, panel_height, sheet, strip
from fsrst.image import Pixels, crop_to, to_uint8

# Okabe and Ito's colours, told apart by colour-blind people too; a ninth reference begins again
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


def explanation(
    lr: Pixels, sr: Pixels, references: Sequence[Pixels], shares: NDArray[np.float32]
) -> Pixels:
    """A sheet: input, result, map and the result in the map's colours; below, the references.

    ``shares`` (N, H, W) as ``Upscaler.explain`` returns them; the map is dark where detail came
    from no reference.
    """
    height, width = sr.shape[:2]
    colours = COLOURS[np.arange(len(references)) % len(COLOURS)]
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
    framed = [
        Panel(
            f"reference {number + 1}",
            _framed(crop_to(reference, width, height), colours[number]),
            f"{NAMES[number % len(NAMES)]}: {shares[number].mean():.0%}",
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
