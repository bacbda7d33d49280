"""The one exception that a user can mend. Everything else is a bug and keeps its traceback."""


class FsrstError(Exception):
    """One line that says what is wrong, where, what was expected and what to do.

    The command line prints it after ``fsrst: `` and exits with code 2.
    """
