"""The default backend: ONNX Runtime on the CPU, float32. Never imports torch."""

import os
from pathlib import Path
from typing import Any

from fsrst.errors import FsrstError
from fsrst.image import Floats
from fsrst.runtime.header import METADATA_KEY, check_pair, parsed


class OnnxBackend:
    """Runs ``stem.encode.onnx`` and ``stem.upscale.onnx``.

    ``threads`` share one operator; operators run one after the other (lowest latency).
    """

    name = "onnxruntime"
    precision = "f32"

    def __init__(self, stem: Path, *, threads: int) -> None:
        self._stem = stem
        self._threads = threads
        self._encode: Any = None  # opened when references come: a call without any needs it once
        self._upscale, self.info = self._open("upscale")
        self._inputs = [value.name for value in self._upscale.get_inputs()]

    def encode(self, refs: Floats, present: Floats) -> tuple[Floats, ...]:
        """refs (B, N, 3, s*h, s*w), present (B, N) -> the state, each tensor (B, N, ...)."""
        if self._encode is None:
            encode, header = self._open("encode")
            check_pair(self.info, header, self._path("encode"))
            self._encode = encode
        return tuple(self._encode.run(None, {"refs": refs, "present": present}))

    def upscale(self, lr: Floats, *state: Floats) -> Floats:
        """lr (B, 3, h, w) and a state of the same batch -> sr (B, 3, s*h, s*w), unclamped."""
        result: Floats = self._upscale.run(["sr"], self._feeds(lr, state))[0]
        return result

    def explain(self, lr: Floats, *state: Floats) -> tuple[Floats, Floats]:
        """``sr``, and the share of every reference in its pixels, (B, N, s*h, s*w)."""
        sr, shares = self._upscale.run(["sr", "shares"], self._feeds(lr, state))
        return sr, shares

    def _feeds(self, lr: Floats, state: tuple[Floats, ...]) -> dict[str, Floats]:
        return dict(zip(self._inputs, (lr, *state), strict=True))

    def _path(self, graph: str) -> Path:
        return self._stem.parent / f"{self._stem.name}.{graph}.onnx"

    def _open(self, graph: str) -> tuple[Any, dict[str, Any]]:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
        import onnxruntime

        path = self._path(graph)
        if not path.is_file():
            raise FsrstError(f"no model file {path}; write it with `fsrst export`")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except (
            Exception
        ) as error:  # onnxruntime raises its own kinds, all for unreadable files here
            reason = " ".join(str(error).split())[:200]
            raise FsrstError(f"{path} is damaged or not an ONNX model: {reason}") from error
        metadata = session.get_modelmeta().custom_metadata_map
        return session, parsed(metadata.get(METADATA_KEY), path)
