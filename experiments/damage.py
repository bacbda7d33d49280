"""What damage of the input costs (other reductions, noise, JPEG), and of the references.

    python experiments/damage.py fsrst2 fsrst2-small fsrst-call fsrst-photo \\
        --data data/call data/photo --output benchmarks/results/damage.json

Mean PSNR [dB] of all pictures of each set's val split, three right references and none. Whatever
the input, the truth is the whole picture: bicubic enlargement suffers from damage too. Damaged
references stand beside whole inputs, and have the size of whole ones.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image
from protocol import command_of, finished

from fsrst.data.augmentation import as_jpeg, cut_out
from fsrst.data.degradation import degrade, noisy
from fsrst.data.manifest import Manifest, load_manifest
from fsrst.evaluate.metrics import psnr
from fsrst.evaluate.report import table
from fsrst.files import write_text
from fsrst.image import Pixels, greyed, read_image, resize_bicubic
from fsrst.runtime.upscaler import Upscaler, open_upscaler

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from measure import origin

NUMBER, SCALE, SEED, THREADS = 3, 4, 13, 1  # NUMBER: of references


def reduced(resampling: Image.Resampling) -> Callable[[Pixels, Generator], Pixels]:
    def damaged(hr: Pixels, _: Generator) -> Pixels:
        size = (hr.shape[1] // SCALE, hr.shape[0] // SCALE)
        return np.asarray(Image.fromarray(hr).resize(size, resampling))

    return damaged


DAMAGES: dict[str, Callable[[Pixels, Generator], Pixels]] = {
    "no damage": lambda hr, _: degrade(hr, SCALE),
    "reduced bilinearly": reduced(Image.Resampling.BILINEAR),
    "by the box filter": reduced(Image.Resampling.BOX),
    "by Lanczos": reduced(Image.Resampling.LANCZOS),
    **{
        f"noise {deviation}": lambda hr, rng, d=deviation: noisy(degrade(hr, SCALE), rng, d)
        for deviation in (2, 5, 10)
    },
    **{
        f"JPEG {quality}": lambda hr, _, q=quality: as_jpeg(degrade(hr, SCALE), q)
        for quality in (90, 70, 50, 30)
    },
}


def kept_small(part: float) -> Callable[[Pixels], Pixels]:
    """A reference that was kept at a part of its size, and enlarged again."""

    def damaged(picture: Pixels) -> Pixels:
        height, width = picture.shape[:2]
        small = resize_bicubic(picture, round(width * part), round(height * part))
        return resize_bicubic(small, width, height)

    return damaged


def before(tone: int) -> Callable[[Pixels], Pixels]:
    """A reference whose head stands before a wall of that grey."""

    def damaged(picture: Pixels) -> Pixels:
        return cut_out(picture, np.full(3, tone, np.uint8), 0.34, 0.44)

    return damaged


# name -> which of the references, and what befalls them
REFERENCE_DAMAGES: dict[str, tuple[slice, Callable[[Pixels], Pixels]]] = {
    "whole": (slice(0), kept_small(1)),
    **{f"kept at {part:g}": (slice(None), kept_small(part)) for part in (0.75, 0.5, 0.375, 0.25)},
    "all but one at 0.25": (slice(1, None), kept_small(0.25)),
    "grey": (slice(None), greyed),
    "all but one grey": (slice(1, None), greyed),
    "before white": (slice(None), before(255)),
    "before black": (slice(None), before(0)),
    **{f"JPEG {q}": (slice(None), lambda picture, q=q: as_jpeg(picture, q)) for q in (50, 30, 10)},
}


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="shipped models, or exported files")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="prepared data sets")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    arguments = parser.parse_args(argv)
    manifests = [load_manifest(root) for root in arguments.data]
    result: dict[str, Any] = {
        **origin(THREADS, smoke=False),
        "command": command_of(["damage.py", *argv]),
        "sets": [],
    }
    for manifest in manifests:
        found: dict[str, Any] = {
            "data": f"{manifest.name} {manifest.scored}",
            "data_hash": manifest.hash,
            "pictures": len(manifest.split(manifest.scored)),
            "bicubic": {"none": scores(manifest, None, 0)},
            "models": {},
        }
        for name in arguments.models:
            upscaler = open_upscaler(name, "onnxruntime", threads=THREADS)
            found["models"][name] = {
                "weights_hash": upscaler.info["weights_hash"],
                "right": scores(manifest, upscaler, NUMBER),
                "none": scores(manifest, upscaler, 0),
                "references": reference_scores(manifest, upscaler),
            }
        result["sets"].append(found)
    write_text(arguments.output, json.dumps(result, indent=2) + "\n")
    print(f"written: {arguments.output}")


def scores(manifest: Manifest, upscaler: Upscaler | None, count: int) -> dict[str, float]:
    """Mean PSNR [dB] of every damage; without ``upscaler`` of bicubic enlargement."""
    found: dict[str, list[float]] = {damage: [] for damage in DAMAGES}
    samples = manifest.split(manifest.scored)
    for number, sample in enumerate(samples):
        hr = read_image(manifest.root / sample.target)
        rng = np.random.default_rng([SEED, number])
        inputs = [damaged(hr, rng) for damaged in DAMAGES.values()]
        if upscaler is None:
            results = [resize_bicubic(lr, hr.shape[1], hr.shape[0]) for lr in inputs]
        else:
            files = sample.references[:count]
            upscaler.set_references([read_image(manifest.root / file) for file in files])
            results = upscaler.upscale_batch(inputs)
        for damage, sr in zip(DAMAGES, results, strict=True):
            found[damage].append(psnr(sr, hr))
    means = {damage: round(float(np.mean(values)), 4) for damage, values in found.items()}
    what = "bicubic" if upscaler is None else f"{upscaler.model}, {count} references"
    print(f"{manifest.name}, {what}: {means}", flush=True)
    return means


def reference_scores(manifest: Manifest, upscaler: Upscaler) -> dict[str, float]:
    """Mean PSNR [dB] of whole inputs, with references damaged in every way."""
    found: dict[str, list[float]] = {damage: [] for damage in REFERENCE_DAMAGES}
    for sample in manifest.split(manifest.scored):
        hr = read_image(manifest.root / sample.target)
        whole = [read_image(manifest.root / file) for file in sample.references[:NUMBER]]
        for damage, (which, damaged) in REFERENCE_DAMAGES.items():
            references = list(whole)
            references[which] = [damaged(picture) for picture in whole[which]]
            upscaler.set_references(references)
            found[damage].append(psnr(upscaler(degrade(hr, upscaler.scale)), hr))
    means = {damage: round(float(np.mean(values)), 4) for damage, values in found.items()}
    print(f"{manifest.name}, {upscaler.model}, damaged references: {means}", flush=True)
    return means


def markdown(result: dict[str, Any]) -> str:
    """The section of docs/results.md."""
    parts = [
        f"`{result['command']}`: {result['machine']['cpu']}, commit {result['commit']},"
        f" {result['date'][:10]}. Mean PSNR [dB] of all pictures; the noise is Gaussian, in grey"
        " levels; JPEG by quality, at the input's size. The first column is the protocol of all"
        " other tables. Damaged references: all three kept at a part of their size and enlarged"
        " again, without colours, white or black all around an ellipse about the head (the whole"
        " picture is scored), or a JPEG, beside an input without damage; 0.25 is the input's own"
        " size: enlarged from that they are known by their detail, and left out"
        " (`Upscaler.left_out`)."
    ]
    for found in result["sets"]:
        rows = [["bicubic", "", *numbers(found["bicubic"]["none"])]]
        for name, scored in found["models"].items():
            rows += [[name, kind, *numbers(scored[kind])] for kind in ("right", "none")]
        parts += [
            f"### {found['data']}: {found['pictures']} pictures (data {found['data_hash']})",
            table(["PSNR [dB]", "references", *DAMAGES], rows),
            table(
                ["PSNR [dB]", "no references", *REFERENCE_DAMAGES],
                [
                    [name, *numbers({"none": scored["none"]["no damage"], **scored["references"]})]
                    for name, scored in found["models"].items()
                ],
            ),
        ]
    return "\n\n".join(parts) + "\n"


def numbers(means: dict[str, float]) -> list[str]:
    return [f"{value:.2f}" for value in means.values()]


if __name__ == "__main__":
    sys.exit(finished(main))
