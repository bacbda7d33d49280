"""``fsrst video``: a clip of a head, with pictures of the same person; sound and times stay."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsrst.cli.inputs import (
    note_if_made_here,
    note_if_nothing_gained,
    read_references,
    reference_paths,
    square_of_box,
    unusable_references,
)
from fsrst.cli.output import note, progress_shown, say, say_json
from fsrst.cli.places import check_places
from fsrst.cli.remarks import note_if_all_too_small, note_if_hardly_used, note_left_out
from fsrst.cli.upscale import (
    DEFAULT_MODEL,
    Backend,
    Model,
    Precision,
    ReferenceFolders,
    References,
    SelfEnsemble,
    Threads,
    counted,
    how,
)
from fsrst.errors import FsrstError
from fsrst.files import target_of

if TYPE_CHECKING:
    from fsrst.data.prepare.video import Square
    from fsrst.image import Pixels
    from fsrst.runtime.upscaler import Upscaler


def video(
    source: Annotated[Path, typer.Argument(metavar="CLIP", help="The small clip.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="The result: .mp4, .mkv or .mov.")
    ],
    ref: References = None,
    refs_dir: ReferenceFolders = None,
    model: Model = DEFAULT_MODEL,
    backend: Backend = "auto",
    precision: Precision = None,
    threads: Threads = None,
    self_ensemble: SelfEnsemble = False,
    find_face: Annotated[
        bool,
        typer.Option(
            "--find-face",
            help="Cut one square out of all frames, the head of the largest face in five of them,"
            " and the heads out of the references. Needs pip install 'fsrst[faces]'.",
        ),
    ] = False,
    box: Annotated[
        str | None,
        typer.Option(metavar="LEFT,TOP,SIDE", help="That square [px] instead of a search."),
    ] = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="With --find-face or --box: write whole frames, enlarged by bicubic as much as the"
            " head is, with the head put back into them.",
        ),
    ] = False,
    max_side: Annotated[
        int | None,
        typer.Option(
            min=8,
            metavar="PX",
            help="Reduce frames, or the squares, to this longer side first; soft, noisy or"
            " compressed ones come out better so. Of squares 512 if nothing is said.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make the small head of a clip four times as large, with the help of pictures of its person.

    The clip's pictures become H.264; its times, counted from 0, and all its sound stay as they are.
    Other tracks are left out. With `--backend openvino --precision bf16` it is faster. Ctrl-C ends
    it, and keeps what was made until then.
    """
    from fsrst.data.clip import COMPLETE, WRITTEN_SUFFIXES, UnusableClip, frames_of, rewrite
    from fsrst.image import READ_SUFFIXES
    from fsrst.runtime.cores import physical_cores
    from fsrst.runtime.upscaler import open_upscaler

    if output.suffix.lower() not in WRITTEN_SUFFIXES:
        raise FsrstError(f"cannot write {output}: expected {', '.join(WRITTEN_SUFFIXES)}")
    if whole and not (find_face or box):
        raise FsrstError("--whole puts back a head that was cut out; give --find-face or --box too")
    if not source.is_file():
        what = "it is a pipe or device; save it as a file" if source.exists() else "no such file"
        what = "it is a folder" if source.is_dir() else what
        raise FsrstError(f"cannot read {source}: {what}; expected a clip")
    if source.suffix.lower() in READ_SUFFIXES and source.suffix.lower() != ".gif":
        raise FsrstError(f"{source} is a picture; make it large with `fsrst upscale`")
    paths = reference_paths(ref or [], refs_dir or [])
    if target_of(output) in {target_of(path) for path in (source, *paths)}:
        raise FsrstError(f"{output} is an input and would be overwritten; choose another output")
    check_places([output])

    upscaler = open_upscaler(
        model, backend, precision=precision, threads=threads, self_ensemble=self_ensemble
    )
    if max_side is not None and upscaler.lr_size is not None:
        raise FsrstError(f"--max-side: {upscaler.model} takes one size only; leave it out")
    note_if_made_here(ref or [])
    found = read_references(paths, find_face, ref or [])
    upscaler.set_references([picture for _, picture in found])
    try:
        square = _square(source, find_face, box)
        promised = frames_of(source)[0]
        frames = _Frames(
            source, upscaler, found, square, whole, max_side, heads=find_face, length=promised
        )
        start = time.perf_counter()
        with progress_shown() as progress:

            def change(number: int, picture: Pixels) -> Pixels:
                made = frames(number, picture)
                progress(number + 1, max(promised, number + 1), source.name)
                return made

            done = rewrite(source, output, change, threads=threads or physical_cores())
    except UnusableClip as error:
        raise FsrstError(f"{source}: {error}") from error
    seconds = time.perf_counter() - start
    result: dict[str, Any] = {
        "input": str(source),
        "output": str(output),
        "model": upscaler.model,
        "backend": upscaler.backend,
        "precision": upscaler.precision,
        "self_ensemble": upscaler.self_ensemble,
        "references": upscaler.references,
        "references_unusable": unusable_references(paths, found),
        "references_left_out": frames.left_out,
        "reference_shares": frames.shares,
        "head": dict(zip(("left", "top", "side"), square, strict=True)) if square else None,
        "frames": done.frames,
        "frames_promised": promised,
        "size_in": list(frames.size_in),
        "size_out": [upscaler.scale * side for side in frames.size_in],
        "whole": list(done.size) if whole else None,
        "sound": done.sound,
        "seconds": round(seconds, 2),
        "interrupted": done.interrupted,
    }
    if as_json:
        say_json(result)
    else:
        (w, h), (width, height) = result["size_in"], result["size_out"]
        around = "{}x{} with a head of ".format(*done.size) if whole else ""
        used = counted(upscaler.references - len(frames.left_out))
        say(
            f"{output}: {done.frames} frame{'s' if done.frames != 1 else ''},"
            f" {around}{w}x{h} -> {width}x{height} in {seconds:.1f} s"
            f" ({upscaler.model}, {used}, {how(upscaler)};"
            f" {f'sound {done.sound}' if done.sound else 'no sound'})"
        )
    if done.interrupted:
        note(f"interrupted after {done.frames} frames; they are in {output}")
        raise KeyboardInterrupt
    if done.frames < COMPLETE * promised:
        raise FsrstError(
            f"{source} ends after {done.frames} of {promised} frames; they are in {output}"
        )


class _Frames:
    """Makes the clip's pictures large, one by one; all have the first one's size."""

    def __init__(
        self,
        source: Path,
        upscaler: Upscaler,
        references: list[tuple[Path, Pixels]],
        square: Square | None,
        whole: bool,
        max_side: int | None,
        *,
        heads: bool,
        length: int,
    ) -> None:
        from fsrst.runtime.upscaler import MAX_SIDE

        self.source, self.upscaler, self.references = source, upscaler, references
        self.square, self.whole, self.heads = square, whole, heads  # heads: of references alone
        self.max_side = max_side or (MAX_SIDE if square else None)
        self.size_in = (0, 0)  # of what is made large: width, height [px]
        self.left_out: list[str] = []
        self.asked = {0, length // 4, length // 2}  # a clip may begin with a title, or in the dark
        # of each reference in the detail of that of these pictures which they gave the most
        self.shares: list[float] | None = None
        self._shape: tuple[int, ...] = ()

    def __call__(self, number: int, picture: Pixels) -> Pixels:
        from fsrst.image import crop_to

        if number == 0:
            self._begin(picture)
        if picture.shape != self._shape:
            (height, width), (before, wide) = picture.shape[:2], self._shape[:2]
            raise FsrstError(
                f"{self.source}: frame {number} has {width}x{height}, those before"
                f" {wide}x{before}; cut the clip there"
            )
        lr = crop_to(self._cut(picture), *self.size_in)
        sr = self.upscaler(lr)
        if number == 0:
            note_if_all_too_small(self.references, [self._facts()])
        if number in self.asked:
            self._look_at_shares(lr, last=number == max(self.asked))
        if not (self.whole and self.square):
            return sr
        from fsrst.data.faces import put_back

        return put_back(sr, picture, self.square)

    def _facts(self) -> dict[str, Any]:
        return {
            "references": self.upscaler.references,
            "references_left_out": self.left_out,
            "size_in": self.size_in,
            "reference_shares": self.shares,
        }

    def _look_at_shares(self, lr: Pixels, *, last: bool) -> None:
        """Say in the middle of the clip, not after it, that its references give it nothing."""
        if not self.upscaler.explains or len(self.left_out) == len(self.references):
            return
        shares = [round(float(share.mean()), 4) for share in self.upscaler.explain(lr)[1]]
        self.shares = max(self.shares or shares, shares, key=sum)
        if last:
            note_if_hardly_used([self._facts()], self.heads)

    def _cut(self, picture: Pixels) -> Pixels:
        if self.square is None:
            return picture
        left, top, side = self.square
        return picture[top : top + side, left : left + side]

    def _begin(self, picture: Pixels) -> None:
        """Fix the size of what is made large, and say which references show no more than it."""
        from fsrst.data.prepare.video import inside
        from fsrst.runtime.upscaler import MIN_SIDE

        self._shape = picture.shape
        if self.square is not None:
            inside(self.square, picture.shape[:2], self.source)
        height, width = self._cut(picture).shape[:2]
        side = self.upscaler.lr_size
        if side is not None and (width, height) != (side, side):
            if self.square is None:
                raise FsrstError(
                    f"{self.source} is {width}x{height}, but {self.upscaler.model} takes"
                    f" {side}x{side}: --find-face or --box cut out the head, which becomes that"
                )
            note(f"{self.upscaler.model} takes {side}x{side}: {width}x{height} become that")
            width = height = side
        elif self.max_side is not None and max(width, height) > self.max_side:
            before, factor = f"{width}x{height}", self.max_side / max(width, height)
            width, height = max(1, round(width * factor)), max(1, round(height * factor))
            note(f"{self.source}: {before} reduced to {width}x{height} (--max-side)")
        if self.square is not None:
            note_if_nothing_gained(self.source, self.square[2], self.upscaler.scale * width)
        try:
            self.upscaler.check_size(height, width)
        except FsrstError as error:
            cut = "" if self.square else "--find-face or --box cut out the head, "
            hint = f"; {cut}--max-side reduces" if min(width, height) >= MIN_SIDE else ""
            raise FsrstError(f"{self.source}: {error}{hint}") from error
        self.size_in = (width, height)
        positions = self.upscaler.left_out(height, width)
        self.left_out = [str(self.references[i][0]) for i in positions]
        note_left_out([self.references[i] for i in positions], self.size_in, [])


def _square(source: Path, find_face: bool, box: str | None) -> Square | None:
    """(left, top, side) [px] that is cut out of all frames; None for whole frames."""
    from fsrst.data.clip import head_of

    if box is not None:
        return square_of_box(box)
    if not find_face:
        return None
    square = head_of(source)
    if square is None:
        raise FsrstError(f"{source}: no face found; give its square by --box LEFT,TOP,SIDE")
    left, top, side = square
    note(f"{source}: head of {side}x{side} px at {left},{top} (--find-face)")
    return square
