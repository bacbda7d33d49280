"""``python -m fsrst`` is the same as ``fsrst``."""

from fsrst.cli import main

if __name__ == "__main__":
    main()
