"""Files appear whole or not at all: written under a temporary name, then renamed."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsrst.errors import FsrstError


def target_of(path: Path) -> Path:
    """Where its symbolic links lead; ``Path.resolve`` has a traceback for links in a circle."""
    return Path(os.path.realpath(path))


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if the block succeeds.

    The temporary name keeps the suffix of ``path``, because many writers choose the format by it.
    A symbolic link stays, and what it leads to is written. Missing parent folders are made. An
    ``OSError`` (full disk, read-only folder) becomes one line.

    Raises
    ------
    FsrstError
        If the file cannot be written. Nothing is left behind then.
    """
    path = Path(path)
    target = target_of(path)
    temporary: Path | None = None
    try:
        if target.is_symlink():
            raise FsrstError(f"cannot write {path}: its symbolic links lead in a circle; mend them")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise FsrstError(f"cannot write {path}: it is a folder; name a file")
        # not tempfile's: its files are private, and what ours may be is the kernel's to say
        name = target.parent / f".fsrst-{secrets.token_hex(8)}{path.suffix}"
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        temporary = name
        yield temporary
        temporary.replace(target)
        temporary = None
    except OSError as error:
        reason = error.strerror or str(error)
        where = f"{path}, a link to {target}" if path.is_symlink() else path
        raise FsrstError(f"cannot write {where}: {reason}; choose another place") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def fingerprint(path: Path) -> list[int]:
    """Bytes and time of change [ns] of a file: other numbers, other file."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")
