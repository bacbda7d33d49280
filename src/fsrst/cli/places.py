"""Where results are written: which file of which input, and whether that can be done."""

from __future__ import annotations

from pathlib import Path

from fsrst.cli.inputs import pictures_in
from fsrst.errors import FsrstError
from fsrst.files import target_of


def jobs_of(source: Path, output: Path) -> list[tuple[Path, Path]]:
    """(input, output) of every picture to make."""
    from fsrst.image import WRITTEN_SUFFIXES

    if not source.is_dir():
        if not source.exists():
            raise FsrstError(f"cannot read {source}: no such file or folder")
        if output.is_dir():
            raise FsrstError(f"{output} is a folder; name a file such as {output / source.name}")
        return [(source, output)]
    if output.exists() and not output.is_dir():
        raise FsrstError(f"{source} is a folder, so {output} must be one too; it is a file")
    if output.suffix.lower() in WRITTEN_SUFFIXES and not output.exists():
        raise FsrstError(
            f"{source} is a folder, so {output} becomes one too; name it without {output.suffix}"
        )
    if output.exists() and output.samefile(source):
        raise FsrstError(f"{output} is the folder of the inputs; name another for the results")
    pictures = pictures_in(source)
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


def check_outputs(outputs: list[Path], extra: dict[str, Path | None], sources: list[Path]) -> None:
    """Refuse before anything is computed what could only fail or destroy an input later."""
    from fsrst.image import WRITTEN_SUFFIXES

    asked = {option: path for option, path in extra.items() if path is not None}
    for option in asked if len(outputs) > 1 else ():
        raise FsrstError(f"{option} shows one picture; upscale that picture alone")
    wanted = [*outputs, *asked.values()]
    for path in wanted:
        if path.suffix.lower() not in WRITTEN_SUFFIXES:
            raise FsrstError(
                f"cannot write {path}: results are no {path.suffix or 'files without a suffix'};"
                " use .png (lossless) or .jpg"
            )
    taken = {target_of(source) for source in sources}
    folders = {target_of(source) for source in sources if source.is_dir()}
    for path in wanted:
        place = target_of(path)
        if place in taken or (place.parent in folders and place.exists()):
            raise FsrstError(f"{path} is an input and would be overwritten; choose another output")
    named: dict[Path, str] = {target_of(path): "--output" for path in outputs}
    for option, path in asked.items():
        other = named.setdefault(target_of(path), option)
        if other != option:
            raise FsrstError(f"{option} and {other} are the same file {path}; name two")
    check_places(wanted)


def check_places(wanted: list[Path]) -> None:
    """Try in the nearest folders that exist: what no file can be written to is said at once."""
    from tempfile import TemporaryFile

    folders: set[Path] = set()
    for path in wanted:
        try:
            if path.is_dir():
                raise FsrstError(f"cannot write {path}: it is a folder; name a file")
            folder = next(place for place in target_of(path).parents if place.exists())
            if folder not in folders:
                TemporaryFile(dir=folder).close()
                folders.add(folder)
        except OSError as error:
            reason = f"{error.strerror}; choose another place"
            raise FsrstError(f"cannot write {path}: {reason}") from error
