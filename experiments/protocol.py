"""What Tables 1 and 2 share: train for so many minutes, `evaluate`, and a cell of the table.

Protocol. Every model sees the same data, augmentation, order of samples and seed
(configs/tables.yaml) and trains for the same minutes on one core (budget.py). C2-Matching's three
stages share one model's minutes; MRefSR uses the same extractors and pays the same share.
"""

import argparse
import json
import shlex
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from budget import BUDGET, CONFIG, RECIPES, Diverged, Length, spent, train_for
from curves import column, seconds_of

from fsrst.data.manifest import MANIFEST, Manifest, load_manifest
from fsrst.data.synthetic import write_synthetic
from fsrst.errors import FsrstError
from fsrst.evaluate import metrics
from fsrst.evaluate.predict import CONDITIONS, newest, predict
from fsrst.evaluate.score import SUMMARY, score
from fsrst.files import write_json
from fsrst.image import NoPictureError
from fsrst.models.weights import load_weights, read_header
from fsrst.runtime.cores import physical_cores
from fsrst.runtime.export import export
from fsrst.runtime.upscaler import Upscaler, open_upscaler
from fsrst.train import METRICS, WEIGHTS

BACKEND = "backend.json"  # in a run's folder: what runs it, and why not onnxruntime
RUNS, SCORES, CELLS = "runs", "scores", "cells"  # folders of results
MINUTES = 20  # that each network is trained for, if nothing else is asked
STOPPED = 3  # times the median seconds per sample: a run stood still to let other work through


@dataclass(frozen=True)
class Study:
    """Where results go and what is the same for all models. ``smoke``: does it run at all."""

    results: Path
    length: Length = Length(MINUTES)
    threads: int = 1
    vgg: str = "random"
    identity: bool = True
    smoke: bool = False
    command: str = ""
    batch_size: int | None = None  # of all networks; None: each one's own


def run_name(model: str, data: Manifest, seed: int, references: int) -> str:
    """Name of a run's folder; the number of references is told where it is not the usual one."""
    usual = references == RECIPES[model].references
    return f"{model}-{data.name}-s{seed}" + ("" if usual else f"-n{references}")


def train_model(
    study: Study, model: str, data: Manifest, seed: int, references: int | None = None
) -> Path:
    """The folder of the finished run of ``model``, with the stages before it; resumable.

    Raises
    ------
    Diverged
        If it or a stage before it did.
    FsrstError
        If the folder holds a run of other options or minutes.
    """
    recipe = RECIPES[model]
    count = recipe.references if references is None else references
    options = dict(recipe.tiny) if study.smoke else {}
    if recipe.vgg and not study.smoke:
        options["vgg"] = study.vgg
    if recipe.after is not None:
        stage, option = recipe.after
        options[option] = str(train_model(study, stage, data, seed) / WEIGHTS)
    out = study.results.resolve() / RUNS / run_name(model, data, seed, count)
    settings = settings_of(
        model,
        data,
        count,
        options,
        seed=seed,
        threads=study.threads,
        batch_size=2 if study.smoke else study.batch_size,
    )
    train_for(out, settings, part_of(study.length, recipe.share), smoke=study.smoke)
    return out


def part_of(length: Length, share: float) -> Length:
    """That part of a run's length that one stage gets."""
    if length.minutes is None:
        return replace(length, samples=round((length.samples or 0) * share))
    return replace(length, minutes=length.minutes * share)


def settings_of(
    model: str,
    data: Manifest,
    references: int,
    options: dict[str, Any],
    *,
    seed: int = 13,
    threads: int = 1,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """What a run of ``model`` changes in configs/tables.yaml, but for its length; ``batch_size``
    None: the model's own."""
    recipe = RECIPES[model]
    return {
        "model": model,
        "model_options": options,
        "data": [str(data.root.resolve())],
        "n_references": references,
        "batch_size": batch_size or recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "alignment_learning_rate": recipe.learning_rate * recipe.alignment,
        "seed": seed,
        "threads": threads,
    }


def stages_before(study: Study, model: str, data: Manifest, seed: int) -> list[Path]:
    """The runs whose weights ``train_model`` hands on to ``model``."""
    after = RECIPES[model].after
    if after is None:
        return []
    run = study.results / RUNS / run_name(after[0], data, seed, RECIPES[after[0]].references)
    return [*stages_before(study, after[0], data, seed), run]


def busy_seconds(run: Path) -> float:
    """The seconds of ``spent``, where a row of the metrics with more than STOPPED times the median
    row's seconds per sample counts as the median."""
    rows = column(run / METRICS, "samples_per_s")
    usual = statistics.median(1 / rate for _, rate in rows)
    return seconds_of([(s, rate if 1 / rate <= STOPPED * usual else 1 / usual) for s, rate in rows])


# --- scores -----------------------------------------------------------------


def opened(run: Path, threads: int, *, exported: bool = True) -> Upscaler:
    """The trained model: exported for onnxruntime, or in torch where that fails (it says why) or is
    not asked for."""
    note, stem = run / BACKEND, run / run.name
    if not note.is_file():
        model, header = load_weights(run / WEIGHTS)
        shutil.copyfile(run / WEIGHTS, f"{stem}.safetensors")
        outcome = {"backend": "torch", "reason": "not exported"}
        try:
            if exported:
                export(model, header, stem, half_storage=False)
                outcome = {"backend": "onnxruntime", "reason": ""}
        except Exception as error:  # an exporter fails in many ways; torch runs everything
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            outcome = {"backend": "torch", "reason": reason}
        write_json(note, outcome)
    backend = json.loads(note.read_text(encoding="utf-8"))["backend"]
    suffix = ".safetensors" if backend == "torch" else ".upscale.onnx"
    return open_upscaler(f"{stem}{suffix}", backend, threads=threads)


def evaluate(study: Study, run: Path, test: Manifest, references: int) -> tuple[Path, Any]:
    """What `fsrst evaluate` does, without strips: (folder of the scores, summary); resumable.

    With ``references`` 0 only the condition "none".
    """
    out = study.results / SCORES / f"{run.name}-on-{test.name}"
    done, header = out / SUMMARY, read_header(run / WEIGHTS)
    if done.is_file() and done.stat().st_mtime_ns >= newest(test, test.scored):
        summary = json.loads(done.read_text(encoding="utf-8"))
        same = summary["weights_hash"] == header["weights_hash"]
        same &= summary["data"].get("pictures") in (None, test.pictures_hash(test.scored))
        scored = not study.identity or "identity_distance" in summary["definitions"]
        if same and scored and summary["data"]["hash"] == test.hash:
            return out, summary
    # exporting takes most of a smoke run: those with references stay in torch there
    upscaler = opened(run, study.threads, exported=not (study.smoke and references))
    print(f"{run.name}: upscaling {test.name} ({upscaler.backend})", flush=True)
    model = Path(upscaler.model).name
    command = (
        f"fsrst evaluate --model results/{RUNS}/{run.name}/{model} --data data/{test.name}"
        f" --references {references} --threads {study.threads}"
        f"{' --identity' if study.identity else ''} -o results/{SCORES}/{out.name}"
    )
    predict(
        upscaler,
        test,
        test.scored,
        out,
        n_references=references,
        conditions=CONDITIONS if references else ("none",),
        command=command,
    )
    return out, score(out, test, identity=study.identity)


def cell(
    study: Study, model: str, data: Manifest, test: Manifest, seed: int, references: int
) -> dict[str, Any]:
    """Train, score, and write ``<results>/cells/<run>-on-<test>.json``; a failure is a result. A
    cell that is there is kept where its run is not: it was trained on another machine."""
    name = run_name(model, data, seed, references)
    facts: dict[str, Any] = {
        "model": model,
        "run": name,
        "train": {"name": data.name, "hash": data.hash},
        "test": {"name": test.name, "hash": test.hash},
        "seed": seed,
        "references": references,
        "minutes": study.length.minutes,
        "asked_samples": study.length.samples,
        "config": study.length.config.name,
        "more_options": more_options(study),
        "smoke": study.smoke,
        "command": study.command,
    }
    path = study.results / CELLS / f"{name}-on-{test.name}.json"
    if path.is_file():  # the command that made it, not one that found it made
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        facts["command"] = found.get("command")
        usual = {"config": CONFIG.name, "more_options": []}  # what earlier versions do not tell
        same = all({**usual, **found}.get(key) == value for key, value in facts.items())
        if same and not (study.results / RUNS / name).exists():
            return found
    run = study.results / RUNS / name
    try:
        train_model(study, model, data, seed, references)
        out, summary = evaluate(study, run, test, references)
        budget = json.loads((run / BUDGET).read_text(encoding="utf-8"))
        stages = stages_before(study, model, data, seed)
        facts |= {
            "training": {
                **spent(run),
                "stages_seconds": sum(spent(stage)["seconds"] for stage in stages),
                "busy_seconds": sum(busy_seconds(each) for each in (*stages, run)),
                "stages": {read_header(stage / WEIGHTS)["model"]: spent(stage) for stage in stages},
                "own_minutes": budget["asked"]["minutes"],  # without the stages before
                "measured_samples_per_s": budget["measured_samples_per_s"],
                "batch_size": budget["asked"]["batch_size"],
                "learning_rate": budget["asked"]["learning_rate"],
                "origin": budget["origin"],
                "rates_of": budget.get("rates_of"),
            },
            "backend": json.loads((run / BACKEND).read_text(encoding="utf-8")),
            "scores": f"{SCORES}/{out.name}",
            "summary": summary,
        }
    except (Diverged, NoPictureError) as error:
        facts["failed"] = str(error)
        print(f"{name}: {error}", flush=True)
    write_json(path, facts)
    return facts


def more_options(study: Study) -> list[str]:
    """What the command line says beside models, data, seeds and length, where it is not usual."""
    words = [] if study.threads == 1 else ["--threads", str(study.threads)]
    if study.vgg != "random":
        words += ["--vgg", study.vgg if study.vgg == "stlpips" else Path(study.vgg).name]
    if study.batch_size is not None:
        words += ["--batch-size", str(study.batch_size)]
    return words


def read_cells(results: Path) -> list[dict[str, Any]]:
    """All cells under ``results``, in the order of the tables."""
    order = list(RECIPES)
    cells = [json.loads(p.read_text(encoding="utf-8")) for p in (results / CELLS).glob("*.json")]
    return sorted(
        cells, key=lambda c: (c["train"]["name"], c["test"]["name"], order.index(c["model"]),
                              c["references"], c["seed"])
    )  # fmt: skip


def identity_is_possible() -> bool:
    """Whether dlib is there; without it the tables have no identity distance."""
    try:
        metrics.require_identity()
    except FsrstError:
        return False
    return True


# --- command lines --------------------------------------------------------------------------------


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The options that every experiment has."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--results", type=Path, help="folder of runs, scores and tables")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="training of each model")
    parser.add_argument("--samples", type=int, help="of each model, instead of --minutes")
    parser.add_argument(
        "--config", type=Path, default=CONFIG, help="what all runs share (GPU: tables-gpu.yaml)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[13])
    parser.add_argument("--threads", type=int, default=1, help="0: one for each core")
    parser.add_argument("--batch-size", type=int, help="of all networks, not each one's own")
    parser.add_argument("--vgg", default="random", help="random, stlpips or a file")
    parser.add_argument("--no-identity", dest="identity", action="store_false")
    parser.add_argument("--smoke", action="store_true", help="drawn faces, a few samples")
    parser.add_argument(
        "--collect", action="store_true", help="the finished cells in --results, training nothing"
    )
    return parser


def study_of(arguments: argparse.Namespace, command: str) -> Study:
    """The study that a command line asks for.

    Raises
    ------
    FsrstError
        If ``--results`` is missing, there is nothing to train, or a seed is none.
    """
    if arguments.results is None:
        raise FsrstError("say where the results go: --results DIR")
    require_length(arguments.minutes, arguments.samples)
    if min(arguments.seeds) < 0:
        raise FsrstError(f"--seeds {min(arguments.seeds)}: expected 0 or more")
    if arguments.batch_size is not None and arguments.batch_size < 1:
        raise FsrstError(f"--batch-size {arguments.batch_size}: expected 1 or more")
    if not arguments.config.is_file():
        raise FsrstError(f"--config {arguments.config}: no such file; there is {CONFIG.name}")
    minutes = arguments.minutes if arguments.samples is None else None
    vgg = arguments.vgg
    if vgg not in ("stlpips", "random"):
        vgg = str(Path(vgg).resolve())
    return Study(
        results=arguments.results,
        length=Length(minutes, arguments.samples, arguments.config),
        threads=arguments.threads or physical_cores(),
        vgg=vgg,
        identity=arguments.identity and identity_is_possible(),
        smoke=arguments.smoke,
        command=command,
        batch_size=arguments.batch_size,
    )


def positive(text: str) -> int:
    """A whole number of 1 or more, of a command line."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of 1 or more")
    return value


def require_length(minutes: float | None, samples: int | None = None) -> None:
    """Refuse ``--minutes`` or ``--samples`` in which nothing can be trained; None: not asked for.

    Raises
    ------
    FsrstError
        If one of them is not above 0.
    """
    if minutes is not None and not minutes > 0:  # nan too
        raise FsrstError(f"--minutes {minutes:g}: expected more than 0")
    if samples is not None and samples < 1:
        raise FsrstError(f"--samples {samples}: expected 1 or more")


@contextmanager
def smoke_place(arguments: argparse.Namespace) -> Iterator[Manifest]:
    """Drawn faces beside the results of a smoke run: in ``--results``, else in a folder that is
    gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        arguments.results = arguments.results or Path(folder)
        yield drawn(arguments.results)


def command_line(
    script: str,
    parsed: Callable[[Sequence[str]], argparse.Namespace],
    shrink: Callable[[argparse.Namespace], None],
    run: Callable[[argparse.Namespace, str], Any],
) -> Callable[[Sequence[str]], None]:
    """The ``main`` of an experiment: ``run`` as ``parsed``; with ``--smoke`` as ``shrink`` changes
    that, in ``--results`` or in a folder that is gone afterwards."""

    def main(argv: Sequence[str]) -> None:
        arguments, command = parsed(argv), command_of([f"{script}.py", *argv])
        if not arguments.smoke:
            run(arguments, command)
            return
        with tempfile.TemporaryDirectory() as folder:
            arguments.results = arguments.results or Path(folder)
            shrink(arguments)
            run(arguments, command)

    return main


def drawn(folder: Path, name: str = "drawn") -> Manifest:
    """Drawn faces for smoke runs: 3 people to train on, 2 to test on, 4 pictures each."""
    if (folder / name / MANIFEST).is_file():  # an earlier call's: results made of it stay good
        return load_manifest(folder / name)
    return write_synthetic(folder / name, identities=5, views=4, splits={"train": 3, "val": 2})


def command_of(argv: Sequence[str]) -> str:
    """The command line without the places of one machine: data/<name>, and results."""
    words = []
    for before, word in zip(["", *argv], argv, strict=False):
        path = Path(word)
        if before == "--results":
            word = "results"
        elif (path / MANIFEST).is_file():
            word = f"data/{path.name}"
        elif path.is_absolute():
            word = path.name
        words.append(word)
    script = f"experiments/{Path(words[0]).name}"
    return shlex.join(["python", script, *words[1:]])


def finished(main: Callable[[Sequence[str]], None]) -> int:
    """Run an experiment's ``main`` as a command: a user's mistake is one line and exit code 2."""
    try:
        main(sys.argv[1:])
    except FsrstError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0
