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
from fsrst.image import Pixels, resize_bicubic

COMPLETE = 0.98  # of the frames that a header promises, which is often one or two off
SEARCHED_FRAMES = 5
WRITTEN_SUFFIXES = (".mp4", ".mkv", ".mov")
QUALITY = "16"  # of x264's constant rate factor: 0 is without loss, 18 looks so
LARGE = 2**23  # pixels of a picture from which x264 looks fewer ahead: it keeps them all
BT709 = 1  # matrix, primaries and curve, as FFmpeg counts them
LIMITED = 1  # range of the values
UNSAID, HD = 2, 720  # matrix that is not told; lines from which it is then BT.709's
SRGB, HDR = 13, (16, 18)  # curves: sRGB's; PQ and HLG, of which a picture would come out dark
SET_BACK = 1  # a clip's times that go back by more [s] go on from another start


class UnusableClip(Exception):
    """Why a clip, or one of several, cannot be used."""


@dataclass
class Rewritten:
    """What ``rewrite`` did."""

    frames: int = 0
    size: tuple[int, int] = (0, 0)  # of the pictures written: width, height [px]
    sound: str | None = None  # codecs of the sound that was kept
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


def upright(frame: Any, aspect: Fraction | None = None, *, exact: bool = False) -> Pixels:
    """uint8 (H, W, 3) of a decoded frame, sRGB, turned as its player would; with the ``aspect`` of
    its pixels (width by height) made of square ones.

    ``exact``: colours rounded to the nearest level, and those of a large picture that does not say
    which matrix it has read as players read them (BT.709). FFmpeg's default is some 1.3 levels too
    dark, and so are the data sets whose scores are published: input and references alike.
    """
    hdr = frame.color_trc in HDR
    how: dict[str, Any] = {"dst_color_trc": SRGB, "dst_color_primaries": BT709} if hdr else {}
    if exact:
        kinds = load_av().video.reformatter.Interpolation
        how["interpolation"] = kinds.BICUBIC | kinds.ACCURATE_RND | kinds.FULL_CHR_H_INT
        if frame.colorspace == UNSAID and frame.height >= HD:
            how["src_colorspace"] = BT709
    pixels = frame.to_ndarray(format="rgb24", **how)
    if aspect and aspect != 1:
        pixels = resize_bicubic(pixels, max(1, round(frame.width * aspect)), frame.height)
    return np.ascontiguousarray(_turned(pixels, frame.side_data.get("DISPLAYMATRIX")))


def _turned(pixels: Pixels, matrix: Any) -> Pixels:
    """As a display matrix says (a b u, c d v, x y w of int32; None: as it is), which may hold a
    mirror: to the nearest quarter turn."""
    if matrix is None:
        return pixels
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(float)
    if a * d - b * c < 0:
        pixels, a, b = pixels[:, ::-1], -a, -b
    return np.rot90(pixels, round(-np.degrees(np.arctan2(b, a)) / 90))


def decoded(
    path: Path, wanted: Callable[[int], bool], *, square: bool = False
) -> Iterator[tuple[int, Pixels | None]]:
    """(number, picture or None if not ``wanted``) of every frame that decodes, one at a time.

    A clip that breaks off or is damaged in the middle ends there. Turned as its player would;
    pixels are made ``square`` where they are not.

    Raises
    ------
    UnusableClip
        If it cannot be opened or holds no video.
    """
    av = load_av()
    with opened(path) as container:
        stream = container.streams.video[0]
        aspect = stream.sample_aspect_ratio if square else None
        try:
            for number, frame in enumerate(container.decode(stream)):
                yield number, upright(frame, aspect) if wanted(number) else None
        except av.FFmpegError:
            return


def expected_frames(path: Path) -> int:
    """Frames that the clip's header promises; 0 if unknown."""
    return frames_of(path)[0]


def frames_of(path: Path) -> tuple[int, int]:
    """How many frames a clip promises, and how many it counts.

    Where what is there reaches the video's length, but for a frame, it is all that was promised
    (variable rates; old AVIs count frames that hold no picture). What an edit list hides is not. A
    header without a number (Matroska) promises its length times the rate; there packets count.
    """
    av = load_av()
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            there = hidden = end = 0
            for packet in container.demux(stream):
                if packet.size and packet.is_discard:
                    hidden += 1
                elif packet.size:
                    there += 1
                    end = max(end, (packet.pts or 0) + (packet.duration or 0))
            counted, rate = int(stream.frames) or there, float(stream.average_rate or 25)
            unit = float(stream.time_base)
            last = _seconds(stream.metadata.get("DURATION", ""))  # Matroska's: when it ends
            if stream.duration:
                last = (stream.duration + (stream.start_time or 0)) * unit
            if last and end * unit + 1 / rate >= COMPLETE * last:
                return there, counted
            if stream.frames:
                return counted - hidden, counted
            return max(there, round(last * rate)), counted
    except (av.FFmpegError, OSError, IndexError):
        return 0, 0


def _seconds(duration: str) -> float:
    """Of "00:01:02.5"; 0 if it is no such text."""
    try:
        hours, minutes, seconds = (float(part) for part in duration.split(":"))
    except ValueError:
        return 0.0
    return hours * 3600 + minutes * 60 + seconds


def rewrite(
    source: Path,
    out: Path,
    change: Callable[[int, Pixels], Pixels],
    *,
    threads: int | None = None,
) -> Rewritten:
    """Write the clip with ``change(number, picture)`` for every picture: H.264, times and sound as
    they are, from 0 on if they begin later. Ctrl-C ends it: what was made until then is written.

    Pictures come with square pixels. Those that come out have one size; of odd sides H.264's
    colours lose the last line. ``threads`` to decode and to encode with; None: FFmpeg's choice.

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
        clip.streams.video[0].codec_context.thread_count = threads or 0
        try:
            with av.open(str(temporary), "w") as made:
                _rewrite(clip, made, change, done, threads or 0)
        except _NoPlaceForSound as error:
            others = ", ".join(WRITTEN_SUFFIXES)
            raise FsrstError(f"cannot write {out}: {error}; another of {others} may") from error
        except av.FFmpegError as error:
            raise FsrstError(f"cannot write {out}: {error.strerror or error}") from error
        if not done.frames:
            if done.interrupted:
                raise KeyboardInterrupt
            raise UnusableClip("not one of its pictures can be decoded")
    return done


class _NoPlaceForSound(Exception):
    """Why a file of this kind cannot hold the clip's sound."""


def _rewrite(
    clip: Any, made: Any, change: Callable[[int, Pixels], Pixels], done: Rewritten, threads: int
) -> None:
    video, sounds = clip.streams.video[0], list(clip.streams.audio)
    made.metadata["comment"] = "Faces enlarged by a neural network (fsrst); detail is estimated"
    shown: Any = None
    kept: dict[int, Any] = {}  # streams of sound, by their numbers in the clip
    early: list[Any] = []  # packets of sound until the first picture tells its size
    times = {stream.index: _Times(stream, clip.start_time) for stream in (video, *sounds)}
    frame_step = max(1, round(1 / (video.time_base * (video.average_rate or Fraction(25)))))
    try:
        for packet, frame in _decoded(clip, [video, *sounds]):
            if frame is None:
                early.append(packet)
            else:
                shape = video.sample_aspect_ratio
                picture = change(done.frames, upright(frame, shape, exact=True))
                picture = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
                if shown is None:
                    done.size = picture.shape[1], picture.shape[0]
                    shown = _stream_for(made, video, done.size, threads)
                    kept = {sound.index: _sound_for(made, sound) for sound in sounds}
                    codecs = [sound.codec_context.codec.canonical_name for sound in sounds]
                    done.sound = ", ".join(codecs) or None
                time = times[video.index].next(frame.pts, frame_step)
                made.mux(shown.encode(_yuv(picture, time, video.time_base)))
                done.frames += 1
            if shown is not None:
                for sound in early:
                    time = times[sound.stream.index].next(sound.dts, sound.duration or 1)
                    sound.pts = time + (sound.dts if sound.pts is None else sound.pts) - sound.dts
                    sound.dts, sound.stream = time, kept[sound.stream.index]
                    made.mux(sound)
                early.clear()
    except KeyboardInterrupt:
        done.interrupted = True
    if shown is not None:
        made.mux(shown.encode(None))


class _Times:
    """A stream's times in its own units, later from packet to packet, and 0 where a clip begins
    that began later."""

    def __init__(self, stream: Any, start: int | None) -> None:
        self._unit = stream.time_base
        self._shift = -round(Fraction(max(0, start or 0), 1_000_000) / self._unit)
        self._last: int | None = None

    def next(self, time: int | None, step: int) -> int:
        """``time`` (None: not known), if need be after the one before by ``step`` or a little."""
        if time is None:
            new = 0 if self._last is None else self._last + step
        else:
            new = time + self._shift
        if self._last is not None and new <= self._last:
            back = self._last + step - new
            if back * self._unit > SET_BACK:
                self._shift += back
                new += back
            else:
                new = self._last + 1
        self._last = new
        return new


def _sound_for(made: Any, sound: Any) -> Any:
    try:
        return made.add_stream_from_template(sound)
    except ValueError as error:
        raise _NoPlaceForSound(str(error)) from error


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


def _stream_for(made: Any, video: Any, size: tuple[int, int], threads: int) -> Any:
    stream = made.add_stream("libx264", rate=video.average_rate or Fraction(25))
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.options = {"crf": QUALITY, "preset": "medium"}
    if size[0] * size[1] > LARGE:
        stream.options |= {"rc-lookahead": "10"}
    context = stream.codec_context
    context.thread_count = threads
    context.time_base = video.time_base
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = LIMITED
    return stream


def _yuv(picture: Pixels, time: int, time_base: Fraction) -> Any:
    av = load_av()
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
    frame.pts, frame.time_base = time, time_base
    return frame


def middles(length: int, count: int) -> list[int]:
    """``count`` numbers in [0, length): the middles of as many equal parts."""
    return [(2 * i + 1) * length // (2 * count) for i in range(count)]


def head_of(path: Path) -> tuple[int, int, int] | None:
    """(left, top, side) [px] of the head with the largest face: the median of five frames' squares
    (``fsrst.data.faces.find_head``); None where no face is found."""
    there = frames_of(path)[1]
    numbers = middles(there, SEARCHED_FRAMES)
    squares, shape = [], (0, 0)
    for number, picture in decoded(path, lambda n: n in numbers, square=True):
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
