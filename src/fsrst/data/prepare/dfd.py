"""DeepFakeDetection (DFD) -> prepared data set, as in Section 4 of the paper.

Origin: the original sequences of DeepFakeDetection, part of the FaceForensics++ download: 363
videos of 28 actors in 16 scenes. Raw tree::

    <source>/original_sequences/actors/{raw,c23,c40}/videos/<actor 01..28>__<scene>.mp4

Command: ``fsrst prepare dfd SOURCE OUT``

The paper takes three scenes, actors 1 to 22 for training and 23 to 28 for testing; frames 0, 48, 96
are references, 20 frames from 192 on at an interval of 20 are targets: 1,300 samples of 65 videos
and 340 of 17. Its head crop of 512x512 was made by hand; here it is one fixed square per video,
twice as high as the median face (``fsrst.data.faces.head_square``), reduced to the target size at
once. The six frames that the authors published show 2.4 face heights, with the face above the
middle. The paper does not name the compression: the best that is there is taken.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsrst.data.clip import UnusableClip, decoded, expected_frames
from fsrst.data.faces import Face, detect_faces
from fsrst.data.manifest import Manifest, Sample, refuse_another_set, withdraw, write_manifest
from fsrst.data.prepare.paper import Count, beside_paper, in_parallel
from fsrst.data.prepare.video import (
    DFD_FIRST_TARGET,
    DFD_REFERENCES,
    finished,
    head_of_clip,
    same_shape,
    write_heads,
)
from fsrst.errors import FsrstError
from fsrst.progress import Progress

SCENES = ("outside_talking_still_laughing", "podium_speech_happy", "talking_against_wall")
QUALITIES = ("raw", "c23", "c40")  # best first
LAYOUT = (
    "expected <source>/original_sequences/actors/<raw, c23 or c40>/videos/<actor>__<scene>.mp4,"
    " such as 01__podium_speech_happy.mp4"
)
SPLITS = ("train", "test")
LAST_TRAINING_ACTOR = 22
TARGETS = range(DFD_FIRST_TARGET, DFD_FIRST_TARGET + 20 * 20, 20)
FRAMES = (*DFD_REFERENCES, *TARGETS)
SEARCHED = FRAMES[::4]  # for the face: 0, 212, 292, ..., 532

PAPER_VIDEOS, PAPER_ACTORS = 363, 28
PAPER_TRAIN, PAPER_TEST = 1300, 340
PAPER_USED = (PAPER_TRAIN + PAPER_TEST) // len(TARGETS)  # videos of the three scenes: 82
EXAMPLES = 3  # two of the 28 x 3 videos do not exist: of three that are missing one is really so

_NAME = re.compile(r"(\d\d)__([a-z_]+)\.mp4")


@dataclass(frozen=True)
class Video:
    """One original sequence."""

    path: Path
    actor: int
    scene: str

    @property
    def split(self) -> str:
        return "train" if self.actor <= LAST_TRAINING_ACTOR else "test"

    @property
    def identity(self) -> str:
        return f"actor-{self.actor:02d}"

    @property
    def folder(self) -> str:
        """Of its pictures in the data set."""
        return f"images/{self.identity}/{self.scene}"


def prepare_dfd(
    source: str | Path,
    out: str | Path,
    *,
    quality: str | None = None,
    size: int = 128,
    workers: int | None = None,
    partial: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """References and targets of every video of the three scenes, splits ``train`` and ``test``.

    A video that cannot be used (damaged, no face, at most 192 frames) is left out; dataset.json
    names it under made_by/<split>/skipped, and under short those with fewer than 20 targets. A data
    set that this function made in ``out`` before is replaced, but finished videos are not cut
    again. ``info["against_paper"]`` of the result holds the counts beside the paper's.

    Parameters
    ----------
    quality
        Compression: raw, c23 or c40; None: the first of these that is there.
    size
        Side of the pictures [px].
    workers
        Threads; None: one per processor.
    partial
        Go on with the videos that are there.

    Raises
    ------
    FsrstError
        If the layout is another one, (unless ``partial``) fewer than 82 videos are there, none can
        be used, or PyAV or the detector is missing; it names the missing path.
    """
    source, out = Path(source), Path(out)
    refuse_another_set(out, "dfd", size=size)
    every = find_videos(source, quality)
    videos = [video for video in every if video.scene in SCENES]
    folder = every[0].path.parent
    refuse_another_set(out, "dfd", size=size, quality=folder.parent.name)
    absent = _absent(folder, videos)
    if (len(videos) < PAPER_USED and not partial) or not videos:
        raise FsrstError(
            f"{folder} has {len(videos)} of {PAPER_USED} videos of the scenes {', '.join(SCENES)};"
            f" not there are for example {', '.join(absent[:EXAMPLES])} (two of the"
            f" {len(absent)} do not exist); fetch the others, or take what is there by --partial"
        )

    def cut(video: Video) -> dict[str, Any] | str:
        """What clip.json says, or why there is none."""
        try:
            options = _options(video, size)
            record = finished(out / video.folder, video.path, options)
            return record or _cut(video, out, size)
        except UnusableClip as unusable:
            return str(unusable)

    records = in_parallel(
        cut, videos, name=lambda video: video.path.name, workers=workers, progress=progress
    )
    skipped: dict[str, str] = {}
    short: dict[str, str] = {}
    samples: list[Sample] = []
    for video, record in zip(videos, records, strict=True):
        if isinstance(record, str):
            skipped[video.path.name] = record
            continue
        if len(record["targets"]) < len(TARGETS):
            short[video.path.name] = (
                f"{record['frames']} of {record['expected']} frames:"
                f" {len(record['targets'])} of {len(TARGETS)} targets"
            )
        samples += _samples(video, record["targets"])
    if not samples:
        first, reason = next(iter(skipped.items()))
        raise FsrstError(f"none of {len(videos)} videos in {folder} can be used; {first}: {reason}")
    how = {"prepare": "dfd", "quality": folder.parent.name, "partial": partial}
    made_by = {}
    for split in sorted({sample.split for sample in samples}):
        of_split = {video.path.name for video in videos if video.split == split}
        made_by[split] = {
            **how,
            "skipped": {name: why for name, why in skipped.items() if name in of_split},
            "short": {name: why for name, why in short.items() if name in of_split},
        }
    info = {
        "name": out.resolve().name,
        "size": size,
        "made_by": made_by,
        "against_paper": beside_paper(_counts(every, videos, samples, absent, skipped, short)),
    }
    return write_manifest(out, samples, info)


def find_videos(source: Path, quality: str | None = None) -> list[Video]:
    """All original sequences of one compression, by actor and scene.

    Raises
    ------
    FsrstError
        If the folder is missing, or holds none; it names the path.
    """
    if quality is not None and quality not in QUALITIES:
        raise FsrstError(f"--quality {quality} is not one of {', '.join(QUALITIES)}")
    if not source.is_dir():
        raise FsrstError(f"{source} is not a folder; {LAYOUT}")
    actors = source / "original_sequences" / "actors"
    if not actors.is_dir():
        raise FsrstError(f"{actors} is missing; {LAYOUT}")
    folders = [actors / name / "videos" for name in ([quality] if quality else QUALITIES)]
    there = [folder for folder in folders if folder.is_dir()]
    if not there:
        raise FsrstError(f"{folders[0]} is missing; {LAYOUT}")
    for folder in there:
        videos = [
            Video(path, int(match[1]), match[2])
            for path in sorted(folder.iterdir())
            if (match := _NAME.fullmatch(path.name))
        ]
        if videos:
            return videos
    raise FsrstError(f"no original sequence in {there[0]}; {LAYOUT}")


def _absent(folder: Path, videos: Sequence[Video]) -> list[str]:
    """Paths of actors and scenes that could be there, by actor."""
    have = {video.path.name for video in videos}
    names = [f"{a:02d}__{scene}.mp4" for a in range(1, PAPER_ACTORS + 1) for scene in SCENES]
    return [str(folder / name) for name in names if name not in have]


def _cut(video: Video, out: Path, size: int) -> dict[str, Any]:
    """Write the video's pictures, then clip.json; return what that says."""
    faces: list[Face] = []
    shape = (0, 0)
    frames = 0
    for number, picture in decoded(video.path, lambda n: n in SEARCHED):
        frames = number + 1
        if picture is not None:
            shape = same_shape(picture, shape, number)
            faces += detect_faces(picture)[:1]
        if number >= FRAMES[-1]:
            break
    targets = [number for number in TARGETS if number < frames]
    if not targets:
        raise UnusableClip(f"{frames} frames, {DFD_FIRST_TARGET + 1} are needed")
    if not faces:
        raise UnusableClip("no face found")
    record = {
        "options": _options(video, size),
        "square": list(head_of_clip(faces, shape[1], shape[0])),
        "frames": frames,
        "expected": max(frames, expected_frames(video.path)),
        "references": list(DFD_REFERENCES),
        "targets": targets,
    }
    withdraw(out)
    write_heads(video.path, out / video.folder, record)
    return record


def _options(video: Video, size: int) -> dict[str, Any]:
    """What a video's pictures depend on beside its file."""
    return {"size": size, "quality": video.path.parent.parent.name}


def _samples(video: Video, targets: Sequence[int]) -> list[Sample]:
    references = tuple(f"{video.folder}/{number:06d}.png" for number in DFD_REFERENCES)
    return [
        Sample(
            id=f"{video.identity}-{video.scene}-{number:06d}",
            identity=video.identity,
            split=video.split,
            target=f"{video.folder}/{number:06d}.png",
            references=references,
            source=f"{video.path.name} frame {number}",
        )
        for number in targets
    ]


def _counts(
    every: Sequence[Video],
    videos: Sequence[Video],
    samples: Sequence[Sample],
    absent: Sequence[str],
    skipped: dict[str, str],
    short: dict[str, str],
) -> list[Count]:
    reasons = []
    if len(videos) < PAPER_USED:
        names = ", ".join(Path(path).name for path in absent[:EXAMPLES])
        missing = PAPER_USED - len(videos)
        reasons.append(f"{missing} of {PAPER_USED} videos are missing, for example of {names}")
    for what, named in (("left out", skipped), ("short", short)):
        for name, why in list(named.items())[:1]:
            more = f" and {len(named) - 1} more" if len(named) > 1 else ""
            reasons.append(f"{what}: {name} ({why}){more}")
    why = "; ".join(reasons)
    others = len({video.scene for video in every} - set(SCENES))
    actors = {split: {s.identity for s in samples if s.split == split} for split in SPLITS}
    made = {split: sum(s.split == split for s in samples) for split in SPLITS}
    return [
        Count(
            "videos",
            PAPER_VIDEOS,
            len(every),
            f"{others} of the 13 scenes that are not used are there",
        ),
        Count("videos of the three scenes", PAPER_USED, len(videos), why),
        Count("actors for training", LAST_TRAINING_ACTOR, len(actors["train"]), why),
        Count("actors for testing", PAPER_ACTORS - LAST_TRAINING_ACTOR, len(actors["test"]), why),
        Count("train samples", PAPER_TRAIN, made["train"], why),
        Count("test samples", PAPER_TEST, made["test"], why),
    ]
