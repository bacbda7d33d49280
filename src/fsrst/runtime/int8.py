"""The frame graph in 8-bit integers for OpenVINO: post-training quantisation with NNCF.

The convolutions become int8, nearly all of the work, and nothing else does: sums, so that the
rounding of twenty blocks does not add up, and all that weighs, compares and decides positions. Of
the convolutions stay as they are the bicubic skip and the last one, which carry the picture, and
those of at most three channels, which cost nothing: they take pictures in or spread costs.
"""

import contextlib
import io
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fsrst.errors import FsrstError
from fsrst.files import written_whole
from fsrst.image import Pixels, crop_to, to_planes
from fsrst.runtime.export import SKIP_NAME
from fsrst.runtime.header import METADATA_KEY
from fsrst.runtime.onnx_backend import OnnxBackend
from fsrst.runtime.openvino_backend import OpenVinoBackend

FEW_CHANNELS = 3
CalibrationSample = tuple[Pixels, Sequence[Pixels]]  # input (h, w, 3), references of any size


def quantize_int8(stem: Path, samples: Sequence[CalibrationSample]) -> dict[str, Any]:
    """Write ``stem.int8.xml`` and ``stem.int8.bin`` from ``stem.upscale.onnx``.

    ``samples`` are about a hundred training inputs with their references: they set the ranges of
    the activations. The result keeps the names of inputs and outputs and the metadata.

    Returns ``{"samples": .., "bytes": .., "rms": ..}``; ``rms`` is the root mean square difference
    from float32 over the first 16 samples, in grey levels.

    Raises
    ------
    FsrstError
        If the extra ``int8`` is missing, the graphs are, or a sample has the wrong size.
    """
    os.environ.setdefault("NNCF_CI", "1")  # or NNCF reports its use to its makers
    try:
        import nncf
        import openvino
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    except ImportError as error:
        raise FsrstError(
            f"int8 needs {error.name}; install it with: pip install 'fsrst[int8]'"
        ) from error
    stem = Path(stem)
    if not samples:
        raise FsrstError(
            "int8 needs calibration samples, got none; name a data set with a train split"
        )
    float32 = OnnxBackend(stem, threads=1)
    feeds = [_feed(float32, lr, references) for lr, references in samples]
    model = openvino.Core().read_model(stem.parent / f"{stem.name}.upscale.onnx")
    with _quiet():
        quantized = nncf.quantize(
            model,
            nncf.Dataset(feeds),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(feeds),
            fast_bias_correction=True,
            ignored_scope=_ignored(model),
            # true extremes: NNCF's mean of extremes cuts values off and costs ten times the PSNR
            advanced_parameters=AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
            ),
        )
    quantized.set_rt_info(json.dumps(float32.info, sort_keys=True), METADATA_KEY)
    size = _save(quantized, stem)
    fast = OpenVinoBackend(stem, precision="int8", threads=1)
    errors = [
        np.mean((fast.upscale(*feed.values()) - float32.upscale(*feed.values())) ** 2)
        for feed in feeds[:16]
    ]
    rms = 255 * float(np.sqrt(np.mean(errors)))
    return {"samples": len(samples), "bytes": size, "rms": rms}


def _feed(backend: OnnxBackend, lr: Pixels, references: Sequence[Pixels]) -> dict[str, Any]:
    """The inputs of one frame: lr and the encoded references, batch 1."""
    side, scale = backend.info["lr_size"], backend.info["scale"]
    height, width = lr.shape[:2]
    if side is not None and (height, width) != (side, side):
        raise FsrstError(f"a calibration input is {width}x{height}, the model takes {side}x{side}")
    planes = [to_planes(crop_to(r, scale * width, scale * height)) for r in references]
    if planes:
        refs = np.stack(planes)[None]
    else:
        refs = np.zeros((1, 1, 3, scale * height, scale * width), dtype=np.float32)
    present = np.full(refs.shape[:2], float(bool(planes)), dtype=np.float32)
    state = backend.encode(refs, present)
    return {"lr": to_planes(lr)[None]} | {f"state_{i}": array for i, array in enumerate(state)}


def _ignored(model: Any) -> Any:
    """The nodes that are not quantised (see the head of this file)."""
    import nncf

    nodes = model.get_ordered_ops()
    channels = {  # that a convolution reads, by its name
        node.get_friendly_name(): node.inputs()[1].get_partial_shape()[1].get_length()
        for node in nodes
        if node.get_type_name() == "Convolution"
    }
    skip = [name for name in channels if name.startswith(SKIP_NAME)]
    few = [name for name, count in channels.items() if count <= FEW_CHANNELS]
    last = [name for name in channels if name not in skip][-1]
    return nncf.IgnoredScope(
        names=sorted({*skip, *few, last}),
        types=sorted({node.get_type_name() for node in nodes} - {"Convolution"}),
        validate=False,  # NNCF does not see all of them: constants, for one
    )


def _save(model: Any, stem: Path) -> int:
    """Write both files of the IR, the description last: without it the weights are not found."""
    import openvino

    description = stem.parent / f"{stem.name}.int8.xml"
    weights = stem.parent / f"{stem.name}.int8.bin"
    with written_whole(description) as temporary:
        try:
            openvino.save_model(model, temporary, compress_to_fp16=True)
            temporary.with_suffix(".bin").replace(weights)
        finally:
            temporary.with_suffix(".bin").unlink(missing_ok=True)
    return description.stat().st_size + weights.stat().st_size


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep NNCF's notes and progress bars off the terminal."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
