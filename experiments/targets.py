"""What was to be reached, and what was: the last table of docs/results.md (results.py)."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from published import (
    SIZED,
    by_rule,
    distance,
    further,
    measured,
    nearest_at_equal_time,
    paired_identity,
    read_json,
    scores_of,
    sets_of_scores,
)

from fsrst.runtime.model_files import shipped_models

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

from measure import target as line

VIDEO_CLAIMS = (("fsrst", "hime-small"), ("fsrst", "resnet"))  # of Table 1's, to be reached


def score_targets(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """What was to be reached in PSNR, from the headers; in identity, from the scores in
    ``folders``."""
    found = {name: sets_of_scores(name) for name in shipped_models()}

    def right(name: str, data: str, over: str | None = None) -> float:
        psnr = found[name][data]["psnr_mean"]
        return float(psnr["right"] - (psnr[over] if over else 0))

    lines = []
    for kind, bound in (("photo", 2.3), ("call", 2.7)):
        small, full = f"fsrst-small-{kind}", f"fsrst-{kind}"
        lines.append(line(f"{small} over bicubic [dB]", right(small, kind, "bicubic"), bound))
        more = right(full, kind) - right(small, kind)
        lines.append(line(f"{full} over {small} [dB]", more, 0))
    if "fsrst2" not in found:
        return lines
    best = right("fsrst2", "call")
    lines += [
        line("fsrst2 over bicubic, call [dB]", right("fsrst2", "call", "bicubic"), 7.5),
        line(
            "fsrst2 over fsrst-call, call (released weights, other samples) [dB]",
            best - right("fsrst-call", "call"),
            3.0,
        ),
        line(
            "fsrst2 over fsrst2-small, call [dB]",
            best - right("fsrst2-small", "call"),
            0.5,
            at_most=True,
        ),
        line("worth of references, fsrst2, call [dB]", right("fsrst2", "call", "none"), 3.5),
        *rule_targets(folders),
        line(
            "fsrst2 over fsrst-photo, photo (released weights, other samples) [dB]",
            right("fsrst2", "photo") - right("fsrst-photo", "photo"),
            0,
        ),
    ]
    for name in SIZED:
        for data, scores in found[name].items():
            psnr = scores["psnr_mean"]
            harm, what = (
                psnr["none"] - psnr["wrong"],
                f"harm of a wrong person, {name}, {data} [dB]",
            )
            lines.append(line(what, harm, 0.02, at_most=True))
    ours = scores_of(folders, "fsrst2-photo", "right")
    for text, name, condition in (
        ("fsrst-photo less fsrst2 (released weights, other samples)", "fsrst-photo", "right"),
        ("fsrst2 without its references less with them", "fsrst2-photo", "none"),
        (
            "resnet-small-photo, without references, less fsrst2 (other samples)",
            "resnet-small-photo",
            "none",
        ),
    ):
        theirs = scores_of(folders, name, condition)
        if ours and theirs:
            less, _ = paired_identity(ours, theirs)
            lines.append(line(f"identity distance, photo: {text}", less, 0.01))
    return lines


def rule_targets(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The two targets that rest on near references too, for clips of the paper's rule alone."""
    lines = []
    by_name = {folder.name: folder for folder in folders}
    for name, how in (("fsrst2-call", ""), ("fsrst2-self-ensemble-call", ", self-ensemble")):
        long = by_rule(by_name[name]).get("the paper's rule") if name in by_name else None
        if long:
            over, worth = long["right"] - long["bicubic"], long["right"] - long["none"]
            what = f"long clips of call alone{how} [dB]"
            lines += [
                line(f"fsrst2 over bicubic, {what}", over, 7.5),
                line(f"worth of references, fsrst2, {what}", worth, 3.5),
            ]
    return lines


def experiment_targets() -> list[dict[str, Any]]:
    """What was to be reached in the experiments: Table 1, the ablations, alignment A."""
    lines = []
    if table1 := measured("table1"):
        more = [read_json(path) for path in further("table1")]
        for claim in (each for result in (table1, *more) for each in result["claims"]):
            pair, names = (claim["train"], claim["test"]), (claim["above"], claim["below"])
            if pair == ("call", "call") and names in VIDEO_CLAIMS:
                doubt = f" ({claim['not_judged']})" if claim["not_judged"] else ""
                what = f"{names[0]} over {names[1]}, call, {claim['budget']} each{doubt} [dB]"
                lines.append(line(what, claim["difference_db"], 0))
        for nearest in map(nearest_at_equal_time, (table1, *more)):
            ours = [row for row in nearest if row["model"] == "fsrst2"]
            without = [row for row in nearest if not row["references"]]
            if ours and without:
                what = f"identity distance, photo, {ours[0]['budget']} each:"
                what += f" {without[0]['model']}, without references, less fsrst2"
                lines.append(line(what, distance(without[0]) - distance(ours[0]), 0.01))
        on_clips = [
            cell
            for result in (table1, *more)
            for cell in result["cells"]
            if cell["train"]["name"] == cell["test"]["name"] == "call" and "summary" in cell
        ]
        lines += [*across_configs_targets(on_clips), *same_samples_targets(on_clips)]
        if trained := [row for row in table1["rows"] if "minutes" in row]:
            least = min(trained, key=lambda row: float(row["minutes"]))
            what = f"Table 1, the shortest training ({least['model']}, {least['train']}) [minutes]"
            lines.append(line(what, least["minutes"], 20))
        if cost := table1["costs"].get("fsrst2"):
            millions, work = cost["parameters"] / 1e6, cost["multiply_accumulates_g"]["frame"]
            lines += [
                line("fsrst2, parameters [millions]", millions, 2.5, at_most=True),
                line("fsrst2, 32 -> 128, references encoded [GMAC]", work, 1.96, at_most=True),
            ]
    if stability := measured("stability-fsrst2"):
        lines += stability_targets(stability)
    if ablations := measured("ablations"):
        whole, papers = (
            ablations["variants"].get(name, {}).get("data", {}).get("call")
            for name in ("full", "fsrst-small")
        )
        if whole and papers:
            ours, theirs = (s["3"]["conditions"]["right"]["psnr_mean"] for s in (whole, papers))
            samples = f"{ablations['budget']['samples']:,}"
            what = f"fsrst2-small over fsrst-small, call, the same {samples} samples [dB]"
            lines.append(line(what, ours - theirs, 3.0))
    if alignment := measured("alignment"):
        lines += [
            {**target, "what": f"alignment {target['what']}"}
            for target in alignment["targets"]
            if not target["what"].startswith(("A, network, twice:", "A, network, three times:"))
        ]
    return lines


def reference_targets(measured: dict[str, Any]) -> list[dict[str, Any]]:
    bicubic, lines = measured["bicubic"]["psnr_mean"], []
    for name in SIZED:
        psnr = {n: f["psnr_mean"] for n, f in measured["models"][name]["right"].items()}
        for over, least in (("none", psnr["0"]), ("bicubic", bicubic)):
            part = (psnr["1"] - least) / (psnr["3"] - least)
            what = f"one reference's part of three's gain over {over}, {name}, clips"
            lines.append(line(what, part, 0.8))
    best, paper = (measured["models"][n]["right"]["3"]["flicker"] for n in ("fsrst2", "fsrst-call"))
    what = "flicker, fsrst2 less fsrst-call [grey levels]"
    return [*lines, line(what, best - paper, 0, at_most=True)]


def cost_targets(sizes: dict[str, Any]) -> list[dict[str, Any]]:
    """Linear cost: what four times the pixels take, twice, by four and by four; a fourth and a
    fifth reference by a second and a third. The pixels' in units of a frame measured beside them,
    because the machine's speed is not the same from minute to minute."""
    lines = []
    for name in SIZED:
        ms = {at: times[f"{name} bf16"]["median_ms"] for at, times in sizes["frames"].items()}
        beside = {at: ms[at] / sizes["yardstick"][at]["median_ms"] for at in ms}
        pixels = beside["128x3"] / beside["32x3"] / 16
        count = (ms["128x5"] - ms["128x3"]) / (ms["128x3"] - ms["128x1"])
        lines += [
            line(
                f"{name} bf16, time of 128x128 by 16 times that of 32x32", pixels, 1.1, at_most=True
            ),
            line(
                f"{name} bf16, a fourth and fifth reference by a second and third",
                count,
                1.1,
                at_most=True,
            ),
        ]
    return lines


def across_configs_targets(on_clips: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """FSRST over the ResNet of its size where the table of its config has none, but one of another
    config has, as long trained: they differ in what happens to references, and the ResNet takes
    none, so it was trained just so by either."""

    def protocol(cell: dict[str, Any]) -> tuple[Any, ...]:
        training, sets = cell["training"], (cell["train"]["hash"], cell["test"]["hash"])
        length = cell["minutes"], cell["asked_samples"], training.get("rates_of")
        return *length, training["batch_size"], cell["seed"], sets

    lines = []
    for ours in (cell for cell in on_clips if cell["model"] == "fsrst"):
        theirs = {
            cell["config"]: cell
            for cell in on_clips
            if cell["model"] == "resnet" and protocol(cell) == protocol(ours)
        }
        if theirs and ours["config"] not in theirs:
            config, other = next(iter(theirs.items()))
            best = ours["summary"]["conditions"]["right"]["psnr_mean"]
            without = other["summary"]["conditions"]["none"]["psnr_mean"]
            what = f"fsrst by {ours['config']} over resnet by {config}, call, {ours['minutes']:g}"
            what += f" minutes, batches of {ours['training']['batch_size']} each, seed"
            lines.append(line(f"{what} {ours['seed']} [dB]", best - without, 0))
    return lines


def same_samples_targets(on_clips: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """FSRST2 over FSRST where a cell of Table 1 was given just as many samples as one of FSRST's,
    by the same config, seed and batches."""

    def protocol(cell: dict[str, Any]) -> tuple[Any, ...]:
        training, sets = cell["training"], (cell["train"]["hash"], cell["test"]["hash"])
        return cell["config"], cell["seed"], training["samples"], training["batch_size"], sets

    lines = []
    for ours in on_clips:
        for theirs in on_clips:
            models = ours["model"], theirs["model"]
            if models == ("fsrst2", "fsrst") and protocol(ours) == protocol(theirs):
                psnr, paper = (
                    cell["summary"]["conditions"]["right"]["psnr_mean"] for cell in (ours, theirs)
                )
                samples = f"{theirs['training']['samples']:,.0f}"
                what = f"fsrst2 over fsrst, call, the same {samples} samples, {ours['config']} [dB]"
                lines.append(line(what, psnr - paper, 3.0))
    return lines


def stability_targets(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """No run of FSRST2 fails or collapses; ten times the learning rate, five seeds of each."""
    lines = []
    for name in SIZED:
        rows = [row for row in measured["table"] if row["model"] == name]
        bad = sum(row["failed"] + row["collapsed"] for row in rows)
        seeds = min(row["seeds"] for row in rows)
        lines += [
            line(f"{name}, runs that failed or collapsed", bad, 0, at_most=True),
            line(f"{name}, seeds of each learning rate", seeds, 5),
        ]
    return lines
