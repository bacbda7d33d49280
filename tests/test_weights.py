"""Weights files and checkpoints of the paper authors' training script."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fsrst.errors import FsrstError
from fsrst.models import build
from fsrst.models.weights import (
    convert_author_checkpoint,
    load_weights,
    read_header,
    save_weights,
)


def test_a_file_rebuilds_its_model(tmp_path: Path) -> None:
    model = build("fsrst-small", scale=8).eval()
    save_weights(tmp_path / "w.safetensors", model, {"training": {"samples": 5}})
    plain = tmp_path / "plain"
    plain.touch()  # others may read weights as they may any file
    assert (tmp_path / "w.safetensors").stat().st_mode == plain.stat().st_mode
    again, header = load_weights(tmp_path / "w.safetensors")
    assert header["model"] == "fsrst-small"
    assert header["options"] == {"scale": 8}
    assert header["training"] == {"samples": 5}
    assert header["parameters"] == sum(p.numel() for p in model.parameters())
    lr, refs = torch.rand(1, 3, 16, 16), torch.rand(1, 2, 3, 128, 128)
    assert torch.equal(again(lr, refs), model(lr, refs))


def test_half_storage_is_half_the_size_and_close(tmp_path: Path) -> None:
    model = build("fsrst-small").eval()
    save_weights(tmp_path / "full.safetensors", model)
    save_weights(tmp_path / "half.safetensors", model, half=True)
    ratio = (tmp_path / "half.safetensors").stat().st_size / (
        tmp_path / "full.safetensors"
    ).stat().st_size
    assert ratio == pytest.approx(0.5, abs=0.02)
    again, _ = load_weights(tmp_path / "half.safetensors")
    lr, refs = torch.rand(1, 3, 32, 32), torch.rand(1, 2, 3, 128, 128)
    assert (again(lr, refs) - model(lr, refs)).abs().max() < 0.5 / 255


def test_the_hash_names_the_numbers_not_the_header(tmp_path: Path) -> None:
    model = build("fsrst-small")
    for name, header in (("a", {}), ("b", {"scores": {"psnr": 30}})):
        save_weights(tmp_path / f"{name}.safetensors", model, header)
    first = read_header(tmp_path / "a.safetensors")["weights_hash"]
    assert read_header(tmp_path / "b.safetensors")["weights_hash"] == first
    with torch.no_grad():
        model.constructor.last.bias[0] += 1
    save_weights(tmp_path / "c.safetensors", model)
    assert read_header(tmp_path / "c.safetensors")["weights_hash"] != first


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(FsrstError, match="no weights at"):
        load_weights(path)
    save_weights(path, build("fsrst-small"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FsrstError, match="not a readable safetensors"):
        load_weights(path)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(FsrstError, match="no fsrst header"):
        read_header(path)
    for header in ("not json", "[]", '{"format": 1}'):
        save_file({"x": torch.zeros(1)}, path, {"fsrst": header})
        with pytest.raises(FsrstError, match="damaged: its header"):
            load_weights(path)
    save_file(
        {"x": torch.zeros(1)},
        path,
        metadata={"fsrst": '{"format": 1, "model": "fsrst-small", "options": {}}'},
    )
    with pytest.raises(FsrstError, match="does not hold a whole fsrst-small"):
        load_weights(path)


# --- the authors' network, from its published facts (method.md), keyed as their script saves it ---


def author_state(width: int, scale: int, prefix: str) -> dict[str, Tensor]:
    """Random tensors under the keys and in the order of the authors' state dict."""
    state: dict[str, Tensor] = {}

    def layer(key: str, *shape: int, bias: bool = True) -> None:
        fan = torch.tensor(shape[1:]).prod().item()
        state[f"{prefix}{key}.weight"] = torch.randn(shape) / fan**0.5
        if bias:
            state[f"{prefix}{key}.bias"] = torch.randn(shape[0]) * 0.05

    def trunk(key: str, inputs: int, blocks: int, outputs: int, bias: bool) -> None:
        layer(f"{key}.model.0", width, inputs, 3, 3)
        for block in range(1, blocks + 1):
            layer(f"{key}.model.{block}.res.1", width, width, 3, 3)
            layer(f"{key}.model.{block}.res.3", width, width, 3, 3)
        layer(f"{key}.model.{blocks + 1}", outputs, width, 3, 3, bias=bias)

    trunk("feature_extraction_lq", 3, 5, 3, True)
    trunk("feature_extraction_ref", scale**2, 5, 3, True)
    second = 3 if scale == 4 else 2
    layer("feature_align.conv.0", 32, 6, 5, 5)
    layer(f"feature_align.conv.{second}", 32, 32, 5, 5)
    layer("feature_align.fc.0", 32, 8192)
    layer("feature_align.fc.2", 6, 32)
    state[f"{prefix}feature_align.fc.2.weight"] *= 0.2
    state[f"{prefix}feature_align.fc.2.bias"] += torch.tensor([1.0, 0, 0, 0, 1, 0])
    trunk("reconstruction", 3, 20, 3 * scale**2, False)
    layer("last", 3, 3, 3, 3)
    return state


def author_forward(state: dict[str, Tensor], lr: Tensor, refs: list[Tensor], scale: int) -> Tensor:
    """What their network computes of ``lr`` and luma references (B, 1, 128, 128)."""
    state = {key.removeprefix("module."): value for key, value in state.items()}

    def conv(x: Tensor, key: str, padding: int = 1) -> Tensor:
        return F.conv2d(x, state[f"{key}.weight"], state.get(f"{key}.bias"), padding=padding)

    def trunk(x: Tensor, key: str, blocks: int) -> Tensor:
        x = conv(x, f"{key}.model.0")
        for block in range(1, blocks + 1):
            inner = conv(x.relu(), f"{key}.model.{block}.res.1")
            x = x + conv(inner.relu(), f"{key}.model.{block}.res.3")
        return conv(x, f"{key}.model.{blocks + 1}")

    features_lr = trunk(lr, "feature_extraction_lq", 5)
    aligned = []
    for ref in refs:
        features = trunk(F.pixel_unshuffle(ref, scale), "feature_extraction_ref", 5)
        x = conv(torch.cat((features_lr, features), 1), "feature_align.conv.0", 2)
        if scale == 4:
            x = F.max_pool2d(x, 2)
        x = conv(x.relu(), f"feature_align.conv.{3 if scale == 4 else 2}", 2).relu().flatten(1)
        for fc in ("feature_align.fc.0", "feature_align.fc.2"):
            x = F.linear(x, state[f"{fc}.weight"], state[f"{fc}.bias"])
            x = x.relu() if fc.endswith("0") else x
        grid = F.affine_grid(x.view(-1, 2, 3), features.shape, align_corners=False)
        aligned.append(
            F.grid_sample(features, grid, align_corners=False, padding_mode="reflection")
        )
    far = torch.stack([(features_lr - a).square().sum(1).sqrt().clamp(max=100) for a in aligned])
    weights = torch.exp(-far) / (torch.exp(-far).sum(0) + 1e-9)
    fused = features_lr + sum(w[:, None] * a for w, a in zip(weights, aligned, strict=True))
    residual = conv(F.pixel_shuffle(trunk(fused, "reconstruction", 20), scale), "last")
    skip = F.interpolate(lr, (128, 128), mode="bicubic", align_corners=False).clamp(0, 1)
    return (skip + residual).clamp(0, 1)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(
    ("name", "width", "scale", "prefix"),
    [
        ("fsrst-small", 32, 4, "module."),
        ("fsrst-small", 32, 8, ""),
        ("fsrst", 64, 4, ""),
    ],
)
def test_converted_checkpoint_computes_the_same(
    tmp_path: Path, name: str, width: int, scale: int, prefix: str, n: int
) -> None:
    torch.manual_seed(1)
    state = author_state(width, scale, prefix)
    torch.save(state, tmp_path / "best_mdl.pth")
    model = convert_author_checkpoint(tmp_path / "best_mdl.pth", name)
    assert model.options == {"scale": scale}
    side = 128 // scale
    lr, luma = torch.rand(2, 3, side, side), torch.rand(2, n, 1, 128, 128)
    theirs = author_forward(state, lr, list(luma.unbind(1)), scale)
    ours = model(lr, luma.expand(-1, -1, 3, -1, -1)).clamp(0, 1)
    assert theirs.std() > 0.05
    assert (ours - theirs).abs().max() < 1e-4


def test_converting_the_wrong_thing_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with pytest.raises(FsrstError, match="no checkpoint at"):
        convert_author_checkpoint(path, "fsrst")
    path.write_text("not a checkpoint")
    with pytest.raises(FsrstError, match="not a torch state dict"):
        convert_author_checkpoint(path, "fsrst")
    torch.save({"state": {}, "param_groups": []}, path)
    with pytest.raises(FsrstError, match="optimizer"):
        convert_author_checkpoint(path, "fsrst")
    state = author_state(32, 4, "")
    torch.save(state, path)
    with pytest.raises(FsrstError, match=r"32 channels \(fsrst-small\)"):
        convert_author_checkpoint(path, "fsrst")
    torch.save({**state, "extra.weight": torch.zeros(1)}, path)
    with pytest.raises(FsrstError, match=r"unknown key 'extra.weight'"):
        convert_author_checkpoint(path, "fsrst-small")
    del state["last.weight"], state["last.bias"]
    torch.save(state, path)
    with pytest.raises(FsrstError, match="no key last"):
        convert_author_checkpoint(path, "fsrst-small")


@pytest.mark.parametrize("name", ["fsrst-small", "fsrst2-small"])
def test_another_width_is_told_by_the_weights(name: str, tmp_path: Path) -> None:
    """MODELS fixes the width of a name; a run may ask for another."""
    save_weights(tmp_path / "narrow.safetensors", build(name, width=8))
    network, _ = load_weights(tmp_path / "narrow.safetensors")
    assert network.options["width"] == 8
    assert "width" not in build(name).options
