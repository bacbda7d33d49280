"""Clips of talking heads -> prepared data set, by the paper's rule for DFD (its Section 4).

Origin: any collection of clips with one person in each. Raw tree::

    <source>/<person>/<clip>.mp4     (any depth below <person>)
    <source>/<clip>.mp4              (a flat folder: every clip is a person of its own)

Command: ``fsrst prepare video SOURCE OUT --split train``

One fixed square per clip is cut out (``fsrst.data.faces.head_square`` of the median face of five
frames), so that the head moves in the picture as it does in a call. Pixels are taken as square.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from json import loads
from pathlib import Path
from typing import Any

import numpy as np

from fsrst.data.clip import COMPLETE, SEARCHED_FRAMES, UnusableClip, decoded, frames_of, middles
from fsrst.data.faces import Face, detect_faces, head_square
from fsrst.data.manifest import (
    Manifest,
    Sample,
    check_place,
    require_file_name,
    take_out,
    write_manifest,
)
from fsrst.data.prepare.folder import files_below
from fsrst.errors import FsrstError
from fsrst.files import fingerprint, write_json
from fsrst.image import Pixels, crop_to, write_image
from fsrst.progress import Progress

Square = tuple[int, int, int]  # left, top, side [px]

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts")
DFD_REFERENCES = (0, 48, 96)
DFD_FIRST_TARGET = 192
RECORD = "clip.json"  # beside a clip's pictures, written last


@dataclass(frozen=True)
class Clip:
    """A file, whose it is, and its name, unique for the person."""

    path: Path
    identity: str
    name: str


def prepare_video(
    source: str | Path,
    out: str | Path,
    *,
    split: str,
    size: int = 128,
    box: Square | None = None,
    enlarge: bool = True,
    targets: int = 20,
    target_step: int = 20,
    extra_references: int = 0,
    progress: Progress | None = None,
) -> Manifest:
    """Cut references and targets of every clip, ``size`` x ``size`` [px].

    ``frames_of_rule`` says which frames. ``box`` (left, top, side) [px] replaces the search for
    the face, the same for all clips. A clip that cannot be used (damaged, no face, one frame,
    without ``enlarge`` a square smaller than ``size``) is left out; dataset.json names it under
    made_by/<split>/skipped, and under incomplete those that end early. Clips finished by an
    interrupted run with the same options are not done again.

    Raises
    ------
    FsrstError
        If there is no clip, none can be used, the box lies outside a picture, or PyAV or the
        detector is missing.
    """
    source, out = Path(source), Path(out)
    if targets < 1 or target_step < 1 or extra_references < 0 or size < 1:
        raise FsrstError(
            f"targets {targets}, target_step {target_step} and size {size} must be at least 1,"
            f" extra_references {extra_references} at least 0"
        )
    clips = find_clips(source)
    _check_ids(clips)
    check_place(out, split=split, size=size, identities={c.identity for c in clips})
    options = {
        "size": size,
        "box": list(box) if box else None,
        "enlarge": enlarge,
        "targets": targets,
        "target_step": target_step,
        "extra_references": extra_references,
    }
    samples: list[Sample] = []
    skipped: dict[str, str] = {}
    incomplete: dict[str, str] = {}
    for done, clip in enumerate(clips, start=1):
        shown = clip.path.relative_to(source).as_posix()
        folder = f"images/{split}/{clip.identity}/{clip.name}"
        try:
            record = finished(out / folder, clip.path, options)
            if record is None:
                record = _plan(clip, options)
                take_out(out, split)  # a stopped run must not leave half of each
                write_heads(clip.path, out / folder, record)
        except UnusableClip as unusable:
            skipped[shown] = str(unusable)
        else:
            if record["frames"] < COMPLETE * record["expected"]:
                incomplete[shown] = f"{record['frames']} of {record['expected']} frames"
            samples += _samples(clip, folder, shown, split, record)
        if progress:
            state = f" left out: {skipped[shown]}" if shown in skipped else ""
            progress(done, len(clips), shown + state)
    if not samples:
        first, reason = next(iter(skipped.items()))
        raise FsrstError(f"none of {len(clips)} clips in {source} can be used; {first}: {reason}")
    made_by = {split: {"prepare": "video", **options, "skipped": skipped, "incomplete": incomplete}}
    info = {"name": out.resolve().name, "size": size, "made_by": made_by}
    return write_manifest(out, samples, info, split=split)


def find_clips(source: Path) -> list[Clip]:
    """All clips below ``source``, sorted; the first folder is the person."""
    layout = "expected <source>/<person>/<clip> or <source>/<clip>, clips being " + " ".join(
        VIDEO_SUFFIXES
    )
    if not source.is_dir():
        raise FsrstError(f"{source} is not a folder; {layout}")
    paths = [
        path
        for path in files_below(source)
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
    ]
    if not paths:
        raise FsrstError(f"no clip in {source}; {layout}")
    named = []
    for path in paths:
        inside = path.relative_to(source).parts
        below = inside[1:] if len(inside) > 1 else inside
        identity = inside[0] if len(inside) > 1 else path.stem
        named.append((path, identity, "-".join([*below[:-1], path.stem])))
    taken = Counter((identity, name) for _, identity, name in named)
    return [
        Clip(path, identity, name if taken[identity, name] == 1 else name + path.suffix)
        for path, identity, name in named
    ]


def _check_ids(clips: Sequence[Clip]) -> None:
    """Refuse clips whose samples or folders would be another's, and names no manifest can hold."""
    taken: dict[str, Path] = {}
    for clip in clips:
        require_file_name(f"{clip.identity}-{clip.name}", clip.path)
        other = taken.setdefault(f"{clip.identity}-{clip.name}", clip.path)
        if other is not clip.path:
            raise FsrstError(
                f"{other} and {clip.path} would both be {clip.identity}-{clip.name}; rename one"
            )


def frames_of_rule(
    frames: int, *, targets: int = 20, target_step: int = 20, extra_references: int = 0
) -> tuple[list[int], list[int]]:
    """Numbers of the reference frames and of the target frames of a clip of ``frames``.

    More than 192 frames: references 0, 48, 96; targets 192, 192 + ``target_step``, ..., at most
    ``targets`` (the paper's rule for DFD). A shorter clip: references 0, n/8, n/4; targets from
    0.45 n on, closer together where that gives four of them. ``extra_references`` more, spread
    evenly over the frames before the first target, follow the references of the rule; they are
    for training, scoring takes the first three. Both lists are empty for fewer than two frames.
    """
    if frames > DFD_FIRST_TARGET:
        references, first, step = list(DFD_REFERENCES), DFD_FIRST_TARGET, target_step
    elif frames >= 2:
        references = sorted({0, frames // 8, frames // 4})
        first = max(references[-1] + 1, -(-frames * 45 // 100))
        step = min(target_step, max(1, (frames - 1 - first) // 3))
    else:
        return [], []
    chosen = list(range(first, frames, step))[:targets]
    free = [number for number in range(first) if number not in references]
    extra = min(extra_references, len(free))
    references += [free[number] for number in middles(len(free), extra)]
    return references, chosen


def head_of_clip(faces: Sequence[Face], width: int, height: int) -> Square:
    """The head square of the median of some frames' faces."""
    middle = np.median([(f.left, f.top, f.width, f.height) for f in faces], axis=0)
    left, top, face_width, face_height = (float(value) for value in middle)
    face = Face(left, top, face_width, face_height, 1.0, faces[0].landmarks)
    return head_square(face, width, height)


def _plan(clip: Clip, options: dict[str, Any]) -> dict[str, Any]:
    """Which square of which frames: what clip.json will say."""
    expected, there = frames_of(clip.path)
    spread = middles(there, SEARCHED_FRAMES)
    search = options["box"] is None
    faces: list[Face] = []
    shape = (0, 0)
    frames = 0
    for number, picture in decoded(clip.path, lambda n: n == 0 or (search and n in spread)):
        frames = number + 1
        if picture is not None:
            shape = same_shape(picture, shape, number)
            if search:
                faces += detect_faces(picture)[:1]
    references, targets = frames_of_rule(
        frames,
        targets=options["targets"],
        target_step=options["target_step"],
        extra_references=options["extra_references"],
    )
    if not targets:
        raise UnusableClip(f"{frames} frames, at least 2 are needed")
    if search:
        if not faces:
            raise UnusableClip("no face found; give its square by --box LEFT,TOP,SIDE")
        square = head_of_clip(faces, shape[1], shape[0])
    else:
        square = inside(options["box"], shape, clip.path)
    if square[2] < options["size"] and not options["enlarge"]:
        raise UnusableClip(f"a head of {square[2]} px, smaller than {options['size']}")
    return {
        "options": options,
        "square": list(square),
        "frames": frames,
        "expected": expected,
        "references": references,
        "targets": targets,
    }


def write_heads(path: Path, folder: Path, record: dict[str, Any]) -> None:
    """Write ``<folder>/<number>.png`` of the frames that ``record`` names, then it, as clip.json.

    An earlier run's clip.json goes first: it would vouch for a mixture if this run is stopped.

    Raises
    ------
    UnusableClip
        If one of the frames has another size than the first.
    """
    (folder / RECORD).unlink(missing_ok=True)
    left, top, side = record["square"]
    size = record["options"]["size"]
    keep = {*record["references"], *record["targets"]}
    shape = (0, 0)
    for number, picture in decoded(path, lambda n: n in keep):
        if picture is not None:
            shape = same_shape(picture, shape, number)
            head = np.ascontiguousarray(picture[top : top + side, left : left + side])
            write_image(folder / f"{number:06d}.png", crop_to(head, size, size))
        if number >= max(keep):
            break
    write_json(folder / RECORD, {**record, "source": fingerprint(path)})


def finished(folder: Path, path: Path, options: dict[str, Any]) -> dict[str, Any] | None:
    """An earlier run's record of ``folder``, if it was made of the same file with ``options``."""
    try:
        record: dict[str, Any] = loads((folder / RECORD).read_text(encoding="utf-8"))
        same = (record["options"], record["source"]) == (options, fingerprint(path))
        numbers = {*record["references"], *record["targets"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if same and all((folder / f"{n:06d}.png").is_file() for n in numbers) else None


def same_shape(picture: Pixels, shape: tuple[int, int], number: int) -> tuple[int, int]:
    """Height and width, which one square cut out of all frames needs to be those before."""
    height, width = picture.shape[:2]
    if shape not in ((0, 0), (height, width)):
        raise UnusableClip(
            f"frame {number} has {width}x{height}, those before {shape[1]}x{shape[0]}; cut it there"
        )
    return height, width


def inside(box: Sequence[int], shape: tuple[int, int], path: Path) -> Square:
    left, top, side = box
    height, width = shape
    if side < 1 or left < 0 or top < 0 or left + side > width or top + side > height:
        raise FsrstError(
            f"the box {left},{top},{side} (left, top, side) does not lie inside the"
            f" {width}x{height} px pictures of {path}; give another --box"
        )
    return left, top, side


def _samples(
    clip: Clip, folder: str, shown: str, split: str, record: dict[str, Any]
) -> list[Sample]:
    references = tuple(f"{folder}/{number:06d}.png" for number in record["references"])
    return [
        Sample(
            id=f"{clip.identity}-{clip.name}-{number:06d}",
            identity=clip.identity,
            split=split,
            target=f"{folder}/{number:06d}.png",
            references=references,
            source=f"{shown} frame {number}",
        )
        for number in record["targets"]
    ]
