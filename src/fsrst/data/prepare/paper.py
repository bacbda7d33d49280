"""What the paper's three data sets share: index files, counts beside the paper's, resumable work.

Work is spread over threads: decoding, resampling and encoding release the interpreter. A picture
names in its PNG text what it was made of, so an interrupted run goes on where it was, and a source
that has changed is read again.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from fsrst.errors import FsrstError
from fsrst.files import fingerprint
from fsrst.image import Pixels, write_image
from fsrst.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

REFERENCES = 3  # of each target, in every data set of the paper
HEADER_LINES = 2  # copies of index files have none, a line of names, or a count and a line of names
MADE_OF = "made-of"  # key of the PNG text


@dataclass(frozen=True)
class Count:
    """A number beside the paper's, which is None where the paper does not say."""

    what: str
    paper: int | None
    here: int
    why: str = ""  # the two differ, or a remark


def beside_paper(counts: Iterable[Count]) -> list[dict[str, Any]]:
    """``counts`` for dataset.json: fields of ``Count`` and ``difference`` (here - paper).

    ``why`` stays empty where nothing differs from the paper.
    """
    rows = []
    for count in counts:
        difference = None if count.paper is None else count.here - count.paper
        why = "" if difference == 0 else count.why
        rows.append({**asdict(count), "why": why, "difference": difference})
    return rows


def read_index(path: Path, row: re.Pattern[str], expected: str) -> list[tuple[str, ...]]:
    """The groups of ``row`` for every line of a text file.

    A byte order mark, CRLF, blank lines, space around a line, and up to two lines of header are
    accepted.

    Raises
    ------
    FsrstError
        If the file is missing or no text, a line is another one than ``expected`` says, there is
        none, or two begin with the same value.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise FsrstError(f"{path} is missing; expected lines such as {expected}") from error
    except UnicodeDecodeError as error:
        raise FsrstError(f"{path} is not a text; expected lines such as {expected}") from error
    rows: list[tuple[str, ...]] = []
    for number, line in enumerate(lines, start=1):
        if match := row.fullmatch(line.strip()):
            rows.append(match.groups())
        elif line.strip() and (rows or number > HEADER_LINES):
            raise FsrstError(
                f"{path}, line {number}: {line.strip()[:60]!r}; expected lines such as {expected}:"
                " fetch the file again, it is damaged or of another version"
            )
    if not rows:
        raise FsrstError(f"{path} has no row; expected lines such as {expected}")
    seen: set[str] = set()
    for first, *_ in rows:
        if first in seen:
            raise FsrstError(f"{path}: {first} occurs twice; fetch the file again")
        seen.add(first)
    return rows


def in_parallel(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    name: Callable[[Item], str],
    workers: int | None,
    progress: Progress | None,
) -> list[Result]:
    """``work`` of every item, in order, by ``workers`` threads (None: one per processor).

    ``progress`` is called by the caller's thread. After the first error, or Ctrl-C, no further
    item is begun.
    """
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        futures = {pool.submit(work, item): item for item in items}
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                if progress:
                    progress(done, len(items), name(futures[future]))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def made_of(source: Path, size: int) -> str:
    """What a picture of ``size`` [px] says in its PNG text about the file it was made of."""
    size_in_bytes, changed = fingerprint(source)
    return f"{source.name} {size_in_bytes} {changed} {size}"


def is_made_of(path: Path, text: str) -> bool:
    """Whether ``path`` is a finished picture that says ``text``."""
    try:
        with Image.open(path) as picture:
            return picture.info.get(MADE_OF) == text
    except (OSError, SyntaxError, ValueError):
        return False


def write_made_of(path: Path, pixels: Pixels, text: str) -> None:
    """Write a PNG that ``is_made_of`` will know."""
    write_image(path, pixels, {MADE_OF: text})
