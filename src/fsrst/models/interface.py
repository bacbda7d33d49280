"""What every network of this project is: references are encoded once, frames are upscaled often.

Tensor contract: ``lr (B, 3, h, w)``, ``refs (B, N, 3, s*h, s*w)``, ``present (B, N)``,
``sr (B, 3, s*h, s*w)``; float32 sRGB in [0, 1]; N >= 0 and free per call. Networks return unclamped
values: clamping inside a training graph kills gradients at saturated pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fsrst.errors import FsrstError

State = tuple[Tensor, ...]
PictureError = Callable[[Tensor, Tensor], Tensor]  # sr, hr (B, 3, H, W) -> a number

REPRODUCED = 1e-3  # mean absolute error of a picture with little left to gain: a quarter grey level


def mean_absolute_error(sr: Tensor, hr: Tensor) -> Tensor:
    """Eq. 13."""
    return F.l1_loss(sr, hr)


def log_absolute_error(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean over pictures of the logarithm of each one's mean absolute error.

    A tenth less error is worth the same in every picture, as in the mean of their PSNR; in eq. 13
    the pictures that are hard to restore weigh most.
    """
    return (F.l1_loss(sr, hr, reduction="none").mean(dim=(1, 2, 3)) + REPRODUCED).log().mean()


PICTURE_ERRORS: dict[str, PictureError] = {
    "l1": mean_absolute_error,
    "log-l1": log_absolute_error,
}


class ReferenceSR(nn.Module, ABC):
    """A reference-based super-resolution network.

    Attributes
    ----------
    name, options
        What ``fsrst.models.build`` needs to make the same network again.
    scale
        Enlargement s.
    lr_size
        Side of the only square input the network takes [px], or None when it takes any size.
    reference_limit
        How many references it can use (it takes any number and ignores the rest); None: all.
    explains
        Whether ``upscale_explained`` can say where the detail of each pixel comes from.
    chooses
        Whether an arg-max decides inside: of two equally good matches another runtime, or another
        rounding, may take the other.
    picture_error
        What ``loss`` minimises between ``sr`` and ``hr``, one of ``PICTURE_ERRORS``; None for
        networks that are trained by something else.
    """

    name: str
    options: dict[str, Any]
    scale: int
    lr_size: int | None
    reference_limit: int | None = None
    explains: bool = False
    chooses: bool = False
    picture_error: PictureError | None = staticmethod(mean_absolute_error)

    @abstractmethod
    def encode(self, refs: Tensor, present: Tensor | None = None) -> State:
        """Everything that depends on the references alone.

        ``refs`` (B, N, 3, s*h, s*w); ``present`` (B, N) of 0 and 1 marks which are real, None means
        all. A call keeps its references for minutes: this runs once, ``upscale`` for every frame.
        The state is a tuple of tensors that goes in and out explicitly, so that one signature
        serves torch, ONNX and OpenVINO.
        """

    @abstractmethod
    def upscale(self, lr: Tensor, state: State) -> Tensor:
        """``lr`` (B, 3, h, w), state of the same batch -> ``sr`` (B, 3, s*h, s*w), unclamped."""

    def upscale_explained(self, lr: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """``sr``, and the share of every reference in each pixel of it, (B, N, s*h, s*w)."""
        raise NotImplementedError(f"{self.name} does not weigh its references pixel by pixel")

    def forward(self, lr: Tensor, refs: Tensor, present: Tensor | None = None) -> Tensor:
        """``encode`` then ``upscale``.

        Several inputs may share a reference set: with ``lr`` (B, ...) and ``refs`` (B / K, ...)
        each set serves K inputs in a row and is encoded once.

        Raises
        ------
        ValueError
            If the number of inputs is no multiple of the number of sets.
        """
        if lr.shape[0] % refs.shape[0]:
            raise ValueError(
                f"{lr.shape[0]} inputs cannot share {refs.shape[0]} sets of references: the first"
                " number must be a multiple of the second"
            )
        state = self.encode(refs, present)
        sharing = lr.shape[0] // refs.shape[0]
        if sharing > 1:
            state = tuple(tensor.repeat_interleave(sharing, dim=0) for tensor in state)
        return self.upscale(lr, state)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """What training minimises: ``picture_error`` of the unclamped output.

        ``batch`` holds ``lr``, ``refs``, ``present`` and ``hr`` in the shapes of ``forward``.
        """
        assert self.picture_error is not None
        return self.picture_error(self(batch["lr"], batch["refs"], batch["present"]), batch["hr"])

    def fuse(self) -> "ReferenceSR":
        """The same function in its form for inference; most networks are that already."""
        return self

    def check_lr(self, lr: Tensor) -> None:
        """Refuse an input of another size than the network's, in one line."""
        height, width = lr.shape[-2:]
        if self.lr_size is not None and (height, width) != (self.lr_size, self.lr_size):
            raise FsrstError(
                f"{self.name} at {self.scale}x takes {self.lr_size}x{self.lr_size} inputs,"
                f" got {width}x{height}; resize the input first"
            )


def presence(refs: Tensor, present: Tensor | None) -> Tensor:
    """``present`` (B, N), or ones where it is None: all references (B, N, ...) are real."""
    return refs.new_ones(refs.shape[:2]) if present is None else present


def bicubic_skip(lr: Tensor, scale: int) -> Tensor:
    """The bicubic image of eq. 12, clamped to [0, 1]: the framework's kernel, a = -0.75.

    ``lr`` (B, 3, h, w) -> (B, 3, s*h, s*w). It depends on the input alone, so clamping it costs no
    gradient; the sum of eq. 12 stays unclamped.
    """
    return F.interpolate(lr, scale_factor=scale, mode="bicubic", align_corners=False).clamp(0, 1)
