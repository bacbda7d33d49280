"""Training for so many minutes: the same wall-clock for every model.

Training counts samples, so its rate is measured first, on this machine, and the run is as many
samples as fit: the schedule then ends where the time does. Rates that ``rates.py`` measured for all
models in turns are used where they lie beside the runs. Rates, samples and the seconds really
spent are written down. A GPU needs no minutes of a core: there a number of samples is asked for.
A run is ``<out>/`` as `fsrst train` makes it, with ``budget.json``; it can be stopped and gone on
with, and a finished one is left alone.
"""

import contextlib
import csv
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

from curves import seconds_of
from measure import origin

from fsrst.data.augmentation import Augmentation
from fsrst.data.manifest import Manifest, load_manifest
from fsrst.errors import FsrstError
from fsrst.files import write_json
from fsrst.options import TrainOptions
from fsrst.train import METRICS, WEIGHTS, Diverged, Progress, train

CONFIG = Path(__file__).resolve().parents[1] / "configs/tables.yaml"
BUDGET = "budget.json"  # in a run's folder: how long it is, and why
RATES = "rates.json"  # beside the runs: samples/s by ``rate_key``
FAILURE = "failed.json"  # in a run's folder: it diverged
LENGTHS = ("samples", "warmup_samples", "checkpoint_samples", "log_samples", "out", "threads")
TINY = {"vgg_width": 8}


@dataclass(frozen=True)
class Recipe:
    """What differs between models.

    The rates: for this project's networks those found to train well, for the others the published
    ones or up to four times these, since the run is short.
    """

    learning_rate: float
    alignment: float = 0.1  # learning rate of the alignment, as part of the other
    batch_size: int = 16
    references: int = 3  # as many as the network can use
    share: float = 1.0  # of the minutes; the rest goes to the stages before
    after: tuple[str, str] | None = None  # stage before, and the option that takes its weights
    vgg: bool = False  # takes the option vgg
    tiny: dict[str, Any] = field(default_factory=dict)  # model options of smoke runs


RECIPES = {  # in the order of the tables
    "resnet-small": Recipe(5e-4, references=0, tiny={"width": 8, "blocks": 2}),
    "resnet": Recipe(4e-4, references=0, tiny={"width": 8, "blocks": 2}),
    "span": Recipe(5e-4, references=0, tiny={"width": 8}),
    "hime-small": Recipe(4e-4),
    "hime": Recipe(4e-4),
    # Seconds for each sample on a core: small batches, so that there are steps at all.
    "ttsr": Recipe(
        2e-4, batch_size=4, references=1, vgg=True,
        tiny={**TINY, "width": 8, "blocks": [1, 1, 1, 1]},
    ),
    "c2-matching": Recipe(
        2e-4, batch_size=4, references=1, share=0.7, after=("c2-student", "extractors"), vgg=True,
        tiny={**TINY, "width": 8, "blocks": 1},
    ),
    "mrefsr": Recipe(
        2e-4, batch_size=4, share=0.7, after=("c2-student", "extractors"), vgg=True,
        tiny={**TINY, "width": 8, "blocks": 1},
    ),
    "fsrst-small": Recipe(5e-4),
    "fsrst": Recipe(4e-4),
    "fsrst2-small": Recipe(8e-4, alignment=0.625),
    "fsrst2": Recipe(8e-4, alignment=0.625),
    # stages, no rows of a table
    "c2-teacher": Recipe(1e-3, batch_size=8, references=1, share=0.1, vgg=True, tiny=TINY),
    "c2-student": Recipe(
        3e-4, batch_size=8, references=1, share=0.2, after=("c2-teacher", "teacher"), tiny=TINY
    ),
}  # fmt: skip
MODELS = tuple(name for name in RECIPES if name not in ("c2-teacher", "c2-student"))


@dataclass(frozen=True)
class Length:
    """How long a run is: ``minutes`` at its rate, or ``samples``; ``config`` has the rest."""

    minutes: float | None
    samples: int | None = None
    config: Path = CONFIG


def train_for(out: Path, settings: dict[str, Any], length: Length, *, smoke: bool = False) -> None:
    """Train under ``out`` for ``length``, or go on with it, or leave it if finished.

    ``settings`` replace those of the config.

    Raises
    ------
    Diverged
        If the run did, now or before.
    FsrstError
        If ``out`` holds a run of other settings, data or length.
    """
    budget = plan(out, settings, length, smoke=smoke)
    if (out / FAILURE).is_file():
        raise Diverged(json.loads((out / FAILURE).read_text(encoding="utf-8"))["what"])
    if (out / WEIGHTS).is_file():
        return
    options = sized(settings, out, budget["samples"], length.config)
    try:
        trained(options, resume=True, progress=shown(out.name, budget["samples"]))
    except Diverged as error:
        write_json(out / FAILURE, {"what": str(error)})
        raise


def trained(options: TrainOptions, **how: Any) -> None:
    """``train``; what ``Diverged`` says is the result alone, without the advice."""
    try:
        train(options, **how)
    except Diverged as error:
        raise Diverged(str(error).partition(";")[0]) from error


def plan(out: Path, settings: dict[str, Any], length: Length, *, smoke: bool) -> dict[str, Any]:
    """How many samples the run has: asked for, or measured once, then read from ``out``."""
    options = sized(settings, out, 1_000_000, length.config)
    trained_on = [load_manifest(root) for root in settings["data"]]
    wanted = {
        "minutes": length.minutes,
        "samples": length.samples,
        "data_hash": [content_of(manifest) for manifest in trained_on],
        "pictures": [manifest.pictures_hash(options.split) for manifest in trained_on],
        "smoke": smoke,
        **options.model_dump(mode="json", exclude=set(LENGTHS)),
    }
    path = out / BUDGET
    if path.is_file():
        budget: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for key, value in wanted.items():
            before = budget["asked"].get(key, value)  # runs of earlier versions lack some
            if key == "augmentation":  # and some of these, which then did nothing
                before = asdict(Augmentation(**before))
            if before != value:
                raise FsrstError(
                    f"{out} was trained with {key} = {before!r}, now it is"
                    f" {value!r}; choose another --results or delete that run"
                )
        return budget
    about = origin(settings["threads"], smoke)  # the load before ours
    rate, measured, batch = None, None, settings["batch_size"]
    if length.minutes is None:
        samples = max(1, round((length.samples or 0) / batch)) * batch
    else:
        usual = same_work(length.config, settings)
        rate, measured = known_rate(out.parent, settings) if usual else (None, None)
        if rate is None:
            print(f"{out.name}: measuring its rate", flush=True)
            rate = measured_rate(settings, seconds=0 if smoke else 10, config=length.config)
        samples = max(2, round(rate * length.minutes * 60 / batch)) * batch
    budget = {
        "asked": wanted,
        "measured_samples_per_s": rate,
        "rates_of": measured,
        "samples": samples,
        "origin": about,
    }
    write_json(path, budget)
    return budget


def content_of(manifest: Manifest) -> str:
    """Names what is trained on, also after the set was prepared anew with another size."""
    return f"{manifest.hash}, {manifest.info['size']} px"


def same_work(config: Path, settings: dict[str, Any]) -> bool:
    """Whether its runs take as long as those of ``CONFIG``, whose rates are known: how a sample is
    changed costs next to nothing."""
    mine, usual = (
        sized(settings, Path("run"), 1_000_000, path).model_dump(exclude={"augmentation"})
        for path in (config, CONFIG)
    )
    return bool(mine == usual)


def rate_key(settings: dict[str, Any]) -> str:
    """What kind of run a rate belongs to, such as ``fsrst-n3``."""
    return f"{settings['model']}-n{settings['n_references']}"


def known_rate(runs: Path, settings: dict[str, Any]) -> tuple[float | None, str | None]:
    """What ``rates.py`` measured for such a run, in as many threads and batches as large, and wrote
    beside the runs; and when. Nothing if it did not."""
    path, key = runs / RATES, rate_key(settings)
    if not path.is_file():
        return None, None
    found = json.loads(path.read_text(encoding="utf-8"))
    threads = found.get("origin", {}).get("threads", 1)  # not said: one
    batch = found.get("batch_sizes", {}).get(key, settings["batch_size"])  # not said: the right one
    if key not in found["samples_per_s"] or (threads, batch) != (
        settings["threads"],
        settings["batch_size"],
    ):
        return None, None
    when: str | None = found.get("rates_of", found.get("origin", {}).get("date"))
    return float(found["samples_per_s"][key]), when


def sized(
    settings: dict[str, Any], out: Path, samples: int, config: Path = CONFIG, **changes: int
) -> TrainOptions:
    """``config`` with ``settings``, warm-up and checkpoints in proportion to the length."""
    lengths = {
        "out": str(out),
        "samples": samples,
        "warmup_samples": samples // 20,
        "checkpoint_samples": max(samples // 8, settings["batch_size"]),
        "log_samples": max(samples // 100, settings["batch_size"]),
    }
    return TrainOptions.from_yaml(config, {**settings, **lengths, **changes})


def measured_rate(settings: dict[str, Any], *, seconds: float, config: Path = CONFIG) -> float:
    """Samples/s of training: after the first step at least 50 samples in ``seconds``, or, where
    steps are long, two steps in three times that. ``seconds`` 0: one step."""
    stamps: list[tuple[int, float]] = []

    def watch(done: int, total: int, text: str) -> None:
        stamps.append((done, time.perf_counter()))
        steps, spent = len(stamps) - 1, stamps[-1][1] - stamps[0][1]
        long = steps >= 2 and spent >= 3 * seconds
        if steps and (seconds == 0 or long or (done >= 50 and spent >= seconds)):
            raise _Enough

    batch = settings["batch_size"]
    with tempfile.TemporaryDirectory() as folder:
        options = sized(settings, Path(folder) / "run", 1_000_000, config, log_samples=batch)
        with contextlib.suppress(_Enough):
            trained(options, progress=watch)
    (first, begin), (last, end) = stamps[0], stamps[-1]
    return (last - first) / (end - begin)


class _Enough(Exception):
    pass


def shown(name: str, samples: int) -> Progress:
    """A line for each tenth of a run."""

    def show(done: int, total: int, text: str) -> None:
        step = max(1, samples // 100)
        if done >= samples or done * 10 // samples > (done - step) * 10 // samples:
            print(f"{name}: {done}/{samples} samples, {text}", flush=True)

    return show


def spent(run: Path) -> dict[str, float]:
    """Samples, seconds and last loss that a run's metrics tell, also after interruptions."""
    with (run / METRICS).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    rates = [(float(row["samples"]), float(row["samples_per_s"])) for row in rows]
    last_loss = float(rows[-1]["loss"])
    return {"samples": rates[-1][0], "seconds": seconds_of(rates), "last_loss": last_loss}
