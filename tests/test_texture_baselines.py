"""TTSR, C2-Matching, MRefSR: published counts, matching against plain loops, stages, limits."""

import itertools
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from fsrst.data.degradation import degrade
from fsrst.errors import FsrstError
from fsrst.image import to_planes
from fsrst.models import ReferenceSR, build
from fsrst.models.baselines import TEXTURE_BASELINES, c2_extractors, matching, ttsr
from fsrst.models.baselines.c2_matching import C2Matching, Offsets
from fsrst.models.baselines.mrefsr import Fusion, attention
from fsrst.models.baselines.ttsr import TTSR, Blur, Enlarge, Exchange
from fsrst.models.baselines.vgg import VGG, as_buffers
from fsrst.models.interface import bicubic_skip
from fsrst.models.weights import load_weights, read_header, save_weights

TINY = {
    "ttsr": {"width": 8, "blocks": [1, 1, 1, 1], "vgg_width": 8},
    "c2-teacher": {"vgg_width": 8},
    "c2-student": {"vgg_width": 8},
    "c2-matching": {"width": 8, "blocks": 1, "vgg_width": 8},
    "mrefsr": {"width": 8, "blocks": 1, "vgg_width": 8},
}
RESTORING = ["ttsr", "c2-matching", "mrefsr"]


def tiny(name: str, **options: object) -> ReferenceSR:
    """A small network whose offsets are not zero, as after training."""
    torch.manual_seed(5)
    model = build(name, **{**TINY[name], **options})
    for module in model.modules():
        if isinstance(module, Offsets):
            torch.nn.init.normal_(module.last.weight, std=0.05)
    return model


def batch(n: int = 2, side: int = 12, count: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    hr = F.interpolate(torch.rand(count, 3, side, side, generator=generator), scale_factor=4.0)
    return {
        "lr": F.avg_pool2d(hr, 4),
        "refs": torch.rand(count, n, 3, 4 * side, 4 * side, generator=generator),
        "present": torch.ones(count, n),
        "hr": hr,
    }


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# --- what was published ---


@pytest.mark.parametrize(
    ("name", "total", "extractors"),
    [
        ("ttsr", 6_729_603, 555_328),
        ("c2-matching", 9_976_203, 2 * 555_328),
        ("mrefsr", 23_711_633 + 2 * 555_328, 2 * 555_328),
        ("c2-teacher", 2 * 555_328, 2 * 555_328),
        ("c2-student", 2 * 555_328, 2 * 555_328),
    ],
)
def test_parameter_counts(name: str, total: int, extractors: int) -> None:
    with torch.device("meta"):
        model = build(name)
    assert parameters(model) == total
    found = [m for m in model.modules() if isinstance(m, VGG)]
    assert sum(parameters(m) for m in found) == extractors


def test_counts_of_the_parts() -> None:
    with torch.device("meta"):
        ttsr, c2 = TTSR(), C2Matching()
        fusions = [parameters(Fusion(64, channels)) for channels in (256, 128, 64)]
    assert parameters(ttsr) - parameters(ttsr.alignment) == 6_174_275
    assert parameters(c2) - sum(parameters(e) for e in (c2.extractor_lr, c2.extractor_refs)) == (
        8_865_547
    )
    assert fusions == [11_558_466, 2_914_114, 742_338]
    trained = sum(p.numel() for p in c2.parameters() if p.requires_grad)
    assert trained == 8_865_547
    assert sum(b.numel() for b in c2.encoder.buffers()) == 555_328 + 6  # and mean, std


@pytest.mark.parametrize(
    ("name", "n", "giga"), [("ttsr", 1, 29.0), ("c2-matching", 1, 46.9), ("mrefsr", 3, 123.0)]
)
def test_multiply_accumulates(name: str, n: int, giga: float) -> None:
    with torch.device("meta"):
        model = build(name)
        with FlopCounterMode(display=False) as counter:
            model(torch.rand(1, 3, 32, 32), torch.rand(1, n, 3, 128, 128))
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga, rel=0.01)


# --- the interface ---


@pytest.mark.parametrize("name", list(TEXTURE_BASELINES))
@pytest.mark.parametrize("n", [0, 1, 3])
def test_any_number_of_references_and_size(name: str, n: int) -> None:
    model = tiny(name).eval()
    lr, refs = torch.rand(2, 3, 5, 9), torch.rand(2, n, 3, 20, 36)
    with torch.no_grad():
        sr = model(lr, refs)
        assert sr.shape == (2, 3, 20, 36)
        assert torch.isfinite(sr).all()
        state = model.encode(refs)
        assert all(tensor.shape[:2] == (2, max(n, 1)) for tensor in state)
        assert torch.equal(sr, model.upscale(lr, state))


@pytest.mark.parametrize("name", list(TEXTURE_BASELINES))
def test_no_reference_equals_absent_ones(name: str) -> None:
    model = tiny(name).eval()
    lr, refs = torch.rand(2, 3, 6, 6), torch.rand(2, 3, 3, 24, 24)
    with torch.no_grad():
        none = model(lr, refs[:, :0])
        absent = model(lr, refs, torch.zeros(2, 3))
        present = model(lr, refs)
    assert torch.allclose(none, absent, atol=1e-6)
    assert not torch.allclose(none, present, atol=1e-4)


def test_what_ttsr_takes_over_is_weighed_by_its_soft_attention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny("ttsr").eval()
    lr, refs = torch.rand(2, 3, 6, 6), torch.rand(2, 1, 3, 24, 24)
    with torch.no_grad():
        none, usual = model(lr, refs[:, :0]), model(lr, refs)
        monkeypatch.setattr(ttsr, "cosine", lambda query, *_: torch.zeros_like(query[:, :1]))
        assert torch.allclose(model(lr, refs), none, atol=1e-6)
        monkeypatch.setattr(ttsr, "cosine", lambda query, *_: torch.ones_like(query[:, :1]))
        assert not torch.allclose(model(lr, refs), usual, atol=1e-4)


@pytest.mark.parametrize("name", ["ttsr", "c2-matching", "c2-teacher"])
def test_the_first_present_reference_is_used(name: str) -> None:
    model = tiny(name).eval()
    lr, refs = torch.rand(2, 3, 6, 6), torch.rand(2, 3, 3, 24, 24)
    present = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    chosen = torch.stack((refs[0, :1], refs[1, 2:]))
    with torch.no_grad():
        assert torch.allclose(model(lr, refs, present), model(lr, chosen), atol=1e-6)


def test_mrefsr_uses_all_present_references_in_any_order() -> None:
    model = tiny("mrefsr").eval()
    lr, refs = torch.rand(2, 3, 6, 6), torch.rand(2, 3, 3, 24, 24)
    present = torch.tensor([[1.0, 0.0, 1.0]]).expand(2, -1)
    with torch.no_grad():
        every = model(lr, refs)
        assert torch.allclose(every, model(lr, refs[:, [2, 0, 1]]), atol=1e-5)
        two = model(lr, refs[:, [0, 2]])
        assert torch.allclose(model(lr, refs, present), two, atol=1e-5)
        assert not torch.allclose(every, two, atol=1e-5)


@pytest.mark.parametrize("name", RESTORING)
def test_inputs_can_share_a_reference_set(name: str) -> None:
    model = tiny(name).eval()
    lr, refs = torch.rand(4, 3, 5, 5), torch.rand(2, 2, 3, 20, 20)
    with torch.no_grad():
        each = model(lr, refs.repeat_interleave(2, dim=0))
        assert torch.allclose(model(lr, refs), each, atol=1e-5)


@pytest.mark.parametrize("name", RESTORING)
def test_entries_of_a_batch_are_not_mixed(name: str) -> None:
    model, data = tiny(name).eval(), batch(side=6)
    lr, refs = data["lr"], data["refs"]
    with torch.no_grad():
        assert torch.allclose(model(lr, refs)[1:], model(lr[1:], refs[1:]), atol=1e-5)


@pytest.mark.parametrize("name", ["c2-matching", "mrefsr"])
def test_wrong_sizes_are_named(name: str) -> None:
    model = tiny(name)
    with pytest.raises(FsrstError, match=r"6x5 px must be 24x20, not 24x24"):
        model(torch.rand(1, 3, 5, 6), torch.rand(1, 1, 3, 24, 24))
    with pytest.raises(FsrstError, match="at least 3x3 px, got 6x2"):
        model(torch.rand(1, 3, 2, 6), torch.rand(1, 1, 3, 8, 24))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ttsr", {"blocks": [1, 2]}, r"four numbers .*, not \[1, 2\]"),
        ("c2-matching", {"vgg_width": 6}, "cannot be shared by 8 groups"),
        ("mrefsr", {"extractor": "random"}, "extractor"),
    ],
)
def test_build_refuses(name: str, options: dict, message: str) -> None:
    with pytest.raises(FsrstError, match=message):
        build(name, **options)


@pytest.mark.parametrize("name", list(TEXTURE_BASELINES))
def test_training_in_bfloat16_is_finite_and_learns(name: str) -> None:
    model = tiny(name).train().to(memory_format=torch.channels_last)
    if name == "c2-student":
        model.options["teacher"] = "loaded:by hand"
    before = {k: v.clone() for k, v in model.state_dict().items()}
    data = batch()
    data["present"] = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=2e-3)
    losses = []
    for _ in range(4):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(data)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        for key, parameter in model.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, key
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), key
        optimizer.step()
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    names = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    for key, value in model.state_dict().items():  # extractors, encoder and teacher are frozen
        assert torch.equal(value, before[key]) == (key not in names), key


# --- matching ---


def plain_best(query: np.ndarray, key: np.ndarray, padding: int) -> np.ndarray:
    """By loops: (C, h, w), (C, H, W) -> (h', w') indices."""
    width = [(0, 0), (padding, padding), (padding, padding)]
    query, key = np.pad(query, width), np.pad(key, width)
    rows, columns = key.shape[1] - 2, key.shape[2] - 2
    found = np.zeros((query.shape[1] - 2, query.shape[2] - 2), int)
    for y, x in itertools.product(*map(range, found.shape)):
        patch = query[:, y : y + 3, x : x + 3]
        scores = []
        for v, u in itertools.product(range(rows), range(columns)):
            other = key[:, v : v + 3, u : u + 3]
            scores.append((patch * other).sum() / np.sqrt((other**2).sum()))
        found[y, x] = int(np.argmax(scores))
    return found


@pytest.mark.parametrize("padding", [0, 1])
def test_best_match_equals_plain_loops(padding: int) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 3, 5, 7), torch.randn(2, 3, 6, 4)  # of two sizes
    found = matching.best_match(query, key, padding=padding)
    for i in range(2):
        assert (found[i].numpy() == plain_best(query[i].numpy(), key[i].numpy(), padding)).all()


def test_pieces_do_not_change_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key = torch.randn(1, 4, 9, 9), torch.randn(1, 4, 9, 9)
    pieces = matching.best_match(query, key, padding=1)
    monkeypatch.setattr(matching, "PIECES", 1)
    assert torch.equal(pieces, matching.best_match(query, key, padding=1))


def test_memory_of_128_to_512_is_bounded() -> None:
    """All 16,384 x 16,384 pairs at once would be a tensor of 1 GB."""
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel() * result.element_size())
            return result

    features = torch.empty(1, 256, 128, 128, device="meta")
    with Watch(), torch.no_grad():
        index = matching.best_match(features, features, padding=1)
        matching.cosine(features, features, index)
        matching.transfer(torch.empty(1, 64, 512, 512, device="meta"), index, 4)
    assert largest == 9 * 256 * 128 * 128 * 4  # the patches: 151 MB, three times at the most


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_transfer_equals_unfold_and_fold(scale: int) -> None:
    torch.manual_seed(1)
    h, w, key_h, key_w = 5, 6, 4, 7
    values = torch.randn(2, 3, scale * key_h, scale * key_w)
    index = torch.randint(key_h * key_w, (2, h, w))
    size = {"kernel_size": 3 * scale, "stride": scale, "padding": scale}
    columns = F.unfold(values, **size)  # (2, 3*9*scale^2, key_h*key_w)
    chosen = columns.gather(2, index.flatten(1)[:, None].expand(-1, columns.shape[1], -1))
    expected = F.fold(chosen, (scale * h, scale * w), **size) / 9
    assert torch.allclose(matching.transfer(values, index, scale), expected, atol=1e-5)


def test_cosine_is_that_of_the_matched_patches() -> None:
    torch.manual_seed(2)
    query = torch.randn(2, 3, 5, 6, requires_grad=True)
    key = torch.randn(2, 3, 4, 7, requires_grad=True)
    index = matching.best_match(query, key, padding=1)
    ours, theirs = (F.normalize(F.unfold(x, 3, padding=1), dim=1) for x in (query, key))
    best = (ours.transpose(1, 2) @ theirs).amax(dim=2).view(2, 1, 5, 6)
    found = matching.cosine(query, key, index)
    assert torch.allclose(found, best, atol=1e-5)
    found.sum().backward()
    assert query.grad.abs().sum() > 0 and key.grad.abs().sum() > 0
    flat = torch.zeros(1, 3, 5, 6, requires_grad=True)  # an untextured place: 0, not 0/0
    matching.cosine(flat, key[:1], index[:1]).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_flow_by_hand() -> None:
    index = torch.tensor([[[0, 1, 7], [5, 9, 9]]])  # in a grid that is 5 wide
    expected_y = [[0, 0, 1], [0, 0, 0]]
    expected_x = [[0, 0, 0], [0, 3, 2]]
    assert matching.flow(index, 2, 5)[0].tolist() == [expected_y, expected_x]


@pytest.mark.parametrize("name", ["c2-matching", "mrefsr"])
def test_a_shifted_picture_is_found_where_it_went(name: str) -> None:
    model = tiny(name)
    lr = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    ref = bicubic_skip(lr, 4).roll((2 * 4, -4), dims=(2, 3))  # 2 down, 1 to the left at x1
    with torch.no_grad():
        key = model.extractor_refs(ref)[2]
        found = model.match(lr, key, 1)[0, :, 4:12, 4:12]
    assert (found[0] == 2).all() and (found[1] == -1).all()


def test_matched_detail_arrives_at_every_scale() -> None:
    """Untrained offsets read the matched place, at x1, x2 and x4, with a mask of one half."""
    torch.manual_seed(5)
    model = build("c2-matching", **TINY["c2-matching"])
    seen = []
    for sampler in model.samplers:
        torch.nn.init.zeros_(sampler.weight)
        channels = range(len(sampler.weight))
        sampler.weight.data[channels, channels, 1, 1] = 2.0
        sampler.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    lr = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    ref = bicubic_skip(lr, 4).roll((2 * 4, -4), dims=(2, 3))
    with torch.no_grad():
        model(lr, ref[:, None])
    for (features, found), scale in zip(seen, (1, 2, 4), strict=True):
        inner = (..., slice(4 * scale, 12 * scale), slice(4 * scale, 12 * scale))
        expected = features.roll((-2 * scale, scale), dims=(2, 3))
        assert torch.allclose(found[inner], expected[inner], atol=1e-4)


# --- TTSR's pieces ---


def test_ttsr_lays_textures_where_the_input_shows_them() -> None:
    """The reference is the truth, moved: its textures arrive moved back."""
    model = tiny("ttsr").eval()
    truth = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    lr, hr = (torch.from_numpy(to_planes(p))[None] for p in (degrade(truth, 4), truth))
    ref = hr.roll((8, -4), dims=(2, 3))  # 2 down, 1 to the left at x1
    seen = []
    model.heads[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        model(lr, ref[:, None])
        textures = model.alignment(ref)[2].roll((-2, 1), dims=(2, 3))
    difference = (seen[0][:, -textures.shape[1] :] - textures).abs().amax(dim=1)
    assert (difference[:, 5:11, 5:11] < 1e-4).float().mean() > 0.9


@pytest.mark.parametrize("scale", [2, 4])
def test_enlarge_is_the_frameworks_bicubic(scale: int) -> None:
    x = torch.randn(2, 5, 6, 7)
    expected = F.interpolate(x, scale_factor=scale, mode="bicubic", align_corners=False)
    assert torch.allclose(Enlarge(scale)(x), expected, atol=1e-5)


def test_blur_reduces_as_pillow_does(drawn_faces: list[np.ndarray]) -> None:
    picture = torch.from_numpy(to_planes(drawn_faces[0]))[None]
    expected = bicubic_skip(torch.from_numpy(to_planes(degrade(drawn_faces[0], 4)))[None], 4)
    difference = (Blur(4)(picture) - expected).abs()[..., 16:-16, 16:-16]
    assert difference.max() < 1.5 / 255  # Pillow rounds twice


def test_every_level_hears_every_other() -> None:
    torch.manual_seed(0)
    exchange = Exchange(3, 4)
    maps = [torch.randn(1, 4, 4 * 2**i, 4 * 2**i, requires_grad=True) for i in range(3)]
    for merged in exchange(maps):
        gradients = torch.autograd.grad(merged.sum(), maps, retain_graph=True)
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_the_texture_extractor_learns_at_the_lower_rate() -> None:
    model = tiny("ttsr")
    lower = [key for key, _ in model.named_parameters() if key.startswith("alignment.")]
    assert len(lower) == 10 and all(".features." in key for key in lower)
    data = batch()
    model.loss(data).backward()
    assert all(model.get_parameter(key).grad.abs().sum() > 0 for key in lower)


# --- MRefSR's attention ---


def test_attention_over_present_references() -> None:
    logits = torch.randn(1, 3, 2, 2)
    weights = attention(logits, torch.tensor([[1.0, 0.0, 1.0]]))
    assert torch.allclose(weights[:, [0, 2]], logits[:, [0, 2]].softmax(dim=1))
    assert (weights[:, 1] == 0).all()
    assert (attention(logits, torch.zeros(1, 3)) == 0).all()


@torch.no_grad()
def test_fusion_by_hand() -> None:
    torch.manual_seed(0)
    fusion = Fusion(4, 3)
    content, aligned = torch.randn(2, 4, 5, 6), torch.randn(2, 3, 3, 5, 6)
    present = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    found = fusion(content, aligned, present)
    for i in range(2):
        there, own = aligned[i, present[i] > 0], content[i : i + 1]
        logits = (fusion.query(own) * fusion.key(there)).sum(dim=1, keepdim=True) / 3**0.5
        fused = (logits.softmax(dim=0) * fusion.value(there)).sum(dim=0, keepdim=True)
        joint = F.leaky_relu(fusion.joint(torch.cat((own, fused), dim=1)), 0.1)
        fused = 2 * torch.sigmoid(fusion.scale(joint)) * fused + fusion.shift(joint)
        expected = F.leaky_relu(fusion.last(torch.cat((own, fused), dim=1)), 0.1)
        assert torch.allclose(found[i : i + 1], expected, atol=1e-5)


# --- VGG and where its numbers come from ---


@pytest.fixture
def vgg19(tmp_path: Path) -> Path:
    torch.manual_seed(11)
    numbers = {key: torch.randn_like(value) for key, value in VGG(8).state_dict().items()}
    numbers["features.34.weight"] = torch.zeros(1)
    numbers["classifier.0.weight"] = torch.zeros(1)
    torch.save(numbers, tmp_path / "vgg19.pth")
    del numbers["features.34.weight"]
    save_file(numbers, tmp_path / "vgg16.safetensors")
    return tmp_path / "vgg19.pth"


def test_vgg_levels(vgg19: Path) -> None:
    network, numbers = VGG(8), torch.load(vgg19)
    network.start_from(str(vgg19))
    x = torch.rand(1, 3, 8, 12)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected, y = [], (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    for layer in (0, 2, 5, 7, 10):
        weight, bias = (numbers[f"features.{layer}.{part}"] for part in ("weight", "bias"))
        before = F.conv2d(y, weight, bias, padding=1)
        y = before.relu()
        expected.append(y)
        if layer in (2, 7):
            y = F.max_pool2d(y, 2)
    found = network(x)
    assert all(torch.allclose(a, b, rtol=1e-4) for a, b in zip(found, expected[::2], strict=True))
    network.last_relu = False
    assert torch.allclose(network(x)[2], before, rtol=1e-4, atol=1e-4)


def test_options_say_whose_numbers(vgg19: Path) -> None:
    labels = [
        tiny("ttsr", vgg=source).options["vgg"]
        for source in ("random", str(vgg19), str(vgg19.with_name("vgg16.safetensors")))
    ]
    assert labels[0] == "random"
    assert labels[1].startswith("loaded:vgg19-") and labels[2].startswith("loaded:vgg16-")
    assert labels[1][-8:] == labels[2][-8:]  # the same numbers
    assert tiny("ttsr", vgg=labels[1]).options["vgg"] == labels[1]  # reads nothing


def test_the_vgg_of_the_wheel() -> None:
    if find_spec("stlpips_pytorch") is None:
        pytest.skip("stlpips-pytorch is not installed: pip install 'fsrst[scores]'")
    network = VGG()
    assert network.start_from("stlpips").startswith("loaded:stlpips-vgg16-")
    assert 0.02 < network.features["0"].weight.std() < 0.2
    with pytest.raises(FsrstError, match=r"features.0.weight has shape \(64, 3, 3, 3\)"):
        VGG(8).start_from("stlpips")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no VGG weights at"),
        (b"nonsense", "not a torch state dict"),
        ([1, 2], "not a torch state dict"),
        ({"features.0.weight": torch.zeros(64, 3, 3, 3)}, "features.0.bias is missing"),
    ],
)
def test_bad_vgg_files_are_named(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "vgg.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(FsrstError, match=message):
        build("ttsr", vgg=str(path))


def test_buffers_are_saved_but_not_counted() -> None:
    network = VGG(8)
    x, before = torch.rand(1, 3, 8, 8), network.state_dict().keys()
    expected = network(x)[2]
    as_buffers(network)
    assert parameters(network) == 0 and network.state_dict().keys() == before
    assert torch.equal(network(x)[2], expected)


@pytest.mark.parametrize("name", RESTORING)
def test_a_weights_file_needs_no_other_file(name: str, vgg19: Path) -> None:
    model = tiny(name, vgg=str(vgg19)).eval()
    path = vgg19.with_name("model.safetensors")
    save_weights(path, model)
    vgg19.unlink()
    again, header = load_weights(path)
    assert header["options"]["vgg"].startswith("loaded:vgg19-")
    assert str(vgg19.parent) not in str(header)
    lr, refs = torch.rand(1, 3, 6, 6), torch.rand(1, 1, 3, 24, 24)
    with torch.no_grad():
        assert torch.equal(again(lr, refs), model(lr, refs))


# --- C2-Matching's first two stages ---


def test_stages_hand_their_weights_on(tmp_path: Path) -> None:
    teacher = tiny("c2-teacher")
    save_weights(tmp_path / "teacher.safetensors", teacher)
    student = tiny("c2-student", teacher=str(tmp_path / "teacher.safetensors"))
    for name in ("extractor_lr", "extractor_refs", "teacher_lr", "teacher_refs"):
        ours, wanted = (
            getattr(student, name),
            getattr(teacher, name.replace("teacher", "extractor")),
        )
        assert torch.equal(ours.features["10"].weight, wanted.features["10"].weight)
    student.extractor_lr.features["10"].bias.data += 1
    save_weights(tmp_path / "student.safetensors", student)
    assert read_header(tmp_path / "student.safetensors")["options"]["teacher"].startswith(
        "loaded:c2-teacher-"
    )
    for name in ("c2-matching", "mrefsr"):
        model = tiny(name, extractors=str(tmp_path / "student.safetensors"))
        assert model.options["extractors"].startswith("loaded:c2-student-")
        for part in ("extractor_lr", "extractor_refs"):
            ours, wanted = getattr(model, part).state_dict(), getattr(student, part).state_dict()
            assert all(torch.equal(ours[key], wanted[key]) for key in ours)
    with pytest.raises(FsrstError, match="has vgg_width 8"):
        build("c2-matching", extractors=str(tmp_path / "student.safetensors"))
    save_weights(tmp_path / "other.safetensors", tiny("ttsr"))
    with pytest.raises(FsrstError, match="holds ttsr; expected a c2-student"):
        build("c2-matching", extractors=str(tmp_path / "other.safetensors"))
    with pytest.raises(FsrstError, match="no weights at"):
        build("c2-student", teacher=str(tmp_path / "none.safetensors"))


def test_extractors_can_start_as_the_vgg(vgg19: Path) -> None:
    model = tiny("c2-matching", vgg=str(vgg19), extractors="vgg")
    for extractor in (model.extractor_lr, model.extractor_refs):
        assert torch.equal(extractor.features["5"].weight, model.encoder.features["5"].weight)


def test_a_student_without_a_teacher_is_refused() -> None:
    with pytest.raises(FsrstError, match="set model_options teacher"):
        tiny("c2-student").loss(batch())


def test_distillation_vanishes_when_student_and_teacher_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = tiny("c2-teacher")
    save_weights(tmp_path / "teacher.safetensors", teacher)
    student = tiny("c2-student", teacher=str(tmp_path / "teacher.safetensors"))
    data = batch(side=16)
    shown: list[torch.Tensor] = []  # to the teacher: what it learned on, high resolution
    hook = student.teacher_lr.register_forward_hook(lambda _, given, __: shown.append(given[0]))
    apart = student.loss(data).item()
    hook.remove()
    assert len(shown) == 1 and torch.equal(shown[0], data["hr"])
    monkeypatch.setattr(student.enlarge, "forward", lambda lr: data["hr"])
    agreed = student.loss(data).item()
    assert agreed == pytest.approx(teacher.loss(data).item(), abs=1e-5)
    assert apart > agreed


def test_margin_loss_equals_plain_loops() -> None:
    torch.manual_seed(4)
    h, w = 7, 11
    vectors = F.normalize(torch.randn(2, 1, 6, h * w), dim=2)
    similarity = vectors[0].transpose(1, 2) @ vectors[1]
    target = torch.randint(h * w, (1, h * w))
    valid = (torch.rand(1, h * w) < 0.7).float()
    total = 0.0
    a, b = vectors[:, 0].permute(0, 2, 1)  # (P, 6) each

    def far(i: int, j: int) -> bool:
        return max(abs(i // w - j // w), abs(i % w - j % w)) > 4

    for i in range(h * w):
        j = int(target[0, i])
        negatives = [(a[i] - b[k]).square().sum() for k in range(h * w) if far(k, j)]
        negatives += [(a[k] - b[j]).square().sum() for k in range(h * w) if far(k, i)]
        positive = (a[i] - b[j]).square().sum()
        total += float(valid[0, i]) * max(0.0, 1 + float(positive) - float(min(negatives)))
    found = c2_extractors.margin_loss(similarity, target, valid, w)
    assert found.item() == pytest.approx(total / float(valid.sum()), rel=1e-4)


def test_correspondence_of_a_warped_picture() -> None:
    """A picture of its own coordinates: the target cell shows where its source was."""
    height, width = 64, 96
    y = torch.linspace(0, 1, height)[:, None].expand(height, width)
    x = torch.linspace(0, 1, width).expand(height, width)
    pictures = torch.stack((x, y, torch.zeros(height, width))).expand(3, -1, -1, -1).clone()
    warped, target, valid = c2_extractors.self_correspondence(pictures)
    again = c2_extractors.self_correspondence(pictures)
    assert all(torch.equal(a, b) for a, b in zip((warped, target, valid), again, strict=True))
    assert 0.4 < valid.mean() < 1 and (warped - pictures).abs().mean() > 0.01
    shown = F.avg_pool2d(warped, 4).flatten(2)
    wanted = F.avg_pool2d(pictures, 4).flatten(2)
    error = (shown.gather(2, target[:, None].expand(-1, 3, -1)) - wanted).abs()
    cells = torch.tensor([1 / 24, 1 / 16, 1.0]).view(3, 1)
    inside = (error / cells).amax(dim=1)[valid > 0]
    assert inside.quantile(0.9) < 1  # within one cell; the mirror disturbs cells at the edge


def test_a_stage_shows_what_its_matching_sees() -> None:
    model = tiny("c2-teacher")
    lr = torch.rand(1, 3, 8, 8)
    bicubic = bicubic_skip(lr, 4)
    with torch.no_grad():
        none = model(lr, torch.rand(1, 0, 3, 32, 32))
        assert torch.allclose(none, bicubic, atol=1e-6)
        copied = model(lr, 1 - bicubic[:, None])
        same = model(lr, bicubic[:, None])
    assert torch.allclose(same[..., 8:-8, 8:-8], bicubic[..., 8:-8, 8:-8], atol=1e-5)
    assert not torch.allclose(copied, bicubic, atol=0.05)
