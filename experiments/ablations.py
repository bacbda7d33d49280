"""What each part of FSRST2-small is worth: a run for every part taken away, same seed and samples;
and what the paper's network makes of them.

    python experiments/ablations.py --data data/call data/photo \\
        --train-data data/call data/call data/call data/call256 data/photo --results results
    python experiments/ablations.py --smoke

The recipe is that of configs/cpu-fsrst2-small.yaml. Its length is what ``--minutes`` of the whole
network give on ``--threads``: the rate is measured once and kept in the first run's folder, or
``--samples`` says it. An interrupted call goes on where it was; ``--variants`` lets several
processes share the work (give them ``--samples``), and a last call with all of them only collects.

Scores come from ``fsrst.evaluate``: right, no and wrong references, and 1, 2, 3 and 5 right ones
where every sample of a set lists so many. Prepared pictures are aligned, so the first set is scored
once more with every reference turned, moved and zoomed, as a user's would be: ``<name>-moved``.
Written: ablations.json, ablations.md, ablations.png.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from budget import (
    FAILURE,
    LENGTHS,
    RECIPES,
    Diverged,
    Length,
    plan,
    shown,
    sized,
    spent,
    trained,
)
from curves import Curve, beside, chart, column, save, smoothed
from measure import origin
from protocol import command_line, finished, positive, require_length

from fsrst.data.augmentation import draw_affine, move
from fsrst.data.manifest import MANIFEST, Manifest, load_manifest, write_manifest
from fsrst.data.synthetic import write_synthetic
from fsrst.evaluate.predict import newest, predict, up_to_date
from fsrst.evaluate.report import table
from fsrst.evaluate.score import SUMMARY, clustered_standard_error, read_scores, score
from fsrst.files import write_json, write_text
from fsrst.image import read_image, write_image
from fsrst.models.weights import read_header
from fsrst.options import TrainOptions
from fsrst.runtime.upscaler import open_upscaler
from fsrst.train import METRICS, WEIGHTS, Progress

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs/cpu-fsrst2-small.yaml"
NAME = "ablations"
FULL = "full"
COUNTS = (1, 2, 3, 5)  # references
SCORED = 3  # references under right, none and wrong
RIGHT, NONE, WRONG = CONDITIONS = ("right", "none", "wrong")

# A random map of each reference: +- degrees, +- part of the side, 1 +- zoom.
MOVED = {"degrees": 20.0, "translate": 0.1, "zoom": 0.2}
MOVED_SEED = 17

PAPER_NETWORK = "fsrst-small"
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {  # name -> what it is, model_options
    FULL: ("as it is", {}),
    "no-search": ("without the search (`reach: 0`)", {"reach": 0}),
    "no-coarse": ("without the coarse transformer (`coarse: false`)", {"coarse": False}),
    "no-none": ("without the choice of no reference (`none: false`)", {"none": False}),
    "no-detail": (
        "no detail, features of 3 channels (`detail: false, features: 3`)",
        {"detail": False, "features": 3},
    ),
    "features-3": ("features of 3 channels (`features: 3`)", {"features": 3}),
    "grey": ("grey references (`grey: true`)", {"grey": True}),
    "no-drift": ("without the drift (`drift: false`)", {"drift": False}),
    "no-flow": ("without the flow (`flow: false`)", {"flow": False}),
    PAPER_NETWORK: ("the paper's network instead, FSRST-small, at its own learning rates", {}),
}


def shrink(arguments: argparse.Namespace) -> None:
    data = arguments.results / "drawn"
    if not (data / MANIFEST).is_file():
        write_synthetic(data, identities=5, views=6, size=64, splits={"train": 3, "val": 2})
    arguments.data, arguments.train_data, arguments.samples = [data], None, 8


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", action="extend", help="sets to score (val)")
    parser.add_argument("--train-data", type=Path, nargs="+", action="extend", help="else --data")
    parser.add_argument("--results", type=Path, help="folder of runs, scores and tables")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--minutes", type=float, default=15, help="training of the whole network")
    parser.add_argument("--samples", type=int, help="length of every run, instead of --minutes")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--identity", action="store_true", help="also the identity distance (dlib)")
    parser.add_argument("--smoke", action="store_true", help="drawn faces, two steps a variant")
    arguments = parser.parse_args(argv)
    if not arguments.smoke and not (arguments.data and arguments.results):
        parser.error("--data and --results are needed (or --smoke)")
    require_length(arguments.minutes, arguments.samples)
    return arguments


def run(arguments: argparse.Namespace, command: str) -> dict[str, Any]:
    """Train, score and write what is missing; the result as in ablations.json."""
    results, runs = arguments.results, arguments.results / "runs" / NAME
    trained_on = [load_manifest(root) for root in arguments.train_data or arguments.data]
    scored_on = [load_manifest(root) for root in arguments.data]
    first = scored_on[0]
    place = results / NAME / f"moved-{first.name}-{first.pictures_hash(first.scored)}"
    scored_on.append(with_references_moved(first, place))
    settings = settings_of(CONFIG, trained_on, arguments.seed, arguments.threads)
    if arguments.smoke:
        settings |= {"batch_size": 4, "holdout_identities": 1}
    budget = budget_of(settings, runs / FULL, arguments.minutes, arguments.samples)
    result: dict[str, Any] = {
        **origin(arguments.threads, arguments.smoke),
        "experiment": NAME,
        "command": command,
        "seed": arguments.seed,
        "budget": budget,
        "train_data": [about(manifest) for manifest in trained_on],
        "data": [about(manifest) for manifest in scored_on],
        "moved": MOVED,
        "counts": {manifest.name: counts_of(manifest) for manifest in scored_on},
        "variants": {},
    }
    for name in arguments.variants:
        what, model_options = VARIANTS[name]
        changed = settings | {"model_options": model_options}
        if name == PAPER_NETWORK:
            recipe = RECIPES[PAPER_NETWORK]
            changed |= {
                "model": PAPER_NETWORK,
                "learning_rate": recipe.learning_rate,
                "alignment_learning_rate": recipe.learning_rate * recipe.alignment,
            }
        options = sized(changed, runs / name, budget["samples"])
        variant: dict[str, Any] = {"what": what, "recipe": recipe_of(options)}
        result["variants"][name] = variant
        weights = runs / name / WEIGHTS
        failure = outcome_of(options)
        variant["loss"] = column(runs / name / METRICS, "loss")
        if failure is not None:
            variant["failed"] = failure
            continue
        header = read_header(weights)
        variant |= {key: header[key] for key in ("parameters", "weights_hash")}
        variant["training"] = spent(runs / name)
        variant["data"] = {
            manifest.name: scores_of(
                name, weights, manifest, results / NAME / name, command, arguments
            )
            for manifest in scored_on
        }
    compare(result["variants"], results / NAME)
    write_json(results / f"{NAME}.json", result)
    write_text(results / f"{NAME}.md", markdown(result))
    save(results / f"{NAME}.png", figure(result))
    print(f"written: {results / NAME}.json, .md, .png", flush=True)
    return result


# --- training -------------------------------------------------------------------------------------


def settings_of(
    config: Path, manifests: Sequence[Manifest], seed: int, threads: int, **changes: Any
) -> dict[str, Any]:
    """A config as settings of ``budget.sized``: everything but its length and its folder."""
    data = [str(manifest.root.resolve()) for manifest in manifests]
    options = TrainOptions.from_yaml(config, {"data": data, "seed": seed, **changes})
    return {**options.model_dump(mode="json", exclude=set(LENGTHS)), "threads": threads}


def budget_of(
    settings: dict[str, Any], out: Path, minutes: float, samples: int | None
) -> dict[str, Any]:
    """How many samples a run has, and why: as asked, or what ``minutes`` give in ``out``.

    Raises
    ------
    FsrstError
        If ``out`` was begun with other settings or minutes.
    """
    if samples is None:
        planned = plan(out, settings, Length(minutes), smoke=False)
        found = {key: planned[key] for key in ("samples", "measured_samples_per_s")}
        return {"minutes": minutes, **found}
    batch = settings["batch_size"]
    whole = max(1, round(samples / batch)) * batch
    return {"minutes": None, "samples": whole, "measured_samples_per_s": None}


def outcome_of(
    options: TrainOptions, watch: Callable[[Progress], Progress] = lambda progress: progress
) -> str | None:
    """Train, or go on with, or keep, the run of ``options``; why it diverged, or None.

    ``watch`` may wrap the progress that is shown.
    """
    out = Path(options.out)
    failure, recipe = out / FAILURE, recipe_of(options)
    if failure.is_file():
        found = json.loads(failure.read_text(encoding="utf-8"))
        if found.get("recipe", recipe) == recipe:  # else training refuses the folder of another run
            return str(found["what"])
    try:
        trained(options, resume=True, progress=watch(shown(out.name, options.samples)))
    except Diverged as error:
        write_json(failure, {"what": str(error), "recipe": recipe})
        print(f"{out.name}: {error}", flush=True)
        return str(error)
    return None


def recipe_of(options: TrainOptions) -> dict[str, Any]:
    """The options of a run without the folders of one machine."""
    kept = options.model_dump(mode="json", exclude={"out"})
    return {**kept, "data": [f"data/{Path(place).name}" for place in options.data]}


def about(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "hash": manifest.hash,
        "split": manifest.scored,
        "counts": manifest.info["counts"],
    }


# --- scores ---------------------------------------------------------------------------------------


def with_references_moved(manifest: Manifest, folder: Path) -> Manifest:
    """The val split with every reference under a random affine map of ``MOVED``, in ``folder``."""
    samples = []
    for sample in manifest.split(manifest.scored):
        rng = np.random.default_rng([MOVED_SEED, *sample.id.encode()])
        target = f"{sample.id}/target.png"
        references = [f"{sample.id}/{Path(theirs).stem}.png" for theirs in sample.references]
        pairs = zip((target, *references), (sample.target, *sample.references), strict=True)
        for ours, theirs in pairs:
            matrix = None if ours == target else draw_affine(rng, **MOVED)
            if not up_to_date(folder / ours, [manifest.root / theirs]):
                write_image(folder / ours, move(read_image(manifest.root / theirs), matrix))
        samples.append(replace(sample, target=target, references=tuple(references)))
    info = {**manifest.info, "name": f"{manifest.name}-moved"}
    return write_manifest(folder, samples, info)


def counts_of(manifest: Manifest) -> list[int]:
    """Those of COUNTS for which every sample of the val split lists enough references."""
    fewest = min(len(sample.references) for sample in manifest.split(manifest.scored))
    return [count for count in COUNTS if count <= fewest or count == SCORED]


def scores_of(
    label: str,
    weights: Path,
    manifest: Manifest,
    out: Path,
    command: str,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Number of references -> summary of the val split; 3 also without and with wrong ones."""
    return {
        str(count): evaluated(
            label,
            weights,
            manifest,
            out / f"{manifest.name}-{count}",
            n_references=count,
            conditions=CONDITIONS if count == SCORED else (RIGHT,),
            command=command,
            identity=arguments.identity,
            threads=arguments.threads,
        )
        for count in counts_of(manifest)
    }


def evaluated(
    label: str,
    weights: str | Path,
    manifest: Manifest,
    out: Path,
    *,
    n_references: int = 3,
    conditions: Sequence[str] = CONDITIONS,
    command: str | None = None,
    identity: bool = False,
    threads: int = 1,
) -> dict[str, Any]:
    """Predict and score the val split in ``out``, or read what an earlier call found there.

    ``label`` names the network in the summary, which is returned without the folder of the data.
    """
    upscaler = open_upscaler(weights, "torch", threads=threads)
    upscaler.model = label
    path = out / SUMMARY
    summary = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    if summary is None or not (
        summary["weights_hash"] == upscaler.info["weights_hash"]
        and summary["n_references"] == n_references
        and summary["data"]["hash"] == manifest.hash
        and summary["data"].get("pictures") in (None, manifest.pictures_hash(manifest.scored))
        and set(conditions) <= set(summary["conditions"])
        and (not identity or "identity_distance" in summary["conditions"]["bicubic"])
        and path.stat().st_mtime_ns >= newest(manifest, manifest.scored)
    ):
        print(f"{label}: scores on {manifest.name}, {n_references} references", flush=True)
        predict(
            upscaler,
            manifest,
            manifest.scored,
            out,
            n_references=n_references,
            conditions=conditions,
            command=command,
        )
        summary = score(out, manifest, identity=identity)
    return {key: value for key, value in summary.items() if key != "data_root"}


def compare(variants: dict[str, Any], folder: Path) -> None:
    """Add to every variant's scores how much better than the whole network's they are."""
    scored = {name: v for name, v in variants.items() if "data" in v}
    if FULL not in scored:
        return
    for name, variant in scored.items():
        for data, scores in variant["data"].items():
            place = f"{data}-{SCORED}"
            ours, whole = (read_scores(folder / of / place) for of in (name, FULL))
            difference, error = paired(ours, whole, RIGHT)
            scores[str(SCORED)]["over_full_db"] = difference
            scores[str(SCORED)]["over_full_standard_error_db"] = error


def paired(
    ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]], condition: str
) -> tuple[float, float | None]:
    """Mean PSNR difference of the same pictures [dB], and its standard error by person."""
    before = {row["id"]: row["psnr"] for row in theirs if row["condition"] == condition}
    rows = [row for row in ours if row["condition"] == condition]
    differences = np.array([row["psnr"] - before[row["id"]] for row in rows])
    error = clustered_standard_error(differences, [row["identity"] for row in rows])
    return float(differences.mean()), error


# --- what is written ------------------------------------------------------------------------------


def markdown(result: dict[str, Any]) -> str:
    """A table per set, made from the JSON alone."""
    budget = result["budget"]
    rate = budget["measured_samples_per_s"]
    why = f", what {budget['minutes']:g} minutes give at the measured {rate:.1f}/s" if rate else ""
    parts = [
        f"`{result['command']}`",
        f"Each network: {budget['samples']:,} samples{why}; seed {result['seed']}; {made(result)}."
        " Minutes: what training took beside other work."
        " Differences to the whole network are of the same pictures, ± their standard error"
        " clustered by person; that another seed would differ too is not in it. The loss of the"
        " coarse transformer is part of what its networks show as theirs.",
    ]
    parts += [data_table(result, facts) for facts in result["data"]]
    if "moved" in result:
        degrees, translate, zoom = (result["moved"][key] for key in MOVED)
        parts.append(
            f"`-moved`: each reference turned by up to {degrees:g} degrees, moved by"
            f" {translate:.0%} and zoomed by {zoom:.0%} either way, at random."
        )
    failed = {name: v["failed"] for name, v in result["variants"].items() if "failed" in v}
    parts += [f"Failed: {name}: {what}." for name, what in failed.items()]
    return "\n\n".join(parts) + "\n"


def in_order(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The variants as VARIANTS lists them; JSON keeps no order."""
    return [(name, result["variants"][name]) for name in VARIANTS if name in result["variants"]]


def made(result: dict[str, Any]) -> str:
    """Machine, versions, commit."""
    return (
        f"{result['threads']} thread(s) of {result['machine']['cpu']}, torch"
        f" {result['versions'].get('torch')}, commit {result['commit']}, {result['date'][:10]}"
        + (", smoke run" if result["smoke"] else "")
    )


def data_table(result: dict[str, Any], facts: dict[str, Any]) -> str:
    data, size = facts["name"], facts["counts"][facts["split"]]
    others = [count for count in result["counts"][data] if count != SCORED]
    rows = []
    for _, variant in in_order(result):
        if "data" not in variant:
            continue
        scores = variant["data"][data]
        three = scores[str(SCORED)]
        psnr = {name: f"{v['psnr_mean']:.2f}" for name, v in three["conditions"].items()}
        if not rows:
            rows.append(["bicubic", "0", "", psnr["bicubic"], *[""] * (5 + len(others))])
        minutes = variant["training"]["seconds"] / 60
        row = [variant["what"], f"{variant['parameters']:,}", f"{minutes:.1f}", psnr[RIGHT]]
        row += [signed(three, "over_full"), psnr[NONE], psnr[WRONG]]
        row += [signed(three, "worth_of_references"), signed(three, "harm_of_wrong")]
        row += [f"{scores[str(n)]['conditions'][RIGHT]['psnr_mean']:.2f}" for n in others]
        rows.append(row)
    titles = ["PSNR [dB]", "parameters", "minutes", f"{SCORED} right", "against the whole", "none"]
    titles += ["wrong", "references are worth", "wrong ones harm", *(f"{n} right" for n in others)]
    heading = (
        f"### {data}, {facts['split']}: {size['samples']} pictures of {size['identities']} people"
        f" (data {facts['hash']})"
    )
    missing = [str(count) for count in COUNTS if count not in result["counts"][data]]
    note = f"\n\nNot every sample lists {' or '.join(missing)} references." if missing else ""
    return f"{heading}\n\n{table(titles, rows)}{note}"


def signed(scores: dict[str, Any], key: str) -> str:
    """``+0.123 ± 0.045`` of ``<key>_db`` and its standard error, or nothing."""
    value, error = scores.get(f"{key}_db"), scores.get(f"{key}_standard_error_db")
    if value is None:
        return ""
    return f"{value:+z.3f}" + ("" if error is None else f" ± {error:.3f}")


def figure(result: dict[str, Any]) -> Any:
    """Loss curves, and for every set PSNR against the number of references."""
    variants = in_order(result)
    lines = [Curve(name, smoothed(v["loss"], 5)) for name, v in variants]
    panels = [chart(lines, title="training loss", x_label="samples", y_label="loss", legend=True)]
    for facts in result["data"]:
        lines = []
        for colour, (name, variant) in enumerate(variants):
            if "data" not in variant:
                continue
            scores = variant["data"][facts["name"]]
            psnr = [(0.0, scores[str(SCORED)]["conditions"][NONE]["psnr_mean"])]
            psnr += [(float(n), s["conditions"][RIGHT]["psnr_mean"]) for n, s in scores.items()]
            lines.append(Curve(name, sorted(psnr), colour, marks=True))
        title = f"{facts['name']}, {facts['split']}"
        panels.append(chart(lines, title=title, x_label="references", y_label="PSNR [dB]"))
    return beside(panels)


main = command_line(NAME, parsed, shrink, run)

if __name__ == "__main__":
    sys.exit(finished(main))
