"""Training samples per second and peak memory: our loop beside the plain one.

    python benchmarks/training.py --output benchmarks/results/training.json
    python benchmarks/training.py --smoke

Ours: batch 16, bfloat16, channels_last, all references in one pass, gradient clipping and averaged
weights included; alone, and with four targets sharing a reference set (``targets_per_set: 4``). The
plain one: batch 8, float32, one reference after the other, nothing else. All train on tensors in
memory; the loader's own rate is measured beside them.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from measure import finish, origin, peak_rss_gb, take_turns, target
from torch import Tensor

from fsrst.data.synthetic import write_synthetic
from fsrst.models import build
from fsrst.models.aggregation import aggregate
from fsrst.models.fsrst import FSRST
from fsrst.models.interface import bicubic_skip
from fsrst.runtime.cores import physical_cores

REFERENCES = 3
OUR_BATCH, PLAIN_BATCH = 16, 8
SHARING = 4


def random_batch(size: int, sharing: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(13)

    def rand(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    return {
        "lr": rand(size, 3, 32, 32),
        "refs": rand(size // sharing, REFERENCES, 3, 128, 128),
        "present": torch.ones(size // sharing, REFERENCES),
        "hr": rand(size, 3, 128, 128),
    }


def our_step(sharing: int = 1) -> Callable[[], object]:
    """One step as ``fsrst train`` does it with the CPU recipe."""
    model = build("fsrst").to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    batch = random_batch(OUR_BATCH, sharing)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            sr = model(batch["lr"], batch["refs"], batch["present"])
        F.l1_loss(sr.float(), batch["hr"]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for ours, theirs in zip(averaged.parameters(), model.parameters(), strict=True):
                ours.lerp_(theirs, 1e-3)

    return step


def plain_step() -> Callable[[], object]:
    """The reference point: float32, references in a loop."""
    model = build("fsrst")
    assert isinstance(model, FSRST)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    batch = random_batch(PLAIN_BATCH)

    def step() -> None:
        features_lr = model.extractor_lr(batch["lr"])
        aligned = []
        for i in range(REFERENCES):
            features_ref, _ = model.encode(batch["refs"][:, i : i + 1])
            aligned.append(model.alignment(features_lr, features_ref))
        fused = aggregate(features_lr, torch.cat(aligned, dim=1), batch["present"])
        sr = bicubic_skip(batch["lr"], model.scale) + model.constructor(fused)
        loss = F.l1_loss(sr, batch["hr"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def loader_samples_per_s(batches: int) -> float:
    """Rate of the training loader alone [samples/s]: mirror images, each reference moved and relit;
    no damage, dropout, wrong person, quarter turns or motion shared by input and references."""
    import time

    from fsrst.data.augmentation import Augmentation
    from fsrst.data.dataset import TrainingSet, prefetched

    with tempfile.TemporaryDirectory() as folder:
        manifest = write_synthetic(
            Path(folder), identities=4, views=4, size=128, splits={"train": 4}
        )
        recipe = Augmentation(
            flip=True, refs_translate=0.02, refs_degrees=2, refs_zoom=0.02, refs_light=0.1
        )
        data = TrainingSet(
            [manifest],
            "train",
            scale=4,
            n_references=REFERENCES,
            augmentation=recipe,
            seed=13,
            holdout_identities=0,
        )
        spans = ((i * OUR_BATCH, OUR_BATCH) for i in range(batches + 1))
        loader = prefetched(data, spans)
        next(loader)
        begin = time.perf_counter()
        done = sum(len(batch["lr"]) for batch in loader)
        return done / (time.perf_counter() - begin)


def peak_memory_gb(steps: int, threads: int) -> float:
    """Peak resident memory of a fresh process that trains our way [GB]."""
    command = [sys.executable, __file__, "--memory-of", str(steps), "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["peak_gb"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=4, help="timed steps of a side in a round")
    parser.add_argument("--smoke", action="store_true", help="a step each: does it run at all")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(13)
    if options.memory_of:
        step = our_step()
        for _ in range(options.memory_of):
            step()
        print(json.dumps({"peak_gb": peak_rss_gb()}))
        return 0

    rounds, calls = (1, 1) if options.smoke else (options.rounds, options.calls)
    result: dict[str, Any] = origin(options.threads, options.smoke)
    sides = {"plain": plain_step(), "ours": our_step(), "ours, shared": our_step(SHARING)}
    times = take_turns(sides, rounds=rounds, calls=calls, warm_up=1)
    rate = {
        name: (PLAIN_BATCH if name == "plain" else OUR_BATCH) * 1000 / time["median_ms"]
        for name, time in times.items()
    }
    memory = peak_memory_gb(2 if options.smoke else 10, options.threads)
    result |= {
        "step": times,
        "samples_per_s": {name: round(value, 2) for name, value in rate.items()},
        "loader_samples_per_s": round(loader_samples_per_s(2 if options.smoke else 60), 1),
        "peak_memory_gb": round(memory, 3),
        "targets": [
            target(
                "training FSRST, times the plain loop's samples/s", rate["ours"] / rate["plain"], 3
            ),
            target(
                f"the same with {SHARING} targets to a reference set",
                rate["ours, shared"] / rate["plain"],
                3,
            ),
            target("peak memory at batch 16 [GB]", memory, 4, at_most=True),
        ],
    }
    print(json.dumps(result["samples_per_s"]), f"loader {result['loader_samples_per_s']} samples/s")
    return finish(result, options.output)


if __name__ == "__main__":
    sys.exit(main())
