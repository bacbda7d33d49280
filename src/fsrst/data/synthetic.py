"""A data set of drawn faces: for tests, smoke runs and first tries on any machine.

Nobody real is in it. What a small picture cannot tell (freckles, irises, strands, patterns) is the
same in all pictures of one person, so references really help. Raw tree: none. Command:
``fsrst prepare synthetic OUT``.
"""

from collections.abc import Mapping
from pathlib import Path

from fsrst.data.drawing import draw_face
from fsrst.data.manifest import Manifest, Sample, refuse_another_set, withdraw, write_manifest
from fsrst.errors import FsrstError
from fsrst.image import write_image
from fsrst.progress import Progress

__all__ = ["draw_face", "write_synthetic"]

NUMBERS_PER_SEED = 100_000  # people of one seed: no person is drawn for two seeds


def write_synthetic(
    root: str | Path,
    *,
    identities: int = 64,
    views: int = 8,
    size: int = 128,
    seed: int = 13,
    splits: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Draw ``identities`` people in ``views`` pictures each.

    Every picture is the target of one sample, with all others of the person as references, the
    next view first. ``splits`` gives the number of identities of each split, in order (None: one
    in eight, at least two of four or more, is "val", the others "train"). Drawn faces at ``root``
    are replaced.

    Raises
    ------
    FsrstError
        If the numbers do not fit together, ``root`` holds another data set, or cannot be written.
    """
    root = Path(root)
    if splits is None:
        val = max(2 if identities >= 4 else 1, identities // 8)  # two: with a wrong person
        splits = {"train": identities - val, "val": val}
    if views < 2 or not 2 <= identities <= NUMBERS_PER_SEED or min(splits.values()) < 0:
        raise FsrstError(
            f"{identities} identities in {views} views, splits {dict(splits)}: expected 2 to"
            f" {NUMBERS_PER_SEED} identities in two views or more, and no negative split"
        )
    if sum(splits.values()) != identities:
        raise FsrstError(f"splits {dict(splits)} do not add up to {identities} identities")
    refuse_another_set(root, "synthetic")
    withdraw(root)
    split_of = [name for name, count in splits.items() for _ in range(count)]
    samples: list[Sample] = []
    for index, split in enumerate(split_of):
        number = seed * NUMBERS_PER_SEED + index
        identity = f"drawn-{number:07d}"
        files = [f"images/{split}/{identity}/{view:03d}.png" for view in range(views)]
        for view, file in enumerate(files):
            write_image(root / file, draw_face(number, view, size))
            samples.append(
                Sample(
                    id=f"{identity}-{view:03d}",
                    identity=identity,
                    split=split,
                    target=file,
                    references=tuple(files[view + 1 :] + files[:view]),
                    source=f"draw_face({number}, {view}, {size})",
                )
            )
        if progress:
            progress(index + 1, identities, identity)
    _remove_others(root, {sample.target for sample in samples})
    made_by = {"prepare": "synthetic", "identities": identities, "views": views, "seed": seed}
    info = {"name": root.resolve().name, "size": size, "made_by": dict.fromkeys(splits, made_by)}
    return write_manifest(root, samples, info)


def _remove_others(root: Path, files: set[str]) -> None:
    """Delete the drawn pictures that are not among ``files``, and folders that are empty then."""
    for path in (root / "images").glob("*/drawn-[0-9]*/[0-9]*.png"):
        if path.relative_to(root).as_posix() not in files:
            path.unlink()
            for folder in (path.parent, path.parent.parent):
                if not any(folder.iterdir()):
                    folder.rmdir()
