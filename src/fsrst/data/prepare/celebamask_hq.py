"""CelebAMask-HQ -> prepared data set, as in Section 4 of the paper.

Origin: CelebAMask-HQ (Lee et al. 2020), 30,000 faces of 1024x1024; who is in them is told by
CelebA's identity_CelebA.txt, which its authors send on request. Raw tree::

    <source>/CelebA-HQ-img/{0..29999}.jpg
    <source>/CelebA-HQ-to-CelebA-mapping.txt    "0  119613  119614.jpg", with or without a header
    <source>/identity_CelebA.txt                "000001.jpg 2880" (or elsewhere: --identities)

``source`` may also be the folder that CelebAMask-HQ/ was unzipped in.
Command: ``fsrst prepare celebamask-hq SOURCE OUT``

Counts of the paper: 2,887 of 6,217 identities have four or more pictures (24,364); each gives one
sample, 2,600 at random for training and 287 for testing. What it does not say is drawn by a seed:
which identities are for testing, which pictures of an identity are used, and which is the target.
"""

import os
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

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
from fsrst.image import crop_to, read_image
from fsrst.progress import Progress

IMAGES = "CelebA-HQ-img"
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
IDENTITIES = "identity_CelebA.txt"
LAYOUT = f"expected <source>/{IMAGES}/{{0..29999}}.jpg and <source>/{MAPPING}"

PICTURES = 30_000
PAPER_IDENTITIES = 2887
PAPER_PICTURES = 24_364
PAPER_TRAIN, PAPER_TEST = 2600, 287
NEEDED = 1 + REFERENCES  # pictures of an identity

_MAPPING_ROW = re.compile(r"(\d+)[\s,]+(\d+)[\s,]+(\d+\.jpg)")
_IDENTITY_ROW = re.compile(r"(\d+\.jpg)[\s,]+(\d+)")

People = dict[str, list[int]]  # identity -> numbers of its pictures, ascending


def prepare_celebamask_hq(
    source: str | Path,
    out: str | Path,
    *,
    identities: str | Path | None = None,
    size: int = 128,
    seed: int = 13,
    workers: int | None = None,
    partial: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """One sample per identity with four pictures or more, splits ``train`` and ``test``.

    The pictures are reduced to ``size`` x ``size`` [px] by Pillow's antialiased bicubic. A data set
    that this function made in ``out`` before is replaced, but finished pictures are not made again.
    ``info["against_paper"]`` of the result holds the counts beside the paper's.

    Parameters
    ----------
    identities
        CelebA's identity_CelebA.txt; None: in ``source`` or beside it.
    seed
        Of the split and of the choice of pictures.
    workers
        Threads; None: one per processor.
    partial
        Go on with what is there. Test samples then keep their share of 287 in 2,887, and those with
        a damaged picture are left out: dataset.json names it under made_by/<split>/unreadable.

    Raises
    ------
    FsrstError
        If the layout is another one, an index file is damaged or does not fit the other, or
        (unless ``partial``) pictures or rows are missing or a picture is damaged; it names the
        first such path.
    """
    source, out = _root(Path(source)), Path(out)
    refuse_another_set(out, "celebamask-hq", size=size)
    everyone = people_of(source / MAPPING, _identity_file(source, identities))
    rows = sum(map(len, everyone.values()))
    if rows < PICTURES and not partial:
        raise FsrstError(
            f"{source / MAPPING} has {rows:,} of {PICTURES:,} rows; fetch the file again, or take"
            " what is there by --partial"
        )
    on_disk = _names_in(source / IMAGES)
    named = [n for numbers in everyone.values() if len(numbers) >= NEEDED for n in numbers]
    missing = sorted(n for n in named if f"{n}.jpg" not in on_disk)
    if missing and not partial:
        raise FsrstError(
            f"{len(missing):,} of {len(named):,} pictures are missing, the first is"
            f" {source / IMAGES / f'{missing[0]}.jpg'}; {LAYOUT}; fetch the others, or take what is"
            " there by --partial"
        )
    people = with_enough(everyone, without=set(missing))
    if len(people) < 2:
        raise FsrstError(
            f"{source / IMAGES} has {NEEDED} pictures of one person for {len(people)} people, at"
            f" least two are needed; {LAYOUT}"
        )
    test = drawn_for_testing(people, seed)
    samples = [
        _sample(who, numbers, "test" if who in test else "train", seed)
        for who, numbers in people.items()
    ]

    def make(file: str) -> str:
        """Why there is none, with ``partial``; else nothing."""
        path = source / IMAGES / Path(file).with_suffix(".jpg").name
        text = made_of(path, size)
        if is_made_of(out / file, text):
            return ""
        try:
            pixels = crop_to(read_image(path), size, size)
        except FsrstError as error:
            if partial:
                return str(error)
            raise
        withdraw(out)
        write_made_of(out / file, pixels, text)
        return ""

    files = [file for sample in samples for file in (sample.target, *sample.references)]
    faults = in_parallel(make, files, name=str, workers=workers, progress=progress)
    unreadable = {file: why for file, why in zip(files, faults, strict=True) if why}
    samples = [s for s in samples if not unreadable.keys() & {s.target, *s.references}]
    if not samples:
        raise FsrstError(f"nobody has {NEEDED} whole pictures: {next(iter(unreadable.values()))}")

    reasons = []
    if rows != PICTURES:
        reasons.append(f"{MAPPING} has {rows:,} rows")
    if missing:
        reasons.append(f"{len(missing):,} pictures are missing, the first is {missing[0]}.jpg")
    if unreadable:
        reasons.append(f"{len(unreadable):,} are damaged: {next(iter(unreadable.values()))}")
    why = "; ".join(reasons) or f"{MAPPING} or {IDENTITIES} is another version"
    counts = [
        Count("pictures in the mapping", PICTURES, rows, why),
        Count("identities", None, len(everyone)),
        Count(f"identities with {NEEDED} pictures or more", PAPER_IDENTITIES, len(people), why),
        Count("pictures of these", PAPER_PICTURES, sum(map(len, people.values())), why),
        Count("train samples", PAPER_TRAIN, sum(s.split == "train" for s in samples), why),
        Count("test samples", PAPER_TEST, sum(s.split == "test" for s in samples), why),
    ]
    how = {
        "prepare": "celebamask-hq",
        "seed": seed,
        "partial": partial,
        "unreadable": {Path(file).stem + ".jpg": why for file, why in unreadable.items()},
    }
    info = {
        "name": out.resolve().name,
        "size": size,
        "made_by": {"train": how, "test": how},
        "against_paper": beside_paper(counts),
    }
    return write_manifest(out, samples, info)


def people_of(mapping: Path, identities: Path) -> People:
    """Join the two index files: who is in which of the 30,000 pictures.

    Raises
    ------
    FsrstError
        If one is missing or damaged, a row contradicts itself, or a picture has no identity.
    """
    rows = read_index(mapping, _MAPPING_ROW, "'0  119613  119614.jpg' (idx orig_idx orig_file)")
    owned = read_index(identities, _IDENTITY_ROW, "'000001.jpg 2880'")
    owner = {row[0]: row[1] for row in owned}
    unknown = [file for _, _, file in rows if file not in owner]
    if unknown:
        raise FsrstError(
            f"{identities} lacks {len(unknown):,} of the {len(rows):,} files in {mapping.name}, the"
            f" first is {unknown[0]}; expected CelebA's list of 202,599 lines"
        )
    people: People = defaultdict(list)
    for number, original, file in rows:
        if int(original) + 1 != int(Path(file).stem):
            raise FsrstError(
                f"{mapping}: orig_idx {original} does not belong to {file} (it counts from 0, the"
                " files from 1); fetch the file again, it is damaged or of another version"
            )
        people[owner[file]].append(int(number))
    return {who: sorted(people[who]) for who in sorted(people, key=int)}


def with_enough(people: People, without: set[int] | frozenset[int] = frozenset()) -> People:
    """Those with at least four pictures that are not in ``without``."""
    there = {who: [n for n in numbers if n not in without] for who, numbers in people.items()}
    return {who: numbers for who, numbers in there.items() if len(numbers) >= NEEDED}


def drawn_for_testing(people: People, seed: int) -> set[str]:
    """The identities for testing, drawn by ``seed``: 287 of 2,887, and that share of others."""
    count = max(1, round(len(people) * PAPER_TEST / PAPER_IDENTITIES))
    order = np.random.default_rng([seed, 0]).permutation(len(people))
    names = list(people)
    return {names[i] for i in order[:count]}


def _sample(who: str, numbers: list[int], split: str, seed: int) -> Sample:
    """One target and three references, drawn by ``seed`` and identity."""
    drawn = np.random.default_rng([seed, 1, int(who)]).permutation(numbers)[:NEEDED]
    files = [f"images/celeba-{who}/{number}.png" for number in drawn]
    return Sample(
        id=f"celeba-{who}-{drawn[0]}",
        identity=f"celeba-{who}",
        split=split,
        target=files[0],
        references=tuple(files[1:]),
        source=f"{IMAGES}/{drawn[0]}.jpg",
    )


def _root(source: Path) -> Path:
    if not source.is_dir():
        raise FsrstError(f"{source} is not a folder; {LAYOUT}")
    inside = source / "CelebAMask-HQ"
    root = inside if inside.is_dir() and not (source / IMAGES).is_dir() else source
    if not (root / IMAGES).is_dir():
        raise FsrstError(f"{root / IMAGES} is missing; {LAYOUT}")
    if not (root / MAPPING).is_file():
        raise FsrstError(f"{root / MAPPING} is missing; {LAYOUT}")
    return root


def _names_in(folder: Path) -> set[str]:
    return set(os.listdir(folder))


def _identity_file(source: Path, named: str | Path | None) -> Path:
    if named is not None:
        return Path(named)
    for folder in (source, source.parent):
        if (folder / IDENTITIES).is_file():
            return folder / IDENTITIES
    raise FsrstError(
        f"{source / IDENTITIES} is missing; it comes with CelebA, not with CelebAMask-HQ: put it"
        " there or name it by --identities"
    )
