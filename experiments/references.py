"""What references are worth: scores against their number and in another light, and flicker.

    fsrst prepare video SOURCE data/call-seq --split val \\
        --targets 16 --target-step 1 --extra-references 5
    python experiments/references.py fsrst2 fsrst2-small fsrst-call --data data/call-seq \\
        --output benchmarks/results/references.json

Samples of one clip must be neighbouring frames. Flicker: mean absolute change of the error
(result - truth) from one frame to the next [grey levels], so a film's own motion does not count.

A reference that was taken later lies nearer to the targets, and is worth more: so one and two are
the mean over every choice of the protocol's three. Where a clip lists eight, so many are also drawn
from these, the same draws for every model; only there do five and eight compare with one.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from protocol import finished

from fsrst.data.degradation import degrade
from fsrst.data.manifest import Manifest, Sample, load_manifest, wrong_person
from fsrst.errors import FsrstError
from fsrst.evaluate.metrics import psnr
from fsrst.files import write_text
from fsrst.image import Pixels, read_image, resize_bicubic
from fsrst.runtime.upscaler import open_upscaler

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from measure import origin

NUMBER = 3  # of references, and of those that the protocol names
MANY, DRAWN, DRAWS, SEED = 8, (1, 2, 3, 5), 4, 13  # of many: so many, each drawn so often
LIGHTS = {  # what three references are multiplied with, in red, green and blue
    "95 %": (0.95, 0.95, 0.95),
    "90 %": (0.9, 0.9, 0.9),
    "80 %": (0.8, 0.8, 0.8),
    "60 %": (0.6, 0.6, 0.6),
    "warmer": (1.1, 1.0, 0.9),
}
THREADS = 1

Run = tuple[list[Pixels], list[Pixels]]  # results and truths of a clip
Runs = dict[int, list[Run]]  # of each clip by its number: one for every choice of references


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="shipped models, or exported files")
    parser.add_argument("--data", type=Path, required=True, help="prepared set of whole clips")
    parser.add_argument("--split", default="val")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    arguments = parser.parse_args(argv)
    manifest = load_manifest(arguments.data)
    clips = by_clip(manifest.split(arguments.split))
    neighbours(clips)
    result: dict[str, Any] = {
        **origin(THREADS, smoke=False),
        "data": f"{manifest.name} {arguments.split}",
        "data_hash": manifest.hash,
        "clips": len(clips),
        "frames": sum(map(len, clips.values())),
        "people": [members[0].identity for members in clips.values()],  # of each clip
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
        members.sort(key=frame_of)
    return clips


def neighbours(clips: dict[str, list[Sample]]) -> None:
    """Refuse clips whose samples are not frame after frame."""
    for clip, members in clips.items():
        frames = [frame_of(sample) for sample in members]
        if len(frames) < 2 or any(b - a != 1 for a, b in pairwise(frames)):
            raise FsrstError(
                f"{clip}: its samples are not neighbouring frames ({frames[:3]}); prepare them with"
                " fsrst prepare video ... --target-step 1"
            )


def frame_of(sample: Sample) -> int:
    """The last number in the name of its source; -1 where it has none."""
    return int([-1, *re.findall(r"\d+", sample.source)][-1])


def run_bicubic(manifest: Manifest, clips: dict[str, list[Sample]]) -> dict[str, Any]:
    runs: Runs = {}
    for number, members in enumerate(clips.values()):
        truths = [read_image(manifest.root / sample.target) for sample in members]
        results = [
            resize_bicubic(degrade(truth, 4), truth.shape[1], truth.shape[0]) for truth in truths
        ]
        runs[number] = [(results, truths)]
    return summary(runs)


def run_model(name: str, manifest: Manifest, clips: dict[str, list[Sample]]) -> dict[str, Any]:
    upscaler = open_upscaler(name, "onnxruntime", threads=THREADS)
    everybody = [sample for members in clips.values() for sample in members]
    runs: dict[tuple[str, str], Runs] = {}
    for number, members in enumerate(clips.values()):
        truths = [read_image(manifest.root / member.target) for member in members]
        inputs = [degrade(truth, upscaler.scale) for truth in truths]
        right, wrong = (
            [read_image(manifest.root / file) for file in sample.references]
            for sample in (members[0], wrong_person(everybody, members[0]))
        )
        for key, references in conditions(right, wrong, number):
            upscaler.set_references(references)
            made = (upscaler.upscale_batch(inputs), truths)
            runs.setdefault(key, {}).setdefault(number, []).append(made)
    found: dict[str, Any] = {key: upscaler.info[key] for key in ("parameters", "weights_hash")}
    for (group, kind), members_runs in runs.items():
        found.setdefault(group, {})[kind] = summary(members_runs)
    return found


def conditions(
    right: list[Pixels], wrong: list[Pixels], clip: int
) -> Iterator[tuple[tuple[str, str], list[Pixels]]]:
    """(group, kind) and the references of every run of a clip, the ``clip``-th of its set."""
    named = right[:NUMBER]
    for count in range(NUMBER + 1):
        for chosen in combinations(named, count):
            yield ("right", str(count)), list(chosen)
    if len(right) >= MANY:
        rng = np.random.default_rng([SEED, clip])
        for count in DRAWN:
            for _ in range(DRAWS):
                drawn = sorted(rng.choice(MANY, count, replace=False))
                yield (f"of {MANY}", str(count)), [right[i] for i in drawn]
        yield (f"of {MANY}", str(MANY)), right[:MANY]
    for light, gains in LIGHTS.items():
        yield ("light", light), relit(named, gains)
    yield ("other", "wrong"), wrong[:NUMBER]


def relit(references: list[Pixels], gains: tuple[float, ...]) -> list[Pixels]:
    """References as another exposure or white balance shows them."""
    return [(r * np.array(gains)).round().clip(0, 255).astype(np.uint8) for r in references]


def summary(runs: Runs) -> dict[str, Any]:
    """Means over all frames, and over all pairs of neighbours; and of each clip."""
    scores: list[list[float]] = []
    flickers: list[list[float]] = []
    for choices in runs.values():
        scores.append([])
        flickers.append([])
        for results, truths in choices:
            pairs = list(zip(results, truths, strict=True))
            scores[-1] += [psnr(result, truth) for result, truth in pairs]
            errors = [result.astype(np.float64) - truth for result, truth in pairs]
            flickers[-1] += [float(np.abs(b - a).mean()) for a, b in pairwise(errors)]
    return {
        "psnr_mean": round(float(np.mean(np.concatenate(scores))), 4),
        "flicker": round(float(np.mean(np.concatenate(flickers))), 4),
        "psnr_of_clips": [round(float(np.mean(values)), 4) for values in scores],
        "flicker_of_clips": [round(float(np.mean(values)), 4) for values in flickers],
    }


if __name__ == "__main__":
    sys.exit(finished(main))
