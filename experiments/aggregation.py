"""The weights of eq. 8 and 9 against distance, and what wrong references do.

    python experiments/aggregation.py fsrst-small-call fsrst-call fsrst2 --data data/call \\
        --results results
    python experiments/aggregation.py --smoke

1. The cliff: n references at one distance share a weight of 1 while they are nearer than about
   20.7 + ln n, and 0 beyond. Computed by the network's own function, held against the formula.
2. The distances (eq. 6, 7) that a trained FSRST really meets, with the right person's references
   and with a wrong person's: how far from the cliff they are.
3. What share right and wrong references get when they are mixed, by FSRST's weights and by FSRST2's
   shares, and the PSNR of it (``fsrst.evaluate``).

Models: shipped ones, or weights files (.safetensors); fsrst or fsrst2 of any size. Nothing is
trained. Written: aggregation.json, aggregation.md, aggregation.png.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablations import about, evaluated, made, signed
from curves import Curve, beside, chart, save
from protocol import command_line, drawn, finished, positive
from torch import Tensor

from fsrst.data.degradation import degrade
from fsrst.data.manifest import Manifest, Sample, load_manifest, wrong_person
from fsrst.errors import FsrstError
from fsrst.evaluate.predict import model_name
from fsrst.evaluate.report import table
from fsrst.files import write_json, write_text
from fsrst.image import crop_to, read_image, to_planes
from fsrst.models import ReferenceSR, build
from fsrst.models.aggregation import EPSILON, distances, reference_weights
from fsrst.models.fsrst import FSRST
from fsrst.models.weights import load_weights, save_weights
from fsrst.runtime.model_files import WEIGHTS

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

from measure import origin

NAME = "aggregation"
REFERENCES = 3
CLIFF_COUNTS = (1, 2, 3, 5, 10)
CLIFF_RANGE = (0.0, 30.0)
CLIFF_POINTS = 121
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99, 1.0)
MIXES = (0, 1, 2, 3)  # wrong references among the three
SAMPLED = 64  # distances kept of each sample and reference


def shrink(arguments: argparse.Namespace) -> None:
    arguments.data = [drawn(arguments.results).root]
    arguments.models = []
    for name in ("fsrst-small", "fsrst2-small"):
        torch.manual_seed(13)
        arguments.models.append(str(arguments.results / f"random-{name}.safetensors"))
        save_weights(arguments.models[-1], build(name))


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", help="shipped models or .safetensors files")
    parser.add_argument("--data", type=Path, nargs="+", action="extend", help="sets to score (val)")
    parser.add_argument("--results", type=Path, help="folder of scores and tables")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--smoke", action="store_true", help="drawn faces, untrained networks")
    arguments = parser.parse_args(argv)
    if not arguments.smoke and not (arguments.models and arguments.data and arguments.results):
        parser.error("models, --data and --results are needed (or --smoke)")
    return arguments


def run(arguments: argparse.Namespace, command: str) -> dict[str, Any]:
    """Measure and write; the result as in aggregation.json."""
    results = arguments.results
    manifests = [load_manifest(root) for root in arguments.data]
    weights = {model_name(model): weights_file(model) for model in arguments.models}
    result: dict[str, Any] = {
        **origin(arguments.threads, arguments.smoke),
        "experiment": NAME,
        "command": command,
        "references": REFERENCES,
        "data": [about(manifest) for manifest in manifests],
        "cliff": cliff(),
        "models": {},
    }
    torch.set_num_threads(arguments.threads)
    for label, path in weights.items():
        network, header = load_weights(path)
        found: dict[str, Any] = {key: header[key] for key in ("model", "weights_hash")}
        found["data"] = {}
        for manifest in manifests:
            print(f"{label}: {manifest.name}", flush=True)
            place = results / NAME / f"{label}-{manifest.name}"
            facts: dict[str, Any] = {"shares": shares(network, manifest)}
            if isinstance(network, FSRST):
                facts["distances"] = measured_distances(network, manifest)
            facts["scores"] = {
                str(count): evaluated(
                    label,
                    path,
                    mixed(manifest, count),
                    place / f"{count}-wrong",
                    n_references=REFERENCES,
                    conditions=("right", "none") if count == 0 else ("right",),
                    command=command,
                    threads=arguments.threads,
                )
                for count in MIXES
            }
            found["data"][manifest.name] = facts
        result["models"][label] = found
    write_json(results / f"{NAME}.json", result)
    write_text(results / f"{NAME}.md", markdown(result))
    save(results / f"{NAME}.png", figure(result))
    print(f"written: {results / NAME}.json, .md, .png", flush=True)
    return result


def weights_file(model: str) -> Path:
    """The .safetensors file of a shipped model or of a path.

    Raises
    ------
    FsrstError
        If there is none, or it holds another kind of network.
    """
    path = Path(model) if model.endswith(".safetensors") else WEIGHTS / f"{model}.safetensors"
    network, header = load_weights(path)
    if not isinstance(network, FSRST) and not network.explains:
        raise FsrstError(
            f"{model} holds {header['model']}, which weighs no references pixel by pixel; name an"
            " fsrst or an fsrst2"
        )
    return path


# --- 1. the cliff ---------------------------------------------------------------------------------


def cliff() -> dict[str, Any]:
    """Total weight of n references at one distance, and the distance where it is a half."""
    steps = torch.linspace(*CLIFF_RANGE, CLIFF_POINTS, dtype=torch.float64)
    curves, halves = {}, {}
    for count in CLIFF_COUNTS:
        total = total_weight(steps, count)
        curves[str(count)] = [[float(d), float(w)] for d, w in zip(steps, total, strict=True)]
        low, high = CLIFF_RANGE
        for _ in range(50):
            middle = (low + high) / 2
            beyond = float(total_weight(torch.tensor([middle], dtype=torch.float64), count)) < 0.5
            low, high = (low, middle) if beyond else (middle, high)
        halves[str(count)] = {"measured": low, "formula": math.log(count / EPSILON)}
    return {"curves": curves, "halves": halves}


def total_weight(distance: Tensor, count: int) -> Tensor:
    """(D,) distances -> (D,) sums of the weights of ``count`` references, all at that distance."""
    every = distance.view(1, 1, 1, -1).expand(1, count, 1, -1)
    return reference_weights(every, distance.new_ones(1, count)).sum(dim=1).view(-1)


# --- 2. and 3. what networks meet and do ----------------------------------------------------------


def mixed(manifest: Manifest, wrong: int) -> Manifest:
    """The val split with ``wrong`` of each sample's three references from another person.

    They stand last of the three; order does not matter to the networks. Of a clip the last is the
    frame nearest to the targets.
    """
    if wrong == 0:
        return manifest
    samples = manifest.split(manifest.scored)
    changed = []
    for sample in samples:
        right = sample.references[:REFERENCES]
        count = min(wrong, len(right))
        other = wrong_person(samples, sample)
        theirs = (*other.references, other.target)[:count]
        references = (*right[: len(right) - count], *theirs)
        changed.append(replace(sample, references=references))
    name = f"{manifest.name}, {wrong} of {REFERENCES} wrong"
    return Manifest(manifest.root, tuple(changed), {**manifest.info, "name": name})


def shares(network: ReferenceSR, manifest: Manifest) -> dict[str, Any]:
    """Mean share of all right and of all wrong references together, and of none, by their mix.

    FSRST: weights of eq. 9 at the input's pixels; FSRST2: shares of the output's pixels.
    """
    found = {}
    for wrong in MIXES:
        right_share, wrong_share = [], []
        for sample in mixed(manifest, wrong).split(manifest.scored):
            each = share_of_each(network, manifest.root, sample)
            first = max(0, len(each) - wrong)
            right_share.append(sum(each[:first]))
            wrong_share.append(sum(each[first:]))
        mean_right, mean_wrong = float(np.mean(right_share)), float(np.mean(wrong_share))
        found[str(wrong)] = {
            "right": mean_right,
            "wrong": mean_wrong,
            "none": 1 - mean_right - mean_wrong,
        }
    return found


@torch.inference_mode()
def share_of_each(network: ReferenceSR, root: Path, sample: Sample) -> list[float]:
    """Mean over the picture of every reference's share."""
    lr, refs = tensors(network, root, sample)
    if isinstance(network, FSRST):
        weights = reference_weights(distances_of(network, lr, refs), refs.new_ones(refs.shape[:2]))
    else:
        weights = network.upscale_explained(lr, network.encode(refs))[1]
    return [float(share) for share in weights[0].mean(dim=(1, 2))]


@torch.inference_mode()
def distances_of(network: FSRST, lr: Tensor, refs: Tensor) -> Tensor:
    """D of eq. 7, as ``FSRST.upscale`` meets it: (1, N, h, w)."""
    features_lr = network.extractor_lr(lr)
    features_refs, _ = network.encode(refs)
    return distances(features_lr, network.alignment(features_lr, features_refs))


def tensors(network: ReferenceSR, root: Path, sample: Sample) -> tuple[Tensor, Tensor]:
    """lr (1, 3, h, w) and the first three references (1, N, 3, s*h, s*w) of a sample."""
    truth = read_image(root / sample.target)
    height, width = truth.shape[:2]
    files = sample.references[:REFERENCES]
    pictures = [crop_to(read_image(root / file), width, height) for file in files]
    lr = torch.from_numpy(to_planes(degrade(truth, network.scale)))[None]
    return lr, torch.from_numpy(np.stack([to_planes(picture) for picture in pictures]))[None]


def measured_distances(network: FSRST, manifest: Manifest) -> dict[str, Any]:
    """Quantiles of the distances that right and wrong references have, over pixels of all samples,
    and how many lie beyond the cliff of one reference."""
    found = {}
    rng = np.random.default_rng(13)
    for name, wrong in (("right", 0), ("wrong", REFERENCES)):
        values, largest, beyond = [], 0.0, []
        for sample in mixed(manifest, wrong).split(manifest.scored):
            lr, refs = tensors(network, manifest.root, sample)
            every = distances_of(network, lr, refs).flatten(2)[0].numpy()  # (N, h * w)
            largest = max(largest, float(every.max()))
            beyond.append(float((every > math.log(1 / EPSILON)).mean()))
            values.append(rng.permuted(every, axis=1)[:, :SAMPLED].ravel())
        whole = np.concatenate(values)
        found[name] = {
            # of SAMPLED pixels of each; the largest and the part beyond, of all
            "quantiles": {str(q): float(np.quantile(whole, q)) for q in QUANTILES}
            | {"1.0": largest},
            "beyond_the_cliff": float(np.mean(beyond)),
            "curve": [[float(np.quantile(whole, q)), float(q)] for q in np.linspace(0, 1, 101)],
        }
    return found


# --- what is written ------------------------------------------------------------------------------


def markdown(result: dict[str, Any]) -> str:
    """Tables, made from the JSON alone."""
    parts = [
        f"`{result['command']}`",
        f"Nothing is trained here; {made(result)}. The paper prints nothing of this kind.",
        "### The cliff of eq. 8 and 9\n\nDistance at which n references, all equally far, together"
        " have the weight 1/2. Much nearer they have 1, whoever they show; much farther 0.\n\n"
        + table(
            ["references", "measured", "ln(n / eps) = 20.7 + ln n"],
            [
                [count, f"{half['measured']:.3f}", f"{half['formula']:.3f}"]
                for count, half in sorted(
                    result["cliff"]["halves"].items(), key=lambda item: int(item[0])
                )
            ],
        ),
    ]
    rows = [
        [label, data, f"{person} person's"]
        + [f"{found['quantiles'][str(q)]:.3f}" for q in QUANTILES]
        + [f"{found['beyond_the_cliff']:.2%}"]
        for label, model in result["models"].items()
        for data, facts in model["data"].items()
        for person, found in facts.get("distances", {}).items()
    ]
    if rows:
        titles = ["network", "scored split of", "references"]
        titles += [f"{q:.0%} below" for q in QUANTILES] + ["beyond the cliff"]
        parts += ["### Distances that trained networks meet", finding(result), table(titles, rows)]
    parts.append(
        "### Right and wrong references mixed\n\nWrong ones take the places of the last of the"
        " three: of clips the frames nearest to the targets, which are worth most. So what one or"
        " two wrong ones cost there is lost nearness and a wrong person's harm together."
    )
    parts += [mix_table(result, facts) for facts in result["data"]]
    return "\n\n".join(parts) + "\n"


def finding(result: dict[str, Any]) -> str:
    """What the paper says of the rule, held against what the trained FSRSTs met."""
    facts = [f for m in result["models"].values() for f in m["data"].values() if "distances" in f]
    largest = max(d["quantiles"]["1.0"] for f in facts for d in f["distances"].values())
    taken = [f["shares"]["1"]["wrong"] for f in facts]
    nearest = min(half["formula"] for half in result["cliff"]["halves"].values())
    verdict = (
        "no reference was ever ignored, and weights hardly depend on whom a reference shows"
        if largest < nearest / 2
        else "some distances come near it"
    )
    return (
        "The paper's weights are to leave out references that do not fit. The largest distance met"
        f" is {largest:.2f}, the cliff lies at {nearest:.1f}: {verdict}. One wrong reference among"
        f" three gets {min(taken):.1%} to {max(taken):.1%} of the weight."
    )


def mix_table(result: dict[str, Any], about_data: dict[str, Any]) -> str:
    """Shares and PSNR with 0 to 3 wrong references among three."""
    data, size = about_data["name"], about_data["counts"][about_data["split"]]
    rows = []
    for label, model in result["models"].items():
        facts = model["data"][data]
        none = facts["scores"]["0"]["conditions"]["none"]["psnr_mean"]
        for wrong, share in facts["shares"].items():
            psnr = facts["scores"][wrong]["conditions"]["right"]["psnr_mean"]
            cells = [f"{share[key]:z.1%}" for key in ("right", "wrong", "none")]
            rows.append([label, wrong, *cells, f"{psnr:.2f}", f"{psnr - none:+.3f}"])
        worth = signed(facts["scores"]["0"], "worth_of_references")
        rows.append([label, "no references", "", "", "", f"{none:.2f}", f"(worth {worth})"])
    titles = ["network", "wrong of three", "share of right", "of wrong", "of none"]
    titles += ["PSNR [dB]", "over no references"]
    return (
        f"### {data}, {about_data['split']}: {size['samples']} pictures of {size['identities']}"
        f" people (data {about_data['hash']})\n\n{table(titles, rows)}"
    )


def figure(result: dict[str, Any]) -> Any:
    """The cliff; the distances that are met; shares of wrong references."""
    halves = [half["formula"] for half in result["cliff"]["halves"].values()]
    panels = [
        chart(
            [Curve(f"n = {n}", points) for n, points in result["cliff"]["curves"].items()],
            title="total weight (eq. 8, 9)",
            x_label="distance of all references",
            y_label="sum of weights",
            verticals=halves[:1],
            legend=True,
        )
    ]
    for data in (facts["name"] for facts in result["data"]):
        met = [
            Curve(f"{label}, {person}", found["curve"])
            for label, model in result["models"].items()
            for person, found in model["data"][data].get("distances", {}).items()
        ]
        if met:
            panels.append(
                chart(
                    met,
                    title=f"{data}: distances met",
                    x_label="distance (the line: the cliff)",
                    y_label="part of pixels below",
                    verticals=halves[:1],
                    x_range=CLIFF_RANGE,
                    legend=True,
                )
            )
        lines = []
        for label, model in result["models"].items():
            found = model["data"][data]["shares"]
            lines.append(
                Curve(label, [(float(n), s["wrong"]) for n, s in found.items()], marks=True)
            )
        panels.append(
            chart(
                lines,
                title=f"{data}: share of wrong references",
                x_label="wrong ones among three",
                y_label="their share",
                y_range=(0.0, 1.0),
                legend=True,
            )
        )
    return beside(panels)


main = command_line(NAME, parsed, shrink, run)

if __name__ == "__main__":
    sys.exit(finished(main))
