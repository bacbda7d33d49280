"""The pictures that ``fsrst upscale`` reads: found in folders, their heads cut out, reduced."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsrst.cli.output import note
from fsrst.errors import FsrstError

if TYPE_CHECKING:
    from fsrst.image import Pixels
    from fsrst.runtime.upscaler import Upscaler

SHOWN_NAMES = 3  # of files that are left out


class UnusableError(FsrstError):
    """An input that cannot be read, or is too small; others of its folder may be usable."""


class NoFaceError(UnusableError):
    """A photograph in which no face is found."""


class Reader:
    """Reads inputs as the options ask: head cut out, reduced, of the model's size.

    ``photograph`` is the whole picture that the last head was cut out of.
    """

    photograph: Pixels

    def __init__(
        self, upscaler: Upscaler, find_face: bool, resize: bool, max_side: int | None
    ) -> None:
        from fsrst.runtime.upscaler import MAX_SIDE

        if max_side is not None and upscaler.lr_size is not None:
            raise FsrstError(
                f"--max-side: {upscaler.model} takes one size only; --resize makes it that"
            )
        self.upscaler, self.find_face, self.resize = upscaler, find_face, resize
        self.max_side = max_side or (MAX_SIDE if find_face else None)
        if resize and upscaler.lr_size is None:
            note(f"{upscaler.model} takes any size, so --resize does nothing; --max-side reduces")

    def check(self, path: Path) -> None:
        """Refuse, from the beginning of a file, what could not be upscaled.

        Raises
        ------
        UnusableError
            If this picture could not.
        FsrstError
            If it has another size than the model takes.
        """
        from fsrst.image import image_size

        try:
            width, height = image_size(path)
        except FsrstError as error:
            raise UnusableError(str(error)) from error
        if not self.find_face:
            self._wanted(path, width, height)
        _note_if_animated(path)

    def read(self, path: Path) -> tuple[Pixels, dict[str, Any]]:
        """The input, and where in the picture it lies and what size it had.

        Raises
        ------
        UnusableError
            If this picture cannot be upscaled.
        FsrstError
            If none could: what finds faces is not installed.
        """
        from fsrst.image import crop_to

        if self.find_face:
            self.photograph, place = _head(path)
            pixels = _cut(self.photograph, place)
            head = dict(zip(("left", "top", "side"), place, strict=True))
        else:
            pixels, head = _readable(path), None
        height, width = pixels.shape[:2]
        wide, high = self._wanted(path, width, height)
        same = (wide, high) == (width, height)
        if self.upscaler.lr_size and not same:
            cut = min(width, height)
            note(
                f"{path}: {width}x{height}, centred {cut}x{cut} resized to {wide}x{high} (--resize)"
            )
        elif not same:
            note(f"{path}: {width}x{height} reduced to {wide}x{high} (--max-side)")
            made = self.upscaler.scale * wide
            if self.find_face and width >= made:
                note(
                    f"{path}: the head has {width} px already and the result {made}: nothing is"
                    " gained but what --max-side takes away"
                )
        facts = {"head": head, "resized_from": None if same else [width, height]}
        return crop_to(pixels, wide, high), facts

    def _wanted(self, path: Path, width: int, height: int) -> tuple[int, int]:
        """The input's size (width, height) [px] of a picture or head of another."""
        from fsrst.runtime.upscaler import MAX_SIDE, MIN_SIDE

        side = self.upscaler.lr_size
        if side is not None and (width, height) != (side, side):
            if not self.resize:
                what = "shows a head of" if self.find_face else "is"
                by_hand = "" if self.find_face else "crop the head and reduce it, or "
                raise FsrstError(
                    f"{path} {what} {width}x{height}, but {self.upscaler.model} takes"
                    f" {side}x{side}: {by_hand}let --resize cut the centred square and make it"
                    f" {side}x{side}"
                )
            return side, side
        longer, hint = max(width, height), ""
        if self.max_side is not None and longer > self.max_side:
            factor = self.max_side / longer
            hint = f"; it was {width}x{height} before --max-side {self.max_side}"
            width, height = max(1, round(width * factor)), max(1, round(height * factor))
        elif min(width, height) >= MIN_SIDE:
            hint = f"; --find-face cuts out, --max-side {MAX_SIDE} reduces"
        try:
            self.upscaler.check_size(width, height)
        except FsrstError as error:
            raise UnusableError(f"{path}: {error}{hint}") from error
        return width, height


def pictures_in(folder: Path) -> list[Path]:
    from fsrst.image import READ_SUFFIXES

    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    found = [p for p in files if p.suffix.lower() in READ_SUFFIXES]
    if not found:
        raise FsrstError(f"no pictures in {folder}; expected {', '.join(READ_SUFFIXES)}")
    others = [p.name for p in files if p not in found]
    if others:
        names = ", ".join(others[:SHOWN_NAMES]) + (", ..." if others[SHOWN_NAMES:] else "")
        note(f"{folder}: no pictures that can be read, left out: {names}")
    return found


def reference_paths(named: list[Path], folder: Path | None) -> list[Path]:
    if folder is None:
        return named
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise FsrstError(f"--refs-dir {folder} {what}; expected a folder of pictures")
    return [*named, *pictures_in(folder)]


def without_input(references: list[tuple[Path, Pixels]], source: Path) -> list[tuple[Path, Pixels]]:
    """References are other pictures: the input itself among them would be read as one of them."""
    return [pair for pair in references if pair[0].resolve() != source.resolve()]


def note_own_references(references: list[tuple[Path, Pixels]], sources: list[Path]) -> None:
    """Say which inputs are among the references."""
    own = {path.resolve() for path, _ in references} & {path.resolve() for path in sources}
    if len(sources) > 1 and own:
        note(f"{len(own)} of the inputs are references too, of the others; none is its own")
    elif own:
        note(f"{sources[0]}: the input itself is no reference; left out of them")


def read_references(paths: list[Path], find_face: bool, *, named: int) -> list[tuple[Path, Pixels]]:
    """The pictures, or their heads. Photographs without a face are left out and named, and so is
    what cannot be read, but for the first ``named``, which were asked for one by one."""
    found, faceless = [], 0
    for number, path in enumerate(paths):
        try:
            pixels = _cut(*_head(path)) if find_face else _readable(path)
            _note_if_animated(path)
        except UnusableError as error:
            if number < named and not isinstance(error, NoFaceError):
                raise
            note(f"{error}; left out")
            faceless += isinstance(error, NoFaceError)
        else:
            found.append((path, pixels))
    if paths and not found:
        why = "no face found in any" if faceless == len(paths) else "nothing can be used"
        raise FsrstError(f"{why} of the {len(paths)} references")
    return found


def unusable_references(paths: list[Path], found: list[tuple[Path, Pixels]]) -> list[str]:
    """The references that cannot be read or show no face."""
    used = {path for path, _ in found}
    return [str(path) for path in paths if path not in used]


def _readable(path: Path) -> Pixels:
    from fsrst.image import read_image

    try:
        return read_image(path)
    except FsrstError as error:
        raise UnusableError(str(error)) from error


def _note_if_animated(path: Path) -> None:
    from fsrst.image import animated

    if animated(path):
        note(f"{path}: an animation; its first picture alone is taken")


def _head(path: Path) -> tuple[Pixels, tuple[int, int, int]]:
    """A photograph, and (left, top, side) [px] of the head of the largest face in it.

    Raises
    ------
    NoFaceError, UnusableError
        If no face is found; if it is no picture.
    FsrstError
        If what finds faces is not installed.
    """
    from fsrst.data.faces import find_head

    pixels = _readable(path)
    head, faces = find_head(pixels)
    if head is None:
        raise NoFaceError(f"{path}: no face found (--find-face)")
    left, top, side = head
    among = f", the largest of {faces} faces" if faces > 1 else ""
    note(f"{path}: head of {side}x{side} px at {left},{top}{among} (--find-face)")
    return pixels, head


def _cut(photograph: Pixels, place: tuple[int, int, int]) -> Pixels:
    import numpy as np

    left, top, side = place
    return np.ascontiguousarray(photograph[top : top + side, left : left + side])


def square_of_box(box: str) -> tuple[int, int, int]:
    try:
        left, top, side = (int(number) for number in box.split(","))
    except ValueError as error:
        raise FsrstError(
            f"--box {box}: expected three whole numbers LEFT,TOP,SIDE in pixels, such as 80,20,400"
        ) from error
    return left, top, side
