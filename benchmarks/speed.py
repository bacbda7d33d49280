"""Milliseconds per frame and from a cold start, every backend beside plain eager torch.

    python benchmarks/speed.py --output benchmarks/results/speed.json
    python benchmarks/speed.py --smoke

The reference point is written here in full: eager torch in float32, one reference after the other,
their features computed anew for every frame. Both sides take and give float32 arrays; the time of a
whole call (uint8 in, uint8 out) is measured as well. The weights are the shipped ones.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measure import finish, origin, spread, take_turns, target
from torch import Tensor

from fsrst.data.synthetic import draw_face
from fsrst.evaluate.metrics import psnr
from fsrst.image import Pixels, resize_bicubic, to_planes, to_uint8
from fsrst.models.aggregation import aggregate
from fsrst.models.fsrst import FSRST
from fsrst.models.weights import load_weights
from fsrst.runtime.cores import physical_cores
from fsrst.runtime.int8 import quantize_int8
from fsrst.runtime.model_files import WEIGHTS
from fsrst.runtime.upscaler import Upscaler, open_upscaler

MODELS = {"fsrst": "fsrst-photo", "fsrst-small": "fsrst-small-photo"}
SIDES = [
    ("torch", "f32"),
    ("onnxruntime", "f32"),
    ("openvino", "f32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
]
ANY_SIZE = ("fsrst2", "fsrst2-small")  # their times are in sizes.py
SPEEDUPS = {"onnxruntime f32": 2, "openvino bf16": 5, "openvino int8": 7}
REFERENCES = 3
COLD_START = """
import sys
import numpy as np
from fsrst.image import read_image, write_image
from fsrst.runtime.upscaler import open_upscaler
model, backend, precision, lr, ref, out = sys.argv[1:]
upscaler = open_upscaler(model, backend, precision=precision)
upscaler.set_references([read_image(ref)])
write_image(out, upscaler(read_image(lr)))
"""


class Naive:
    """The reference point: what one writes first. No batching, nothing kept between frames."""

    def __init__(self, model: FSRST) -> None:
        self.model = model.eval()

    @torch.no_grad()
    def __call__(self, lr: Tensor, refs: Tensor) -> Tensor:
        """lr (1, 3, 32, 32), refs (1, N, 3, 128, 128) -> (1, 3, 128, 128)."""
        features_lr = self.model.extractor_lr(lr)
        aligned = []
        for i in range(refs.shape[1]):
            features_ref, _ = self.model.encode(refs[:, i : i + 1])
            aligned.append(self.model.alignment(features_lr, features_ref))
        fused = aggregate(features_lr, torch.cat(aligned, dim=1), torch.ones(1, refs.shape[1]))
        skip = F.interpolate(lr, scale_factor=self.model.scale, mode="bicubic")
        return skip.clamp(0, 1) + self.model.constructor(fused)


def frames(count: int) -> list[tuple[Pixels, list[Pixels], Pixels]]:
    """(input, references, truth) of drawn faces."""
    found = []
    for identity in range(count):
        truth = draw_face(identity, 0, 128)
        refs = [draw_face(identity, view, 128) for view in range(1, 1 + REFERENCES)]
        found.append((resize_bicubic(truth, 32, 32), refs, truth))
    return found


def prepare(shipped: Path, folder: Path) -> Path:
    """Stem of a shipped model's files; of copies in ``folder``, and an int8 graph calibrated on
    drawn faces beside them, where none is shipped."""
    if Path(f"{shipped}.int8.xml").is_file():
        return shipped
    stem = folder / shipped.name
    for suffix in (".safetensors", ".encode.onnx", ".upscale.onnx"):
        shutil.copyfile(f"{shipped}{suffix}", f"{stem}{suffix}")
    quantize_int8(stem, [(lr, refs) for lr, refs, _ in frames(16)])
    return stem


def open_side(stem: Path, backend: str, precision: str, threads: int) -> Upscaler:
    path = f"{stem}.safetensors" if backend == "torch" else f"{stem}.upscale.onnx"
    return open_upscaler(path, backend, precision=precision, threads=threads)


def per_frame(stem: Path, threads: int, rounds: int, calls: int) -> dict[str, Any]:
    """Times of the frame graph on all sides, of whole calls, and speed-ups over the naive side."""
    torch.set_num_threads(threads)
    lr, references, _ = frames(1)[0]
    model, _ = load_weights(f"{stem}.safetensors")
    assert isinstance(model, FSRST)
    naive = Naive(model)
    lr_tensor = torch.from_numpy(to_planes(lr)[None])
    refs_tensor = torch.from_numpy(np.stack([to_planes(ref) for ref in references])[None])
    graph: dict[str, Callable[[], object]] = {"naive": lambda: naive(lr_tensor, refs_tensor)}
    whole: dict[str, Callable[[], object]] = {}
    for backend, precision in SIDES:
        upscaler = open_side(stem, backend, precision, threads)
        upscaler.set_references(references)
        name = f"{backend} {upscaler.precision}"  # as it runs, not as it was asked for
        graph[name] = upscaler.frame_call(lr)
        whole[name] = lambda upscaler=upscaler: upscaler(lr)
    times = take_turns(graph, rounds=rounds, calls=calls, warm_up=max(2, calls // 4))
    base = times["naive"]["median_ms"]
    return {
        "graph": times,
        "whole_call": take_turns(whole, rounds=rounds, calls=calls, warm_up=max(2, calls // 4)),
        "speedup": {name: round(base / t["median_ms"], 3) for name, t in times.items()},
        "frames_per_s": {name: round(1000 / t["median_ms"], 1) for name, t in times.items()},
    }


def agreement(stem: Path, count: int, sides: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Largest difference from eager torch [grey levels] and PSNR loss [dB] of every backend."""
    model, _ = load_weights(f"{stem}.safetensors")
    samples = frames(count)
    wanted = []
    for lr, refs, _ in samples:
        planes = torch.from_numpy(np.stack([to_planes(ref) for ref in refs])[None])
        with torch.no_grad():
            sr = model(torch.from_numpy(to_planes(lr)[None]), planes)[0].numpy()
        wanted.append(to_uint8(sr.transpose(1, 2, 0)))
    found: dict[str, Any] = {}
    for backend, precision in sides:
        upscaler = open_side(stem, backend, precision, 1)
        largest, losses = 0, []
        for (lr, refs, truth), exact in zip(samples, wanted, strict=True):
            upscaler.set_references(refs)
            sr = upscaler(lr)
            largest = max(largest, int(np.abs(sr.astype(int) - exact).max()))
            losses.append(float(psnr(exact, truth)) - float(psnr(sr, truth)))
        found[f"{backend} {upscaler.precision}"] = {
            "largest_difference_levels": largest,
            "psnr_loss_db": round(float(np.mean(losses)), 5),
        }
    return found


def cold_start(stem: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """Wall time from starting Python to the written picture: with the model ``stem`` on every
    backend, and of ``fsrst upscale`` as it is and of each picture once; and of ``fsrst --help``."""
    from PIL import Image

    lr, references, _ = frames(1)[0]
    Image.fromarray(lr).save(folder / "lr.png")
    Image.fromarray(references[0]).save(folder / "ref.png")
    places = [str(folder / name) for name in ("lr.png", "ref.png", "out.png")]
    commands = {"fsrst --help": [sys.executable, "-m", "fsrst", "--help"]}
    for backend, precision in SIDES[1:]:
        arguments = [f"{stem}.upscale.onnx", backend, precision, *places]
        commands[f"{backend} {precision}"] = [sys.executable, "-c", COLD_START, *arguments]
    for name in ("fsrst upscale", "fsrst upscale --no-self-ensemble"):
        options = [places[0], "--ref", places[1], "-o", places[2]]
        commands[name] = [sys.executable, "-m", *name.split(), *options]
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(repeats + 1):  # the first one fills the file cache
        for name, command in commands.items():
            begin = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
            if turn:
                times[name].append((time.perf_counter() - begin) * 1000)
    return {name: spread(values) for name, values in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--calls", type=int, default=40, help="timed calls of a side in a round")
    parser.add_argument("--smoke", action="store_true", help="a few calls: does it run at all")
    options = parser.parse_args()
    rounds, calls, repeats, count = options.rounds, options.calls, 7, 24
    if options.smoke:
        rounds, calls, repeats, count = 1, 3, 1, 2

    result = origin(options.threads, options.smoke) | {"references": REFERENCES, "models": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in MODELS:
            stem = prepare(WEIGHTS / MODELS[model], folder)
            result["models"][model] = {
                "weights": stem.name,
                **per_frame(stem, options.threads, rounds, calls),
                "agreement": agreement(stem, count, SIDES),
            }
            for side, times in result["models"][model]["graph"].items():
                faster = result["models"][model]["speedup"][side]
                print(f"{model:12} {side:16} {times['median_ms']:8.2f} ms  {faster:6.2f}x")
            if model == "fsrst-small":
                result["cold_start"] = cold_start(stem, folder, repeats)

        result["agreement"] = {m: agreement(WEIGHTS / m, count, SIDES) for m in ANY_SIZE}

    return finish(result | {"targets": targets(result)}, options.output)


def targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    full, small = result["models"]["fsrst"], result["models"]["fsrst-small"]
    lines = [
        target(f"FSRST frame, {side}, times faster than naive torch", full["speedup"][side], bound)
        for side, bound in SPEEDUPS.items()
        if side in full["speedup"]
    ]
    lines.append(
        target("FSRST-small, frames/s, best backend", max(small["frames_per_s"].values()), 250)
    )
    agreeing = {model: figures["agreement"] for model, figures in result["models"].items()}
    for model, figures in {**agreeing, **result["agreement"]}.items():
        for side, figure in figures.items():
            if side.endswith("f32"):
                what = f"{model}, {side}, difference to torch [grey levels]"
                lines.append(target(what, figure["largest_difference_levels"], 1, at_most=True))
            else:
                bound = 0.02 if side.endswith("bf16") else 0.05
                what = f"{model}, {side}, PSNR loss [dB]"
                lines.append(target(what, figure["psnr_loss_db"], bound, at_most=True))
    for command, bound in (("fsrst --help", 300), ("fsrst upscale", 1000)):
        reached = result["cold_start"][command]["median_ms"]
        lines.append(target(f"{command} from a cold start [ms]", reached, bound, at_most=True))
    return lines


if __name__ == "__main__":
    sys.exit(main())
