"""How a long call tells how far it is: ``progress(done, total, what)``, of pieces of work."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
