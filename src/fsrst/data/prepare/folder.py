"""A folder per identity -> prepared data set.

Origin: any collection sorted by person. Raw tree::

    <source>/<identity>/<picture>.jpg      (any depth below <identity>; any common format)

Command: ``fsrst prepare folder SOURCE OUT --split train``
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fsrst.data.manifest import Manifest, Sample, load_manifest, write_manifest
from fsrst.errors import FsrstError
from fsrst.image import IMAGE_SUFFIXES, crop_to, read_image, write_image

Progress = Callable[[int, int, str], None]


def prepare_folder(
    source: str | Path,
    out: str | Path,
    *,
    split: str,
    size: int = 128,
    crop: float = 1.0,
    references: int = 3,
    samples_per_identity: int | None = None,
    seed: int = 13,
    prefix: str = "",
    progress: Progress | None = None,
) -> Manifest:
    """Every identity with at least two pictures gives samples of one target and its references.

    Each picture is cut to the centred square of ``crop`` times its shorter side (1 keeps all) and
    reduced or enlarged to ``size`` [px] by Pillow's bicubic. Per identity the pictures are shuffled
    by ``seed``; each of the first ``samples_per_identity`` (None: all) becomes a target, the next
    ``references`` in that order (0: all the others) its references. Identities get ``prefix``,
    so that several sources can share a data set.

    Raises
    ------
    FsrstError
        If the layout is another one, or a picture cannot be read (it names the file).
    """
    source, out = Path(source), Path(out)
    if not source.is_dir():
        raise FsrstError(f"{source} is not a folder; expected <source>/<identity>/<pictures>")
    if not 0 < crop <= 1:
        raise FsrstError(f"--crop {crop} is not in (0, 1]")
    people: dict[str, list[Path]] = {}
    for person in sorted(path for path in source.iterdir() if path.is_dir()):
        pictures = sorted(p for p in person.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        if len(pictures) >= 2:
            people[person.name] = pictures
    if not people:
        raise FsrstError(
            f"{source} has no folder with two or more pictures; expected"
            " <source>/<identity>/<pictures>"
        )
    total = sum(len(pictures) for pictures in people.values())
    done = 0
    samples: list[Sample] = []
    for person_name, pictures in people.items():
        identity = prefix + person_name
        files = []
        for picture in pictures:
            inside = picture.relative_to(source / person_name).with_suffix("")
            file = f"images/{split}/{identity}/{'-'.join(inside.parts)}.png"
            pixels = read_image(picture)
            keep = max(1, round(min(pixels.shape[:2]) * crop))
            top, left = (pixels.shape[0] - keep) // 2, (pixels.shape[1] - keep) // 2
            square = np.ascontiguousarray(pixels[top : top + keep, left : left + keep])
            write_image(out / file, crop_to(square, size, size))
            files.append(file)
            done += 1
            if progress:
                progress(done, total, identity)
        order = np.random.default_rng([seed, *identity.encode()]).permutation(len(files))
        shuffled = [files[i] for i in order]
        for i, target in enumerate(shuffled[:samples_per_identity]):
            others = shuffled[i + 1 :] + shuffled[:i]
            samples.append(
                Sample(
                    id=f"{identity}-{Path(target).stem}",
                    identity=identity,
                    split=split,
                    target=target,
                    references=tuple(others[: references or None]),
                    source=str(pictures[files.index(target)].relative_to(source)),
                )
            )
    if prefix and (out / "manifest.jsonl").is_file():  # a further source of the same split
        samples += [
            sample
            for sample in load_manifest(out).samples
            if sample.split == split and not sample.identity.startswith(prefix)
        ]
    made_by = {
        f"{split}:{prefix}" if prefix else split: {
            "prepare": "folder",
            "crop": crop,
            "references": references,
            "samples_per_identity": samples_per_identity,
            "seed": seed,
        }
    }
    info = {"name": out.name, "size": size, "made_by": made_by}
    return write_manifest(out, samples, info, split=split)
