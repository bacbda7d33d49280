"""Experiments on alignment, stability, aggregation, ablations: their parts, and that they run."""

import json
import math
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fsrst.data.manifest import Manifest, Sample, load_manifest
from fsrst.data.synthetic import draw_face
from fsrst.errors import FsrstError
from fsrst.evaluate.report import table
from fsrst.files import write_json
from fsrst.image import read_image, to_planes
from fsrst.models import build
from fsrst.models.alignment import IDENTITY, Localisation, warp
from fsrst.models.baselines.deformable import ModulatedDeformConv
from fsrst.models.weights import save_weights
from fsrst.options import TrainOptions
from fsrst.runtime.upscaler import open_upscaler

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))

import ablations
import aggregation
import aligner
import alignment
import budget
import curves
import geometry
import published
import results
import stability
import watch
from targets import (
    across_configs_targets,
    cost_targets,
    experiment_targets,
    stability_targets,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def planes(*pictures: Any) -> torch.Tensor:
    return torch.from_numpy(np.stack([to_planes(picture) for picture in pictures]))


def still(count: int = 1) -> torch.Tensor:
    return torch.tensor(IDENTITY).view(1, 2, 3).repeat(count, 1, 1)


# --- curves ---------------------------------------------------------------------------------------


def test_a_curve_is_drawn_and_broken_where_it_is_not_finite() -> None:
    line = [(0.0, 1.0), (1.0, 1.0), (2.0, math.nan), (3.0, 1.0), (4.0, 1.0)]
    whole = curves.chart(
        [curves.Curve("a", line)], title="t", x_label="x", y_label="y", y_range=(0.5, 1.5)
    )
    assert whole.dtype == np.uint8
    assert whole.shape == (curves.HEIGHT, curves.WIDTH, 3)
    orange = np.abs(whole.astype(int) - (230, 159, 0)).sum(axis=2) < 60
    columns = np.flatnonzero(orange.any(axis=0))
    middle = (curves.LEFT + curves.WIDTH - curves.RIGHT) // 2
    assert columns.min() < middle - 80
    assert columns.max() > middle + 80
    assert not orange[:, middle - 80 : middle + 80].any()


def test_what_leaves_the_range_is_not_drawn_over_the_margins() -> None:
    wild = [curves.Curve("a", [(-50.0, -9.0), (0.5, 0.5), (50.0, 9.0)])]
    whole = curves.chart(
        wild, title="", x_label="", y_label="", x_range=(0.0, 1.0), y_range=(0.0, 1.0)
    )
    orange = np.abs(whole.astype(int) - (230, 159, 0)).sum(axis=2) < 60
    assert orange.any()
    assert not orange[:, : curves.LEFT - 6].any()
    assert not orange[curves.HEIGHT - curves.BOTTOM + 6 :].any()


def test_charts_without_values_and_beside_each_other() -> None:
    none = curves.chart([curves.Curve("a", [])], title="t", x_label="x", y_label="y", log_y=True)
    assert none.min() < 100  # it says so
    assert curves.beside([none] * 4).shape == (2 * curves.HEIGHT, 3 * curves.WIDTH, 3)


def test_ticks_are_round() -> None:
    assert curves.ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert curves.ticks(0.011, 0.029) == [0.015, 0.02, 0.025]
    assert curves.log_ticks(-2, 0) == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]
    assert curves.log_ticks(math.log10(0.31), math.log10(0.39)) == [0.32, 0.34, 0.36, 0.38]


def test_smoothing_and_tables() -> None:
    assert curves.smoothed([(1, 1.0), (2, 3.0), (3, 5.0)], 2) == [(2, 2.0), (3, 5.0)]
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


# --- alignment ------------------------------------------------------------------------------------


def test_maps_have_the_papers_ranges() -> None:
    maps = geometry.draw_maps(np.random.default_rng(0), 2000)
    linear, shift = maps[:, :, :2], maps[:, :, 2]
    zoom = torch.linalg.det(linear).sqrt()
    assert 0.8 <= zoom.min() < 0.81
    assert 1.19 < zoom.max() <= 1.2
    assert 0.198 < shift.abs().max() <= 0.2  # a tenth of the side each way
    degrees = torch.rad2deg(torch.atan2(linear[:, 1, 0], linear[:, 0, 0]))
    assert 9.9 < degrees.abs().max() <= 10
    turned = linear.transpose(1, 2) @ linear  # no shear: zoom squared times the identity
    assert torch.allclose(turned, zoom.square().view(-1, 1, 1) * torch.eye(2), atol=1e-5)


def test_inverse_and_composition() -> None:
    first, second = geometry.draw_maps(np.random.default_rng(1), 2)[:, None]
    assert torch.allclose(geometry.compose(first, geometry.inverse(first)), still(), atol=1e-6)
    ramp = torch.linspace(-1, 1, 64).view(1, 1, 1, 64) + torch.linspace(-2, 2, 64).view(1, 1, 64, 1)
    twice = warp(warp(ramp, first), second)
    once = warp(ramp, geometry.compose(first, second))
    assert torch.allclose(twice[:, :, 24:40, 24:40], once[:, :, 24:40, 24:40], atol=1e-3)


def test_errors_are_in_the_units_they_name() -> None:
    moved = still()
    moved[0, 0, 2] = 2 / 128  # a pixel of 128
    assert geometry.corner_error(moved, still(), 128) == pytest.approx(1)
    assert geometry.numbers_error(moved, still()) == pytest.approx(2 / 128 / 6)
    x = torch.zeros(1, 3, 8, 8)
    y = torch.zeros(1, 3, 8, 8)
    y[:, :, 0] = 1  # a border row: an eighth of the picture, nothing of its centre
    assert geometry.image_error(x, y, still()) == pytest.approx(1 / 8)
    assert geometry.image_error(x, y, still(), crop=4) == 0


def test_least_squares_undoes_a_map_and_never_makes_it_worse() -> None:
    x = planes(draw_face(3, 0, 128), draw_face(4, 1, 128))
    known = geometry.draw_maps(np.random.default_rng(2), 2)
    truth = geometry.inverse(known)
    y = warp(x, known)
    before = geometry.corner_error(still(2), truth, 128)
    after = geometry.corner_error(geometry.least_squares(x, y), truth, 128)
    assert before.min() > 5
    assert after.max() < 0.3
    flat = torch.full_like(x, 0.5)
    assert torch.equal(geometry.least_squares(flat, flat), still(2))
    assert torch.equal(geometry.least_squares(x, flat, known), known)


def test_the_alignment_net_is_the_papers_and_starts_as_the_identity() -> None:
    with torch.device("meta"):
        net = aligner.AlignmentNet()
    assert sum(p.numel() for p in net.parameters()) == 344_102
    x, y = torch.rand(2, 2, 3, 128, 128)
    assert torch.equal(aligner.AlignmentNet()(x, y), still(2))


def test_folded_normalisations_change_nothing() -> None:
    net = aligner.AlignmentNet(normalised=True)
    x, y = torch.rand(2, 4, 3, 128, 128)
    net.train()(x, y)  # statistics that are not 0 and 1
    torch.nn.init.normal_(net.fc2.weight)
    for layer in net.convolutions:
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(layer.weight, 1, 0.3)
            torch.nn.init.normal_(layer.bias)
    folded = net.folded()
    assert sum(p.numel() for p in folded.parameters()) == 344_102
    assert torch.allclose(folded(x, y), net.eval()(x, y), atol=1e-5)
    assert not torch.allclose(folded(x, y), still(4), atol=1e-2)


def test_a_mirror_images_map_is_turned_back() -> None:
    """Least squares says the same of a pair and of its mirror image."""
    x = planes(draw_face(3, 0, 128), draw_face(4, 1, 128))
    known = geometry.draw_maps(np.random.default_rng(2), 2)
    truth, y = geometry.inverse(known), warp(x, known)
    asked: list[torch.Tensor] = []

    def solved(x: Any, y: Any) -> Any:
        asked.append(x)
        return geometry.least_squares(x, y)

    found = alignment.with_mirror_image(cast(aligner.AlignmentNet, solved))(x, y)
    assert len(asked) == 2 and torch.equal(asked[1], x.flip(-1))
    assert geometry.corner_error(found, truth, 128).max() < 0.3


def test_repetition_composes() -> None:
    step = geometry.draw_maps(np.random.default_rng(3), 1)
    x = torch.rand(1, 3, 16, 16)
    way = alignment.repeated(lambda x, y: step, 3)  # type: ignore[arg-type]
    cubed = geometry.compose(geometry.compose(step, step), step)
    assert torch.allclose(way(x, x), cubed, atol=1e-6)


def test_a_interrupted_and_resumed_equals_uninterrupted(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aligner, "BATCH", 2)
    task = aligner.KnownMaps(aligner.Faces([drawn_data], "train"), seed=5)
    asked = {"seed": 5, "minutes": None, "learning_rate": 1e-3}
    whole, facts = aligner.fit(tmp_path / "whole", task.loss, asked)
    assert facts["samples"] == 4
    assert 3 < facts["curve"][0][1] < 40  # the corners of an aligner that does nothing [px]

    def interrupted(net: Any, done: int, batch: int) -> Any:
        if done == 2:
            raise KeyboardInterrupt
        return task.loss(net, done, batch)

    with pytest.raises(KeyboardInterrupt):
        aligner.fit(tmp_path / "part", interrupted, asked)
    part, _ = aligner.fit(tmp_path / "part", task.loss, asked)
    ours, theirs = part.state_dict(), whole.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not torch.equal(ours["fc2.weight"], torch.zeros(6, 32))
    with pytest.raises(FsrstError, match="name other --results"):
        aligner.fit(tmp_path / "part", task.loss, {**asked, "seed": 6})
    again, _ = aligner.fit(tmp_path / "part", interrupted, asked)  # finished: nothing is trained
    assert torch.equal(again.fc2.weight, whole.fc2.weight)


def test_what_a_is_asked_to_say_undoes_the_map(drawn_data: Manifest) -> None:
    """Least squares finds it too."""
    task = aligner.KnownMaps(aligner.Faces([drawn_data], "train"), seed=5)

    def solved(x: Any, y: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return geometry.least_squares(x, y)

    _, corners = task.loss(cast(aligner.AlignmentNet, solved), 0, 12)
    assert corners < 4  # of maps that move them by 16 px


class ShownTwice(aligner.Faces):
    """References are the targets themselves, but for ``edge`` in a margin of 16 px."""

    def __init__(self, edge: float) -> None:
        self.samples, self.edge = [None] * 4, edge  # type: ignore[list-item]

    def targets(self, chosen: Any) -> torch.Tensor:
        ramp = torch.linspace(0, 1, 128).expand(len(chosen), 3, 128, 128)  # no mirror image
        return ramp.clone()

    def references(self, chosen: Any, picks: Any) -> torch.Tensor:
        found = self.targets(chosen) + self.edge
        found[:, :, 16:112, 16:112] -= self.edge
        return found


@pytest.mark.parametrize("edge", [0.0, 0.5])
def test_b_compares_the_centre_of_pairs_that_are_mirrored_together(edge: float) -> None:
    task = aligner.RealPairs(ShownTwice(edge), seed=5)
    as_it_is = cast(aligner.AlignmentNet, lambda x, y: still(len(x)))
    _, seen = task.loss(as_it_is, 0, 12)
    assert seen == pytest.approx(0, abs=1e-5)


def test_b_scores_every_reference_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """26 of them: 15 / 22 and the like, times as many, are under a whole number."""
    seen: list[int] = []
    face = np.zeros((128, 128, 3), np.uint8)

    class Counted(aligner.Faces):
        def __init__(self) -> None:
            names = tuple(map(str, range(26)))
            sample = Sample("a", "ann", "val", "target", names, "")
            self.samples = [(cast(Any, {"target": face}), sample)]

        @staticmethod
        def _planes(files: Any) -> torch.Tensor:
            seen.extend(int(file) for _, file in files if file != "target")
            return torch.zeros(len(files), 3, 128, 128)

    monkeypatch.setattr(alignment, "ways_of", lambda _: {"as it is": lambda x, y: still(len(x))})
    net = aligner.AlignmentNet().eval()
    found = alignment.measure_b({"a": net, "b": net}, Counted())
    assert seen == list(range(26)) and found["as it is"]["pairs"] == 26


def test_errors_of_a_stand_with_their_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard errors hang on it: two maps of each picture, one of ann's, two of ben's."""
    levels = {"ann": 0.1, "ben": 0.6}

    class Flat(aligner.Faces):
        def __init__(self) -> None:
            people = ["ann", "ben", "ben"]
            self.samples = [(cast(Any, None), Sample("", p, "val", p, (), "")) for p in people]

        def targets(self, chosen: Any) -> torch.Tensor:
            people = [self.samples[i][1].identity for i in chosen]
            return torch.stack([torch.full((3, 128, 128), levels[p]) for p in people])

    def checked(names: Any, errors: torch.Tensor, people: Any) -> dict[str, Any]:
        assert [levels[p] for p in people] == pytest.approx(errors[2].tolist())
        return {"pairs": errors.shape[1]}

    monkeypatch.setattr(alignment, "MAPS", 2)
    monkeypatch.setattr(alignment, "image_error", lambda x, y, theta: x.mean(dim=(1, 2, 3)))
    monkeypatch.setattr(alignment, "means", checked)
    monkeypatch.setattr(alignment, "ways_of", lambda _: {"as it is": lambda x, y: still(len(x))})
    found = alignment.measure_a(aligner.AlignmentNet(), Flat(), seed=5)
    assert found["as it is"]["pairs"] == 6


def test_the_rate_rises_and_falls_to_0() -> None:
    part = aligner.WARM_UP
    rates = [aligner.rate_factor(at) for at in (0, part / 2, part, (1 + part) / 2, 1)]
    assert rates == pytest.approx([0.01, 0.51, 1, 0.5, 0], abs=1e-6)


def test_a_loss_that_is_no_number_stops() -> None:
    net = aligner.AlignmentNet()
    optimizer = torch.optim.Adam(net.parameters())
    with pytest.raises(FsrstError, match="the loss is nan after 6 samples"):
        aligner.step(net, optimizer, lambda *_: (torch.tensor(math.nan), 0.0), 6)


def test_faces_of_another_size_are_refused(drawn_data: Manifest) -> None:
    other = Manifest(drawn_data.root, drawn_data.samples, {**drawn_data.info, "size": 64})
    with pytest.raises(FsrstError, match="64 px.*takes 128 px"):
        aligner.Faces([other], "val")


# --- stability ------------------------------------------------------------------------------------


def test_displacement_is_in_pixels_of_the_input() -> None:
    theta = still(2)
    theta[0, 0, 2] = 2 / 32  # a pixel of 32, in one of two pictures
    features = torch.zeros(2, 3, 32, 32)
    inputs = (features, features)
    found = watch.displacement(Localisation(32), inputs, theta)
    assert found == pytest.approx((0.5, 1))
    offset = torch.zeros(1, 18, 4, 4)
    offset[0, 0:2] = torch.tensor([3.0, 4.0]).view(2, 1, 1)  # y and x of the first of nine taps
    conv = ModulatedDeformConv(3, 3, groups=1)
    assert watch.displacement(conv, (features, offset), features) == pytest.approx((5 / 9, 5))
    assert watch.displacement(torch.nn.ReLU(), inputs, features) is None


def test_the_watch_notes_steps_of_training_alone(tmp_path: Path) -> None:
    path = tmp_path / "alignment.json"
    conv, x = ModulatedDeformConv(2, 2, groups=1), torch.rand(1, 2, 4, 4)
    one, two = (torch.full((1, 18, 4, 4), value) for value in (1.0, 2.0))
    shown: list[int] = []
    with watch.watched(path, interval=4) as noting:
        progress = noting(lambda done, total, text: shown.append(done))
        conv(x, one), conv(x, two)
        progress(4, 8, "")
        assert json.loads(path.read_text())["4"] == pytest.approx([1.5 * 2**0.5, 2 * 2**0.5])
        with torch.no_grad():
            conv(x, two)  # scoring
        progress(6, 8, "")
    conv(x, two)
    with watch.watched(path, interval=4) as noting:  # goes on
        conv(x, one)
        noting(lambda *_: None)(8, 8, "")
    kept = json.loads(path.read_text())
    assert list(kept) == ["4", "8"]
    assert shown == [4, 6]


def test_what_keeps_training_calm_is_left_out(drawn_data: Manifest) -> None:
    arguments = stability.parsed(["--data", str(drawn_data.root), "--results", "r"])
    found = stability.harsh("fsrst", 1e-3, 14, [drawn_data], arguments)
    assert (found["schedule"], found["milestones"], found["clip_norm"]) == ("steps", [], None)
    assert (found["ema"], found["augmentation"]["reference_dropout"]) == (0, 0)
    assert (found["learning_rate"], found["alignment_learning_rate"]) == (1e-3, 1e-4)
    assert (found["model"], found["seed"], found["batch_size"]) == ("fsrst", 14, stability.BATCH)


@pytest.mark.parametrize(
    ("experiment", "option"),
    [(m, "--threads") for m in (ablations, aggregation, alignment, stability)]
    + [(stability, "--batch-size")],
)
def test_numbers_that_count_nothing_are_named(
    experiment: Any, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in ("0", "x"):
        with pytest.raises(SystemExit):
            experiment.parsed(["--data", "d", "--results", "r", option, wrong])
        said = f"argument {option}: {wrong!r}: expected a whole number of 1 or more"
        assert said in capsys.readouterr().err


def test_jumps() -> None:
    calm = [1.0] * stability.BEFORE
    assert stability.jumps([*calm, 1.9, 1.0]) == 0
    assert stability.jumps([*calm, 2.0, 1.0, 7.0]) == 2
    assert stability.jumps([9.0, 1.0, 9.0]) == 0  # too early to tell


def one_run(seed: int, psnr: float | None, **changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "model": "hime",
        "learning_rate": 1e-3,
        "seed": seed,
        "failed": None if psnr else "the loss is nan after 16 samples",
        "loss": [(8.0 * k, 0.1) for k in range(1, 21)],
        "gradient_norm": [(8.0 * k, float(k)) for k in range(1, 21)],
        "alignment": [[8 * k, 0.5 * k, 1.0 * k] for k in range(1, 21)],
    }
    if psnr:
        facts |= {"psnr": psnr, "worth": psnr - 24, "bicubic": 25.0, "collapsed": psnr < 25}
    return facts | changes


def test_a_line_of_the_table_counts_failures_and_spread() -> None:
    line = stability.summary([one_run(1, 26.0), one_run(2, 24.0), one_run(3, None)])
    assert (line["seeds"], line["failed"], line["collapsed"]) == (3, 1, 1)
    assert line["psnr_mean"] == 25
    assert line["psnr_spread"] == pytest.approx(2**0.5)
    assert line["over_bicubic"] == 0
    assert line["worth"] == 1
    assert line["gradient_largest"] == 20
    assert line["displacement_end"] == pytest.approx(9.75)  # mean of the last two steps
    assert line["displacement_largest"] == 20
    alone = stability.summary([one_run(3, None, loss=[], gradient_norm=[], alignment=[])])
    assert alone["failed"] == 1
    assert alone["psnr_mean"] is None
    text = stability.network_table([line, {**alone, "model": "hime-small"}])
    assert "| hime | deformable with masks, on 64 features | 3 | 1 | 1 | 0 | 25.00 to 25.00" in text


def test_displacements_come_in_the_order_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file lists samples as strings, of which "104" comes before "16"."""
    write_json(tmp_path / stability.ALIGNMENT, {"104": [3, 4], "16": [1, 2], "8": [0, 1]})
    monkeypatch.setattr(stability, "watched", lambda *_: nullcontext())
    monkeypatch.setattr(stability, "outcome_of", lambda *_: "diverged")
    monkeypatch.setattr(stability, "column", lambda *_: [])
    options = TrainOptions(model="fsrst-small", data=["d"], out=str(tmp_path), samples=8)
    facts = stability.one_run(options, cast(Manifest, None), tmp_path / "scores", "command")
    assert facts["alignment"] == [[8, 0, 1], [16, 1, 2], [104, 3, 4]]


def test_a_run_that_diverged_is_a_result_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def diverges(options: TrainOptions, **_: Any) -> None:
        calls.append(options.out)
        raise budget.Diverged(
            "the gradient norm is inf after 64 samples; the last checkpoint is kept"
        )

    monkeypatch.setattr(budget, "train", diverges)
    options = TrainOptions(model="fsrst-small", data=["d"], out=str(tmp_path), samples=8)
    for _ in range(2):
        assert ablations.outcome_of(options) == "the gradient norm is inf after 64 samples"
    assert len(calls) == 1
    slower = options.model_copy(update={"learning_rate": 1e-5})
    assert ablations.outcome_of(slower) is not None
    assert len(calls) == 2  # the failure of other options says nothing of these

    def mistaken(options: TrainOptions, **_: Any) -> None:
        raise FsrstError("no manifest.jsonl in d")

    monkeypatch.setattr(budget, "train", mistaken)
    with pytest.raises(FsrstError, match="no manifest"):
        ablations.outcome_of(options.model_copy(update={"out": str(tmp_path / "other")}))


# --- aggregation ----------------------------------------------------------------------------------


def test_the_cliff_lies_where_the_formula_says() -> None:
    found = aggregation.cliff()
    for count, half in found["halves"].items():
        assert half["formula"] == pytest.approx(20.723 + math.log(int(count)), abs=1e-3)
        assert half["measured"] == pytest.approx(half["formula"], abs=1e-6)
    curve = dict(found["curves"]["3"])
    assert curve[0.0] == pytest.approx(1, abs=1e-6)
    assert curve[30.0] < 1e-3


@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_mixed_references(drawn_data: Manifest, wrong: int) -> None:
    people = {s.target: s.identity for s in drawn_data.samples}
    for sample in aggregation.mixed(drawn_data, wrong).split("val"):
        references = sample.references[: aggregation.REFERENCES]
        theirs = [people[file] == sample.identity for file in references]
        assert theirs == [True] * (3 - wrong) + [False] * wrong
        assert sample.target not in references


def test_shares_of_wrong_references_are_those_of_the_last(
    drawn_data: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregation, "share_of_each", lambda *_: [0.1, 0.2, 0.5])
    found = aggregation.shares(build("bicubic"), drawn_data)
    assert found["0"] == pytest.approx({"right": 0.8, "wrong": 0, "none": 0.2})
    assert found["1"] == pytest.approx({"right": 0.3, "wrong": 0.5, "none": 0.2})
    assert found["3"] == pytest.approx({"right": 0, "wrong": 0.8, "none": 0.2})


def test_models_that_weigh_nothing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet.safetensors"
    save_weights(path, build("bicubic"))
    with pytest.raises(FsrstError, match="bicubic, which weighs no references"):
        aggregation.weights_file(str(path))


# --- ablations ------------------------------------------------------------------------------------


def test_every_variant_is_another_network() -> None:
    parts = {
        name: o for name, (_, o) in ablations.VARIANTS.items() if name != ablations.PAPER_NETWORK
    }
    with torch.device("meta"):
        nets = {name: build("fsrst2-small", **o) for name, o in parts.items()}
    kinds = {json.dumps(net.options, sort_keys=True) for net in nets.values()}
    assert len(kinds) == len(parts) == 9
    assert nets["full"].options == build("fsrst2-small").options


def test_pictures_are_compared_one_by_one() -> None:
    def rows(*psnr: float) -> list[dict[str, Any]]:
        return [
            {"id": str(i), "identity": "ab"[i % 2], "condition": "right", "psnr": value}
            for i, value in enumerate(psnr)
        ]

    difference, error = ablations.paired(rows(30, 31, 32), rows(29, 30, 31)[::-1], "right")
    assert (difference, error) == (1, 0)
    assert ablations.paired(rows(30, 20), rows(29, 21), "right")[0] == 0


def test_only_numbers_of_references_that_all_samples_list(drawn_data: Manifest) -> None:
    assert ablations.counts_of(drawn_data) == [1, 2, 3]  # four pictures of each person


def test_a_length_in_samples_is_whole_batches(tmp_path: Path) -> None:
    budget = ablations.budget_of({"batch_size": 16}, tmp_path, 15, samples=1000)
    assert budget == {"minutes": None, "samples": 992, "measured_samples_per_s": None}


def test_a_length_in_minutes_is_measured_once(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ablations.settings_of(ablations.CONFIG, [drawn_data], seed=5, threads=1)
    assert settings["model"] == "fsrst2-small"
    monkeypatch.setattr(budget, "measured_rate", lambda *_, **__: 10.0)
    first = ablations.budget_of(settings, tmp_path, 2, None)
    assert first == {"minutes": 2, "samples": 1200, "measured_samples_per_s": 10}
    monkeypatch.setattr(budget, "measured_rate", lambda *_, **__: 99.0)
    assert ablations.budget_of(settings, tmp_path, 2, None) == first
    with pytest.raises(FsrstError, match="minutes"):
        ablations.budget_of(settings, tmp_path, 3, None)


@pytest.mark.parametrize("script", [ablations, stability])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--samples", "0"], "--samples 0: expected 1 or more"),
        (["--samples", "-5"], "--samples -5: expected 1 or more"),
        (["--minutes", "-3"], "--minutes -3: expected more than 0"),
    ],
)
def test_no_length_at_all_is_refused(script: Any, words: list[str], message: str) -> None:
    with pytest.raises(FsrstError, match=f"^{message}$"):
        script.parsed(["--data", "d", "--results", "r", *words])


def test_alignment_refuses_before_it_trains() -> None:
    words = ["--data", "d", "--results", "r"]
    with pytest.raises(FsrstError, match="^--minutes -3: expected more than 0$"):
        alignment.parsed([*words, "--minutes-b", "-3"])
    with pytest.raises(FsrstError, match="^--seed -1: expected 0 or more$"):
        alignment.parsed([*words, "--seed", "-1"])


def test_the_aligner_refuses_no_minutes_at_all(tmp_path: Path) -> None:
    asked = {"seed": 5, "minutes": -3, "learning_rate": 1e-3}
    with pytest.raises(FsrstError, match="^--minutes -3: expected more than 0$"):
        aligner.planned(tmp_path, aligner.AlignmentNet(), cast(aligner.Loss, None), asked)
    assert not any(tmp_path.iterdir())


def test_stability_notices_runs_of_another_length(tmp_path: Path) -> None:
    stability.check_length(tmp_path / "none", 1600)
    (tmp_path / "options.json").write_text('{"samples": 1600}')
    stability.check_length(tmp_path, 1600)
    with pytest.raises(FsrstError, match="begun with 1600 samples, now it is 800"):
        stability.check_length(tmp_path, 800)


def test_all_runs_of_stability_share_the_minutes(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = stability.parsed(["--data", "d", "--results", "r", "--minutes", "1"])
    settings = {
        (model, 1e-3, seed): stability.harsh(model, 1e-3, seed, [drawn_data], arguments)
        for model in ("hime", "fsrst-small")
        for seed in (1, 2)
    }
    rates = {"hime": 5.0, "fsrst-small": 20.0}
    monkeypatch.setattr(stability, "measured_rate", lambda s, **_: rates[s["model"]])
    found = stability.shared_budget(settings, tmp_path, arguments)
    assert found["samples"] == 120  # 60 s / (2 / 5 + 2 / 20), in batches of 8
    monkeypatch.setattr(stability, "measured_rate", None)
    assert stability.shared_budget(settings, tmp_path, arguments)["samples"] == 120
    arguments.minutes = 2
    with pytest.raises(FsrstError, match="name other --results"):
        stability.shared_budget(settings, tmp_path, arguments)


# --- results --------------------------------------------------------------------------------------


def test_identity_is_compared_picture_by_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "MEASURED", tmp_path)
    header = "id,identity,condition,psnr,identity_distance"
    for name, distances in (("fsrst2-call", (0.2, 0.3)), ("fsrst-call", (0.4, 0.4))):
        lines = [f"{i},p{i},right,30,{distance}" for i, distance in enumerate(distances)]
        (tmp_path / name).mkdir()
        (tmp_path / name / "scores.csv").write_text("\n".join([header, *lines]) + "\n")
    folders = [tmp_path / "fsrst2-call", tmp_path / "fsrst-call"]
    _, _, text = results.identity_section(folders)
    assert text.splitlines()[2:] == [
        "| fsrst2-call, right | fsrst-call, right | +0.1500 ± 0.0500 |  |"
    ]
    assert results.identity_section(folders[:1]) == []


def test_cost_is_linear_by_the_yardstick_beside_it() -> None:
    """128x128 was measured in a minute that was twice as slow; a fifth reference costs twice."""
    ms = {"32x3": 5.0, "128x1": 100.0, "128x3": 160.0, "128x5": 280.0}
    sizes = {
        "frames": {
            at: {f"{m} bf16": {"median_ms": t} for m in published.SIZED} for at, t in ms.items()
        },
        "yardstick": {at: {"median_ms": 2.0 if at[0] == "1" else 1.0} for at in ms},
    }
    found = [(t["what"], t["reached"], t["met"]) for t in cost_targets(sizes)]
    assert found[:2] == [
        ("fsrst2 bf16, time of 128x128 by 16 times that of 32x32", 1.0, True),
        ("fsrst2 bf16, a fourth and fifth reference by a second and third", 2.0, False),
    ]


def test_failed_runs_and_missing_seeds_miss_the_target_of_stability() -> None:
    row = {"model": "fsrst2", "failed": 0, "collapsed": 0, "seeds": 5}
    table = [row, {**row, "collapsed": 1, "seeds": 2}, {**row, "model": "fsrst2-small"}]
    found = [(t["reached"], t["met"]) for t in stability_targets({"table": table})]
    assert found == [(1, False), (2, False), (0, True), (5, True)]


def cell_of(model: str, psnr: float, data_hash: str = "a") -> dict[str, Any]:
    """What the targets of equal samples and of two configs ask of a cell of Table 1."""
    data = {"name": "call", "hash": data_hash}
    training = {"samples": 400.0, "batch_size": 4}
    summary = {"conditions": dict.fromkeys(("right", "none"), {"psnr_mean": psnr})}
    length = {"minutes": 60.0, "asked_samples": None}
    found = {"model": model, "config": "tables.yaml", "seed": 13, "train": data, "test": data}
    return {**found, **length, "training": training, "summary": summary}


def test_a_network_without_references_is_compared_with_those_of_another_config() -> None:
    """Where its own table has it, that table's claim is the target."""
    calm = {**cell_of("fsrst", 30.0), "config": "tables-unmoved.yaml"}
    plain, resnet = cell_of("fsrst", 29.0), cell_of("resnet", 29.5)
    (found,) = across_configs_targets([calm, plain, resnet, {**resnet, "seed": 14}])
    assert (found["reached"], found["met"]) == (0.5, True)
    assert found["what"] == (
        "fsrst by tables-unmoved.yaml over resnet by tables.yaml, call, 60 minutes, batches of 4"
        " each, seed 13 [dB]"
    )
    for other in ({"minutes": 20.0}, {"config": "tables-unmoved.yaml"}, {"train": {"hash": "b"}}):
        assert across_configs_targets([calm, {**resnet, **other}]) == []


def test_targets_come_from_what_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "MEASURED", tmp_path)
    assert experiment_targets() == results.equal_time_identity() == []
    pair = {"train": "call", "test": "call", "budget": "20 minutes"}
    claim = {**pair, "above": "fsrst", "below": "resnet", "difference_db": -1.2, "not_judged": ""}
    photo = {"train": "photo", "test": "photo", "budget": "20 minutes"}
    distances = {"fsrst2": (3, 0.42), "span": (0, 0.4), "bicubic": (0, 0.1)}
    rows = [
        {**photo, "model": m, "references": n, "right": {"identity_distance": distance}}
        for m, (n, distance) in distances.items()
    ]
    rows[0]["minutes"], rows[1]["minutes"] = 11.3, 20.5
    cost = {"parameters": 957_125, "multiply_accumulates_g": {"frame": 1.04}}
    claims = [claim, {**claim, "test": "photo"}, {**claim, "below": "fsrst-small"}]
    table = {"claims": claims, "costs": {"fsrst2": cost}, "rows": rows, "cells": []}
    (tmp_path / "table1.json").write_text(json.dumps(table))
    budget = "20 minutes, batches of 4"
    small = {"claims": [{**claim, "budget": budget, "difference_db": 0.1}], "rows": []}
    small["cells"] = [cell_of("fsrst2", 33.5), cell_of("fsrst", 29.0), cell_of("fsrst", 29.0, "b")]
    (tmp_path / "table1-batch4.json").write_text(json.dumps(small))
    targets = [
        {"what": f"A, network{how}: six numbers", "to_reach": "", "reached": 0.01, "met": False}
        for how in ("", ", twice", ", then least squares")
    ]
    (tmp_path / "alignment.json").write_text(json.dumps({"targets": targets}))

    def variant(psnr: float) -> dict[str, Any]:
        return {"data": {"call": {"3": {"conditions": {"right": {"psnr_mean": psnr}}}}}}

    parts: dict[str, Any] = {"budget": {"samples": 20_000}, "variants": {"full": variant(33.5)}}
    (tmp_path / "ablations.json").write_text(json.dumps(parts))
    found = experiment_targets()
    assert [(t["what"], t["reached"], t["met"]) for t in found] == [
        ("fsrst over resnet, call, 20 minutes each [dB]", -1.2, False),
        ("fsrst over resnet, call, 20 minutes, batches of 4 each [dB]", 0.1, True),
        (
            "identity distance, photo, 20 minutes each: span, without references, less fsrst2",
            -0.02,
            False,
        ),
        ("fsrst2 over fsrst, call, the same 400 samples, tables.yaml [dB]", 4.5, True),
        ("Table 1, the shortest training (fsrst2, photo) [minutes]", 11.3, False),
        ("fsrst2, parameters [millions]", 0.9571, True),
        ("fsrst2, 32 -> 128, references encoded [GMAC]", 1.04, True),
        ("alignment A, network: six numbers", 0.01, False),
        ("alignment A, network, then least squares: six numbers", 0.01, False),
    ]
    parts["variants"]["fsrst-small"] = variant(29.5)
    (tmp_path / "ablations.json").write_text(json.dumps(parts))
    (further,) = (t for t in experiment_targets() if t not in found)
    assert further["what"].startswith("fsrst2-small over fsrst-small, call, the same 20,000")
    assert (further["reached"], further["met"]) == (4, True)
    assert results.equal_time_identity() == [
        "Trained on photographs, as many samples as 20 minutes gave (Table 1), nearest to the true"
        " face is span, which takes no references: span 0.400, fsrst2 0.420."
    ]


# --- the whole of each, on drawn faces ------------------------------------------------------------


def test_ablations_run_and_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablations, "COUNTS", (3, 5))
    command = ["--smoke", "--results", str(tmp_path), "--variants", "full", "no-search"]
    ablations.main(command)
    result = json.loads((tmp_path / "ablations.json").read_text())
    text = (tmp_path / "ablations.md").read_text()
    assert str(tmp_path) not in text + json.dumps(result)  # no machine's folders
    assert set(result["variants"]) == {"full", "no-search"}
    scores = result["variants"]["no-search"]["data"]["drawn"]
    assert set(scores) == {"3", "5"}
    assert [facts["name"] for facts in result["data"]] == ["drawn", "drawn-moved"]
    (place,) = (tmp_path / "ablations").glob("moved-drawn-*")  # a folder for each set's pictures
    first, moved = load_manifest(tmp_path / "drawn"), load_manifest(place)
    sample, same = first.split("val")[0], moved.split("val")[0]
    assert (same.id, same.identity) == (sample.id, sample.identity)
    targets = [read_image(m.root / s.target) for m, s in ((first, sample), (moved, same))]
    assert np.array_equal(*targets)
    pairs = zip(sample.references, same.references, strict=True)
    assert not any(
        np.array_equal(read_image(first.root / a), read_image(moved.root / b)) for a, b in pairs
    )
    difference = (
        scores["3"]["conditions"]["right"]["psnr_mean"]
        - result["variants"]["full"]["data"]["drawn"]["3"]["conditions"]["right"]["psnr_mean"]
    )
    assert scores["3"]["over_full_db"] == pytest.approx(difference)
    assert f"{difference:+.3f}" in text
    seconds = result["variants"]["no-search"]["training"]["seconds"]
    assert "| parameters | minutes | 3 right |" in text and f"| {seconds / 60:.1f} |" in text
    assert (tmp_path / "ablations.png").is_file()
    capsys.readouterr()
    ablations.main(command)
    assert "scores on" not in capsys.readouterr().out
    again = json.loads((tmp_path / "ablations.json").read_text())
    assert again["variants"]["full"]["weights_hash"] == result["variants"]["full"]["weights_hash"]

    # docs/results.md takes the section and the figure from the JSON alone
    monkeypatch.setattr(published, "MEASURED", tmp_path)
    monkeypatch.setattr(results, "IMAGES", tmp_path / "images")
    (tmp_path / "images").mkdir()
    heading, remark, section, figure = results.experiment("ablations", "## Parts")
    assert remark == results.REMARKS["ablations"]
    assert (heading, section) == ("## Parts", text.strip())
    assert figure == "![Curves of ablations.py](images/ablations.png)"
    assert (tmp_path / "images/ablations.png").is_file()
    assert results.experiment("table1", None) == []  # not run: no section


def test_the_page_shows_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a new measurement or new weights, docs/results.md is to be written again."""
    monkeypatch.setattr(results, "IMAGES", tmp_path)
    folders = map(str, sorted((published.MEASURED / "scores").iterdir()))
    measured = [f"--{name}={published.MEASURED / name}.json" for name in ("speed", "training")]
    results.main([*folders, *measured, "--output", str(tmp_path / "results.md")])
    page = (published.ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert (tmp_path / "results.md").read_text(encoding="utf-8").splitlines() == page.splitlines()


def test_what_is_published_is_of_the_shipped_weights() -> None:
    for name in ("fsrst2", "fsrst2-small"):
        shipped = open_upscaler(name, "onnxruntime", threads=1).info["weights_hash"]
        for folder in (published.MEASURED / "scores").glob(f"{name}-*"):
            summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
            if summary["model"] == name:
                assert summary["weights_hash"] == shipped, folder
        for path in ("damage", "aggregation", "references"):
            text = (published.MEASURED / f"{path}.json").read_text(encoding="utf-8")
            assert shipped in text, (name, path)
        card = (published.ROOT / f"docs/models/{name}.md").read_text(encoding="utf-8")
        assert f"`{shipped}`" in card.partition("## Scores")[0]


def test_a_jackknifes_error_of_a_mean_is_the_standard_error() -> None:
    values = np.array([1.0, 2.0, 4.0, 9.0])
    found, error = published.jackknife(lambda at: float(values[at].mean()), ["a", "b", "c", "d"])
    assert found == 4 and error == pytest.approx(values.std(ddof=1) / 2)
    pairs = np.repeat(values, 2)  # two clips of each person count as one
    people = [name for name in "abcd" for _ in range(2)]
    again = published.jackknife(lambda at: float(pairs[at].mean()), people)
    assert again == (found, pytest.approx(error))
    assert published.jackknife(lambda at: 5.0, ["a", "a"]) == (5.0, None)


def test_a_self_ensemble_is_compared_with_the_same_weights(tmp_path: Path) -> None:
    scores = published.MEASURED / "scores"
    plain, twice = scores / "fsrst-call", scores / "fsrst-call-self-ensemble"
    said = "\n".join(results.self_ensemble_section([plain, twice]))
    summaries = [json.loads((f / "summary.json").read_text()) for f in (plain, twice)]
    means = [summary["conditions"]["right"]["psnr_mean"] for summary in summaries]
    gain = f"{means[1] - means[0]:+.3f}"
    assert f"| fsrst-call | {means[0]:.2f} | {means[1]:.2f} | {gain} ± " in said
    assert results.self_ensemble_section([plain]) == results.self_ensemble_section([twice]) == []
    other = tmp_path / twice.name
    shutil.copytree(twice, other)
    (other / "summary.json").write_text(json.dumps({**summaries[1], "weights_hash": "f" * 16}))
    with pytest.raises(FsrstError, match="is of other weights or data than"):
        results.self_ensemble_section([plain, other])


def test_scores_of_two_runs_are_no_page(tmp_path: Path) -> None:
    """Pictures' scores that were not copied with their summary would be another network's."""
    folder = published.MEASURED / "scores/fsrst2-call"
    results.require_one_run(folder)
    shutil.copy(folder / "scores.csv", tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    summary["conditions"]["wrong"]["psnr_mean"] += 0.01
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(FsrstError, match=r"not of one run \(wrong\); copy both"):
        results.require_one_run(tmp_path)


def test_sizes_of_a_slow_day_are_said_to_be() -> None:
    frames = {"32x1": {}, "32x3": {"fsrst2 bf16": {"median_ms": 10.0}}}
    frames["32x3"]["fsrst2-small bf16"] = {"median_ms": 5.0}
    reached = {"a [frames/s]": 159.0, "b [frames/s]": 161.0, "c [GB]": 1.0}
    targets = [
        {"what": what, "to_reach": "at least 100", "reached": value}
        for what, value in reached.items()
    ]
    sizes = {"frames": frames, "yardstick": {"32x3": {"median_ms": 9.0}}, "targets": targets}
    speed = {"models": {"fsrst": {"graph": {"openvino bf16": {"median_ms": 4.5}}}}}
    text = results.same_speed(sizes, speed)
    assert "| 32x32 | 9.00 | 2.00 times | 200 | 400 |" in text
    assert "computed from that, not measured" in text
    assert (
        "1.6 times as long (docs/log.md), by which would be missed: a [frames/s]. FSRST's" in text
    )


def test_figure_of_sizes() -> None:
    """A frame's time against pixels and against references: lines where cost is linear."""
    sizes = json.loads((published.MEASURED / "sizes.json").read_text())
    picture = results.size_figure(sizes)
    assert picture.shape == (curves.HEIGHT, 2 * curves.WIDTH, 3)
    colours = [curves._colour(number) for number in range(4)]  # two models, two precisions
    assert all((picture == colour).all(axis=2).any() for colour in colours)


def test_stability_runs(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stability, "drawn", lambda _: drawn_data)
    stability.main(
        ["--smoke", "--results", str(tmp_path), "--models", "resnet-small", "hime-small"]
    )
    result = json.loads((tmp_path / "stability.json").read_text())
    control, deformable = result["runs"]
    assert control["alignment"] == []
    assert [done for done, _ in deformable["alignment"]] == [4]  # means of five steps, or fewer
    run = tmp_path / "runs/stability/hime-small-0.00025-s13"
    steps = [norm for _, norm in curves.column(run / "metrics.csv", "gradient_norm")]
    assert len(steps) == 2
    mean = sum(steps) / 2
    assert deformable["gradient_norm"] == [[4, pytest.approx(mean, rel=1e-3)]]
    assert list(json.loads((run / "alignment.json").read_text())) == ["2", "4"]
    assert "| hime-small | 0.00025 | 1 | 0 |" in (tmp_path / "stability.md").read_text()
    assert (tmp_path / "stability.png").is_file()


def test_aggregation_runs(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregation, "drawn", lambda _: drawn_data)
    monkeypatch.setattr(aggregation, "MIXES", (0, 1))
    aggregation.main(["--smoke", "--results", str(tmp_path)])
    result = json.loads((tmp_path / "aggregation.json").read_text())
    data = drawn_data.name
    for name in ("random-fsrst-small", "random-fsrst2-small"):
        found = result["models"][name]["data"][data]["shares"]["1"]
        assert found["right"] + found["wrong"] + found["none"] == pytest.approx(1)
        assert found["wrong"] > 0
    paper = result["models"]["random-fsrst-small"]["data"][data]
    assert paper["shares"]["1"]["none"] == pytest.approx(0, abs=1e-4)  # weights always sum to 1
    assert paper["distances"]["wrong"]["beyond_the_cliff"] == 0
    assert (tmp_path / "aggregation.png").is_file()
    text = (tmp_path / "aggregation.md").read_text()
    assert "the cliff lies at 20.7: no reference was ever ignored" in text


def test_alignment_runs(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "drawn", lambda _: drawn_data)
    monkeypatch.setattr(aligner, "BATCH", 2)
    monkeypatch.setattr(alignment, "MAPS", 1)
    monkeypatch.setattr(alignment, "SHOWN", 1)
    monkeypatch.setattr(alignment, "RATES", {"a": 1e-3, "b": 0.0})
    monkeypatch.setattr(geometry, "STEPS", 2)
    alignment.main(["--smoke", "--results", str(tmp_path)])
    nets = [load_file(tmp_path / f"runs/alignment-{key}/net.safetensors") for key in "ab"]
    assert all(torch.equal(nets[0][key], nets[1][key]) for key in nets[0])  # B starts from A
    asked = [json.loads((tmp_path / f"runs/alignment-{key}/run.json").read_text()) for key in "ab"]
    a, b = (plan["asked"] for plan in asked)
    assert a["start"] is None and len(b["start"]) == 16 and a["loss"] != b["loss"]
    result = json.loads((tmp_path / "alignment.json").read_text())
    known = result["a"][drawn_data.name]
    assert known["the inverse itself"]["corners"] == 0
    assert known["least squares"]["corners"] < known["nothing moved"]["corners"]
    assert known["nothing moved"]["pairs"] == 8
    assert result["b"][drawn_data.name]["network"]["pairs"] == 24
    assert [line["met"] for line in result["targets"]][:8] == [False] * 8  # an untrained network
    assert len(result["targets"]) == 10
    assert "the paper's network, other data | 0.0082" in (tmp_path / "alignment.md").read_text()
    assert (tmp_path / "alignment-pictures.png").is_file()
