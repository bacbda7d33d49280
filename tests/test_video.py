"""``fsrst video``: pictures are enlarged, times and sound stay, and what goes wrong is one line."""

import json
import os
import struct
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsrst.cli import run
from fsrst.data.clip import UnusableClip, _Times, decoded, frames_of, rewrite, upright
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
        assert np.abs((sr - expected).mean(axis=(0, 1))).max() < 1.5  # no colour shift
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
    assert found["head"] == {"left": 4, "top": 6, "side": 24}
    assert (found["size_in"], found["size_out"], found["whole"]) == ([16, 16], [64, 64], None)
    assert 0 < found["reference_shares"][0] <= 1
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
    found = json.loads(capsys.readouterr().out)
    assert (found["size_out"], found["whole"]) == ([52, 52], [68, 68])  # of 69


def test_references_that_give_nothing_are_told(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    write_image(tmp_path / "noise.png", noise)
    assert video(clip, "-o", tmp_path / "a.mp4", "--ref", tmp_path / "noise.png") == 0
    assert "hardly anything of the references was used" in capsys.readouterr().err
    write_image(tmp_path / "small.png", noise[:40, :40])
    large = ["--box", "0,0,32", "--ref", tmp_path / "small.png"]
    assert video(clip, "-o", tmp_path / "b.mp4", *large) == 0
    said = capsys.readouterr().err
    assert "shows hardly more than the input of 32x32; left out" in said
    assert "hardly anything" not in said


def test_a_title_does_not_judge_the_references(
    tmp_path: Path, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    titled = tmp_path / "titled.gif"
    white = np.full((32, 32, 3), 255, np.uint8)
    frames = [Image.fromarray(p) for p in [white] * 2 + [degrade(frame(n), 4) for n in range(6)]]
    frames[0].save(titled, save_all=True, append_images=frames[1:], duration=100)
    assert video(titled, "-o", tmp_path / "a.mp4", "--ref", reference, "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["reference_shares"][0] > 0.1
    assert "hardly anything" not in said.err


def test_a_head_that_comes_out_smaller_is_told(
    clip: Path, exported_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reduced to 8 px, it comes back as 32, and was 32."""
    assert video(clip, "-o", tmp_path / "a.mp4", "--box", "0,0,32", "--max-side", 8) == 0
    said = "small.mp4: the head has 32 px already and the result 32: nothing is gained"
    assert said in capsys.readouterr().err
    assert video(clip, "-o", tmp_path / "b.mp4", "--box", "0,0,32", "--max-side", 9) == 0
    assert "nothing is gained" not in capsys.readouterr().err
    large = tmp_path / "large.png"
    write_image(large, frame(0))
    cut = ["--box", "0,0,128", "--resize", "--model", exported_model, "-o", tmp_path / "c.png"]
    assert run(["upscale", str(large), *map(str, cut)]) == 0
    said = "large.png: the head has 128 px already and the result 128: nothing is gained"
    assert said in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), lambda p: p),
        ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
        ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
        ((0, -1, 1, 0), lambda p: np.rot90(p)),
        ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
        ((1, 0, 0, -1), lambda p: p[::-1]),
        ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda p: p[::-1, ::-1].transpose(1, 0, 2)),
    ],
)
def test_clips_are_turned_and_mirrored_as_their_header_says(
    matrix: tuple[int, ...], shown: Callable[[Pixels], Pixels], tmp_path: Path
) -> None:
    """A point (x, y) goes to (a x + c y, b x + d y)."""
    path = tmp_path / "a.mp4"
    written = np.zeros((32, 48, 3), np.uint8)
    written[:16, :24], written[:16, 24:], written[16:, :24] = 255, 170, 85  # each corner its own
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.options = 48, 32, {"crf": "1"}
        container.mux(stream.encode(av.VideoFrame.from_ndarray(written, format="rgb24")))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    (a, b, c, d), one = matrix, 0x10000
    values = [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 0x40000000]
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", *values)
    path.write_bytes(bytes(data))
    (found,) = pictures(path)
    wanted = shown(written)
    assert found.shape == wanted.shape
    assert np.abs(found.astype(float) - wanted).mean() < 4


def test_large_heads_are_reduced_as_those_of_photographs(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fsrst.runtime.upscaler.MAX_SIDE", 20)
    assert video(clip, "-o", tmp_path / "a.mp4", "--box", "0,0,30", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["size_in"] == [20, 20]
    assert "30x30 reduced to 20x20 (--max-side)" in said.err


@pytest.mark.parametrize(("lines", "red", "blue"), [(96, 0.299, 0.114), (720, 0.2126, 0.0722)])
def test_colours_of_clips_are_exact(lines: int, red: float, blue: float) -> None:
    """To the nearest level, by the matrix that players take where none is told."""
    y = np.random.default_rng(0).integers(40, 200, (lines, 64)).astype(np.uint8)
    u, v = (np.full((lines // 2, 32), value, np.uint8) for value in (100, 170))
    planes = np.concatenate([plane.reshape(-1) for plane in (y, u, v)]).reshape(-1, 64)
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    light, to_blue, to_red = (y - 16.0) / 219, (100 - 128) / 224, (170 - 128) / 224
    r, b = light + 2 * (1 - red) * to_red, light + 2 * (1 - blue) * to_blue
    g = (light - red * r - blue * b) / (1 - red - blue)
    wanted = 255 * np.dstack((r, g, b)).clip(0, 1)
    assert np.abs(upright(frame, exact=True) - wanted).max() < 0.6


def test_an_animation_is_a_clip(tmp_path: Path, drawn_faces: list[Pixels]) -> None:
    frames = [Image.fromarray(picture[::4, ::4]) for picture in drawn_faces[:3]]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    assert video(tmp_path / "a.gif", "-o", tmp_path / "a.mp4") == 0
    assert len(pictures(tmp_path / "a.mp4")) == 3


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

    upscaler = open_upscaler("fsrst2-small", threads=1)
    frames = _Frames(clip, upscaler, [], None, False, None, heads=False, length=12)
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


def write_clip(
    path: Path,
    times: list[int],
    *,
    sound: str | None = None,
    sounds: int = 1,
    sound_times: list[int] | None = None,
    shift: int = 0,
    level: int = 40,
    **context: object,
) -> Path:
    """Flat grey pictures of 32 px at ``times`` [1/100 s], and packets of 1/10 s of silence."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "1", "bf": "0"}
        stream.codec_context.time_base = Fraction(1, 100)
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        tracks = [container.add_stream(sound, rate=8000) for _ in range(sounds if sound else 0)]
        for track in tracks:
            track.layout = "mono"
        for number, time in enumerate(times):
            flat = np.full((32, 32, 3), level + number, np.uint8)
            picture = av.VideoFrame.from_ndarray(flat, format="rgb24")
            picture.pts, picture.time_base = time + shift, Fraction(1, 100)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
        for track in tracks:
            for time in sound_times or range(0, times[-1], 10):
                part = av.AudioFrame(format=track.format.name, layout="mono", samples=800)
                for plane in part.planes:
                    plane.update(bytes(plane.buffer_size))
                part.sample_rate, part.pts = 8000, 80 * (time + shift)
                container.mux(track.encode(part))
            container.mux(track.encode(None))
    return path


def same(number: int, picture: Pixels) -> Pixels:
    return picture


def test_a_variable_rate_promises_what_is_there(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mkv", [0, 4, 8, 100, 300, 600])
    assert frames_of(clip) == (6, 6)
    cut = tmp_path / "cut.mkv"
    whole = write_clip(tmp_path / "b.mkv", list(range(0, 400, 4)))
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    promised, there = frames_of(cut)
    assert promised == 100 and 20 < there < 80


def test_what_an_edit_list_hides_is_not_promised(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mp4", list(range(0, 80, 4)), gop_size=100)
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as clip, av.open(str(cut), "w") as made:
        stream = made.add_stream_from_template(clip.streams.video[0])
        for packet in clip.demux(clip.streams.video[0]):
            if packet.dts is not None:
                packet.pts, packet.dts = (
                    packet.pts - 5 * packet.duration,
                    packet.dts - 5 * packet.duration,
                )
                packet.stream = stream
                made.mux(packet)
    assert len(pictures(cut)) == 15
    assert frames_of(cut) == (15, 20)
    assert video(cut, "-o", tmp_path / "out.mp4") == 0


def test_sound_that_has_no_place_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "old.mov", [0, 4, 8], sound="pcm_u8")
    assert video(clip, "-o", tmp_path / "a.mp4") == 2
    said = capsys.readouterr().err
    assert (
        "cannot write " in said and "pcm_u8" in said and "another of .mp4, .mkv, .mov may" in said
    )
    assert os.listdir(tmp_path) == ["old.mov"]
    assert video(clip, "-o", tmp_path / "a.mkv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["sound"] == "pcm_u8"


def test_times_of_sound_that_do_not_rise_stop_nothing(tmp_path: Path) -> None:
    clip = write_clip(
        tmp_path / "a.mkv", list(range(0, 80, 4)), sound="aac", sound_times=[0, 10, 20, 20, 30, 40]
    )
    made = rewrite(clip, tmp_path / "a.mp4", same)
    assert (made.frames, made.sound) == (20, "aac")
    at = [time for time, _ in sound(tmp_path / "a.mp4")]
    assert at == sorted(set(at))


def test_a_clock_that_is_set_back_goes_on() -> None:
    class Stream:
        time_base = Fraction(1, 100)

    clock = _Times(Stream(), None)
    given = [0, 4, 8, 8, 12, 300, 2, 6, None, 14]
    found = [clock.next(time, 4) for time in given]
    assert found == [0, 4, 8, 9, 12, 300, 304, 308, 312, 316]


def test_all_sound_stays_and_a_late_beginning_becomes_0(tmp_path: Path) -> None:
    clip = write_clip(
        tmp_path / "late.mkv", list(range(0, 80, 4)), sound="aac", sounds=2, shift=360000
    )
    made = rewrite(clip, tmp_path / "a.mp4", same, threads=1)
    assert made.sound == "aac, aac"
    before, after = times(clip), times(tmp_path / "a.mp4")
    assert before[0] >= 3600 and after[0] < 0.2
    assert np.allclose(np.diff(after), np.diff(before), atol=2e-3)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert len(container.streams.audio) == 2
    with av.open(str(clip)) as container:
        first = next(container.demux(container.streams.audio[0]))
        apart = before[0] - float(first.pts * first.time_base)
    assert after[0] - sound(tmp_path / "a.mp4")[0][0] == pytest.approx(apart, abs=0.03)


def test_pixels_become_square(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = write_clip(tmp_path / "dv.mkv", [0, 4, 8], sample_aspect_ratio=Fraction(3, 2))
    monkeypatch.setattr("fsrst.data.clip.LARGE", 0)
    assert rewrite(wide, tmp_path / "a.mp4", same).size == (48, 32)
    assert pictures(wide)[0].shape == (32, 32, 3)  # data sets take them as they are
    ((_, square), *_) = decoded(wide, lambda _: True, square=True)
    assert square is not None and square.shape == (32, 48, 3)


def test_hdr_is_not_read_as_if_it_were_not(tmp_path: Path) -> None:
    plain = write_clip(tmp_path / "plain.mkv", [0, 4, 8], level=180, color_trc=1)
    hlg = write_clip(tmp_path / "hlg.mkv", [0, 4, 8], level=180, color_trc=18)
    dark, light = pictures(plain)[1].mean(), pictures(hlg)[1].mean()
    assert light > dark + 20  # the same values


def test_models_of_one_size_take_a_head_alone(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    larger = tmp_path / "large.mkv"
    rewrite(clip, larger, lambda _, picture: resize_bicubic(picture, 48, 48))
    out = tmp_path / "a.mp4"
    one = ["--model", "fsrst-small-call", "--threads", "1"]
    assert run(["video", str(larger), "-o", str(out), *one]) == 2
    assert "is 48x48, but fsrst-small-call takes 32x32: --find-face or" in capsys.readouterr().err
    assert run(["video", str(clip), "-o", str(out), "--max-side", "16", *one]) == 2
    assert "--max-side: fsrst-small-call takes one size only" in capsys.readouterr().err
    assert not out.exists()
    assert run(["video", str(larger), "-o", str(out), "--box", "0,0,48", *one]) == 0
    assert "takes 32x32: 48x48 become that" in capsys.readouterr().err
