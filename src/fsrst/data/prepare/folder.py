"""A folder per identity -> prepared data set.

Origin: any collection sorted by person. Raw tree::

    <source>/<identity>/<picture>.jpg      (any depth below <identity>; any common format)

Command: ``fsrst prepare folder SOURCE OUT --split train``
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np

from fsrst.data.faces import aligned_face, detect_faces
from fsrst.data.manifest import (
    MANIFEST,
    Manifest,
    Sample,
    check,
    check_place,
    load_manifest,
    read_unchecked,
    require_file_name,
    require_plain_name,
    take_out,
    write_manifest,
)
from fsrst.errors import FsrstError
from fsrst.image import READ_SUFFIXES, UNREADABLE, Pixels, crop_to, read_image, write_image
from fsrst.progress import Progress


def prepare_folder(
    source: str | Path,
    out: str | Path,
    *,
    split: str,
    size: int = 128,
    crop: float = 1.0,
    align: bool = False,
    enlarge: bool = True,
    references: int = 3,
    samples_per_identity: int | None = None,
    seed: int = 13,
    prefix: str = "",
    progress: Progress | None = None,
) -> Manifest:
    """Every identity with at least two pictures gives samples of one target and its references.

    Each picture is cut to the centred square of ``crop`` times its shorter side (1 keeps all), or
    with ``align`` to the upright head of its largest face (``aligned_face``), and reduced or
    enlarged to ``size`` [px] by Pillow's bicubic; without ``enlarge`` smaller squares are left out.
    Per identity the pictures are shuffled by ``seed``; each of the first ``samples_per_identity``
    (None: all) becomes a target, the next ``references`` in that order (0: all the others) its
    references. Identities get ``prefix``, so that several sources can share a data set. A picture
    that cannot be read or shows no face is left out; dataset.json names it under
    made_by/<split>/unreadable, and under left_out files that are no pictures by their names,
    pictures outside of the folders, too small or copies of others of the person, and people with
    fewer than two pictures. Files and folders whose names begin with a dot are not looked at.

    Raises
    ------
    FsrstError
        If a number is out of its range, the layout is another one, two pictures of a person differ
        by their suffix only, or what is made would not fit into the set (``check_place``): before a
        picture is written. If nobody has two pictures that can be used.
    """
    source, out = Path(source), Path(out)
    most = 1 if samples_per_identity is None else samples_per_identity
    if min(size, most) < 1 or references < 0:
        raise FsrstError(
            f"size {size} and samples_per_identity {samples_per_identity} must be at least 1,"
            f" references {references} at least 0"
        )
    if not source.is_dir():
        raise FsrstError(f"{source} is not a folder; expected <source>/<identity>/<pictures>")
    if not 0 < crop <= 1:
        raise FsrstError(f"--crop {crop} is not in (0, 1]")
    if align and (crop != 1 or not enlarge):
        unfit = "--no-enlarge" if crop == 1 else "--crop"
        raise FsrstError(f"--align finds the square by the face; leave {unfit} out")
    if prefix:
        require_plain_name("--prefix", prefix)
        _check_prefix(out, split, prefix)
    if out.resolve().is_relative_to(source.resolve()):
        raise FsrstError(f"{out} lies in {source}, whose folders are people; choose another place")
    people, left_out = _people(source, prefix)
    _check_ids(people)
    check_place(out, split=split, size=size, identities=people)

    def begin() -> None:
        take_out(out, split, prefix)  # a stopped run must not leave half of each

    def square(picture: Path) -> Pixels:
        return _square(picture, size, crop, align, enlarge)

    folder = out / "images" / split
    made, unreadable, not_wanted = _write_pictures(people, source, folder, square, begin, progress)
    left_out |= not_wanted
    samples: list[Sample] = []
    for identity, sources in made.items():
        if len(sources) < 2:
            left_out[identity.removeprefix(prefix)] = _too_few(len(sources))
            continue
        names = list(sources)
        order = np.random.default_rng([seed, *identity.encode()]).permutation(len(names))
        shuffled = [names[i] for i in order]
        files = [f"images/{split}/{identity}/{name}.png" for name in shuffled]
        for i, name in enumerate(shuffled[:samples_per_identity]):
            others = files[i + 1 :] + files[:i]
            samples.append(
                Sample(
                    id=_id(identity, name),
                    identity=identity,
                    split=split,
                    target=files[i],
                    references=tuple(others[: references or None]),
                    source=sources[name],
                )
            )
    if prefix and (out / MANIFEST).is_file():  # a further source of the same split
        samples += [
            sample
            for sample in load_manifest(out).samples
            if sample.split == split and not sample.identity.startswith(prefix)
        ]
    made_by = {
        f"{split}:{prefix}" if prefix else split: {
            "prepare": "folder",
            "crop": crop,
            "align": align,
            "enlarge": enlarge,
            "references": references,
            "samples_per_identity": samples_per_identity,
            "seed": seed,
            "unreadable": unreadable,
            "left_out": left_out,
        }
    }
    info = {"name": out.resolve().name, "size": size, "made_by": made_by}
    return write_manifest(out, samples, info, split=split)


def _write_pictures(
    people: dict[str, dict[str, Path]],
    source: Path,
    folder: Path,
    square: Callable[[Path], Pixels],
    begin: Callable[[], None],
    progress: Progress | None,
) -> tuple[dict[str, dict[str, str]], dict[str, str], dict[str, str]]:
    """Write ``<folder>/<identity>/<name>.png``, its ``square``, of every picture of ``people``;
    ``begin`` comes before the first.

    Returns the pictures that could be used (identity -> name -> path in ``source``), why others
    could not (path in ``source`` -> reason), and so which are left out: too small, or a copy of an
    earlier one of that person, which would be a target and its own reference.

    Raises
    ------
    FsrstError
        If nobody has two that could.
    """
    made: dict[str, dict[str, str]] = {identity: {} for identity in people}
    unreadable: dict[str, str] = {}
    left_out: dict[str, str] = {}
    total, done = sum(len(pictures) for pictures in people.values()), 0
    for identity, pictures in people.items():
        first_with: dict[bytes, str] = {}  # these pixels
        for name, picture in pictures.items():
            shown = picture.relative_to(source).as_posix()
            done += 1
            try:
                pixels = square(picture)
                first = first_with.setdefault(sha256(pixels.tobytes()).digest(), shown)
                if first != shown:
                    raise NotWanted(f"the same picture as {first}")
                if not any(made.values()):
                    begin()
                write_image(folder / identity / f"{name}.png", pixels)
            except NotWanted as reason:
                left_out[shown] = str(reason)
            except UnusablePicture as unusable:  # named when all is done
                unreadable[shown] = str(unusable)
            else:
                made[identity][name] = shown
            if progress and done < total:
                progress(done, total, identity)
    if all(len(of_person) < 2 for of_person in made.values()):
        shown, why = next(iter((unreadable | left_out).items()))
        raise FsrstError(f"nobody in {source} has two pictures that can be used; {shown}: {why}")
    if progress:  # not before an error
        progress(total, total, identity)
    return made, unreadable, left_out


def _id(identity: str, stem: str) -> str:
    return f"{identity}-{stem}"


def _check_ids(people: dict[str, dict[str, Path]]) -> None:
    """Refuse two pictures that would be one sample, and names that no manifest can hold."""
    taken: dict[str, Path] = {}
    for identity, pictures in people.items():
        for inside, picture in pictures.items():
            sample_id = _id(identity, inside)
            require_file_name(sample_id, picture)
            other = taken.setdefault(sample_id, picture)
            if other is not picture:
                raise FsrstError(
                    f"{other} and {picture} would both be sample {sample_id}; rename one of them"
                )


def _check_prefix(out: Path, split: str, prefix: str) -> None:
    """Refuse a prefix by which this source's people could not be told from another's."""
    if not (out / MANIFEST).is_file():
        return
    of_split = f"{split}:"
    before = read_unchecked(out)
    others = [s for s in before.samples if s.split != split or not s.identity.startswith(prefix)]
    check(out, others)  # pictures of this prefix may be missing: preparing again is the remedy
    made_by = before.info.get("made_by", {})
    if of_split + prefix not in made_by:
        for sample in before.samples:
            if sample.split == split and sample.identity.startswith(prefix):
                raise FsrstError(
                    f"--prefix {prefix}: {sample.identity!r}, of another source of {out}, begins"
                    " alike and would be replaced: choose another prefix"
                )
    prefixes = {key.removeprefix(of_split) for key in made_by if key.startswith(of_split)}
    for other in sorted(prefixes - {prefix}):
        if other.startswith(prefix) or prefix.startswith(other):
            raise FsrstError(
                f"--prefix {prefix} and {other}, of another source of {out}, begin alike; the"
                " people of one would replace the other's: choose another prefix"
            )


class UnusablePicture(Exception):
    """Why one picture is left out; the others go on."""


class NotWanted(UnusablePicture):
    """The same, of a picture that is whole: it is a copy, or would have to be enlarged."""


def _people(source: Path, prefix: str) -> tuple[dict[str, dict[str, Path]], dict[str, str]]:
    """Who is there, and what is not taken.

    Returns
    -------
    Identity -> name inside the person's folder -> picture, of people with two or more; and path in
    ``source`` -> why this file or person is left out.
    """
    people: dict[str, dict[str, Path]] = {}
    left_out: dict[str, str] = {}
    for person in sorted(path for path in source.iterdir() if not path.name.startswith(".")):
        if not person.is_dir():
            if person.suffix.lower() in READ_SUFFIXES:
                left_out[person.name] = "not in a person's folder"
            continue
        named: dict[str, Path] = {}
        for picture in files_below(person):
            suffix = picture.suffix.lower()
            if suffix not in READ_SUFFIXES:
                why = UNREADABLE.get(suffix, "no picture by its name")
                left_out[picture.relative_to(source).as_posix()] = why
                continue
            inside = "-".join(picture.relative_to(person).with_suffix("").parts)
            if inside in named:
                raise FsrstError(
                    f"{named[inside]} and {picture} would both become {inside}.png; rename one"
                )
            named[inside] = picture
        if len(named) >= 2:
            people[prefix + person.name] = named
        else:
            left_out[person.name] = _too_few(len(named))
    if not people:
        first = "".join(f" ({path}: {why})" for path, why in list(left_out.items())[:1])
        raise FsrstError(
            f"{source} has no folder with two or more pictures{first}; expected"
            " <source>/<identity>/<pictures>"
        )
    return people, left_out


def files_below(folder: Path) -> list[Path]:
    """Files at any depth, sorted. What begins with a dot (macOS writes ``._1.png`` beside
    ``1.png``) is skipped, and what is in such a folder.
    """
    return sorted(
        path
        for path in folder.rglob("*")
        if not path.is_dir()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _too_few(pictures: int) -> str:
    return f"{pictures or 'no'} picture{'' if pictures == 1 else 's'}, 2 are needed"


def _square(picture: Path, size: int, crop: float, align: bool, enlarge: bool) -> Pixels:
    """The picture's square, (size, size, 3)."""
    try:
        pixels = read_image(picture)
    except FsrstError as error:
        raise UnusablePicture(str(error)) from error
    if align:
        faces = detect_faces(pixels)
        if not faces:
            raise UnusablePicture("no face found")
        return aligned_face(pixels, faces[0].landmarks, size)
    keep = max(1, round(min(pixels.shape[:2]) * crop))
    if keep < size and not enlarge:
        raise NotWanted(f"{keep} px, smaller than {size}")
    top, left = (pixels.shape[0] - keep) // 2, (pixels.shape[1] - keep) // 2
    square = np.ascontiguousarray(pixels[top : top + keep, left : left + keep])
    return crop_to(square, size, size)
