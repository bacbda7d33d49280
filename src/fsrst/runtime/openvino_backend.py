"""The fast backend: OpenVINO on the CPU in float32, bfloat16 or int8 (extra ``openvino``).

Reads the same ONNX files as the default backend; int8 reads ``stem.int8.xml`` for the frames.
References are encoded in float32 whatever the precision: that is done once per call.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsrst.errors import FsrstError

Array = NDArray[np.float32]

PRECISIONS = ("f32", "bf16", "int8")


class OpenVinoBackend:
    """Runs ``stem.encode.onnx`` and ``stem.upscale.onnx`` (int8: ``stem.int8.xml``).

    Parameters
    ----------
    precision
        What the layers of the frame graph compute in. Without bfloat16 instructions in the CPU,
        ``bf16`` runs in float32 and the attribute ``precision`` says so. With ``int8`` what is not
        quantised runs in float32: bfloat16 beside int8 only adds conversions.
    threads
        Threads of one frame. One stream: the lowest latency, not the highest throughput.
    """

    name = "openvino"

    def __init__(self, stem: Path, *, precision: str, threads: int) -> None:
        try:
            import openvino
        except ImportError as error:
            raise FsrstError(
                "backend openvino is not installed; install it with: pip install 'fsrst[openvino]'"
                " or use --backend onnxruntime"
            ) from error
        self._core = openvino.Core()
        self._threads = threads
        self._stem = stem
        self._encode: Any = None
        graph = "int8.xml" if precision == "int8" else "upscale.onnx"
        model = self._read(graph)
        self.info = self._metadata(model, graph)
        compiled = self._compile(model, graph, "bf16" if precision == "bf16" else "f32")
        if precision == "bf16" and str(compiled.get_property("INFERENCE_PRECISION_HINT")) != str(
            openvino.Type.bf16
        ):
            precision = "f32"
        self.precision = precision
        self._request = compiled.create_infer_request()

    def encode(self, refs: Array, present: Array) -> tuple[Array, ...]:
        """refs (B, N, 3, s*h, s*w), present (B, N) -> the state, each tensor (B, N, ...)."""
        if self._encode is None:
            compiled = self._compile(self._read("encode.onnx"), "encode.onnx", "f32")
            self._encode = compiled.create_infer_request()
        results = self._encode.infer([refs, present])
        return tuple(np.array(results[i]) for i in range(len(results)))

    def upscale(self, lr: Array, *state: Array) -> Array:
        """lr (B, 3, h, w) and a state of the same batch -> sr (B, 3, s*h, s*w), unclamped.

        The result is valid until the next call: it is the request's own memory.
        """
        results = self._request.infer([lr, *state], share_inputs=True, share_outputs=True)
        frame: Array = results[0]
        return frame

    def _read(self, graph: str) -> Any:
        path = self._stem.parent / f"{self._stem.name}.{graph}"
        if not path.is_file():
            how = "fsrst export --int8" if graph == "int8.xml" else "fsrst export"
            raise FsrstError(f"no model file {path}; write it with `{how}`")
        try:
            return self._core.read_model(path)
        except RuntimeError as error:
            raise FsrstError(f"{path} is damaged or not a model: {_one_line(error)}") from error

    def _compile(self, model: Any, graph: str, precision: str) -> Any:
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self._threads,
        }
        try:
            return self._core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise FsrstError(
                f"OpenVINO cannot compile {self._stem.name}.{graph}: {_one_line(error)}"
            ) from error

    def _metadata(self, model: Any, graph: str) -> dict[str, Any]:
        # the ONNX reader files metadata_props under "framework"; the IR keeps the key as it was set
        for place in (["framework", "fsrst"], ["fsrst"]):
            if model.has_rt_info(place):
                info: dict[str, Any] = json.loads(model.get_rt_info(place).astype(str))
                return info
        raise FsrstError(
            f"{self._stem}.{graph} was not written by `fsrst export`: it has no 'fsrst' metadata"
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
