"""Drawn faces: the same always, and such that a reference helps."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fsrst.data.degradation import degrade
from fsrst.data.manifest import load_manifest
from fsrst.data.synthetic import draw_face, write_synthetic
from fsrst.errors import FsrstError
from fsrst.image import Floats, Pixels, luma, read_image, resize_bicubic, to_float


@pytest.mark.parametrize("size", [24, 64, 128, 200])
def test_contract_at_any_size(size: int) -> None:
    face = draw_face(5, 1, size)
    assert face.dtype == np.uint8
    assert face.shape == (size, size, 3)


def test_view_changes_more_than_noise_identity_even_more() -> None:
    def middle(identity: int, view: int) -> Floats:
        return to_float(draw_face(identity, view, 64)[16:48, 20:44])

    own, others = [], []
    for identity in range(6):
        face = middle(identity, 0)
        own.append(np.abs(face - middle(identity, 1)).mean())
        others.append(np.abs(face - middle((identity + 1) % 6, 1)).mean())
    assert 0.01 < np.mean(own) < 0.8 * np.mean(others)


def test_other_size_is_the_same_picture() -> None:
    large, small = draw_face(2, 3, 256), draw_face(2, 3, 128)
    difference = to_float(resize_bicubic(large, 128, 128)) - to_float(small)
    assert np.sqrt((difference**2).mean()) < 0.05


def test_every_face_of_a_hundred_is_lively() -> None:
    for identity in range(100):
        face = draw_face(identity, 0, 48)
        assert face.std() > 15, identity
        assert 25 < face.mean() < 230, identity


def details(pixels: Pixels) -> tuple[Floats, Floats]:
    """What the small picture tells of the luma, and what it does not, each (128, 128)."""
    known = resize_bicubic(degrade(pixels, 4), 128, 128)
    full, low = luma(to_float(pixels)), luma(to_float(known))
    return low.astype(np.float32), (full - low).astype(np.float32)


def box_mean(values: Floats, radius: int) -> Floats:
    side = 2 * radius + 1
    padded = np.pad(values, radius, mode="edge")
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(padded, side, axis=axis)
        padded = windows.mean(-1)
    return padded


def matched_details(target: Pixels, reference: Pixels) -> float:
    """Correlation of the target's missing details with those at the best match in ``reference``,
    matched by what the small pictures tell alone, in 9x9 windows within +-8 px."""
    low, missing = details(target)
    other, offered = details(reference)
    low, other = low - box_mean(low, 8), other - box_mean(other, 8)
    best, found = np.full(low.shape, np.inf), np.zeros_like(low)
    for down in range(-8, 9):
        for right in range(-8, 9):
            cost = box_mean((np.roll(other, (down, right), (0, 1)) - low) ** 2, 4)
            better = cost < best
            best[better] = cost[better]
            found[better] = np.roll(offered, (down, right), (0, 1))[better]
    return float((found * missing).sum() / np.sqrt((found**2).sum() * (missing**2).sum()))


def test_a_reference_tells_what_the_small_picture_does_not() -> None:
    for identity in (0, 3):
        target = draw_face(identity, 0)
        right = matched_details(target, draw_face(identity, 1))
        wrong = matched_details(target, draw_face(identity + 1, 1))
        assert right > 0.2
        assert right > 2 * wrong


def test_write_synthetic(tmp_path: Path) -> None:
    reports = []
    manifest = write_synthetic(
        tmp_path,
        identities=4,
        views=3,
        size=32,
        splits={"train": 3, "val": 1},
        progress=lambda done, total, what: reports.append((done, total, what)),
    )
    assert manifest == load_manifest(tmp_path)
    assert manifest.info["counts"]["train"] == {"samples": 9, "identities": 3}
    assert manifest.info["counts"]["val"] == {"samples": 3, "identities": 1}
    assert [report[:2] for report in reports] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for sample in manifest.samples:
        assert len(sample.references) == 2
        assert sample.target not in sample.references
        assert read_image(tmp_path / sample.target).shape == (32, 32, 3)


def test_write_synthetic_twice_is_the_same_and_seed_changes_everybody(tmp_path: Path) -> None:
    def written(name: str, seed: int) -> tuple[set[str], set[str]]:
        manifest = write_synthetic(tmp_path / name, identities=2, views=2, size=24, seed=seed)
        hashes = {
            hashlib.sha256((manifest.root / s.target).read_bytes()).hexdigest()
            for s in manifest.samples
        }
        return hashes, {sample.identity for sample in manifest.samples}

    first = written("a", 13)
    assert written("b", 13) == first
    other = written("c", 14)
    assert not other[0] & first[0]
    assert not other[1] & first[1]


def test_a_smaller_set_leaves_no_picture_of_the_larger_one(tmp_path: Path) -> None:
    """Nor do other splits and people; what is not drawn stays."""
    write_synthetic(tmp_path, identities=4, views=3, size=24, splits={"train": 3, "dev": 1})
    (tmp_path / "images" / "train" / "notes.txt").write_text("mine")
    manifest = write_synthetic(tmp_path, identities=2, views=2, size=24, seed=14)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert found == {sample.target for sample in manifest.samples}
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["train", "val"]
    assert sorted(path.name for path in (tmp_path / "images" / "train").iterdir()) == [
        "drawn-1400000",
        "notes.txt",
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"identities": 1},
        {"identities": 4, "views": 1},
        {"identities": 4, "splits": {"train": 2, "val": 1}},
        {"identities": 4, "splits": {"train": 5, "val": -1}},
    ],
)
def test_write_synthetic_refuses(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(FsrstError, match="identities"):
        write_synthetic(tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
