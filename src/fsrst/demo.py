"""The demonstration: three photographs of a public figure, one made small and enlarged again.

The photographs are in the source distribution of a package on the registry and are fetched by pip,
checked against a hash, and kept in the user's cache folder. Without network the same is done with a
drawn face. The result is one strip with PSNR, SSIM and milliseconds under its panels.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fsrst.data.degradation import degrade
from fsrst.errors import FsrstError
from fsrst.evaluate.strips import Panel, strip
from fsrst.files import written_whole
from fsrst.image import Pixels, read_image, resize_bicubic

if TYPE_CHECKING:
    from fsrst.runtime.upscaler import Upscaler

PACKAGE = "face_recognition==1.3.0"
ARCHIVE = "face_recognition-1.3.0.tar.gz"
ARCHIVE_SHA256 = "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec"
PHOTOGRAPHS = ("obama.jpg", "obama2.jpg", "obama3.jpg")  # the first is the target
INSIDE = "face_recognition-1.3.0/tests/test_images"
PIP_SECONDS = 90
SIZE = 128  # side of the target [px]
TIMED_RUNS = 5
DRAWN_IDENTITY = 3

Note = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One way to enlarge the input: PSNR [dB] and SSIM against the truth; ms None: not timed."""

    name: str
    pixels: Pixels
    psnr: float
    ssim: float
    ms: float | None


@dataclass(frozen=True)
class Demo:
    """What the demonstration made: ``subject`` says whose face, ``strip`` is the picture, ``share``
    how much of the detail the references gave (None: the model does not say)."""

    subject: str
    rows: tuple[Row, ...]
    strip: Pixels
    share: float | None


def cache_folder() -> Path:
    """Where fetched files are kept: $XDG_CACHE_HOME/fsrst or ~/.cache/fsrst."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fsrst"


def fetch_photographs(note: Note) -> list[Path]:
    """The three photographs in the cache folder, fetched once.

    Raises
    ------
    FsrstError
        If pip cannot fetch the archive, or it is not the one whose hash is written here.
    """
    folder = cache_folder() / "demo"
    paths = [folder / name for name in PHOTOGRAPHS]
    if all(path.is_file() for path in paths):
        return paths
    note(f"fetching three photographs (source distribution of {PACKAGE}, 3 MB) ...")
    with tempfile.TemporaryDirectory() as temporary:
        archive = _download(Path(temporary))
        with tarfile.open(archive) as tar:
            for path in paths:
                member = tar.extractfile(f"{INSIDE}/{path.name}")
                if member is None:
                    raise FsrstError(f"{ARCHIVE} holds no {path.name}")
                with written_whole(path) as whole:
                    whole.write_bytes(member.read())
    return paths


def _download(folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{ARCHIVE_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-binary", "face_recognition", "--require-hashes"]
    command += ["--retries", "1", "--timeout", "20", "--dest", str(folder)]
    command += ["--requirement", str(requirements)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FsrstError(f"pip gave no answer within {PIP_SECONDS} s") from error
    archive = folder / ARCHIVE
    if done.returncode or not archive.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise FsrstError("pip: " + (lines or ["no archive"])[-1].removeprefix("ERROR: "))
    if hashlib.sha256(archive.read_bytes()).hexdigest() != ARCHIVE_SHA256:
        raise FsrstError(f"{ARCHIVE} is not the file whose hash this program knows")
    return archive


def photographed(note: Note) -> tuple[str, Pixels, list[Pixels]]:
    """(whose face, target, references), heads cut to the square that the models were trained on.

    Raises
    ------
    FsrstError
        If the photographs cannot be fetched or the face detector is not installed.
    """
    from fsrst.data.faces import aligned_face, detect_faces

    heads = []
    for path in fetch_photographs(note):
        pixels = read_image(path)
        faces = detect_faces(pixels)
        if not faces:
            raise FsrstError(f"found no face in {path.name}")
        heads.append(aligned_face(pixels, faces[0].landmarks, SIZE))
    return f"photographs of one public figure ({', '.join(PHOTOGRAPHS)})", heads[0], heads[1:]


def drawn() -> tuple[str, Pixels, list[Pixels]]:
    """The same of a drawn face: nothing is fetched."""
    from fsrst.data.synthetic import draw_face

    faces = [draw_face(DRAWN_IDENTITY, view, SIZE) for view in range(3)]
    return "a drawn face (no real photograph)", faces[0], faces[1:]


def run_demo(upscaler: "Upscaler", note: Note, *, only_drawn: bool = False) -> Demo:
    """Reduce the target, enlarge it in three ways, measure, and draw the strip.

    Photographs that cannot be had are replaced by a drawn face; ``note`` is told why.
    """
    if only_drawn:
        subject, truth, references = drawn()
    else:
        try:
            subject, truth, references = photographed(note)
        except FsrstError as error:
            note(f"NO PHOTOGRAPHS: {error}")
            note("showing a drawn face instead; the models were trained on photographs")
            subject, truth, references = drawn()
    lr = degrade(truth, upscaler.scale)
    rows = [_row("bicubic", resize_bicubic(lr, SIZE, SIZE), truth, None)]
    for pictures in ([], references):
        upscaler.set_references(pictures)
        sr, ms = _timed(upscaler, lr)
        count = len(pictures) or "no"
        rows.append(_row(f"{upscaler.model}, {count} refs", sr, truth, ms))
    share = float(upscaler.explain(lr)[1].sum(axis=0).mean()) if upscaler.explains else None
    return Demo(subject, tuple(rows), _strip(lr, rows, truth, references), share)


def _timed(upscaler: "Upscaler", lr: Pixels) -> tuple[Pixels, float]:
    """The result and the median time [ms] of some runs, references being encoded before."""
    sr = upscaler(lr)  # the first run also sets the runtime up
    times = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        upscaler(lr)
        times.append((time.perf_counter() - start) * 1000)
    return sr, float(np.median(times))


def _row(name: str, pixels: Pixels, truth: Pixels, ms: float | None) -> Row:
    from fsrst.evaluate.metrics import psnr, ssim

    return Row(name, pixels, psnr(pixels, truth), ssim(pixels, truth), ms)


def _strip(lr: Pixels, rows: Sequence[Row], truth: Pixels, references: Sequence[Pixels]) -> Pixels:
    panels = [Panel(f"input {lr.shape[1]}x{lr.shape[0]}", lr)]
    for row in rows:
        caption = f"{row.psnr:.2f} dB, SSIM {row.ssim:.3f}"
        if row.ms is not None:
            caption += f"\n{row.ms:.1f} ms"
        panels.append(Panel(row.name, row.pixels, caption))
    panels.append(Panel("truth", truth))
    for number, reference in enumerate(references, start=1):
        panels.append(Panel(f"reference {number}", reference))
    return strip(panels, height=2 * SIZE)
