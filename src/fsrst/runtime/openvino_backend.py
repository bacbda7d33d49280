"""The fast backend: OpenVINO on the CPU in float32, bfloat16 or int8 (extra ``openvino``).

Reads the same ONNX files as the default backend; int8 reads ``stem.int8.xml`` for the frames.
References are encoded in float32 whatever the precision: that is done once per call.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from fsrst.errors import FsrstError
from fsrst.image import Floats
from fsrst.runtime.cores import check_process
from fsrst.runtime.header import METADATA_KEY, check_pair, parsed

MAX_FIXED = 8  # graphs compiled for one size and number of references, 10 to 20 MB each
FRAMES_BEFORE_FIXED = 8  # of a size, until a model that takes any gets a graph for that size alone


class OpenVinoBackend:
    """Runs ``stem.encode.onnx`` and ``stem.upscale.onnx`` (int8: ``stem.int8.xml``).

    Parameters
    ----------
    precision
        What the layers of the frame graph compute in. Without bfloat16 instructions in the CPU,
        ``bf16`` runs in float32 and the attribute ``precision`` says so. With ``int8`` what is not
        quantised runs in bfloat16 where the CPU has it, else in float32.
    threads
        Threads of one frame. One stream: the lowest latency, not the highest throughput.
    """

    name = "openvino"

    def __init__(self, stem: Path, *, precision: str, threads: int) -> None:
        try:
            import openvino
        except ImportError as error:
            raise FsrstError(
                "backend openvino needs openvino; install it with: pip install 'fsrst[openvino]',"
                " or use backend onnxruntime, which computes in f32"
            ) from error
        self._core = openvino.Core()
        self._threads = threads
        self._process = os.getpid()
        self._stem = stem
        self._graph = "int8.xml" if precision == "int8" else "upscale.onnx"
        self._model = self._read(self._graph)
        self.info = self._header(self._model, self._graph)
        halves = precision != "f32" and self._has_bfloat16()
        self._hint = "bf16" if halves else "f32"  # of what is not quantised
        self.precision = "f32" if precision == "bf16" and not halves else precision
        self._encode: Any = None
        self._upscale: Any = None  # takes any shape
        self._explain: Any = None
        self._fixed: dict[tuple[int, ...], Any] = {}  # shapes -> made for them alone
        self._seen: Counter[tuple[int, ...]] = Counter()
        self._last: tuple[int, ...] = ()

    def encode(self, refs: Floats, present: Floats) -> tuple[Floats, ...]:
        """refs (B, N, 3, s*h, s*w), present (B, N) -> the state, each tensor (B, N, ...)."""
        check_process(self._process)
        if self._encode is None:
            model = self._read("encode.onnx")
            header = self._header(model, "encode.onnx")
            check_pair(self.info, header, self._path("encode.onnx"))
            self._encode = self._compile(model, "encode.onnx", "f32")
        results = self._encode.infer([refs, present])
        return tuple(np.array(results[i]) for i in range(len(results)))

    def upscale(self, lr: Floats, *state: Floats) -> Floats:
        """lr (B, 3, h, w) and a state of the same batch -> sr (B, 3, s*h, s*w), unclamped.

        The result is valid until the next call: it is the request's own memory.
        """
        check_process(self._process)
        request = self._request_for(lr, state)
        self._run(request, lr, state)
        frame: Floats = request.get_output_tensor(0).data
        return frame

    def explain(self, lr: Floats, *state: Floats) -> tuple[Floats, Floats]:
        """``sr``, and the share of every reference in its pixels, (B, N, s*h, s*w), in float32."""
        check_process(self._process)
        if self._explain is None:
            self._explain = self._compile(self._read("upscale.onnx"), "upscale.onnx", "f32")
        self._run(self._explain, lr, state)
        sr, shares = (self._explain.get_output_tensor(i).data for i in range(2))
        return sr, shares

    def _run(self, request: Any, lr: Floats, state: tuple[Floats, ...]) -> None:
        from openvino import Tensor

        # tensors set by hand: `request.infer(...)` spends 0.15 ms on its own book-keeping
        for index, array in enumerate((lr, *state)):
            request.set_input_tensor(index, Tensor(np.ascontiguousarray(array), shared_memory=True))
        request.start_async()
        request.wait()

    def _request_for(self, lr: Floats, state: tuple[Floats, ...]) -> Any:
        """Single frames of a fixed size get a graph compiled for their number of references.

        Fixed shapes save shape arithmetic in every frame, but compiling takes 0.1 to 1 s, so
        batches and single pictures of any size share the graph for all shapes. With ``MAX_FIXED``
        kinds there, a further one must come so often in a row, lest sizes that take turns compile
        all the time; the one used longest ago is then given up.
        """
        shape = lr.shape + state[0].shape
        full = len(self._fixed) == MAX_FIXED
        if full and shape != self._last:
            self._seen[shape] = 0
        self._last = shape
        if shape in self._fixed:
            self._fixed[shape] = self._fixed.pop(shape)  # the last is the one used last
            return self._fixed[shape]
        self._seen[shape] += 1
        at_once = self.info["lr_size"] is not None and not full
        often = at_once or self._seen[shape] > FRAMES_BEFORE_FIXED
        if len(lr) == 1 and often:
            if full:
                del self._fixed[next(iter(self._fixed))]
            model = self._frames()
            inputs = zip(model.inputs, (lr, *state), strict=True)
            model.reshape({port.get_any_name(): list(array.shape) for port, array in inputs})
            self._fixed[shape] = self._compile(model, self._graph, self._hint)
            return self._fixed[shape]
        if self._upscale is None:
            self._upscale = self._compile(self._frames(), self._graph, self._hint)
        return self._upscale

    def _frames(self) -> Any:
        """The frame graph with ``sr`` as its first result and no shares.

        In bfloat16, what leads from the last convolution to a result stays in float32; so every
        place where references are sampled is made a result. 8 bits would be a pixel off.
        """
        import openvino

        model = self._model.clone()
        places = []
        if self._hint == "bf16":
            places = [
                node.input_value(1)
                for node in model.get_ordered_ops()
                if node.get_type_name() == "GridSample"
            ]
        frames = openvino.Model(model.results[:1], model.get_parameters(), "frames")
        if places:
            frames.add_outputs(places)
        return frames

    def _path(self, graph: str) -> Path:
        return self._stem.parent / f"{self._stem.name}.{graph}"

    def _read(self, graph: str) -> Any:
        path = self._path(graph)
        if not path.is_file():
            if graph == "int8.xml":
                raise FsrstError(
                    f"{self._stem.name} has no int8 file {path}; fsrst2, fsrst2-small,"
                    " fsrst-small-call and fsrst-small-photo have one, `fsrst export --int8` makes"
                    " others"
                )
            raise FsrstError(f"no model file {path}; write it with `fsrst export`")
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
            "CPU_RUNTIME_CACHE_CAPACITY": "100",  # of kernels: else 3 MB stay for every new size
        }
        try:
            return self._core.compile_model(model, "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise FsrstError(
                f"OpenVINO cannot compile {self._stem.name}.{graph}: {_one_line(error)}"
            ) from error

    def _header(self, model: Any, graph: str) -> dict[str, Any]:
        # the ONNX reader files metadata_props under "framework"; the IR keeps the key as it was set
        places = (["framework", METADATA_KEY], [METADATA_KEY])
        texts = [model.get_rt_info(p).astype(str) for p in places if model.has_rt_info(p)]
        return parsed(texts[0] if texts else None, self._path(graph))

    def _has_bfloat16(self) -> bool:
        return "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
