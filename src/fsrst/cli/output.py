"""What the commands write: results to stdout, notes and progress to stderr."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from fsrst.progress import Progress

MISTAKE = 2
INTERRUPTED = 130
SECONDS_BETWEEN_LINES = 5.0  # of progress, where there is no terminal


def say(text: str) -> None:
    """A line of the result, on stdout."""
    _write(sys.stdout, text)


def say_json(value: Any) -> None:
    """The result as JSON, on stdout."""
    say(json.dumps(value, indent=2))


def note(text: str) -> None:
    """A remark that is not the result, on stderr."""
    _write(sys.stderr, text)


def complain(text: str) -> int:
    """One line about a mistake, on stderr -> the exit code."""
    note("fsrst: " + " ".join(text.splitlines()))
    return MISTAKE


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text + "\n")
    except BrokenPipeError:  # `fsrst ... | head`: the reader has gone, the files are still wanted
        silence(stream)


def silence(stream: TextIO) -> None:
    """What is still to be written there goes nowhere: at exit it would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def progress_shown() -> Iterator[Progress]:
    """Yield ``progress(done, total, what)``: a bar in a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        yield _plain_lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # else the result's lines would go to stderr
    )
    with bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, what: bar.update(
            task, completed=done, total=total, description=what
        )


def _plain_lines() -> Progress:
    last = time.monotonic()

    def progress(done: int, total: int, what: str) -> None:
        nonlocal last
        now = time.monotonic()
        if done == total or now - last >= SECONDS_BETWEEN_LINES:
            last = now
            note(f"{done}/{total} {what}")

    return progress
