"""Predict first, score second: with a made-up upscaler on drawn faces."""

import csv
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fsrst
from fsrst.data.degradation import degrade
from fsrst.data.manifest import Manifest, Sample, load_manifest, write_manifest
from fsrst.data.synthetic import write_synthetic
from fsrst.errors import FsrstError
from fsrst.evaluate import metrics
from fsrst.evaluate.predict import (
    CONDITIONS,
    graph_hash,
    predict,
    prediction_path,
    references_of,
)
from fsrst.evaluate.report import strips
from fsrst.evaluate.score import bicubic, clustered_standard_error, read_scores, score, spread
from fsrst.image import Pixels, read_image, resize_bicubic, to_uint8, write_image
from fsrst.runtime.upscaler import open_upscaler

SIDE = 64


class Blend:
    """Bicubic with a little of the mean reference: what it is given shows in what it returns."""

    def __init__(self, weights_hash: str = "0123456789abcdef") -> None:
        self.model, self.backend, self.precision, self.scale = "blend", "numpy", "f32", 4
        self.lr_size = SIDE // 4
        self.info: dict[str, Any] = {
            "weights_hash": weights_hash,
            "options": {"width": 1},
            "parameters": 1,
            "training": {"options": {"seed": 13}, "samples": 40000},
        }
        self.graph: Path | None = None
        self.self_ensemble = False
        self.references = 0
        self.calls = 0
        self.settings = 0
        self._mean: Pixels | None = None

    def check_size(self, height: int, width: int) -> None:
        pass

    def set_references(self, references: list[Pixels]) -> None:
        self.settings += 1
        self.references = len(references)
        self._mean = np.mean(references, axis=0) if references else None

    def __call__(self, lr: Pixels) -> Pixels:
        self.calls += 1
        enlarged = resize_bicubic(lr, SIDE, SIDE)
        if self._mean is None:
            return enlarged
        return to_uint8((0.8 * enlarged + 0.2 * self._mean) / 255)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    root = tmp_path_factory.mktemp("data") / "drawn"
    return write_synthetic(root, identities=4, views=3, size=SIDE, splits={"train": 1, "val": 3})


@pytest.fixture
def results(manifest: Manifest, tmp_path: Path) -> Path:
    predict(Blend(), manifest, "val", tmp_path / "out", n_references=2, command="fsrst evaluate x")
    return tmp_path / "out"


def pictures(out: Path) -> list[Path]:
    return sorted(out.glob("*/*.png"))


def test_predictions_are_what_the_upscaler_returns(manifest: Manifest, results: Path) -> None:
    samples = manifest.split("val")
    assert len(pictures(results)) == 3 * len(samples)
    sample = samples[0]
    blend = Blend()
    for condition in CONDITIONS:
        names = references_of(sample, samples, condition, 2)
        blend.set_references([read_image(manifest.root / name) for name in names])
        lr = degrade(read_image(manifest.root / sample.target), 4)
        written = read_image(prediction_path(results, condition, sample))
        assert np.array_equal(written, blend(lr))


def test_the_three_conditions_take_the_right_pictures(manifest: Manifest) -> None:
    samples = manifest.split("val")
    for sample in samples:
        assert references_of(sample, samples, "right", 2) == sample.references[:2]
        assert references_of(sample, samples, "none", 2) == ()
        wrong = references_of(sample, samples, "wrong", 2)
        assert len(wrong) == 2
        own = {s.target for s in samples if s.identity == sample.identity}
        assert not own & set(wrong)


def test_as_many_wrong_references_as_right_ones() -> None:
    def sample(person: str, references: tuple[str, ...]) -> Sample:
        return Sample(person, person, "val", f"{person}.png", references, "")

    a, b = sample("a", ("a1", "a2", "a3")), sample("b", ("b1",))
    assert references_of(a, [a, b], "wrong", 3) == ("b1", "b.png")
    assert references_of(b, [a, b], "wrong", 3) == ("a1",)


def test_record(manifest: Manifest, results: Path) -> None:
    record = json.loads((results / "predictions.json").read_text())
    pictures = manifest.pictures_hash("val")
    expected = {"name": manifest.name, "hash": manifest.hash, "split": "val", "pictures": pictures}
    assert record["data"] == expected
    assert record["conditions"] == list(CONDITIONS)
    assert (record["model"], record["weights_hash"]) == ("blend", "0123456789abcdef")
    assert (record["n_references"], record["seed"], record["scale"]) == (2, 13, 4)
    assert {"version", "commit", "backend", "precision", "options"} <= record.keys()


def test_a_model_file_is_named_without_its_folder(manifest: Manifest, tmp_path: Path) -> None:
    for file in ("a/small.safetensors", "a/small.upscale.onnx", "small/model.safetensors"):
        blend = with_attribute("model", str(tmp_path / file))
        record = predict(blend, manifest, "val", tmp_path / "out", conditions=("none",))
        assert record["model"] == "small"


def test_references_shared_by_neighbours_are_set_once(manifest: Manifest, tmp_path: Path) -> None:
    blend = Blend()
    predict(blend, manifest, "val", tmp_path / "out", conditions=("none",))
    assert (blend.settings, blend.calls) == (1, len(manifest.split("val")))


def test_resume_keeps_what_is_there(manifest: Manifest, results: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in pictures(results)}
    lost = pictures(results)[4]
    content = lost.read_bytes()
    lost.unlink()
    blend = Blend()
    predict(blend, manifest, "val", results, n_references=2)
    assert blend.calls == 1
    assert lost.read_bytes() == content
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path != lost)


def test_a_data_set_made_anew_is_predicted_anew(manifest: Manifest, results: Path) -> None:
    """Same names, other pictures: the manifest's hash does not tell, the files' times do."""
    target = manifest.split("val")[0].target
    later = time.time() + 60
    os.utime(manifest.root / target, (later, later))
    names = {
        condition: [
            sample.id
            for sample in manifest.split("val")
            if target
            in (sample.target, *references_of(sample, manifest.split("val"), condition, 2))
        ]
        for condition in CONDITIONS
    }
    blend = Blend()
    predict(blend, manifest, "val", results, n_references=2)
    assert blend.calls == sum(len(ids) for ids in names.values()) > 1
    os.utime(manifest.root / target, (later - 120, later - 120))


def test_other_pictures_of_the_same_names_are_predicted_anew(
    manifest: Manifest, tmp_path: Path
) -> None:
    """Nothing of the first set stays, though its files are older than the predictions."""
    other = tmp_path / "other"
    shutil.copytree(manifest.root, other)
    for sample in manifest.split("val"):
        path = other / sample.target
        before = path.stat()
        write_image(path, read_image(path)[:, ::-1])
        os.utime(path, (before.st_atime, before.st_mtime))
    out = tmp_path / "out"
    predict(Blend(), manifest, "val", out, conditions=("none",))
    score(out, manifest)
    mirrored = load_manifest(other)
    assert mirrored.hash == manifest.hash
    with pytest.raises(FsrstError, match="other pictures than when"):
        score(out, mirrored)
    blend = Blend()
    predict(blend, mirrored, "val", out, conditions=("none",))
    assert blend.calls == len(mirrored.split("val"))
    score(out, mirrored)


def test_another_graph_of_the_same_weights_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    """A network's code has changed and its weights have not."""
    blend = Blend()
    blend.graph = tmp_path / "blend.upscale.onnx"
    blend.graph.write_bytes(b"as it was")
    record = predict(blend, manifest, "val", tmp_path / "out", conditions=("none",))
    assert predict(blend, manifest, "val", tmp_path / "out", conditions=("none",)) == record
    blend.graph.write_bytes(b"as it is now")
    with pytest.raises(FsrstError, match="made with graph_hash"):
        predict(blend, manifest, "val", tmp_path / "out", conditions=("none",))


def test_torch_knows_its_graph_by_the_networks_code(manifest: Manifest, tmp_path: Path) -> None:
    record = predict(Blend(), manifest, "val", tmp_path / "out", conditions=("none",))
    assert record["graph_hash"] == graph_hash(None)
    path = tmp_path / "out" / "predictions.json"
    path.write_text(json.dumps({**record, "graph_hash": "another"}))
    with pytest.raises(FsrstError, match="made with graph_hash"):
        predict(Blend(), manifest, "val", tmp_path / "out", conditions=("none",))
    path.write_text(json.dumps({**record, "graph_hash": None}))  # earlier versions do not tell
    predict(Blend(), manifest, "val", tmp_path / "out", conditions=("none",))


def test_what_is_kept_keeps_its_commit(manifest: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record = predict(Blend(), manifest, "val", out, conditions=("none",), command="first")
    (out / "predictions.json").write_text(json.dumps({**record, "commit": "before"}))
    kept = predict(Blend(), manifest, "val", out, conditions=("none",), command="second")
    assert (kept["commit"], kept["command"]) == ("before", "first")
    prediction_path(out, "none", manifest.split("val")[0]).unlink()
    again = predict(Blend(), manifest, "val", out, conditions=("none",), command="third")
    assert (again["commit"], again["command"]) == (record["commit"], "third")


def test_a_call_that_made_no_picture_binds_nothing(manifest: Manifest, tmp_path: Path) -> None:
    class Fails(Blend):
        def __call__(self, lr: Pixels) -> Pixels:
            raise FsrstError("takes another size")

    with pytest.raises(FsrstError, match="another size"):
        predict(Fails("another"), manifest, "val", tmp_path / "out")
    assert predict(Blend(), manifest, "val", tmp_path / "out")["weights_hash"] != "another"


def test_a_condition_can_be_added_later(manifest: Manifest, tmp_path: Path) -> None:
    for conditions in (("right",), ("none",)):
        record = predict(Blend(), manifest, "val", tmp_path / "out", conditions=conditions)
    assert record["conditions"] == ["right", "none"]
    summary = score(tmp_path / "out")
    assert "worth_of_references_db" in summary
    assert "harm_of_wrong_db" not in summary


def with_info(**facts: Any) -> Blend:
    blend = Blend()
    blend.info.update(facts)
    return blend


def with_attribute(name: str, value: str | int) -> Blend:
    blend = Blend()
    setattr(blend, name, value)
    return blend


@pytest.mark.parametrize(
    ("upscaler", "arguments", "named"),
    [
        (lambda: with_info(weights_hash="f" * 16), {}, "weights_hash = 0123456789abcdef, now it"),
        (lambda: with_info(options={"width": 2}), {}, "options.width = 1, now it is 2"),
        (lambda: with_attribute("backend", "torch"), {}, "backend = numpy, now it is torch"),
        (lambda: with_attribute("precision", "int8"), {}, "precision = f32, now it is int8"),
        (
            lambda: with_attribute("self_ensemble", True),
            {},
            "self_ensemble = False, now it is True",
        ),
        (lambda: with_attribute("model", "other"), {}, "model = blend, now it is other"),
        (lambda: with_attribute("scale", 2), {}, "scale = 4, now it is 2"),
        (Blend, {"n_references": 1}, "n_references = 2, now it is 1"),
        (Blend, {"split": "train", "conditions": ("none",)}, "data.split = val, now it is train"),
    ],
)
def test_mixing_is_refused(
    manifest: Manifest,
    results: Path,
    upscaler: Callable[[], Blend],
    arguments: dict[str, Any],
    named: str,
) -> None:
    before = (results / "predictions.json").read_bytes()
    with pytest.raises(FsrstError, match="choose another folder") as raised:
        predict(
            upscaler(), manifest, **{"split": "val", "n_references": 2, **arguments}, out=results
        )
    assert named in str(raised.value)
    assert (results / "predictions.json").read_bytes() == before


def test_a_self_ensemble_is_not_mixed_with_single_pictures(
    manifest: Manifest, tmp_path: Path
) -> None:
    predict(with_attribute("self_ensemble", True), manifest, "val", tmp_path / "out")
    with pytest.raises(FsrstError, match="self_ensemble = True, now it is False"):
        predict(Blend(), manifest, "val", tmp_path / "out")
    predict(Blend(), manifest, "val", tmp_path / "earlier")
    record = json.loads((tmp_path / "earlier/predictions.json").read_text())
    del record["self_ensemble"]  # as earlier versions wrote it
    (tmp_path / "earlier/predictions.json").write_text(json.dumps(record))
    predict(Blend(), manifest, "val", tmp_path / "earlier")


def test_mixing_versions_is_refused(
    manifest: Manifest, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsrst, "__version__", "0.0.0")
    with pytest.raises(FsrstError, match=r"version = .*, now it is 0\.0\.0"):
        predict(Blend(), manifest, "val", results, n_references=2)


def test_weights_without_a_hash_are_not_mixed(manifest: Manifest, tmp_path: Path) -> None:
    blend = Blend()
    del blend.info["weights_hash"]
    predict(blend, manifest, "val", tmp_path / "out", conditions=("none",))
    with pytest.raises(FsrstError, match="no hash; choose another folder"):
        predict(blend, manifest, "val", tmp_path / "out", conditions=("none",))


def test_bad_arguments(manifest: Manifest, tmp_path: Path) -> None:
    def refused(match: str, **arguments: Any) -> None:
        with pytest.raises(FsrstError, match=match):
            predict(Blend(), manifest, **{"split": "val", "out": tmp_path / "out", **arguments})
        assert not (tmp_path / "out").exists()

    refused("conditions left", conditions=("left",))
    refused("none given", conditions=())
    refused("-1 references", n_references=-1)
    refused("0 references", n_references=0)
    refused("no split 'test'", split="test")
    refused("at least two identities", split="train")
    refused("the data set itself", out=manifest.root)


@pytest.mark.parametrize(
    ("model", "size", "words"),
    [
        ("fsrst-small-photo", 64, r"64x64 px, .* fsrst-small-photo .* at 4x; .* --size 128$"),
        ("fsrst2-small", 50, "50x50 px.* a --size that is a multiple of 4, 32 to 2048$"),
        ("fsrst2-small", 16, "16x16 px.* a --size that is a multiple of 4, 32 to 2048$"),
    ],
)
def test_a_set_of_a_size_that_the_model_cannot_take_leaves_nothing(
    tmp_path: Path, model: str, size: int, words: str
) -> None:
    data = write_synthetic(tmp_path / "data", identities=2, views=2, size=size)
    with pytest.raises(FsrstError, match=words):
        predict(open_upscaler(model), data, "val", tmp_path / "out", conditions=("none",))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_left_alone(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(FsrstError, match=r"other files and no predictions\.json"):
        predict(Blend(), manifest, "val", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_progress_of_both_steps(manifest: Manifest, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, what: str) -> None:
        seen.append((done, total, what))

    predict(Blend(), manifest, "val", tmp_path / "out", progress=progress)
    assert [done for done, _, _ in seen] == list(range(1, 28))
    assert {total for _, total, _ in seen} == {27}
    seen.clear()
    score(tmp_path / "out", progress=progress)
    assert seen[-1] == (9, 9, "score")


def test_scores_are_those_of_the_pictures(manifest: Manifest, results: Path) -> None:
    summary = score(results)
    with (results / "scores.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 4 * len(manifest.split("val"))
    sample = manifest.split("val")[4]
    truth = read_image(manifest.root / sample.target)
    outputs = {name: read_image(prediction_path(results, name, sample)) for name in CONDITIONS}
    outputs["bicubic"] = resize_bicubic(degrade(truth, 4), SIDE, SIDE)
    for row in rows:
        if row["id"] == sample.id:
            output = outputs.pop(row["condition"])
            assert row["identity"] == sample.identity
            for measure in ("psnr", "psnr_y", "ssim", "ssim_y"):
                expected = getattr(metrics, measure)(output, truth)
                assert float(row[measure]) == pytest.approx(expected, abs=1e-5), measure
    assert not outputs
    assert not {"identity_distance", "st_lpips"} & set(rows[0])

    by_condition = {
        name: [row for row in rows if row["condition"] == name] for name in summary["conditions"]
    }
    for name, group in by_condition.items():
        means = summary["conditions"][name]
        assert means["n"] == 9
        assert means["identities"] == 3
        psnrs = [float(row["psnr"]) for row in group]
        assert means["psnr_mean"] == pytest.approx(np.mean(psnrs), abs=1e-5)
        pooled = metrics.psnr_of(np.mean([float(row["mse"]) for row in group]))
        assert means["psnr_pooled"] == pytest.approx(pooled, abs=1e-5)
        assert means["psnr_pooled"] < means["psnr_mean"]
        for measure in ("psnr_y", "ssim", "ssim_y"):
            values = [float(row[measure]) for row in group]
            assert means[measure] == pytest.approx(np.mean(values), abs=1e-5), measure


def test_the_three_columns_differ(results: Path) -> None:
    summary = score(results)
    means = {name: facts["psnr_mean"] for name, facts in summary["conditions"].items()}
    assert means["none"] == pytest.approx(means["bicubic"])  # Blend without references
    assert means["right"] != means["none"]
    assert means["wrong"] < means["right"]
    assert summary["worth_of_references_db"] == pytest.approx(means["right"] - means["none"])
    assert summary["harm_of_wrong_db"] == pytest.approx(means["none"] - means["wrong"])
    assert summary["harm_of_wrong_standard_error_db"] > 0


def test_summary_keeps_the_record_and_no_place_on_this_machine(results: Path) -> None:
    score(results)
    text = (results / "summary.json").read_text()
    summary = json.loads(text)
    assert summary["command"] == "fsrst evaluate x"
    assert {"model", "weights_hash", "data", "seed", "version", "commit"} <= summary.keys()
    assert str(results.parent) not in text


def test_scoring_refuses_half_a_job(manifest: Manifest, results: Path, tmp_path: Path) -> None:
    pictures(results)[0].unlink()
    with pytest.raises(FsrstError, match=r"1 of 9 predictions are missing under 'none'"):
        score(results)
    assert not (results / "scores.csv").exists()
    with pytest.raises(FsrstError, match=r"no predictions\.json"):
        score(tmp_path)


def test_scoring_refuses_another_data_set(results: Path, tmp_path: Path) -> None:
    other = write_synthetic(
        tmp_path / "other", identities=4, views=2, size=SIDE, splits={"train": 1, "val": 3}
    )
    with pytest.raises(FsrstError, match="is not the data set of the predictions"):
        score(results, other)


def test_scoring_follows_a_data_set_that_moved(manifest: Manifest, tmp_path: Path) -> None:
    before = write_synthetic(
        tmp_path / "a", identities=2, views=2, size=SIDE, splits={"val": 2, "train": 0}
    )
    predict(Blend(), before, "val", tmp_path / "out")
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(FsrstError, match=r"no manifest\.jsonl"):
        score(tmp_path / "out")
    assert score(tmp_path / "out", load_manifest(tmp_path / "b"))["conditions"]["right"]["n"] == 4


def test_optional_measures(tmp_path: Path) -> None:
    pytest.importorskip("dlib")
    pytest.importorskip("torch")
    pytest.importorskip("stlpips_pytorch")
    manifest = write_synthetic(
        tmp_path / "data", identities=2, views=2, size=SIDE, splits={"val": 2}
    )
    predict(Blend(), manifest, "val", tmp_path / "out")
    summary = score(tmp_path / "out", identity=True, st_lpips=True)
    right, none, bicubic = (summary["conditions"][name] for name in ("right", "none", "bicubic"))
    for measure in ("identity_distance", "st_lpips"):
        assert right[measure] > 0
        assert none[measure] == bicubic[measure] != right[measure]  # as in the columns above
    assert right["identity_distance_spread"] >= 0
    assert 0 <= summary["identity_without_detection"] <= 4
    assert {"identity_distance", "face_found", "st_lpips"} <= read_scores(tmp_path / "out")[
        0
    ].keys()


def test_clustered_standard_error_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0, 6.0])
    # one value per person: the ordinary standard error
    ordinary = values.std(ddof=1) / 2
    assert clustered_standard_error(values, list("abcd")) == pytest.approx(ordinary)
    # two people; mean 3; sums of deviations -3 and +3: sqrt(2 / 1 * 18) / 4
    assert clustered_standard_error(values, list("aabb")) == pytest.approx(1.5)
    assert clustered_standard_error(values, list("aaaa")) is None
    assert spread(values, list("aabb")) == pytest.approx(np.std([1.5, 4.5], ddof=1))
    assert spread(values, list("aaaa")) is None


def test_strips_of_a_result(manifest: Manifest, results: Path) -> None:
    with pytest.raises(FsrstError, match=r"no scores\.csv"):
        strips(results)
    score(results)
    path = strips(results, samples=2, height=128)
    rows = sorted((results / "strips").glob("*.png"))
    assert len(rows) == 2
    single, whole = read_image(rows[0]), read_image(path)
    assert whole.shape == (2 * single.shape[0], single.shape[1], 3)
    assert {row.stem for row in rows} <= {s.id for s in manifest.split("val")}


def test_what_a_strip_shows(manifest: Manifest, results: Path) -> None:
    score(results)
    whole = read_image(strips(results, samples=1, height=SIDE))
    sample = manifest.split("val")[0]
    truth = read_image(manifest.root / sample.target)
    shown = [
        degrade(truth, 4).repeat(4, axis=0).repeat(4, axis=1),
        bicubic(truth, 4),
        read_image(prediction_path(results, "right", sample)),
        truth,
        *(read_image(manifest.root / name) for name in sample.references),
    ]
    panels = whole[20 : 20 + SIDE].reshape(SIDE, -1)[:, 3 * 4 :]  # below a title, right of a gap
    panels = panels.reshape(SIDE, len(shown), SIDE + 4, 3)[:, :, :SIDE]
    assert np.array_equal(panels.swapaxes(0, 1), shown)


def test_pictures_of_several_sizes_are_scored(tmp_path: Path) -> None:
    """The pooled error weighs pixels, not pictures."""
    samples = []
    generator = np.random.default_rng(3)
    for person, side in (("a", 32), ("b", 64)):
        picture = generator.integers(0, 256, (side, side, 3), np.uint8)
        write_image(tmp_path / f"data/images/{person}.png", picture)
        name = f"images/{person}.png"
        samples.append(Sample(person, person, "val", name, (), "noise"))
    data = write_manifest(tmp_path / "data", samples, {"name": "noise", "size": 64})

    class Enlarge(Blend):
        def __call__(self, lr: Pixels) -> Pixels:
            return resize_bicubic(lr, lr.shape[1] * 4, lr.shape[0] * 4)

    predict(Enlarge(), data, "val", tmp_path / "out", conditions=("none",))
    summary = score(tmp_path / "out")
    errors = [row["mse"] for row in read_scores(tmp_path / "out") if row["condition"] == "none"]
    assert summary["conditions"]["none"]["psnr_pooled"] == pytest.approx(
        metrics.psnr_of((errors[0] + 4 * errors[1]) / 5), abs=1e-5
    )


def test_a_graph_is_named_by_its_numbers_too(tmp_path: Path) -> None:
    graph = tmp_path / "m.int8.xml"
    graph.write_text("<net/>")
    hashes = set()
    for numbers in (b"1", b"2"):
        graph.with_suffix(".bin").write_bytes(numbers)
        hashes.add(graph_hash(graph))
    onnx = tmp_path / "m.onnx"
    onnx.write_text("<net/>")
    assert len({*hashes, graph_hash(onnx), graph_hash(None)}) == 4
