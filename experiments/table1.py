"""Table 1: every model on every pair of data sets, one wall-clock for all, and what it costs.

    python experiments/table1.py --train data/call --test data/call --results results
    python experiments/table1.py --train data/photo --test data/photo --train data/photo \\
        --test data/call --models hime-small fsrst-small fsrst --results results
    python experiments/table1.py --smoke

Pairs are ``--train`` and ``--test`` in their order; a model is trained once for each set (its train
split) and scored on the val split. Calls add to the same results: the table holds all cells found
there, so seeds, models and pairs may be done one after the other, or beside each other by several
processes (c2-matching and mrefsr of one set in the same one: they share extractors). An interrupted
call goes on where it was. ``--batch-size`` trains all networks with one; it, another ``--config``
and other ``--minutes`` want a folder of their own in ``--results``. Written: table1.json,
table1.md from it, and table1-report.md, which is what `fsrst report` says of the same folders.
"""

import argparse
import json
import math
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from budget import CONFIG, MODELS, RECIPES, origin
from costs import costs_in, costs_of
from protocol import (
    CELLS,
    MINUTES,
    RUNS,
    STOPPED,
    cell,
    command_of,
    finished,
    parser_of,
    read_cells,
    smoke_place,
    study_of,
)

from fsrst.data.manifest import Manifest, load_manifest
from fsrst.errors import FsrstError
from fsrst.evaluate.report import paper, paper_sets, report, table
from fsrst.evaluate.score import clustered_standard_error, read_scores
from fsrst.files import write_json, write_text

SMOKE_MODELS = ("resnet-small", "c2-matching", "fsrst-small")
PAPER = {  # our name -> the paper's
    "hime-small": "HIME",
    "ttsr": "TTSR",
    "c2-matching": "C2-Matching",
    "mrefsr": "MRefSR",
    "fsrst-small": "FSRST-small",
    "fsrst": "FSRST",
}
PAPER_SETS = ("DFD", "CelebAMask-HQ", "VoxCeleb2")
UNTAUGHT = 0.9  # loss of an extractor that matches hardly better than chance
CLAIMS = (  # pairs of networks; in the paper the first is above the second nearly everywhere
    *(("fsrst", other) for other in ("resnet", *PAPER) if other != "fsrst"),
    ("fsrst-small", "hime-small"),
    ("fsrst-small", "resnet-small"),
)
FEW_SAMPLES = 5000  # a network that saw fewer is not judged
MEASURES = ("psnr_mean", "psnr_pooled", "ssim", "identity_distance")


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--train", type=Path, action="append", default=[], help="data set")
    parser.add_argument("--test", type=Path, action="append", default=[], help="and where to")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=None)
    parser.add_argument("--remeasure", action="store_true", help="measure all costs again")
    arguments = parser.parse_args(argv)
    command = command_of(["table1.py", *argv])
    if arguments.smoke:
        with smoke_place(arguments) as data:
            arguments.models = arguments.models or SMOKE_MODELS
            arguments.minutes, arguments.samples = 0.001, None
            run(arguments, [(data, data)], command)
        return
    if arguments.collect:
        run(arguments, [], command)
        return
    if not arguments.train or len(arguments.train) != len(arguments.test):
        raise FsrstError(
            f"{len(arguments.train)} --train and {len(arguments.test)} --test: name both for each"
            " pair, such as --train data/photo --test data/call"
        )
    pairs = [
        (load_manifest(train), load_manifest(test))
        for train, test in zip(arguments.train, arguments.test, strict=True)
    ]
    run(arguments, pairs, command)


def run(
    arguments: argparse.Namespace, pairs: list[tuple[Manifest, Manifest]], command: str
) -> dict[str, Any]:
    """Fill the cells, measure the costs, write the table."""
    study = study_of(arguments, command)
    about = origin(study.threads, study.smoke)
    for train, test in pairs:
        train.split("train")  # a missing split is said before an hour of training
        test.split(test.scored)
    made = [
        cell(study, model, train, test, seed, RECIPES[model].references)
        for seed in arguments.seeds
        for train, test in pairs
        for model in arguments.models or MODELS
    ]
    asked = {(c["run"], c["test"]["name"]) for c in made}
    cells = [
        c
        for c in read_cells(study.results)
        if c["references"] == RECIPES[c["model"]].references and c["smoke"] == study.smoke
    ]
    # pairs that table2.py alone has scored are not of this table, unless this call asked for them
    groups = [
        group
        for group in grouped(cells)
        if any(
            "table2.py" not in (c.get("command") or "") or (c["run"], c["test"]["name"]) in asked
            for c in group
        )
    ]
    cells = [c for group in groups for c in group]
    if arguments.collect and not cells:
        raise FsrstError(f"no finished cells of Table 1 in {study.results / CELLS}")
    good = [c for c in cells if "failed" not in c]
    runs = {c["model"]: study.results / RUNS / c["run"] for c in good}
    rows = [row for group in groups for row in rows_of(group)]
    spreads = [row.get("right", {}).get("psnr_mean_sd") for row in rows]
    spread = max((each for each in spreads if each is not None), default=None)
    if arguments.collect:
        costs = costs_in(study.results, study.smoke)
    else:
        again = arguments.remeasure
        costs = costs_of(study.results, runs, study.threads, again=again, smoke=study.smoke)
    result = {
        **about,
        "experiment": "table1",
        "command": command,
        "cells": cells,
        "costs": costs,
        "rows": rows,
        "claims": [claim for group in groups for claim in claims_of(study.results, group, spread)],
        "paper": paper(),
    }
    write_json(study.results / "table1.json", result)
    written = json.loads((study.results / "table1.json").read_text(encoding="utf-8"))
    write_text(study.results / "table1.md", markdown(written))
    if good:
        folders = [study.results / c["scores"] for c in good]
        write_text(study.results / "table1-report.md", report(folders))
    print(f"written: {study.results / 'table1.md'}")
    return result


# --- numbers ------------------------------------------------------------------------------------


def grouped(cells: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The cells of each pair and length of training."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for c in cells:
        key = (c["train"]["hash"], c["test"]["hash"], budget_of(c))
        groups.setdefault(key, []).append(c)
    return list(groups.values())


def budget_of(cell: dict[str, Any]) -> str:
    """How long the cell's model was trained, in words, and what is not usual: batches, config."""
    more = f", batches of {size}" if (size := batch_asked(cell)) else ""
    more += f", {config}" if (config := config_of(cell)) != CONFIG.name else ""
    more += f", {count} threads" if (count := threads_of(cell)) != 1 else ""
    if cell["minutes"] is None:
        return f"{cell['asked_samples']:,} samples{more}"
    return f"{cell['minutes']:g} minutes{more}"


def threads_of(cell: dict[str, Any]) -> int:
    return int(cell.get("training", {}).get("origin", {}).get("threads", 1))


def config_of(cell: dict[str, Any]) -> str:
    """The file of configs/ that the cell's run shares with others."""
    return str(cell.get("config", CONFIG.name))


def batch_asked(cell: dict[str, Any]) -> str | None:
    """``--batch-size`` of the call that trained the cell's model; None: the model's own."""
    words = cell.get("more_options", [])
    return words[words.index("--batch-size") + 1] if "--batch-size" in words else None


def pair_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """What rows of one table have in common: train set, test set, budget; which pictures."""
    return row["train"], row["test"], row["budget"], *row.get("hashes", [])


def sets_of(cell: dict[str, Any]) -> dict[str, Any]:
    """The names of a cell's sets, and hashes that tell sets of one name apart."""
    sets = cell["train"], cell["test"]
    train, test = (each["name"] for each in sets)
    return {"train": train, "test": test, "hashes": [each["hash"] for each in sets]}


def rows_of(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of one pair: bicubic, then the models; means over seeds and their spread."""
    pair: dict[str, Any] = {**sets_of(cells[0]), "budget": budget_of(cells[0])}
    good = [c for c in cells if "failed" not in c]
    pair["paper_sets"] = paper_sets(c["summary"] for c in good)
    rows = []
    if good:
        conditions = good[0]["summary"]["conditions"]
        rows.append({**pair, "model": "bicubic", "right": measures([conditions["bicubic"]])})
    for model in dict.fromkeys(c["model"] for c in cells):
        mine = [c for c in cells if c["model"] == model]
        passed = [c for c in mine if "failed" not in c]
        row = {
            **pair,
            "model": model,
            "references": mine[0]["references"],
            "seeds": [c["seed"] for c in passed],
            "failures": [c["failed"] for c in mine if "failed" in c],
            "rates_of": sorted({str(planned_by(c)) for c in passed}),
        }
        if passed:
            conditions = [c["summary"]["conditions"] for c in passed]
            row |= {
                "right": measures([c.get("right", c["none"]) for c in conditions]),
                "none": measures([c["none"] for c in conditions]),
                "samples": statistics.fmean(c["training"]["samples"] for c in passed),
                "minutes": statistics.fmean(busy_minutes(c) for c in passed),
            }
            if "wrong" in conditions[0]:
                row["wrong"] = measures([c["wrong"] for c in conditions])
        rows.append(row)
    return rows


def busy_minutes(cell: dict[str, Any]) -> float:
    """Of training, with the stages before. Cells of earlier versions know only those with stops."""
    training = cell["training"]
    with_stops = training["seconds"] + training["stages_seconds"]
    return float(training.get("busy_seconds", with_stops)) / 60


def measures(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean over seeds of each measure, and ``..._sd`` where there are several."""
    means: dict[str, float] = {}
    for key in MEASURES:
        values = [f[key] for f in found if key in f]
        if values:
            means[key] = statistics.fmean(values)
        if len(values) > 1:
            means[f"{key}_sd"] = statistics.stdev(values)
    return means


def claims_of(
    results: Path, cells: Sequence[dict[str, Any]], seed_spread: float | None = None
) -> list[dict[str, Any]]:
    """The paper's order of models, tested on one pair: difference of mean PSNRs over the seeds
    that both have, with its standard error over pictures, clustered by person. ``seed_spread``
    [dB]: how much a network's seeds are known to differ (standard deviation); None: not known."""
    found = []
    good = [c for c in cells if "failed" not in c]

    def pooled(side: Sequence[dict[str, Any]]) -> float:
        conditions = [c["summary"]["conditions"] for c in side]
        return statistics.fmean(c.get("right", c["none"])["psnr_pooled"] for c in conditions)

    for above, below in CLAIMS:
        sides = [{c["seed"]: c for c in good if c["model"] == model} for model in (above, below)]
        seeds = sorted(sides[0].keys() & sides[1].keys())
        if not seeds:
            continue
        psnrs, people = [], []
        for side in sides:
            values, people = zip(*(psnrs_of(results, side[s]) for s in seeds), strict=True)
            psnrs.append(np.mean(values, axis=0))
        difference = psnrs[0] - psnrs[1]
        both = [[side[s] for s in seeds] for side in sides]
        unfit = [reason for side in both for reason in unfitness(side)]
        unfit += planned_apart([c for side in both for c in side])
        found.append(
            {
                "not_judged": "; ".join(unfit),
                **sets_of(cells[0]),
                "budget": budget_of(cells[0]),
                "paper_sets": paper_sets(c["summary"] for c in cells if "failed" not in c),
                "above": above,
                "below": below,
                "difference_db": float(difference.mean()),
                "standard_error_db": clustered_standard_error(difference, people[0]),
                "seed_error_db": None
                if seed_spread is None
                else seed_spread * (2 / len(seeds)) ** 0.5,
                "pooled_db": pooled(both[0]) - pooled(both[1]),
                "seeds": seeds,
                "paper_db": paper_difference(above, below),
            }
        )
    return found


def planned_by(cell: dict[str, Any]) -> str:
    """Which measurement of rates said how many samples the cell's minutes are: when ``rates.py``
    made it, or on which day the run itself did at its start."""
    training = cell["training"]
    own = training.get("origin", {}).get("date", "earlier")[:10]
    return str(training.get("rates_of") or f"{own}, at its start")


def planned_apart(cells: Sequence[dict[str, Any]]) -> list[str]:
    """Why runs of so many minutes were not given the same time, where they were not."""
    apart = len({planned_by(c) for c in cells if c["minutes"] is not None}) > 1
    return ["their lengths were planned by rates of different days"] if apart else []


def unfitness(cells: Sequence[dict[str, Any]]) -> list[str]:
    """Why the scores of a network, over seeds, say nothing about it: at most one reason."""
    name = cells[0]["model"]
    seen = min(c["training"]["samples"] for c in cells)
    if seen < FEW_SAMPLES:
        return [f"{name} saw {seen:,.0f} samples"]
    conditions = [c["summary"]["conditions"] for c in cells]
    best = statistics.fmean(c.get("right", c["none"])["psnr_mean"] for c in conditions)
    if best < statistics.fmean(c["bicubic"]["psnr_mean"] for c in conditions):
        return [f"{name} is below bicubic"]
    return []


def psnrs_of(results: Path, one: dict[str, Any]) -> tuple[list[float], list[str]]:
    """PSNR of every picture under the cell's best condition, and who is on it."""
    best = "right" if one["references"] else "none"
    rows = [row for row in read_scores(results / one["scores"]) if row["condition"] == best]
    return [row["psnr"] for row in rows], [row["identity"] for row in rows]


def paper_difference(above: str, below: str) -> dict[str, float]:
    """The same difference in the paper's tables, by its data sets."""
    numbers = paper()
    if below == "resnet" and above == "fsrst":
        without, *_, three = numbers["table2"]["rows"]
        return {"DFD": round(three["DFD"][0] - without["DFD"][0], 4)}
    rows = {row["model"]: row for row in numbers["table1"]["rows"]}
    if above not in PAPER or below not in PAPER:
        return {}
    first, second = rows[PAPER[above]], rows[PAPER[below]]
    return {name: round(first[name][0] - second[name][0], 4) for name in PAPER_SETS}


# --- words ----------------------------------------------------------------------------------------


def markdown(result: dict[str, Any]) -> str:
    """table1.md, from the JSON alone."""
    usual = all(results_of(c) == "results" for c in result["cells"])
    budgets = "; ".join(dict.fromkeys(budget_of(c) for c in result["cells"]))
    parts = [
        "## Table 1" if usual else f"## Table 1, all for {budgets}",
        made_by(result, [result["command"]] if result["smoke"] else commands_of(result["cells"])),
        protocol_of(result),
    ]
    for pair in dict.fromkeys(pair_of(row) for row in result["rows"]):
        rows = [row for row in result["rows"] if pair_of(row) == pair]
        claims = [c for c in result["claims"] if pair_of(c) == pair]
        parts += [
            "### {} -> {}, {}".format(*pair[:3]),
            score_table(rows, result["paper"]),
            pending(rows),
            claim_table(claims),
        ]
    if "costs" in result:  # else they stand in another table beside this one
        parts += ["### Costs", cost_table(result["costs"])] if result["costs"] else []
        parts += ["### The paper's Table 1", paper_table(result["paper"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def protocol_of(result: dict[str, Any]) -> str:
    cells = result["cells"]
    good = [c for c in cells if "failed" not in c]
    vgg = sorted({str(c["summary"]["options"]["vgg"]) for c in good if RECIPES[c["model"]].vgg})
    heavy = [c["model"] for c in good if c["training"]["samples"] < FEW_SAMPLES and not c["smoke"]]
    own = not any(batch_asked(c) for c in cells)
    text = (
        f"Every model trained for {lengths_of(cells)}, with the same data, augmentation and seed"
        f" ({configs_of(cells)}); learning rates{' and batches' if own else ''} are each model's"
        " own: of this project's networks those found to train well, of the others the published"
        " ones or up to four times these, not tuned further"
        + (", batches of 4 for ttsr, c2-matching and mrefsr" if own else "")
        + " (experiments/budget.py);"
        " minutes: what it really took, on faster and slower days"
        " than that on which samples were counted, often beside another process; a"
        f" line of the log with more than {STOPPED} times the median's seconds per sample, when"
        " other work was let through, counts as the median; right references, PSNR in dB on RGB."
        " Where there are several seeds: mean ± standard deviation over them."
    )
    planned = {planned_by(c) for c in good if not c["smoke"]}
    if len(planned) > 1:
        runs = {
            date: dict.fromkeys(c["run"] for c in good if planned_by(c) == date) for date in planned
        }
        days = "; ".join(
            f"{date.replace('T', ' ')[:16] if 'start' not in date else date}: {', '.join(found)}"
            for date, found in sorted(runs.items(), reverse=True)
        )
        text += f" Samples were counted by rates of several days, which are not compared: {days}."
    stopped = dict.fromkeys(c["run"] for c in good if "busy_seconds" not in c["training"])
    if stopped:
        text += f" The stops count in the minutes of {', '.join(stopped)}."
    if vgg:
        text += f" VGG numbers: {', '.join(vgg)}."
    untaught = sorted(
        {
            f"{name} {facts['last_loss']:.2f} after {facts['samples']:,.0f} samples"
            for c in good
            if not c["smoke"]
            for name, facts in c["training"].get("stages", {}).items()
            if facts["last_loss"] > UNTAUGHT
        }
    )
    if untaught:
        text += (
            f" The contrastive extractors of C2-Matching and MRefSR did not learn to match in their"
            f" share of the time: a loss of 1 is that of chance ({'; '.join(untaught)})."
        )
    if heavy:
        names = ", ".join(dict.fromkeys(heavy))
        text += (
            f" **{names}** saw under {FEW_SAMPLES:,} samples in that time: their rows say what this"
            " budget gives, not what the networks can do."
        )
    if result["smoke"]:
        text += " **Smoke run: the numbers mean nothing.**"
    return text


def lengths_of(cells: Sequence[dict[str, Any]]) -> str:
    """The lengths of training in words: minutes of a core, or samples."""
    minutes = [f"{m:g}" for m in sorted({c["minutes"] for c in cells if c["minutes"] is not None})]
    samples = sorted({c["asked_samples"] for c in cells if c["minutes"] is None})
    words = (
        [f"as many samples as {' or '.join(minutes)} minutes on one core give"] if minutes else []
    )
    return " or ".join(words + [f"{count:,} samples" for count in samples])


def configs_of(cells: Sequence[dict[str, Any]]) -> str:
    """The config files that the cells' runs share."""
    return ", ".join(sorted({f"configs/{config_of(c)}" for c in cells}))


def commands_of(cells: Sequence[dict[str, Any]]) -> list[str]:
    """The command that makes all cells of one length of training and of the first seed, with what
    is still missing among them; then those of the seeds that some networks have beside it."""
    commands = []
    for length in dict.fromkeys(length_options(c) for c in cells):
        mine = [c for c in cells if length_options(c) == length]
        first = min(c["seed"] for c in mine)
        pairs = dict.fromkeys((c["train"]["name"], c["test"]["name"]) for c in mine)
        wanted = [(list(pairs), mine, {first})]
        for pair in pairs:
            more = [
                c
                for c in mine
                if (c["train"]["name"], c["test"]["name"]) == pair and c["seed"] != first
            ]
            wanted += [([pair], more, {c["seed"] for c in more})] if more else []
        for places, found, seeds in wanted:
            models = [model for model in MODELS if model in {c["model"] for c in found}]
            words = ["python", "experiments/table1.py"]
            for train, test in places:
                words += ["--train", f"data/{train}", "--test", f"data/{test}"]
            words += ["--models", *models] if len(models) < len(MODELS) else []
            words += ["--seeds", *map(str, sorted(seeds)), *length]
            words += ["--results", results_of(mine[0])]
            commands.append(shlex.join(words))
    return commands


def results_of(cell: dict[str, Any]) -> str:
    """The folder of results of a cell: runs of two lengths, batches or configs would have one name,
    and be refused."""
    minutes, size, config = cell["minutes"], batch_asked(cell), config_of(cell)
    words = [] if minutes in (None, MINUTES) else [f"{minutes:g}min"]
    words += [f"{cell['asked_samples']}samples"] if minutes is None else []
    words += [] if config == CONFIG.name else [Path(config).stem.removeprefix("tables-")]
    words += [f"batch{size}"] if size else []
    return f"results/{'-'.join(words)}" if words else "results"


def length_options(cell: dict[str, Any]) -> tuple[str, ...]:
    """What a command line says of the cell's length of training."""
    config = config_of(cell)
    words = [] if config == CONFIG.name else ["--config", f"configs/{config}"]
    words += cell.get("more_options", [])
    if cell["minutes"] is None:
        return (*words, "--samples", str(cell["asked_samples"]))
    return (*words, "--minutes", f"{cell['minutes']:g}")


def made_by(result: dict[str, Any], commands: Sequence[str]) -> str:
    """The machine, what makes the table, and which commit trained which network."""
    made: dict[str, list[str]] = {}
    machines = set()
    for c in result["cells"]:
        origin = {**result, **c.get("training", {}).get("origin", {})}
        machines.add(f"{origin['machine']['cpu']}, {origin['threads']} thread(s)")
        runs = made.setdefault(f"{origin['date'][:10]}, {origin['commit']}", [])
        runs += [c["run"]] if c["run"] not in runs else []
    lines = [f"- {commit}: {', '.join(runs)}" for commit, runs in sorted(made.items())]
    return "\n\n".join(
        [
            f"{'; '.join(sorted(machines))}.",
            "\n".join(f"- `{command}`" for command in commands),
            "<details><summary>Which commit trained which network</summary>",
            "\n".join(lines),
            "</details>",
        ]
    )


def score_table(rows: Sequence[dict[str, Any]], numbers: dict[str, Any]) -> str:
    theirs = f"paper DFD / CelebA / Vox2{other_data(rows)}"
    titles = ["model", "refs", "samples", "minutes", "PSNR", "pooled", "SSIM", "identity",
              "without refs", "wrong refs", theirs]  # fmt: skip
    lines = []
    for row in rows:
        right = row.get("right", {})
        lines.append(
            [
                row["model"] + (f" ({len(row['seeds'])} seeds)" if row.get("seeds", [])[1:] else "")
                + (f" **failed {len(row['failures'])} times**" if row.get("failures") else ""),
                str(row.get("references", "")),
                f"{row['samples']:,.0f}" if "samples" in row else "",
                f"{row['minutes']:.1f}" if "minutes" in row else "",
                value(right, "psnr_mean", 2), value(right, "psnr_pooled", 2),
                value(right, "ssim", 4), value(right, "identity_distance", 3),
                value(row.get("none", {}), "psnr_mean", 2) if row.get("references") else "",
                value(row.get("wrong", {}), "psnr_mean", 2),
                paper_cell(numbers, row["model"]),
            ]
        )  # fmt: skip
    return table(titles, lines)


def pending(rows: Sequence[dict[str, Any]]) -> str:
    """The models that have no row, if any."""
    there = {row["model"] for row in rows}
    names = [model for model in MODELS if model not in there]
    return f"Not trained on this pair yet: {', '.join(names)}." if names else ""


def other_data(rows: Sequence[dict[str, Any]]) -> str:
    """What the heading of the paper's numbers says where they are of other data."""
    return "" if any(row.get("paper_sets") for row in rows) else ", other data"


def value(found: dict[str, float], key: str, digits: int) -> str:
    if key not in found:
        return ""
    text = f"{found[key]:.{digits}f}"
    return f"{text} ± {found[f'{key}_sd']:.{digits}f}" if f"{key}_sd" in found else text


def paper_cell(numbers: dict[str, Any], model: str) -> str:
    for row in numbers["table1"]["rows"]:
        if PAPER.get(model) == row["model"]:
            return " / ".join(f"{row[name][0]:.2f}" for name in PAPER_SETS)
    return ""


def claim_table(claims: Sequence[dict[str, Any]]) -> str:
    if not claims:
        return ""
    lines = []
    for claim in claims:
        error = claim["standard_error_db"]
        seeds_error = claim.get("seed_error_db")  # None: one seed each, or an earlier version's
        printed = ", ".join(f"{name} {db:+.2f}" for name, db in claim["paper_db"].items())
        difference = claim["difference_db"]
        sure = error is not None and abs(difference) > 2 * math.hypot(error, seeds_error or 0.0)
        said = "holds" if difference > 0 else "**does not hold**"
        if not sure:
            spread = "" if seeds_error is None else " and seeds' spread"
            said += f", within two standard errors{spread} of 0"
        elif seeds_error is None:
            said += ", for this seed"
        if claim.get("not_judged"):
            said = f"not judged: {claim['not_judged']}"
        lines.append(
            [
                f"{claim['above']} above {claim['below']}",
                str(len(claim["seeds"])),
                f"{difference:+.2f}" + ("" if error is None else f" ± {error:.2f}"),
                f"{claim['pooled_db']:+.2f}" if "pooled_db" in claim else "",
                printed or "-",
                said,
            ]
        )
    theirs = f"in the paper [dB]{other_data(claims)}"
    return (
        "Order of two networks, here and in the paper. Here: mean PSNR of pictures, ± standard"
        " error over them, clustered by person; beside it pooled PSNR, which the paper's most"
        " likely is."
        + (
            " The verdict also counts the largest spread that seeds have in these tables."
            if all(claim.get("seed_error_db") is not None for claim in claims)
            else " How much seeds differ is not known here, and not in the verdict."
        )
        + "\n\n"
        + table(["order", "seeds", "here [dB]", "pooled [dB]", theirs, ""], lines)
    )


def cost_table(costs: dict[str, Any]) -> str:
    titles = ["model", "parameters", "GMAC per frame", "GMAC once per reference set",
              "ms per frame (interquartile range)", "backend", "memory [MB]",
              "measured"]  # fmt: skip
    lines = []
    for model in (name for name in MODELS if name in costs):
        cost = costs[model]
        call, work, memory = cost["call"], cost["multiply_accumulates_g"], cost["memory"]
        lines.append(
            [
                model,
                f"{cost['parameters']:,}",
                f"{work['frame']:.2f}",
                f"{work['encode']:.2f}",
                f"{call['median_ms']:.1f} ({call['q25_ms']:.1f}-{call['q75_ms']:.1f})",
                cost["backend"],
                f"{memory['mb']:.0f}" if memory else "",
                cost["origin"]["date"][:10],
            ]
        )
    about = [cost["origin"] for cost in costs.values()]
    made = ", ".join(sorted({f"{a['date'][:10]}, commit {a['commit']}" for a in about}))
    threads = ", ".join(sorted({f"{a['threads']} thread(s)" for a in about}))
    loads = ", ".join(sorted({str(a["machine"]["load_before"]) for a in about}))
    return (
        "One 32x32 -> 128x128 frame, references encoded before; whole call, uint8 to uint8,"
        f" {threads}; {made}; load of the machine before: {loads}. Memory: peak of a fresh process"
        " above what it held before the model was opened. Models of one day took turns; this"
        " machine is not equally fast every day, so times of different days are not compared.\n\n"
        + table(titles, lines)
    )


def paper_table(numbers: dict[str, Any]) -> str:
    lines = [
        [row["model"], str(row["references"]), f"{row['parameters_m']:.2f}"]
        + [f"{row[name][0]:.2f} / {row[name][1]:.4f}" for name in PAPER_SETS]
        for row in numbers["table1"]["rows"]
    ]
    tested = [f"{name} (trained on {numbers['data'][name]['train']})" for name in PAPER_SETS]
    notes = "\n".join(f"- {note}" for note in numbers["notes"])
    return f"{numbers['source']}.\n{notes}\n\n" + table(
        ["model", "refs", "parameters [M]", *tested], lines
    )


if __name__ == "__main__":
    sys.exit(finished(main))
