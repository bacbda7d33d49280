"""The one exception that a user can mend. Everything else is a bug and keeps its traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class FsrstError(Exception):
    """One line that says what is wrong, where, what was expected and what to do.

    The command line prints it after ``fsrst: `` and exits with code 2.
    """


def out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: of Python and numpy, or of a runtime, which has a kind of its own."""
    words = ("bad_alloc", "failed to allocate", "can't allocate memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """A hint for the end of a message that names what is known; "" where nothing is near."""
    near = get_close_matches(str(given), list(known), n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else ""
