"""Tables 1 and 2, and the figures: budgets, stages, numbers, words; no training longer than a step.

The experiments themselves: ``python experiments/table1.py --smoke`` and so on, each under two
minutes.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "experiments"))

import budget  # noqa: E402
import costs  # noqa: E402
import figures  # noqa: E402
import memory  # noqa: E402
import protocol  # noqa: E402
import rates  # noqa: E402
import table1  # noqa: E402
import table2  # noqa: E402

from fsrst.data.manifest import Manifest, write_manifest  # noqa: E402
from fsrst.data.synthetic import write_synthetic  # noqa: E402
from fsrst.errors import FsrstError  # noqa: E402
from fsrst.evaluate.predict import predict  # noqa: E402
from fsrst.evaluate.score import score  # noqa: E402
from fsrst.image import Pixels, read_image, to_uint8  # noqa: E402
from fsrst.models import MODELS, build  # noqa: E402

SETTINGS = {"model": "resnet-small", "model_options": {"width": 8, "blocks": 1}, "batch_size": 4}


def settings(data: Manifest, **changes: Any) -> dict[str, Any]:
    base = {**SETTINGS, "data": [str(data.root)], "n_references": 0, "seed": 13, "threads": 1}
    return {**base, **changes}


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("must not be called")


# --- budgets ---


def test_samples_fill_the_minutes(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "measured_rate", lambda *_, **__: 3.3)
    asked = settings(drawn_data)
    found = budget.plan(tmp_path, asked, budget.Length(2), smoke=False)
    assert found["samples"] == 396  # 3.3 * 120, a multiple of the batch
    monkeypatch.setattr(budget, "measured_rate", never)
    assert budget.plan(tmp_path, asked, budget.Length(2), smoke=False) == found
    with pytest.raises(FsrstError, match="minutes = 2, now it is 3"):
        budget.plan(tmp_path, asked, budget.Length(3), smoke=False)
    with pytest.raises(FsrstError, match=r"learning_rate = 0\.0005, now it is 0\.1"):
        budget.plan(tmp_path, {**asked, "learning_rate": 0.1}, budget.Length(2), smoke=False)


def test_samples_may_be_asked_for(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's length on a GPU: no rate is measured, and the stages get their share."""
    monkeypatch.setattr(budget, "measured_rate", never)
    config = ROOT / "configs/tables-gpu.yaml"
    length = budget.Length(None, 1_300_000, config)
    found = budget.plan(tmp_path, settings(drawn_data), length, smoke=False)
    assert found["samples"] == 1_300_000
    options = budget.sized(settings(drawn_data), tmp_path, found["samples"], config)
    assert (options.accelerator, options.warmup_samples) == ("auto", 65_000)
    assert protocol.part_of(length, 0.1).samples == 130_000
    assert protocol.part_of(budget.Length(20), 0.1) == budget.Length(2)


def test_all_cores_may_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "physical_cores", lambda: 7)
    parser = protocol.parser_of("x")
    for words, threads in (([], 1), (["--threads", "0"], 7), (["--threads", "2"], 2)):
        asked = parser.parse_args(["--results", str(tmp_path), "--no-identity", *words])
        assert protocol.study_of(asked, "").threads == threads


def test_a_data_set_made_anew_is_noticed(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "measured_rate", lambda *_, **__: 3.3)
    asked = settings(drawn_data)
    budget.plan(tmp_path, asked, budget.Length(2), smoke=False)
    fewer = replace(drawn_data, samples=drawn_data.samples[1:])
    for other in (fewer, replace(drawn_data, info={**drawn_data.info, "size": 64})):
        monkeypatch.setattr(budget, "load_manifest", lambda root, other=other: other)
        with pytest.raises(FsrstError, match="was trained with data_hash"):
            budget.plan(tmp_path, asked, budget.Length(2), smoke=False)


def test_runs_of_an_earlier_version_go_on(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "measured_rate", lambda *_, **__: 3.3)
    asked = settings(drawn_data)
    first = budget.plan(tmp_path, asked, budget.Length(2), smoke=False)
    del first["asked"]["data_hash"], first["asked"]["samples"]
    del first["asked"]["augmentation"]["refs_colour"]
    (tmp_path / budget.BUDGET).write_text(json.dumps(first))
    assert budget.plan(tmp_path, asked, budget.Length(2), smoke=False) == first


def test_rates_of_one_hour_are_used(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice as fast as on the day of the run that is named, so all are halved."""
    kinds = [("resnet-small", 0), ("fsrst", 1), ("c2-student", 1)]  # the last needs a teacher
    monkeypatch.setattr(rates, "KINDS", kinds)
    speeds = {"resnet-small": 6.0, "fsrst": 5.0, "c2-student": 4.0}
    monkeypatch.setattr(rates, "measured_rate", lambda asked, **_: speeds[asked["model"]])
    monkeypatch.setattr(budget, "measured_rate", lambda *_, **__: 3.0)
    budget.plan(tmp_path / "runs/old", settings(drawn_data), budget.Length(1), smoke=False)
    command = ["--data", str(drawn_data.root), "--results", str(tmp_path), "--like"]
    with pytest.raises(FsrstError, match="batches of 4, here they are of 16; give --batch-size 4"):
        rates.main([*command, "old"])
    command = ["--batch-size", "4", *command]
    rates.main([*command, "old"])
    monkeypatch.setattr(budget, "measured_rate", never)
    found = budget.plan(tmp_path / "runs/new", settings(drawn_data), budget.Length(1), smoke=False)
    assert found["samples"] == 180
    asked = settings(drawn_data, model="fsrst", model_options={}, n_references=1)
    found = budget.plan(tmp_path / "runs/fsrst", asked, budget.Length(1), smoke=False)
    assert found["samples"] == 152  # 2.5 * 60, a multiple of 4
    with pytest.raises(FsrstError, match=r"no budget\.json"):
        rates.main([*command, "other"])
    with pytest.raises(FsrstError, match=r"old: that run has 1 thread\(s\), --threads says 2"):
        rates.main([*command, "old", "--threads", "2"])
    with pytest.raises(FsrstError, match=r"rates\.json: runs planned by other rates are not"):
        rates.main([*command, "old"])
    rates.main([*command, "old", "--replace"])
    larger = settings(drawn_data, batch_size=8)  # these rates are of other batches
    monkeypatch.setattr(budget, "measured_rate", lambda *_, **__: 7.0)
    found = budget.plan(tmp_path / "runs/larger", larger, budget.Length(1), smoke=False)
    assert found["samples"] == 416 and found["rates_of"] is None  # 7 * 60, a multiple of 8
    by_samples = budget.Length(None, samples=40)
    budget.plan(tmp_path / "runs/counted", settings(drawn_data), by_samples, smoke=False)
    with pytest.raises(FsrstError, match="its length was given by --samples, so it has no rate"):
        rates.main([*command, "counted", "--replace"])
    asked = settings(drawn_data, model="fsrst", model_options={}, n_references=2)
    budget.plan(tmp_path / "runs/two", asked, budget.Length(1), smoke=False)
    with pytest.raises(FsrstError, match="two is a fsrst-n2; expected one of c2-student-n1, "):
        rates.main([*command, "two", "--replace"])


def test_rates_of_other_threads_are_not_used(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def samples(name: str, threads: int, config: Path = budget.CONFIG) -> int:
        asked = settings(drawn_data, threads=threads)
        length = budget.Length(1, config=config)
        return int(budget.plan(tmp_path / name, asked, length, smoke=False)["samples"])

    path, known = tmp_path / budget.RATES, {"samples_per_s": {"resnet-small-n0": 3.0}}
    monkeypatch.setattr(budget, "measured_rate", lambda *_, **__: 5.0)
    path.write_text(json.dumps(known))  # an earlier version's: one thread
    assert (samples("one", 1), samples("two", 2)) == (180, 300)
    path.write_text(json.dumps({**known, "origin": {"threads": 2}}))
    assert (samples("three", 1), samples("four", 2)) == (300, 180)
    monkeypatch.chdir(ROOT / "configs")
    assert samples("five", 2, Path("tables.yaml")) == 180  # the same file, named in another way
    assert samples("six", 2, Path("tables-unmoved.yaml")) == 180  # of other pictures, the same work
    assert samples("seven", 2, Path("tables-gpu.yaml")) == 300


@pytest.mark.parametrize(
    ("batch", "per_step", "steps"),  # 10 s and 50 samples; at most 30 s, but two steps
    [(16, 1.0, 10), (1, 1.0, 30), (4, 17.0, 2)],
)
def test_the_rate_is_measured_after_the_first_step(
    batch: int,
    per_step: float,
    steps: int,
    drawn_data: Manifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    done = []

    def train(options: Any, progress: Any) -> None:
        for step in range(1, 1000):
            clock[0] += 100 if step == 1 else per_step
            done.append(step)
            progress(step * options.batch_size, options.samples, "")

    monkeypatch.setattr(budget, "train", train)
    monkeypatch.setattr(budget.time, "perf_counter", lambda: clock[0])
    rate = budget.measured_rate(settings(drawn_data, batch_size=batch), seconds=10)
    assert rate == pytest.approx(batch / per_step)
    assert done[-1] == 1 + steps


def test_a_run_is_trained_once(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "measured_rate", lambda *_, **__: 1.0)
    out = tmp_path / "run"
    budget.train_for(out, settings(drawn_data), budget.Length(12 / 60))
    spent = budget.spent(out)
    assert spent["samples"] == 12
    rows = [line.split(",") for line in (out / "metrics.csv").read_text().splitlines()[1:]]
    assert spent["seconds"] == pytest.approx(sum(4 / float(row[-1]) for row in rows), rel=1e-3)
    monkeypatch.setattr(budget, "train", never)
    budget.train_for(out, settings(drawn_data), budget.Length(12 / 60))


def test_divergence_is_a_result_other_errors_are_not(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "measured_rate", lambda *_, **__: 1.0)
    error = [budget.Diverged("the loss is nan after 8 samples; the last checkpoint is kept")]

    def train(*_: Any, **__: Any) -> None:
        raise error[0]

    monkeypatch.setattr(budget, "train", train)
    with pytest.raises(budget.Diverged, match="^the loss is nan after 8 samples$"):
        budget.train_for(tmp_path / "a", settings(drawn_data), budget.Length(1))
    monkeypatch.setattr(budget, "train", never)
    with pytest.raises(budget.Diverged, match="after 8 samples"):
        budget.train_for(tmp_path / "a", settings(drawn_data), budget.Length(1))
    error[0] = FsrstError("the loss is written nowhere")  # begins as the other does
    monkeypatch.setattr(budget, "train", train)
    with pytest.raises(FsrstError, match="written nowhere") as raised:
        budget.train_for(tmp_path / "b", settings(drawn_data), budget.Length(1))
    assert not isinstance(raised.value, budget.Diverged)
    assert not (tmp_path / "b" / budget.FAILURE).exists()


def test_the_stages_share_the_minutes_of_one_model(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, dict[str, Any], float]] = []

    def train_for(out: Path, asked: dict[str, Any], length: Any, *, smoke: bool) -> None:
        calls.append((out.name, asked, length.minutes))

    monkeypatch.setattr(protocol, "train_for", train_for)
    study = protocol.Study(tmp_path, budget.Length(20), vgg="stlpips")
    protocol.train_model(study, "c2-matching", drawn_data, 7)
    names = [f"{stage}-{drawn_data.name}-s7" for stage in ("c2-teacher", "c2-student")]
    assert [name for name, _, _ in calls] == [*names, f"c2-matching-{drawn_data.name}-s7"]
    assert sum(minutes for *_, minutes in calls) == pytest.approx(20)
    teacher, student, last = (asked["model_options"] for _, asked, _ in calls)
    assert teacher == {"vgg": "stlpips"}
    assert student == {"teacher": str(tmp_path / "runs" / names[0] / "model.safetensors")}
    extractors = str(tmp_path / "runs" / names[1] / "model.safetensors")
    assert last == {"vgg": "stlpips", "extractors": extractors}
    runs = protocol.stages_before(study, "mrefsr", drawn_data, 7)
    assert [run.name for run in runs] == names  # the same extractors, the same share
    assert budget.RECIPES["mrefsr"].share == budget.RECIPES["c2-matching"].share


def test_one_batch_size_for_all_networks(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        protocol, "train_for", lambda _, settings, *__, **___: asked.append(settings["batch_size"])
    )
    words = ["--results", str(tmp_path), "--no-identity"]
    for more in ([], ["--batch-size", "4"]):
        arguments = protocol.parser_of("words").parse_args([*words, *more])
        study = protocol.study_of(arguments, "")
        protocol.train_model(study, "fsrst", drawn_data, 7)
        assert protocol.more_options(study) == more
    assert asked == [budget.RECIPES["fsrst"].batch_size, 4]
    with pytest.raises(FsrstError, match="^--batch-size 0: expected 1 or more$"):
        protocol.study_of(protocol.parser_of("words").parse_args([*words, "--batch-size", "0"]), "")


@pytest.mark.parametrize("model", budget.RECIPES)
def test_every_recipe_is_one_of_a_model(model: str, tmp_path: Path) -> None:
    recipe = budget.RECIPES[model]
    asked = {"model": model, "batch_size": recipe.batch_size, "data": ["d"]}
    assert budget.sized(asked, tmp_path, 1000).samples == 1000
    if recipe.vgg:
        assert "vgg" in build(model, **recipe.tiny).options
    with torch.device("meta"):
        assert build(model, **recipe.tiny).name == model


def test_every_model_has_a_recipe() -> None:
    assert set(MODELS) - {"bicubic"} == set(budget.RECIPES)
    assert set(budget.MODELS) == set(budget.RECIPES) - {"c2-teacher", "c2-student"}


# --- a cell ---


@pytest.fixture(scope="module")
def filled(
    drawn_data: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[protocol.Study, dict[str, Any]]:
    """A trained, scored cell of a tiny ResNet, run by torch because its export failed."""
    study = protocol.Study(
        tmp_path_factory.mktemp("results"), budget.Length(0.0001), identity=False, smoke=True
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "export", lambda *_, **__: 1 / 0)
        return study, protocol.cell(study, "resnet-small", drawn_data, drawn_data, 13, 0)


def test_a_cell_of_another_machine_is_kept(
    filled: tuple[protocol.Study, dict[str, Any]],
    drawn_data: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study, found = filled
    here = replace(study, results=tmp_path)
    (tmp_path / "cells").mkdir()
    path = tmp_path / f"cells/{found['run']}-on-{drawn_data.name}.json"
    path.write_text(json.dumps(found))
    monkeypatch.setattr(protocol, "train_model", never)
    again = protocol.cell(here, "resnet-small", drawn_data, drawn_data, 13, 0)
    assert again == json.loads(path.read_text())
    longer = replace(here, length=budget.Length(0.0002))
    with pytest.raises(AssertionError, match="must not be called"):
        protocol.cell(longer, "resnet-small", drawn_data, drawn_data, 13, 0)
    (tmp_path / "runs" / found["run"]).mkdir(parents=True)
    with pytest.raises(AssertionError, match="must not be called"):  # begun here: it goes on
        protocol.cell(here, "resnet-small", drawn_data, drawn_data, 13, 0)


def test_pictures_that_are_no_numbers_are_a_failed_cell(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_picture(*_: Any) -> None:
        to_uint8(np.array([np.nan]))

    study = protocol.Study(tmp_path, budget.Length(None, 2), identity=False, smoke=True)
    monkeypatch.setattr(protocol, "train_model", lambda *_: None)
    monkeypatch.setattr(protocol, "evaluate", no_picture)
    found = protocol.cell(study, "resnet-small", drawn_data, drawn_data, 13, 0)
    assert found["failed"].startswith("1 of 1 values are not numbers")
    assert protocol.read_cells(tmp_path) == [found]


def test_the_papers_sets_are_scored_on_their_test_split(tmp_path: Path) -> None:
    data = write_synthetic(tmp_path / "dfd", identities=4, views=4, splits={"train": 2, "test": 2})
    study = protocol.Study(tmp_path, budget.Length(None, 2), identity=False, smoke=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "export", lambda *_, **__: 1 / 0)
        found = protocol.cell(study, "resnet-small", data, data, 13, 0)
    assert found["summary"]["data"]["split"] == "test"
    assert found["summary"]["conditions"]["none"]["n"] == 8


def test_a_cell_says_where_it_came_from(filled: tuple[protocol.Study, dict[str, Any]]) -> None:
    study, found = filled
    assert found["backend"] == {
        "backend": "torch",
        "reason": "ZeroDivisionError: division by zero",
    }
    assert found["training"]["samples"] > 0
    assert 0 < found["training"]["busy_seconds"] <= found["training"]["seconds"] * (1 + 1e-9)
    assert set(found["summary"]["conditions"]) == {"bicubic", "none"}
    assert found["summary"]["command"].startswith("fsrst evaluate --model results/runs/resnet-")
    text = json.dumps(found)
    assert str(study.results) not in text and "data_root" not in text
    assert protocol.read_cells(study.results) == [json.loads(text)]


def test_stops_are_not_counted_as_work(tmp_path: Path) -> None:
    rows = ["10,2,0.5", "20,2,0.5", "30,2,0.5", "40,2,0.2", "50,2,0.01"]  # 2, 2, 2, 5, 100 s each
    (tmp_path / "metrics.csv").write_text("\n".join(["samples,loss,samples_per_s", *rows]) + "\n")
    assert budget.spent(tmp_path)["seconds"] == pytest.approx(1110)
    assert protocol.busy_seconds(tmp_path) == pytest.approx(130)
    cell = {"training": {"seconds": 1110, "stages_seconds": 90, "busy_seconds": 120}}
    assert table1.busy_minutes(cell) == 2
    del cell["training"]["busy_seconds"]  # an earlier version's
    assert table1.busy_minutes(cell) == 20


def test_a_cell_is_filled_once(
    filled: tuple[protocol.Study, dict[str, Any]],
    drawn_data: Manifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study, found = filled
    for name in ("predict", "score", "opened"):
        monkeypatch.setattr(protocol, name, never)
    monkeypatch.setattr(budget, "train", never)
    assert protocol.cell(study, "resnet-small", drawn_data, drawn_data, 13, 0) == found
    run = study.results / "runs" / found["run"]
    with pytest.raises(AssertionError, match="must not be called"):  # identity: score again
        protocol.evaluate(replace(study, identity=True), run, drawn_data, 0)


def test_a_failure_fills_a_cell_too(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_model(*_: Any) -> None:
        raise budget.Diverged("the loss is nan after 8 samples")

    monkeypatch.setattr(protocol, "train_model", train_model)
    study = protocol.Study(tmp_path)
    protocol.cell(study, "hime", drawn_data, drawn_data, 13, 3)
    (found,) = protocol.read_cells(tmp_path)
    assert found["failed"] == "the loss is nan after 8 samples"
    (row,) = table1.rows_of([found])
    assert "**failed 1 times**" in table1.score_table([row], table1.paper())


def test_costs_are_those_of_the_published_facts() -> None:
    work = costs.multiply_accumulates(build("fsrst-small"), 3)
    assert work["frame"] == pytest.approx(0.53, abs=0.005)
    assert work["frame"] + work["encode"] == pytest.approx(0.83, abs=0.005)
    assert costs.multiply_accumulates(build("resnet-small", width=8, blocks=1), 0)["encode"] == 0


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's /proc")
def test_costs_are_measured_once(
    filled: tuple[protocol.Study, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, found = filled
    runs = {"resnet-small": study.results / "runs" / found["run"]}
    cost = costs.costs_of(study.results, runs, 1, smoke=True)["resnet-small"]
    assert cost["parameters"] == found["summary"]["parameters"]
    assert cost["call"]["median_ms"] > 0
    assert 0 < cost["memory"]["mb"] < cost["memory"]["process_mb"]
    monkeypatch.setattr(costs, "times_of", never)
    assert costs.costs_of(study.results, runs, 1, smoke=True)["resnet-small"] == cost
    with pytest.raises(AssertionError, match="must not be called"):
        costs.costs_of(study.results, runs, 1, smoke=True, again=True)
    with pytest.raises(AssertionError, match="must not be called"):
        costs.costs_of(study.results, runs, 1)  # what a smoke run measured is not known
    assert "resnet-small | " in table1.cost_table({"resnet-small": cost})


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's /proc")
def test_memory_is_told_of_networks_that_take_any_size(tmp_path: Path) -> None:
    found = tmp_path / "memory.json"
    memory.main(["--smoke", "--output", str(found)])
    result = json.loads(found.read_text())
    assert list(result["models"]) == ["span"] and result["side"] == 32
    assert 10 < result["models"]["span"]["memory"]["mb"] < 500
    assert "| span | 0 | 0.0" in memory.markdown(result)
    assert {"ttsr", "c2-matching", "mrefsr", "fsrst2"} <= set(memory.any_size())
    assert not {"fsrst", "c2-teacher"} & set(memory.any_size())


# --- tables from made-up cells ---


def made_up(results: Path, model: str, seed: int, psnrs: list[float], count: int) -> dict[str, Any]:
    """A cell of two people with two pictures each, under ``results``."""
    name = f"{model}-call-s{seed}-n{count}"
    folder = results / "scores" / name
    folder.mkdir(parents=True)
    best = "right" if count else "none"
    lines = [f"p{i},{'ab'[i // 2]},{best},{psnr}" for i, psnr in enumerate(psnrs)]
    (folder / "scores.csv").write_text("\n".join(["id,identity,condition,psnr", *lines]) + "\n")
    means = {"psnr_mean": float(np.mean(psnrs)), "psnr_pooled": 29.0, "ssim": 0.9}
    worse = {**means, "psnr_mean": means["psnr_mean"] - 1}
    conditions = {"right": means, "none": worse, "wrong": worse} if count else {"none": means}
    bicubic = {**means, "psnr_mean": 26.5}
    return {
        "model": model, "run": name, "seed": seed, "references": count, "minutes": 20,
        "smoke": False, "scores": f"scores/{name}",
        "train": {"name": "call", "hash": "1"}, "test": {"name": "call", "hash": "1"},
        "training": {"samples": 9000.0, "seconds": 1100.0, "stages_seconds": 100.0},
        "summary": {
            "parameters": 1000, "options": {}, "conditions": {"bicubic": bicubic, **conditions}
        },
    }  # fmt: skip


def test_rows_are_means_over_seeds(tmp_path: Path) -> None:
    cells = [
        made_up(tmp_path, "resnet", 13, [29, 29, 29, 29], 0),
        made_up(tmp_path, "fsrst", 13, [30, 30, 30, 30], 3),
        made_up(tmp_path, "fsrst", 14, [32, 32, 32, 32], 3),
    ]
    bicubic, resnet, fsrst = table1.rows_of(cells)
    assert (bicubic["model"], bicubic["right"]["psnr_mean"]) == ("bicubic", 26.5)
    assert resnet["right"]["psnr_mean"] == 29 and "psnr_mean_sd" not in resnet["right"]
    assert fsrst["right"]["psnr_mean"] == 31
    assert fsrst["right"]["psnr_mean_sd"] == pytest.approx(2**0.5)
    assert fsrst["none"]["psnr_mean"] == 30
    assert fsrst["minutes"] == pytest.approx(20)  # with the stages before
    text = table1.score_table([bicubic, resnet, fsrst], table1.paper())
    line = next(line for line in text.splitlines() if line.startswith("| fsrst"))
    assert "(2 seeds)" in line and "31.00 ± 1.41" in line and "32.08 / 29.28 / 31.75" in line
    resnet_cells = next(line for line in text.splitlines() if line.startswith("| resnet"))
    assert resnet_cells.split("|")[9:11] == ["  ", "  "]  # it takes no references


def test_claims_are_paired_and_clustered(tmp_path: Path) -> None:
    cells = [
        made_up(tmp_path, "fsrst", 13, [30, 31, 30, 32], 3),
        made_up(tmp_path, "fsrst", 14, [99, 99, 99, 99], 3),  # no other has this seed
        made_up(tmp_path, "hime-small", 13, [29, 29, 30, 30], 3),
        made_up(tmp_path, "resnet", 13, [31, 32, 31, 33.4], 0),
    ]
    claims = {(c["above"], c["below"]): c for c in table1.claims_of(tmp_path, cells)}
    assert set(claims) == {("fsrst", "hime-small"), ("fsrst", "resnet")}
    hime, resnet = claims["fsrst", "hime-small"], claims["fsrst", "resnet"]
    assert hime["seeds"] == [13]
    assert hime["difference_db"] == pytest.approx(1.25)  # of 1, 2, 0, 2
    assert hime["standard_error_db"] == pytest.approx((2 * (0.5**2 + 0.5**2)) ** 0.5 / 4)
    assert hime["paper_db"]["DFD"] == pytest.approx(32.0838 - 31.0227)
    assert resnet["paper_db"] == {"DFD": pytest.approx(0.3343)}
    assert not hime["not_judged"]
    text = table1.claim_table(list(claims.values()))
    assert "| fsrst above hime-small | 1 | +1.25 ± 0.25 | +0.00 |" in text
    assert "| -1.10 ± 0.10 | +0.00 | DFD +0.33 | **does not hold**, for this seed |" in text
    assert "How much seeds differ is not known here" in text


def test_claims_know_that_seeds_differ(tmp_path: Path) -> None:
    cells = [
        made_up(tmp_path, "fsrst", 13, [30, 31, 30, 32], 3),
        made_up(tmp_path, "resnet", 13, [31, 32, 31, 33.4], 0),
    ]
    (claim,) = table1.claims_of(tmp_path, cells, 0.5)
    assert claim["seed_error_db"] == pytest.approx(0.5 * 2**0.5)
    assert "**does not hold**, within two standard errors and seeds'" in table1.claim_table([claim])
    (claim,) = table1.claims_of(tmp_path, cells, 0.1)
    assert "| **does not hold** |" in table1.claim_table([claim])


def test_lengths_by_rates_of_different_days_are_not_compared(tmp_path: Path) -> None:
    cells = [
        made_up(tmp_path, "fsrst", 13, [30, 31, 30, 32], 3),
        made_up(tmp_path, "resnet", 13, [31, 32, 31, 33.4], 0),
    ]
    apart = "not judged: their lengths were planned by rates of different days"

    def said() -> str:
        return table1.claim_table(table1.claims_of(tmp_path, cells))

    cells[0]["training"]["rates_of"] = "2026-02-01T00"
    assert apart in said()
    cells[1]["training"]["rates_of"] = "2026-02-01T00"
    assert "not judged" not in said()
    for one, day in zip(cells, ("2026-02-01", "2026-02-03"), strict=True):
        one["training"]["rates_of"] = None  # each measured its own, at its start
        one["training"]["origin"] = {"date": f"{day}T10:00:00", "commit": "c", "threads": 1}
    assert apart in said()
    cells[1]["training"]["origin"]["date"] = "2026-02-01T11:00:00"
    assert "not judged" not in said()
    for one in cells:
        one |= {"minutes": None, "asked_samples": 4000}  # of counted samples nothing is planned
        one["training"]["origin"]["date"] = one["model"]
    assert "not judged" not in said()


def test_claims_against_untrained_networks_are_not_judged(tmp_path: Path) -> None:
    cells = [
        made_up(tmp_path, "fsrst", 13, [30, 31, 30, 32], 3),
        made_up(tmp_path, "hime-small", 13, [26, 26, 26, 26], 3),  # bicubic has 26.5
        made_up(tmp_path, "ttsr", 13, [29, 29, 29, 29], 1),
    ]
    cells[2]["training"]["samples"] = 612.0
    text = table1.claim_table(table1.claims_of(tmp_path, cells))
    assert "not judged: hime-small is below bicubic" in text
    assert "not judged: ttsr saw 612 samples" in text
    assert "holds" not in text


def test_the_table_comes_from_its_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [made_up(tmp_path, "fsrst", 13, [30, 30, 30, 30], 3)]
    cells.append({**made_up(tmp_path, "ttsr", 13, [27, 27, 27, 27], 1)})
    cells[1]["training"]["samples"] = 300.0
    cells[1]["summary"]["options"] = {"vgg": "loaded:stlpips-vgg16-1"}
    result = {
        "machine": {"cpu": "a processor"}, "threads": 1, "commit": "abc", "date": "2026-01-01T0",
        "smoke": False, "command": "python experiments/table1.py", "cells": cells, "costs": {},
        "rows": table1.rows_of(cells), "claims": table1.claims_of(tmp_path, cells),
        "paper": table1.paper(),
    }  # fmt: skip
    monkeypatch.setattr(table1, "paper", never)
    monkeypatch.setattr(table1, "read_scores", never)
    cells[1]["training"]["stages"] = {"c2-teacher": {"samples": 456, "last_loss": 0.98}}
    cells[1]["training"]["origin"] = {"commit": "def", "date": "2026-01-02T0"}
    text = table1.markdown(json.loads(json.dumps(result)))
    command = "table1.py --train data/call --test data/call --models ttsr fsrst --seeds 13"
    assert f"{command} --minutes 20 --results results`\n" in text
    assert "- 2026-01-01, abc: fsrst-call-s13-n3\n- 2026-01-02, def: ttsr-call-s13-n1\n" in text
    assert "The stops count in the minutes of fsrst-call-s13-n3, ttsr-call-s13-n1." in text
    assert "c2-teacher 0.98 after 456 samples" in text
    assert "Not trained on this pair yet: resnet-small, resnet, span, " in text
    assert "### call -> call, 20 minutes" in text and "+3.00" in text
    assert "**ttsr** saw under 5,000 samples" in text and "stlpips-vgg16" in text
    assert "| C2-Matching | 1 | 9.98 | 32.01 / 0.9339 |" in text


def test_finished_cells_are_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the runs, which stay on the machine that trained them; nothing is measured."""
    place = ROOT / "benchmarks/results/tables/unmoved-batch4"
    for name in ("cells", "scores"):
        (tmp_path / name).symlink_to(place / name)
    monkeypatch.setattr(table1, "cell", never)
    monkeypatch.setattr(table1, "costs_of", never)
    table1.main(["--collect", "--results", str(tmp_path)])
    found = json.loads((tmp_path / "table1.json").read_text())
    published = json.loads((ROOT / "benchmarks/results/table1-unmoved-batch4.json").read_text())
    assert found["claims"] == published["claims"] and found["rows"] == published["rows"]
    with pytest.raises(FsrstError, match="no finished cells of Table 2 in "):
        table2.main(["--collect", "--results", str(tmp_path)])


def test_one_command_makes_the_table() -> None:
    def cell(model: str, test: str, seed: int = 13, **length: Any) -> dict[str, Any]:
        names = {"train": {"name": "photo"}, "test": {"name": test}}
        return {"model": model, "seed": seed, "minutes": 20, **names, **length}

    cells = [
        *(cell(model, test) for model in budget.MODELS for test in ("photo", "call")),
        *(cell("fsrst", "call", seed) for seed in (14, 15)),
        cell("span", "photo", minutes=None, asked_samples=1600, config="tables-gpu.yaml"),
        cell("resnet", "photo", more_options=["--batch-size", "4"]),
        cell("resnet", "photo", minutes=60, more_options=["--batch-size", "4"]),
        cell("resnet", "photo", more_options=["--batch-size", "4"], config="tables-unmoved.yaml"),
    ]
    head, pair = "python experiments/table1.py ", "--train data/photo --test data/"
    assert table1.commands_of(cells) == [
        f"{head}{pair}photo {pair}call --seeds 13 --minutes 20 --results results",
        f"{head}{pair}call --models fsrst --seeds 14 15 --minutes 20 --results results",
        f"{head}{pair}photo --models span --seeds 13 --config configs/tables-gpu.yaml"
        " --samples 1600 --results results/1600samples-gpu",
        f"{head}{pair}photo --models resnet --seeds 13 --batch-size 4 --minutes 20"
        " --results results/batch4",
        f"{head}{pair}photo --models resnet --seeds 13 --batch-size 4 --minutes 60"
        " --results results/60min-batch4",
        f"{head}{pair}photo --models resnet --seeds 13 --config configs/tables-unmoved.yaml"
        " --batch-size 4 --minutes 20 --results results/unmoved-batch4",
    ]


def test_budgets_are_not_mixed(tmp_path: Path) -> None:
    """A network trained for an hour is not compared with one trained for 20 minutes."""
    cells = [
        made_up(tmp_path, "resnet", 13, [29, 29, 29, 29], 0),
        {**made_up(tmp_path, "fsrst", 13, [30, 30, 31, 31], 3), "minutes": 60},
        {
            **made_up(tmp_path, "fsrst", 14, [30, 30, 31, 31], 3),
            "minutes": None,
            "asked_samples": 1_300_000,
        },
        {
            **made_up(tmp_path, "fsrst", 15, [30, 30, 31, 31], 3),
            "more_options": ["--batch-size", "4"],
        },
    ]
    groups = table1.grouped(cells)
    assert [len(group) for group in groups] == [1, 1, 1, 1]
    assert not any(table1.claims_of(tmp_path, group) for group in groups)
    budgets = [table1.rows_of(group)[0]["budget"] for group in groups]
    assert budgets == [
        "20 minutes", "60 minutes", "1,300,000 samples", "20 minutes, batches of 4"
    ]  # fmt: skip
    assert table1.lengths_of(cells) == (
        "as many samples as 20 or 60 minutes on one core give or 1,300,000 samples"
    )


def test_table_2_tells_what_references_add(tmp_path: Path) -> None:
    cells = [
        made_up(tmp_path, "resnet", 13, [29, 29, 29, 29], 0),
        made_up(tmp_path, "fsrst", 13, [29, 29, 29.5, 29.5], 1),
        made_up(tmp_path, "fsrst", 13, [30, 30, 31, 31], 3),
    ]
    none, one, three = table2.rows_of(tmp_path, cells)
    assert "gain_db" not in none
    assert (one["gain_db"], three["gain_db"]) == (0.25, 1.5)
    assert three["gain_standard_error_db"] == pytest.approx(0.5)
    text = table2.score_table([none, one, three], table2.paper()["table2"])
    assert "| +1.50 ± 0.50 |" in text and "| 32.08 / 0.9308 |" in text


def test_table_2_shows_what_it_was_asked_for(
    drawn_data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 and 3 references alone are also a pair of Table 1, which is not shown unasked."""
    cells = {
        0: {**made_up(tmp_path, "resnet-small", 13, [29, 29, 29, 29], 0)},
        3: {**made_up(tmp_path, "fsrst-small", 13, [30, 30, 31, 31], 3)},
    }
    for one in cells.values():
        one |= {"config": "tables.yaml", "command": None, "asked_samples": None}
        one["summary"]["definitions"] = {}
    monkeypatch.setattr(table2, "cell", lambda *arguments: cells[arguments[-1]])
    monkeypatch.setattr(table2, "read_cells", lambda results: list(cells.values()))
    monkeypatch.setattr(table2, "report", lambda folders: "")
    arguments = table2.parser_of("x").parse_args(["--results", str(tmp_path)])
    arguments.references, arguments.small = [0, 3], True
    sets = drawn_data, drawn_data
    result = table2.run(arguments, sets, "table2.py --references 3 --seeds 13")
    assert [row["references"] for row in result["rows"]] == [0, 3]
    made = (tmp_path / "table2.md").read_text(encoding="utf-8")
    assert "`table2.py --seeds 13 --references 0 3`" in made  # all rows, not what was missing
    arguments.references = [0]
    cells[0]["run"], cells[3]["run"] = "another", "third"
    monkeypatch.setattr(table2, "cell", lambda *arguments: {**cells[0], "run": "asked"})
    assert table2.run(arguments, sets, "")["rows"] == []


def test_table_2_refuses_fewer_references_than_it_names(
    drawn_data: Manifest, tmp_path: Path
) -> None:
    table2.check_references(drawn_data, drawn_data, 3)
    with pytest.raises(FsrstError, match="lists 3 references, 5 are asked for.*references 2"):
        table2.check_references(drawn_data, drawn_data, 5)
    few = [replace(s, references=s.references[:1]) for s in drawn_data.samples if s.split == "val"]
    for sample in few:
        for file in (sample.target, *sample.references):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes((drawn_data.root / file).read_bytes())
    test = write_manifest(tmp_path, few, dict(drawn_data.info))
    with pytest.raises(FsrstError, match="val: .* lists 1 references"):
        table2.check_references(drawn_data, test, 2)


def test_table_2_says_whether_the_papers_finding_holds() -> None:
    numbers = {"rows": [{"references": n, "DFD": [31.0 + n / 10, 0.9]} for n in (0, 1, 3)]}
    common = {"size": "full", "seeds": [13], "gain_standard_error_db": 0.05, "not_judged": ""}
    rows = [{**common, "references": n, "gain_db": gain} for n, gain in ((1, 0.2), (3, 0.09))]
    said = table2.verdict([{"references": 0, "size": "full"}, *rows], numbers)
    assert "with 1 reference +0.10 there, +0.20 ± 0.05 here (holds, for this seed)" in said
    assert "+0.09 ± 0.05 here (holds, within two standard errors of 0)" in said
    rows[0] |= {"gain_db": -0.5, "seeds": [13, 14]}
    rows[1]["not_judged"] = "fsrst saw 8 samples"
    said = table2.verdict(rows, numbers)
    assert "-0.50 ± 0.05 here (**does not hold**)" in said
    assert "(not judged: fsrst saw 8 samples)" in said
    assert table2.verdict([], numbers) == ""


# --- figures ---


class Constant:
    """An upscaler whose pictures are of one grey."""

    backend, precision, self_ensemble, scale = "torch", "f32", False, 4

    def __init__(self, grey: int) -> None:
        self.model = f"grey-{grey}"
        self.info = {"weights_hash": f"{grey:016d}", "options": {}}
        self.graph = None
        self.grey = grey

    def check_size(self, height: int, width: int, /) -> None:
        pass

    def set_references(self, pictures: list[Pixels], /) -> None:
        pass

    def __call__(self, lr: Pixels, /) -> Pixels:
        return np.full((4 * lr.shape[0], 4 * lr.shape[1], 3), self.grey, dtype=np.uint8)


@pytest.fixture(scope="module")
def folders(drawn_data: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Scored folders of two models, one of which takes no references."""
    root = tmp_path_factory.mktemp("figures")
    for name, grey, conditions in (("a", 60, ("right",)), ("b", 190, ("none",))):
        references = 3 if conditions == ("right",) else 0
        out = root / name
        predict(
            Constant(grey), drawn_data, "val", out, n_references=references, conditions=conditions
        )
        score(out, drawn_data)
    return {name: root / name for name in "ab"}


def test_a_sheet_shows_every_model_beside_the_truth(
    folders: dict[str, Path], drawn_data: Manifest
) -> None:
    made = figures.figure(folders, people=2)
    gap = 4
    step = 128 + gap
    assert made.shape[1] == gap + 8 * step  # input, 3 references, bicubic, a, b, truth
    row = (made[:, gap + 5 * step : gap + 5 * step + 128] == 60).all(axis=(1, 2))
    assert row.sum() == 2 * 128  # two people
    top = int(np.argmax(row))
    panels = [made[top : top + 128, gap + n * step :][:, :128] for n in range(8)]
    first = drawn_data.split("val")[0]  # of the first person
    assert np.array_equal(panels[7], read_image(drawn_data.root / first.target))
    assert np.array_equal(panels[1], read_image(drawn_data.root / first.references[0]))
    assert (panels[6] == 190).all()


def test_a_sheet_is_of_one_data_set(folders: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    record = json.loads((folders["b"] / "predictions.json").read_text())
    record["data"]["hash"] = "0" * 16
    (other / "predictions.json").write_text(json.dumps(record))
    with pytest.raises(FsrstError, match="one sheet shows one of them"):
        figures.figure({"a": folders["a"], "other": other}, people=1)


def test_a_committed_sheet_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / "sheet.png"
    monkeypatch.setattr(figures, "LARGEST", 8000)
    figures.written(path, pixels, small=True)
    assert path.stat().st_size <= 8000
    assert np.abs(read_image(path).astype(int) - pixels).mean() < 30
    monkeypatch.setattr(figures, "LARGEST", 2000)
    with pytest.raises(FsrstError, match="larger than 2000 bytes"):
        figures.written(path, pixels, small=True)


# --- command lines ---


def test_commands_name_no_machine(drawn_data: Manifest, tmp_path: Path) -> None:
    data, results = str(drawn_data.root), str(tmp_path)
    shown = protocol.command_of(
        [f"{tmp_path}/table1.py", "--train", data, "--results", results, "--vgg", "/place/v.pth"]
    )
    name = drawn_data.root.name
    assert shown == (
        f"python experiments/table1.py --train data/{name} --results results --vgg v.pth"
    )


@pytest.mark.parametrize(
    ("script", "words", "message"),
    [
        (table1, ["--train", "d", "--results", "r"], "1 --train and 0 --test: name both"),
        (table1, ["--train", "d", "--test", "d", "--results", "r"], "no manifest.jsonl in d"),
        (table2, ["--results", "r"], "say what to score: --data DIR"),
        (table2, ["--data", "DRAWN", "--minutes", "0", "--results", "r"], "expected more than 0"),
        (table2, ["--data", "DRAWN", "--minutes", "nan", "--results", "r"], "expected more than 0"),
        (table2, ["--data", "DRAWN", "--seeds", "-3", "--results", "r"], "--seeds -3: expected 0"),
        (table2, ["--data", "DRAWN"], "say where the results go: --results DIR"),
        (figures, [], "nothing to draw"),
        (figures, ["r"], "say where the sheet goes"),
        (figures, ["--results", "r"], "no cells in r"),
        (figures, ["--drawn", "x.png", "--people", "0"], "expected 1 or more"),
    ],
)
def test_mistakes_are_one_line(
    script: Any,
    words: list[str],
    message: str,
    drawn_data: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(drawn_data.root) if word == "DRAWN" else word for word in words]
    monkeypatch.setattr(sys, "argv", ["script", *words])
    assert protocol.finished(script.main) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("script", ["table1", "table2", "figures"])
def test_the_smoke_run_reaches_its_end(script: str, tmp_path: Path) -> None:
    """Training, export, prediction, scores and tables of the real command, on drawn faces."""
    command = [sys.executable, str(ROOT / f"experiments/{script}.py"), "--smoke"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "written: " in done.stdout
    assert not any(tmp_path.iterdir())
