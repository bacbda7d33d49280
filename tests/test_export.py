"""The exported files: names, free dimensions, storage, metadata; and int8."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsrst.cli import models as models_commands
from fsrst.cli import run
from fsrst.data.degradation import degrade
from fsrst.data.manifest import Manifest
from fsrst.data.synthetic import draw_face
from fsrst.errors import FsrstError
from fsrst.image import to_planes

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
torch = pytest.importorskip("torch")

from test_baselines import TINY as PLAIN  # noqa: E402
from test_texture_baselines import TINY as TEXTURE  # noqa: E402

from fsrst.models import ReferenceSR, build  # noqa: E402
from fsrst.models.fsrst2 import FSRST2  # noqa: E402
from fsrst.models.weights import save_weights  # noqa: E402
from fsrst.runtime import export as export_module  # noqa: E402
from fsrst.runtime.export import METADATA_KEY, SKIP_NAME, cubic_kernel, export  # noqa: E402
from fsrst.runtime.onnx_backend import OnnxBackend  # noqa: E402
from fsrst.runtime.upscaler import open_upscaler  # noqa: E402

HEADER = {"version": "test", "training": {"seed": 13}}


@pytest.fixture(scope="session")
def stem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    model = build("fsrst-small")
    torch.nn.init.normal_(model.alignment.localisation.fc2.weight, std=0.05)
    stem = tmp_path_factory.mktemp("export") / "net"
    export(model, HEADER, stem)
    return stem


def graphs(stem: Path) -> dict[str, "onnx.ModelProto"]:
    return {name: onnx.load(f"{stem}.{name}.onnx") for name in ("encode", "upscale")}


def shapes(values: object) -> dict[str, list[object]]:
    return {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in values  # type: ignore[attr-defined]
    }


def test_names_and_free_dimensions(stem: Path) -> None:
    found = graphs(stem)
    encode, upscale = shapes(found["encode"].graph.input), shapes(found["upscale"].graph.input)
    assert list(encode) == ["refs", "present"]
    assert list(shapes(found["encode"].graph.output)) == ["state_0", "state_1"]
    assert list(upscale) == ["lr", "state_0", "state_1"]
    assert list(shapes(found["upscale"].graph.output)) == ["sr"]
    assert encode["refs"][2:] == [3, 128, 128] and upscale["lr"][1:] == [3, 32, 32]
    for shape in (encode["refs"], encode["present"], upscale["state_0"], upscale["state_1"]):
        assert isinstance(shape[0], str) and isinstance(shape[1], str) and shape[0] != shape[1]
    for model in found.values():
        onnx.checker.check_model(model, full_check=True)
        assert model.opset_import[0].version >= 18


def test_metadata_says_what_the_file_is(stem: Path) -> None:
    for name, model in graphs(stem).items():
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        info = json.loads(metadata[METADATA_KEY])
        assert info["graph"] == name
        assert (info["model"], info["options"]) == ("fsrst-small", {"scale": 4})
        assert (info["scale"], info["lr_size"]) == (4, 32)
        assert info["states"] == ["state_0", "state_1"]
        assert info["training"] == {"seed": 13}


def test_nothing_of_this_machine_is_in_the_files(stem: Path) -> None:
    for name in ("encode", "upscale"):
        content = Path(f"{stem}.{name}.onnx").read_bytes()
        for trace in (b".py", b"site-packages", str(Path.home()).encode()):
            assert trace not in content


def test_weights_are_stored_as_float16(stem: Path) -> None:
    for model in graphs(stem).values():
        kinds = {init.name: init.data_type for init in model.graph.initializer}
        wide = [name for name, kind in kinds.items() if kind == onnx.TensorProto.FLOAT]
        assert not [name for name in wide if name.startswith("model.")]
        weights = sum(np.prod(init.dims) for init in model.graph.initializer)
        assert len(model.SerializeToString()) < 2.5 * weights + 60_000


def test_runtimes_fold_the_casts(stem: Path, tmp_path: Path) -> None:
    """float16 storage costs nothing per frame: the optimised graph has no cast left."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        f"{stem}.upscale.onnx", options, providers=["CPUExecutionProvider"]
    )
    operators = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert "Cast" not in operators and "Resize" not in operators


def test_full_storage_keeps_the_weights(tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = build("fsrst-small")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    result = export(model, {}, tmp_path / "full", half_storage=False)
    assert max(result["parity"].values()) < 1e-5
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert result["bytes"]["upscale"] > 3_000_000


def test_the_same_model_gives_the_same_bytes(stem: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = build("fsrst-small")
    torch.nn.init.normal_(model.alignment.localisation.fc2.weight, std=0.05)
    export(model, HEADER, tmp_path / "again")
    for name in ("encode", "upscale"):
        again = tmp_path / f"again.{name}.onnx"
        assert again.read_bytes() == Path(f"{stem}.{name}.onnx").read_bytes()


def test_eight_times_from_16_px(tmp_path: Path) -> None:
    torch.manual_seed(7)
    result = export(build("fsrst-small", scale=8), {}, tmp_path / "eight")
    assert max(result["parity"].values()) < 1e-5
    backend = OnnxBackend(tmp_path / "eight", threads=1)
    assert (backend.info["scale"], backend.info["lr_size"]) == (8, 16)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_cubic_kernel_is_the_frameworks(scale: int) -> None:
    x = torch.rand(2, 3, 7, 11, generator=torch.Generator().manual_seed(scale))
    wanted = torch.nn.functional.interpolate(
        x, scale_factor=scale, mode="bicubic", align_corners=False
    )
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")
    blocks = torch.nn.functional.conv2d(padded, torch.from_numpy(cubic_kernel(scale)))
    found = torch.nn.functional.pixel_shuffle(blocks, scale)
    assert (found - wanted).abs().max() < 1e-6


def test_the_epsilon_of_equation_9_survives(stem: Path) -> None:
    """An exporter that takes + 1e-9 for + 0 makes 0/0 where no reference is present."""
    backend = OnnxBackend(stem, threads=1)
    refs, absent = np.zeros((1, 1, 3, 128, 128), np.float32), np.zeros((1, 1), np.float32)
    state = backend.encode(refs, absent)
    assert np.isfinite(backend.upscale(np.zeros((1, 3, 32, 32), np.float32), *state)).all()


def test_a_wrong_export_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(export_module, "cubic_kernel", lambda scale: cubic_kernel(scale) * 0.9)
    with pytest.raises(FsrstError, match="differ by"):
        export(build("fsrst-small"), {}, tmp_path / "wrong")


def test_a_network_of_any_size_keeps_its_sizes_free(tmp_path: Path) -> None:
    model = Shifted()
    result = export(model, {}, tmp_path / "any", half_storage=False)
    assert max(result["parity"].values()) < 1e-5
    backend = OnnxBackend(tmp_path / "any", threads=1)
    generator = np.random.default_rng(0)
    for b, n, h, w in ((1, 1, 24, 20), (2, 3, 33, 17), (1, 2, 5, 64)):
        refs = generator.random((b, n, 3, 2 * h, 2 * w), dtype=np.float32)
        lr, present = generator.random((b, 3, h, w), dtype=np.float32), np.ones((b, n), np.float32)
        found = backend.upscale(lr, *backend.encode(refs, present))
        with torch.no_grad():
            wanted = model(torch.from_numpy(lr), torch.from_numpy(refs)).numpy()
        assert found.shape == (b, 3, 2 * h, 2 * w)
        assert np.abs(found - wanted).max() < 1e-5


class Shifted(ReferenceSR):
    """The smallest network without a fixed size: bicubic plus the mean reference, convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.options, self.scale, self.lr_size = "shifted", {}, 2, None
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)

    def encode(self, refs, present=None):  # type: ignore[no-untyped-def]
        if present is None:
            present = refs.new_ones(refs.shape[:2])
        return refs * present[:, :, None, None, None], present

    def upscale(self, lr, state):  # type: ignore[no-untyped-def]
        features, present = state
        up = torch.nn.functional.interpolate(lr, scale_factor=2, mode="bicubic")
        return up + self.conv(features.sum(1) / (present.sum(1)[:, None, None, None] + 1e-9))


def test_networks_that_choose_may_differ_at_a_few_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At one value of fifty, and no network else."""
    upscale = OnnxBackend.upscale

    def off(part: float) -> None:
        def elsewhere(self: OnnxBackend, *inputs: np.ndarray) -> np.ndarray:
            sr = upscale(self, *inputs)
            sr[..., : round(part * sr.shape[-1])] += 1
            return sr

        monkeypatch.setattr(OnnxBackend, "upscale", elsewhere)

    model = build("resnet-small", width=4, blocks=1)
    off(0.015)
    with pytest.raises(FsrstError, match="differ by 1 for batch 1 and 0"):
        export(model, {}, tmp_path / "net")
    assert not list(tmp_path.iterdir())
    model.chooses = True
    assert max(export(model, {}, tmp_path / "net")["parity"].values()) < 1e-5
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    off(0.03)
    with pytest.raises(FsrstError, match="differ by 1 for batch 1 and 0"):
        export(model, {}, tmp_path / "net")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


TINY = {**PLAIN, **TEXTURE}


@pytest.mark.parametrize(
    "name",
    ["bicubic", "resnet-small", "span", "hime-small", "hime", "ttsr", "c2-matching", "mrefsr"],
)
def test_compared_systems_are_exported(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = build(name, **TINY[name])
    with torch.no_grad():
        for parameter in model.parameters():  # some start as zeros
            parameter += 0.02 * torch.randn_like(parameter)
    parity = export(model, {}, tmp_path / name)["parity"]
    assert set(parity) == {"1x0", "1x1", "1x3", "3x2", "2x2-lit", "2x2-plain"}
    assert max(parity.values()) < 1e-4


def test_logits_far_below_zero_are_exported(tmp_path: Path) -> None:
    """Log-sigmoid written as log(sigmoid) is - inf below -104; weights of that are no numbers."""
    torch.manual_seed(3)
    model = build("hime-small", **TINY["hime-small"])
    with torch.no_grad():
        model.extractor_lr[-1].bias.fill_(50)
        model.alignment.deform.bias.fill_(1)
        model.aggregation.embed_lr.weight.fill_(1)
        model.aggregation.embed_refs.weight.fill_(-1)
    assert max(export(model, {}, tmp_path / "far")["parity"].values()) < 1e-4


def test_int8_is_refused_before_graphs_are_written_where_its_packages_are_missing(
    drawn_data: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_weights(tmp_path / "net.safetensors", build("resnet-small"))
    monkeypatch.setitem(sys.modules, "nncf", None)  # as not installed
    arguments = ["-o", str(tmp_path / "new" / "net"), "--int8", "--data", str(drawn_data.root)]
    assert run(["export", str(tmp_path / "net.safetensors"), *arguments]) == 2
    assert "--int8 needs nncf; install it with: pip install 'fsrst[int8]" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("there", r"it is a folder; name a STEM in it, such as .*there/fsrst-small$"),
        ("new/", r"it is a folder; name a STEM in it, such as .*new/fsrst-small$"),
        ("new/net.onnx", "without the suffix: .*new/net$"),
        ("new/net.upscale.onnx", "without the suffix: .*new/net$"),
        ("new/net.int8.xml", "without the suffix: .*new/net$"),
        ("new/net.v2.safetensors", r"without the suffix: .*new/net\.v2$"),
    ],
)
def test_what_is_no_stem_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    (tmp_path / "there").mkdir()
    assert run(["export", str(tmp_path / "no.safetensors"), "-o", f"{tmp_path}/{name}"]) == 2
    said = capsys.readouterr().err
    assert re.search(f"cannot write .*{name}: .*{words}", said.rstrip()) and said.count("\n") == 1
    with pytest.raises(FsrstError, match=words):
        export(build("fsrst-small"), {}, f"{tmp_path}/{name}")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


# --- int8 -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def int8_stem(stem: Path) -> Path:
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    from fsrst.runtime.int8 import quantize_int8

    result = quantize_int8(stem, drawn_samples(12))
    assert result["samples"] == 12 and result["rms"] < 2
    return stem


def drawn_samples(count: int) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    from fsrst.data.synthetic import draw_face
    from fsrst.image import resize_bicubic

    return [
        (
            resize_bicubic(draw_face(i, 0, 128), 32, 32),
            [draw_face(i, view, 128) for view in range(1, 1 + i % 4)],
        )
        for i in range(count)
    ]


def test_int8_runs_any_batch_and_count(int8_stem: Path) -> None:
    path = f"{int8_stem}.upscale.onnx"
    exact = open_upscaler(path, "onnxruntime", threads=1)
    fast = open_upscaler(path, "openvino", precision="int8", threads=1)
    assert (fast.precision, fast.info["model"]) == ("int8", "fsrst-small")
    for lr, refs in drawn_samples(6):
        exact.set_references(refs)
        fast.set_references(refs)
        pairs = zip(fast.upscale_batch([lr] * 2), exact.upscale_batch([lr] * 2), strict=True)
        for found, wanted in pairs:
            difference = found.astype(float) - wanted
            assert np.sqrt(np.mean(difference**2)) < 2


def test_int8_is_smaller_and_names_no_folder(int8_stem: Path) -> None:
    import openvino

    model = openvino.Core().read_model(f"{int8_stem}.int8.xml")
    kinds = [node.get_type_name() for node in model.get_ordered_ops()]
    assert kinds.count("FakeQuantize") > 20
    size = Path(f"{int8_stem}.int8.bin").stat().st_size
    assert size < 0.75 * Path(f"{int8_stem}.upscale.onnx").stat().st_size
    text = Path(f"{int8_stem}.int8.xml").read_text()
    assert str(int8_stem.parent) not in text and str(Path.home()) not in text


def test_int8_quantises_convolutions_alone(any_size: tuple[FSRST2, Path]) -> None:
    """What compares and weighs stays exact: NNCF by itself takes means and costs as well."""
    pytest.importorskip("nncf")
    import openvino

    from fsrst.runtime.int8 import quantize_int8

    _, stem = any_size
    assert quantize_int8(stem, drawn_samples(8))["rms"] < 1
    nodes = openvino.Core().read_model(f"{stem}.int8.xml").get_ordered_ops()
    takers = [  # of what is quantised; weights are constants
        target.get_node()
        for node in nodes
        if node.get_type_name() == "FakeQuantize"
        and node.input_value(0).get_node().get_type_name() != "Constant"
        for target in node.outputs()[0].get_target_inputs()
    ]
    assert len(takers) > 5 and {node.get_type_name() for node in takers} == {"Convolution"}
    # neither pictures, nor the window over a cost, nor the skip, nor the convolution that writes
    last = [node for node in nodes if node.get_type_name() == "Convolution"][-1]
    names = {node.get_friendly_name() for node in takers}
    assert last.get_friendly_name() not in names
    assert not any(name.startswith(SKIP_NAME) for name in names)
    assert min(node.inputs()[1].get_partial_shape()[1].get_length() for node in takers) > 3

    generator = np.random.default_rng(4)
    lr = generator.integers(0, 256, (20, 36, 3), np.uint8)  # another size than the samples'
    refs = [generator.integers(0, 256, (80, 144, 3), np.uint8) for _ in range(2)]
    shown = []
    for precision in ("f32", "int8"):
        upscaler = open_upscaler(f"{stem}.upscale.onnx", "openvino", precision=precision, threads=1)
        upscaler.set_references(refs)
        shown.append(upscaler(lr).astype(float))
    assert 0 < np.sqrt(np.mean((shown[0] - shown[1]) ** 2)) < 1


def test_calibration_takes_several_sets_and_any_number_of_references(drawn_data: Manifest) -> None:
    alone, twice = (models_commands._calibration([drawn_data.root] * n) for n in (1, 2))
    assert len(twice) == 2 * len(alone) > 4
    most = min(3, len(drawn_data.split("train")[0].references))
    counts = [len(references) for _, references in alone]
    assert counts[:4] == [min(3, most), min(2, most), 1, 0]


def test_int8_wants_samples_of_the_right_size(stem: Path) -> None:
    pytest.importorskip("nncf")
    from fsrst.runtime.int8 import quantize_int8

    with pytest.raises(FsrstError, match="calibration samples"):
        quantize_int8(stem, [])
    with pytest.raises(FsrstError, match="48x40"):
        quantize_int8(stem, [(np.zeros((40, 48, 3), np.uint8), [])])


def test_int8_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    from fsrst.runtime.int8 import _save

    value = openvino.opset13.parameter([1], np.float32)
    model = openvino.Model([openvino.opset13.add(value, np.ones(1, np.float32))], [value])
    (tmp_path / "net.int8.bin").mkdir()  # in the way
    with pytest.raises(FsrstError, match="cannot write"):
        _save(model, tmp_path / "net")
    assert [path.name for path in tmp_path.iterdir()] == ["net.int8.bin"]


@pytest.fixture(scope="module")
def any_size(tmp_path_factory: pytest.TempPathFactory) -> tuple[FSRST2, Path]:
    """A tiny FSRST2 with something to say, exported; at 8x, for the shipped ones are at 4x."""
    torch.manual_seed(3)
    model = build("fsrst2-small", width=8, blocks=1, head_width=4, scale=8).eval()
    assert isinstance(model, FSRST2)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
            parameter.copy_(parameter.half().float())
    stem = tmp_path_factory.mktemp("any") / "any"
    export(model, {}, stem)
    return model, stem


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("batch", "count", "height", "width"), [(1, 1, 8, 8), (1, 3, 33, 17), (2, 2, 12, 40)]
)
def test_any_size_any_number(
    any_size: tuple[FSRST2, Path], backend: str, batch: int, count: int, height: int, width: int
) -> None:
    """Sizes that were not traced, not square, not multiples of anything."""
    model, stem = any_size
    if backend == "onnxruntime":
        runner: Any = OnnxBackend(stem, threads=1)
    else:
        pytest.importorskip("openvino")
        from fsrst.runtime.openvino_backend import OpenVinoBackend

        runner = OpenVinoBackend(stem, precision="f32", threads=1)
    generator = torch.Generator().manual_seed(5)
    scale = model.scale
    refs = torch.rand(batch, count, 3, scale * height, scale * width, generator=generator)
    lr = torch.nn.functional.avg_pool2d(refs[:, 0], scale)
    with torch.no_grad():
        sr, shares = model.upscale_explained(lr, model.encode(refs))
    state = runner.encode(refs.numpy(), np.ones((batch, count), np.float32))
    assert np.abs(runner.upscale(lr.numpy(), *state) - sr.numpy()).max() < 1e-3
    found, parts = runner.explain(lr.numpy(), *state)
    assert np.abs(found - sr.numpy()).max() < 1e-3
    assert np.abs(parts - shares.numpy()).max() < 5e-3


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_light_is_exported(any_size: tuple[FSRST2, Path], backend: str) -> None:
    model, stem = any_size
    runner: Any = OnnxBackend(stem, threads=1)
    if backend == "openvino":
        pytest.importorskip("openvino")
        from fsrst.runtime.openvino_backend import OpenVinoBackend

        runner = OpenVinoBackend(stem, precision="f32", threads=1)
    face = draw_face(4, 0, 256)
    lr = torch.from_numpy(to_planes(degrade(face, model.scale)))[None]
    ref = torch.from_numpy(to_planes(np.roll(face, (2, -3), axis=(0, 1))))[None]
    refs = torch.stack([ref * 0.6, ref, ref * torch.tensor([0.9, 1.0, 0.7]).view(3, 1, 1)], dim=1)
    with torch.no_grad():
        gain = model.pose(lr, model.encode(refs)[3])[2]
        sr, shares = model.upscale_explained(lr, model.encode(refs))
    assert (gain[[0, 2]].amax(dim=(1, 2, 3)) > 1.2).all() and (gain[1] == 1).all()
    state = runner.encode(refs.numpy(), np.ones((1, 3), np.float32))
    found, parts = runner.explain(lr.numpy(), *state)
    assert np.abs(found - sr.numpy()).max() < 1e-3
    assert np.abs(parts - shares.numpy()).max() < 5e-3


def test_bfloat16_samples_where_float32_does(any_size: tuple[FSRST2, Path]) -> None:
    """At 40 px a bfloat16 place would be half a pixel off, and sharp detail with it."""
    pytest.importorskip("openvino")
    from fsrst.runtime.openvino_backend import OpenVinoBackend

    model, stem = any_size
    face = draw_face(4, 0, 320)
    refs = torch.from_numpy(to_planes(face))[None, None]
    lr = torch.from_numpy(to_planes(degrade(face, model.scale)))[None]
    errors = {}
    for precision in ("f32", "bf16"):
        runner = OpenVinoBackend(stem, precision=precision, threads=1)
        places = len(runner._frames().outputs) - 1  # results, and so in float32
        assert places >= 3 if runner.precision == "bf16" else places == 0
        state = runner.encode(refs.numpy(), np.ones((1, 1), np.float32))
        errors[precision] = float(
            np.square(runner.upscale(lr.numpy(), *state) - refs[0].numpy()).mean()
        )
    assert errors["bf16"] < 1.1 * errors["f32"]
