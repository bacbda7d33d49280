"""docs/results.md from measured files. What explains them may quote docs/log.md.

    python experiments/results.py benchmarks/results/scores/* \
        --speed benchmarks/results/speed.json --training benchmarks/results/training.json

The scores are what `fsrst evaluate --identity` wrote for each shipped model: summary.json and
scores.csv, copied there. What an experiment wrote as <name>.json is taken from benchmarks/results/
(copy it there when the experiment is complete), with its figure redrawn beside it in docs/images/.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from curves import Curve, beside, chart, save
from numpy.typing import NDArray
from protocol import finished
from published import (
    MEASURED,
    ROOT,
    SIZED,
    by_rule,
    further,
    jackknife,
    measured,
    nearest_at_equal_time,
    paired_identity,
    read_json,
    scores_of,
    sets_of_scores,
)
from references import DRAWS, LIGHTS, MANY, NUMBER
from targets import (
    cost_targets,
    experiment_targets,
    reference_targets,
    score_targets,
)

from fsrst.data.prepare.video import DFD_FIRST_TARGET
from fsrst.errors import FsrstError
from fsrst.evaluate.report import report, table
from fsrst.evaluate.score import clustered_standard_error, read_scores
from fsrst.files import write_text
from fsrst.runtime.model_files import shipped_models

IMAGES = ROOT / "docs/images"
IDENTITY_PAIRS = (  # (folder, condition): expected nearer, and farther
    (("fsrst2-photo", "right"), ("fsrst2-photo", "none")),
    (("fsrst2-photo", "right"), ("fsrst-photo", "right")),
    (("fsrst2-photo", "right"), ("resnet-small-photo", "none")),
    (("fsrst-photo", "right"), ("fsrst-photo", "none")),
    (("fsrst2-call", "right"), ("fsrst2-call", "none")),
    (("fsrst2-call", "right"), ("fsrst-call", "right")),
)
# pictures of photo's val split whose person's references hold the same photograph (correlation of
# the lumas at 128 px 0.92 and 0.94; the next has 0.78, of another photograph: docs/log.md)
THERE_TWICE = ("7212-033139", "7301-186475")
SLOW_DAY = 1.6  # times as long as on the day of the published speeds (docs/log.md)
EXPERIMENTS = {  # script, which makes the text and the figure -> heading; None: it has its own
    "ablations": "## What each part of FSRST2 is worth",
    "stability": "## Stability of training",
    "table1": None,
    "table2": None,
    "alignment": "## Alignment",
    "aggregation": "## Aggregation",
    "damage": "## Damaged inputs and references",
    "memory": "## Memory of a large frame",
}


REMARKS = {  # what a reader of an experiment's tables has to know beside what it writes
    "ablations": "FSRST2's runs were trained, and but for `-moved` scored, before its search and"
    " drift were made smaller and its coarse transformer was used less, and before references'"
    " light was matched (docs/log.md, 2026-11-25); `-moved` was scored after. With grey references"
    " the coarse transformer still learned from colours, which it did not see later. The run of"
    " FSRST-small is of the fifth session of that day, on the same samples, with the same"
    " augmentation and seed.",
    "alignment": "A and B were trained by the code of commit 4473bb0 and those up to a9e3c0d, whose"
    " losses are today's; they were measured by the commit named below, which gave both runs the"
    " names of their losses.",
    "stability": "FSRST2-small's runs in the first table are of an earlier state of the network,"
    " before its search and drift were made smaller and references' light was matched (docs/log.md,"
    " 2026-11-25); those of the released network, and of FSRST2, stand in the second.\n\n"
    "Of FSRST-small's nine runs, with affine alignment, none collapsed, of HIME-small's nine"
    " six did, at every learning rate. Its offsets are not the reason: they stay at 0, as it was"
    " rebuilt they cannot do otherwise (`models/baselines/hime.py`), and its references"
    " count for nothing, so what differs lies in the rest of that network (perhaps its batch"
    " normalisation: not tested). FSRST-small's own alignment runs away at the highest rate"
    " (47 px, four jumps), and the network does without it. So the paper's reason, offsets"
    " that run away, is **not tested** by these two. The network that can test it is `hime`,"
    " whose offsets can move, beside FSRST of its size (two seeds of the planned three; the table"
    " with these two alone). At the two lower rates both train calmly and come out alike. At the"
    " highest, hime's offsets run to their bound of 10 px and it lies 0.3 dB under bicubic;"
    " FSRST's alignment moves as far, its largest gradient is the larger one (15,500), and one of"
    " its two runs collapses. So deformable alignment is **not less stable here than the affine"
    " one**, as far as two seeds say; the paper's claim is not confirmed. The networks without"
    " references (`resnet-small`, `resnet`) have not been run (the command is in docs/log.md).",
}


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+", help="folders of `fsrst evaluate`")
    parser.add_argument("--speed", type=Path, required=True)
    parser.add_argument("--training", type=Path, required=True)
    for name in ("references", "sizes"):
        path = MEASURED / f"{name}.json"
        parser.add_argument(f"--{name}", type=Path, default=path if path.is_file() else None)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results.md")
    arguments = parser.parse_args(argv)
    for path in (arguments.speed, arguments.training):
        if not path.is_file():
            raise FsrstError(f"no {path}; its script in benchmarks/ writes it")
    for folder in arguments.results:
        require_one_run(folder)
    speed = read_json(arguments.speed)
    training = read_json(arguments.training)
    parts = [
        "# Results",
        "Written by `experiments/results.py` from measured files. Definitions of the measures:"
        " `src/fsrst/evaluate/metrics.py`. The experiments are **reduced** (see the model cards for"
        " budgets): they compare models under one protocol, they do not reach for the paper's"
        " absolute numbers, which were measured on other data after far longer training.",
        "## Scores",
        findings(),
        "`call256-val` is the val split of `call` prepared with `--size 256`: the same heads,"
        " inputs of 64x64; `call448-val` with `--size 448 --no-enlarge`: the five people whose"
        " heads are so large, inputs of 112x112. A fifth of the batches of FSRST2's last part of"
        " training had inputs of 64x64, all others 32x32.",
        report(arguments.results).strip(),
        "### Long and short clips",
        rule_table(arguments.results),
        *twice_section(arguments.results),
        *identity_section(arguments.results),
        *self_ensemble_section(arguments.results),
        "## Speed",
        described(speed, "python benchmarks/speed.py --output benchmarks/results/speed.json"),
        frame_table(speed),
        cold_table(speed),
        "### Backends agree",
        agreement_table(speed),
        "PSNR losses of bf16 and int8 on the val splits are in the model cards.",
        "## Training speed and memory",
        described(
            training, "python benchmarks/training.py --output benchmarks/results/training.json"
        ),
        training_table(training),
    ]
    targets = [{"targets": score_targets(arguments.results)}, speed, training]
    if arguments.references:
        references = read_json(arguments.references)
        parts += ["## The number of references, and flicker", reference_table(references)]
        targets.append({"targets": reference_targets(references)})
    if arguments.sizes:
        sizes = read_json(arguments.sizes)
        command = "python benchmarks/sizes.py --output benchmarks/results/sizes.json"
        parts += ["## FSRST2 against size", described(sizes, command), same_speed(sizes, speed)]
        parts.append(size_table(sizes))
        save(IMAGES / "sizes.png", size_figure(sizes))
        parts.append("![Time of a frame against its pixels and the references](images/sizes.png)")
        targets += [sizes, {"targets": cost_targets(sizes)}]
    for name, heading in EXPERIMENTS.items():
        parts += experiment(name, heading)
    parts.append(
        "## Figures 3 to 5\n\n`python experiments/figures.py --results results` draws the paper's"
        " figures from the cells of Table 1 that lie there: a sheet for each pair of sets, input,"
        " references, what every network makes of it, truth. They show real people and stay under"
        " `results/figures/`. The shipped models on drawn faces, by `python experiments/figures.py"
        " --drawn docs/images/models-drawn.png`:\n\n![What each shipped model makes of two drawn"
        " faces](images/models-drawn.png)"
    )
    targets.append({"targets": experiment_targets()})
    parts += ["## Targets", targets_table(*targets)]
    write_text(arguments.output, "\n\n".join(parts) + "\n")


def experiment(name: str, heading: str | None) -> list[str]:
    """The section of an experiment; nothing of one that has not been run to its end."""
    result = measured(name)
    if result is None:
        return []
    script = import_module(name)
    parts = [heading] if heading else []
    parts += [REMARKS[name]] if name in REMARKS else []
    parts.append(script.markdown(result).strip())
    if hasattr(script, "figure"):
        save(IMAGES / f"{name}.png", script.figure(result))
        parts.append(f"![Curves of {name}.py](images/{name}.png)")
    for path in further(name):
        more = {key: value for key, value in read_json(path).items() if key != "costs"}
        parts.append(script.markdown(more).strip())
    return parts


def findings() -> str:
    """What the headers of the shipped models say of the references, in words."""
    lines = []
    for name in shipped_models():
        for data, found in sets_of_scores(name).items():
            psnr = found["psnr_mean"]
            lines.append(
                f"- {name} on {data}: {psnr['right'] - psnr['bicubic']:+.2f} dB over bicubic; its"
                f" references are worth {psnr['right'] - psnr['none']:+.2f} dB; a wrong person's"
                f" references change {psnr['wrong'] - psnr['none']:+.2f} dB."
            )
    return (
        "\n".join(lines) + "\n\nThe paper's network uses its references little: they pass through"
        " three channels at the input's resolution, and their weights sum to 1 whoever they show;"
        " and where they are moved and relit on their own in training, which the paper does not,"
        " it learns to do without them (Table 1, tables-unmoved.yaml). On photographs of other"
        " days, pictures of somebody else serve nearly as well. resnet-small-call was trained as"
        " the call models were before: 110,000 samples, all in batches of 16. FSRST2"
        " looks detail up where a reference shows what the input shows: how much that"
        " is stands in section Aggregation."
    )


def rule_table(folders: Sequence[Path]) -> str:
    """What references are worth by the rule that chose them: near references are worth more."""
    lines = []
    for folder in folders:
        if not folder.name.endswith("-call"):
            continue
        for rule, found in by_rule(folder).items():
            lines.append(
                [
                    folder.name,
                    rule,
                    f"{found['pictures']} of {found['people']} people",
                    *(f"{found[c]:.2f}" for c in ("bicubic", "none", "right")),
                    f"{found['right'] - found['bicubic']:+.2f}",
                    f"{found['right'] - found['none']:+.2f}",
                ]
            )
    return (
        f"Clips of more than {DFD_FIRST_TARGET} frames are cut by the paper's rule for DFD:"
        f" references 0, 48 and 96, targets from {DFD_FIRST_TARGET} on. In shorter ones the last"
        " reference lies 16 or 17 frames before the first target, and is worth more. The scores"
        " above are of both together. Mean PSNR [dB]:\n\n"
        + table(
            [
                "model and data",
                "clips",
                "pictures",
                "bicubic",
                "none",
                "right",
                "over bicubic",
                "worth",
            ],
            lines,
        )
    )


def twice_section(folders: Sequence[Path]) -> list[str]:
    """What references of other days are worth, without the pictures that are there twice."""
    lines = []
    for folder in folders:
        if not folder.name.endswith("-photo"):
            continue
        rows = {(row["id"], row["condition"]): row for row in read_scores(folder)}
        pairs = {i: (rows[i, "right"], rows[i, "none"]) for i, c in rows if c == "right"}
        if not pairs or not set(THERE_TWICE) <= pairs.keys():
            continue
        cells = [folder.name]
        for key, sign, form in (("psnr", 1, "+.4f"), ("identity_distance", -1, "+.4f")):
            if any(key not in row for pair in pairs.values() for row in pair):
                cells += ["", ""]
                continue
            worth = {i: sign * (right[key] - none[key]) for i, (right, none) in pairs.items()}
            once = [value for i, value in worth.items() if i not in THERE_TWICE]
            cells += [format(np.mean(found), form) for found in (list(worth.values()), once)]
        lines.append(cells)
    if not lines:
        return []
    titles = ["model and data", "worth of references [dB]", "without the two"]
    titles += ["nearer to the true face by", "without the two"]
    return [
        "### Photographs that are there twice",
        f"Of the val pictures of `photo`, {' and '.join(THERE_TWICE)} have the same photograph,"
        " from another copy, among their references: not a picture of another day. Most of what"
        " FSRST2's references are worth there in PSNR comes from these two.",
        table(titles, lines),
    ]


def identity_section(folders: Sequence[Path]) -> list[str]:
    """Differences of identity distances on the same pictures, with their spread."""
    lines = ["| the first | the second | second less first | |", "| --- | --- | --- | --- |"]
    for pair in IDENTITY_PAIRS:
        first, second = (scores_of(folders, *side) for side in pair)
        if not (first and second):  # a folder that is not given, or not scored for identity
            continue
        difference, error = paired_identity(first, second)
        cells = [f"{name}, {condition}" for name, condition in pair]
        spread = "" if error is None else f" ± {error:.4f}"
        sure = error is not None and abs(difference) > 2 * error
        said = "" if sure else "within two standard errors of 0"
        lines.append(f"| {' | '.join(cells)} | {difference:+.4f}{spread} | {said} |")
    if len(lines) == 2:
        return []
    text = (
        "How much nearer the first is to the true face than the second: dlib's distance, mean of"
        " the same pictures, ± its standard error clustered by person."
    )
    return ["### Identity, picture by picture", text, "\n".join(lines), *equal_time_identity()]


def self_ensemble_section(folders: Sequence[Path]) -> list[str]:
    """What the mean of a picture and its mirror image gains over the picture alone."""
    by_name = {folder.name: folder for folder in folders}
    lines = []
    for name, folder in by_name.items():
        plain = by_name.get(name.replace("-self-ensemble", ""))
        if plain is None or plain == folder:
            continue
        made_of = [read_json(each / "summary.json") for each in (plain, folder)]
        if len({(made["weights_hash"], made["data"]["hash"]) for made in made_of}) > 1:
            raise FsrstError(f"{folder} is of other weights or data than {plain}; make both again")
        rows = [
            {row["id"]: row for row in read_scores(each) if row["condition"] == "right"}
            for each in (plain, folder)
        ]
        gains = np.array([rows[1][i]["psnr"] - rows[0][i]["psnr"] for i in rows[0]])
        error = clustered_standard_error(gains, [row["identity"] for row in rows[0].values()])
        means = [float(np.mean([row["psnr"] for row in each.values()])) for each in rows]
        cells = [plain.name, *(f"{mean:.2f}" for mean in means), spread(gains.mean(), error, 3)]
        near, far = (scores_of(folders, each.name, "right") for each in (folder, plain))
        cells.append(spread(*paired_identity(near, far), 4) if near and far else "")
        lines.append(cells)
    if not lines:
        return []
    titles = ["model and data", "picture alone [dB]", "self-ensemble [dB]", "gain [dB]"]
    titles.append("nearer to the true face by")
    return [
        "### Self-ensemble",
        "A picture and its mirror image, each upscaled with three right references, and the mean"
        " taken (`fsrst upscale` does it unless told otherwise; its commands stand above), for"
        " twice the time of a frame; ± standard error of the difference, clustered by person. That"
        " it is used was decided on training people (docs/log.md, 2026-11-29). All other figures of"
        " this page are of pictures alone, but for the rows that name it.",
        table(titles, lines),
    ]


def equal_time_identity() -> list[str]:
    """Who is nearest on photographs where all were trained for the same time (Table 1)."""
    rows = nearest_at_equal_time(measured("table1") or {"rows": []})
    if not rows:
        return []
    without = "" if rows[0]["references"] else ", which takes no references"
    said = [f"{row['model']} {row['right']['identity_distance']:.3f}" for row in rows]
    return [
        f"Trained on photographs, as many samples as {rows[0]['budget']} gave (Table 1), nearest to"
        f" the true face is {rows[0]['model']}{without}: {', '.join(said)}."
    ]


def require_one_run(folder: Path) -> None:
    """Refuse a folder whose scores.csv is not of the run that its summary.json tells of."""
    rows = read_scores(folder)
    summary = read_json(folder / "summary.json")
    for condition, means in summary["conditions"].items():
        psnrs = [row["psnr"] for row in rows if row["condition"] == condition]
        if not psnrs or abs(np.mean(psnrs) - means["psnr_mean"]) > 1e-6:
            raise FsrstError(
                f"{folder}: scores.csv and summary.json are not of one run ({condition}); copy both"
            )


def reference_table(measured: dict[str, Any]) -> str:
    """PSNR against the number of references and their light, and flicker."""
    models = measured["models"]
    some = next(iter(models.values()))
    bicubic = measured["bicubic"]
    counts = [*(f"{n} of the three" for n in some["right"]), "3 of a wrong person"]
    by_count = {
        name: [*found["right"].values(), found["other"]["wrong"]] for name, found in models.items()
    }
    parts = [
        f"`python experiments/references.py {' '.join(models)} --data data/call-seq --output"
        f" benchmarks/results/references.json`: {measured['clips']} clips of people in no training"
        f" set, {measured['frames']} neighbouring frames (data {measured['data_hash']}), float32."
        " One and two of the protocol's three references: mean over every choice.",
        compared(
            "PSNR [dB]",
            counts,
            by_count,
            "psnr_mean", 2, bicubic,
        ),
    ]  # fmt: skip
    many = f"of {MANY}"
    if many in some:
        parts += [
            f"So many drawn from {MANY}, {DRAWS} times each. The last of them lie nearer to the"
            " frames that are enlarged, and near ones are worth more:",
            compared(
                "PSNR [dB]",
                [f"{n} {many}" for n in some[many]],
                {name: [*found[many].values()] for name, found in models.items()},
                "psnr_mean", 2, bicubic,
            ),
        ]  # fmt: skip
    parts += [
        f"The light of {NUMBER} references changed (exposure; warmer: red, green and blue times"
        f" {', '.join(map(str, LIGHTS['warmer']))}):",
        compared(
            "PSNR [dB]",
            ["as they are", *some["light"]],
            {
                name: [found["right"]["3"], *found["light"].values()]
                for name, found in models.items()
            },
            "psnr_mean", 2, bicubic,
        ),
        reference_spread(measured),
        "Flicker: mean absolute change of the error from frame to frame [grey levels].",
        compared(
            "flicker",
            counts,
            by_count,
            "flicker", 3, bicubic,
        ),
    ]  # fmt: skip
    return "\n\n".join(parts)


def reference_spread(measured: dict[str, Any]) -> str:
    """What two targets rest on, with its spread: one reference's part of three's gain, flicker."""
    people, models = measured["people"], measured["models"]

    def of_clips(name: str, count: str, measure: str) -> NDArray[np.float64]:
        return np.array(models[name]["right"][count][f"{measure}_of_clips"])

    said = []
    for name in SIZED:
        none, one, three = (of_clips(name, count, "psnr") for count in "013")
        part, error = jackknife(
            lambda at, none=none, one=one, three=three: float(
                (one - none)[at].mean() / (three - none)[at].mean()
            ),
            people,
        )
        said.append(f"{name} {spread(part, error, 3, sign='')}")
    flickers = [of_clips(name, "3", "flicker") for name in ("fsrst2", "fsrst-call")]
    less, error = jackknife(lambda at: float((flickers[0] - flickers[1])[at].mean()), people)
    return (
        f"One reference's part of three's gain over none: {', '.join(said)}; flicker of fsrst2 less"
        f" that of fsrst-call, three references: {spread(less, error, 3)} grey levels. ±:"
        f" standard error by leaving out one of the {len(set(people))} people at a time."
    )


def spread(found: float, error: float | None, digits: int, sign: str = "+") -> str:
    """A figure and its standard error, where it is known."""
    known = "" if error is None else f" ± {error:.{digits}f}"
    return f"{found:{sign}.{digits}f}{known}"


def compared(
    title: str,
    columns: Sequence[str],
    rows: dict[str, list[dict[str, float]]],
    measure: str,
    digits: int,
    bicubic: dict[str, float],
) -> str:
    """A table of one measure, a row for each model; bicubic takes no references."""
    lines = [["bicubic", f"{bicubic[measure]:.{digits}f}", *[""] * (len(columns) - 1)]]
    lines += [
        [name, *(f"{found[measure]:.{digits}f}" for found in cells)] for name, cells in rows.items()
    ]
    return table([title, *columns], lines)


def same_speed(sizes: dict[str, Any], speed: dict[str, Any]) -> str:
    """The machine's speed while the sizes were measured, against the day of the section Speed, and
    what the frames would then have taken on that day."""
    then = speed["models"]["fsrst"]["graph"]["openvino bf16"]["median_ms"]
    titles = ["input, three references", "FSRST's frame beside it [ms]", "slower than in Speed"]
    titles += [f"{name} bf16, at Speed's speed [frames/s]" for name in SIZED]
    rows = []
    for place, times in sizes["frames"].items():
        side, count = place.split("x")
        if count == "3":
            now = sizes["yardstick"][place]["median_ms"]
            rates = [1000 / times[f"{name} bf16"]["median_ms"] * now / then for name in SIZED]
            cells = [f"{side}x{side}", f"{now:.2f}", f"{now / then:.2f} times"]
            rows.append([*cells, *(f"{rate:.0f}" for rate in rates)])
    missed = [
        target["what"]
        for target in sizes["targets"]
        if "frames/s" in target["what"]
        and target["reached"] / SLOW_DAY < float(target["to_reach"].split()[-1])
    ]
    return (
        f"The machine is not equally fast on all days: on slow ones the same graphs took {SLOW_DAY}"
        " times as long (docs/log.md), by which would be missed:"
        f" {'; '.join(missed) or 'no target of these'}. FSRST's own frame (32x32,"
        " bf16, three references), measured in turns with the others, took"
        f" {then:.2f} ms on the day of section Speed; the last columns are computed from that, not"
        " measured:\n\n" + table(titles, rows)
    )


def size_table(sizes: dict[str, Any]) -> str:
    sides = [*next(iter(sizes["frames"].values()))]
    rows = []
    for place, times in sizes["frames"].items():
        side, count = place.split("x")
        rows.append(
            [f"{side}x{side}, {count}", *(f"{times[name]['median_ms']:.1f}" for name in sides)]
        )
    peaks = [[f"{name} px", f"{peak:.2f}"] for name, peak in sizes["peak_memory_gb"].items()]
    return (
        table(["input, references", *sides], rows)
        + "\n\nPeak memory of a process [GB], three references:\n\n"
        + table(["what", "GB"], peaks)
    )


def size_figure(sizes: dict[str, Any]) -> Any:
    """Milliseconds of a frame: against its pixels with three references, and against their number
    at the largest size. Straight lines are linear cost."""
    frames = {
        tuple(int(n) for n in place.split("x")): times for place, times in sizes["frames"].items()
    }
    sides = [*next(iter(frames.values()))]
    largest = max(side for side, _ in frames)

    def curves(points: list[tuple[float, tuple[int, int]]]) -> list[Curve]:
        return [
            Curve(
                name,
                [(x, frames[at][name]["median_ms"]) for x, at in points],
                marks=True,
            )
            for name in sides
        ]

    by_pixels = curves([(float(side**2), (side, n)) for side, n in frames if n == 3])
    top = 1.7 * max(y for curve in by_pixels for _, y in curve.points)  # room for the legend
    by_count = curves([(float(n), (side, n)) for side, n in frames if side == largest])
    return beside(
        [
            chart(by_pixels, title="three references", x_label="pixels of the input",
                  y_label="ms per frame", y_range=(0, top), legend=True),
            chart(by_count, title=f"{largest}x{largest} -> {4 * largest}x{4 * largest}",
                  x_label="references", y_label="ms per frame"),
        ]
    )  # fmt: skip


def described(result: dict[str, Any], command: str) -> str:
    machine, versions = result["machine"], result["versions"]
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    return (
        f"`{command}`: {machine['cpu']}, {machine['cores']} cores, {result['threads']} threads,"
        f" {packages}; commit {result['commit']}, {result['date'][:10]}, load before"
        f" {machine['load_before']}. Median (interquartile range); all sides in turns in one run."
    )


def time_cell(times: dict[str, float]) -> str:
    return f"{times['median_ms']:.2f} ({times['q25_ms']:.2f}-{times['q75_ms']:.2f})"


def frame_table(speed: dict[str, Any]) -> str:
    rows = []
    for model, figures in speed["models"].items():
        for side, times in figures["graph"].items():
            speedup, rate = figures["speedup"][side], figures["frames_per_s"][side]
            whole = figures["whole_call"].get(side)
            cells = [model, side, time_cell(times), f"{speedup:.2f}", f"{rate:.0f}"]
            rows.append([*cells, time_cell(whole) if whole else ""])
    titles = ["model", "side", "graph [ms]", "times faster", "frames/s", "whole call, uint8 [ms]"]
    return (
        f"One 32x32 -> 128x128 frame, {speed['references']} references encoded once; `naive` is"
        " plain eager torch that encodes them again for every frame, one after the other.\n\n"
        + table(titles, rows)
    )


def cold_table(speed: dict[str, Any]) -> str:
    rows = [[name, time_cell(times)] for name, times in speed["cold_start"].items()]
    earlier = "fsrst upscale --no-self-ensemble" not in speed["cold_start"]
    return (
        "From a cold start, one reference, until the picture is written: FSRST-small on every"
        " backend, and `fsrst upscale` as it is without options"
        + (", which did not take the mirror image too then" if earlier else "")
        + ":\n\n"
        + table(["command", "ms"], rows)
    )


def agreement_table(speed: dict[str, Any]) -> str:
    agreeing = {model: figures["agreement"] for model, figures in speed["models"].items()}
    agreeing |= speed.get("agreement", {})
    rows = [
        [model, side, str(found["largest_difference_levels"]), f"{found['psnr_loss_db']:.4f}"]
        for model, sides in agreeing.items()
        for side, found in sides.items()
    ]
    titles = ["model", "backend", "largest difference [grey levels]", "PSNR loss, drawn faces [dB]"]
    return table(titles, rows)


def training_table(training: dict[str, Any]) -> str:
    rate, loader = training["samples_per_s"], training["loader_samples_per_s"]
    rows = [
        ["plain loop: float32, batch 8, one reference after the other", f"{rate['plain']:.1f}"],
        ["ours: bf16, channels_last, batch 16, references in one pass", f"{rate['ours']:.1f}"],
        ["the same, four targets share a reference set", f"{rate['ours, shared']:.1f}"],
        ["the loader alone: mirror images, each reference moved and relit", f"{loader:.0f}"],
    ]
    return (
        table(["FSRST, 3 references", "samples/s"], rows)
        + "\n\nThe loader damages, drops and swaps no references, turns nothing by quarters and"
        " moves nothing of input and references together. What bounds it: docs/log.md.\n\n"
        f"Peak memory of a training process at batch 16: {training['peak_memory_gb']:.2f} GB."
    )


def targets_table(*results: dict[str, Any]) -> str:
    lines = ["| what | to reach | reached | |", "| --- | --- | --- | --- |"]
    for result in results:
        for target in result["targets"]:
            mark = "met" if target["met"] else "**missed**"
            cells = (target["what"], target["to_reach"], f"{target['reached']:g}", mark)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(finished(main))
