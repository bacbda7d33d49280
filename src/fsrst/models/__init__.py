"""Networks only: no data, no metrics. ``build(name, **options)`` makes each of them."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

from fsrst.errors import FsrstError, did_you_mean
from fsrst.models.baselines import BASELINES, TEXTURE_BASELINES
from fsrst.models.fsrst import FSRST
from fsrst.models.fsrst2 import FSRST2
from fsrst.models.interface import ReferenceSR, State

__all__ = ["MODELS", "ReferenceSR", "State", "build", "usual_options"]

MODELS: dict[str, Callable[..., ReferenceSR]] = {
    "fsrst": partial(FSRST, name="fsrst", width=64),
    "fsrst-small": partial(FSRST, name="fsrst-small", width=32),
    "fsrst2": partial(FSRST2, name="fsrst2", width=48, blocks=10, head_width=32),
    "fsrst2-small": partial(
        FSRST2, name="fsrst2-small", width=32, blocks=6, head_width=16, features=16
    ),
    **BASELINES,
    **TEXTURE_BASELINES,
}


def usual_options(name: str) -> dict[str, Any]:
    """What ``build`` makes the network ``name`` with when no option is given."""
    usual = {key: given.default for key, given in signature(MODELS[name]).parameters.items()}
    usual.pop("name", None)  # not an option: it is fixed by MODELS
    return usual


def build(name: str, /, **options: Any) -> ReferenceSR:
    """Make the network ``name`` with random weights.

    Raises
    ------
    FsrstError
        For an unknown name, an option that the network does not take, or a value it cannot be
        made with.
    """
    if name not in MODELS:
        hint = did_you_mean(name, MODELS)
        raise FsrstError(f"unknown model {name!r}; there are {', '.join(MODELS)}{hint}")
    make, usual = MODELS[name], usual_options(name)
    for key in options:
        if key not in usual:
            hint = did_you_mean(key, usual) or f"; known: {', '.join(usual)}"
            raise FsrstError(f"model {name}: unknown option {key!r}{hint}")
    try:
        network = make(**options)
    except Exception as error:  # torch and Python refuse a value in many ways
        if isinstance(error, FsrstError) or not options:
            raise
        shown = ", ".join(f"{k} = {v!r} (usual: {usual[k]!r})" for k, v in options.items())
        reason = " ".join(str(error).split())
        raise FsrstError(f"model {name} cannot be made with {shown}: {reason}") from error
    if isinstance(make, partial):  # weights must tell what MODELS would make otherwise
        changed = {key: value for key, value in options.items() if key in make.keywords}
        network.options = {**network.options, **changed}
    return network
