"""What a trained model costs: parameters, multiply-accumulates, milliseconds, memory.

Convention: one 32x32 -> 128x128 frame (16x16 at 8x) whose references were encoded before, as many
as the model uses; ``encode`` is what setting them costs once. Times are of whole calls, uint8 in
and uint8 out; all models take turns in one run (benchmarks/measure.py).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from budget import RECIPES, origin
from measure import take_turns
from protocol import opened
from torch.utils.flop_counter import FlopCounterMode

from fsrst.files import write_json
from fsrst.models import ReferenceSR
from fsrst.models.weights import load_weights
from fsrst.train import WEIGHTS

COSTS = "costs"  # folder of results: a file for each model
SIDE = 32  # input of models that take any size [px]
ROUNDS, CALLS = 3, 5

# A fresh process: its memory before the model, then the peak until a frame is done [kB].
MEMORY = """
import importlib, json, sys
from pathlib import Path
import numpy as np
from fsrst.runtime.upscaler import open_upscaler
model, backend, threads, references, side = sys.argv[1:]
importlib.import_module("torch" if backend == "torch" else "onnxruntime")
def status(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
before = status("VmRSS")
upscaler = open_upscaler(model, backend, threads=int(threads))
rng = np.random.default_rng(1)
high = int(side) * upscaler.scale
refs = [rng.integers(0, 255, (high, high, 3), dtype=np.uint8) for _ in range(int(references))]
upscaler.set_references(refs)
upscaler(rng.integers(0, 255, (int(side), int(side), 3), dtype=np.uint8))
print(json.dumps({"process_mb": status("VmHWM") / 1e3, "mb": (status("VmHWM") - before) / 1e3}))
"""


def costs_of(
    results: Path, runs: dict[str, Path], threads: int, *, again: bool = False, smoke: bool = False
) -> dict[str, Any]:
    """Measure the models of ``runs`` (name -> run folder) that have no file under
    ``<results>/costs`` yet, all of them ``again`` if asked; return what is known of all. What a
    ``smoke`` run measured is not known, and the other way round."""
    known = costs_in(results, smoke)
    missing = {model: run for model, run in runs.items() if again or model not in known}
    if missing:
        print(f"measuring the costs of {', '.join(missing)}", flush=True)
        about = origin(threads, smoke)
        times = times_of(missing, threads, smoke=smoke)
        for model, run in missing.items():
            found = {**facts_of(run, model, threads), "call": times[model], "origin": about}
            write_json(results / COSTS / f"{model}.json", found)
    return costs_in(results, smoke)


def costs_in(results: Path, smoke: bool) -> dict[str, Any]:
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((results / COSTS).glob("*.json"))
    }
    return {model: cost for model, cost in found.items() if cost["origin"]["smoke"] == smoke}


def times_of(runs: dict[str, Path], threads: int, *, smoke: bool) -> dict[str, dict[str, float]]:
    """Median and quartiles of a whole call [ms], all models in turns."""
    rng = np.random.default_rng(1)
    sides = {}
    for model, run in runs.items():
        upscaler = opened(run, threads)
        side = upscaler.lr_size or SIDE
        high = side * upscaler.scale
        shape = (RECIPES[model].references, high, high, 3)
        upscaler.set_references(list(rng.integers(0, 255, shape, dtype=np.uint8)))
        lr = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
        sides[model] = lambda upscaler=upscaler, lr=lr: upscaler(lr)
    rounds, calls = (1, 1) if smoke else (ROUNDS, CALLS)
    torch.set_num_threads(threads)
    return take_turns(sides, rounds=rounds, calls=calls, warm_up=1)


def facts_of(run: Path, model: str, threads: int) -> dict[str, Any]:
    """Parameters, multiply-accumulates, memory and backend of a trained model."""
    network, _ = load_weights(run / WEIGHTS)
    network = network.fuse().eval()
    references = RECIPES[model].references
    upscaler = opened(run, threads)
    memory = memory_of(upscaler.model, upscaler.backend, threads, references, network.lr_size)
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "references": references,
        "multiply_accumulates_g": multiply_accumulates(network, references),
        "memory": memory,
        "backend": upscaler.backend,
    }


@torch.no_grad()
def multiply_accumulates(network: ReferenceSR, references: int) -> dict[str, float]:
    """``encode`` (once per set of references) and ``frame``, in 10^9: convolutions and matrix
    products; element-wise work and sampling are not counted."""
    side = network.lr_size or SIDE
    high = side * network.scale
    count = max(1, references)  # none: one that is not there
    refs = torch.rand(1, count, 3, high, high)
    present = torch.full((1, count), float(references > 0))
    with FlopCounterMode(display=False) as encode:
        state = network.encode(refs, present)
    with FlopCounterMode(display=False) as frame:
        network.upscale(torch.rand(1, 3, side, side), state)
    return {name: c.get_total_flops() / 2e9 for name, c in (("encode", encode), ("frame", frame))}


def memory_of(
    model: str, backend: str, threads: int, references: int, side: int | None
) -> dict[str, float] | None:
    """Peak resident memory of a fresh process and what of it came with the model [MB]; Linux."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    words = [model, backend, threads, references, side or SIDE]
    command = [sys.executable, "-c", MEMORY, *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found
