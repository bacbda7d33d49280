"""A network becomes two ONNX files: ``encode`` (once per call) and ``upscale`` (every frame).

``stem.encode.onnx``   refs (B, N, 3, s*h, s*w), present (B, N) -> state_0, state_1, ...
``stem.upscale.onnx``  lr (B, 3, h, w), state_0, state_1, ...   -> sr (B, 3, s*h, s*w), unclamped,
                       and shares (B, N, s*h, s*w) of networks that explain themselves

Batch B and number of references N are free (N >= 1: none is one reference of zeros with present 0),
and so is the size when the network takes any. Every tensor of a state starts with (B, N). The
metadata entry ``fsrst`` of each file is JSON: the header of the weights and the graph's own facts.
"""

import copy
import json
import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fsrst.errors import FsrstError
from fsrst.files import written_whole
from fsrst.runtime.header import METADATA_KEY

if TYPE_CHECKING:
    import onnx

    from fsrst.models import ReferenceSR

OPSET = 18
SKIP_NAME = "bicubic"  # names of the nodes that replace a cubic Resize start so
TOLERANCE = 0.5 / 255  # torch against onnxruntime, before rounding to 8 bits
CHOSEN_OTHERWISE = 0.02  # part of the values that may be farther off where a network ``chooses``
FILE_SUFFIXES = (".onnx", ".safetensors", ".xml", ".bin")  # of a file, not of a stem
ANY_SIZE_EXAMPLE = (24, 20)  # traced size [px] of networks that take any


def export(
    model: "ReferenceSR", header: dict[str, Any], stem: str | Path, *, half_storage: bool = True
) -> dict[str, Any]:
    """Write ``stem.encode.onnx`` and ``stem.upscale.onnx`` and compare them with torch.

    ``half_storage`` rounds the weights to float16 and stores them so; runtimes turn them back into
    float32 while loading, hence every backend computes with the same numbers.

    Returns the largest absolute difference by (batch, references), of values in [0, 1] (but see
    ``chooses`` of the network's interface: then 2 % of them may differ more):
    ``{"parity": {"1x3": 2e-6, ...}, "bytes": {"encode": .., "upscale": ..}}``.

    Raises
    ------
    FsrstError
        If ``stem`` is none (``check_stem``), the export extra is missing, or torch and onnxruntime
        differ by half a grey level.
    """
    stem = check_stem(stem)
    _need_exporter()
    model = copy.deepcopy(model).fuse().eval().float()
    model.requires_grad_(False)  # or what keeps lost gradients NaN (`nan_if_lost`) is exported too
    if half_storage:
        for parameter in model.parameters():
            parameter.data = parameter.data.half().float()

    graphs = _trace(model)
    states = [value.name for value in graphs["encode"].graph.output]
    contents = {}
    for graph_name, graph in graphs.items():
        _strip(graph)
        _cubic_resize_as_convolution(graph)
        if half_storage:
            _store_as_float16(graph)
        facts = {
            **header,
            "parameters": sum(p.numel() for p in model.parameters()),
            "model": model.name,
            "options": model.options,
            "graph": graph_name,
            "scale": model.scale,
            "lr_size": model.lr_size,
            "explains": model.explains,
            "states": states,
        }
        entry = graph.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, json.dumps(facts, sort_keys=True)
        name = f"{stem.name}.{graph_name}.onnx"
        contents[name] = graph.SerializeToString(deterministic=True)
    with tempfile.TemporaryDirectory() as draft:  # graphs that are not usable replace none
        for name, content in contents.items():
            (Path(draft) / name).write_bytes(content)
        parity = _check_parity(model, Path(draft) / stem.name)
    for name, content in contents.items():
        with written_whole(stem.parent / name) as temporary:
            temporary.write_bytes(content)
    sizes = {graph: len(contents[f"{stem.name}.{graph}.onnx"]) for graph in graphs}
    return {"parity": parity, "bytes": sizes}


def check_stem(stem: str | Path) -> Path:
    """A path to which ``.encode.onnx`` and ``.upscale.onnx`` can be put.

    Raises
    ------
    FsrstError
        If it is a folder, or as a string ends like one, or has the suffix of a file.
    """
    path = Path(stem)
    if path.is_dir() or str(stem).endswith(("/", os.sep)):
        raise FsrstError(
            f"cannot write {stem}: it is a folder; name a STEM in it, such as"
            f" {path / 'fsrst-small'}"
        )
    if path.suffix in FILE_SUFFIXES:
        name = path.stem
        for graph in (".encode", ".upscale", ".int8"):
            name = name.removesuffix(graph)
        raise FsrstError(
            f"cannot write {stem}: a STEM was expected, to which .encode.onnx and .upscale.onnx are"
            f" put; name it without the suffix: {path.with_name(name)}"
        )
    return path


def _need_exporter() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise FsrstError(
            f"exporting needs {error.name}; install it with: pip install 'fsrst[export]'"
        ) from error


def _trace(model: "ReferenceSR") -> "dict[str, onnx.ModelProto]":
    """Both graphs as torch's exporter writes them."""
    import torch
    from torch import Tensor, nn

    class Encode(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, refs: Tensor, present: Tensor) -> tuple[Tensor, ...]:
            # a state that is an input would make a graph without a computed output
            return tuple(t + 0 if t is present else t for t in self.model.encode(refs, present))

    class Upscale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, lr: Tensor, *state: Tensor) -> Tensor | tuple[Tensor, Tensor]:
            if self.model.explains:
                return self.model.upscale_explained(lr, state)
            return self.model.upscale(lr, state)

    h, w = (model.lr_size, model.lr_size) if model.lr_size else ANY_SIZE_EXAMPLE
    s = model.scale
    batch, count = torch.export.Dim("batch"), torch.export.Dim("references")
    side = {}  # axis -> free length of the input; the references' is s times that
    if model.lr_size is None:
        side = {-2: torch.export.Dim("height", min=4), -1: torch.export.Dim("width", min=4)}

    def free(tensor: Tensor, *, references: bool = False) -> dict[int, Any]:
        found = {0: batch, 1: count} if references else {0: batch}
        for axis, dim in side.items() if tensor.ndim >= 4 else ():
            length = h if axis == -2 else w
            times = tensor.shape[axis] // length
            if tensor.shape[axis] == times * length:  # others have a fixed size
                found[tensor.ndim + axis] = dim if times == 1 else times * dim
        return found

    refs, present = torch.rand(2, 3, 3, s * h, s * w), torch.ones(2, 3)
    lr = torch.rand(2, 3, h, w)
    with torch.no_grad():
        state = model.encode(refs, present)
    names = [f"state_{i}" for i in range(len(state))]
    encode = _to_onnx(
        Encode().eval(),
        (refs, present),
        ["refs", "present"],
        names,
        (free(refs, references=True), free(present, references=True)),
    )
    upscale = _to_onnx(
        Upscale().eval(),
        (lr, *state),
        ["lr", *names],
        ["sr", "shares"] if model.explains else ["sr"],
        (free(lr), tuple(free(t, references=True) for t in state)),
    )
    return {"encode": encode, "upscale": upscale}


def _to_onnx(
    module: Any, inputs: tuple[Any, ...], names: list[str], outputs: list[str], dims: Any
) -> "onnx.ModelProto":
    import onnx_ir.passes.common as passes
    import onnxscript.optimizer
    import torch

    # "torchvision is not installed": true, and meant; and how sizes were reasoned about
    loggers = [logging.getLogger(f"torch.{name}") for name in ("onnx", "utils._sympy.interp")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=names,
                output_names=outputs,
                dynamic_shapes=dims,
                optimize=False,  # its rules take + 1e-9 (eq. 9) for + 0 and drop it: 0/0
                verbose=False,
            )
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    assert program is not None
    onnxscript.optimizer.fold_constants(program.model)
    for tidy in (
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
    ):
        tidy(program.model)
    proto: onnx.ModelProto = program.model_proto
    return proto


# --- what is done to the graphs ---------------------------------------------------------------


def _strip(model: "onnx.ModelProto") -> None:
    """Drop the exporter's notes: stack traces with this machine's paths, a tenth of the file."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.input):
        part.doc_string = ""
        del part.metadata_props[:]
    for value in model.graph.output:
        value.doc_string = ""
        del value.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""


def cubic_kernel(scale: int) -> NDArray[np.float32]:
    """The framework's bicubic enlargement (a = -0.75) as a convolution -> (3*s*s, 3, 5, 5).

    Output channel c*s*s + i*s + j holds pixel (i, j) of the s x s block that each input pixel
    becomes: a depth-to-space puts them in place. The input is to be padded by 2 edge pixels.
    """
    a = -0.75
    taps = np.zeros((scale, 5))  # row i: weights of the input pixels at -2 .. 2
    for i in range(scale):
        position = (i + 0.5) / scale - 0.5
        for tap in range(-2, 3):
            x = abs(position - tap)
            if x <= 1:
                taps[i, tap + 2] = (a + 2) * x**3 - (a + 3) * x**2 + 1
            elif x < 2:
                taps[i, tap + 2] = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    block = np.einsum("iy,jx->ijyx", taps, taps).reshape(scale * scale, 5, 5)
    kernel = np.zeros((3, scale * scale, 3, 5, 5), dtype=np.float32)
    for channel in range(3):
        kernel[channel, :, channel] = block
    return kernel.reshape(3 * scale * scale, 3, 5, 5)


def _cubic_resize_as_convolution(model: "onnx.ModelProto") -> None:
    """Replace each bicubic Resize of an RGB picture in [0, 1] by a convolution and depth-to-space.

    The same numbers to 1e-6. Runtimes walk a cubic Resize pixel by pixel: 2.4 ms in onnxruntime,
    1 ms in OpenVINO, as long as a third of a frame of FSRST-small.

    The picture is split into 7 bits and the rest, the kernel into its upper 8 bits and the rest, so
    that the product is exact in bfloat16 too (8 bits): rounding the picture itself would cost half
    a grey level. The clip to [-1, 2] changes nothing (a bicubic value stays within), but the
    convolution it is fused with then writes float32.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {init.name: init for init in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type != "Resize" or attributes.get("mode") != b"cubic":
            nodes.append(node)
            continue
        scales = numpy_helper.to_array(constants[node.input[2]])
        scale = int(scales[-1])
        assert list(scales) == [1, 1, scale, scale], scales
        assert attributes["coordinate_transformation_mode"] != b"align_corners"
        kernel = cubic_kernel(scale)
        upper = (kernel.view(np.uint32) & 0xFFFF0000).view(np.float32)  # bfloat16, cut off
        picture, result = node.input[0], node.output[0]
        name = f"{SKIP_NAME}/{result}"

        def add(op: str, inputs: list[str], output: str, name: str = name, **options: Any) -> str:
            output = f"{name}/{output}"
            nodes.append(helper.make_node(op, inputs, [output], name=output, **options))
            return output

        def constant(key: str, value: Any, name: str = name) -> str:
            graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"{name}/{key}"))
            return f"{name}/{key}"

        steps = constant("steps", np.float32(128))
        rounded = add("Round", [add("Mul", [picture, steps], "scaled")], "rounded")
        high = add("Div", [rounded, steps], "high")
        low = add("Sub", [picture, high], "low")
        parts = add("Concat", [high, low, high, low], "parts", axis=1)
        pads = constant("pads", np.array([0, 0, 2, 2, 0, 0, 2, 2]))
        padded = add("Pad", [parts, pads], "padded", mode="edge")
        rest = kernel - upper
        weights = constant("kernel", np.concatenate((upper, upper, rest, rest), axis=1))
        blocks = add("Conv", [padded, weights], "blocks")
        bounds = [constant("low_bound", np.float32(-1)), constant("high_bound", np.float32(2))]
        bounded = add("Clip", [blocks, *bounds], "bounded")
        nodes.append(
            helper.make_node(
                "DepthToSpace", [bounded], [result], name=name, blocksize=scale, mode="CRD"
            )
        )
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(graph)


def _drop_unused(graph: "onnx.GraphProto") -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [init for init in graph.initializer if init.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _store_as_float16(model: "onnx.ModelProto") -> None:
    """Store every float32 constant that float16 holds exactly as float16 behind a Cast.

    After rounding the weights these are the weights; the cubic kernel and the like stay float32.
    """
    import onnx
    from onnx import helper, numpy_helper

    graph = model.graph
    casts = []
    for index, init in enumerate(graph.initializer):
        if init.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(init)
        with np.errstate(over="ignore"):  # such a one is not held exactly
            half = values.astype(np.float16)
        if values.size < 2 or not np.array_equal(half.astype(np.float32), values):
            continue
        casts.append(
            helper.make_node("Cast", [f"{init.name}_f16"], [init.name], to=onnx.TensorProto.FLOAT)
        )
        graph.initializer[index].CopyFrom(numpy_helper.from_array(half, f"{init.name}_f16"))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _check_parity(model: "ReferenceSR", stem: Path) -> dict[str, float]:
    """Largest difference between torch and onnxruntime for several batches and counts: of noise, of
    references that show the input in another light (``-lit``), and of black and white (``-plain``).

    For networks that choose, the difference that all but 2 % of the values stay under.
    """
    import torch

    from fsrst.runtime.onnx_backend import OnnxBackend

    backend = OnnxBackend(stem, threads=1)
    generator = torch.Generator().manual_seed(13)
    h, w = (model.lr_size, model.lr_size) if model.lr_size else ANY_SIZE_EXAMPLE
    s = model.scale
    differences = {}
    for batch, count, kind in (
        (1, 0, ""), (1, 1, ""), (1, 3, ""), (3, 2, ""), (2, 2, "-lit"), (2, 2, "-plain")
    ):  # fmt: skip
        lr = torch.rand(batch, 3, h, w, generator=generator)
        refs = torch.rand(batch, max(count, 1), 3, s * h, s * w, generator=generator)
        if kind == "-plain":  # where sums of products are largest
            lr = torch.zeros_like(lr)
            lr[..., w // 2 :] = 1
            refs = torch.stack([torch.ones_like(refs[:, 0]), refs[:, 0].round()], dim=1)
        if kind == "-lit":
            scene = torch.rand(batch, 3, 6, 5, generator=generator)
            scene = torch.nn.functional.interpolate(scene, (s * h, s * w), mode="bilinear")
            lr = torch.nn.functional.avg_pool2d(scene, s)
            refs = torch.stack([scene * 0.6, scene * 0.8 + 0.1], dim=1)
        present = torch.full((batch, max(count, 1)), float(count > 0))
        with torch.no_grad():
            wanted = model(lr, refs, present).numpy()
        state = backend.encode(refs.numpy(), present.numpy())
        found = backend.upscale(lr.numpy(), *state)
        kept = 1 - CHOSEN_OTHERWISE if model.chooses else 1.0
        difference = float(np.quantile(np.abs(found - wanted), kept))
        differences[f"{batch}x{count}{kind}"] = difference
        if not difference <= TOLERANCE:
            raise FsrstError(
                f"{model.name}: torch and onnxruntime differ by {difference:.4g} for batch {batch}"
                f" and {count} references{kind and f' ({kind[1:]})'} (allowed:"
                f" {TOLERANCE:.4g}); nothing was written"
            )
    return differences
