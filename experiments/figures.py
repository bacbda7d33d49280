"""The paper's Figures 3 to 5 as sheets: input, references, what every model makes of it, truth.

    python experiments/figures.py --results results
    python experiments/figures.py results/fsrst-call results/fsrst2-call -o results/call.png
    python experiments/figures.py --drawn docs/images/models-drawn.png
    python experiments/figures.py --smoke

The first form draws one sheet for each pair of data sets in Table 1's results (the paper's figures
show DFD, CelebAMask-HQ and VoxCeleb2): ``<results>/figures/<train>-to-<test>.png``, every model of
the first seed. The second takes folders that `fsrst evaluate` wrote for one data set. Both show
real people: they stay out of the repository. The third upscales drawn faces with ``--models``
(default: all that are shipped) into a file small enough to commit.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from budget import RECIPES
from PIL import Image
from protocol import finished, read_cells, smoke_place

from fsrst.data.degradation import degrade
from fsrst.data.manifest import Manifest, Sample, by_identity, evenly_spread, load_manifest
from fsrst.data.synthetic import write_synthetic
from fsrst.errors import FsrstError
from fsrst.evaluate.predict import (
    predict,
    prediction_path,
    read_record,
    references_of,
    same_data,
)
from fsrst.evaluate.score import BICUBIC, bicubic, data_of, read_scores, score
from fsrst.evaluate.strips import Panel, sheet, strip
from fsrst.files import written_whole
from fsrst.image import Pixels, read_image, write_image
from fsrst.models import build
from fsrst.models.weights import save_weights
from fsrst.runtime.model_files import shipped_models
from fsrst.runtime.upscaler import open_upscaler

HEIGHT = 128  # of a panel [px]: every pixel of the output is one of the sheet
LARGEST = 300_000  # of a committed file [bytes]
DRAWN_SEED = 5  # people that smoke runs and tests do not draw
REFERENCES = 3


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="*", help="folders that fsrst evaluate wrote")
    parser.add_argument("-o", "--output", type=Path, help="PNG of those folders")
    parser.add_argument("--data", type=Path, help="their data set, if it was moved")
    parser.add_argument("--results", type=Path, help="of table1.py: a sheet for each pair")
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--drawn", type=Path, metavar="PNG", help="drawn faces, small enough")
    parser.add_argument("--models", nargs="+", help="names or files of models, for --drawn")
    parser.add_argument("--smoke", action="store_true", help="random weights, drawn faces")
    arguments = parser.parse_args(argv)
    if arguments.people < 1:
        raise FsrstError(f"--people {arguments.people}: expected 1 or more")
    if arguments.smoke:
        with smoke_place(arguments) as data:
            smoke(arguments.results, data)
        return
    if arguments.drawn is not None:
        models = arguments.models or shipped_models()
        written(arguments.drawn, drawn_figure(models, min(arguments.people, 2)), small=True)
    elif arguments.folders:
        if arguments.output is None:
            raise FsrstError("say where the sheet goes: -o SHEET.png")
        titled = {read_record(folder)["model"]: folder for folder in arguments.folders}
        if len(titled) < len(arguments.folders):
            raise FsrstError("two of the folders hold the same model; name each model once")
        manifest = load_manifest(arguments.data) if arguments.data else None
        written(arguments.output, figure(titled, manifest, people=arguments.people))
    elif arguments.results is not None:
        for name, folders in folders_of(arguments.results).items():
            sheet_of_pair = figure(folders, people=arguments.people)
            written(arguments.results / "figures" / f"{name}.png", sheet_of_pair)
    else:
        raise FsrstError("nothing to draw: name folders and -o, or --results, or --drawn")


def folders_of(results: Path) -> dict[str, dict[str, Path]]:
    """Of Table 1's results: pair of data sets -> model -> folder of its first seed."""
    pairs: dict[str, dict[str, Path]] = {}
    for cell in read_cells(results):  # in the order of the table, seeds rising
        if "failed" in cell or cell["references"] != RECIPES[cell["model"]].references:
            continue
        name = f"{cell['train']['name']}-to-{cell['test']['name']}"
        pairs.setdefault(name, {}).setdefault(cell["model"], results / cell["scores"])
    if not pairs:
        raise FsrstError(f"no cells in {results}; experiments/table1.py makes them")
    return pairs


def figure(folders: dict[str, Path], manifest: Manifest | None = None, *, people: int) -> Pixels:
    """One row for each of ``people`` evenly spread people: the input, its references, bicubic, the
    outputs of ``folders`` (title -> scored folder) with their PSNR, the truth.

    A model is shown with its own number of right references, or without if it takes none.

    Raises
    ------
    FsrstError
        If the folders speak of different data, or one was not scored.
    """
    records = {title: read_record(folder) for title, folder in folders.items()}
    first = next(iter(records.values()))
    for title, record in records.items():
        if not same_data(record["data"], first["data"]) or record["scale"] != first["scale"]:
            raise FsrstError(
                f"{folders[title]} is of {record['data']['name']} at {record['scale']}x, the first"
                f" of {first['data']['name']} at {first['scale']}x; one sheet shows one of them"
            )
    manifest, samples = data_of(first, manifest)
    psnrs = {
        (title, row["id"], row["condition"]): row["psnr"]
        for title, folder in folders.items()
        for row in read_scores(folder)
    }
    rows = []
    firsts = [group[0] for group in by_identity(samples).values()]
    for number, sample in enumerate(evenly_spread(firsts, people)):
        panels = around(manifest, samples, sample, int(first["scale"]))
        any_title = next(iter(folders))
        caption = decibels(psnrs[any_title, sample.id, BICUBIC])
        truth = panels.pop()
        panels.append(Panel("bicubic", bicubic(truth.pixels, int(first["scale"])), caption))
        for title, folder in folders.items():
            condition = "right" if "right" in records[title]["conditions"] else "none"
            output = read_image(prediction_path(folder, condition, sample))
            panels.append(Panel(title, output, decibels(psnrs[title, sample.id, condition])))
        panels.append(truth)
        if number:  # titles stand above the first row only
            panels = [Panel("", panel.pixels, panel.caption) for panel in panels]
        rows.append(strip(panels, height=HEIGHT))
    return sheet(rows)


def around(
    manifest: Manifest, samples: Sequence[Sample], sample: Sample, scale: int
) -> list[Panel]:
    """Input, references and, last, the truth of a sample."""
    truth = read_image(manifest.root / sample.target)
    lr = degrade(truth, scale)
    references = references_of(sample, samples, "right", REFERENCES)
    return [
        Panel(f"input {lr.shape[1]}x{lr.shape[0]}", lr),
        *(
            Panel(f"reference {number}", read_image(manifest.root / name))
            for number, name in enumerate(references, start=1)
        ),
        Panel("truth", truth),
    ]


def decibels(psnr: float) -> str:
    return f"{psnr:.2f} dB"


def drawn_figure(models: Sequence[str], people: int) -> Pixels:
    """The sheet of ``models`` (names or files) on drawn faces that nobody was trained on."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_synthetic(
            Path(folder) / "drawn",
            identities=people + 1,
            views=REFERENCES + 1,
            seed=DRAWN_SEED,
            splits={"val": people + 1},
        )
        folders = {}
        for model in models:
            upscaler = open_upscaler(model, threads=1)
            title = model if model in shipped_models() else str(upscaler.info["model"])
            if title in folders:
                raise FsrstError(f"--models: {model} is another {title}; name each network once")
            folders[title] = Path(folder) / title
            predict(upscaler, data, "val", folders[title], conditions=("right",))
            score(folders[title], data)
        return figure(folders, people=people)


def written(path: Path, pixels: Pixels, *, small: bool = False) -> None:
    """Write a sheet as PNG; ``small``: with 256 colours if it is larger than ``LARGEST`` bytes."""
    write_image(path, pixels)
    if small and path.stat().st_size > LARGEST:
        with written_whole(path) as temporary:
            few = Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE)
            few.save(temporary, optimize=True)
        if path.stat().st_size > LARGEST:
            raise FsrstError(f"{path} is larger than {LARGEST} bytes; name fewer --models")
    print(f"written: {path}, {pixels.shape[1]}x{pixels.shape[0]}, {path.stat().st_size:,} bytes")


def smoke(results: Path, data: Manifest) -> None:
    """Both kinds of sheet, from untrained networks."""
    folders = {}
    for model in ("resnet-small", "fsrst-small"):
        weights = results / f"{model}.safetensors"
        save_weights(weights, build(model))
        folders[model] = results / model
        references = REFERENCES if model == "fsrst-small" else 0
        predict(
            open_upscaler(weights, threads=1),
            data,
            "val",
            folders[model],
            n_references=references,
            conditions=("right",) if references else ("none",),
        )
        score(folders[model], data)
    written(results / "figure.png", figure(folders, people=2))
    files = [str(results / f"{model}.safetensors") for model in folders]
    written(results / "drawn.png", drawn_figure(files, 1), small=True)


if __name__ == "__main__":
    sys.exit(finished(main))
