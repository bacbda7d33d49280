"""Table 2: how much each further reference is worth, at equal size and equal wall-clock.

    python experiments/table2.py --data data/call --results results
    python experiments/table2.py --data data/call --small --seeds 13 14 15 --results results
    python experiments/table2.py --smoke

Row 0 is the ResNet of FSRST's size; the others are FSRST trained with 1, 3, 5 references and scored
with as many (``--small``: the small ones). Every sample of the val split must list as many
references as are asked for, else that is said before anything starts. ``--train-data``: where to
train, if not on the set that is scored. Runs are shared with table1.py in the same ``--results``;
calls add up and go on as there. Written: table2.json, table2.md, table2-report.md.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from budget import RECIPES, origin
from protocol import CELLS, cell, command_of, finished, parser_of, read_cells, smoke_place, study_of
from table1 import (
    budget_of,
    configs_of,
    grouped,
    lengths_of,
    made_by,
    measures,
    other_data,
    pair_of,
    planned_apart,
    psnrs_of,
    sets_of,
    unfitness,
    value,
)

from fsrst.data.manifest import Manifest, load_manifest
from fsrst.errors import FsrstError
from fsrst.evaluate.report import paper, report, table
from fsrst.evaluate.score import clustered_standard_error
from fsrst.files import write_json, write_text

SIZES = {"full": ("resnet", "fsrst"), "small": ("resnet-small", "fsrst-small")}
REFERENCES = (0, 1, 3, 5)


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, help="data set to score (val split)")
    parser.add_argument("--train-data", type=Path, help="data set to train on, if another")
    parser.add_argument("--references", type=int, nargs="+", default=list(REFERENCES))
    parser.add_argument("--small", action="store_true", help="the small networks")
    arguments = parser.parse_args(argv)
    command = command_of(["table2.py", *argv])
    if arguments.smoke:
        with smoke_place(arguments) as drawn:
            arguments.small, arguments.minutes, arguments.samples = True, 0.001, None
            arguments.references = [n for n in arguments.references if n < 3]  # of four pictures
            run(arguments, (drawn, drawn), command)
        return
    if arguments.collect:
        run(arguments, None, command)
        return
    if arguments.data is None:
        raise FsrstError("say what to score: --data DIR, a prepared data set")
    test = load_manifest(arguments.data)
    train = load_manifest(arguments.train_data) if arguments.train_data else test
    run(arguments, (train, test), command)


def run(
    arguments: argparse.Namespace, sets: tuple[Manifest, Manifest] | None, command: str
) -> dict[str, Any]:
    """Fill the cells of ``sets`` (what is trained on, what is scored), write the table."""
    study = study_of(arguments, command)
    about = origin(study.threads, study.smoke)
    if sets is not None:
        check_references(*sets, max(arguments.references))
    without, with_references = SIZES["small" if arguments.small else "full"]
    made = [
        cell(study, with_references if count else without, *sets, seed, count)
        for seed in arguments.seeds
        for count in arguments.references
        if sets is not None
    ]
    asked = {(c["run"], c["test"]["name"]) for c in made}
    names = {name for size in SIZES.values() for name in size}
    groups = grouped(
        [c for c in read_cells(study.results) if c["model"] in names and c["smoke"] == study.smoke]
    )
    # pairs of Table 1 alone have 0 and 3 references only, and are shown if this call asked for them
    usual = {0, RECIPES["fsrst"].references}
    groups = [
        group
        for group in groups
        if any(
            c["references"] not in usual or (c["run"], c["test"]["name"]) in asked for c in group
        )
    ]
    cells = [c for group in groups for c in group]
    if arguments.collect:  # what is printed above the table is what made it
        commands = [c["command"] for c in cells if "table2.py" in (c["command"] or "")]
        if not commands:
            raise FsrstError(f"no finished cells of Table 2 in {study.results / CELLS}")
        command = commands[0]
    result = {
        **about,
        "experiment": "table2",
        "command": command,
        "cells": cells,
        "rows": [row for group in groups for row in rows_of(study.results, group)],
        "paper": paper()["table2"],
    }
    write_json(study.results / "table2.json", result)
    written = json.loads((study.results / "table2.json").read_text(encoding="utf-8"))
    write_text(study.results / "table2.md", markdown(written))
    folders = [study.results / c["scores"] for c in cells if "failed" not in c]
    if folders:
        write_text(study.results / "table2-report.md", report(folders))
    print(f"written: {study.results / 'table2.md'}")
    return result


def check_references(train: Manifest, test: Manifest, count: int) -> None:
    """Raise FsrstError unless every sample that is scored lists ``count`` references, and some
    that are trained on do: "5 references" would be 3, and the table would not say so."""
    scored = min(test.split(test.scored), key=lambda sample: len(sample.references))
    seen = max(train.split("train"), key=lambda sample: len(sample.references))
    for data, split, sample in ((test, test.scored, scored), (train, "train", seen)):
        if len(sample.references) < count:
            raise FsrstError(
                f"{data.root}, {split}: {sample.id} lists {len(sample.references)} references,"
                f" {count} are asked for; prepare the set with more (video: --extra-references"
                f" {count - len(sample.references)}), or name fewer in --references"
            )


def rows_of(results: Path, cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of one pair of data sets: for each size and number of references the mean over
    seeds, and what the references add over the network without, with its standard error."""
    rows = []
    for size, (without, with_references) in SIZES.items():
        mine = [c for c in cells if c["model"] in (without, with_references) and "failed" not in c]
        base = {c["seed"]: c for c in mine if c["model"] == without}
        for count in sorted({c["references"] for c in mine}):
            passed = [c for c in mine if c["references"] == count]
            conditions = [c["summary"]["conditions"] for c in passed]
            row = {
                **sets_of(cells[0]),
                "budget": budget_of(cells[0]),
                "size": size,
                "model": passed[0]["model"],
                "references": count,
                "parameters": passed[0]["summary"]["parameters"],
                "seeds": [c["seed"] for c in passed],
                "samples": statistics.fmean(c["training"]["samples"] for c in passed),
                "right": measures([c["right" if count else "none"] for c in conditions]),
                "none": measures([c["none"] for c in conditions]),
            }
            if count:
                row["wrong"] = measures([c["wrong"] for c in conditions])
                row |= gain(results, passed, base)
            rows.append(row)
    return rows


def gain(
    results: Path, cells: Sequence[dict[str, Any]], base: dict[int, dict[str, Any]]
) -> dict[str, Any]:
    """PSNR over the network without references, same seeds; the error is clustered by person."""
    pairs = [(c, base[c["seed"]]) for c in cells if c["seed"] in base]
    if not pairs:
        return {}
    differences, people = [], []
    for ours, theirs in pairs:
        psnrs, people = psnrs_of(results, ours)
        differences.append(np.subtract(psnrs, psnrs_of(results, theirs)[0]))
    mean = np.mean(differences, axis=0)
    sides = [list(side) for side in zip(*pairs, strict=True)]
    unfit = [reason for side in sides for reason in unfitness(side)]
    return {
        "gain_db": float(mean.mean()),
        "gain_standard_error_db": clustered_standard_error(mean, people),
        "not_judged": "; ".join(unfit + planned_apart([c for side in sides for c in side])),
    }


def whole_command(result: dict[str, Any]) -> str:
    """The command that makes every row; the one given last named only what was missing."""
    command = re.sub(r" --references( \d+)+", "", result["command"])
    counts = sorted({c["references"] for c in result["cells"]})
    return f"{command} --references {' '.join(map(str, counts))}"


def markdown(result: dict[str, Any]) -> str:
    """table2.md, from the JSON alone."""
    parts = [
        "## Table 2",
        made_by(result, [result["command"] if result["smoke"] else whole_command(result)]),
        "Each row was trained with so many references and is scored with so many, right ones;"
        f" {lengths_of(result['cells'])} each, same data, augmentation and seed"
        f" ({configs_of(result['cells'])}). Over none: against the ResNet of row 0, ± standard"
        " error over pictures, clustered by person; several seeds: mean ± standard deviation."
        " Another seed is not in a single row's ±. Fewer references are the first that a sample"
        " lists: of a clip its first frames, which lie farthest from the targets."
        + (" **Smoke run: the numbers mean nothing.**" if result["smoke"] else ""),
    ]
    for pair in dict.fromkeys(pair_of(row) for row in result["rows"]):
        rows = [row for row in result["rows"] if pair_of(row) == pair]
        parts += ["### {} -> {}, {}".format(*pair[:3]), score_table(rows, result["paper"])]
        parts.append(verdict(rows, result["paper"]))
    failed = [f"{c['run']}: {c['failed']}" for c in result["cells"] if "failed" in c]
    parts.append("\n".join(f"- **failed** {line}" for line in failed))
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict(rows: Sequence[dict[str, Any]], numbers: dict[str, Any]) -> str:
    """The paper's finding, that references gain over none, beside what was found here."""
    theirs = {row["references"]: row["DFD"][0] for row in numbers["rows"]}
    words = []
    for row in rows:
        count = row["references"]
        if row["size"] != "full" or "gain_db" not in row or count not in theirs:
            continue
        gain, error = row["gain_db"], row["gain_standard_error_db"]
        said = "holds" if gain > 0 else "**does not hold**"
        if error is None or abs(gain) <= 2 * error:
            said += ", within two standard errors of 0"
        elif len(row["seeds"]) == 1:
            said += ", for this seed"
        if row.get("not_judged"):
            said = f"not judged: {row['not_judged']}"
        spread = "" if error is None else f" ± {error:.2f}"
        words.append(
            f"with {count} {'reference' if count == 1 else 'references'}"
            f" {theirs[count] - theirs[0]:+.2f} there, {gain:+.2f}{spread} here ({said})"
        )
    if not words:
        return ""
    return (
        "The paper's finding, that FSRST gains over a network of its size without references [dB]:"
        f" {'; '.join(words)}."
    )


def score_table(rows: Sequence[dict[str, Any]], numbers: dict[str, Any]) -> str:
    theirs = {row["references"]: row["DFD"] for row in numbers["rows"]}
    titles = [
        "refs",
        "network",
        "parameters",
        "samples",
        "PSNR",
        "pooled",
        "SSIM",
        "identity",
        "over none [dB]",
        "taken away",
        "wrong person's",
        f"paper, DFD{other_data(rows)}",
    ]
    lines = []
    for row in rows:
        count, seeds = row["references"], len(row["seeds"])
        error = row.get("gain_standard_error_db")
        printed = theirs.get(count) if row["size"] == "full" else None
        lines.append(
            [
                str(count),
                row["model"] + (f" ({seeds} seeds)" if seeds > 1 else ""),
                f"{row['parameters']:,}",
                f"{row['samples']:,.0f}",
                value(row["right"], "psnr_mean", 2),
                value(row["right"], "psnr_pooled", 2),
                value(row["right"], "ssim", 4),
                value(row["right"], "identity_distance", 3),
                (f"{row['gain_db']:+.2f}" if "gain_db" in row else "")
                + (f" ± {error:.2f}" if error is not None else ""),
                value(row["none"], "psnr_mean", 2) if count else "",
                value(row.get("wrong", {}), "psnr_mean", 2),
                f"{printed[0]:.2f} / {printed[1]:.4f}" if printed else "",
            ]
        )
    return table(titles, lines)


if __name__ == "__main__":
    sys.exit(finished(main))
