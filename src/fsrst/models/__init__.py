"""Networks only: no data, no metrics. ``build(name, **options)`` makes each of them."""

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

from fsrst.errors import FsrstError
from fsrst.models.baselines import BASELINES
from fsrst.models.baselines.mrefsr import BASELINES_TEXTURE
from fsrst.models.fsrst import FSRST
from fsrst.models.fsrst2 import FSRST2
from fsrst.models.interface import ReferenceSR, State

__all__ = ["MODELS", "ReferenceSR", "State", "build"]

MODELS: dict[str, Callable[..., ReferenceSR]] = {
    "fsrst": partial(FSRST, name="fsrst", width=64),
    "fsrst-small": partial(FSRST, name="fsrst-small", width=32),
    "fsrst2": partial(FSRST2, name="fsrst2", width=48, blocks=10, head_width=32),
    "fsrst2-small": partial(
        FSRST2, name="fsrst2-small", width=32, blocks=6, head_width=16, features=16
    ),
    **BASELINES,
    **BASELINES_TEXTURE,
}


def build(name: str, **options: Any) -> ReferenceSR:
    """Make the network ``name`` with random weights.

    Raises
    ------
    FsrstError
        For an unknown name or an option that the network does not take.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise FsrstError(f"unknown model {name!r}; there are {', '.join(MODELS)}{hint}")
    try:
        return MODELS[name](**options)
    except (TypeError, ValueError) as error:
        raise FsrstError(f"model {name}: {error}") from error
