"""Bicubic enlargement, and what every network without references has in common.

Source: Keys, "Cubic convolution interpolation for digital image processing", 1981. No deviation:
the framework's kernel (a = -0.75, edge pixels repeated), clamped to [0, 1], exactly the term to
which every network here adds its residual (eq. 12 of the FSRST paper). The column "bicubic" of
``fsrst evaluate`` is Pillow's (a = -0.5, on 8-bit values): a slightly different picture.
"""

from typing import Any

from torch import Tensor

from fsrst.models.interface import ReferenceSR, State, bicubic_skip, presence

SCALES = (2, 4, 8)


def checked_scale(name: str, scale: int) -> int:
    """``scale``, or a ValueError that names the choices."""
    if scale not in SCALES:
        raise ValueError(f"{name} enlarges {', '.join(map(str, SCALES))} times, not {scale}")
    return scale


class WithoutReferences(ReferenceSR):
    """A network that looks at its input alone: any size, and a state that is only ``present``."""

    lr_size = None
    reference_limit = 0

    def __init__(self, name: str, scale: int, **options: Any) -> None:
        super().__init__()
        self.name = name
        self.scale = checked_scale(name, scale)
        self.options = {"scale": scale, **options}

    def encode(self, refs: Tensor, present: Tensor | None = None) -> State:
        """``refs`` (B, N, 3, s*h, s*w) are not looked at -> (present (B, N),)."""
        return (presence(refs, present),)


class Bicubic(WithoutReferences):
    """No parameters, hence nothing to train."""

    def __init__(self, *, scale: int = 4) -> None:
        super().__init__("bicubic", scale)

    def upscale(self, lr: Tensor, state: State) -> Tensor:
        """``lr`` (B, 3, h, w) -> (B, 3, s*h, s*w); the state is not looked at."""
        return bicubic_skip(lr, self.scale)
