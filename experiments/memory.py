"""Peak memory of a large frame, 128x128 -> 512x512, for every network that takes any size.

    python experiments/memory.py --output benchmarks/results/memory.json
    python experiments/memory.py --smoke

Dense matching compares 16,384 places of such a frame with as many of each reference; users of
TTSR's published code were asked for 88 GB. Memory does not depend on what a network has learned,
so the networks are untrained. Each runs alone in a fresh process, on the torch backend, with as
many references as in Table 1.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from budget import RECIPES
from costs import SIDE, memory_of
from measure import origin
from protocol import finished
from table1 import MODELS

from fsrst.evaluate.report import table
from fsrst.files import write_json
from fsrst.models import build
from fsrst.models.weights import save_weights

LARGE = 128  # side of the input [px]
THREADS = 1


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("--smoke", action="store_true", help="32 px, one small network")
    arguments = parser.parse_args(argv)
    if not (arguments.output or arguments.smoke):
        parser.error("--output is needed (or --smoke)")
    names = ["span"] if arguments.smoke else any_size()
    side = SIDE if arguments.smoke else LARGE
    result = {**origin(THREADS, arguments.smoke), "side": side, "models": {}}
    result["command"] = f"python experiments/memory.py --output {arguments.output}"
    for name in names:
        result["models"][name] = measured(name, side)
        print(name, result["models"][name], flush=True)
    if arguments.output:
        write_json(arguments.output, result)


def any_size() -> list[str]:
    """Those of Table 1's networks that take inputs of any size."""
    with torch.device("meta"):
        return [name for name in MODELS if build(name).lr_size is None]


def measured(name: str, side: int) -> dict[str, Any]:
    """References, and memory as ``memory_of`` tells it, of the untrained network ``name``."""
    references = RECIPES[name].references
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / f"{name}.safetensors"
        save_weights(weights, build(name))
        memory = memory_of(str(weights), "torch", THREADS, references, side)
    return {"references": references, "memory": memory}


def markdown(result: dict[str, Any]) -> str:
    """The table, made from the JSON alone."""
    side = result["side"]
    rows = [
        [
            name,
            str(found["references"]),
            f"{found['memory']['mb'] / 1e3:.2f}",
            f"{found['memory']['process_mb'] / 1e3:.2f}",
        ]
        for name, found in result["models"].items()
        if found["memory"]  # measured on Linux alone
    ]
    titles = ["network", "refs", "with the model [GB]", "whole process [GB]"]
    return (
        f"`{result['command']}`\n\nPeak memory of one frame, {side}x{side} ->"
        f" {4 * side}x{4 * side}, references encoded in the same process; untrained networks,"
        f" torch, float32, {result['threads']} thread(s); {result['date'][:10]}, commit"
        f" {result['commit']}.\n\n" + table(titles, rows)
    )


if __name__ == "__main__":
    sys.exit(finished(main))
