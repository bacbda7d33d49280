"""The pictures that ``fsrst upscale`` reads: found in folders, their heads cut out, reduced."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsrst.cli.output import note
from fsrst.errors import FsrstError
from fsrst.files import target_of

if TYPE_CHECKING:
    from fsrst.image import Pixels
    from fsrst.runtime.upscaler import Upscaler

    Square = tuple[int, int, int]

SHOWN_NAMES = 3  # of files that are left out


class UnusableError(FsrstError):
    """An input that cannot be read, or is too small; others of its folder may be usable."""


class NoFaceError(UnusableError):
    """A photograph in which no face is found."""


class Reader:
    """Reads inputs as the options ask: head cut out, reduced, of the model's size.

    ``square``: (left, top, side) [px] of the head, where it is not searched for. ``photograph`` is
    the whole picture that the last head was cut out of.
    """

    photograph: Pixels

    def __init__(
        self,
        upscaler: Upscaler,
        find_face: bool,
        square: Square | None,
        resize: bool,
        max_side: int | None,
    ) -> None:
        from fsrst.runtime.upscaler import MAX_SIDE

        if max_side is not None and upscaler.lr_size is not None:
            raise FsrstError(
                f"--max-side: {upscaler.model} takes one size only; --resize makes it that"
            )
        self.upscaler, self.square, self.resize = upscaler, square, resize
        self.cuts = find_face or square is not None
        self.max_side = max_side or (MAX_SIDE if self.cuts else None)
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
        if self.square is not None:
            self._check_square(path, width, height)
        elif not self.cuts:
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

        if self.cuts:
            self.photograph, place = self._head(path)
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
        if self.cuts:
            note_if_nothing_gained(path, width, self.upscaler.scale * wide)
        facts = {"head": head, "resized_from": None if same else [width, height]}
        return crop_to(pixels, wide, high), facts

    def _head(self, path: Path) -> tuple[Pixels, Square]:
        """The photograph, and the head's square in it."""
        if self.square is None:
            try:
                return _found_head(path)
            except NoFaceError as error:
                by_hand = "turn it upright, or give the head's square by --box LEFT,TOP,SIDE"
                raise NoFaceError(f"{error}; {by_hand}") from error
        pixels = _readable(path)
        self._check_square(path, pixels.shape[1], pixels.shape[0])
        return pixels, self.square

    def _check_square(self, path: Path, width: int, height: int) -> None:
        left, top, side = self.square or (0, 0, 1)
        if min(left, top) < 0 or side < 1 or left + side > width or top + side > height:
            raise UnusableError(
                f"{path} is {width}x{height}: the square of {side} px at {left},{top} (--box) is"
                " not within it"
            )

    def _wanted(self, path: Path, width: int, height: int) -> tuple[int, int]:
        """The input's size (width, height) [px] of a picture or head of another."""
        from fsrst.runtime.upscaler import MAX_SIDE, MIN_SIDE

        side = self.upscaler.lr_size
        if side is not None and (width, height) != (side, side):
            if not self.resize:
                what = "shows a head of" if self.cuts else "is"
                by_hand = "" if self.cuts else "crop the head and reduce it, or "
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
            hint = f"; --find-face or --box cut out, --max-side {MAX_SIDE} reduces"
        try:
            self.upscaler.check_size(height, width)
        except FsrstError as error:
            raise UnusableError(f"{path}: {error}{hint}") from error
        return width, height


def pictures_in(folder: Path) -> list[Path]:
    from fsrst.image import READ_SUFFIXES

    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    found = [p for p in files if p.suffix.lower() in READ_SUFFIXES]
    if not found:
        raise FsrstError(f"no pictures in {folder}; expected {', '.join(READ_SUFFIXES)}")
    _note_some(f"{folder}: by their suffix no pictures", [p for p in files if p not in found])
    inner = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    _note_some(f"{folder}: folders in it", sorted(inner))
    return found


def _note_some(what: str, paths: list[Path]) -> None:
    if paths:
        names = ", ".join(path.name for path in paths[:SHOWN_NAMES])
        note(f"{what}, left out: {names}{', ...' if paths[SHOWN_NAMES:] else ''}")


def reference_paths(named: list[Path], folders: list[Path]) -> list[Path]:
    """The references named one by one, and those of folders: each once, and of folders not what
    this program made, whose detail is an estimate."""
    from fsrst.image import made_here

    paths = list(named)
    for folder in folders:
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "does not exist"
            raise FsrstError(f"--refs-dir {folder} {what}; expected a folder of pictures")
        there = pictures_in(folder)
        ours = [path for path in there if made_here(path)]
        _note_some(f"{folder}: made by fsrst, so no references", ours)
        paths += [path for path in there if path not in ours]
    once: dict[Path, Path] = {}
    for path in paths:
        once.setdefault(target_of(path), path)
    return list(once.values())


def note_if_made_here(named: list[Path]) -> None:
    """Say which of the references that are named one by one are results of this program."""
    from fsrst.image import made_here

    for path in named:
        if made_here(path):
            note(f"{path}: made by fsrst; its detail is an estimate, and would be taken for true")


def note_if_nothing_gained(path: Path, side: int, made: int) -> None:
    """Say it where a head of ``side`` px was reduced so far that ``made`` px are no more."""
    if side >= made:
        note(
            f"{path}: the head has {side} px already and the result {made}: nothing is gained but"
            " what the reduction takes away"
        )


def without_input(references: list[tuple[Path, Pixels]], source: Path) -> list[tuple[Path, Pixels]]:
    """References are other pictures: the input itself among them would be read as one of them."""
    return [pair for pair in references if target_of(pair[0]) != target_of(source)]


def note_own_references(references: list[tuple[Path, Pixels]], sources: list[Path]) -> None:
    """Say which inputs are among the references."""
    own = {target_of(path) for path, _ in references} & {target_of(path) for path in sources}
    if len(sources) > 1 and own:
        note(f"{len(own)} of the inputs are references too, of the others; none is its own")
    elif own:
        note(f"{sources[0]}: the input itself is no reference; left out of them")


def read_references(
    paths: list[Path], find_face: bool, named: list[Path]
) -> list[tuple[Path, Pixels]]:
    """The pictures, or their heads. Photographs without a face are left out and named, and so are
    copies of others, which would count twice, and what cannot be read, but for those ``named`` one
    by one."""
    found: list[tuple[Path, Pixels]] = []
    first: dict[tuple[tuple[int, ...], bytes], Path] = {}
    faceless = 0
    for path in paths:
        try:
            pixels = _cut(*_found_head(path)) if find_face else _readable(path)
            _note_if_animated(path)
        except UnusableError as error:
            if path in named and not isinstance(error, NoFaceError):
                raise
            note(f"{error}; left out")
            faceless += isinstance(error, NoFaceError)
        else:
            same = first.setdefault((pixels.shape, sha256(pixels.tobytes()).digest()), path)
            if same != path:
                note(f"{path}: the same picture as {same}; left out")
                continue
            found.append((path, pixels))
    if paths and not found:
        why = "no face found in any" if faceless == len(paths) else "nothing can be used"
        raise FsrstError(f"{why} of the {len(paths)} references")
    return found


def unusable_references(paths: list[Path], found: list[tuple[Path, Pixels]]) -> list[str]:
    """The references that cannot be read, show no face, or are copies of others."""
    used = {path for path, _ in found}
    return [str(path) for path in paths if path not in used]


def _readable(path: Path) -> Pixels:
    from fsrst.image import read_image

    try:
        return read_image(path)
    except FsrstError as error:
        raise UnusableError(str(error)) from error


def _note_if_animated(path: Path) -> None:
    from fsrst.image import animated, further_pages

    if animated(path):
        all_of_it = "; `fsrst video` takes all" if path.suffix.lower() == ".gif" else ""
        note(f"{path}: an animation; its first picture alone is taken{all_of_it}")
    elif pages := further_pages(path):
        note(f"{path}: {pages} further page{'s' * (pages > 1)}; its first alone is taken")


def _found_head(path: Path) -> tuple[Pixels, Square]:
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


def _cut(photograph: Pixels, place: Square) -> Pixels:
    import numpy as np

    left, top, side = place
    return np.ascontiguousarray(photograph[top : top + side, left : left + side])


def square_of_box(box: str) -> Square:
    """(left, top, side) [px] of ``--box``."""
    try:
        left, top, side = (int(number) for number in box.split(","))
    except ValueError as error:
        raise FsrstError(
            f"--box {box}: expected three whole numbers LEFT,TOP,SIDE in pixels, such as 80,20,400"
        ) from error
    return left, top, side
