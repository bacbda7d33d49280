"""The pictures of a clip with their times, and a clip of other pictures with its sound (PyAV).

pip install 'fsrst[video]'
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from fsrst.data.faces import find_head
from fsrst.errors import FsrstError
from fsrst.files import written_whole
from fsrst.image import Pixels

COMPLETE = 0.98  # of the frames that a header promises, which is often one or two off
SEARCHED_FRAMES = 5
WRITTEN_SUFFIXES = (".mp4", ".mkv", ".mov")
QUALITY = "16"  # of x264's constant rate factor: 0 is without loss, 18 looks so
BT709 = 1  # matrix, primaries and curve, as FFmpeg counts them
LIMITED = 1  # range of the values


class UnusableClip(Exception):
    """Why a clip, or one of several, cannot be used."""


@dataclass
class Rewritten:
    """What ``rewrite`` did."""

    frames: int = 0
    size: tuple[int, int] = (0, 0)  # of the pictures written: width, height [px]
    sound: str | None = None  # codec of the sound that was kept
    interrupted: bool = False


def load_av() -> Any:
    """PyAV, or the FsrstError that says how to install it."""
    try:
        import av
    except ImportError as error:
        raise FsrstError("clips need PyAV; install it with: pip install 'fsrst[video]'") from error
    return av


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The clip's container, which has a video stream.

    Raises
    ------
    UnusableClip
        If it cannot be opened or holds no video.
    """
    av = load_av()
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise UnusableClip(f"not a readable video ({error.strerror or error})") from error
    with container:
        if not container.streams.video:
            raise UnusableClip("no video in it")
        container.streams.video[0].thread_type = "AUTO"
        yield container


def upright(frame: Any) -> Pixels:
    """uint8 (H, W, 3) of a decoded frame, turned as its player would."""
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def decoded(path: Path, wanted: Callable[[int], bool]) -> Iterator[tuple[int, Pixels | None]]:
    """(number, picture or None if not ``wanted``) of every frame that decodes, one at a time.

    A clip that breaks off or is damaged in the middle ends there. Turned as its player would.

    Raises
    ------
    UnusableClip
        If it cannot be opened or holds no video.
    """
    av = load_av()
    with opened(path) as container:
        try:
            for number, frame in enumerate(container.decode(container.streams.video[0])):
                yield number, upright(frame) if wanted(number) else None
        except av.FFmpegError:
            return


def expected_frames(path: Path) -> int:
    """Frames that the clip's header promises; 0 if unknown."""
    return frames_of(path)[0]


def frames_of(path: Path) -> tuple[int, int]:
    """How many frames a clip promises, and how many seem to be there.

    A header without a number (Matroska) promises the video's length times its rate, and at least
    the packets that are there.
    """
    av = load_av()
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if stream.frames:
                return int(stream.frames), int(stream.frames)
            seconds = _seconds(stream.metadata.get("DURATION", ""))
            packets = sum(1 for packet in container.demux(stream) if packet.size)
            return max(packets, round(seconds * float(stream.average_rate or 0))), packets
    except (av.FFmpegError, OSError, IndexError):
        return 0, 0


def _seconds(duration: str) -> float:
    """Of "00:01:02.5"; 0 if it is no such text."""
    try:
        hours, minutes, seconds = (float(part) for part in duration.split(":"))
    except ValueError:
        return 0.0
    return hours * 3600 + minutes * 60 + seconds


def rewrite(source: Path, out: Path, change: Callable[[int, Pixels], Pixels]) -> Rewritten:
    """Write the clip with ``change(number, picture)`` for every picture: H.264, times and sound as
    they are. Ctrl-C ends it: what was made until then is written.

    Pictures that come out have one size; of odd sides H.264's colours lose the last line.

    Raises
    ------
    UnusableClip
        If the clip cannot be opened, holds no video, or none that can be decoded.
    FsrstError
        If the result cannot be written, or whatever ``change`` raises. Nothing is written then.
    """
    av = load_av()
    done = Rewritten()
    with opened(source) as clip, written_whole(out) as temporary:
        try:
            with av.open(str(temporary), "w") as made:
                _rewrite(clip, made, change, done)
        except av.FFmpegError as error:
            reason = f"{error.strerror or error}"
            hint = "; .mkv takes any sound" if clip.streams.audio and out.suffix != ".mkv" else ""
            raise FsrstError(f"cannot write {out}: {reason}{hint}") from error
        if not done.frames:
            if done.interrupted:
                raise KeyboardInterrupt
            raise UnusableClip("not one of its pictures can be decoded")
    return done


def _rewrite(
    clip: Any, made: Any, change: Callable[[int, Pixels], Pixels], done: Rewritten
) -> None:
    video, sounds = clip.streams.video[0], clip.streams.audio[:1]
    made.metadata["comment"] = "Faces enlarged by a neural network (fsrst); detail is estimated"
    shown: Any = None
    kept: Any = None
    early: list[Any] = []  # packets of sound until the first picture tells its size
    last = None
    try:
        for packet, frame in _decoded(clip, [video, *sounds]):
            if frame is None:
                early.append(packet)
            else:
                picture = change(done.frames, upright(frame))
                picture = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
                if shown is None:
                    done.size = picture.shape[1], picture.shape[0]
                    shown = _stream_for(made, video, done.size)
                    if sounds:
                        kept = made.add_stream_from_template(sounds[0])
                        done.sound = sounds[0].codec.name
                last = _time(frame, video, last)
                made.mux(shown.encode(_yuv(picture, last, video.time_base)))
                done.frames += 1
            if shown is not None:
                for sound in early:
                    sound.stream = kept
                    made.mux(sound)
                early.clear()
    except KeyboardInterrupt:
        done.interrupted = True
    if shown is not None:
        made.mux(shown.encode(None))


def _decoded(clip: Any, streams: list[Any]) -> Iterator[tuple[Any, Any]]:
    """(packet, None) of sound, (packet, frame) of pictures, until the clip ends or breaks off."""
    av = load_av()
    try:
        for packet in clip.demux(*streams):
            if packet.stream.type == "audio":
                if packet.dts is not None:  # the last one is empty
                    yield packet, None
            else:
                for frame in packet.decode():
                    yield packet, frame
    except av.FFmpegError:
        return


def _stream_for(made: Any, video: Any, size: tuple[int, int]) -> Any:
    stream = made.add_stream("libx264", rate=video.average_rate or Fraction(25))
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.options = {"crf": QUALITY, "preset": "medium"}
    context = stream.codec_context
    context.time_base = video.time_base
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = LIMITED
    return stream


def _time(frame: Any, video: Any, last: int | None) -> int:
    """The frame's time in the stream's units, later than the one before."""
    step = max(1, round(1 / (video.time_base * (video.average_rate or Fraction(25)))))
    if frame.pts is None:
        return 0 if last is None else last + step
    return int(frame.pts) if last is None else max(int(frame.pts), last + 1)


def _yuv(picture: Pixels, time: int, time_base: Fraction) -> Any:
    av = load_av()
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
    frame.pts, frame.time_base = time, time_base
    return frame


def head_of(path: Path) -> tuple[int, int, int] | None:
    """(left, top, side) [px] of the head with the largest face: the median of five frames' squares
    (``fsrst.data.faces.find_head``); None where no face is found."""
    there = frames_of(path)[1]
    numbers = {(2 * i + 1) * there // (2 * SEARCHED_FRAMES) for i in range(SEARCHED_FRAMES)}
    squares, shape = [], (0, 0)
    for number, picture in decoded(path, lambda n: n in numbers):
        if picture is not None:
            shape = picture.shape[:2]
            square, _ = find_head(picture)
            squares += [square] if square else []
        if number >= max(numbers):
            break
    if not squares:
        return None
    left, top, side = (int(value) for value in np.median(squares, axis=0))
    return min(left, shape[1] - side), min(top, shape[0] - side), side
