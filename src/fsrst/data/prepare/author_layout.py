"""The layout of the paper authors' data folders -> prepared data set.

Origin: the folders that the authors' training script reads (varun-jois/FSRST). Raw tree::

    <source>/hr/<name>.png               the target
    <source>/rf/<name>/{1,2,3}.png       its references, best first; any number from 1 on

Command: ``fsrst prepare author SOURCE OUT --split train``
"""

from collections.abc import Mapping
from pathlib import Path

from fsrst.data.manifest import Manifest, Sample, check_place, take_out, write_manifest
from fsrst.errors import FsrstError
from fsrst.image import IMAGE_SUFFIXES, crop_to, read_image, write_image
from fsrst.progress import Progress

LAYOUT = "expected <source>/hr/<name>.png and <source>/rf/<name>/1.png, 2.png, 3.png"


def prepare_author_layout(
    source: str | Path,
    out: str | Path,
    *,
    split: str,
    size: int = 128,
    identities: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """One sample per picture in ``hr``; pictures of any size become ``size`` x ``size`` [px].

    The layout does not say who is in a picture. ``identities`` maps <name> to the person; without
    it every name counts as a person of its own, ``<split>-<name>``, because the authors number the
    pictures of each split from 1. Then nobody can tell whether a person is in two splits, and a
    "wrong person" may be the right one.

    Raises
    ------
    FsrstError
        If a folder or a reference is missing, a name has no identity in ``identities``, or a
        picture cannot be read; it names the path.
    """
    source, out = Path(source), Path(out)
    if not source.is_dir():
        raise FsrstError(f"{source} is not a folder; {LAYOUT}")
    for folder in (source / "hr", source / "rf"):
        if not folder.is_dir():
            raise FsrstError(f"{folder} is missing; {LAYOUT}")
    check_place(out, split=split, size=size, identities=(identities or {}).values())
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
        if identities is not None and name not in identities:
            raise FsrstError(f"{target}: the mapping of names to identities has no {name!r}")
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
                identity=identities[name] if identities is not None else f"{split}-{name}",
                split=split,
                target=file,
                references=files,
                source=target.relative_to(source).as_posix(),
            )
        )
        if progress:
            progress(done, len(targets), name)
    known = "mapping" if identities is not None else "one per picture"
    made_by = {split: {"prepare": "author", "identities": known}}
    info = {"name": out.name, "size": size, "made_by": made_by}
    return write_manifest(out, samples, info, split=split)


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
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    found.sort(key=lambda path: (not path.stem.isdecimal(), path.stem.zfill(12), path.name))
    for first, second in zip(found, found[1:], strict=False):
        if first.stem == second.stem:
            raise FsrstError(f"{first} and {second.name} have the same name; remove one")
    return found
