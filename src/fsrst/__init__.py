"""Reference-based face super-resolution. Importing this never imports torch."""

from typing import TYPE_CHECKING, Any

from fsrst.errors import FsrstError

if TYPE_CHECKING:
    from fsrst.runtime.upscaler import Upscaler, open_upscaler

__version__ = "0.1.0"
__all__ = ["FsrstError", "Upscaler", "__version__", "open_upscaler"]


def __getattr__(name: str) -> Any:
    # The public names are fetched on first use: the command line must start without numpy.
    if name in ("Upscaler", "open_upscaler"):
        from fsrst.runtime import upscaler

        return getattr(upscaler, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
