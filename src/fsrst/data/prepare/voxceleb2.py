"""VoxCeleb2's test identities -> prepared data set, as in Section 4 of the paper.

Origin: VoxCeleb2 (Chung et al. 2018), face tracks of 224x224 at 25 frames/s. Raw tree::

    <source>/test/mp4/idXXXXX/<11-character video id>/NNNNN.mp4
    <source>/mp4/...                      (where the archive unpacks without the folder test)
    <source>/vox2_meta.csv                "id00017 ,n000017 ,m ,test " (or elsewhere: --meta)

vox2_meta.csv says who is a test identity; with test/mp4 it may be absent.
Command: ``fsrst prepare voxceleb2 SOURCE OUT``

The paper takes 118 identities for evaluation only: the first frames of four random videos each, one
target and three references. vox2_meta.csv lists 120. A video is taken as a video id, not as one of
its tracks: two tracks of one video show the same minutes. Whole frames are used; the paper names no
crop. What it leaves to chance (videos, track, which is the target) is drawn by a seed.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fsrst.data.clip import UnusableClip, decoded
from fsrst.data.manifest import Manifest, Sample, refuse_another_set, withdraw, write_manifest
from fsrst.data.prepare.paper import (
    REFERENCES,
    Count,
    beside_paper,
    in_parallel,
    is_made_of,
    made_of,
    read_index,
    write_made_of,
)
from fsrst.errors import FsrstError
from fsrst.image import Pixels, crop_to
from fsrst.progress import Progress

META = "vox2_meta.csv"
LAYOUT = "expected <source>/test/mp4/idXXXXX/<video id>/NNNNN.mp4"
PAPER_IDENTITIES = 118
NEEDED = 1 + REFERENCES  # videos of an identity
EXAMPLES = 3

_META_ROW = re.compile(r"(id\d{5})\s*,\s*(\w+)\s*,\s*([mf])\s*,\s*(dev|test)")
_IDENTITY = re.compile(r"id\d{5}")


@dataclass(frozen=True)
class Person:
    """A test identity and its tracks, by video id; all sorted."""

    identity: str
    videos: dict[str, list[Path]]


@dataclass
class _Drawn:
    """First frames that were written, and tracks that could not be read."""

    files: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


def prepare_voxceleb2(
    source: str | Path,
    out: str | Path,
    *,
    meta: str | Path | None = None,
    size: int = 128,
    seed: int = 13,
    workers: int | None = None,
    partial: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """One sample per test identity with four videos or more, split ``test``.

    First frames become ``size`` x ``size`` [px] by Pillow's antialiased bicubic. Instead of a track
    that cannot be read the next in the drawn order is taken; dataset.json names it under
    made_by/test/unreadable, and under left_out the identities without four videos. A data set that
    this function made in ``out`` before is replaced, but finished pictures are not made again.
    ``info["against_paper"]`` of the result holds the counts beside the paper's.

    Parameters
    ----------
    meta
        vox2_meta.csv; None: in ``source``.
    seed
        Of the choice of videos, tracks and target.
    workers
        Threads; None: one per processor.
    partial
        Go on with the identities that are there.

    Raises
    ------
    FsrstError
        If the layout is another one, the index file is damaged, (unless ``partial``) fewer than
        118 identities are there, none has four videos, or PyAV is missing; it names the path.
    """
    source, out = Path(source), Path(out)
    refuse_another_set(out, "voxceleb2", size=size)
    root = _root(source)
    listed = _listed(source, root, meta)
    people = find_people(root, listed)
    absent = sorted((listed or set()) - {person.identity for person in people})
    if (len(people) < PAPER_IDENTITIES and not partial) or not people:
        missing = ", ".join(str(root / name) for name in absent[:EXAMPLES])
        raise FsrstError(
            f"{root} has {len(people)} of {PAPER_IDENTITIES} test identities"
            f"{f'; missing are {missing}' if missing else ''}; {LAYOUT}; fetch the others, or take"
            " what is there by --partial"
        )

    def draw(person: Person) -> _Drawn:
        return _draw(person, root, out, size, seed)

    drawn = in_parallel(
        draw, people, name=lambda person: person.identity, workers=workers, progress=progress
    )
    samples = []
    left_out: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for person, got in zip(people, drawn, strict=True):
        unreadable |= got.unreadable
        if len(got.files) < NEEDED:
            left_out[person.identity] = f"{len(got.files)} videos, {NEEDED} are needed"
            continue
        samples.append(
            Sample(
                id=f"{person.identity}-{Path(got.files[0]).stem}",
                identity=person.identity,
                split="test",
                target=got.files[0],
                references=tuple(got.files[1:]),
                source=f"{got.sources[0]} frame 0",
            )
        )
    if not samples:
        first, reason = next(iter({**unreadable, **left_out}.items()))
        raise FsrstError(f"no identity in {root} has {NEEDED} readable videos; {first}: {reason}")

    how = {
        "prepare": "voxceleb2",
        "seed": seed,
        "partial": partial,
        "left_out": left_out,
        "unreadable": unreadable,
    }
    counts = _counts(people, listed, absent, left_out, len(samples))
    info = {
        "name": out.resolve().name,
        "size": size,
        "made_by": {"test": how},
        "against_paper": beside_paper(counts),
    }
    return write_manifest(out, samples, info)


def sets_of(meta: Path) -> dict[str, str]:
    """identity -> dev or test, of every row of vox2_meta.csv.

    Raises
    ------
    FsrstError
        If the file is missing, damaged, or of another version (VoxCeleb1's has other columns).
    """
    expected = "'id00017 ,n000017 ,m ,test' (VoxCeleb2 ID,VGGFace2 ID,Gender,Set)"
    return {row[0]: row[3] for row in read_index(meta, _META_ROW, expected)}


def find_people(root: Path, listed: set[str] | None = None) -> list[Person]:
    """Everyone below ``root`` (of those ``listed``, if given), with all tracks."""
    people = []
    for folder in sorted(root.iterdir()):
        name = folder.name
        wanted = _IDENTITY.fullmatch(name) and (listed is None or name in listed)
        if not (wanted and folder.is_dir()):
            continue
        videos: dict[str, list[Path]] = {}
        for track in sorted(folder.glob("[!.]*/[!.]*.mp4")):
            videos.setdefault(track.parent.name, []).append(track)
        people.append(Person(name, videos))
    return people


def _root(source: Path) -> Path:
    """The folder of the identities."""
    if not source.is_dir():
        raise FsrstError(f"{source} is not a folder; {LAYOUT}")
    for root in (source / "test" / "mp4", source / "mp4"):
        if root.is_dir():
            return root
    raise FsrstError(f"{source / 'test' / 'mp4'} is missing; {LAYOUT}")


def _listed(source: Path, root: Path, meta: str | Path | None) -> set[str] | None:
    """The test identities by vox2_meta.csv; None if it is not there and not needed."""
    path = Path(meta) if meta is not None else source / META
    if meta is None and not path.is_file():
        if root.parent.name == "test":
            return None
        raise FsrstError(
            f"{path} is missing, and {root} may hold dev or test identities; put the file there,"
            " name it by --meta, or rename the folder to test/mp4"
        )
    return {identity for identity, which in sets_of(path).items() if which == "test"}


def _draw(person: Person, root: Path, out: Path, size: int, seed: int) -> _Drawn:
    """First frames of four videos, in an order drawn by ``seed`` and identity."""
    rng = np.random.default_rng([seed, int(person.identity.removeprefix("id"))])
    drawn = _Drawn()
    for video in rng.permutation(list(person.videos)):
        for i in rng.permutation(len(person.videos[video])):
            track = person.videos[video][i]
            shown = track.relative_to(root).as_posix()
            file = f"images/{person.identity}/{video}-{track.stem}.png"
            text = made_of(track, size)
            try:
                if not is_made_of(out / file, text):
                    pixels = crop_to(first_frame(track), size, size)
                    withdraw(out)
                    write_made_of(out / file, pixels, text)
            except UnusableClip as unusable:
                drawn.unreadable[shown] = str(unusable)
                continue
            drawn.files.append(file)
            drawn.sources.append(shown)
            break
        if len(drawn.files) == NEEDED:
            break
    return drawn


def first_frame(track: Path) -> Pixels:
    """The first frame that decodes.

    Raises
    ------
    UnusableClip
        If there is none.
    """
    for _, picture in decoded(track, lambda number: number == 0):
        if picture is not None:
            return picture
    raise UnusableClip("no frame decodes")


def _counts(
    people: list[Person],
    listed: set[str] | None,
    absent: list[str],
    left_out: dict[str, str],
    samples: int,
) -> list[Count]:
    missing, left = "", ""
    if absent:
        names = ", ".join(absent[:EXAMPLES])
        more = ", ..." if len(absent) > EXAMPLES else ""
        missing = f"{len(absent)} of those listed in {META} have no folder: {names}{more}"
    elif len(people) < PAPER_IDENTITIES:
        missing = f"{PAPER_IDENTITIES - len(people)} of {PAPER_IDENTITIES} are not on disk"
    if left_out:
        first, reason = next(iter(left_out.items()))
        more = f", and {len(left_out) - 1} more are left out" if len(left_out) > 1 else ""
        left = f"{first} is left out ({reason}){more}"
    chosen = f"the paper used {PAPER_IDENTITIES} of the identities"
    counts = [
        Count("test identities on disk", PAPER_IDENTITIES, len(people), missing or chosen),
        Count("their videos", None, sum(len(person.videos) for person in people)),
        Count("their tracks", None, sum(len(t) for p in people for t in p.videos.values())),
        Count(
            "test samples",
            PAPER_IDENTITIES,
            samples,
            "; ".join(reason for reason in (missing, left) if reason) or chosen,
        ),
    ]
    if listed is not None:
        counts.insert(0, Count(f"test identities in {META}", None, len(listed)))
    return counts
