"""Manifest and training batches."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fsrst.data.augmentation import (
    Augmentation,
    compose,
    cut_out,
    damage,
    draw_affine,
    draw_tones,
    move,
    relight,
)
from fsrst.data.dataset import SeveralSizes, Store, TrainingSet, prefetched
from fsrst.data.degradation import FILTERS, degrade, degrade_poorly, noisy
from fsrst.data.manifest import (
    Manifest,
    Sample,
    evenly_spread,
    load_manifest,
    write_manifest,
    wrong_person,
)
from fsrst.data.synthetic import draw_face
from fsrst.errors import FsrstError
from fsrst.image import Pixels, from_planes, read_image, to_planes, write_image

INFO = {"name": "tiny", "size": 32, "made_by": {}}


def make(
    root: Path, people: int = 4, pictures: int = 4, split: str = "train", size: int = 32
) -> Manifest:
    """Flat pictures whose red channel is the person and green the picture: easy to recognise."""
    samples = []
    for person in range(people):
        files = []
        for picture in range(pictures):
            pixels = np.zeros((size, size, 3), np.uint8)
            pixels[..., 0], pixels[..., 1] = 10 * person + 5, 10 * picture + 5
            pixels[:, : size // 2, 2] = 200
            files.append(f"images/{person}-{picture}.png")
            write_image(root / files[-1], pixels)
        for picture, file in enumerate(files):
            others = tuple(files[:picture] + files[picture + 1 :])
            samples.append(Sample(f"p{person}-{picture}", f"p{person}", split, file, others, file))
    return write_manifest(root, samples, {**INFO, "size": size})


def training_set(manifest: Manifest, **changes: object) -> TrainingSet:
    others = ("holdout", "sharing", "seed", "n_references")
    augmentation = Augmentation(**{k: v for k, v in changes.items() if k not in others})
    return TrainingSet(
        [manifest],
        "train",
        scale=4,
        n_references=int(changes.get("n_references", 3)),
        augmentation=augmentation,
        seed=int(changes.get("seed", 13)),
        targets_per_set=int(changes.get("sharing", 1)),
        holdout_identities=int(changes.get("holdout", 0)),
    )


# --- manifest ---


def test_manifest_round_trip(tmp_path: Path) -> None:
    written = make(tmp_path)
    read = load_manifest(tmp_path)
    assert read.samples == written.samples
    assert read.hash == written.hash
    assert read.info["counts"] == {"train": {"identities": 4, "samples": 16}}


def test_splits_are_added_and_replaced(tmp_path: Path) -> None:
    first = make(tmp_path)
    val = [Sample("v", "someone", "val", first.samples[0].target, first.samples[0].references, "x")]
    both = write_manifest(tmp_path, val, INFO, split="val")
    assert len(both.split("train")) == 16
    assert len(write_manifest(tmp_path, val, INFO, split="val").split("val")) == 1
    with pytest.raises(FsrstError, match="has no split 'test'; it has: train, val"):
        both.split("test")
    with pytest.raises(FsrstError, match="pictures of 32 px, not 64"):
        write_manifest(tmp_path, val, {**INFO, "size": 64}, split="val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identity": " "}, "empty identity"),
        ({"split": "val"}, "identity 'p0' is in split"),
        ({"target": "images/none.png"}, r"images/none.png is in the manifest but not on disk"),
        ({"id": "p0-1"}, "'p0-1' occurs twice"),
        ({"shoe_size": 43}, "line 1: not a sample"),
    ],
)
def test_bad_manifests_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    make(tmp_path)
    path = tmp_path / "manifest.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(lines[0]), **change}), *lines[1:]]))
    with pytest.raises(FsrstError, match=message):
        load_manifest(tmp_path)


def test_missing_and_damaged_sets_are_named(tmp_path: Path) -> None:
    with pytest.raises(FsrstError, match="no manifest.jsonl in"):
        load_manifest(tmp_path)
    make(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(FsrstError, match="dataset.json is missing or damaged"):
        load_manifest(tmp_path)


def test_wrong_person_is_the_next_one(tmp_path: Path) -> None:
    samples = list(make(tmp_path).samples)
    assert wrong_person(samples, samples[0]).identity == "p1"
    assert wrong_person(samples, samples[-1]).identity == "p0"
    with pytest.raises(FsrstError, match="two identities"):
        wrong_person([s for s in samples if s.identity == "p0"], samples[0])


# --- batches ---


def test_batch_shapes_and_low_resolution(tmp_path: Path) -> None:
    batch = training_set(make(tmp_path)).batch(0, 5)
    assert batch["lr"].shape == (5, 3, 8, 8)
    assert batch["refs"].shape == (5, 3, 3, 32, 32)
    assert batch["hr"].shape == (5, 3, 32, 32)
    assert batch["present"].tolist() == [[1, 1, 1]] * 5
    hr = from_planes(batch["hr"][0].numpy())
    pillow = np.asarray(Image.fromarray(hr).resize((8, 8), Image.Resampling.BICUBIC))
    assert np.array_equal(from_planes(batch["lr"][0].numpy()), pillow)


def test_a_batch_is_a_function_of_seed_and_position(tmp_path: Path) -> None:
    manifest = make(tmp_path)
    strong = {
        "flip": True,
        "degrees": 5.0,
        "refs_zoom": 0.1,
        "refs_light": 0.2,
        "refs_colour": 0.1,
        "light": 0.1,
        "colour": 0.1,
        "wrong_person": 0.3,
        "reference_dropout": 0.3,
    }
    one, other = training_set(manifest, **strong), training_set(manifest, **strong)
    other.batch(40, 3)  # whatever was asked before does not matter
    whole = one.batch(20, 8)
    halves = [other.batch(20, 4), other.batch(24, 4)]
    for key, value in whole.items():
        assert torch.equal(value, torch.cat([half[key] for half in halves])), key
    another = training_set(manifest, seed=14, **strong).batch(20, 8)
    assert all(not torch.equal(value, another[key]) for key, value in whole.items())


def test_each_channel_of_a_reference_has_a_gain_of_its_own() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    tinted = [relight(grey, draw_tones(np.random.default_rng(seed), 0, 0.2)) for seed in range(200)]
    values = np.array([picture[0, 0] for picture in tinted])
    assert all((picture == picture[0, 0]).all() for picture in tinted)
    assert values.min() in range(80, 84) and values.max() in range(117, 121)
    assert np.abs(np.corrcoef(values.T) - np.eye(3)).max() < 0.3
    picture = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    assert relight(picture, draw_tones(np.random.default_rng(1), 0, 0)) is picture


def test_an_epoch_shows_every_sample_once(tmp_path: Path) -> None:
    data = training_set(make(tmp_path))
    colours = {tuple(hr[:2, 0, -1].tolist()) for hr in data.batch(16, 16)["hr"]}
    assert len(colours) == 16


def test_references_are_of_the_person_and_never_the_target(tmp_path: Path) -> None:
    batch = training_set(make(tmp_path)).batch(0, 32)
    for hr, refs in zip(batch["hr"], batch["refs"], strict=True):
        assert (refs[:, 0, 0, 0] == hr[0, 0, 0]).all()
        assert (refs[:, 1, 0, 0] != hr[1, 0, 0]).all()


def test_wrong_people_and_dropout_happen(tmp_path: Path) -> None:
    manifest = make(tmp_path)
    batch = training_set(manifest, wrong_person=1.0).batch(0, 32)
    wrong = batch["refs"][:, 0, 0, 0, 0] != batch["hr"][:, 0, 0, 0]
    assert wrong.all()
    present = training_set(manifest, reference_dropout=1.0).batch(0, 64)["present"].sum(1)
    assert set(present.tolist()) == {0.0, 1.0, 2.0}


def test_one_reference_alone_is_as_frequent_as_asked(tmp_path: Path) -> None:
    manifest = make(tmp_path)
    alone = training_set(manifest, one_reference=1.0, reference_dropout=1.0).batch(0, 64)
    assert (alone["present"].sum(1) == 1).all()
    mixed = training_set(manifest, one_reference=0.5).batch(0, 400)["present"].sum(1)
    assert 160 < (mixed == 1).sum() < 240
    assert set(mixed.tolist()) == {1.0, 3.0}


def test_wrong_people_are_of_the_same_set(tmp_path: Path) -> None:
    """However small a part of the mixture it is: references are filmed as the target is."""
    small, large = make(tmp_path / "small", people=8), make(tmp_path / "large", people=3)
    data = TrainingSet(
        [small, large],
        "train",
        scale=4,
        n_references=1,
        augmentation=Augmentation(wrong_person=0.5),
        seed=13,
    )
    rng = np.random.default_rng(0)
    for store, sample in (data.samples[0], data.samples[-1]):
        own = {store[file][0, 0].tobytes() for file in (sample.target, *sample.references)}
        others = {pixels[0, 0].tobytes() for pixels in store.pixels} - own
        assert others
        items = [data._item(store, sample, rng) for _ in range(100)]
        seen = [
            (item["refs"][0, 0, :, 0, 0] * 255).round().to(torch.uint8).numpy().tobytes()
            for item in items
        ]
        assert set(seen) <= own | others
        assert 35 < sum(reference in others for reference in seen) < 65
    alone = TrainingSet(
        [small, make(tmp_path / "alone", people=1)],
        "train",
        scale=4,
        n_references=1,
        augmentation=Augmentation(wrong_person=1.0),
        seed=13,
    )
    batch = alone.batch(0, len(alone))  # nobody else is in that set
    wrong = (batch["refs"][:, 0, 0, 0, 0] != batch["hr"][:, 0, 0, 0]).tolist()
    assert wrong.count(False) == 4
    assert not (batch["refs"][:, 0] == batch["hr"]).flatten(1).all(dim=1).any()  # its own, then


def test_shared_motion_moves_all_and_own_motion_moves_references(tmp_path: Path) -> None:
    manifest = make(tmp_path)

    def edges(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return batch["hr"][:, 2].sum((1, 2)), batch["refs"][:, 0, 2].sum((1, 2))

    hr, ref = edges(training_set(manifest, translate=0.1).batch(0, 8))
    assert torch.allclose(hr, ref)
    assert hr.std() > 1
    hr, ref = edges(training_set(manifest, refs_translate=0.1).batch(0, 8))
    assert hr.std() < 0.01
    assert ref.std() > 1


def test_drawn_motion_fills_its_ranges() -> None:
    drawn = [draw_affine(np.random.default_rng(seed), 5, 0.1, 0.2) for seed in range(300)]
    degrees = [np.degrees(np.arctan2(m[1, 0], m[0, 0])) for m in drawn]
    zooms = [1 / np.hypot(m[0, 0], m[1, 0]) for m in drawn]
    shifts = [m[:2, 2] for m in drawn]
    for found, low, high in ((degrees, -5, 5), (zooms, 0.8, 1.2), (shifts, -0.1, 0.1)):
        assert low <= np.min(found) < low + 0.02 * (high - low)
        assert high >= np.max(found) > high - 0.02 * (high - low)


TURN = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
SHIFT = np.array([[1.0, 0, 0.25], [0, 1, 0], [0, 0, 1]])


def test_a_motion_says_where_an_output_pixel_is_in_the_input() -> None:
    face = draw_face(0, 0, 64)
    assert np.array_equal(move(face, SHIFT)[:, :48], face[:, 16:])
    assert np.array_equal(move(face, TURN), np.rot90(face))


def test_a_reference_moves_on_its_own_before_it_moves_with_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = {1.0: TURN, 2.0: SHIFT}
    monkeypatch.setattr("fsrst.data.dataset.draw_affine", lambda _, degrees, *__: fixed[degrees])
    manifest = make(tmp_path)
    batch = training_set(manifest, degrees=1.0, refs_degrees=2.0).batch(0, 1)
    picture = read_image(tmp_path / manifest.samples[0].target)
    for found, expected in (("hr", picture), ("refs", move(picture, SHIFT))):
        blue = batch[found].flatten(0, -4)[0, 2]
        assert np.array_equal(blue, to_planes(move(expected, TURN))[2])


def test_light_fills_its_range_and_does_not_wrap() -> None:
    grey, white = (np.full((4, 4, 3), level, np.uint8) for level in (100, 255))
    lit = [
        relight(grey, draw_tones(np.random.default_rng(seed), 0.2, 0)).max() for seed in range(300)
    ]
    # gain and gamma: 0.8 * (100 / 255) ** 1.2 and 1.2 * (100 / 255) ** 0.8
    assert 66 <= min(lit) < 70
    assert 145 >= max(lit) > 140
    tones = [draw_tones(np.random.default_rng(i), 0.2, 0) for i in range(9)]
    assert min(relight(white, each).min() for each in tones) >= 204


def test_damage_makes_small_pictures_and_poor_jpegs() -> None:
    face = draw_face(0, 0, 64)

    def blocks(picture: Pixels) -> float:
        """Steps at the borders of JPEG's 8x8 blocks, against all steps."""
        steps = np.abs(np.diff(picture.astype(float), axis=1)).mean(axis=(0, 2))
        return float(steps[7::8].mean() / steps.mean())

    made = [damage(face, np.random.default_rng(seed), 1.0) for seed in range(20)]
    assert all(m.shape == face.shape and not np.array_equal(m, face) for m in made)
    assert 4 < sum(blocks(m) > 1.2 for m in made) < 16
    spared = [damage(face, np.random.default_rng(seed), 0.5) is face for seed in range(100)]
    assert 35 < sum(spared) < 65


def test_inputs_of_life_are_reduced_otherwise_noisy_or_jpegs() -> None:
    face = draw_face(0, 0, 128)
    clean = degrade(face, 4)
    reduced = [Image.fromarray(face).resize((32, 32), f) for f in FILTERS]
    made = [degrade_poorly(face, 4, np.random.default_rng(seed)) for seed in range(200)]
    assert all(m.shape == clean.shape and m.dtype == np.uint8 for m in made)
    spared = [sum(np.array_equal(m, np.asarray(r)) for m in made) for r in reduced]
    assert all(5 < count < 35 for count in spared)  # a quarter is neither noisy nor a JPEG
    off = np.array([np.abs(m.astype(float) - clean).mean() for m in made])
    assert 2 < np.median(off) < 6 and off.max() < 16
    flat = np.full((64, 64, 3), 100, np.uint8)
    assert noisy(flat, np.random.default_rng(1), 5.0).std() == pytest.approx(5, rel=0.05)
    black = noisy(flat * 0, np.random.default_rng(1), 5.0)
    assert black.min() == 0 and black.max() < 40  # clipped, not wrapped


def test_damaged_inputs_are_of_a_part_of_the_samples_and_never_of_the_held_out(
    tmp_path: Path,
) -> None:
    manifest = make(tmp_path)
    plain, changed = (training_set(manifest, lr_damage=v).batch(0, 64) for v in (0.0, 0.5))
    for key in ("hr", "refs", "present"):
        assert torch.equal(plain[key], changed[key])
    differ = (plain["lr"] != changed["lr"]).flatten(1).any(dim=1)
    assert 16 < differ.sum() < 40  # some filters change little of these pictures
    held_out = TrainingSet(
        [manifest],
        "train",
        scale=4,
        n_references=1,
        augmentation=Augmentation(lr_damage=1.0),
        seed=13,
        holdout_identities=1,
    )
    for batch in held_out.holdout_batches(2, 4):
        for lr, hr in zip(batch["lr"], batch["hr"], strict=True):
            assert np.array_equal(from_planes(lr.numpy()), degrade(from_planes(hr.numpy()), 4))


@pytest.mark.parametrize("change", ["refs_light", "refs_damage"])
def test_light_and_damage_are_of_references_alone(tmp_path: Path, change: str) -> None:
    manifest = make(tmp_path)
    plain, changed = (training_set(manifest, **{change: v}).batch(0, 8) for v in (0.0, 0.9))
    assert torch.equal(plain["hr"], changed["hr"]) and torch.equal(plain["lr"], changed["lr"])
    assert not torch.equal(plain["refs"], changed["refs"])


def test_references_before_another_background(tmp_path: Path) -> None:
    """The middle stays, the corners are one tone or another picture, in about half of samples."""
    manifest = make(tmp_path)
    plain, changed = (training_set(manifest, refs_background=v).batch(0, 64) for v in (0.0, 0.5))
    assert torch.equal(plain["hr"], changed["hr"]) and torch.equal(plain["lr"], changed["lr"])
    size = plain["refs"].shape[-1]
    middle = slice(size * 3 // 8, size * 5 // 8)
    assert torch.equal(plain["refs"][..., middle, middle], changed["refs"][..., middle, middle])
    corners = [0, -1]
    differ = (plain["refs"] != changed["refs"])[..., corners, :][..., corners]
    assert 20 < differ.flatten(1).any(dim=1).sum() < 44


def test_a_cut_out_head_has_no_edge_of_its_own() -> None:
    picture = np.full((64, 64, 3), 90, np.uint8)
    covered = cut_out(picture, np.array([90, 90, 200], np.uint8), 0.3, 0.4)
    assert (covered[..., :2] == 90).all()
    assert covered[32, 32, 2] == 90 and covered[0, 0, 2] == 200
    steps = np.abs(np.diff(covered[32, :, 2].astype(int)))
    assert 0 < steps.max() < 60


def test_some_samples_keep_their_references_as_they_are_found(tmp_path: Path) -> None:
    changes = {"refs_translate": 0.2, "refs_light": 0.5, "refs_damage": 1.0}
    manifest = make(tmp_path)
    plain, changed, mixed = (
        training_set(manifest, **options).batch(0, 64)["refs"].flatten(1)
        for options in ({}, changes, {**changes, "refs_as_found": 0.5})
    )
    assert (plain != changed).any(dim=1).all()
    as_found = (plain == mixed).all(dim=1)
    assert 20 < as_found.sum() < 44


def test_what_happens_to_references_is_nothing_to_a_network_without(tmp_path: Path) -> None:
    """So Table 1's networks without references are the same by tables.yaml and -unmoved.yaml."""
    changes = {"refs_translate": 0.04, "refs_degrees": 4, "refs_zoom": 0.04, "refs_light": 0.1}
    shared = {"n_references": 0, "flip": True, "reference_dropout": 0.1, "wrong_person": 0.05}
    manifest = make(tmp_path)
    plain, changed = (
        training_set(manifest, **shared, **more).batch(0, 64) for more in ({}, changes)
    )
    assert all(torch.equal(plain[key], changed[key]) for key in plain)


def test_shared_light_and_colour_are_one_for_the_target_and_its_references(tmp_path: Path) -> None:
    manifest = make(tmp_path)
    plain, changed = (
        training_set(manifest, light=value, colour=value).batch(0, 8) for value in (0.0, 0.3)
    )
    for hr, lit, refs, lit_refs in zip(
        plain["hr"], changed["hr"], plain["refs"], changed["refs"], strict=True
    ):
        assert not torch.equal(hr, lit)
        red = dict(zip(hr[0].flatten().tolist(), lit[0].flatten().tolist(), strict=True))
        expected = refs[:, 0].clone().apply_(red.__getitem__)  # the person's own red
        assert torch.equal(lit_refs[:, 0], expected)


def test_what_lies_outside_is_mirrored_however_far_a_picture_moves() -> None:
    picture = np.full((32, 32, 3), 200, np.uint8)
    for seed in range(20):
        matrix = draw_affine(np.random.default_rng(seed), 45, 0.4, 0.5)
        assert (move(picture, matrix) == 200).all()


def test_composed_motions_are_one_after_the_other() -> None:
    picture = np.asarray(Image.effect_noise((32, 32), 40).resize((64, 64)).convert("RGB"))
    shift = np.array([[1, 0, 0.125], [0, 1, -0.25], [0, 0, 1]])  # whole pixels
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    for first, second in ((shift, turn), (turn, shift)):
        both = move(picture, compose(first, second))
        after = move(move(picture, second), first)
        assert np.array_equal(both[24:40, 24:40], after[24:40, 24:40])
    assert compose(None, turn) is compose(turn, None) is turn
    assert compose(None, None) is None


def test_what_is_scored_of_the_papers_sets(tmp_path: Path) -> None:
    """`fsrst prepare dfd` and its like make train and test, the others val."""
    sets = {name: make(tmp_path / name, split=name) for name in ("train", "val", "test")}
    assert sets["test"].scored == "test"
    assert sets["val"].scored == sets["train"].scored == "val"
    both = replace(sets["val"], samples=sets["val"].samples + sets["test"].samples)
    assert both.scored == "val"


def test_targets_share_a_set_of_references(tmp_path: Path) -> None:
    manifest = make(tmp_path, pictures=6)
    batch = training_set(manifest, sharing=2).batch(4, 8)
    assert batch["lr"].shape[0] == batch["hr"].shape[0] == 8
    assert batch["refs"].shape[:2] == batch["present"].shape == (4, 3)
    for i, refs in enumerate(batch["refs"]):
        for hr in batch["hr"][2 * i : 2 * i + 2]:
            assert (refs[:, 0, 0, 0] == hr[0, 0, 0]).all()  # the same person
            assert (refs[:, 1, 0, 0] != hr[1, 0, 0]).all()  # another picture


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("flip", 1, "true or false, got 1"),
        ("quarter_turns", "no", "true or false, got 'no'"),
        ("degrees", "abc", "a number of 0 or more, got 'abc'"),
        ("refs_translate", -0.1, "a number of 0 or more, got -0.1"),
        ("translate", float("nan"), "a number of 0 or more, got nan"),
        ("refs_degrees", True, "a number of 0 or more, got True"),
        ("zoom", 1, "a number from 0 to below 1, got 1"),
        ("refs_light", None, "a number from 0 to below 1, got None"),
        ("reference_dropout", 1.5, "a number from 0 to 1, got 1.5"),
        ("wrong_person", -0.5, "a number from 0 to 1, got -0.5"),
        ("refs_damage", [0.5], r"a number from 0 to 1, got \[0.5\]"),
    ],
)
def test_bad_augmentation_is_refused(key: str, value: object, expected: str) -> None:
    with pytest.raises(FsrstError, match=f"^augmentation: {key} must be {expected}$"):
        Augmentation(**{key: value})


def test_quarter_turns_and_flips_are_shared(tmp_path: Path) -> None:
    batch = training_set(make(tmp_path), flip=True, quarter_turns=True).batch(0, 32)
    blue = batch["hr"][:, 2]
    assert torch.equal(blue, batch["refs"][:, 0, 2])
    assert len({tuple(picture[[0, 0, -1], [0, -1, 0]].tolist()) for picture in blue}) == 4


def test_flips_are_shared_and_half_of_all(tmp_path: Path) -> None:
    batch = training_set(make(tmp_path), flip=True).batch(0, 64)
    assert torch.equal(batch["hr"][:, 2], batch["refs"][:, 0, 2])
    assert 20 < (batch["hr"][:, 2, 0, 0] > 0).sum() < 44


def beside_larger(tmp_path: Path, **changes: float) -> TrainingSet:
    """Pictures of 48 px that show their own coordinates, beside those of 32 px."""
    y, x = np.mgrid[:48, :48]
    ramps = np.stack([5 * x, 5 * y, 0 * x], axis=-1).astype(np.uint8)
    samples = []
    for person in "ab":
        files = [f"images/{person}{number}.png" for number in range(3)]
        for file in files:
            write_image(tmp_path / "large" / file, ramps)
            others = tuple(other for other in files if other != file)
            samples.append(Sample(Path(file).stem, person, "train", file, others, file))
    large = write_manifest(tmp_path / "large", samples, {**INFO, "size": 48})
    return TrainingSet(
        [make(tmp_path / "small"), large],
        "train",
        scale=4,
        n_references=2,
        augmentation=Augmentation(**changes),
        seed=13,
        holdout_identities=1,
    )


def of_larger(data: TrainingSet) -> tuple[torch.Tensor, torch.Tensor]:
    batch = data.batch(0, 240)
    larger = batch["hr"][:, 0, 0, 0] != batch["hr"][:, 0, 0, -1]
    assert 0 < larger.sum() < 240
    return batch["hr"][larger], batch["refs"][larger]


def test_larger_pictures_are_cropped_at_one_random_place(tmp_path: Path) -> None:
    data = beside_larger(tmp_path)
    hr, refs = of_larger(data)
    assert torch.equal(hr, refs[:, 0]) and torch.equal(hr, refs[:, 1])
    corners = hr[:, :2, 0, 0]
    assert len({tuple(corner) for corner in corners.tolist()}) > 5
    assert (corners[:, 0] != corners[:, 1]).any()
    y, x = np.mgrid[8:40, 8:40]
    middle = torch.from_numpy(to_planes(np.stack([5 * x, 5 * y, 0 * x], axis=-1).astype(np.uint8)))
    held = [b for b in data.holdout_batches(1, 100) if torch.equal(b["hr"][0], middle)]
    assert len(held) == 3
    assert all(torch.equal(b["refs"][0, 1], middle) for b in held)


def test_parts_of_larger_pictures_are_reduced(tmp_path: Path) -> None:
    hr, refs = of_larger(beside_larger(tmp_path, reduced=0.5))
    assert torch.equal(hr, refs[:, 0]) and torch.equal(hr, refs[:, 1])
    across = (hr[:, 0, 0, -1] - hr[:, 0, 0, 0]) * 255 / 5 * 32 / 31  # pixels of the picture
    down = (hr[:, 1, -1, 0] - hr[:, 1, 0, 0]) * 255 / 5 * 32 / 31
    assert (across - down).abs().max() < 1  # squares
    reduced = across > 32.5
    assert 0.25 < reduced.float().mean() < 0.75
    assert 46 < across.max() < 48.5 and across.min() > 31.5
    assert across[reduced].min() < 40  # of all sizes


def several_sizes(tmp_path: Path, share: float) -> SeveralSizes:
    small = training_set(make(tmp_path / "small"), holdout=1)
    large = TrainingSet(
        [make(tmp_path / "large", size=64)],
        "train",
        scale=4,
        n_references=3,
        augmentation=Augmentation(),
        seed=13,
        kept_out=small.kept_out,
    )
    return SeveralSizes(small, large, share, batch_size=8)


def test_a_share_of_the_batches_is_large(tmp_path: Path) -> None:
    data = several_sizes(tmp_path, 0.25)
    batches = [data.batch(start, 8) for start in range(0, 8 * 120, 8)]
    large = [batch for batch in batches if batch["hr"].shape[-1] == 64]
    assert 15 < len(large) < 45
    assert all(batch["hr"].shape == (2, 3, 64, 64) for batch in large)
    assert all(batch["lr"].shape == (2, 3, 16, 16) for batch in large)
    assert all(b["hr"].shape == (8, 3, 32, 32) for b in batches if b["hr"].shape[-1] == 32)
    shown = {round(float(red) * 255) // 10 for batch in large for red in batch["hr"][:, 0, 0, 0]}
    (out,) = {int(sample.identity[1:]) for _, sample in data.holdout}
    assert shown == set(range(4)) - {out}
    assert len(data.usual) == len(data.large) == 12


def test_processes_that_halve_a_large_batch_see_what_one_saw(tmp_path: Path) -> None:
    data = several_sizes(tmp_path, 0.5)
    for start in range(0, 80, 8):
        whole, halves = data.batch(start, 8), [data.batch(start + i, 4) for i in (0, 4)]
        for key in whole:
            assert torch.equal(whole[key], torch.cat([half[key] for half in halves]))


def test_large_pictures_must_be_larger(tmp_path: Path) -> None:
    data = several_sizes(tmp_path, 1.0)
    with pytest.raises(FsrstError, match="of 32 px, data of 64: they must be larger"):
        SeveralSizes(data.large, data.usual, 0.5, batch_size=8)


def test_holdout_shows_the_first_references_as_they_are(tmp_path: Path) -> None:
    manifest = make(tmp_path, pictures=6)
    data = training_set(manifest, holdout=1, flip=True, degrees=5.0, reference_dropout=1.0)
    (batch,) = data.holdout_batches(6, 6)
    assert batch["present"].all()
    for (_, sample), refs in zip(data.holdout, batch["refs"], strict=True):
        listed = [read_image(tmp_path / file) for file in sample.references[:3]]
        assert np.array_equal(refs, np.stack([to_planes(picture) for picture in listed]))


def test_holdout_identities_are_never_trained_on(tmp_path: Path) -> None:
    data = training_set(make(tmp_path), holdout=1)
    out = {sample.identity for _, sample in data.holdout}
    assert len(out) == 1
    assert not out & {sample.identity for _, sample in data.samples}
    assert sum(len(b["hr"]) for b in data.holdout_batches(2, 100)) == 4
    with pytest.raises(FsrstError, match="leaves none of 4"):
        training_set(make(tmp_path / "b"), holdout=4)


def test_who_is_held_out_of_one_set_is_trained_on_in_none(tmp_path: Path) -> None:
    """Also where the sets' lists of people differ by one, and each draws others."""
    sets = [make(tmp_path / "a", people=12), make(tmp_path / "b", people=13)]
    data = TrainingSet(
        sets,
        "train",
        scale=4,
        n_references=3,
        augmentation=Augmentation(),
        seed=13,
        holdout_identities=2,
    )
    out = {sample.identity for _, sample in data.holdout}
    assert len(out) > 2  # not the same two of both
    assert not out & {sample.identity for _, sample in data.samples}
    assert len(data.holdout) + len(data.samples) == 4 * (12 + 13)


def test_pixels_are_decoded_once_and_again_when_a_picture_changes(tmp_path: Path) -> None:
    manifest = make(tmp_path)
    sample = manifest.samples[0]
    assert Store(manifest, manifest.samples)[sample.target][0, -1].tolist() == [5, 5, 0]
    assert len(list(tmp_path.glob("pixels-*.npy"))) == 1
    made = next(tmp_path.glob("pixels-*.npy")).stat().st_mtime_ns
    Store(manifest, manifest.samples)
    assert [path.stat().st_mtime_ns for path in tmp_path.glob("pixels-*.npy")] == [made]
    write_image(tmp_path / sample.target, np.full((32, 32, 3), 77, np.uint8))
    assert Store(manifest, manifest.samples)[sample.target][0, 0].tolist() == [77, 77, 77]
    write_image(tmp_path / sample.target, np.full((16, 32, 3), 77, np.uint8))
    with pytest.raises(FsrstError, match="is 32x16 px, dataset.json says 32"):
        Store(manifest, manifest.samples)


def test_a_picture_replaced_by_an_older_one_is_decoded_again(tmp_path: Path) -> None:
    """As `cp -p` and `rsync -a` do: they keep the time of change."""
    manifest = make(tmp_path)
    target = tmp_path / manifest.samples[0].target
    Store(manifest, manifest.samples)
    write_image(target, np.full((32, 32, 3), 77, np.uint8))
    os.utime(target, (1_000_000_000, 1_000_000_000))
    pixels = Store(manifest, manifest.samples)[manifest.samples[0].target]
    assert pixels[0, 0].tolist() == [77, 77, 77]


@pytest.mark.parametrize(
    ("there", "count", "chosen"),
    [
        (5, 3, [0, 1, 3]),
        (191, 96, [i * 191 // 96 for i in range(96)]),
        (3, 5, [0, 1, 2]),
        (2, 0, []),
    ],
)
def test_evenly_spread_reaches_to_the_end(there: int, count: int, chosen: list[int]) -> None:
    assert evenly_spread(range(there), count) == chosen


def test_holdout_samples_are_of_all_holdout_people(tmp_path: Path) -> None:
    data = training_set(make(tmp_path), holdout=2)  # four samples of each
    shown = torch.cat([batch["hr"][:, 0, 0, 0] for batch in data.holdout_batches(2, 5)])
    assert len(shown) == 5
    assert torch.bincount((shown * 255).long()).max() == 3


def test_degrade_refuses_what_does_not_divide() -> None:
    with pytest.raises(FsrstError, match="30x32 .* reduced 4 times .*multiples of 4: prepare with"):
        degrade(np.zeros((32, 30, 3), np.uint8), 4)
    with pytest.raises(FsrstError, match="multiples of 4"):
        degrade_poorly(np.zeros((32, 30, 3), np.uint8), 4, np.random.default_rng(0))


def test_prefetching_changes_nothing_and_raises(tmp_path: Path) -> None:
    data = training_set(make(tmp_path))
    spans = [(0, 4), (4, 4), (8, 4)]
    for (start, count), batch in zip(spans, prefetched(data, iter(spans)), strict=True):
        assert torch.equal(batch["hr"], data.batch(start, count)["hr"])
    data.samples[5] = None  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        list(prefetched(data, iter([(0, 16)])))
