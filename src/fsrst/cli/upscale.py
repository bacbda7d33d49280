"""``fsrst upscale``: one picture or a folder of them, with references of the same person."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fsrst import __version__
from fsrst.cli.inputs import (
    NoFaceError,
    Reader,
    UnusableError,
    note_if_made_here,
    note_own_references,
    read_references,
    reference_paths,
    square_of_box,
    unusable_references,
    without_input,
)
from fsrst.cli.output import note, progress_shown, say, say_json
from fsrst.cli.places import check_outputs, jobs_of
from fsrst.cli.remarks import note_if_all_too_small, note_if_hardly_used, note_left_out
from fsrst.errors import FsrstError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fsrst.image import Pixels
    from fsrst.runtime.upscaler import Upscaler

DEFAULT_MODEL = "fsrst2"
_SOFTWARE = {"Software": f"fsrst {__version__}"}  # what is left out of references by it

References = Annotated[
    list[Path] | None,
    typer.Option("--ref", metavar="FILE", help="A picture of the same person; repeat for more."),
]
ReferenceFolders = Annotated[
    list[Path] | None,
    typer.Option(
        "--refs-dir",
        metavar="FOLDER",
        help="A folder of pictures of the same person; repeat for more.",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model", metavar="NAME", help="A shipped model (see fsrst info), or an exported file."
    ),
]
Backend = Annotated[str, typer.Option(metavar="NAME", help="auto, onnxruntime, openvino or torch.")]
Precision = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="f32, bf16 or int8; the last two are for openvino."),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Threads to compute with; default: one a core."),
]
SelfEnsemble = Annotated[
    bool,
    typer.Option(
        help="Enlarge each picture as it is and in a mirror, and take the mean: 0.05 to 0.19 dB"
        " better, in twice the time.",
    ),
]


def upscale(
    source: Annotated[
        Path, typer.Argument(metavar="LR", help="The small picture, or a folder of them.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="The result: a picture, or of a folder a folder, in which they are PNG.",
        ),
    ],
    ref: References = None,
    refs_dir: ReferenceFolders = None,
    model: Model = DEFAULT_MODEL,
    backend: Backend = "auto",
    precision: Precision = None,
    threads: Threads = None,
    self_ensemble: SelfEnsemble = True,
    resize: Annotated[
        bool,
        typer.Option("--resize", help="For fsrst and fsrst-small: cut inputs to their 32x32."),
    ] = False,
    max_side: Annotated[
        int | None,
        typer.Option(
            min=8,
            metavar="PX",
            help="Reduce inputs to this longer side first; soft, noisy or compressed ones come out"
            " better so. With --find-face or --box 512 if nothing is said.",
        ),
    ] = None,
    find_face: Annotated[
        bool,
        typer.Option(
            "--find-face",
            help="For whole photographs, not frames: the head of the largest face is cut out of"
            " each, and alone written (see --whole). Needs pip install 'fsrst[faces]'.",
        ),
    ] = False,
    box: Annotated[
        str | None,
        typer.Option(
            metavar="LEFT,TOP,SIDE",
            help="The head's square in the input [px] instead of a search there: a face that is not"
            " found, or not the largest. --find-face beside it cuts heads out of references.",
        ),
    ] = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="With --find-face or --box: write the whole photograph, enlarged by bicubic as"
            " much as the head is (to 100 megapixels at most), with the head put back into it.",
        ),
    ] = False,
    strip: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write a strip: input, bicubic, result, references."
        ),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write which reference each pixel's detail came from."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make a small face four times as large, with the help of other pictures of the same person.

    LR shows a head, from 8 px to 512x512, no side over 1024. References may have any size: the
    largest centred part of the output's aspect is cut out and resized, so give heads, or let
    --find-face cut them out of photographs, the input too. Without references the model works on
    its own.
    """
    if whole and not (find_face or box):
        raise FsrstError("--whole puts back a head that was cut out; give --find-face or --box too")
    square = square_of_box(box) if box else None
    jobs = jobs_of(source, output)
    paths = reference_paths(ref or [], refs_dir or [])
    extra = {"--strip": strip, "--explain": explain}
    check_outputs([out for _, out in jobs], extra, [source, *paths])

    from fsrst.runtime.upscaler import open_upscaler

    start = time.perf_counter()
    upscaler = open_upscaler(
        model, backend, precision=precision, threads=threads, self_ensemble=self_ensemble
    )
    opened_ms = (time.perf_counter() - start) * 1000
    if explain is not None and not upscaler.explains:
        raise FsrstError(
            f"--explain: {model} does not say where its detail comes from; use fsrst2 or"
            " fsrst2-small"
        )
    note_if_made_here(ref or [])
    found = read_references(paths, find_face, ref or [])
    start = time.perf_counter()
    reader = Reader(upscaler, find_face, square, resize, max_side)
    work = _Work(upscaler, reader, found, jobs, whole=whole, strip=strip, explain=explain)
    run = {
        "model": upscaler.model,
        "backend": upscaler.backend,
        "precision": upscaler.precision,
        "self_ensemble": upscaler.self_ensemble,
        "references": len(work.used),
        "references_unusable": unusable_references(paths, found),
        "setup_ms": round(opened_ms + (time.perf_counter() - start) * 1000, 1),
    }
    with progress_shown() as progress:
        for done, (path, out) in enumerate(jobs, start=1):
            if str(path) in work.left_out:
                continue
            result = work.make(path, out)
            if result is not None and not as_json:
                _say_result(result, upscaler)
            if len(jobs) > 1:
                progress(done, len(jobs), path.name)
    faceless = bool(work.left_out) and all(work.left_out.values())
    if not work.results:
        why = "no face found in any" if faceless else "nothing could be made"
        raise FsrstError(f"{why} of the {len(jobs)} pictures in {source}")
    if faceless:
        note(f"{len(work.left_out)} of {len(jobs)} left out: no face found")
    if as_json:
        pictures = {name[2:]: str(path) if path else None for name, path in extra.items()}
        say_json({**run, **pictures, "results": work.results, "left_out": list(work.left_out)})
    note_if_all_too_small(found, work.results)
    if work.shared:
        note_if_hardly_used(work.results, find_face)
    if work.left_out and not faceless:
        unusable = [path for path, no_face in work.left_out.items() if not no_face]
        raise FsrstError(
            f"{len(unusable)} of {len(jobs)} pictures could not be used, such as {unusable[0]};"
            f" {len(work.results)} are written"
        )


class _Work:
    """Makes the pictures of one command, one after the other, and keeps what became of them.

    All inputs are looked at first, and the references of the first one encoded. ``shared``: the
    references' shares are told. ``left_out``: inputs, and whether for want of a face.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        reader: Reader,
        references: list[tuple[Path, Pixels]],
        jobs: list[tuple[Path, Path]],
        *,
        whole: bool,
        strip: Path | None,
        explain: Path | None,
    ) -> None:
        self.upscaler, self.reader, self.references = upscaler, reader, references
        self.jobs, self.whole, self.strip, self.explain = jobs, whole, strip, explain
        # in ONNX Runtime they cost nothing; OpenVINO computes the picture again for them
        asked = explain is not None or upscaler.backend != "openvino"
        self.shared = bool(references) and upscaler.explains and asked
        self.results: list[dict[str, Any]] = []
        self.left_out: dict[str, bool] = {}
        for path, _ in jobs:
            try:
                reader.check(path)
            except UnusableError as error:
                self._leave_out(path, error)
        note_own_references(references, [path for path, _ in jobs])
        self.used = without_input(references, jobs[0][0])
        upscaler.set_references([picture for _, picture in self.used])

    def make(self, path: Path, out: Path) -> dict[str, Any] | None:
        """Read, enlarge and write one picture -> what is said of it; None if it is left out."""
        others = without_input(self.references, path)
        if [place for place, _ in others] != [place for place, _ in self.used]:
            self.upscaler.set_references([picture for _, picture in others])
        self.used = others
        shared = self.shared or self.explain is not None
        try:
            made = _one(self.upscaler, self.reader, path, out, shared=shared, whole=self.whole)
            too_little = [others[i] for i in made.left_out]
            note_left_out(too_little, made.lr.shape[1::-1], self.results)
            made.result["references_left_out"] = [str(path) for path, _ in too_little]
            self.results.append(made.result)
            pictures = [picture for _, picture in others]
            _write_extra(self.upscaler, made, pictures, self.strip, self.explain)
        except UnusableError as error:
            self._leave_out(path, error)
            return None
        except FsrstError as error:
            raise FsrstError(_so_far(str(error), self.results, self.jobs)) from error
        return made.result

    def _leave_out(self, path: Path, error: UnusableError) -> None:
        """Go on with the others of a folder; alone it is an error."""
        if len(self.jobs) == 1:
            raise error
        note(f"{error}; left out")
        self.left_out[str(path)] = isinstance(error, NoFaceError)


class _Made(NamedTuple):
    """One picture: what was read, what came out, and what is said of it."""

    lr: Pixels
    sr: Pixels
    shares: NDArray[np.float32] | None  # of the references in each pixel of ``sr``
    left_out: list[int]  # positions of references that show hardly more than it
    result: dict[str, Any]


def _one(
    upscaler: Upscaler, reader: Reader, path: Path, out: Path, *, shared: bool, whole: bool
) -> _Made:
    """Read, enlarge and write one picture; ``shared``: also tell the references' shares."""
    from fsrst.image import write_image

    lr, facts = reader.read(path)
    sr, shares, ms = _enlarged(upscaler, lr, shared)
    picture = _in_photograph(sr, reader.photograph, facts["head"], path) if whole else sr
    left_out = upscaler.left_out(*lr.shape[:2])
    write_image(out, picture, notes(upscaler, upscaler.references - len(left_out)))
    result = {
        "input": str(path),
        "output": str(out),
        "size_in": [lr.shape[1], lr.shape[0]],
        "size_out": [sr.shape[1], sr.shape[0]],
        "whole": [picture.shape[1], picture.shape[0]] if whole else None,
        "references": upscaler.references,
        **facts,
        "ms": round(ms, 2),
    }
    if shares is not None:
        result["reference_shares"] = [round(float(s.mean()), 4) for s in shares]
    return _Made(lr, sr, shares, left_out, result)


def _write_extra(
    upscaler: Upscaler,
    made: _Made,
    references: list[Pixels],
    strip: Path | None,
    explain: Path | None,
) -> None:
    """What ``--strip`` and ``--explain`` ask for."""
    from fsrst.image import write_image

    if strip is not None:
        write_image(strip, _strip(upscaler, made, references), _SOFTWARE)
    if explain is not None and made.shares is not None:
        from fsrst.evaluate.explanation import explanation

        sheet = explanation(made.lr, made.sr, references, made.shares, made.left_out)
        write_image(explain, sheet, _SOFTWARE)


def notes(upscaler: Upscaler, references: int) -> dict[str, str]:
    """The notes in a result's file: what made it, and that its detail is an estimate."""
    from fsrst.evaluate.predict import model_name

    return {
        **_SOFTWARE,
        "Description": f"Face enlarged {upscaler.scale}x by a neural network;"
        " fine detail is estimated, not recorded",
        "Model": model_name(upscaler.model),  # not its place on this machine
        "Weights": str(upscaler.info.get("weights_hash", "unknown")),
        "Backend": upscaler.backend,
        "Precision": upscaler.precision,
        "References": str(references),
        "Self-ensemble": "mirror" if upscaler.self_ensemble else "none",
    }


def _enlarged(
    upscaler: Upscaler, lr: Pixels, shared: bool
) -> tuple[Pixels, NDArray[np.float32] | None, float]:
    """The result, the references' shares in it if asked for, and its milliseconds."""
    start = time.perf_counter()
    if shared and upscaler.precision == "f32":
        sr, shares = upscaler.explain(lr)
        return sr, shares, (time.perf_counter() - start) * 1000
    sr = upscaler(lr)
    ms = (time.perf_counter() - start) * 1000
    return sr, upscaler.explain(lr)[1] if shared else None, ms


def _in_photograph(head: Pixels, photograph: Pixels, place: dict[str, int], path: Path) -> Pixels:
    from fsrst.data.faces import put_back

    whole = put_back(head, photograph, (place["left"], place["top"], place["side"]))
    made, asked = len(whole) / len(photograph), len(head) / place["side"]
    if made < 0.99 * asked and asked > 1:
        note(
            f"{path}: the whole photograph is {made:.1f} times as large, not {asked:.1f} as its"
            " head: 100 megapixels are the most (--whole)"
        )
    return whole


def _say_result(result: dict[str, Any], upscaler: Upscaler) -> None:
    (w, h), (width, height) = result["size_in"], result["size_out"]
    references = result["references"] - len(result["references_left_out"])
    used = ""
    if references and "reference_shares" in result:
        used = f", {sum(result['reference_shares']):.0%} of the detail from them"
    around = "{}x{} with a head of ".format(*result["whole"]) if result["whole"] else ""
    say(
        f"{result['output']}: {around}{w}x{h} -> {width}x{height} in {result['ms']:.1f} ms"
        f" ({upscaler.model}, {counted(references)}{used}, {how(upscaler)})"
    )


def _so_far(error: str, results: list[dict[str, Any]], jobs: list[tuple[Path, Path]]) -> str:
    if len(jobs) > 1:
        return f"{error}; {len(results)} of {len(jobs)} are written"
    return f"{error}; {jobs[0][1]} is written" if results else error


def how(upscaler: Upscaler) -> str:
    twice = ", self-ensemble" if upscaler.self_ensemble else ""
    return f"{upscaler.backend} {upscaler.precision}{twice}"


def counted(references: int) -> str:
    return "1 reference" if references == 1 else f"{references} references"


def _strip(upscaler: Upscaler, made: _Made, references: list[Pixels]) -> Pixels:
    from fsrst.evaluate.strips import Panel, panel_height, strip
    from fsrst.image import crop_to, resize_bicubic

    lr, sr = made.lr, made.sr
    height, width = sr.shape[:2]
    panels = [
        Panel(f"input {lr.shape[1]}x{lr.shape[0]}", lr),
        Panel("bicubic", resize_bicubic(lr, width, height)),
        Panel(upscaler.model, sr, counted(len(references) - len(made.left_out))),
    ]
    for i, reference in enumerate(references):
        remark = "left out" if i in made.left_out else ""
        panels.append(Panel(f"reference {i + 1}", crop_to(reference, width, height), remark))
    return strip(panels, height=panel_height(sr))
