"""The layout of the paper authors' data folders -> prepared data set.

Origin: the folders that the authors' training script reads (varun-jois/FSRST). Raw tree::

    <source>/hr/<name>.png               the target
    <source>/rf/<name>/{1,2,3}.png       its references, best first; any number from 1 on

Command: ``fsrst prepare author SOURCE OUT --split train``
"""

from hashlib import sha256
from pathlib import Path

from fsrst.data.manifest import (
    Manifest,
    Sample,
    check_place,
    require_file_name,
    take_out,
    write_manifest,
)
from fsrst.errors import FsrstError
from fsrst.image import READ_SUFFIXES, crop_to, read_image, write_image
from fsrst.progress import Progress

LAYOUT = "expected <source>/hr/<name>.png and <source>/rf/<name>/1.png, 2.png, 3.png"


def prepare_author_layout(
    source: str | Path,
    out: str | Path,
    *,
    split: str,
    size: int = 128,
    progress: Progress | None = None,
) -> Manifest:
    """One sample per picture in ``hr``; pictures of any size become ``size`` x ``size`` [px].

    The layout does not say who is in a picture. Names that share a picture are of one person, all
    others count as a person of their own, ``<split>-<first name>`` (the authors number the pictures
    of each split from 1). So nobody can tell whether a person is in two splits, and a "wrong
    person" may be the right one.

    Raises
    ------
    FsrstError
        If a folder or a reference is missing, a target is its own reference, or a picture cannot be
        read; it names the path.
    """
    source, out = Path(source), Path(out)
    if not source.is_dir():
        raise FsrstError(f"{source} is not a folder; {LAYOUT}")
    for folder in (source / "hr", source / "rf"):
        if not folder.is_dir():
            raise FsrstError(f"{folder} is missing; {LAYOUT}")
    check_place(out, split=split, size=size)
    targets = _pictures(source / "hr")
    if not targets:
        raise FsrstError(f"no picture in {source / 'hr'}; {LAYOUT}")
    references_of: dict[Path, list[Path]] = {}
    for target in targets:  # all of them, before a picture is written
        name = target.stem
        if not (source / "rf" / name).is_dir():
            raise FsrstError(
                f"{source / 'rf' / name} is missing ({target} has no references); {LAYOUT}"
            )
        references_of[target] = _pictures(source / "rf" / name)
        if not references_of[target]:
            raise FsrstError(f"{source / 'rf' / name / '1.png'} is missing; {LAYOUT}")
        for path in (target, *references_of[target]):
            require_file_name(f"{split}-{path.stem}", path)
    identity_of = _identities(references_of, split)
    take_out(out, split)  # a stopped run must not leave half of each
    samples: list[Sample] = []
    for done, (target, references) in enumerate(references_of.items(), start=1):
        name = target.stem
        file = f"images/{split}/{name}/target.png"
        files = tuple(f"images/{split}/{name}/reference-{path.stem}.png" for path in references)
        for path, made in zip((target, *references), (file, *files), strict=True):
            write_image(out / made, crop_to(read_image(path), size, size))
        samples.append(
            Sample(
                id=f"{split}-{name}",
                identity=identity_of[target],
                split=split,
                target=file,
                references=files,
                source=target.relative_to(source).as_posix(),
            )
        )
        if progress:
            progress(done, len(targets), name)
    made_by = {split: {"prepare": "author", "identities": "by shared pictures"}}
    info = {"name": out.resolve().name, "size": size, "made_by": made_by}
    return write_manifest(out, samples, info, split=split)


def _identities(references_of: dict[Path, list[Path]], split: str) -> dict[Path, str]:
    """Target -> person; targets with a picture in common, their own or a reference, are of one,
    called after the first of them.

    Raises
    ------
    FsrstError
        If a picture cannot be read, or one of a target's references is the target.
    """
    person_of: dict[Path, str] = {}
    seen: dict[str, str] = {}  # pixels -> person
    for target, references in references_of.items():
        own = _pixels(target)
        content = {_pixels(path): path for path in references}
        if own in content:
            raise FsrstError(f"{content[own]} is the same picture as {target}; take it out")
        here = {seen[picture] for picture in (own, *content) if picture in seen}
        known = [person for person in dict.fromkeys(person_of.values()) if person in here]
        person = known[0] if known else f"{split}-{target.stem}"
        person_of[target] = person
        seen.update(dict.fromkeys((own, *content), person))
        for other in known[1:]:  # this one joins them
            person_of = {t: person if p == other else p for t, p in person_of.items()}
            seen = {picture: person if p == other else p for picture, p in seen.items()}
    return person_of


def _pixels(path: Path) -> str:
    """Names a picture's pixels."""
    pixels = read_image(path)
    return f"{pixels.shape} {sha256(pixels.tobytes()).hexdigest()}"


def _pictures(folder: Path) -> list[Path]:
    """Pictures in ``folder``, those with a number for a name by its value.

    Raises
    ------
    FsrstError
        If two differ by their suffix only.
    """
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in READ_SUFFIXES and not path.name.startswith(".")
    ]
    found.sort(key=lambda path: (not path.stem.isdecimal(), path.stem.zfill(12), path.name))
    for first, second in zip(found, found[1:], strict=False):
        if first.stem == second.stem:
            raise FsrstError(f"{first} and {second.name} have the same name; remove one")
    return found
