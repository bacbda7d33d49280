"""The header that `fsrst export` writes into every graph, and which graphs belong together."""

import json
from pathlib import Path
from typing import Any

from fsrst.errors import FsrstError

METADATA_KEY = "fsrst"


def parsed(text: str | None, path: Path) -> dict[str, Any]:
    """The header of the graph in ``path``, from its metadata entry ``fsrst``.

    Raises
    ------
    FsrstError
        If there is none, or it is not what `fsrst export` writes.
    """
    try:
        header = json.loads(text or "")
    except json.JSONDecodeError:
        header = None
    if not isinstance(header, dict) or not {"scale", "lr_size", "model"} <= header.keys():
        raise FsrstError(
            f"{path} was not written by `fsrst export`: it has no 'fsrst' metadata that can be read"
        )
    return header


def check_pair(frames: dict[str, Any], encoder: dict[str, Any], path: Path) -> None:
    """Refuse an encoder in ``path`` that was exported from other weights than the frames' graph.

    Raises
    ------
    FsrstError
        If their hashes differ: one of the two was replaced, or left by an earlier export.
    """
    if frames.get("weights_hash") != encoder.get("weights_hash"):
        raise FsrstError(
            f"{path} is of weights {encoder.get('weights_hash')} ({encoder['model']}), the graph"
            f" beside it of {frames.get('weights_hash')} ({frames['model']}); export both again"
        )
