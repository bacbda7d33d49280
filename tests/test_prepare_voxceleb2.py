"""VoxCeleb2: trees in the true layout, and the genuine index file."""

import json
import os
import re
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from test_prepare_dfd import write_clip
from test_prepare_paper import FORMS, against_paper, grey, reasons, touch, write_index

from fsrst.cli import run
from fsrst.data.manifest import load_manifest
from fsrst.data.prepare import voxceleb2
from fsrst.data.prepare.voxceleb2 import find_people, prepare_voxceleb2, sets_of
from fsrst.errors import FsrstError
from fsrst.image import Pixels

META_HEADER = "VoxCeleb2 ID,VGGFace2 ID,Gender,Set\n"


def write_meta(path: Path, tested: range, form: str = "byte order mark") -> Path:
    rows = [f"id{n:05d} ,n{n:06d} ,{'mf'[n % 2]} ,test " for n in tested]
    rows.insert(len(rows) // 2, "id09999 ,n009999 ,f ,dev ")
    write_index(path, form, META_HEADER, rows)
    return path


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Clips whose first frames have the values 20, 30, 40 ..., the others level(n)."""
    folder = tmp_path_factory.mktemp("tracks")
    return [write_clip(folder / f"{i}.mp4", 4, first=20 + 10 * i) for i in range(12)]


def vox_tree(root: Path, tracks: list[Path], identities: range) -> Path:
    """Video v has the tracks 00001.mp4 and 00007.mp4: clips 2 v and 2 v + 1."""
    for n in identities:
        for v in range(5):
            folder = root / f"id{n:05d}" / f"video-{v:05d}"
            folder.mkdir(parents=True)
            for t, name in enumerate(("00001.mp4", "00007.mp4")):
                os.link(tracks[2 * v + t], folder / name)
    return root


prepare_vox = partial(prepare_voxceleb2, size=16, workers=2, partial=True)


@pytest.mark.parametrize("form", FORMS)
def test_vox_index_file_of_every_form(tmp_path: Path, form: str) -> None:
    sets = sets_of(write_meta(tmp_path / "vox2_meta.csv", range(10, 14), form))
    assert sets == {**{f"id000{n}": "test" for n in range(10, 14)}, "id09999": "dev"}


def test_vox_index_file_of_voxceleb1(tmp_path: Path) -> None:
    path = tmp_path / "vox2_meta.csv"
    path.write_text(
        "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
        + "".join(f"id1000{n}\tA.J._Buckley\tm\tIreland\tdev\n" for n in range(4))
    )
    with pytest.raises(FsrstError, match=r"line 3: .* expected lines such as 'id00017 ,n000017"):
        sets_of(path)


def test_vox(tracks: list[Path], tmp_path: Path) -> None:
    vox_tree(tmp_path / "in" / "test" / "mp4", tracks, range(1, 4))
    manifest = prepare_vox(tmp_path / "in", tmp_path / "out")
    assert manifest == load_manifest(tmp_path / "out")
    assert [s.identity for s in manifest.samples] == ["id00001", "id00002", "id00003"]
    assert {s.split for s in manifest.samples} == {"test"}
    for sample in manifest.samples:
        files = (sample.target, *sample.references)
        videos = {Path(file).stem.rpartition("-")[0] for file in files}
        assert len(videos) == 4  # no two of one video
        for file in files:
            video, _, track = Path(file).stem.rpartition("-")
            i = 2 * int(video[-1]) + ("00001", "00007").index(track)
            assert grey(manifest.root / file) == pytest.approx(20 + 10 * i, abs=3)
    counts = against_paper(manifest)
    assert counts["test identities on disk"] == counts["test samples"] == (118, 3)
    assert (counts["their videos"], counts["their tracks"]) == ((None, 15), (None, 30))


def test_vox_names_that_begin_with_a_dot_are_skipped(tracks: list[Path], tmp_path: Path) -> None:
    """macOS writes ._1.mp4 beside 1.mp4, and .Trashes."""
    root = vox_tree(tmp_path / "mp4", tracks, range(1, 2))
    before = find_people(root)
    (root / "id00001" / "video-00000" / "._00001.mp4").write_bytes(b"no clip")
    (root / "id00001" / ".Trashes").mkdir()
    (root / "id00001" / ".Trashes" / "00001.mp4").write_bytes(b"no clip")
    assert find_people(root) == before


def test_vox_choice_depends_on_the_seed_alone(tracks: list[Path], tmp_path: Path) -> None:
    vox_tree(tmp_path / "in" / "mp4", tracks, range(1, 7))
    write_meta(tmp_path / "in" / "vox2_meta.csv", range(1, 7))
    first = prepare_vox(tmp_path / "in", tmp_path / "a", workers=1)
    assert prepare_vox(tmp_path / "in", tmp_path / "b", workers=4).samples == first.samples
    assert prepare_vox(tmp_path / "in", tmp_path / "a", seed=1).samples != first.samples
    drawn = {tuple(Path(f).name for f in (s.target, *s.references)) for s in first.samples}
    assert len(drawn) > 1  # not the same videos of everyone


def test_vox_counts_of_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index file lists 120, 118 of them have videos."""
    picture = np.zeros((16, 16, 3), np.uint8)
    monkeypatch.setattr(voxceleb2, "first_frame", lambda track: picture)
    root = tmp_path / "in" / "test" / "mp4"
    for n in range(1, 119):
        for v in range(4):
            touch(root / f"id{n:05d}" / f"video-{v:05d}" / "00001.mp4")
    write_meta(tmp_path / "in" / "vox2_meta.csv", range(1, 121))
    manifest = prepare_vox(tmp_path / "in", tmp_path / "out", partial=False)
    assert reasons(manifest) == {}
    counts = against_paper(manifest)
    assert counts["test identities in vox2_meta.csv"] == (None, 120)
    assert counts["test identities on disk"] == counts["test samples"] == (118, 118)
    (root / "id00007").rename(tmp_path / "id00007")
    missing = re.escape(f"has 117 of 118 test identities; missing are {root / 'id00007'}, ")
    with pytest.raises(FsrstError, match=missing):
        prepare_vox(tmp_path / "in", tmp_path / "out", partial=False)
    assert load_manifest(tmp_path / "out") == manifest
    part = prepare_vox(tmp_path / "in", tmp_path / "out")
    assert reasons(part)["test samples"] == (
        "3 of those listed in vox2_meta.csv have no folder: id00007, id00119, id00120"
    )


def test_vox_takes_test_identities_only(tracks: list[Path], tmp_path: Path) -> None:
    source = tmp_path / "in"
    vox_tree(source / "mp4", tracks, range(1, 5))
    with pytest.raises(FsrstError, match=r"vox2_meta\.csv is missing, and .*mp4 may hold dev"):
        prepare_vox(source, tmp_path / "out")
    meta = write_meta(tmp_path / "meta.csv", range(3, 9))
    manifest = prepare_vox(source, tmp_path / "out", meta=meta)
    assert {s.identity for s in manifest.samples} == {"id00003", "id00004"}
    none = write_meta(tmp_path / "none.csv", range(50, 52))
    with pytest.raises(FsrstError, match=r"has 0 of 118 test identities; missing are .*id00050"):
        prepare_vox(source, tmp_path / "out", meta=none)


def test_vox_tracks_that_cannot_be_read(tracks: list[Path], tmp_path: Path) -> None:
    root = vox_tree(tmp_path / "in" / "test" / "mp4", tracks, range(1, 4))
    whole = tracks[0].read_bytes()
    broken = [root / "id00001" / f"video-0000{v}" / "00001.mp4" for v in range(5)]
    broken += [root / "id00002" / f"video-0000{v}" / f"0000{t}.mp4" for v in (0, 1) for t in (1, 7)]
    for i, path in enumerate(broken):
        path.unlink()
        path.write_bytes(whole[: (0, 100, whole.index(b"mdat"))[i % 3]])  # no first frame
    manifest = prepare_vox(tmp_path / "in", tmp_path / "out")
    assert {s.identity for s in manifest.samples} == {"id00001", "id00003"}
    assert {Path(f).stem[-5:] for f in (manifest.samples[0].references)} == {"00007"}
    made_by = manifest.info["made_by"]["test"]
    assert made_by["left_out"] == {"id00002": "3 videos, 4 are needed"}
    assert {name for name in made_by["unreadable"] if "id00002" in name} == {
        path.relative_to(root).as_posix() for path in broken[5:]
    }
    missing, left = "115 of 118 are not on disk", "id00002 is left out (3 videos, 4 are needed)"
    assert reasons(manifest)["test identities on disk"] == missing
    assert reasons(manifest)["test samples"] == f"{missing}; {left}"
    with pytest.raises(FsrstError, match=r"no identity in .* has 4 readable videos; id00002/"):
        for n in (1, 3):
            (root / f"id0000{n}").rename(tmp_path / f"id0000{n}")
        prepare_vox(tmp_path / "in", tmp_path / "none")


def test_vox_goes_on_where_it_was_interrupted(
    tracks: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    original = voxceleb2.first_frame

    def reading(track: Path) -> Pixels:
        read.append(track)
        return original(track)

    def interrupt(done: int, total: int, what: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(voxceleb2, "first_frame", reading)
    vox_tree(tmp_path / "in" / "test" / "mp4", tracks, range(1, 7))
    with pytest.raises(KeyboardInterrupt):
        prepare_vox(tmp_path / "in", tmp_path / "out", workers=1, progress=interrupt)
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    assert 8 <= len(read) < 24
    manifest = prepare_vox(tmp_path / "in", tmp_path / "out")
    assert len(read) == len(set(read)) == 24  # nothing twice
    assert prepare_vox(tmp_path / "in", tmp_path / "out") == manifest
    assert len(read) == 24


def test_vox_of_another_layout(tmp_path: Path) -> None:
    with pytest.raises(FsrstError, match="in is not a folder; expected <source>/test/mp4"):
        prepare_vox(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "test" / "txt").mkdir(parents=True)
    with pytest.raises(FsrstError, match="in/test/mp4 is missing; expected <source>/test/mp4"):
        prepare_vox(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "test" / "mp4").mkdir()
    with pytest.raises(FsrstError, match="has 0 of 118 test identities; expected"):
        prepare_vox(tmp_path / "in", tmp_path / "out")
    with pytest.raises(FsrstError, match=r"no\.csv is missing; expected lines such as"):
        prepare_vox(tmp_path / "in", tmp_path / "out", meta=tmp_path / "no.csv")


def test_vox_genuine_index_file(real_data: Path) -> None:
    sets = sets_of(real_data / "layouts" / "voxceleb2" / "vox2_meta.csv")
    assert Counter(sets.values()) == {"dev": 5994, "test": 120}
    assert sets["id00017"] == "test"


def test_command_for_voxceleb2(
    tracks: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vox_tree(tmp_path / "in" / "mp4", tracks, range(1, 3))
    meta = write_meta(tmp_path / "meta.csv", range(1, 121))
    command = ["prepare", "voxceleb2", str(tmp_path / "in"), str(tmp_path / "out"), "--size", "32"]
    assert run([*command, "--meta", str(meta), "--partial", "--seed", "3"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^test identities in vox2_meta.csv +- +120$", said, re.M)
    assert re.search(r"^test samples +118 +2 +-116: as above$", said, re.M)
    assert run([*command, "--meta", str(meta), "--partial", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["made_by"]["test"]["seed"] == 13
