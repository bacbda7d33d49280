"""Bad input of every kind: one clear line, exit code 2, nothing written.

A case is a command line (``{tmp}`` is the folder of the case, ``{model}`` an exported model,
``{data}`` a prepared data set) and what the line must say. What the odd files hold stands in
``make_files``.
"""

import json
import os
import shlex
import shutil
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsrst.cli import run
from fsrst.data.degradation import degrade
from fsrst.data.manifest import Manifest
from fsrst.image import Pixels, read_image, write_image

UPSCALE = "upscale {tmp}/lr.png -o {tmp}/out.png --model {model}"
EVALUATE = "evaluate --model {model} --data {data} -o {tmp}/results"

# command line -> words of the line
REFUSED = {
    # the input picture
    "input is missing": ("upscale {tmp}/no.png -o {tmp}/out.png --model {model}", "no such file"),
    "input is no picture": (
        "upscale {tmp}/text.png -o {tmp}/out.png --model {model}",
        "text.png: not a picture",
    ),
    "input is a truncated PNG": (
        "upscale {tmp}/cut.png -o {tmp}/out.png --model {model} --resize",
        "cut.png: damaged or truncated",
    ),
    "input is a truncated JPEG": (
        "upscale {tmp}/cut.jpg -o {tmp}/out.png --model {model} --resize",
        "cut.jpg: damaged or truncated",
    ),
    "input has 0 bytes": ("upscale {tmp}/empty.png -o {tmp}/out.png --model {model}", "0 bytes"),
    "input is 1x1": ("upscale {tmp}/dot.png -o {tmp}/out.png --model {model}", "1x1"),
    "input is larger than the model's": (
        "upscale {tmp}/large.png -o {tmp}/out.png --model {model}",
        "large.png is 128x128, but * takes 32x32*--resize",
    ),
    "input is turned by EXIF and not square then": (
        "upscale {tmp}/turned.jpg -o {tmp}/out.png --model {model}",
        "turned.jpg is 32x48",
    ),
    "input is a bomb": (
        "upscale {tmp}/bomb.png -o {tmp}/out.png --model {model}",
        "bomb.png: * over 100 megapixels",
    ),
    "input folder holds no pictures": (
        "upscale {tmp}/nothing -o {tmp}/out --model {model}",
        "no pictures in",
    ),
    "input folder has two of one name": (
        "upscale {tmp}/twins -o {tmp}/out --model {model}",
        "would both become a.png",
    ),
    "input path holds a broken link": (
        "upscale {tmp}/link.png -o {tmp}/out.png --model {model}",
        "no such file",
    ),
    # references
    "reference is missing": (UPSCALE + " --ref {tmp}/no.png", "no.png: no such file"),
    "reference is a folder": (UPSCALE + " --ref {tmp}/nothing", "nothing: it is a folder"),
    "reference is no picture": (UPSCALE + " --ref {tmp}/text.png", "not a picture"),
    "reference is truncated": (UPSCALE + " --ref {tmp}/cut.jpg", "damaged or truncated"),
    "data without what it calibrates": (
        "export {model}.safetensors -o {tmp}/out --data {tmp}/no",
        "--data calibrates --int8; give both",
    ),
    "references folder is missing": (
        UPSCALE + " --refs-dir {tmp}/no",
        "--refs-dir * does not exist",
    ),
    "references folder is a file": (UPSCALE + " --refs-dir {tmp}/lr.png", "not a folder"),
    "references folder is empty": (UPSCALE + " --refs-dir {tmp}/nothing", "no pictures in"),
    # the output
    "output has a wrong extension": (
        "upscale {tmp}/lr.png -o {tmp}/out.txt --model {model}",
        "out.txt: results are no .txt; use .png",
    ),
    "output has no extension": (
        "upscale {tmp}/lr.png -o {tmp}/out --model {model}",
        "results are no",
    ),
    "output is a folder": (
        "upscale {tmp}/lr.png -o {tmp}/nothing --model {model}",
        "nothing is a folder; name a file",
    ),
    "output of a folder is a file": (
        "upscale {tmp}/mixed -o {tmp}/lr.png --model {model}",
        "lr.png must be one too",
    ),
    "output lies below a file": (
        "upscale {tmp}/lr.png -o {tmp}/text.png/out.png --model {model}",
        "cannot write",
    ),
    "output cannot be written": (
        "upscale {tmp}/lr.png -o {readonly}/out.png --model {model}",
        "cannot write",
    ),
    "output is the input": (
        "upscale {tmp}/lr.png -o {tmp}/lr.png --model {model}",
        "would be overwritten",
    ),
    "output is a reference": (
        "upscale {tmp}/lr.png --ref {tmp}/large.png -o {tmp}/large.png --model {model}",
        "would be overwritten",
    ),
    "strip of a folder": (
        "upscale {tmp}/mixed -o {tmp}/out --strip {tmp}/s.png --model {model}",
        "--strip shows one picture",
    ),
    "strip is the output": (UPSCALE + " --strip {tmp}/out.png", "--strip and --output"),
    "explain is the output": (UPSCALE + " --explain {tmp}/out.png", "--explain and --output"),
    "explain is the strip": (
        UPSCALE + " --strip {tmp}/s.png --explain {tmp}/s.png",
        "--explain and --strip are the same",
    ),
    "a model that does not explain itself": (
        UPSCALE + " --explain {tmp}/s.png",
        "--explain: * does not say where its detail comes from; use fsrst2",
    ),
    "input too small for a model of any size": (
        "upscale {tmp}/dot.png -o {tmp}/out.png --model fsrst2-small",
        "dot.png: the input is 1x1; fsrst2-small enlarges heads from 8x8*too small to show a face",
    ),
    "input too large for a model of any size": (
        "upscale {tmp}/long.png -o {tmp}/out.png --model fsrst2-small",
        "long.png: the input is 1100x100; * --find-face or --box cut out, --max-side 512",
    ),
    "input too narrow once it is reduced": (
        "upscale {tmp}/long.png -o {tmp}/out.png --model fsrst2-small --max-side 64",
        "the input is 64x6; * too small to show a face; it was 1100x100 before --max-side 64",
    ),
    "strip cannot be written": (UPSCALE + " --strip {readonly}/s.png", "cannot write * another"),
    "strip is a folder": (UPSCALE + " --strip {tmp}/folder.png", "folder.png: it is a folder"),
    "strip has a wrong extension": (UPSCALE + " --strip {tmp}/s.pdf", "results are no .pdf"),
    # models, backends and numbers
    "model is unknown": (
        "upscale {tmp}/lr.png -o {tmp}/out.png --model fsrst-foto",
        "unknown model 'fsrst-foto'",
    ),
    "model file is missing": (
        "upscale {tmp}/lr.png -o {tmp}/out.png --model {tmp}/no.upscale.onnx",
        "no model file",
    ),
    "model file is damaged": (
        "upscale {tmp}/lr.png -o {tmp}/out.png --model {tmp}/bad.upscale.onnx",
        "bad.upscale.onnx is damaged or not an ONNX model",
    ),
    "model folder is empty": (
        "upscale {tmp}/lr.png -o {tmp}/out.png --model {tmp}/nothing",
        "must hold one",
    ),
    "weights are damaged": (
        "upscale {tmp}/lr.png -o {tmp}/out.png --model {tmp}/bad.safetensors",
        "bad.safetensors is not a readable safetensors file",
    ),
    "weights are cut off": (
        "upscale {tmp}/lr.png -o {tmp}/out.png --model {tmp}/cut.safetensors",
        "cut.safetensors is not a readable safetensors file",
    ),
    "weights have no header": (
        "upscale {tmp}/lr.png -o {tmp}/out.png --model {tmp}/plain.safetensors",
        "no fsrst header",
    ),
    "backend is unknown": (UPSCALE + " --backend tensorrt", "unknown backend 'tensorrt'"),
    "precision is unknown": (UPSCALE + " --precision f64", "unknown precision 'f64'"),
    "precision does not fit the backend": (
        UPSCALE + " --backend onnxruntime --precision bf16",
        "not bf16",
    ),
    "threads are zero": (UPSCALE + " --threads 0", "--threads * greater than or equal to 1"),
    "threads are no number": (UPSCALE + " --threads many", "--threads * integer"),
    "info of an unknown model": ("info fsrst-foto", "unknown model"),
    # what a shell variable that is not set leaves
    "input is empty": ("upscale '' -o {tmp}/out.png --model {model}", "LR is empty"),
    "output is empty": ("upscale {tmp}/lr.png -o ''", "--output is empty"),
    "reference is empty": (UPSCALE + " --ref {tmp}/large.png --ref=", "--ref is empty*shell"),
    "references folder is empty text": (UPSCALE + " --refs-dir ''", "--refs-dir is empty"),
    "model is empty": ("upscale {tmp}/lr.png -o {tmp}/out.png --model ''", "--model is empty"),
    "info of an empty name": ("info ''", "MODEL is empty"),
    "results are empty": ("report ''", "DIR is empty"),
    "set is empty": ("prepare synthetic ''", "OUT is empty"),
    # the command line itself
    "a side of a model of one size": (
        "upscale {tmp}/large.png -o {tmp}/out.png --model {model} --max-side 32",
        "--max-side: *takes one size only; --resize",
    ),
    "results among the inputs": (
        "upscale {tmp}/mixed -o {tmp}/mixed --model {model}",
        "is the folder of the inputs",
    ),
    "references after one --ref": (
        "upscale {tmp}/lr.png --ref {tmp}/large.png {tmp}/large.png -o {tmp}/out.png",
        "unexpected extra*--ref before each reference*--refs-dir",
    ),
    "input is a clip": (
        "upscale {tmp}/call.mp4 -o {tmp}/out.png --model {model}",
        "clips are made large by `fsrst video`",
    ),
    "input is a phone's": ("upscale {tmp}/a.heic -o {tmp}/out.png --model {model}", "as JPEG"),
    "command is unknown": ("upscle", "Did you mean 'upscale'"),
    "option is unknown": (UPSCALE + " --reff x", "No such option: --reff"),
    "argument is missing": ("upscale", "Missing argument 'LR'"),
    "option is missing": ("upscale {tmp}/lr.png", "Missing option '-o'"),
    "one argument too many": (UPSCALE + " {tmp}/large.png", "unexpected extra argument"),
    # convert and export
    "checkpoint is missing": (
        "convert {tmp}/no.pth -o {tmp}/w.safetensors --model fsrst",
        "no checkpoint",
    ),
    "checkpoint is none": (
        "convert {tmp}/text.png -o {tmp}/w.safetensors --model fsrst",
        "not a torch state dict",
    ),
    "converted into another format": (
        "convert {tmp}/no.pth -o {tmp}/w.onnx --model fsrst",
        "ends in .safetensors",
    ),
    "converted into a network of somebody else": (
        "convert {tmp}/no.pth -o {tmp}/w.safetensors --model resnet",
        "--model resnet: expected fsrst or fsrst-small, the authors'",
    ),
    "export of missing weights": ("export {tmp}/no.safetensors -o {tmp}/m", "no weights at"),
    "export of damaged weights": ("export {tmp}/bad.safetensors -o {tmp}/m", "not a readable"),
    "export of something else": ("export {tmp}/lr.png -o {tmp}/m", "ends in .safetensors"),
    "int8 without data": ("export {weights} -o {tmp}/m --int8", "--int8 needs --data"),
    # data sets
    "prepare from nowhere": ("prepare folder {tmp}/no {tmp}/set --split train", "not a folder"),
    "prepare from an empty folder": (
        "prepare folder {tmp}/nothing {tmp}/set --split train",
        "no folder with two or more pictures",
    ),
    "prepare with a damaged picture": (
        "prepare folder {tmp}/people {tmp}/set --split train",
        "2.png: not a picture",
    ),
    "prepare without a split": (
        "prepare folder {tmp}/people {tmp}/set",
        "Missing option '--split'",
    ),
    "prepare with a wrong crop": (
        "prepare folder {tmp}/people {tmp}/set --split train --crop 2",
        "--crop 2",
    ),
    "CelebAMask-HQ from a wrong folder": (
        "prepare celebamask-hq {tmp}/people {tmp}/set",
        "CelebA-HQ-img is missing",
    ),
    "DFD from a wrong folder": (
        "prepare dfd {tmp}/people {tmp}/set",
        "original_sequences/actors is missing",
    ),
    "VoxCeleb2 from a wrong folder": (
        "prepare voxceleb2 {tmp}/people {tmp}/set",
        "test/mp4 is missing",
    ),
    "prepare an unknown layout": ("prepare celeba {tmp}/people {tmp}/set", "No such command"),
    "author layout without hr": (
        "prepare author {tmp}/people {tmp}/set --split train",
        "hr is missing",
    ),
    "video without clips": ("prepare video {tmp}/people {tmp}/set --split train", "no clip in"),
    "a box that is none": (
        "prepare video {tmp}/people {tmp}/set --split train --box 1,2",
        "LEFT,TOP,SIDE",
    ),
    "drawn people all in val": (
        "prepare synthetic {tmp}/set --identities 4 --val 4",
        "leaves nobody",
    ),
    # training
    "config is missing": ("train {tmp}/no.yaml", "cannot read config"),
    "config is no YAML": ("train {tmp}/broken.yaml", "broken.yaml is not YAML"),
    "config has an unknown key": (
        "train {tmp}/config.yaml --set leraning_rate=1",
        "unknown key 'leraning_rate'; did you mean 'learning_rate'",
    ),
    "config has a bad value": (
        "train {tmp}/config.yaml --set batch_size=none",
        "batch_size: * integer",
    ),
    "config names an unknown model": (
        "train {tmp}/config.yaml --set model=fsrst-big",
        "unknown model 'fsrst-big'",
    ),
    "config names missing data": (
        "train {tmp}/config.yaml --set data=[{tmp}/no]",
        "manifest.jsonl",
    ),
    "config lacks a key": ("train {tmp}/short.yaml", "short.yaml: data: Field required"),
    "config has a text for a list": (
        "train {tmp}/config.yaml --set data=drawn2",
        "--set data=drawn2: expected a list: --set 'data=[drawn2]'",
    ),
    "--set without a value": ("train {tmp}/config.yaml --set seed", "expected KEY=VALUE"),
    # scores
    "data set is missing": (
        "evaluate --model {model} --data {tmp}/no -o {tmp}/results",
        "no manifest.jsonl",
    ),
    "data set is damaged": (
        "evaluate --model {model} --data {tmp}/badset -o {tmp}/results",
        "line 1: not a sample",
    ),
    "data set has no such split": (EVALUATE + " --split test", "no split 'test'"),
    "results go into another folder's files": (
        "evaluate --model {model} --data {data} -o {tmp}/people",
        "people holds other files",
    ),
    "report of nothing": ("report {tmp}/no", "not a folder"),
    "report of a folder without scores": ("report {tmp}/nothing", "nothing; score it with"),
    "demo with an unknown model": ("demo --drawn -o {tmp}/d.png --model nobody", "unknown model"),
    "demo into a wrong format": (
        "demo --drawn -o {tmp}/d.txt --model {model}",
        "results are no .txt",
    ),
}


# Preparation goes on where it was: finished pictures may stay, but there is no data set yet.
RESUMABLE = {"prepare with a damaged picture"}


@pytest.fixture(scope="module")
def odd_files(
    tmp_path_factory: pytest.TempPathFactory, drawn_faces: list[Pixels], exported_model: Path
) -> Path:
    """One folder with everything that the cases name; copied for each of them."""
    folder = tmp_path_factory.mktemp("odd")
    make_files(folder, drawn_faces)
    weights = exported_model.with_name("tiny.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(weights[: len(weights) // 2])
    return folder


def make_files(folder: Path, faces: list[Pixels]) -> None:
    lr = degrade(faces[0], 4)
    write_image(folder / "lr.png", lr)
    write_image(folder / "large.png", faces[0])
    write_image(folder / "dot.png", lr[:1, :1])
    write_image(folder / "long.png", np.zeros((100, 1100, 3), np.uint8))
    for name in ("cut.png", "cut.jpg"):
        write_image(folder / name, faces[0])
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("this is not a picture")
    (folder / "call.mp4").write_bytes(b"a clip")
    (folder / "a.heic").write_bytes(b"a phone's picture")
    (folder / "link.png").symlink_to("gone.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(faces[0][:32, :48]).save(folder / "turned.jpg", exif=exif)
    Image.new("1", (11_000, 11_000)).save(folder / "bomb.png")
    for name in ("nothing", "folder.png", "mixed", "twins", "people/ann"):
        (folder / name).mkdir(parents=True)
    write_image(folder / "mixed" / "a.png", lr)
    (folder / "mixed" / "b.png").write_text("no picture")
    write_image(folder / "twins" / "a.png", lr)
    Image.fromarray(lr).save(folder / "twins" / "a.bmp")
    write_image(folder / "people" / "ann" / "1.png", faces[0])
    (folder / "people" / "ann" / "2.png").write_text("no picture")
    (folder / "bad.upscale.onnx").write_bytes(b"\x08\x07 not a model")
    (folder / "bad.encode.onnx").write_bytes(b"\x08\x07 not a model")
    (folder / "bad.safetensors").write_bytes(b"\xff" * 64)
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "plain.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    (folder / "badset").mkdir()
    (folder / "badset" / "manifest.jsonl").write_text('{"id": 1}\n')
    (folder / "badset" / "dataset.json").write_text("{}")
    config = "model: fsrst-small\ndata: [{0}/no]\nout: {0}/run\nsamples: 4\n"
    (folder / "config.yaml").write_text(config.format(folder))
    (folder / "short.yaml").write_text("model: fsrst\n")
    (folder / "broken.yaml").write_text("model: [fsrst\n")


def read_only_folder(folder: Path) -> Path:
    """A folder in which nobody may write, root included where the system has one."""
    if os.geteuid() == 0:
        if not Path("/sys").is_dir():
            pytest.skip("root may write everywhere on this system")
        return Path("/sys")
    (folder / "readonly").mkdir()
    (folder / "readonly").chmod(0o500)
    return folder / "readonly"


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("name", REFUSED)
def test_refused(
    name: str,
    tmp_path: Path,
    odd_files: Path,
    exported_model: Path,
    drawn_data: Manifest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line, words = REFUSED[name]
    folder = tmp_path / "case"
    shutil.copytree(odd_files, folder, symlinks=True)
    places = {
        "tmp": folder,
        "model": exported_model,
        "weights": exported_model.with_name("tiny.safetensors"),
        "data": drawn_data.root,
    }
    if "{readonly}" in line:
        places["readonly"] = read_only_folder(folder)
    monkeypatch.chdir(folder)  # what an empty path would be
    before = tree(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would be a second line
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # as fsrst.image does
        status = run([part.format(**places) for part in shlex.split(line)])
    said = capsys.readouterr()
    assert status == 2, said
    assert said.out == ""
    assert said.err.startswith("fsrst: ") and said.err.count("\n") == 1, said.err
    position = 0
    for word in words.split("*"):
        position = said.err.find(word.strip(), position)
        assert position >= 0, f"{word.strip()!r} is not in {said.err!r}"
    after = tree(folder)
    if name in RESUMABLE:
        after = {path: content for path, content in after.items() if not path.startswith("set")}
        assert not (folder / "set" / "manifest.jsonl").exists()
    assert after == before, "something was written"


# Odd, but good: these are taken.
TAKEN = {
    "16 bits": lambda rgb: Image.fromarray(rgb[..., 0].astype(np.uint16) * 257),
    "grey": lambda rgb: Image.fromarray(rgb[..., 0]),
    "transparent": lambda rgb: Image.fromarray(np.dstack([rgb, rgb[..., 0]])),
    "grey and transparent": lambda rgb: Image.fromarray(rgb[..., :2]),
    "palette": lambda rgb: Image.fromarray(rgb).quantize(16),
    "black and white": lambda rgb: Image.fromarray(rgb[..., 0] > 127),
}


@pytest.mark.parametrize("kind", TAKEN)
@pytest.mark.parametrize("role", ["input", "reference"])
def test_odd_pictures_are_taken(
    kind: str, role: str, tmp_path: Path, exported_model: Path, noise: Pixels
) -> None:
    write_image(tmp_path / "plain.png", noise)
    TAKEN[kind](noise).save(tmp_path / "odd.png")
    names = ("odd.png", "plain.png") if role == "input" else ("plain.png", "odd.png")
    lr, reference = (str(tmp_path / name) for name in names)
    out = tmp_path / "out.png"
    status = run(
        ["upscale", lr, "--ref", reference, "-o", str(out), "--model", str(exported_model)]
    )
    assert status == 0 and read_image(out).shape == (128, 128, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2), (500, 333)])
def test_references_of_any_size_are_taken(
    size: tuple[int, int], tmp_path: Path, exported_model: Path, noise: Pixels
) -> None:
    write_image(tmp_path / "lr.png", noise)
    Image.new("CMYK", size, (10, 200, 30, 0)).save(tmp_path / "ref.jpg")
    out = tmp_path / "out.png"
    arguments = ["upscale", tmp_path / "lr.png", "--ref", tmp_path / "ref.jpg", "-o", out]
    assert run([str(a) for a in [*arguments, "--model", exported_model]]) == 0
    assert read_image(out).shape == (128, 128, 3)
