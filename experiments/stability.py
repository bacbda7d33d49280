"""Is affine alignment steadier to train than deformable? Learning rates x seeds, nothing held back.

    python experiments/stability.py --data data/call --train-data data/call --results results
    python experiments/stability.py --smoke

The paper takes the spatial transformer because deformable alignment is said to train unstably, and
measures neither. Here every network meets what recipes soften: a constant learning rate over a
range of ten, no warm-up, no gradient clipping, no averaged weights, batches of 8, as the paper
trains; the alignment learns at ``--alignment-factor`` of the rate (the paper's tenth). Data, order,
augmentation and number of samples are equal: what ``--minutes`` give in all, at rates measured
first and kept, or ``--samples``. Every step's loss and gradient norm are logged, and how far the
alignment moves things (watch.py). Networks without alignment stand beside, as a control.

An interrupted call goes on where it was. Written: stability.json, stability.md, stability.png.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ablations import about, evaluated, made, outcome_of, recipe_of, settings_of
from budget import CONFIG, measured_rate, sized
from curves import Curve, beside, chart, column, save, smoothed
from measure import origin
from protocol import command_line, drawn, finished, positive, require_length
from watch import watched

from fsrst.data.manifest import Manifest, load_manifest
from fsrst.errors import FsrstError
from fsrst.evaluate.report import table
from fsrst.files import write_json, write_text
from fsrst.options import TrainOptions
from fsrst.train import METRICS, WEIGHTS

NAME = "stability"
KINDS = {  # network -> its alignment, and how many of the seeds it runs with
    "resnet-small": ("none, no references: what the trunk does by itself", 3),
    "resnet": ("none, of FSRST's and HIME's size", 3),
    "fsrst-small": ("affine, on 3 features", 3),
    "fsrst": ("affine, on 3 features, of HIME's size", 3),
    "hime-small": ("deformable, on 3 features: learns one shift per tap alone (hime.py)", 3),
    "hime": ("deformable with masks, on 64 features", 3),
    "fsrst2-small": ("affine, then a search without weights and a bounded flow", 5),
    "fsrst2": ("the same, twice as large", 5),
}
RATES = (2.5e-4, 8e-4, 2.5e-3)  # learning rates
SEEDS = (13, 14, 15, 16, 17)
BATCH = 8
SAVED_STEPS = 25  # steps from one checkpoint to the next
JUMP, BEFORE = 2.0, 25  # a loss so many times the median of so many steps before
COLLAPSED = 1.0  # so far below bicubic [dB]
SMOOTHED = 5  # steps of a point in the figure
COLUMNS = {  # key of a line: title, format
    "model": ("network", ""),
    "learning_rate": ("learning rate", "g"),
    "seeds": ("seeds", "d"),
    "failed": ("failed", "d"),
    "collapsed": ("collapsed", "d"),
    "jumps": ("jumps", "d"),
    "psnr_mean": ("PSNR [dB]", ".2f"),
    "psnr_spread": ("its spread over seeds", ".2f"),
    "over_bicubic": ("over bicubic", "+.2f"),
    "worth": ("references are worth", "+.2f"),
    "late_loss": ("loss, last tenth", ".4f"),
    "gradient_median": ("gradient norm, median", ".3g"),
    "gradient_99": ("99 %", ".3g"),
    "gradient_largest": ("largest", ".3g"),
    "displacement_end": ("moved at the end [px]", ".2f"),
    "displacement_largest": ("most [px]", ".2f"),
}
ALIGNMENT = "alignment.json"  # in a run's folder: displacements by step


def shrink(arguments: argparse.Namespace) -> None:
    arguments.data, arguments.train_data = drawn(arguments.results).root, None
    arguments.batch_size, arguments.samples = 2, 4
    arguments.rates, arguments.seeds = arguments.rates[:1], arguments.seeds[:1]


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="set to score (val)")
    parser.add_argument("--train-data", type=Path, nargs="+", action="extend", help="else --data")
    parser.add_argument("--results", type=Path, help="folder of runs, scores and tables")
    parser.add_argument("--models", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--minutes", type=float, default=120, help="of training, all runs together")
    parser.add_argument("--samples", type=int, help="length of every run, instead of --minutes")
    parser.add_argument("--batch-size", type=positive, default=BATCH)
    parser.add_argument("--alignment-factor", type=float, default=0.1)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument(
        "--config", type=Path, default=CONFIG, help="what all runs share (GPU: tables-gpu.yaml)"
    )
    parser.add_argument("--smoke", action="store_true", help="drawn faces, two steps a network")
    arguments = parser.parse_args(argv)
    if not arguments.smoke and not (arguments.data and arguments.results):
        parser.error("--data and --results are needed (or --smoke)")
    require_length(arguments.minutes, arguments.samples)
    return arguments


def run(arguments: argparse.Namespace, command: str) -> dict[str, Any]:
    """Train and score what is missing; the result as in stability.json."""
    results, runs = arguments.results, arguments.results / "runs" / NAME
    test = load_manifest(arguments.data)
    trained_on = [load_manifest(root) for root in arguments.train_data or [arguments.data]]
    grid = [
        (model, rate, seed)
        for position in range(len(arguments.seeds))  # a stopped call has whole rows of the table
        for model in arguments.models
        for rate in arguments.rates
        for seed in arguments.seeds[: KINDS[model][1]][position : position + 1]
    ]
    settings = {
        (model, rate, seed): harsh(model, rate, seed, trained_on, arguments)
        for model, rate, seed in grid
    }
    budget = shared_budget(settings, runs, arguments)
    for model, rate, seed in grid:  # before the first training, not after hours of it
        check_length(runs / f"{model}-{rate:g}-s{seed}", budget["samples"])
    result: dict[str, Any] = {
        **origin(arguments.threads, arguments.smoke),
        "experiment": NAME,
        "command": command,
        "budget": budget,
        "batch_size": arguments.batch_size,
        "alignment_factor": arguments.alignment_factor,
        "train_data": [about(manifest) for manifest in trained_on],
        "data": about(test),
        "runs": [],
    }
    for model, rate, seed in grid:
        name = f"{model}-{rate:g}-s{seed}"
        options = sized(
            settings[model, rate, seed],
            runs / name,
            budget["samples"],
            arguments.config,
            warmup_samples=0,
            log_samples=arguments.batch_size,
            checkpoint_samples=SAVED_STEPS * arguments.batch_size,
        )
        result.setdefault("first_recipe", recipe_of(options))  # others: their rate, seed, model
        facts = one_run(options, test, results / NAME / name, command)
        result["runs"].append({"model": model, "learning_rate": rate, "seed": seed, **facts})
    result["table"] = [
        summary([r for r in result["runs"] if r["model"] == model and r["learning_rate"] == rate])
        for model in arguments.models
        for rate in arguments.rates
    ]
    result["runs"] = [thinned(facts) for facts in result["runs"]]
    write_json(results / f"{NAME}.json", result)
    write_text(results / f"{NAME}.md", markdown(result))
    save(results / f"{NAME}.png", figure(result))
    print(f"written: {results / NAME}.json, .md, .png", flush=True)
    return result


def harsh(
    model: str,
    rate: float,
    seed: int,
    manifests: Sequence[Manifest],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """The tables' recipe without what keeps training calm; every reference is there to align."""
    changes: dict[str, Any] = {
        "model": model,
        "batch_size": arguments.batch_size,
        "learning_rate": rate,
        "alignment_learning_rate": rate * arguments.alignment_factor,
        "schedule": "steps",
        "milestones": [],
        "clip_norm": None,
        "ema": 0.0,
        "augmentation.reference_dropout": 0.0,
    }
    return settings_of(arguments.config, manifests, seed, arguments.threads, **changes)


def shared_budget(
    settings: dict[tuple[str, float, int], dict[str, Any]],
    runs: Path,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Samples of every run, so that all of them together take ``--minutes``; kept in ``runs``.

    Raises
    ------
    FsrstError
        If ``runs`` was begun with another budget.
    """
    batch = arguments.batch_size
    if arguments.samples is not None:
        whole = max(1, round(arguments.samples / batch)) * batch
        return {"minutes": None, "samples": whole, "measured_samples_per_s": {}}
    asked = {
        "minutes": arguments.minutes,
        "config": arguments.config.name,
        "runs": [list(key) for key in settings],
    }
    path = runs / "budget.json"
    if path.is_file():
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if {key: kept.get(key, CONFIG.name) for key in asked} != asked:  # earlier: no config
            raise FsrstError(
                f"{runs} was begun with other models, rates, seeds, minutes or config;"
                " name other --results, or give --samples"
            )
        return kept
    rates: dict[str, float] = {}
    for model, rate, seed in settings:
        if model not in rates:
            print(f"{model}: measuring its rate", flush=True)
            wanted = settings[model, rate, seed]
            rates[model] = measured_rate(wanted, seconds=5, config=arguments.config)
    seconds = sum(1 / rates[model] for model, _, _ in settings)
    samples = max(2, round(arguments.minutes * 60 / seconds / batch)) * batch
    budget = {**asked, "samples": samples, "measured_samples_per_s": rates}
    write_json(path, budget)
    return budget


def check_length(out: Path, samples: int) -> None:
    """Refuse a run that was begun with another length."""
    path = out / "options.json"
    begun = json.loads(path.read_text(encoding="utf-8"))["samples"] if path.is_file() else samples
    if begun != samples:
        raise FsrstError(
            f"{out} was begun with {begun} samples, now it is {samples}; give --samples {begun},"
            " or name other --results"
        )


# --- a run and what is watched --------------------------------------------------------------------


def one_run(options: TrainOptions, test: Manifest, scores: Path, command: str) -> dict[str, Any]:
    """Train and score: how it ended, its curves by step, PSNR on the val split of ``test``."""
    out = Path(options.out)
    with watched(out / ALIGNMENT, options.checkpoint_samples) as watch:
        failed = outcome_of(options, watch)
    kept = json.loads((out / ALIGNMENT).read_text(encoding="utf-8"))
    facts: dict[str, Any] = {
        "failed": failed,
        "alignment": sorted([int(done), *size] for done, size in kept.items()),
        "loss": column(out / METRICS, "loss"),
        "gradient_norm": column(out / METRICS, "gradient_norm"),
    }
    if failed is None:
        found = evaluated(
            out.name, out / WEIGHTS, test, scores, conditions=("right", "none"), command=command
        )
        means = {name: values["psnr_mean"] for name, values in found["conditions"].items()}
        facts |= {"psnr": means["right"], "bicubic": means["bicubic"]}
        facts["worth"] = means["right"] - means["none"]
        facts["collapsed"] = means["right"] < means["bicubic"] - COLLAPSED
    return facts


# --- what is written ------------------------------------------------------------------------------


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One line of the table: all seeds of one network at one learning rate."""
    whole = [run for run in runs if run["failed"] is None]
    psnr = [run["psnr"] for run in whole]
    norms = np.array([norm for run in runs for _, norm in run["gradient_norm"]])
    late = [loss for run in whole for _, loss in last_tenth(run["loss"])]
    ends = [mean for run in whole for _, mean, _ in last_tenth(run["alignment"])]
    largest = [most for run in runs for _, _, most in run["alignment"]]
    return {
        "model": runs[0]["model"],
        "learning_rate": runs[0]["learning_rate"],
        "seeds": len(runs),
        "failed": len(runs) - len(whole),
        "collapsed": sum(run["collapsed"] for run in whole),
        "psnr_mean": float(np.mean(psnr)) if psnr else None,
        "psnr_spread": float(np.std(psnr, ddof=1)) if len(psnr) > 1 else None,
        "over_bicubic": float(np.mean(psnr) - whole[0]["bicubic"]) if psnr else None,
        "worth": float(np.mean([run["worth"] for run in whole])) if whole else None,
        "late_loss": float(np.mean(late)) if late else None,
        "gradient_median": float(np.median(norms)) if norms.size else None,
        "gradient_99": float(np.percentile(norms, 99)) if norms.size else None,
        "gradient_largest": float(norms.max()) if norms.size else None,
        "jumps": sum(jumps([value for _, value in run["loss"]]) for run in runs),
        "displacement_end": float(np.mean(ends)) if ends else None,
        "displacement_largest": max(largest, default=None),
    }


def last_tenth(points: Sequence[Any]) -> Sequence[Any]:
    return points[-max(1, len(points) // 10) :]


def thinned(run: dict[str, Any]) -> dict[str, Any]:
    """A run with means of five steps in place of every step; its folder keeps them all."""
    kept = {
        key: [
            [done, float(f"{value:.4g}")]
            for done, value in smoothed([(point[0], point[1]) for point in run[key]], SMOOTHED)
        ]
        for key in ("loss", "gradient_norm", "alignment")
    }
    return {**run, **kept}


def jumps(losses: Sequence[float]) -> int:
    """Steps whose loss is at least twice the median of the 25 steps before."""
    values = np.asarray(losses)
    return sum(
        bool(values[i] >= JUMP * np.median(values[i - BEFORE : i]))
        for i in range(BEFORE, len(values))
    )


def markdown(result: dict[str, Any]) -> str:
    """Two tables, made from the JSON alone."""
    budget, facts = result["budget"], result["data"]
    size = facts["counts"][facts["split"]]
    why = f" (what {budget['minutes']:g} minutes give all runs)" if budget["minutes"] else ""
    parts = [
        f"`{result['command']}`",
        f"Each run: {budget['samples']:,} samples{why}, batches of {result['batch_size']}, constant"
        " learning rate, no warm-up, no clipping, no averaged weights, alignment at"
        f" {result['alignment_factor']:g} of the rate; {made(result)}. PSNR: {facts['name']}"
        f" {facts['split']}, {size['samples']} pictures of {size['identities']} people (data"
        f" {facts['hash']}), three right references. Moved: distance between where the alignment"
        " looks and a pixel's own place, in pixels of the input. References are worth: over the"
        " same network without them. Failed: a loss or gradient that was not finite. Collapsed:"
        f" {COLLAPSED:g} dB below bicubic. Jump: a step with {JUMP:g} times the median loss of the"
        f" {BEFORE} before. The paper prints nothing of this kind.",
        table(
            [title for title, _ in COLUMNS.values()],
            [
                [number(line[k], form) for k, (_, form) in COLUMNS.items()]
                for line in result["table"]
            ],
        ),
        network_table(result["table"]),
    ]
    failures = [
        f"- {run['model']}, {run['learning_rate']:g}, seed {run['seed']}: {run['failed']}"
        for run in result["runs"]
        if run["failed"]
    ]
    parts += ["\n".join(["Failures:", "", *failures])] if failures else []
    return "\n\n".join(parts) + "\n"


def network_table(lines: Sequence[dict[str, Any]]) -> str:
    """Over all learning rates and seeds, one line per network."""
    rows = []
    for model in dict.fromkeys(line["model"] for line in lines):
        mine = [line for line in lines if line["model"] == model]
        psnr = [line["psnr_mean"] for line in mine if line["psnr_mean"] is not None]
        spreads = [line["psnr_spread"] for line in mine if line["psnr_spread"] is not None]
        totals = [
            str(sum(line[key] for line in mine))
            for key in ("seeds", "failed", "collapsed", "jumps")
        ]
        reached = f"{min(psnr):.2f} to {max(psnr):.2f}" if psnr else "-"
        spread = number(max(spreads, default=None), ".2f")
        rows.append([model, KINDS[model][0], *totals, reached, spread])
    titles = ["network", "alignment", "runs", "failed", "collapsed", "jumps"]
    titles += ["PSNR over the learning rates [dB]", "largest spread of seeds [dB]"]
    return table(titles, rows)


def number(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def figure(result: dict[str, Any]) -> Any:
    """A row per network: loss, gradient norm, displacement; a colour per learning rate."""
    rates = list(dict.fromkeys(line["learning_rate"] for line in result["table"]))
    panels = []
    for model in dict.fromkeys(line["model"] for line in result["table"]):
        runs = [run for run in result["runs"] if run["model"] == model]
        for key, title in (
            ("loss", "loss"),
            ("gradient_norm", "gradient norm"),
            ("alignment", "displacement [px]"),
        ):
            lines = [
                Curve(
                    f"{run['learning_rate']:g}",
                    run[key],
                    rates.index(run["learning_rate"]),
                    thin=True,
                )
                for run in runs
            ]
            panels.append(
                chart(
                    lines,
                    title=f"{model}: {title}",
                    x_label="samples",
                    y_label=title,
                    log_y=key != "alignment",
                    legend=key == "loss",
                )
            )
    return beside(panels)


main = command_line(NAME, parsed, shrink, run)

if __name__ == "__main__":
    sys.exit(finished(main))
