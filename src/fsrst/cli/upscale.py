"""``fsrst upscale``: one picture or a folder of them, with references of the same person."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsrst import __version__
from fsrst.cli.output import note, progress_shown, say, say_json
from fsrst.errors import FsrstError

if TYPE_CHECKING:
    from fsrst.image import Pixels
    from fsrst.runtime.upscaler import Upscaler

DEFAULT_MODEL = "fsrst2"

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


def upscale(
    source: Annotated[Path, typer.Argument(metavar="LR", help="A picture, or a folder of them.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="OUT", help="The result: a picture, or a folder."),
    ],
    ref: Annotated[
        list[Path] | None,
        typer.Option(
            "--ref", metavar="FILE", help="A picture of the same person; repeat for more."
        ),
    ] = None,
    refs_dir: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A folder of pictures of the same person.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    backend: Backend = "auto",
    precision: Precision = None,
    threads: Threads = None,
    resize: Annotated[
        bool, typer.Option("--resize", help="Cut inputs to the model's size, if it has one.")
    ] = False,
    find_face: Annotated[
        bool,
        typer.Option(
            "--find-face", help="Whole photographs: cut out the head of the largest face of each."
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
    """Upscale a small face with the help of other pictures of the same person.

    References may have any size: the largest centred part of the output's aspect is cut out and
    resized, so give heads, or let --find-face cut them out of photographs, the input too. Without
    references the model works on its own.
    """
    jobs = _jobs(source, output)
    reference_paths = _references(ref or [], refs_dir)
    extra = {"--strip": strip, "--explain": explain}
    check_outputs([out for _, out in jobs], extra, [source, *reference_paths])

    from fsrst.image import read_image, write_image
    from fsrst.runtime.upscaler import open_upscaler

    read = _head if find_face else read_image
    references = [read(path) for path in reference_paths]
    start = time.perf_counter()
    upscaler = open_upscaler(model, backend, precision=precision, threads=threads)
    if explain is not None and not upscaler.explains:
        raise FsrstError(
            f"--explain: {model} does not say where its detail comes from; use fsrst2 or"
            " fsrst2-small"
        )
    inputs = [(path, out, *_fitted(path, read(path), upscaler, resize)) for path, out in jobs]
    upscaler.set_references(references)
    setup_ms = (time.perf_counter() - start) * 1000

    results: list[dict[str, Any]] = []
    with progress_shown() as progress:
        for done, (path, out, lr, resized_from) in enumerate(inputs, start=1):
            start = time.perf_counter()
            sr = upscaler(lr)
            ms = (time.perf_counter() - start) * 1000
            write_image(out, sr, notes(upscaler))
            results.append(
                {
                    "input": str(path),
                    "output": str(out),
                    "size_in": [lr.shape[1], lr.shape[0]],
                    "size_out": [sr.shape[1], sr.shape[0]],
                    "resized_from": resized_from,
                    "ms": round(ms, 2),
                }
            )
            if strip is not None:
                write_image(strip, _strip(upscaler, lr, sr, references))
            if explain is not None:
                shares = _explained(upscaler, lr, sr, references, explain)
                results[-1]["reference_shares"] = shares
            if len(inputs) > 1:
                progress(done, len(inputs), path.name)
    run = {
        "model": upscaler.model,
        "backend": upscaler.backend,
        "precision": upscaler.precision,
        "references": upscaler.references,
        "setup_ms": round(setup_ms, 1),
    }
    if as_json:
        pictures = {name[2:]: str(path) if path else None for name, path in extra.items()}
        say_json({**run, **pictures, "results": results})
        return
    count = _counted(references)
    for result in results:
        (w, h), (width, height) = result["size_in"], result["size_out"]
        say(
            f"{result['output']}: {w}x{h} -> {width}x{height} in {result['ms']:.1f} ms"
            f" ({run['model']}, {count}, {run['backend']} {run['precision']})"
        )


def notes(upscaler: Upscaler) -> dict[str, str]:
    """The PNG text entries of a result: what made it, and that its detail is an estimate."""
    return {
        "Software": f"fsrst {__version__}",
        "Description": f"Face enlarged {upscaler.scale}x by a neural network;"
        " fine detail is estimated, not recorded",
        "Model": upscaler.model,
        "Weights": str(upscaler.info.get("weights_hash", "unknown")),
        "Backend": upscaler.backend,
        "Precision": upscaler.precision,
        "References": str(upscaler.references),
    }


def _jobs(source: Path, output: Path) -> list[tuple[Path, Path]]:
    """(input, output) of every picture to make."""
    if not source.is_dir():
        if not source.exists():
            raise FsrstError(f"cannot read {source}: no such file or folder")
        if output.is_dir():
            raise FsrstError(f"{output} is a folder; name a file such as {output / source.name}")
        return [(source, output)]
    if output.exists() and not output.is_dir():
        raise FsrstError(f"{source} is a folder, so {output} must be one too; it is a file")
    pictures = _pictures_in(source)
    jobs: dict[Path, Path] = {}
    for picture in pictures:
        out = output / f"{picture.stem}.png"
        if out in jobs:
            raise FsrstError(
                f"{jobs[out].name} and {picture.name} in {source} would both become {out.name};"
                " rename one of them"
            )
        jobs[out] = picture
    return [(picture, out) for out, picture in jobs.items()]


def _pictures_in(folder: Path) -> list[Path]:
    from fsrst.image import IMAGE_SUFFIXES

    found = sorted(
        p
        for p in folder.iterdir()
        if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file() and not p.name.startswith(".")
    )
    if not found:
        raise FsrstError(f"no pictures in {folder}; expected {', '.join(IMAGE_SUFFIXES)}")
    return found


def _references(named: list[Path], folder: Path | None) -> list[Path]:
    if folder is None:
        return named
    if not folder.is_dir():
        raise FsrstError(f"--refs-dir {folder} is not a folder")
    return [*named, *_pictures_in(folder)]


def check_outputs(outputs: list[Path], extra: dict[str, Path | None], sources: list[Path]) -> None:
    """Refuse before anything is computed what could only fail or destroy an input later."""
    from fsrst.image import IMAGE_SUFFIXES

    asked = {option: path for option, path in extra.items() if path is not None}
    for option in asked if len(outputs) > 1 else ():
        raise FsrstError(f"{option} shows one picture; upscale that picture alone")
    wanted = [*outputs, *asked.values()]
    for path in wanted:
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise FsrstError(
                f"cannot write {path}: unknown picture format {path.suffix or '(no suffix)'};"
                " use .png (lossless) or .jpg"
            )
    taken = {source.resolve() for source in sources}
    folders = {source.resolve() for source in sources if source.is_dir()}
    for path in wanted:
        place = path.resolve()
        if place in taken or (place.parent in folders and place.exists()):
            raise FsrstError(f"{path} is an input and would be overwritten; choose another output")
    named: dict[Path, str] = {path.resolve(): "--output" for path in outputs}
    for option, path in asked.items():
        other = named.setdefault(path.resolve(), option)
        if other != option:
            raise FsrstError(f"{option} and {other} are the same file {path}; name two")


def _head(path: Path) -> Pixels:
    """The head of the largest face in a photograph.

    Raises
    ------
    FsrstError
        If no face is found, or what finds faces is not installed.
    """
    import numpy as np

    from fsrst.data.faces import find_head
    from fsrst.image import read_image

    pixels = read_image(path)
    head = find_head(pixels)
    if head is None:
        raise FsrstError(f"{path}: no face found; cut the head out, and leave --find-face out")
    left, top, side = head
    note(f"{path}: head of {side}x{side} px at {left},{top} (--find-face)")
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def _fitted(
    path: Path, lr: Pixels, upscaler: Upscaler, resize: bool
) -> tuple[Pixels, list[int] | None]:
    """The picture at the model's input size, and its size before if it had another [px]."""
    from fsrst.image import crop_to

    height, width = lr.shape[:2]
    side = upscaler.lr_size
    if side is None or (height, width) == (side, side):
        try:
            upscaler.check(lr)
        except FsrstError as error:
            raise FsrstError(f"{path}: {error}") from error
        if resize and side is None:
            note(f"{path}: {upscaler.model} takes any size, so --resize does nothing")
        return lr, None
    if not resize:
        raise FsrstError(
            f"{path} is {width}x{height}, but {upscaler.model} takes {side}x{side}: crop the head"
            f" and reduce it, or let --resize cut the centred square and make it {side}x{side}"
        )
    cut = min(width, height)
    note(f"{path}: {width}x{height}, centred {cut}x{cut} resized to {side}x{side} (--resize)")
    return crop_to(lr, side, side), [width, height]


def _counted(references: list[Pixels]) -> str:
    return "1 reference" if len(references) == 1 else f"{len(references)} references"


def _explained(
    upscaler: Upscaler, lr: Pixels, sr: Pixels, references: list[Pixels], path: Path
) -> list[float]:
    """Write the sheet; the mean share of every reference."""
    from fsrst.evaluate.explanation import explanation
    from fsrst.image import write_image

    _, shares = upscaler.explain(lr)
    write_image(path, explanation(lr, sr, references, shares))
    return [round(float(share), 4) for share in shares.mean(axis=(1, 2))]


def _strip(upscaler: Upscaler, lr: Pixels, sr: Pixels, references: list[Pixels]) -> Pixels:
    from fsrst.evaluate.strips import Panel, strip
    from fsrst.image import crop_to, resize_bicubic

    height, width = sr.shape[:2]
    panels = [
        Panel(f"input {lr.shape[1]}x{lr.shape[0]}", lr),
        Panel("bicubic", resize_bicubic(lr, width, height)),
        Panel(upscaler.model, sr, _counted(references)),
    ]
    for number, reference in enumerate(references, start=1):
        panels.append(Panel(f"reference {number}", crop_to(reference, width, height)))
    return strip(panels)
