"""``python -m fsrst`` is the same as ``fsrst``."""

from fsrst.cli import main

main()
