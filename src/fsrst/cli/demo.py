"""``fsrst demo``: see the main job done on a frame of a call and a photograph, with figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fsrst.cli.output import note, say, say_json
from fsrst.cli.places import check_outputs
from fsrst.cli.upscale import DEFAULT_MODEL, Backend, Model, Precision, Threads


def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The strip that is written.")
    ] = Path("demo.png"),
    model: Model = DEFAULT_MODEL,
    backend: Backend = "auto",
    precision: Precision = None,
    threads: Threads = None,
    drawn: Annotated[
        bool, typer.Option("--drawn", help="Use a drawn face and fetch nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Enlarge a reduced frame of a video call, and a public figure's reduced photograph, without
    and with references.

    They are fetched once, by pip, into the cache folder; without network a drawn face serves
    instead.
    """
    check_outputs([output], {}, [])
    from fsrst.demo import run_demo, sheet_of
    from fsrst.image import write_image
    from fsrst.runtime.upscaler import open_upscaler

    upscaler = open_upscaler(model, backend, precision=precision, threads=threads)
    shown = run_demo(upscaler, note, only_drawn=drawn)
    write_image(output, sheet_of(shown))
    if as_json:
        cases = [
            {
                "subject": one.subject,
                "reference_share": one.share,
                "rows": [
                    {"name": row.name, "psnr_db": row.psnr, "ssim": row.ssim, "ms": row.ms}
                    for row in one.rows
                ],
            }
            for one in shown
        ]
        say_json({"strip": str(output), "cases": cases})
        return
    say(f"{upscaler.model} on {upscaler.backend} {upscaler.precision}")
    width = max(len(row.name) for one in shown for row in one.rows)
    for one in shown:
        say(f"\n{one.subject}")
        say(f"{'':{width}}{'PSNR [dB]':>11}{'SSIM':>9}{'ms':>8}")
        for row in one.rows:
            ms = "" if row.ms is None else f"{row.ms:.1f}"
            ssim = "-" if row.ssim is None else f"{row.ssim:.4f}"
            say(f"{row.name:{width}}{row.psnr:11.2f}{ssim:>9}{ms:>8}")
        if one.share is not None:
            say(f"{one.share:.0%} of the detail came from the references")
    say(f"\nlook at {output}")
