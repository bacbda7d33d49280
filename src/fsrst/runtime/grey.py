"""Pictures without colours: the light of one given to another, and results as grey as inputs."""

import numpy as np

from fsrst.image import Floats, Pixels, greyed, luma


def light_of(planes: Floats) -> Floats:
    """The luma of (B, 3, h, w) three times: a grey picture."""
    light = luma(np.moveaxis(planes, 1, -1)).astype(np.float32)
    return np.repeat(light[:, None], 3, axis=1)


def with_light_of(colours: Floats, other: Floats, part: Floats) -> Floats:
    """(B, 3, h, w) whose luma is for a ``part`` (B, 1, h, w) that of another picture."""
    return colours + part * (light_of(other) - light_of(colours))


def as_grey_as(lr: Pixels, sr: Pixels) -> Pixels:
    """What comes out of a grey input differs by some levels between its channels."""
    grey = (lr[..., 0] == lr[..., 1]).all() and (lr[..., 1] == lr[..., 2]).all()
    return greyed(sr) if grey else sr
