"""How far an alignment moves things while its network trains, seen from outside.

A hook on all modules of the process notes what the alignments among them say; the networks and the
training loop know nothing of it. FSRST2's search has no weights and its flow is bounded to two
output pixels: only its coarse theta is watched.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from fsrst.files import write_json
from fsrst.models.alignment import IDENTITY, Localisation, affine_grid
from fsrst.models.baselines.deformable import ModulatedDeformConv
from fsrst.models.pose import CoarseTransformer
from fsrst.train import Progress

GRID = 8  # positions each way at which the motion of a theta is measured


@contextmanager
def watched(path: Path, interval: int) -> Iterator[Callable[[Progress], Progress]]:
    """Note in ``path``, step by step, how far the alignment of a network in training moves things.

    ``{samples done: [mean, largest] displacement}``, see ``displacement``. Yields what turns a
    ``progress`` of ``train`` that is called after every step into one that also notes. The file is
    written every ``interval`` samples, at which a checkpoint is due, and at the end; what an
    interrupted run noted is kept.
    """
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    seen: list[tuple[float, float]] = []

    def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if module.training and torch.is_grad_enabled():
            size = displacement(module, inputs, output)
            if size is not None:
                seen.append(size)

    def noting(progress: Progress) -> Progress:
        def note(done: int, total: int, text: str) -> None:
            if seen:
                kept[str(done)] = [
                    sum(mean for mean, _ in seen) / len(seen),
                    max(largest for _, largest in seen),
                ]
                seen.clear()
            if done % interval == 0:
                write_json(path, ordered(kept))
            progress(done, total, text)

        return note

    handle = register_module_forward_hook(look)
    try:
        yield noting
    finally:
        handle.remove()
        write_json(path, ordered(kept))


def ordered(kept: dict[str, Any]) -> dict[str, Any]:
    return {key: kept[key] for key in sorted(kept, key=int)}


@torch.no_grad()
def displacement(
    module: nn.Module, inputs: tuple[Any, ...], output: Any
) -> tuple[float, float] | None:
    """Mean and largest distance [input px] between where an alignment looks and a pixel's own
    place; None of a module that aligns nothing.

    Of a theta over a grid of the picture; of offsets over all taps, groups and pixels.
    """
    if isinstance(module, Localisation | CoarseTransformer):
        height, width = inputs[0].shape[-2:]  # a thumbnail has the input's 32 px
        change = output.float() - output.new_tensor(IDENTITY).view(1, 2, 3)
        moved = affine_grid(change, GRID, GRID) * output.new_tensor([width / 2, height / 2])
        distance = moved.norm(dim=-1)
    elif isinstance(module, ModulatedDeformConv):
        offset: Tensor = inputs[1]
        distance = offset.float().unflatten(1, (-1, 2)).norm(dim=2)
    else:
        return None
    return float(distance.mean()), float(distance.max())
