"""``fsrst video``: pictures are enlarged, times and sound stay, and what goes wrong is one line."""

import json
import os
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fsrst.cli import run
from fsrst.data.clip import UnusableClip, decoded, frames_of, rewrite
from fsrst.data.degradation import degrade
from fsrst.data.synthetic import draw_face
from fsrst.errors import FsrstError
from fsrst.image import Pixels, read_image, resize_bicubic, write_image
from fsrst.runtime.upscaler import open_upscaler

av = pytest.importorskip("av", reason="the extra video is not installed")
FRAMES = 12
TIMES = [0, 1, 2, 4, 5, 6, 7, 10, 11, 12, 13, 14]  # of a variable rate, in 25ths of a second


def frame(number: int) -> Pixels:
    return np.roll(draw_face(5, 0, 128), number, axis=1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head of 32 px that moves to the right, half a second long, with sound."""
    path = tmp_path_factory.mktemp("clip") / "small.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.options = "yuv444p", {"crf": "1"}
        stream.codec_context.time_base = Fraction(1, 25)
        sound = container.add_stream("aac", rate=16000)
        sound.layout = "mono"
        for number, time in enumerate(TIMES):
            picture = av.VideoFrame.from_ndarray(degrade(frame(number), 4), format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
        tone = np.sin(np.arange(8192) / 9, dtype=np.float32)[None]
        for start in range(0, 8192, 1024):
            part = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(tone[:, start : start + 1024]), format="fltp", layout="mono"
            )
            part.sample_rate, part.pts = 16000, start
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    return path


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "ref.png"
    write_image(path, np.roll(frame(0), 2, axis=0))
    return path


def video(*arguments: object) -> int:
    common = ["--model", "fsrst2-small", "--threads", 1]
    return run(["video", *(str(argument) for argument in (*arguments, *common))])


def pictures(path: Path) -> list[Pixels]:
    return [picture for _, picture in decoded(path, lambda _: True) if picture is not None]


def times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(container.streams.video[0])]


def sound(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [(float(p.dts * p.time_base), bytes(p)) for p in packets if p.dts is not None]


def test_every_picture_is_enlarged_and_times_and_sound_stay(
    clip: Path, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "large.mp4"
    assert video(clip, "-o", out, "--ref", reference) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{out}: 12 frames, 32x32 -> 128x128 in ")
    assert "(fsrst2-small, 1 reference, onnxruntime f32; sound aac)" in said.out
    assert "12/12 small.mp4" in said.err
    upscaler = open_upscaler("fsrst2-small", threads=1)
    upscaler.set_references([read_image(reference)])
    made = pictures(out)
    assert len(made) == FRAMES
    for lr, sr in zip(pictures(clip), made, strict=True):
        expected = upscaler(lr).astype(float)
        assert np.abs(sr - expected).mean() < 4  # x264, and half the colours
        assert np.abs((sr - expected).mean(axis=(0, 1))).max() < 2.5  # no colour shift
    assert np.allclose(times(out), times(clip), atol=1e-3)
    assert len(set(np.diff(times(out)).round(3))) > 1
    assert [data for _, data in sound(out)] == [data for _, data in sound(clip)]
    assert np.allclose([at for at, _ in sound(out)], [at for at, _ in sound(clip)], atol=1e-3)
    with av.open(str(out)) as container:
        assert "detail is estimated" in container.metadata["comment"]
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.colorspace, context.color_range) == (1, 1, 1)


def test_a_box_is_cut_out_and_put_back(
    clip: Path, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = ["--ref", reference, "--box", "4,6,24"]
    assert video(clip, "-o", tmp_path / "head.mkv", *box, "--max-side", 16, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["square"], found["size_in"], found["size_out"]) == (
        [4, 6, 24],
        [16, 16],
        [64, 64],
    )
    assert (found["frames"], found["frames_promised"], found["sound"]) == (12, 12, "aac")
    assert found["references_left_out"] == [] and not found["interrupted"]
    assert video(clip, "-o", tmp_path / "head.mov", *box) == 0
    assert video(clip, "-o", tmp_path / "whole.mov", *box, "--whole") == 0
    head, whole = (pictures(tmp_path / name)[5] for name in ("head.mov", "whole.mov"))
    assert head.shape == (96, 96, 3) and whole.shape == (128, 128, 3)
    inner = np.abs(whole[40:104, 32:96].astype(float) - head[16:80, 16:80])
    assert np.median(inner) <= 2
    odd = ["--max-side", 13, "--whole", "--json"]
    capsys.readouterr()
    assert video(clip, "-o", tmp_path / "odd.mp4", *box, *odd) == 0
    assert json.loads(capsys.readouterr().out)["size_out"] == [68, 68]  # of 69


def test_the_head_is_found_in_five_frames(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    squares = iter([(0, 0, 20), (2, 4, 24), (2, 4, 24), (30, 4, 2), None, None])
    monkeypatch.setattr("fsrst.data.clip.find_head", lambda _: (next(squares), 1))
    assert video(clip, "-o", tmp_path / "a.mp4", "--find-face") == 0
    assert "head of 22x22 px at 2,4 (--find-face)" in capsys.readouterr().err
    monkeypatch.setattr("fsrst.data.clip.find_head", lambda _: (None, 0))
    assert video(clip, "-o", tmp_path / "b.mp4", "--find-face") == 2
    assert "no face found; give its square by --box" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_small_references_are_named(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small.png"
    write_image(small, frame(0)[:40, :40])
    assert video(clip, "-o", tmp_path / "a.mp4", "--ref", small, "--json") == 0
    said = capsys.readouterr()
    assert "40x40 shows hardly more than the input of 32x32" in said.err
    assert json.loads(said.out)["references_left_out"] == [str(small)]


def test_an_interrupted_clip_keeps_what_was_made(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fsrst.cli.video import _Frames

    make = _Frames.__call__

    def stopped(self: _Frames, number: int, picture: Pixels) -> Pixels:
        if number == stop:
            raise KeyboardInterrupt
        return make(self, number, picture)

    monkeypatch.setattr(_Frames, "__call__", stopped)
    stop = 7
    assert video(clip, "-o", tmp_path / "a.mp4") == 130
    assert "interrupted after 7 frames; they are in" in capsys.readouterr().err
    assert len(pictures(tmp_path / "a.mp4")) == 7
    stop, before = 0, (tmp_path / "a.mp4").read_bytes()
    assert video(clip, "-o", tmp_path / "a.mp4") == 130
    assert os.listdir(tmp_path) == ["a.mp4"] and (tmp_path / "a.mp4").read_bytes() == before
    monkeypatch.setattr("fsrst.data.clip._decoded", lambda *_: iter(()))
    assert video(clip, "-o", tmp_path / "a.mp4") == 2
    assert "small.mp4: not one of its pictures can be decoded" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["a.mp4"] and (tmp_path / "a.mp4").read_bytes() == before


def test_a_clip_that_ends_early_is_said_and_what_is_there_is_kept(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    promised = (30, 30)
    monkeypatch.setattr("fsrst.data.clip.frames_of", lambda _: promised)
    assert frames_of(clip) == (12, 12)  # the header is true; another's would not be
    assert video(clip, "-o", tmp_path / "a.mp4") == 2
    assert "small.mp4 ends after 12 of 30 frames; they are in" in capsys.readouterr().err
    assert len(pictures(tmp_path / "a.mp4")) == 12


def test_what_goes_wrong_with_clips_is_one_line_and_leaves_nothing(
    clip: Path, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:1500])
    out = tmp_path / "out.mp4"
    for arguments, message in (
        ((clip, "-o", tmp_path / "a.avi"), "expected .mp4, .mkv, .mov"),
        ((clip, "-o", clip), "is an input and would be overwritten"),
        ((tmp_path / "none.mp4", "-o", out), "no such file; expected a clip"),
        ((tmp_path, "-o", out), "it is a folder; expected a clip"),
        ((reference, "-o", out), "ref.png is a picture; make it large with `fsrst upscale`"),
        ((tmp_path / "text.mp4", "-o", out), "text.mp4: not a readable video"),
        ((tmp_path / "cut.mp4", "-o", out), "cut.mp4: not a readable video"),
        ((clip, "-o", out, "--whole"), "give --find-face or --box too"),
        ((clip, "-o", out, "--box", "1,2"), "expected three whole numbers LEFT,TOP,SIDE"),
        ((clip, "-o", out, "--box", "1,2,32"), "does not lie inside the 32x32 px pictures"),
        ((clip, "-o", out, "--box", "1,2,4"), "the input is 4x4; * too small to show a face"),
    ):
        assert video(*arguments) == 2
        said = capsys.readouterr().err
        lines = [line for line in said.splitlines() if line.startswith("fsrst: ")]
        first, _, rest = message.partition(" * ")
        assert len(lines) == 1 and first in lines[0] and rest in lines[0], said
    assert sorted(os.listdir(tmp_path)) == ["cut.mp4", "text.mp4"]


def test_pictures_that_change_size_stop_it(clip: Path, tmp_path: Path) -> None:
    from fsrst.cli.video import _Frames

    frames = _Frames(clip, open_upscaler("fsrst2-small", threads=1), [], None, False, None)
    assert frames(0, frame(0)[:32, :32]).shape == (128, 128, 3)
    with pytest.raises(FsrstError, match="frame 9 has 40x32, those before 32x32; cut the clip"):
        frames(9, frame(0)[:32, :40])

    def grows(number: int, picture: Pixels) -> Pixels:
        if number == 5:
            raise FsrstError("no more")
        return resize_bicubic(picture, 64, 64)

    with pytest.raises(FsrstError, match="no more"):
        rewrite(clip, tmp_path / "a.mp4", grows)
    with pytest.raises(UnusableClip, match="not a readable video"):
        rewrite(tmp_path / "none.mp4", tmp_path / "a.mp4", grows)
    assert os.listdir(tmp_path) == []


def test_without_the_extra_it_is_named(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert video(clip, "-o", tmp_path / "a.mp4") == 2
    assert "pip install 'fsrst[video]'" in capsys.readouterr().err
