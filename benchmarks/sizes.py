"""Speed and memory of FSRST2 against the size of the input and the number of references.

    python benchmarks/sizes.py --output benchmarks/results/sizes.json

References are encoded before. Times are of the frame graph alone, float32 in and out, random
pictures: the time does not depend on what they show. Memory is the peak of a process of its own.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from measure import finish, origin, take_turns, target
from numpy.typing import NDArray

from fsrst.runtime.cores import physical_cores
from fsrst.runtime.model_files import WEIGHTS
from fsrst.runtime.upscaler import open_upscaler

MODELS = ("fsrst2", "fsrst2-small")
SIDES = (32, 64, 128)
COUNTS = (1, 3, 5)
PRECISIONS = ("bf16", "int8", "f32")
FRAMES_PER_S = {("fsrst2", 32): 60, ("fsrst2-small", 32): 200, ("fsrst2", 128): 10}
FRAMES_PER_S[("fsrst2-small", 128)] = 25
MEMORY_SIDES = (128, 256)
MEMORY = """
import sys
import numpy as np
from measure import peak_rss_gb
from fsrst.runtime.upscaler import open_upscaler
model, side, precision = sys.argv[1], int(sys.argv[2]), sys.argv[3]
upscaler = open_upscaler(model, "openvino", precision=precision)
random = lambda side: np.random.default_rng(13).integers(0, 256, (side, side, 3), np.uint8)
upscaler.set_references([random(4 * side)] * 3)
upscaler(random(side))
print(peak_rss_gb())
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--smoke", action="store_true", help="one round, small sizes")
    arguments = parser.parse_args()
    if open_upscaler(MODELS[0], "openvino", precision="bf16").precision != "bf16":
        print("this processor cannot compute in bf16: it would be float32 under that name")
        if not arguments.smoke:
            return 2
    sides, counts = (SIDES[:2], COUNTS[:1]) if arguments.smoke else (SIDES, COUNTS)
    result: dict[str, Any] = {
        **origin(arguments.threads, arguments.smoke),
        "frames": {},
        "yardstick": {},
    }
    # what speed.py measures too, in turns with all else: how fast the machine is just now
    yardstick = frame("fsrst-photo", "bf16", 32, 3, arguments.threads)
    for side in sides:
        for count in counts:
            runs = {"yardstick": yardstick}
            for model in MODELS:
                for precision in PRECISIONS:
                    runs[f"{model} {precision}"] = frame(
                        model, precision, side, count, arguments.threads
                    )
            calls = 2 if arguments.smoke else max(3, 30 * 1024 // side**2)
            times = take_turns(runs, rounds=1 if arguments.smoke else 4, calls=calls, warm_up=10)
            result["yardstick"][f"{side}x{count}"] = times.pop("yardstick")
            result["frames"][f"{side}x{count}"] = times
            print(side, count, {k: v["median_ms"] for k, v in times.items()}, flush=True)
    result["peak_memory_gb"] = {
        f"{model} {precision} {side}": peak_memory(model, side, precision)
        for side in (() if arguments.smoke else MEMORY_SIDES)
        for model in MODELS
        for precision in PRECISIONS
    }
    result["targets"] = targets(result)
    return finish(result, arguments.output)


def frame(model: str, precision: str, side: int, count: int, threads: int) -> Any:
    """A call that computes one frame of ``side`` px with ``count`` references."""
    upscaler = open_upscaler(model, "openvino", precision=precision, threads=threads)
    generator = np.random.default_rng(13)

    def random(side: int) -> NDArray[np.uint8]:
        return generator.integers(0, 256, (side, side, 3), np.uint8)

    upscaler.set_references([random(upscaler.scale * side) for _ in range(count)])
    return upscaler.frame_call(random(side))


def peak_memory(model: str, side: int, precision: str) -> float:
    """Largest resident memory [GB] of a process that makes one frame with three references."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, model, str(side), precision],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return round(float(done.stdout), 3)


def targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    lines = []
    for (model, side), bound in FRAMES_PER_S.items():
        times = result["frames"].get(f"{side}x3")
        for precision in PRECISIONS[:2] if times else ():
            rate = 1000 / times[f"{model} {precision}"]["median_ms"]
            what = f"{model}, {side} -> {4 * side}, {precision}, 3 references [frames/s]"
            lines.append(target(what, rate, bound))
    for name, peak in result["peak_memory_gb"].items():
        lines.append(target(f"peak memory, {name} px [GB]", peak, 2, at_most=True))
    return lines


if __name__ == "__main__":
    if not (WEIGHTS / "fsrst2.upscale.onnx").is_file():
        sys.exit(json.dumps({"error": "fsrst2 is not shipped with this copy"}))
    sys.exit(main())
