"""``fsrst evaluate`` and ``fsrst report``: predictions first, scores second, tables last."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from fsrst.cli.output import note, progress_shown, say, say_json
from fsrst.cli.upscale import Backend, Precision, SelfEnsemble, Threads
from fsrst.errors import FsrstError


def evaluate(
    model: Annotated[str, typer.Option(help="A shipped model (see fsrst info), or a model file.")],
    data: Annotated[Path, typer.Option(help="A prepared data set.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")],
    split: Annotated[str, typer.Option(help="The split to score.")] = "val",
    references: Annotated[int, typer.Option(min=0, help="References for each target.")] = 3,
    identity: Annotated[
        bool, typer.Option("--identity", help="Also the identity distance (dlib).")
    ] = False,
    st_lpips: Annotated[bool, typer.Option("--st-lpips", help="Also ST-LPIPS.")] = False,
    backend: Backend = "auto",
    precision: Precision = None,
    threads: Threads = None,
    self_ensemble: SelfEnsemble = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Score a model three times: with right references, none, and those of a wrong person.

    Predictions are written first and kept, so an interrupted call goes on where it was.
    """
    from fsrst.data.manifest import by_identity, load_manifest
    from fsrst.evaluate import metrics
    from fsrst.evaluate.predict import CONDITIONS, predict
    from fsrst.evaluate.report import report, strips
    from fsrst.evaluate.score import score
    from fsrst.runtime.upscaler import open_upscaler

    manifest = load_manifest(data)
    conditions = list(CONDITIONS) if references else ["none"]
    people = by_identity(manifest.split(split))
    if references and len(people) == 1:
        conditions.remove("wrong")
        note(f"split {split} shows one person: no references of a wrong one")
    metrics.require_scores()
    if identity:
        metrics.require_identity()
    if st_lpips:
        metrics.require_st_lpips()
    upscaler = open_upscaler(
        model, backend, precision=precision, threads=threads, self_ensemble=self_ensemble
    )
    with progress_shown() as progress:
        predict(
            upscaler,
            manifest,
            split,
            output,
            n_references=references,
            conditions=conditions,
            command=shlex.join(["fsrst", *sys.argv[1:]]),
            progress=progress,
        )
        summary = score(output, manifest, identity=identity, st_lpips=st_lpips, progress=progress)
    sheet = strips(output, manifest)
    if as_json:
        say_json(summary)
        return
    say(report([output]))
    note(f"predictions, scores and strips are in {output}; look at {sheet}")


def report(
    results: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders that fsrst evaluate wrote.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the Markdown here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Put results beside each other, and beside the paper's where those apply."""
    from fsrst.evaluate.report import report as markdown_of
    from fsrst.evaluate.report import report_data
    from fsrst.files import write_text

    for folder in results:
        if not folder.is_dir():
            raise FsrstError(f"{folder} is not a folder; expected one that fsrst evaluate wrote")
    if output is not None:
        write_text(output, markdown_of(results))
    if as_json:
        say_json(report_data(results))
    elif output is None:
        say(markdown_of(results))
    else:
        say(f"{output}: {len(results)} results")
