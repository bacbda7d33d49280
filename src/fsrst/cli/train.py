"""``fsrst train``: a network from a config file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer

from fsrst.cli.output import note, progress_shown, say
from fsrst.errors import FsrstError


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The run's options.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one option (dots: nested)."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")
    ] = False,
) -> None:
    """Train a network; Ctrl-C stops, --resume goes on from the last checkpoint."""
    from fsrst.options import TrainOptions

    parsed = _parsed(changes or [])
    for key, value in parsed.items():
        field = TrainOptions.model_fields.get(key)
        if field and get_origin(field.annotation) is list and not isinstance(value, list):
            raise FsrstError(f"--set {key}={value}: expected a list: --set '{key}=[{value}]'")
    options = TrainOptions.from_yaml(config, parsed)
    from fsrst.train import CHECKPOINT  # torch: after the options have been found good
    from fsrst.train import train as run

    # one of several processes speaks for all: torchrun names it by the first, Fabric by the others
    ranks = [os.environ.get(name, "0") for name in ("RANK", "LOCAL_RANK", "NODE_RANK")]
    speaks = set(ranks) == {"0"}
    if speaks and resume and not (Path(options.out) / CHECKPOINT).is_file():
        note(f"no checkpoint in {options.out}: the run begins from its start")
    with progress_shown() as progress:
        weights = run(options, resume=resume, progress=progress)
    if speaks:
        say(f"{weights}: {options.model} after {options.samples} samples")


def _parsed(changes: list[str]) -> dict[str, Any]:
    import yaml

    parsed: dict[str, Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key.strip():
            raise FsrstError(f"--set {change}: expected KEY=VALUE, such as --set seed=7")
        try:
            parsed[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise FsrstError(f"--set {change}: {value!r} is not a YAML value") from error
    return parsed
