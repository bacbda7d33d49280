"""What references are worth: scores against their number and in another light, and flicker.

    fsrst prepare video SOURCE data/call-seq --split val \\
        --targets 16 --target-step 1 --extra-references 5
    python experiments/references.py fsrst2 fsrst2-small fsrst-call --data data/call-seq

Samples of one clip must be neighbouring frames. Flicker: mean absolute change of the error
(result - truth) from one frame to the next [grey levels], so a film's own motion does not count.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from protocol import finished

from fsrst.data.degradation import degrade
from fsrst.data.manifest import Manifest, Sample, load_manifest, wrong_person
from fsrst.evaluate.metrics import psnr
from fsrst.files import write_text
from fsrst.image import Pixels, read_image, resize_bicubic
from fsrst.runtime.upscaler import open_upscaler

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from measure import origin

ROOT = Path(__file__).parents[1]
COUNTS = (0, 1, 2, 3, 5, 8)
LIGHTS = {  # what three references are multiplied with, in red, green and blue
    "95 %": (0.95, 0.95, 0.95),
    "90 %": (0.9, 0.9, 0.9),
    "80 %": (0.8, 0.8, 0.8),
    "60 %": (0.6, 0.6, 0.6),
    "warmer": (1.1, 1.0, 0.9),
}
THREADS = 1


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="shipped models, or exported files")
    parser.add_argument("--data", type=Path, required=True, help="prepared set of whole clips")
    parser.add_argument("--split", default="val")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/references.json")
    arguments = parser.parse_args(argv)
    manifest = load_manifest(arguments.data)
    clips = by_clip(manifest.split(arguments.split))
    result: dict[str, Any] = {
        **origin(THREADS, smoke=False),
        "data": f"{manifest.name} {arguments.split}",
        "data_hash": manifest.hash,
        "clips": len(clips),
        "frames": sum(map(len, clips.values())),
        "bicubic": run_bicubic(manifest, clips),
        "models": {},
    }
    for name in arguments.models:
        result["models"][name] = run_model(name, manifest, clips)
        print(name, json.dumps(result["models"][name]), flush=True)
    write_text(arguments.output, json.dumps(result, indent=2) + "\n")
    print(f"written: {arguments.output}")


def by_clip(samples: list[Sample]) -> dict[str, list[Sample]]:
    """Samples by the file they were cut from, in the order of its frames."""
    clips: dict[str, list[Sample]] = {}
    for sample in samples:
        clips.setdefault(sample.source.split(" frame ")[0], []).append(sample)
    for members in clips.values():
        members.sort(key=lambda s: int(re.findall(r"\d+", s.source)[-1]))
    return clips


def run_bicubic(manifest: Manifest, clips: dict[str, list[Sample]]) -> dict[str, Any]:
    runs = []
    for members in clips.values():
        truths = [read_image(manifest.root / sample.target) for sample in members]
        results = [
            resize_bicubic(degrade(truth, 4), truth.shape[1], truth.shape[0]) for truth in truths
        ]
        runs.append((results, truths))
    return summary(runs)


def run_model(name: str, manifest: Manifest, clips: dict[str, list[Sample]]) -> dict[str, Any]:
    upscaler = open_upscaler(name, "onnxruntime", threads=THREADS)
    everybody = [sample for members in clips.values() for sample in members]
    found: dict[str, Any] = {"parameters": upscaler.info["parameters"], "right": {}}
    pictures = {}
    for clip, members in clips.items():
        sample = members[0]
        other = wrong_person(everybody, sample)
        truths = [read_image(manifest.root / member.target) for member in members]
        right = [read_image(manifest.root / file) for file in sample.references]
        wrong = [read_image(manifest.root / file) for file in other.references]
        for count in COUNTS:
            if count <= len(right):
                upscaler.set_references(right[:count])
                results = upscaler.upscale_batch([degrade(t, upscaler.scale) for t in truths])
                pictures.setdefault(count, {})[clip] = (results, truths)
        others = {light: relit(right[:3], gains) for light, gains in LIGHTS.items()}
        for kind, references in {**others, "wrong": wrong[:3]}.items():
            upscaler.set_references(references)
            results = upscaler.upscale_batch([degrade(t, upscaler.scale) for t in truths])
            pictures.setdefault(kind, {})[clip] = (results, truths)
    complete = [count for count in COUNTS if len(pictures.get(count, {})) == len(clips)]
    for count in complete:
        found["right"][str(count)] = summary(list(pictures[count].values()))
    found["light"] = {light: summary(list(pictures[light].values())) for light in LIGHTS}
    found["wrong"] = summary(list(pictures["wrong"].values()))
    return found


def relit(references: list[Pixels], gains: tuple[float, ...]) -> list[Pixels]:
    """References as another exposure or white balance shows them."""
    return [(r * np.array(gains)).round().clip(0, 255).astype(np.uint8) for r in references]


def summary(runs: list[tuple[list[Pixels], list[Pixels]]]) -> dict[str, float]:
    """Means over all frames, and over all pairs of neighbours."""
    scores, flickers = [], []
    for results, truths in runs:
        scores += [psnr(result, truth) for result, truth in zip(results, truths, strict=True)]
        errors = [
            result.astype(np.float64) - truth for result, truth in zip(results, truths, strict=True)
        ]
        flickers += [float(np.abs(b - a).mean()) for a, b in pairwise(errors)]
    return {
        "psnr_mean": round(float(np.mean(scores)), 4),
        "flicker": round(float(np.mean(flickers)), 4),
    }


if __name__ == "__main__":
    sys.exit(finished(main))
