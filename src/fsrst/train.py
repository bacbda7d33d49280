"""Training: options, one visible loop, exact resume.

The data of every step, its learning rate and its augmentation are pure functions of the seed and
the position in the run; a checkpoint therefore holds only weights, averages and optimiser. An
interrupted and resumed run equals the uninterrupted one bit for bit in float32 on one process.
"""

import copy
import logging
import math
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Adam

from fsrst import __version__
from fsrst.checkpoint import Checkpoint
from fsrst.data.dataset import Data, SeveralSizes, TrainingSet, prefetched
from fsrst.data.manifest import Manifest, load_manifest
from fsrst.errors import FsrstError
from fsrst.files import write_text
from fsrst.models import ReferenceSR, build, usual_options
from fsrst.models.interface import PICTURE_ERRORS
from fsrst.models.weights import load_weights, save_weights
from fsrst.muon import Muon
from fsrst.options import TrainOptions
from fsrst.progress import Progress
from fsrst.train_log import COLUMNS, RunLog

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.csv"
WEIGHTS = "model.safetensors"
HOLDOUT_LIMIT = 96
PSNR_CAP = 100.0  # [dB] an exact copy, as in fsrst.evaluate.metrics


class Diverged(FsrstError):
    """The loss or the gradient was no longer a number: for experiments a result, not a mistake."""


def learning_rate_factor(options: TrainOptions, done: int) -> float:
    """Share of the full learning rate after ``done`` samples."""
    if done < options.warmup_samples:
        return (done + options.batch_size) / (options.warmup_samples + options.batch_size)
    if options.schedule == "steps":
        return 0.5 ** sum(done >= part * options.samples for part in options.milestones)
    past = (done - options.warmup_samples) / max(1, options.samples - options.warmup_samples)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, past)))


def make_optimizer(model: ReferenceSR, options: TrainOptions) -> Adam:
    """Adam, or Muon, in groups: the alignment module learns at its own, lower rate (Section 4)."""
    alignment: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (alignment if name.startswith("alignment.") else others).append(parameter)
    groups = [
        {"params": others, "full_lr": options.learning_rate},
        {"params": alignment, "full_lr": options.alignment_learning_rate},
    ]
    if not others and not alignment:
        raise FsrstError(f"model {model.name} has no parameters: there is nothing to train")
    kind = Muon if options.optimizer == "muon" else Adam
    return kind([group for group in groups if group["params"]], lr=options.learning_rate)


def train(options: TrainOptions, *, resume: bool = False, progress: Progress | None = None) -> Path:
    """Run ``options`` to its end and return the path of the final weights.

    ``<out>/`` then holds ``model.safetensors`` (the averaged weights when ``ema`` is on),
    ``checkpoint.pt``, ``metrics.csv``, ``options.json`` and TensorBoard events. Ctrl-C or a
    killed run loses at most one checkpoint interval.

    Raises
    ------
    FsrstError
        If ``out`` already holds a run and ``resume`` is not asked, or holds one of other options or
        its weights alone, or ``init_from``, ``loss`` or the pictures do not fit the network.
    Diverged
        If the loss or the gradient is no longer a number. The last checkpoint is kept.
    """
    out = Path(options.out)
    begun = (out / CHECKPOINT).exists()
    if begun and not resume:
        raise FsrstError(f"{out} already holds a run; add --resume, or choose another `out`")
    if (out / WEIGHTS).exists() and not begun:
        raise FsrstError(f"{out} holds the weights of a run that is done; choose another `out`")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its notes on the precision
    fabric = _fabric(options)
    fabric.launch()
    cut = SeveralSizes.FEWER if options.large_batches else 1
    if options.batch_size % (fabric.world_size * options.targets_per_set * cut):
        part = f", of a {cut}-th of a batch (large_batches)" if cut > 1 else ""
        raise FsrstError(
            f"batch_size {options.batch_size} cannot be shared by {fabric.world_size} processes in"
            f" sets of {options.targets_per_set} (targets_per_set){part}"
        )
    fabric.seed_everything(options.seed, verbose=False)
    model, start = _start_model(options)
    if fabric.world_size > 1 and options.n_references == 0 and model.reference_limit != 0:
        raise FsrstError(
            f"{model.name} without references has layers that learn nothing, which several"
            " processes cannot train: set devices to 1, or n_references to 1 or more"
        )
    if options.loss != "l1":
        if model.picture_error is None:
            raise FsrstError(f"{model.name} has a loss of its own; leave the option `loss` out")
        model.picture_error = PICTURE_ERRORS[options.loss]
    manifests = [load_manifest(root) for root in options.data]
    larger = [load_manifest(root) for root in options.large_data]
    _check_size(model, manifests, larger)
    pictures = [manifest.pictures_hash(options.split) for manifest in (*manifests, *larger)]
    data = _data(options, manifests, larger, model.scale)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = copy.deepcopy(model).to(fabric.device) if options.ema else None
    optimizer = make_optimizer(model, options)
    wrapped, optimizer = fabric.setup(model, optimizer)
    wrapped.mark_forward_method("loss")

    kept = Checkpoint(out / CHECKPOINT, options, pictures, start, model, averaged, optimizer)
    done, rows = 0, [",".join(COLUMNS)]
    if begun:
        done, rows = kept.load()
    elif fabric.is_global_zero:
        write_text(out / "options.json", options.model_dump_json(indent=2) + "\n")

    log = RunLog(out, done, rows, progress, speaks=fabric.is_global_zero)
    share = options.batch_size // fabric.world_size
    spans = (
        (start + fabric.global_rank * share, share)
        for start in range(done, options.samples, options.batch_size)
    )
    wrapped.train()
    with log:
        for batch in prefetched(data, spans):
            factor = learning_rate_factor(options, done)
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * factor
            loss = wrapped.loss({k: fabric.to_device(v) for k, v in batch.items()})
            log.losses.append(_mean(fabric, loss))
            _stop_if_diverged(log.losses[-1], "loss", done, out)  # before a NaN reaches the grid
            fabric.backward(loss)
            norm = _clip(fabric, wrapped, optimizer, options.clip_norm)
            if options.precision != "16-mixed":  # there the scaler skips such steps
                _stop_if_diverged(norm, "gradient norm", done, out)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if averaged is not None:
                average(averaged, model, options.ema, done // options.batch_size)
            before, done = done, min(options.samples, done + options.batch_size)
            logged = _crossed(before, done, options.log_samples, options.samples)
            saved = _crossed(before, done, options.checkpoint_samples, options.samples)
            if logged or saved:
                rate = log.samples_per_s(done)  # before the held-out people take their time
                psnr = _holdout_psnr(fabric, averaged or model, data, options) if saved else None
                log.write(done, options.samples, options.learning_rate * factor, norm, psnr, rate)
                if saved and fabric.is_global_zero:
                    kept.save(done, log.rows)
                    write_text(out / METRICS, "\n".join(log.rows) + "\n")
                log.start(done)
    if fabric.is_global_zero:
        training = {"options": options.model_dump(mode="json"), "samples": done}
        final = {"training": {**training, "started_from": start}, "version": __version__}
        save_weights(out / WEIGHTS, averaged or model, final)
    fabric.barrier()
    return out / WEIGHTS


def _fabric(options: TrainOptions) -> Fabric:
    """Fabric as ``options`` ask for it.

    Raises
    ------
    FsrstError
        If this machine has no such accelerator, or not so many devices.
    """
    try:
        return Fabric(
            accelerator=options.accelerator,
            devices=options.devices if options.devices != "auto" else _default_devices(options),
            num_nodes=options.nodes,
            precision=options.precision,
        )
    except Exception as error:  # Lightning raises many kinds here
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        names = " or ".join(["auto", "cpu", *(name for name, found in there.items() if found)])
        raise FsrstError(
            f"cannot train with accelerator = {options.accelerator!r}, devices ="
            f" {options.devices!r}; possible here: accelerator {names}, devices auto or a number"
            f" from 1 (Lightning: {' '.join(str(error).split())})"
        ) from error


def _default_devices(options: TrainOptions) -> int | str:
    """One process on a CPU (threads share its cores), all devices elsewhere; torchrun decides
    through its environment, of which Fabric, starting processes itself, sets other parts."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        return int(os.environ["LOCAL_WORLD_SIZE"])
    on_cpu = options.accelerator == "cpu" or not (
        torch.cuda.is_available() or torch.backends.mps.is_available()
    )
    return 1 if on_cpu else "auto"


def _start_model(options: TrainOptions) -> tuple[ReferenceSR, str | None]:
    """The network at the start of a run, and the hash of the weights it was given, if any."""
    if options.init_from is None:
        return build(options.model, **options.model_options), None
    model, header = load_weights(options.init_from)
    if header["model"] != options.model:
        raise FsrstError(
            f"init_from {options.init_from} holds {header['model']}, not {options.model}"
        )
    held = {**usual_options(options.model), **header["options"]}
    for key, value in options.model_options.items():
        if held.get(key) != value:
            raise FsrstError(
                f"init_from {options.init_from} holds {options.model} with {key} ="
                f" {held.get(key)!r}, model_options says {value!r}; leave one of the two out"
            )
    return model, header["weights_hash"]


def _check_size(
    model: ReferenceSR, manifests: Sequence[Manifest], larger: Sequence[Manifest]
) -> None:
    """Refuse before anything is decoded pictures whose reduction a network of one size cannot take.

    Those of ``manifests`` are cropped to the smallest set's size (``TrainingSet``).
    """
    if model.lr_size is None:
        return
    needed = model.lr_size * model.scale
    smallest = min(manifests, key=lambda manifest: int(manifest.info["size"]))
    if smallest.info["size"] != needed:
        raise FsrstError(
            f"{smallest.root} holds pictures of {smallest.info['size']} px; {model.name} at"
            f" {model.scale}x learns from {needed} px: prepare with --size {needed}"
        )
    if larger:
        raise FsrstError(f"{model.name} takes one size; leave large_data out")


def _data(
    options: TrainOptions, manifests: Sequence[Manifest], larger: Sequence[Manifest], scale: int
) -> Data:
    def of(sets: Sequence[Manifest], kept_out: Collection[str] = ()) -> TrainingSet:
        return TrainingSet(
            sets,
            options.split,
            scale=scale,
            n_references=options.n_references,
            targets_per_set=options.targets_per_set,
            augmentation=options.augmentation,
            seed=options.seed,
            holdout_identities=options.holdout_identities if sets is manifests else 0,
            kept_out=kept_out,
        )

    usual = of(manifests)
    if not larger:
        return usual
    large = of(larger, usual.kept_out)
    return SeveralSizes(usual, large, options.large_batches, options.batch_size)


def _mean(fabric: Fabric, loss: Tensor) -> float:
    """Over all processes, so that all of them stop where one diverges."""
    if fabric.world_size > 1:
        fabric.all_reduce(loss := loss.detach().clone(), reduce_op="mean")
    return loss.item()


def _stop_if_diverged(value: float, what: str, done: int, out: Path) -> None:
    if not math.isfinite(value):
        raise Diverged(
            f"the {what} is {value} after {done} samples; the last checkpoint in {out} is kept;"
            " lower learning_rate or set clip_norm"
        )


def _clip(fabric: Fabric, model: Any, optimizer: Any, largest: float | None) -> float:
    limit = math.inf if largest is None else largest
    if fabric.world_size == 1 and fabric._precision.precision != "16-mixed":
        return float(torch.nn.utils.clip_grad_norm_(model.parameters(), limit))
    norm = fabric.clip_gradients(model, optimizer, max_norm=limit, error_if_nonfinite=False)
    return float(norm)  # type: ignore[arg-type]


@torch.no_grad()
def average(averaged: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average; its memory grows from nothing, so early noise is forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    for ours, theirs in zip(averaged.parameters(), model.parameters(), strict=True):
        ours.lerp_(theirs, 1 - decay)
    for kept, seen in zip(averaged.buffers(), model.buffers(), strict=True):
        if kept.is_floating_point():  # statistics of normalisations
            kept.lerp_(seen, 1 - decay)
        else:
            kept.copy_(seen)


@torch.no_grad()
def _holdout_psnr(
    fabric: Fabric, model: ReferenceSR, data: Data, options: TrainOptions
) -> float | None:
    """Mean PSNR [dB] of 8-bit outputs on people that are never trained on (not the val split), each
    at most ``PSNR_CAP``."""
    if not data.holdout:
        return None
    training = model.training
    model.eval()
    values = []
    for batch in data.holdout_batches(options.batch_size, HOLDOUT_LIMIT):
        batch = {key: fabric.to_device(value) for key, value in batch.items()}
        sr = model(batch["lr"], batch["refs"], batch["present"])
        error = (sr.clamp(0, 1) * 255).round() - batch["hr"] * 255
        psnr = 20 * math.log10(255) - 10 * error.square().mean((1, 2, 3)).log10()
        values += psnr.clamp_max(PSNR_CAP).tolist()
    model.train(training)
    return sum(values) / len(values)


def _crossed(before: int, done: int, interval: int, end: int) -> bool:
    return done // interval > before // interval or done >= end
