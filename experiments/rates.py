"""How fast every model trains, measured in turns: what makes runs of different days comparable.

    python experiments/rates.py --data data/call --results results
    python experiments/rates.py --data data/call --results results --like resnet-call-s13

A table gives every model the same minutes. Without this, a run's length comes from its own rate at
its own start, and a machine is not equally fast every hour. With ``<results>/runs/rates.json``
(``budget.py`` looks there) all lengths come from rates of one hour. ``--like``: multiply all, so
that this finished run's model has the rate that run was planned with; for runs that are there.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from budget import BUDGET, RATES, RECIPES, measured_rate, rate_key
from measure import origin
from protocol import RUNS, finished, positive, settings_of

from fsrst.data.manifest import load_manifest
from fsrst.errors import FsrstError
from fsrst.files import write_json
from fsrst.models import build
from fsrst.models.weights import save_weights

KINDS = [
    *((model, recipe.references) for model, recipe in RECIPES.items()),
    ("fsrst", 1),  # Table 2
    ("fsrst", 5),
]
ROUNDS, SECONDS = 2, 5


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="prepared data set (train split)")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--like", metavar="RUN", help="folder under <results>/runs")
    parser.add_argument("--vgg", default="random", help="as of the tables")
    parser.add_argument("--batch-size", type=int, help="as of the tables")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--replace", action="store_true", help="measure anew where rates are")
    arguments = parser.parse_args(argv)
    if arguments.batch_size is not None and arguments.batch_size < 1:
        raise FsrstError(f"--batch-size {arguments.batch_size}: expected 1 or more")
    data, runs = load_manifest(arguments.data), arguments.results / RUNS
    planned = None
    if arguments.like is not None:
        if not (runs / arguments.like / BUDGET).is_file():
            raise FsrstError(f"--like {arguments.like}: no {BUDGET} in {runs / arguments.like}")
        planned = json.loads((runs / arguments.like / BUDGET).read_text(encoding="utf-8"))
        threads = planned["origin"]["threads"]
        if threads != arguments.threads:
            raise FsrstError(
                f"--like {arguments.like}: that run has {threads} thread(s), --threads says"
                f" {arguments.threads}; give --threads {threads}"
            )
        check_like(arguments, planned)
    if (runs / RATES).exists() and not arguments.replace:
        raise FsrstError(
            f"{runs / RATES}: runs planned by other rates are not compared with those planned by"
            " these; --replace measures anew, and nothing is to be done where they are good"
        )
    about = origin(arguments.threads, smoke=False)
    found: dict[str, list[float]] = {}
    batches: dict[str, int] = {}
    for _ in range(ROUNDS):
        for model, references in KINDS:
            with tempfile.TemporaryDirectory() as folder:
                options = options_of(model, arguments.vgg, Path(folder))
                settings = settings_of(
                    model,
                    data,
                    references,
                    options,
                    threads=arguments.threads,
                    batch_size=arguments.batch_size,
                )
                rate = measured_rate(settings, seconds=SECONDS)
            found.setdefault(rate_key(settings), []).append(rate)
            batches[rate_key(settings)] = settings["batch_size"]
            print(f"{rate_key(settings)}: {rate:.2f} samples/s", flush=True)
    rates = {key: statistics.fmean(values) for key, values in found.items()}
    factor = 1.0
    if planned is not None:
        asked = planned["asked"]
        factor = planned["measured_samples_per_s"] / rates[rate_key(asked)]
    rates = {key: rate * factor for key, rate in rates.items()}
    result = {
        "samples_per_s": rates,
        "batch_sizes": batches,
        "measured": found,
        "factor": factor,
        "origin": about,
    }
    if planned is not None:  # what is planned by them is as long as that run
        result["rates_of"] = planned.get("rates_of")
    write_json(runs / RATES, {**result, "like": arguments.like, "data": data.hash})
    print(f"written: {runs / RATES}")


def check_like(arguments: argparse.Namespace, planned: dict[str, Any]) -> None:
    """Refuse, before anything is measured, a run whose rate cannot be compared with those of this
    call."""
    asked, run = planned["asked"], f"--like {arguments.like}"
    if planned["measured_samples_per_s"] is None:
        raise FsrstError(f"{run}: its length was given by --samples, so it has no rate")
    kinds = {f"{model}-n{references}" for model, references in KINDS}
    if rate_key(asked) not in kinds:
        raise FsrstError(
            f"{run} is a {rate_key(asked)}; expected one of {', '.join(sorted(kinds))}"
        )
    batch = arguments.batch_size or RECIPES[asked["model"]].batch_size
    if asked["batch_size"] != batch:
        raise FsrstError(
            f"{run} has batches of {asked['batch_size']}, here they are of {batch}; give"
            f" --batch-size {asked['batch_size']}"
        )


def options_of(model: str, vgg: str, folder: Path) -> dict[str, Any]:
    """The options of ``model``; the stage before it is there with random weights, in ``folder``."""
    recipe = RECIPES[model]
    options: dict[str, Any] = {"vgg": vgg} if recipe.vgg else {}
    if recipe.after is not None:
        stage, option = recipe.after
        path = folder / f"{stage}.safetensors"
        save_weights(path, build(stage, **options_of(stage, vgg, folder)))
        options[option] = str(path)
    return options


if __name__ == "__main__":
    sys.exit(finished(main))
