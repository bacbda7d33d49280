"""The alignment network of the paper's experiments A and B, what it learns from, and its training.

Chosen here, since the paper does not say: the known map of A is the sampling map, in coordinates
of [-1, 1]; pictures enter as [-0.5, 0.5]; outside the face its mirror image is seen, as in the
paper's aligner; A learns from the six numbers and the corners, not from the pictures' difference.

A run: ``<out>/run.json`` (what was asked, how long it is), ``checkpoint.pt``, ``curve.csv`` and
``net.safetensors``, the averaged weights at the end. What a step sees is a function of the seed and
its position, so an interrupted run goes on as if it had not been.
"""

import copy
import csv
import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from curves import seconds_of
from geometry import corner_error, draw_maps, image_error, inverse, numbers_error
from protocol import require_length
from safetensors.torch import load_file
from safetensors.torch import save as serialised
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fsrst.data.dataset import Store
from fsrst.data.manifest import Manifest, Sample
from fsrst.errors import FsrstError
from fsrst.files import write_json, write_text, written_whole
from fsrst.models.alignment import IDENTITY, warp
from fsrst.models.blocks import full_precision
from fsrst.muon import Muon
from fsrst.train import average

SIDE, CROP = 128, 96  # [px]
BATCH = 32
WARM_UP, AVERAGING, CLIP = 0.03, 0.999, 1.0  # part of the run; decay of averaged weights; norm
CHECKPOINTS, POINTS = 20, 200  # of a run; of its curve
MEASURED_S, MEASURED_SAMPLES = 5.0, 50  # of the measured rate: at least so long and so many

Loss = Callable[["AlignmentNet", int, int], tuple[Tensor, float]]


class AlignmentNet(nn.Module):
    """Two faces (B, 3, 128, 128) in [0, 1] -> theta (B, 2, 3); starts as the identity.

    Four conv5x5 of 32 channels with ReLU, max-pools after the first three, FC 8192 -> 32 -> 6.
    344,102 parameters. Convolutions may run in bfloat16, the rest is float32.

    ``normalised``: as it is trained, with batch normalisation after every convolution; ``folded``
    gives the network of 344,102 parameters that computes the same.
    """

    def __init__(self, *, normalised: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, pooled in ((6, True), (32, True), (32, True), (32, False)):
            layers.append(nn.Conv2d(inputs, 32, 5, padding=2))
            layers += [nn.BatchNorm2d(32)] if normalised else []
            layers += [nn.MaxPool2d(2)] if pooled else []
            layers.append(nn.ReLU())
        self.convolutions = nn.Sequential(*layers)
        self.fc1 = nn.Linear(32 * (SIDE // 8) ** 2, 32)
        self.fc2 = nn.Linear(32, 6)
        nn.init.zeros_(self.fc2.weight)
        with torch.no_grad():
            self.fc2.bias.copy_(torch.tensor(IDENTITY))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        both = (torch.cat((x, y), dim=1) - 0.5).contiguous(memory_format=torch.channels_last)
        features = self.convolutions(both)
        with full_precision(x):
            theta: Tensor = self.fc2(torch.relu(self.fc1(features.float().flatten(1))))
        return theta.view(-1, 2, 3)

    def folded(self) -> "AlignmentNet":
        """A copy for use, with what the normalisations do inside the convolutions."""
        net = copy.deepcopy(self).eval()
        layers = list(net.convolutions)
        for before, layer in itertools.pairwise(net.convolutions):
            if isinstance(layer, nn.BatchNorm2d):
                layers[layers.index(before)] = fuse_conv_bn_eval(before, layer)
                layers.remove(layer)
        net.convolutions = nn.Sequential(*layers)
        return net


class Faces:
    """Samples of one split of several sets, their pictures decoded once, 128x128.

    Raises
    ------
    FsrstError
        If a set has pictures of another size.
    """

    def __init__(self, manifests: Sequence[Manifest], split: str) -> None:
        self.samples: list[tuple[Store, Sample]] = []
        for manifest in manifests:
            if manifest.info["size"] != SIDE:
                raise FsrstError(
                    f"{manifest.root} holds pictures of {manifest.info['size']} px; the paper's"
                    f" alignment network takes {SIDE} px: prepare with --size {SIDE}"
                )
            members = manifest.split(split)
            store = Store(manifest, members)
            self.samples += [(store, sample) for sample in members]

    def targets(self, chosen: Sequence[int]) -> Tensor:
        """(B, 3, 128, 128) in [0, 1]."""
        return self._planes([(self.samples[i][0], self.samples[i][1].target) for i in chosen])

    def references(self, chosen: Sequence[int], picks: Sequence[float]) -> Tensor:
        """One reference of each sample: ``picks`` in [0, 1) says which."""
        files = []
        for i, pick in zip(chosen, picks, strict=True):
            store, sample = self.samples[i]
            files.append((store, sample.references[int(pick * len(sample.references))]))
        return self._planes(files)

    @staticmethod
    def _planes(files: Sequence[tuple[Store, str]]) -> Tensor:
        pixels = np.stack([store[file] for store, file in files])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


class KnownMaps:
    """A: the network says the inverse of a known map."""

    said = "six numbers + corners / side"  # the loss; another one is another run

    def __init__(self, faces: Faces, seed: int) -> None:
        self.faces, self.seed = faces, seed

    def loss(self, net: AlignmentNet, done: int, batch: int) -> tuple[Tensor, float]:
        """Of the ``batch`` maps at position ``done`` of the run, and their corner error [px]."""
        rng = np.random.default_rng([self.seed, 3, done])
        x = flipped(self.faces.targets(rng.integers(len(self.faces.samples), size=batch)), rng)
        known = draw_maps(rng, batch)
        y, truth = warp(x, known), inverse(known)
        theta = in_bfloat16(net, x, y)
        corners = corner_error(theta, truth, SIDE)
        loss = numbers_error(theta, truth).mean() + corners.mean() / SIDE
        return loss, float(corners.mean().detach())


class RealPairs:
    """B: the network lays another picture of the person over the input."""

    said = "difference of the centre"

    def __init__(self, faces: Faces, seed: int) -> None:
        self.faces, self.seed = faces, seed

    def loss(self, net: AlignmentNet, done: int, batch: int) -> tuple[Tensor, float]:
        """Mean absolute difference of the centre, as a tensor and as a number."""
        rng = np.random.default_rng([self.seed, 4, done])
        chosen = rng.integers(len(self.faces.samples), size=batch)
        pairs = self.faces.targets(chosen), self.faces.references(chosen, rng.random(batch))
        x, y = flipped(torch.cat(pairs, dim=1), rng).chunk(2, dim=1)
        loss = image_error(x, y, in_bfloat16(net, x, y), CROP).mean()
        return loss, float(loss.detach())


def flipped(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Every other picture, at random, seen in a mirror."""
    turn = torch.from_numpy(rng.random(len(pictures)) < 0.5).view(-1, 1, 1, 1)
    return torch.where(turn, pictures.flip(-1), pictures)


def in_bfloat16(net: AlignmentNet, x: Tensor, y: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        theta: Tensor = net(x, y)
    return theta


def fit(
    out: Path, loss_of: Loss, asked: dict[str, Any], start: AlignmentNet | None = None
) -> tuple[AlignmentNet, dict[str, Any]]:
    """Train under ``out``, or go on there, or read what is finished: (network, facts of the run).

    ``loss_of(net, done, batch)`` gives the loss of a step and a number to watch. ``asked`` holds
    ``learning_rate``, ``seed`` and ``minutes`` (None: two steps), and whatever else makes a run
    another one. Muon, warm-up and cosine, averaged weights, as ``fsrst.train``; a network that
    starts from nothing has normalisations while it is trained.

    Raises
    ------
    FsrstError
        If the minutes are not above 0, ``out`` was begun with something else asked, or the loss is
        not finite.
    """
    torch.manual_seed(asked["seed"])
    net = copy.deepcopy(start) if start is not None else AlignmentNet(normalised=True)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan = planned(out, net, loss_of, asked)
    finished = out / "net.safetensors"
    if finished.is_file():
        used = AlignmentNet()
        used.load_state_dict(load_file(finished))
        return used.eval(), facts_of(out, plan)
    averaged = copy.deepcopy(net)
    optimizer = Muon([{"params": list(net.parameters())}], lr=asked["learning_rate"])
    samples, done = plan["samples"], 0
    rows: list[list[float]] = []
    if (out / "checkpoint.pt").is_file():
        state = torch.load(out / "checkpoint.pt", weights_only=True)
        done, rows = state["done"], state["rows"]
        for part, name in ((net, "net"), (averaged, "averaged"), (optimizer, "optimizer")):
            part.load_state_dict(state[name])
    recent: list[tuple[float, float]] = []
    clock, since = time.perf_counter(), done
    while done < samples:
        for group in optimizer.param_groups:
            group["lr"] = asked["learning_rate"] * rate_factor(done / samples)
        loss, seen = step(net, optimizer, loss_of, done)
        average(averaged, net, AVERAGING, done // BATCH)
        recent.append((loss, seen))
        before, done = done, done + BATCH
        if crossed(before, done, samples, POINTS):
            now = time.perf_counter()
            means = [sum(values) / len(recent) for values in zip(*recent, strict=True)]
            rows.append([done, *means, (done - since) / (now - clock)])
            recent, clock, since = [], now, done
        if crossed(before, done, samples, CHECKPOINTS):
            save_checkpoint(out, done, rows, net, averaged, optimizer)
            print(f"{out.name}: {done}/{samples} samples, {rows[-1][2]:.4f}", flush=True)
    used = averaged.folded()
    with written_whole(finished) as temporary:
        # not save_file: its files are private, whatever the umask says
        temporary.write_bytes(serialised({k: v.contiguous() for k, v in used.state_dict().items()}))
    return used, facts_of(out, plan)


def step(
    net: AlignmentNet, optimizer: torch.optim.Optimizer, loss_of: Loss, done: int
) -> tuple[float, float]:
    """One step; a loss that is not finite stops before its gradient reaches the sampler."""
    loss, seen = loss_of(net, done, BATCH)
    if not math.isfinite(value := loss.item()):
        raise FsrstError(f"the loss is {value} after {done} samples; lower the learning rate")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
    optimizer.step()
    return value, seen


def rate_factor(part: float) -> float:
    """Part of the full learning rate where ``part`` of the run is done."""
    if part < WARM_UP:
        return (part + 0.01 * WARM_UP) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (part - WARM_UP) / (1 - WARM_UP)))


def crossed(before: int, done: int, samples: int, times: int) -> bool:
    """Whether one of ``times`` equal parts of the run, or the run, has just ended."""
    return done * times // samples > before * times // samples or done >= samples


def planned(out: Path, net: AlignmentNet, loss_of: Loss, asked: dict[str, Any]) -> dict[str, Any]:
    """How many samples fit into the minutes: measured once, then read from ``out``."""
    require_length(asked["minutes"])
    path = out / "run.json"
    if path.is_file():
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if plan["asked"] != asked:
            raise FsrstError(
                f"{out} was trained with {plan['asked']}, now it is {asked}; name other --results"
                " or delete that run"
            )
        return plan
    rate, samples = None, 2 * BATCH
    if asked["minutes"] is not None:
        rate = measured_rate(copy.deepcopy(net), loss_of)
        samples = max(2, round(rate * asked["minutes"] * 60 / BATCH)) * BATCH
    plan = {"asked": asked, "measured_samples_per_s": rate, "samples": samples, "batch": BATCH}
    write_json(path, plan)
    return plan


def measured_rate(net: AlignmentNet, loss_of: Loss) -> float:
    """Samples/s of training, after a first step."""
    optimizer = Muon([{"params": list(net.parameters())}], lr=1e-6)
    step(net, optimizer, loss_of, 0)
    done, begin = 0, time.perf_counter()
    while done < MEASURED_SAMPLES or time.perf_counter() - begin < MEASURED_S:
        done += BATCH
        step(net, optimizer, loss_of, done)
    return done / (time.perf_counter() - begin)


def save_checkpoint(
    out: Path,
    done: int,
    rows: list[list[float]],
    net: AlignmentNet,
    averaged: AlignmentNet,
    optimizer: torch.optim.Optimizer,
) -> None:
    state = {
        "done": done,
        "rows": rows,
        "net": net.state_dict(),
        "averaged": averaged.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with written_whole(out / "checkpoint.pt") as temporary:
        torch.save(state, temporary)
    lines = [",".join(f"{value:.6g}" for value in row) for row in rows]
    write_text(out / "curve.csv", "\n".join(["samples,loss,watched,samples_per_s", *lines]) + "\n")


def facts_of(out: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The plan of a finished run, its curve, and the minutes its steps took."""
    with (out / "curve.csv").open(encoding="utf-8", newline="") as lines:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)]
    seconds = seconds_of([(row["samples"], row["samples_per_s"]) for row in rows])
    curve = [[row["samples"], row["watched"]] for row in rows]
    return {**plan, "minutes_spent": round(seconds / 60, 2), "curve": curve}
