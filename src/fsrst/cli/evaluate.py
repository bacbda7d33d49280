"""``fsrst evaluate`` and ``fsrst report``: predictions first, scores second, tables last."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fsrst.cli.output import note, progress_shown, say, say_json
from fsrst.cli.upscale import Backend, Model, Precision, Threads


def evaluate(
    data: Annotated[Path, typer.Option(help="A prepared data set.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")],
    model: Model,
    split: Annotated[str, typer.Option(help="The split to score.")] = "val",
    references: Annotated[int, typer.Option(min=0, help="References for each target.")] = 3,
    identity: Annotated[
        bool, typer.Option("--identity", help="Also the identity distance (dlib).")
    ] = False,
    st_lpips: Annotated[bool, typer.Option("--st-lpips", help="Also ST-LPIPS.")] = False,
    backend: Backend = "auto",
    precision: Precision = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Score a model three times: with right references, none, and those of a wrong person.

    Predictions are written first and kept, so an interrupted call goes on where it was.
    """
    from fsrst.data.manifest import load_manifest
    from fsrst.evaluate.predict import predict
    from fsrst.evaluate.report import report, score, strips
    from fsrst.runtime.upscaler import open_upscaler

    manifest = load_manifest(data)
    manifest.split(split)
    upscaler = open_upscaler(model, backend, precision=precision, threads=threads)
    with progress_shown() as progress:
        predict(
            upscaler, manifest, split, output, n_references=references, progress=progress
        )
        summary = score(output, identity=identity, st_lpips=st_lpips, progress=progress)
        strips(output)
    if as_json:
        say_json(summary)
        return
    say(report([output]))
    note(f"predictions, scores.csv, summary.json and strips are in {output}")
