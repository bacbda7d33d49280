"""``fsrst prepare``: raw pictures and clips -> a data set with a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fsrst.cli.inputs import square_of_box
from fsrst.cli.output import note, progress_shown, say, say_json
from fsrst.errors import FsrstError

if TYPE_CHECKING:
    from fsrst.data.manifest import Manifest

app = typer.Typer(
    help="Make a data set with a manifest: from folders, clips, drawn faces, the paper's sets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

SHOWN_NAMES = 3  # of what is left out
SMALLEST = 32  # side of a target [px], of which inputs show 8


def _four_times(size: int) -> int:
    """Refuse a size that is found to be useless only where a model is scored or trained."""
    if size % 4:
        raise FsrstError(
            f"--size {size}: expected a multiple of 4, such as {size - size % 4} or"
            f" {size - size % 4 + 4}; the shipped models enlarge 4x"
        )
    return size


Out = Annotated[Path, typer.Argument(metavar="OUT", help="The data set; another split is added.")]
Split = Annotated[str, typer.Option(help="Name of the split, such as train or val.")]
Size = Annotated[
    int,
    typer.Option(
        min=SMALLEST, callback=_four_times, help="Side of the targets [px], a multiple of 4."
    ),
]
References = Annotated[
    int, typer.Option(min=0, help="References kept for each target; 0: all the others.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the random choices.")]
OwnOut = Annotated[
    Path, typer.Argument(metavar="OUT", help="The data set; an earlier one of this kind goes on.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Files done at once; default: one per processor.")
]
Partial = Annotated[bool, typer.Option("--partial", help="Take what is there of half a data set.")]
Enlarge = Annotated[bool, typer.Option(help="Also take what is smaller than the size, enlarged.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command()
def folder(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folders, one per identity.")],
    out: Out,
    split: Split,
    size: Size = 128,
    crop: Annotated[
        float, typer.Option(help="Part of the shorter side that the centred square keeps.")
    ] = 1.0,
    align: Annotated[
        bool, typer.Option("--align", help="Find the face and cut its head upright, as FFHQ does.")
    ] = False,
    enlarge: Enlarge = True,
    references: References = 3,
    samples_per_identity: Annotated[
        int | None, typer.Option(min=1, help="At most so many targets of one person.")
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="Put before identities, so that several sources can share a set.")
    ] = "",
    seed: Seed = 13,
) -> None:
    """Pictures sorted by person: SRC/<identity>/<picture>."""
    from fsrst.data.prepare.folder import prepare_folder

    with progress_shown() as progress:
        manifest = prepare_folder(
            source,
            out,
            split=split,
            size=size,
            crop=crop,
            align=align,
            enlarge=enlarge,
            references=references,
            samples_per_identity=samples_per_identity,
            seed=seed,
            prefix=prefix,
            progress=progress,
        )
    _tell(manifest, split)
    made_by = manifest.info["made_by"][f"{split}:{prefix}" if prefix else split]
    for picture, reason in made_by["unreadable"].items():
        note(f"left out {picture}: {reason}")
    if left_out := made_by["left_out"]:
        shown = [f"{name} ({reason})" for name, reason in list(left_out.items())[:SHOWN_NAMES]]
        more = ", ... (dataset.json names all)" if len(left_out) > SHOWN_NAMES else ""
        note(f"left out {len(left_out)}: {', '.join(shown)}{more}")


@app.command()
def author(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The folder with hr/ and rf/.")],
    out: Out,
    split: Split,
    size: Size = 128,
) -> None:
    """The paper authors' layout: SRC/hr/<name>.png, SRC/rf/<name>/{1,2,3}.png."""
    from fsrst.data.prepare.author_layout import prepare_author_layout

    with progress_shown() as progress:
        manifest = prepare_author_layout(source, out, split=split, size=size, progress=progress)
    _tell(manifest, split)
    note(
        "pictures with a reference in common count as one person, all others as different ones:"
        " nothing else in this layout tells who is in them"
    )


@app.command()
def video(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="<person>/<clip>, or clips of one person each.")
    ],
    out: Out,
    split: Split,
    size: Size = 128,
    targets: Annotated[int, typer.Option(min=1, help="Targets of each clip.")] = 20,
    target_step: Annotated[int, typer.Option(min=1, help="Frames between two targets.")] = 20,
    extra_references: Annotated[
        int, typer.Option(min=0, help="References beyond the paper's three.")
    ] = 0,
    box: Annotated[
        str | None,
        typer.Option(
            metavar="LEFT,TOP,SIDE", help="The head's square [px] instead of a search; all clips."
        ),
    ] = None,
    enlarge: Enlarge = True,
) -> None:
    """Talking heads: one fixed head square per clip, frames by the paper's rule for DFD."""
    square = square_of_box(box) if box is not None else None
    from fsrst.data.prepare.video import prepare_video

    with progress_shown() as progress:
        manifest = prepare_video(
            source,
            out,
            split=split,
            size=size,
            targets=targets,
            target_step=target_step,
            extra_references=extra_references,
            box=square,
            enlarge=enlarge,
            progress=progress,
        )
    _tell(manifest, split)
    made_by = manifest.info["made_by"][split]
    for clip, reason in made_by["skipped"].items():
        note(f"left out {clip}: {reason}")
    for clip, frames in made_by["incomplete"].items():
        note(f"{clip} ends early: {frames}")


@app.command()
def celebamask_hq(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="CelebAMask-HQ as unzipped: CelebA-HQ-img/ ...")
    ],
    out: OwnOut,
    identities: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CelebA's identity_CelebA.txt; default: in SRC or beside it."
        ),
    ] = None,
    size: Size = 128,
    seed: Seed = 13,
    workers: Workers = None,
    partial: Partial = False,
    as_json: Json = False,
) -> None:
    """The paper's CelebAMask-HQ: one sample of each identity with 4 pictures, 2600 / 287."""
    from fsrst.data.prepare.celebamask_hq import prepare_celebamask_hq

    with progress_shown() as progress:
        manifest = prepare_celebamask_hq(
            source,
            out,
            identities=identities,
            size=size,
            seed=seed,
            workers=workers,
            partial=partial,
            progress=progress,
        )
    _tell_beside_paper(manifest, as_json)


@app.command()
def dfd(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="The download: original_sequences/actors/...")
    ],
    out: OwnOut,
    quality: Annotated[
        str | None, typer.Option(help="raw, c23 or c40; default: the first of them that is there.")
    ] = None,
    size: Size = 128,
    workers: Workers = None,
    partial: Partial = False,
    as_json: Json = False,
) -> None:
    """The paper's DeepFakeDetection: three scenes, actors 1-22 / 23-28, 1300 / 340 samples."""
    from fsrst.data.prepare.dfd import prepare_dfd

    with progress_shown() as progress:
        manifest = prepare_dfd(
            source,
            out,
            quality=quality,
            size=size,
            workers=workers,
            partial=partial,
            progress=progress,
        )
    _tell_beside_paper(manifest, as_json)


@app.command()
def voxceleb2(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Holds test/mp4/idXXXXX/...")],
    out: OwnOut,
    meta: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="vox2_meta.csv; default: in SRC, if it is there."),
    ] = None,
    size: Size = 128,
    seed: Seed = 13,
    workers: Workers = None,
    partial: Partial = False,
    as_json: Json = False,
) -> None:
    """The paper's VoxCeleb2: first frames of four videos of each of 118 test identities."""
    from fsrst.data.prepare.voxceleb2 import prepare_voxceleb2

    with progress_shown() as progress:
        manifest = prepare_voxceleb2(
            source,
            out,
            meta=meta,
            size=size,
            seed=seed,
            workers=workers,
            partial=partial,
            progress=progress,
        )
    _tell_beside_paper(manifest, as_json)


@app.command()
def synthetic(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The data set; earlier drawn faces are replaced.")
    ],
    identities: Annotated[int, typer.Option(min=2, help="Number of drawn people.")] = 64,
    views: Annotated[int, typer.Option(min=2, help="Pictures of each.")] = 8,
    val: Annotated[
        int | None, typer.Option(min=0, help="So many people are split val; default: one in 8.")
    ] = None,
    size: Size = 128,
    seed: Seed = 13,
) -> None:
    """Drawn faces with identity, pose and light: no real person, for tests and first tries."""
    if val is not None and val >= identities:
        raise FsrstError(f"--val {val} leaves nobody of --identities {identities} for train")
    from fsrst.data.synthetic import write_synthetic

    splits = None if val is None else {"train": identities - val, "val": val}
    with progress_shown() as progress:
        manifest = write_synthetic(
            out,
            identities=identities,
            views=views,
            size=size,
            seed=seed,
            splits=splits,
            progress=progress,
        )
    _tell(manifest, None)


def _tell(manifest: Manifest, split: str | None) -> None:
    for name, counts in manifest.info["counts"].items():
        if split in (None, name):
            people = "1 person" if counts["identities"] == 1 else f"{counts['identities']} people"
            say(
                f"{manifest.root}: split {name}, {counts['samples']} samples of {people},"
                f" {manifest.info['size']} px"
            )


def _tell_beside_paper(manifest: Manifest, as_json: bool) -> None:
    """Counts beside the paper's, and what was left out."""
    if as_json:
        say_json({"root": str(manifest.root), **manifest.info})
        return
    _tell(manifest, None)
    rows = manifest.info["against_paper"]
    width = max(len(row["what"]) for row in rows)
    say(f"{'':{width}}  {'paper':>7}  {'here':>7}")
    before = ""
    for row in rows:
        paper = "-" if row["paper"] is None else f"{row['paper']:,}"
        line = f"{row['what']:{width}}  {paper:>7}  {row['here']:>7,}"
        if row["difference"]:
            why = "as above" if row["why"] == before else row["why"]
            line += f"  {row['difference']:+,}: {why}"
            before = row["why"]
        say(line)
    for how in manifest.info["made_by"].values():
        for key in ("skipped", "short", "left_out", "unreadable"):
            for name, reason in how.get(key, {}).items():
                note(f"{key.replace('_', ' ')}: {name} ({reason})")
