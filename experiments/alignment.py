"""The paper's two experiments on alignment alone: A, undo a known map; B, pairs of one person.

    python experiments/alignment.py --data data/photo --train-data data/photo --results results
    python experiments/alignment.py --smoke

A: a face of 128x128 is moved by a random affine map (rotation within 10 degrees, shift within 10 %
each way, scale 0.8 to 1.2, no shear); the network sees both pictures and says the inverse map.
B: another picture of the same person is laid over the input; mean absolute difference on the
centred 96x96 px. The network of B starts from that of A and never sees a true map.

Beside the network: nothing moved; least squares (Gauss-Newton, no learning); the mean of what it
says of a pair and of its mirror image; the network used again on what the first time left over; the
network followed by least squares. What the paper does not say
and was chosen: ``aligner.py``. The last weights count; nothing is chosen on val.

An interrupted call goes on where it was. Written: alignment.json, .md, .png (curves) and
alignment-pictures.png (real people: do not publish).
"""

import argparse
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablations import about, made
from aligner import CROP, SIDE, AlignmentNet, Faces, KnownMaps, RealPairs, fit
from curves import Curve, beside, chart, save
from geometry import (
    compose,
    corner_error,
    draw_maps,
    identity,
    image_error,
    inverse,
    least_squares,
    numbers_error,
)
from protocol import command_line, drawn, finished, positive, require_length
from torch import Tensor

from fsrst.data.manifest import load_manifest
from fsrst.errors import FsrstError
from fsrst.evaluate.report import table
from fsrst.evaluate.score import clustered_standard_error
from fsrst.evaluate.strips import Panel, sheet, strip
from fsrst.files import write_json, write_text
from fsrst.image import Pixels, from_planes
from fsrst.models.alignment import warp

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

from measure import origin, target

NAME = "alignment"
RATES = {"a": 2e-4, "b": 4e-5}  # learning rates
TESTED = (
    "network",
    "network and its mirror image",
    "network, twice",
    "network, three times",
    "network, then least squares",
)
SHOWN_WAYS = ("nothing moved", "least squares", *TESTED, "network of A", "the inverse itself")
MAPS = 5  # known maps per val picture
PAPER_A = 0.0082  # its validation l1, of the six numbers as the text reads; on its own data
CORNER_BOUND = 1.0  # [px]
MEASURED = 50  # pictures at once
FINE = (64, 128)  # levels of least squares after a network
SHOWN = 4  # pairs of each set and experiment on the sheet

Way = Callable[[Tensor, Tensor], Tensor]  # x, y -> theta


def shrink(arguments: argparse.Namespace) -> None:
    arguments.data, arguments.train_data = [drawn(arguments.results).root], None


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", action="extend", help="sets to score (val)")
    parser.add_argument("--train-data", type=Path, nargs="+", action="extend", help="else --data")
    parser.add_argument("--results", type=Path, help="folder of runs and tables")
    parser.add_argument("--minutes", type=float, default=25, help="of training A")
    parser.add_argument("--minutes-b", type=float, default=10, help="of training B")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--smoke", action="store_true", help="drawn faces, two steps each")
    arguments = parser.parse_args(argv)
    if not arguments.smoke and not (arguments.data and arguments.results):
        parser.error("--data and --results are needed (or --smoke)")
    for minutes in (arguments.minutes, arguments.minutes_b):
        require_length(minutes)
    if arguments.seed < 0:
        raise FsrstError(f"--seed {arguments.seed}: expected 0 or more")
    return arguments


def run(arguments: argparse.Namespace, command: str) -> dict[str, Any]:
    """Train and measure what is missing; the result as in alignment.json."""
    results = arguments.results
    torch.set_num_threads(arguments.threads)
    trained_on = [load_manifest(root) for root in arguments.train_data or arguments.data]
    scored_on = [load_manifest(root) for root in arguments.data]
    faces = Faces(trained_on, "train")
    tasks = {"a": KnownMaps(faces, arguments.seed), "b": RealPairs(faces, arguments.seed)}
    minutes = {"a": arguments.minutes, "b": arguments.minutes_b}
    result: dict[str, Any] = {
        **origin(arguments.threads, arguments.smoke),
        "experiment": NAME,
        "command": command,
        "seed": arguments.seed,
        "train_data": [about(manifest) for manifest in trained_on],
        "data": [about(manifest) for manifest in scored_on],
        "training": {},
        "a": {},
        "b": {},
    }
    nets: dict[str, AlignmentNet] = {}
    for key, task in tasks.items():
        nets[key], result["training"][key] = fit(
            results / "runs" / f"{NAME}-{key}",
            task.loss,
            {
                "data": [manifest.hash for manifest in trained_on],
                "seed": arguments.seed,
                "minutes": None if arguments.smoke else minutes[key],
                "learning_rate": RATES[key],
                "optimizer": "muon",
                "loss": task.said,
                "start": digest(nets["a"]) if "a" in nets else None,
            },
            start=nets.get("a"),
        )
    rows = []
    for manifest in scored_on:
        print(f"measuring on {manifest.name}", flush=True)
        val = Faces([manifest], manifest.scored)
        result["a"][manifest.name] = measure_a(nets["a"], val, arguments.seed)
        result["b"][manifest.name] = measure_b(nets, val)
        rows += pictures(nets, val, arguments.seed)
    first = result["a"][scored_on[0].name]
    result["targets"] = [
        line
        for way in TESTED
        for line in (
            target(f"A, {way}: six numbers", first[way]["numbers"], PAPER_A, at_most=True),
            target(f"A, {way}: corners [px]", first[way]["corners"], CORNER_BOUND, at_most=True),
        )
    ]
    write_json(results / f"{NAME}.json", result)
    write_text(results / f"{NAME}.md", markdown(result))
    save(results / f"{NAME}.png", figure(result))
    save(results / f"{NAME}-pictures.png", sheet(rows))
    print(f"written: {results / NAME}.json, .md, .png, -pictures.png", flush=True)
    return result


def digest(net: AlignmentNet) -> str:
    """16 hex digits that name a network's numbers: a B that began from another A is another run."""
    numbers = b"".join(p.detach().numpy().tobytes() for p in net.parameters())
    return hashlib.sha256(numbers).hexdigest()[:16]


# --- measuring ------------------------------------------------------------------------------------


def repeated(net: AlignmentNet, times: int) -> Way:
    """The network used ``times`` times, each on what is left; y is sampled once in the end."""

    def way(x: Tensor, y: Tensor) -> Tensor:
        theta = identity(x)
        for _ in range(times):
            theta = compose(theta, net(x, warp(y, theta)))
        return theta

    return way


def with_mirror_image(net: AlignmentNet) -> Way:
    """The mean of what the network says of a pair and of the pair in a mirror."""

    def way(x: Tensor, y: Tensor) -> Tensor:
        back = x.new_tensor([[1, -1, -1], [-1, 1, 1]])  # theta of pictures whose x is -x
        return (net(x, y) + net(x.flip(-1), y.flip(-1)) * back) / 2

    return way


def ways_of(net: AlignmentNet) -> dict[str, Way]:
    once = repeated(net, 1)
    return {
        "nothing moved": lambda x, y: identity(x),
        "least squares": least_squares,
        "network": once,
        "network and its mirror image": with_mirror_image(net),
        "network, twice": repeated(net, 2),
        "network, three times": repeated(net, 3),
        "network, then least squares": lambda x, y: least_squares(x, y, once(x, y), FINE),
    }


def known_pairs(val: Faces, chosen: Sequence[int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """x, y and the inverse map of ``MAPS`` maps for every chosen sample, each its own."""
    known = torch.cat(
        [draw_maps(np.random.default_rng([seed, 5, number]), MAPS) for number in chosen]
    )
    x = val.targets(chosen).repeat_interleave(MAPS, dim=0)
    return x, warp(x, known), inverse(known)


@torch.no_grad()
def measure_a(net: AlignmentNet, val: Faces, seed: int) -> dict[str, Any]:
    """way -> mean errors of A over the val split, each with its standard error by person."""
    errors: dict[str, list[Tensor]] = {}
    every = range(len(val.samples))
    for start in every[:: MEASURED // MAPS]:
        chosen = every[start : start + MEASURED // MAPS]
        x, y, truth = known_pairs(val, chosen, seed)
        ways = {**ways_of(net), "the inverse itself": lambda x, y, exact=truth: exact}
        for name, way in ways.items():
            theta = way(x, y)
            found = (
                numbers_error(theta, truth),
                corner_error(theta, truth, SIDE),
                image_error(x, y, theta),
            )
            errors.setdefault(name, []).append(torch.stack(found))
    people = [sample.identity for _, sample in val.samples for _ in range(MAPS)]
    result = {}
    for name, parts in errors.items():
        whole = torch.cat(parts, dim=1)
        half, most = whole[1].quantile(torch.tensor([0.5, 0.95])).tolist()
        result[name] = {
            **means(("numbers", "corners", "image"), whole, people),
            "corners_median": half,
            "corners_95": most,
        }
    return result


@torch.no_grad()
def measure_b(nets: dict[str, AlignmentNet], val: Faces) -> dict[str, Any]:
    """way -> mean difference of the centre over every reference of the val split."""
    ways = ways_of(nets["b"]) | {"network of A": repeated(nets["a"], 1)}
    errors: dict[str, list[Tensor]] = {}
    pairs = [
        (number, (pick + 0.5) / len(sample.references))
        for number, (_, sample) in enumerate(val.samples)
        for pick in range(len(sample.references))
    ]
    for start in range(0, len(pairs), MEASURED):
        chosen, picks = zip(*pairs[start : start + MEASURED], strict=True)
        x, y = val.targets(chosen), val.references(chosen, picks)
        for name, way in ways.items():
            errors.setdefault(name, []).append(image_error(x, y, way(x, y), CROP)[None])
    people = [val.samples[number][1].identity for number, _ in pairs]
    return {
        name: means(("image",), torch.cat(parts, dim=1), people) for name, parts in errors.items()
    }


def means(names: Sequence[str], errors: Tensor, people: Sequence[str]) -> dict[str, Any]:
    """Mean and standard error by person of each row of ``errors`` (len(names), pairs)."""
    found: dict[str, Any] = {"pairs": errors.shape[1]}
    for name, row in zip(names, errors.double().numpy(), strict=True):
        found[name] = float(row.mean())
        found[f"{name}_standard_error"] = clustered_standard_error(row, people)
    return found


# --- what is written ------------------------------------------------------------------------------


def markdown(result: dict[str, Any]) -> str:
    """Tables, made from the JSON alone."""
    training = {
        key: f"{run['samples']:,} samples"
        + (f" ({run['asked']['minutes']:g} minutes)" if run["asked"]["minutes"] else "")
        for key, run in result["training"].items()
    }
    parts = [
        f"`{result['command']}`",
        f"Network: 344,102 parameters; A {training['a']}, B {training['b']} in batches of"
        f" {result['training']['a']['batch']}, seed {result['seed']}, by Muon, A with batch"
        f" normalisation (folded into the convolutions at its end); {made(result)}. ± is the"
        " standard error clustered by person.",
    ]
    for facts in result["data"]:
        data, size = facts["name"], facts["counts"][facts["split"]]
        where = (
            f"{data}, {facts['split']}: {size['samples']} pictures of {size['identities']} people"
        )
        rows = [
            [
                name,
                value(found, "numbers", 5),
                value(found, "corners", 3),
                f"{found['corners_median']:.3f}",
                f"{found['corners_95']:.3f}",
                value(found, "image", 4),
            ]
            for name, found in in_order(result["a"][data])
        ]
        rows.append(["the paper's network, other data", f"{PAPER_A}", *[""] * 4])
        titles = ["A: undo a known map", "error of the six numbers", "corners [px]"]
        titles += ["half below", "95 % below", "picture, l1 of [0, 1]"]
        parts.append(
            f"### {where}, {MAPS} maps each (data {facts['hash']})\n\n{table(titles, rows)}"
        )
        pairs = next(iter(result["b"][data].values()))["pairs"]
        rows = [[name, value(found, "image", 5)] for name, found in in_order(result["b"][data])]
        titles = [f"B: {pairs} pairs of one person", f"centre {CROP}x{CROP}, l1 of [0, 1]"]
        parts.append(table(titles, rows))
    rows = [
        [line["what"], line["to_reach"], f"{line['reached']:g}", "met" if line["met"] else "missed"]
        for line in result["targets"]
    ]
    parts.append(table(["target", "to reach", "reached", ""], rows))
    return "\n\n".join(parts) + "\n"


def in_order(ways: dict[str, Any]) -> list[tuple[str, Any]]:
    """Ways and what was measured of them, in the order of the tables (JSON keeps none)."""
    return [(name, ways[name]) for name in SHOWN_WAYS if name in ways]


def value(found: dict[str, Any], key: str, digits: int) -> str:
    error = found[f"{key}_standard_error"]
    return f"{found[key]:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def figure(result: dict[str, Any]) -> Pixels:
    """What the two runs watched while they trained."""
    titles = {"a": "A: corner error [px]", "b": f"B: l1 of the centre {CROP}x{CROP}"}
    panels = [
        chart(
            [Curve("training", result["training"][key]["curve"])],
            title=f"{title}, in training",
            x_label="samples",
            y_label="",
            log_y=key == "a",
        )
        for key, title in titles.items()
    ]
    return beside(panels)


@torch.no_grad()
def pictures(nets: dict[str, AlignmentNet], val: Faces, seed: int) -> list[Pixels]:
    """Strips: input, moved (or another) picture, and what each way makes of it."""
    chosen = [len(val.samples) * number // SHOWN for number in range(SHOWN)]
    x, y, truth = known_pairs(val, chosen, seed)
    x, y, truth = x[::MAPS], y[::MAPS], truth[::MAPS]
    rows = [
        row(
            [x[i], y[i]],
            ["input", "moved"],
            {
                name: (warp(y, theta)[i], f"{corner_error(theta, truth, SIDE)[i]:.2f} px")
                for name, theta in thetas(nets["a"], x, y).items()
            },
        )
        for i in range(len(chosen))
    ]
    y = val.references(chosen, [0.0] * len(chosen))
    return rows + [
        row(
            [x[i], y[i]],
            ["input", "reference"],
            {
                name: (warp(y, theta)[i], f"{image_error(x, y, theta, CROP)[i]:.4f}")
                for name, theta in thetas(nets["b"], x, y).items()
            },
        )
        for i in range(len(chosen))
    ]


def thetas(net: AlignmentNet, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    return {name: way(x, y) for name, way in ways_of(net).items()}


def row(given: Sequence[Tensor], titles: Sequence[str], laid: dict[str, Any]) -> Pixels:
    panels = [Panel(t, from_planes(p.numpy())) for t, p in zip(titles, given, strict=True)]
    panels += [Panel(name, from_planes(p.numpy()), text) for name, (p, text) in laid.items()]
    return strip(panels, height=SIDE)


main = command_line(NAME, parsed, shrink, run)

if __name__ == "__main__":
    sys.exit(finished(main))
