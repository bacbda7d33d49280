"""Reference-based face super-resolution. Importing this never imports torch."""

__version__ = "0.1.0"
