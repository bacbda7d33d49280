"""Geometric self-ensemble (Lim et al., EDSR, CVPRW 2017, section 4.3), of the mirror alone.

A face in a mirror is a face: the network is asked for the picture as it is and for its mirror
image, with the references in the mirror too, and the mean of both is taken. Its errors on the two
are partly others, so the mean has less. The rotations of the original are left out: no shipped
network has seen faces that lie down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fsrst.image import Floats

if TYPE_CHECKING:
    from fsrst.runtime.upscaler import Backend


class SelfEnsemble:
    """A backend that asks another one twice, one after the other. Its state is that of the plain
    references, followed by that of their mirror images: the memory of both."""

    def __init__(self, runner: Backend) -> None:
        self._runner = runner
        self.name: str = runner.name
        self.precision: str = runner.precision
        self.info: dict[str, Any] = runner.info

    def encode(self, refs: Floats, present: Floats) -> tuple[Floats, ...]:
        """refs (B, N, 3, s*h, s*w), present (B, N) -> both states."""
        plain = self._runner.encode(refs, present)
        return (*plain, *self._runner.encode(mirrored(refs), present))

    def upscale(self, lr: Floats, *state: Floats) -> Floats:
        """lr (B, 3, h, w) and both states -> sr (B, 3, s*h, s*w), unclamped."""
        plain, mirror = halves(state)
        sr = self._runner.upscale(lr, *plain).copy()  # it is valid until the next call
        return mean(sr, self._runner.upscale(mirrored(lr), *mirror))

    def explain(self, lr: Floats, *state: Floats) -> tuple[Floats, Floats]:
        """The same, and the mean share of every reference in its pixels, (B, N, s*h, s*w)."""
        plain, mirror = halves(state)
        sr, shares = (result.copy() for result in self._runner.explain(lr, *plain))
        sr_in_mirror, shares_in_mirror = self._runner.explain(mirrored(lr), *mirror)
        return mean(sr, sr_in_mirror), mean(shares, shares_in_mirror)


def mirrored(pictures: Floats) -> Floats:
    """Left and right exchanged: the last axis, contiguous as backends want it."""
    return np.ascontiguousarray(pictures[..., ::-1])


def mean(plain: Floats, in_mirror: Floats) -> Floats:
    return np.float32(0.5) * (plain + mirrored(in_mirror))


def halves(state: tuple[Floats, ...]) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
    """State of the plain references, and of those in the mirror."""
    middle = len(state) // 2
    return state[:middle], state[middle:]
