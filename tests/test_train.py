"""Training: exact resume, interruption, several processes, options."""

import csv
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from test_data import make, training_set

from fsrst.data.dataset import SeveralSizes, TrainingSet
from fsrst.data.manifest import by_identity, load_manifest
from fsrst.errors import FsrstError
from fsrst.evaluate import metrics
from fsrst.evaluate.metrics import psnr
from fsrst.image import from_planes, read_image, write_image
from fsrst.models import ReferenceSR, build
from fsrst.models.interface import PICTURE_ERRORS, REPRODUCED
from fsrst.models.weights import load_weights
from fsrst.options import TrainOptions
from fsrst.train import (
    PSNR_CAP,
    Diverged,
    _clip,
    _data,
    _default_devices,
    _holdout_psnr,
    average,
    learning_rate_factor,
    train,
)

CONFIGS = Path(__file__).parents[1] / "configs"
ALL_CONFIGS = sorted(CONFIGS.glob("*.yaml"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """128 px noise faces of four people: the networks of the paper take no other size."""
    root = tmp_path_factory.mktemp("data")
    manifest = make(root)
    rng = np.random.default_rng(0)
    for sample in manifest.samples:
        pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        write_image(root / sample.target, pixels)
    info = (root / "dataset.json").read_text().replace('"size": 32', '"size": 128')
    (root / "dataset.json").write_text(info)
    return root


def options(data: Path, out: Path, **changes: object) -> TrainOptions:
    base = {
        "model": "fsrst-small",
        "data": [str(data)],
        "out": str(out),
        "samples": 16,
        "batch_size": 4,
        "log_samples": 4,
        "checkpoint_samples": 8,
        "ema": 0.9,
        "clip_norm": 1.0,
        "warmup_samples": 4,
        "augmentation": {"flip": True, "refs_translate": 0.05, "reference_dropout": 0.3},
        "accelerator": "cpu",
        "threads": 1,
    }
    return TrainOptions(**{**base, **changes})


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return load_weights(path)[0].state_dict()


def same(a: Path, b: Path) -> bool:
    ours, theirs = tensors(a), tensors(b)
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of an uninterrupted run."""
    return train(options(data, tmp_path_factory.mktemp("whole") / "run"))


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_interrupted_and_resumed_equals_uninterrupted(
    data: Path, whole: Path, tmp_path: Path, optimizer: str
) -> None:
    if optimizer != "adam":
        whole = train(options(data, tmp_path / "whole", optimizer=optimizer))

    def interrupt(done: int, total: int, text: str) -> None:
        if done == 12:  # between two checkpoints
            raise KeyboardInterrupt

    run = options(data, tmp_path / "run", optimizer=optimizer)
    with pytest.raises(KeyboardInterrupt):
        train(run, progress=interrupt)
    assert not (tmp_path / "run/model.safetensors").exists()
    assert same(train(run, resume=True), whole)
    ours = list(csv.DictReader((tmp_path / "run/metrics.csv").open()))
    theirs = list(csv.DictReader((whole.parent / "metrics.csv").open()))
    assert [row["samples"] for row in ours] == ["4", "8", "12", "16"]
    assert [row["loss"] for row in ours] == [row["loss"] for row in theirs]


def test_a_killed_run_loses_at_most_one_interval(data: Path, whole: Path, tmp_path: Path) -> None:
    run = options(data, tmp_path / "run")
    (tmp_path / "run.json").write_text(run.model_dump_json())
    code = (
        "import sys, time; from fsrst.options import TrainOptions; from fsrst.train import train;"
        "run = TrainOptions.model_validate_json(open(sys.argv[1]).read());"
        "train(run, progress=lambda done, *_: time.sleep(60 if done == 12 else 0))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run.json")])
    checkpoint = tmp_path / "run/checkpoint.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert torch.load(checkpoint, weights_only=True)["done"] == 8
    assert same(train(run, resume=True), whole)


def test_two_processes_make_the_step_of_one(data: Path, tmp_path: Path) -> None:
    changes = {"samples": 4, "ema": 0.0, "clip_norm": None, "learning_rate": 1e-3}
    one = train(options(data, tmp_path / "one", **changes))
    run = options(data, tmp_path / "two", **changes)
    (tmp_path / "run.json").write_text(run.model_dump_json())
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; from fsrst.options import TrainOptions; from fsrst.train import train\n"
        "train(TrainOptions.model_validate_json(open(sys.argv[1]).read()))\n"
    )
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        + [str(script), str(tmp_path / "run.json")],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=180,
    )
    state_one = torch.load(tmp_path / "one/checkpoint.pt", weights_only=True)
    state_two = torch.load(tmp_path / "two/checkpoint.pt", weights_only=True)
    # Adam's first moment after one step is a tenth of the gradient
    moments_one = [s["exp_avg"] for s in state_one["optimizer"]["state"].values()]
    moments_two = [s["exp_avg"] for s in state_two["optimizer"]["state"].values()]
    assert len(moments_one) == len(moments_two) > 60
    for ours, theirs in zip(moments_one, moments_two, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-8)
    # of the whole batch, not of one process's half
    losses = [float(state["rows"][1].split(",")[1]) for state in (state_one, state_two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert one.exists()


def test_several_processes_need_references(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers without a gradient would be a traceback of torch's."""

    class TwoProcesses:
        world_size = 2

        def launch(self) -> None: ...

        def seed_everything(self, seed: int, verbose: bool) -> None: ...

    monkeypatch.setattr("fsrst.train._fabric", lambda _: TwoProcesses())
    with pytest.raises(FsrstError, match="fsrst-small without references has layers that learn"):
        train(options(data, tmp_path / "run", n_references=0))
    assert not (tmp_path / "run").exists()


def test_training_learns_and_logs(data: Path, tmp_path: Path) -> None:
    run = options(
        data,
        tmp_path / "run",
        samples=96,
        batch_size=8,
        learning_rate=1e-3,
        log_samples=48,
        checkpoint_samples=48,
        holdout_identities=1,
        precision="bf16-mixed",
        channels_last=True,
        augmentation={},
    )
    train(run)
    rows = list(csv.DictReader((tmp_path / "run/metrics.csv").open()))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert float(rows[-1]["holdout_psnr"]) > 5
    assert list((tmp_path / "run").glob("events.out.tfevents*"))
    _, header = load_weights(tmp_path / "run/model.safetensors")
    assert header["training"]["samples"] == 96
    assert header["training"]["options"]["seed"] == 13


def test_an_existing_run_is_not_overwritten_nor_mixed(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(FsrstError, match="already holds a run; add --resume"):
        train(options(data, whole.parent))
    with pytest.raises(FsrstError, match=r"made with learning_rate = 0.0001, the config says 0.01"):
        train(options(data, whole.parent, learning_rate=0.01), resume=True)
    (tmp_path / "run").mkdir()
    alone = shutil.copy(whole, tmp_path / "run" / whole.name)
    before = Path(alone).read_bytes()
    for resume in (False, True):
        with pytest.raises(FsrstError, match="run holds the weights of a run that is done"):
            train(options(data, tmp_path / "run"), resume=resume)
    assert Path(alone).read_bytes() == before


@pytest.mark.parametrize("change", ["option", "no options", "network"])
def test_checkpoints_of_another_version_are_named(
    data: Path, whole: Path, tmp_path: Path, change: str
) -> None:
    state = torch.load(whole.with_name("checkpoint.pt"), weights_only=True)
    if change == "option":
        state["options"] = state["options"].replace('"samples"', '"samples_once"')
    elif change == "no options":
        del state["options"]
    else:
        state["model"].pop(next(iter(state["model"])))
    (tmp_path / "run").mkdir()
    torch.save(state, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(FsrstError, match=r"checkpoint.pt was made by another version of fsrst;"):
        train(options(data, tmp_path / "run"), resume=True)


def test_an_infinite_gradient_of_several_processes_is_no_traceback() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    model = torch.nn.Linear(1, 1)
    wrapped, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    model.weight.grad = torch.full((1, 1), math.inf)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(fabric), "world_size", 2)
        assert not math.isfinite(_clip(fabric, wrapped, optimizer, 1.0))


def test_a_run_does_not_go_on_with_other_pictures(data: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, text: str) -> None:
        if done == 12:
            raise KeyboardInterrupt

    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    with pytest.raises(KeyboardInterrupt):
        train(options(copy, tmp_path / "run"), progress=interrupt)
    target = load_manifest(copy).split("train")[0].target
    write_image(copy / target, read_image(copy / target)[:, ::-1])
    with pytest.raises(FsrstError, match="data has other pictures than when .*checkpoint"):
        train(options(copy, tmp_path / "run"), resume=True)


def test_a_diverging_run_stops_and_keeps_its_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = options(data, tmp_path / "run", learning_rate=1e30, clip_norm=None, warmup_samples=0)
    with pytest.raises(Diverged, match=r"the .* is (nan|inf) after"):
        train(run)
    assert not (tmp_path / "run/model.safetensors").exists()

    def worse(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        worse.calls += 1
        return (sr - hr).abs().mean() * (1 if worse.calls < 4 else float("nan"))

    worse.calls = 0
    monkeypatch.setitem(PICTURE_ERRORS, "log-l1", worse)
    run = options(data, tmp_path / "later", loss="log-l1", checkpoint_samples=8, log_samples=8)
    with pytest.raises(Diverged, match=r"the .* is nan after"):
        train(run)
    assert torch.load(tmp_path / "later/checkpoint.pt", weights_only=True)["done"] == 8
    assert not (tmp_path / "later/model.safetensors").exists()


def test_an_exact_copy_of_held_out_people_has_the_highest_psnr(tmp_path: Path) -> None:
    manifest = make(tmp_path)
    for sample in manifest.samples:  # of one colour: bicubic is exact
        write_image(tmp_path / sample.target, np.full((32, 32, 3), 100, np.uint8))
    data = training_set(load_manifest(tmp_path), holdout=1)
    fabric = Fabric(accelerator="cpu", devices=1)
    run = options(tmp_path, tmp_path / "run")
    assert _holdout_psnr(fabric, build("bicubic"), data, run) == PSNR_CAP == metrics.PSNR_CAP


def test_training_starts_from_given_weights(data: Path, whole: Path, tmp_path: Path) -> None:
    slow = {"learning_rate": 1e-12, "alignment_learning_rate": 1e-12}
    run = options(data, tmp_path / "run", init_from=str(whole), samples=4, **slow)
    ours, start = tensors(train(run)), tensors(whole)
    assert all(torch.allclose(ours[key], start[key], atol=1e-9) for key in ours)
    with pytest.raises(FsrstError, match="holds fsrst-small, not fsrst"):
        train(options(data, tmp_path / "b", init_from=str(whole), model="fsrst"))
    other = tmp_path / "other.safetensors"
    shutil.copy(train(run, resume=True), other)
    kept = options(data, tmp_path / "kept", init_from=str(other), samples=4, **slow)
    train(kept)
    shutil.copy(whole, other)
    with pytest.raises(FsrstError, match=r"other.safetensors holds weights \w{16}, .* began from"):
        train(kept, resume=True)


def test_options_that_given_weights_do_not_have_are_refused(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    given = {"init_from": str(whole), "samples": 4}
    out = tmp_path / "run"
    with pytest.raises(FsrstError, match="with scale = 4, model_options says 8; leave one"):
        train(options(data, out, model_options={"scale": 8}, **given))
    assert not out.exists()
    same_options = {"scale": 4, "width": 32}  # the header names the scale only
    assert train(options(data, out, model_options=same_options, **given)).is_file()


def test_the_loss_is_the_one_that_is_asked_for(data: Path, tmp_path: Path) -> None:
    """The first loss in metrics.csv is that of the weights that the seed makes."""
    first = {}
    for loss in ("l1", "log-l1"):
        run = options(data, tmp_path / loss, samples=4, loss=loss, augmentation={})
        train(run)
        with (tmp_path / loss / "metrics.csv").open() as file:
            first[loss] = float(next(csv.DictReader(file))["loss"])
    assert -8 < first["log-l1"] < np.log(first["l1"] + REPRODUCED) + 1e-6  # Jensen


def test_a_network_with_a_loss_of_its_own_takes_no_other(data: Path, tmp_path: Path) -> None:
    run = options(data, tmp_path / "run", model="c2-teacher", loss="log-l1")
    with pytest.raises(FsrstError, match="c2-teacher has a loss of its own; leave the option `lo"):
        train(run)
    assert not (tmp_path / "run").exists()


def test_pictures_of_another_size_than_the_networks_are_refused_at_once(tmp_path: Path) -> None:
    small, large = make(tmp_path / "small"), make(tmp_path / "large", size=64)
    both = [str(large.root), str(small.root)]
    with pytest.raises(FsrstError, match=r"small holds .* 32 px; .* prepare with --size 128$"):
        train(options(tmp_path, tmp_path / "run").model_copy(update={"data": both}))
    assert not [*tmp_path.glob("*/pixels-*.npy"), *tmp_path.glob("run")]


def test_alignment_learns_at_its_own_rate(whole: Path) -> None:
    """A tenth of the other's, in the last step of a run too."""
    optimizer = torch.load(whole.parent / "checkpoint.pt", weights_only=True)["optimizer"]
    rest, alignment = optimizer["param_groups"]
    assert rest["lr"] > 0
    assert alignment["lr"] == pytest.approx(rest["lr"] / 10)
    moments = [optimizer["state"][number]["exp_avg"] for number in alignment["params"]]
    assert sum(moment.numel() for moment in moments) == 292_838


def test_the_averaged_weights_are_the_result(whole: Path) -> None:
    state = torch.load(whole.parent / "checkpoint.pt", weights_only=True)
    kept, last = tensors(whole), "constructor.last.weight"
    assert all(torch.equal(kept[key], value) for key, value in state["averaged"].items())
    assert not torch.equal(kept[last], state["model"][last])


def test_the_average_remembers_its_decays_part() -> None:
    """Late in a run; a first step is forgotten: of two weights 0.1 stays."""
    for step, decay in ((10_000, 0.9), (0, 0.1)):
        ours, theirs = (build("resnet-small", width=4, blocks=1) for _ in range(2))
        before = [parameter.clone() for parameter in ours.parameters()]
        average(ours, theirs, 0.9, step)
        for now, then, new in zip(ours.parameters(), before, theirs.parameters(), strict=True):
            assert torch.allclose(now, decay * then + (1 - decay) * new)


def test_statistics_of_normalisations_are_averaged_too() -> None:
    ours, theirs = torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    theirs(torch.rand(4, 3, 8, 8) + 5)
    average(ours, theirs, 0.9, 10_000)
    assert torch.allclose(ours.running_mean, 0.1 * theirs.running_mean)  # type: ignore[operator, arg-type]
    assert ours.num_batches_tracked == theirs.num_batches_tracked == 1


def test_gradients_are_clipped_and_their_norm_before_is_told() -> None:
    fabric, model = Fabric(accelerator="cpu", devices=1), build("resnet-small", width=4, blocks=1)
    (100 * model(torch.rand(1, 3, 8, 8), torch.rand(1, 0, 3, 32, 32))).sum().backward()

    def norm() -> float:
        return float(sum(p.grad.square().sum() for p in model.parameters()) ** 0.5)

    before = norm()
    assert _clip(fabric, model, None, None) == pytest.approx(before) == pytest.approx(norm())
    assert _clip(fabric, model, None, 0.5) == pytest.approx(before)
    assert norm() == pytest.approx(0.5, rel=1e-3)


def test_holdout_psnr_is_that_of_the_scores(data: Path, tmp_path: Path) -> None:
    run = options(data, tmp_path, holdout_identities=1)
    held = TrainingSet(
        [load_manifest(data)],
        "train",
        scale=4,
        n_references=3,
        augmentation=run.augmentation,
        seed=13,
        holdout_identities=1,
    )
    model = build("fsrst-small")
    (batch,) = held.holdout_batches(4, 4)
    with torch.no_grad():
        sr = model(batch["lr"], batch["refs"])
    psnrs = [
        psnr(from_planes(output.numpy()), from_planes(hr.numpy()))
        for output, hr in zip(sr, batch["hr"], strict=True)
    ]
    found = _holdout_psnr(Fabric(accelerator="cpu", devices=1), model, held, run)
    assert found == pytest.approx(np.mean(psnrs), abs=2e-5)
    assert model.training


def test_options_reach_the_network_and_the_data(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}

    def network(name: str, **model_options: object) -> ReferenceSR:
        seen.update(model=name, model_options=model_options)
        return build(name, **model_options)

    def stop(manifests: object, split: str, **how: object) -> None:
        seen.update(how, split=split)
        raise FsrstError("seen")

    monkeypatch.setattr("fsrst.train.build", network)
    monkeypatch.setattr("fsrst.train.TrainingSet", stop)
    run = options(
        data,
        tmp_path,
        model_options={"width": 8},
        n_references=2,
        targets_per_set=2,
        seed=5,
        holdout_identities=1,
    )
    with pytest.raises(FsrstError, match="seen"):
        train(run)
    assert (seen.pop("scale"), seen.pop("kept_out")) == (4, ())
    assert len(seen) == 8
    assert seen == {name: getattr(run, name) for name in seen}


def larger(root: Path) -> Path:
    """The same four people at 256 px."""
    make(root, size=256)
    return root


def test_people_kept_aside_are_in_no_large_batch(data: Path, tmp_path: Path) -> None:
    run = options(data, tmp_path, large_batches=0.5, large_data=["large"], holdout_identities=1)
    sets = [load_manifest(root) for root in (data, larger(tmp_path / "large"))]
    found = _data(run, sets[:1], sets[1:], 4)
    assert isinstance(found, SeveralSizes)
    people = [{s.identity for _, s in part.samples} for part in (found.usual, found.large)]
    assert people[0] == people[1] and len(people[0]) == len(by_identity(sets[0].split("train"))) - 1


def test_large_batches_are_trained_on(data: Path, tmp_path: Path) -> None:
    shapes = []

    run = options(
        data,
        tmp_path / "run",
        model="fsrst2-small",
        model_options={"width": 8, "blocks": 1},
        large_data=[str(larger(tmp_path / "large"))],
        large_batches=0.5,
        ema=0.0,
    )
    original = ReferenceSR.loss

    def loss(self: ReferenceSR, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        shapes.append(tuple(batch["hr"].shape))
        return original(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReferenceSR, "loss", loss)
        train(run)
    assert len(shapes) == 4
    assert set(shapes) == {(4, 3, 128, 128), (1, 3, 256, 256)}

    def interrupt(done: int, total: int, text: str) -> None:
        if done == 12:
            raise KeyboardInterrupt

    cut = run.model_copy(update={"out": str(tmp_path / "cut")})
    with pytest.raises(KeyboardInterrupt):
        train(cut, progress=interrupt)
    assert same(train(cut, resume=True), tmp_path / "run" / "model.safetensors")
    with pytest.raises(FsrstError, match="large_batches = 0.5, the config says 0.25"):
        train(cut.model_copy(update={"large_batches": 0.25}), resume=True)
    write_image(tmp_path / "large/images/0-0.png", np.zeros((256, 256, 3), np.uint8))
    with pytest.raises(FsrstError, match="large has other pictures than when"):
        train(cut, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"large_batches": 0.2, "large_data": ["data"]}, "of 128 px, data of 128: .* larger"),
        (
            {"large_batches": 0.2, "large_data": ["large"], "batch_size": 6},
            r"batch_size 6 .* 1 processes .* of a 4-th of a batch \(large_batches\)",
        ),
        (
            {"large_batches": 0.2, "large_data": ["large"], "model": "fsrst"},
            "fsrst takes one size; leave large_data out",
        ),
    ],
)
def test_large_batches_that_cannot_be_are_named(
    data: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    sets = {"data": data, "large": tmp_path / "large"}
    larger(tmp_path / "large")
    named = [str(sets[name]) for name in changes.get("large_data", [])]
    run = {"model": "fsrst2-small", **changes, "large_data": named}
    with pytest.raises(FsrstError, match=message):
        train(options(data, tmp_path / "run", **run))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accelerator": "gpux"}, "accelerator = 'gpux', devices = 'auto'; possible here: .*cpu"),
        ({"devices": 0}, "accelerator = 'cpu', devices = 0; possible here: .* a number from 1"),
        pytest.param(
            {"accelerator": "cuda"},
            "accelerator = 'cuda', devices = 'auto'; possible here: .*cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="it is there"),
        ),
    ],
)
def test_devices_that_are_not_there_are_named(
    data: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(FsrstError, match=f"^cannot train with {message}"):
        train(options(data, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_devices_are_as_torchrun_or_fabric_say(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = options(data, tmp_path, accelerator="auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "4")  # of a process that Fabric started
    assert _default_devices(run) == "auto"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert _default_devices(run) == 2
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert _default_devices(options(data, tmp_path, accelerator="cpu")) == 1


def test_schedules(data: Path, tmp_path: Path) -> None:
    steps = options(
        data, tmp_path, samples=1000, schedule="steps", milestones=[0.6, 0.9], warmup_samples=0
    )
    factors = [learning_rate_factor(steps, done) for done in (0, 599, 600, 899, 900)]
    assert factors == [1, 1, 0.5, 0.5, 0.25]
    cosine = options(data, tmp_path, samples=1000, warmup_samples=100)
    rising = [learning_rate_factor(cosine, done) for done in (0, 48, 96)]
    assert rising[0] < rising[1] < rising[2] <= 1
    assert learning_rate_factor(cosine, 550) == pytest.approx(0.5, abs=0.01)
    assert learning_rate_factor(cosine, 1000) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("config", ALL_CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_valid(config: Path) -> None:
    run = TrainOptions.from_yaml(config)
    assert run.samples >= run.batch_size
    if "runs/" not in str(run.model_options):  # a stage that needs the one before
        with torch.device("meta"):
            build(run.model, **run.model_options)
    if run.init_from:  # what another recipe makes
        made = [f"{TrainOptions.from_yaml(other).out}/model.safetensors" for other in ALL_CONFIGS]
        assert run.init_from in made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model: fsrst\nlearning_rat: 1\n",
            "unknown key 'learning_rat'; did you mean 'learning_rate'",
        ),
        ("augmentation: {flipp: true}\n", "augmentation: unknown key 'flipp'; did you mean 'flip'"),
        ("model: fsrst\ndata: [d]\nout: o\nsamples: many\n", "samples: "),
        ("model: fsrst\ndata: [d]\nout: o\nsamples: 8\nseed: -1\n", "seed: .* equal to 0"),
        ("model: fsrst\ndata: [d]\nout: o\nsamples: 8\nseed: 4294967296\n", "seed: .* less than"),
        ("augmentation: {degrees: abc}\n", "augmentation: degrees must be a number .*, got 'abc'"),
        ("model: fsrst\n", "data: "),
        ("model: fsrst\ndata: []\nout: o\nsamples: 8\n", "data: List should have at least 1"),
        (
            "model: fsrst2\ndata: [d]\nout: o\nsamples: 8\nlarge_data: [e]\n",
            "large_data and large_batches go together; give both or none",
        ),
        (
            "model: fsrst2\ndata: [d]\nout: o\nsamples: 8\nlarge_batches: 0.2\n",
            "large_data and large_batches go together; give both or none",
        ),
        ("- a\n- b\n", "expected `key: value` lines"),
        ("a: [1\n", "is not YAML"),
    ],
)
def test_bad_configs_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(FsrstError, match=message):
        TrainOptions.from_yaml(tmp_path / "c.yaml")
    with pytest.raises(FsrstError, match="cannot read config"):
        TrainOptions.from_yaml(tmp_path / "none.yaml")


def test_changes_from_the_command_line(tmp_path: Path) -> None:
    path = CONFIGS / "cpu-small-photo.yaml"
    run = TrainOptions.from_yaml(path, {"samples": 7, "augmentation.flip": False})
    assert run.samples == 7
    assert run.augmentation.flip is False
    with pytest.raises(FsrstError, match="unknown key 'sampels'"):
        TrainOptions.from_yaml(path, {"sampels": 7})
