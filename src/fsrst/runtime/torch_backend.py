"""The network itself, for comparison and for weights not exported yet (extra ``torch``)."""

import os
from pathlib import Path
from typing import Any

from fsrst.errors import FsrstError
from fsrst.image import Floats
from fsrst.runtime.cores import check_process


class TorchBackend:
    """Runs a ``.safetensors`` file on the CPU in float32.

    ``threads`` is torch's number for the whole process, as torch knows no other.
    """

    name = "torch"
    precision = "f32"

    def __init__(self, weights: Path, *, threads: int) -> None:
        try:
            import torch

            from fsrst.models.weights import load_weights
        except ImportError as error:
            raise FsrstError(
                f"backend torch needs {error.name}; install it with: pip install 'fsrst[torch]'"
            ) from error
        self._torch = torch
        self._process = os.getpid() if threads > 1 else None  # one thread starts no others
        torch.set_num_threads(threads)
        model, header = load_weights(weights)
        self._model = model.fuse().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.info: dict[str, Any] = {
            **header,
            "scale": model.scale,
            "lr_size": model.lr_size,
            "explains": model.explains,
        }

    def _check_process(self) -> None:
        if self._process is not None:
            check_process(self._process)

    def encode(self, refs: Floats, present: Floats) -> tuple[Floats, ...]:
        """refs (B, N, 3, s*h, s*w), present (B, N) -> the state, each tensor (B, N, ...)."""
        self._check_process()
        with self._torch.inference_mode():
            state = self._model.encode(
                self._torch.from_numpy(refs), self._torch.from_numpy(present)
            )
        return tuple(tensor.numpy() for tensor in state)

    def upscale(self, lr: Floats, *state: Floats) -> Floats:
        """lr (B, 3, h, w) and a state of the same batch -> sr (B, 3, s*h, s*w), unclamped."""
        self._check_process()
        with self._torch.inference_mode():
            tensors = tuple(self._torch.from_numpy(array) for array in state)
            result: Floats = self._model.upscale(self._torch.from_numpy(lr), tensors).numpy()
        return result

    def explain(self, lr: Floats, *state: Floats) -> tuple[Floats, Floats]:
        """``sr``, and the share of every reference in its pixels, (B, N, s*h, s*w)."""
        self._check_process()
        with self._torch.inference_mode():
            tensors = tuple(self._torch.from_numpy(array) for array in state)
            sr, shares = self._model.upscale_explained(self._torch.from_numpy(lr), tensors)
        return sr.numpy(), shares.numpy()
