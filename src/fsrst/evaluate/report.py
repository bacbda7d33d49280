"""Scored folders -> tables for people, and strips to look at.

Every table has three columns beside bicubic: right references, no references, references of a wrong
person. The paper's printed numbers stand below, and say when they were measured on other data.
"""

import json
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from fsrst.data.degradation import degrade
from fsrst.data.manifest import Manifest, Sample, by_identity, evenly_spread
from fsrst.errors import FsrstError
from fsrst.evaluate.predict import (
    CONDITIONS,
    prediction_path,
    read_record,
    references_of,
    same_data,
)
from fsrst.evaluate.score import BICUBIC, SUMMARY, bicubic, data_of, read_scores
from fsrst.evaluate.strips import Panel, sheet, strip
from fsrst.image import read_image, write_image

STRIPS = "strips"  # folder of single strips
SHEET = "strips.png"

PAPER_SCALE, PAPER_SIZE = 4, 128  # [px] of the output

COLUMNS = (BICUBIC, *CONDITIONS)
TITLES = {
    BICUBIC: "bicubic",
    "right": "right references",
    "none": "no references",
    "wrong": "wrong person's",
}
MEASURES = {  # key in summary.json: title, digits
    "psnr_pooled": ("PSNR pooled [dB]", 2),
    "psnr_y": ("PSNR of luma [dB]", 2),
    "ssim": ("SSIM", 4),
    "ssim_y": ("SSIM of luma", 4),
    "identity_distance": ("identity distance, less is better", 3),
    "st_lpips": ("ST-LPIPS, less is better", 3),
}


def paper() -> dict[str, Any]:
    """The paper's printed numbers, Tables 1 and 2."""
    text = files("fsrst.evaluate").joinpath("paper.json").read_text(encoding="utf-8")
    numbers: dict[str, Any] = json.loads(text)
    return numbers


def report_data(results: Sequence[str | Path]) -> dict[str, Any]:
    """What ``report`` says, as data: the summaries in the order given, and the paper's numbers with
    ``applies``, the names of its data sets that occur among the results.

    Raises
    ------
    FsrstError
        If a folder was not scored.
    """
    if not results:
        raise FsrstError("nothing to report: name at least one folder that `fsrst evaluate` wrote")
    summaries = [{"folder": str(out), **_read_summary(Path(out))} for out in results]
    numbers = paper()
    applies = paper_sets(summaries)
    return {"results": summaries, "paper": {**numbers, "applies": applies}}


def paper_sets(summaries: Iterable[dict[str, Any]]) -> list[str]:
    """Which of the paper's sets are scored as in the paper: whole, split test, 32 -> 128 px."""
    made = set()
    for summary in summaries:
        prepared = summary.get("prepared", {})  # earlier versions do not tell
        whole = prepared.get("partial") is False and summary["data"]["split"] == "test"
        if whole and (summary["scale"], prepared["size"]) == (PAPER_SCALE, PAPER_SIZE):
            made.add(prepared["prepare"])
    return [name for name, facts in paper()["data"].items() if facts["prepare"] in made]


def report(results: Sequence[str | Path]) -> str:
    """Markdown: per data set a table of PSNR and one of the other measures, then the commands and
    the paper's numbers."""
    data = report_data(results)
    groups: list[list[dict[str, Any]]] = []
    for summary in data["results"]:
        for group in groups:
            if group[0]["scale"] == summary["scale"] and all(
                same_data(other["data"], summary["data"]) for other in group
            ):
                group.append(summary)
                break
        else:
            groups.append([summary])
    parts = [_data_set(group) for group in groups]
    parts += [_commands(data["results"]), _paper_part(data["paper"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def strips(
    out: str | Path,
    manifest: Manifest | None = None,
    *,
    samples: int = 8,
    conditions: Sequence[str] = ("right",),
    height: int = 256,
) -> Path:
    """Write ``<out>/strips/<sample id>.png`` and all of them below each other as
    ``<out>/strips.png``; return the path of that sheet.

    A strip is LR | bicubic | output (per condition) | truth | references, PSNR below. Those of
    ``conditions`` that ``out`` does not hold are left out; if it holds none of them, its first is
    shown. Samples: the first of each of ``samples`` people, evenly spread over the sorted people of
    the split.

    Raises
    ------
    FsrstError
        If ``out`` was not scored.
    """
    out = Path(out)
    record = read_record(out)
    manifest, members = data_of(record, manifest)
    psnrs = {(row["id"], row["condition"]): row["psnr"] for row in read_scores(out)}
    shown = [name for name in conditions if name in record["conditions"]]
    if not shown:  # a run of one condition shows what it has
        shown = record["conditions"][:1]
    rows = []
    firsts = [group[0] for group in by_identity(members).values()]
    for sample in evenly_spread(firsts, max(1, samples)):
        panels = _panels(out, record, manifest, members, sample, shown, psnrs)
        rows.append(strip(panels, height=height))
        write_image(out / STRIPS / f"{sample.id}.png", rows[-1])
    write_image(out / SHEET, sheet(rows))
    return out / SHEET


def _panels(
    out: Path,
    record: dict[str, Any],
    manifest: Manifest,
    members: Sequence[Sample],
    sample: Sample,
    conditions: Sequence[str],
    psnrs: dict[tuple[str, str], float],
) -> list[Panel]:
    def decibels(condition: str) -> str:
        return f"{psnrs[sample.id, condition]:.2f} dB"

    truth = read_image(manifest.root / sample.target)
    lr = degrade(truth, record["scale"])
    panels = [
        Panel(f"LR {lr.shape[1]}x{lr.shape[0]}", lr),
        Panel("bicubic", bicubic(truth, record["scale"]), decibels(BICUBIC)),
    ]
    for condition in conditions:
        title = record["model"] if len(conditions) == 1 else TITLES[condition]
        output = read_image(prediction_path(out, condition, sample))
        panels.append(Panel(title, output, decibels(condition)))
    panels.append(Panel("truth", truth, sample.id))
    source = "right" if "right" in conditions else conditions[-1]
    references = references_of(sample, members, source, record["n_references"])
    panels += [
        Panel(f"reference {number}", read_image(manifest.root / name))
        for number, name in enumerate(references, start=1)
    ]
    return panels


def _read_summary(out: Path) -> dict[str, Any]:
    path = out / SUMMARY
    if not path.is_file():
        raise FsrstError(f"no {SUMMARY} in {out}; score it with `fsrst evaluate`")
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        whole = {"conditions", "data", "model"} <= summary.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise FsrstError(f"{path} is damaged; score it again with `fsrst evaluate`") from error
    if not whole:
        raise FsrstError(f"{path} is not a summary; score it again with `fsrst evaluate`")
    return summary


def _data_set(group: Sequence[dict[str, Any]]) -> str:
    facts, size = group[0]["data"], group[0]["conditions"][BICUBIC]
    heading = (
        f"### {facts['name']}, {facts['split']}, {group[0]['scale']}x: {size['n']} pictures of"
        f" {size['identities']} people (data {facts['hash']})"
    )
    psnr = table(
        ["PSNR [dB], mean of pictures", "refs", *(TITLES[name] for name in COLUMNS),
         "references are worth", "wrong ones harm"],
        [_psnr_row(summary) for summary in group],
    )  # fmt: skip
    labelled = zip(group, _labels(group), strict=True)
    others = table(
        ["", "", *(TITLES[name] for name in COLUMNS)],
        [row for summary, label in labelled for row in _other_rows(summary, label)],
    )
    note = (
        "Worth = right minus none, harm = none minus wrong, each ± its standard error clustered by"
        " person."
    )
    missed = [s for s in group if s.get("identity_without_detection")]
    if missed:
        note += (
            f" Identity: on {missed[0]['identity_without_detection']} of {size['n']} truths no face"
            " was detected; the fixed box of an aligned head was used."
        )
    return "\n\n".join([heading, psnr, note, others])


def _label(summary: dict[str, Any]) -> str:
    twice = ", self-ensemble" if summary.get("self_ensemble") else ""
    return f"{summary['model']} ({summary['backend']} {summary['precision']}{twice})"


def _labels(group: Sequence[dict[str, Any]]) -> list[str]:
    """For a table without the number of references: it stands in labels that are alike else."""
    labels = [_label(summary) for summary in group]
    return [
        f"{label}, references: {_references(summary)}" if labels.count(label) > 1 else label
        for summary, label in zip(group, labels, strict=True)
    ]


def _references(summary: dict[str, Any]) -> str:
    asked = summary["n_references"]
    listed = summary.get("references_listed", asked)  # earlier versions do not tell
    return str(asked) if listed == asked else f"{listed:.1f} of {asked}"


def _psnr_row(summary: dict[str, Any]) -> list[str]:
    cells = [_label(summary), _references(summary)]
    cells += [_value(summary, name, "psnr_mean", 2) for name in COLUMNS]
    return [*cells, _derived(summary, "worth_of_references"), _derived(summary, "harm_of_wrong")]


def _other_rows(summary: dict[str, Any], label: str) -> list[list[str]]:
    return [
        [label, title, *(_value(summary, name, key, digits) for name in COLUMNS)]
        for key, (title, digits) in MEASURES.items()
        if key in summary["conditions"][BICUBIC]
    ]


def _value(summary: dict[str, Any], condition: str, key: str, digits: int) -> str:
    value = summary["conditions"].get(condition, {}).get(key)
    return "-" if value is None else f"{value:.{digits}f}"


def _derived(summary: dict[str, Any], name: str) -> str:
    value, error = summary.get(f"{name}_db"), summary.get(f"{name}_standard_error_db")
    if value is None:
        return "-"
    return f"{value:+z.3f}" + ("" if error is None else f" ± {error:.3f}")


def _commands(summaries: Sequence[dict[str, Any]]) -> str:
    lines = ["### How each was made", ""]
    for summary in summaries:
        made = f"`{summary['command']}`" if summary.get("command") else "(command not recorded)"
        commit = summary.get("commit") or "unknown"
        seed = "unknown" if summary.get("seed") is None else summary["seed"]
        lines.append(
            f"- {_label(summary)} on {summary['data']['name']}: {made}; weights"
            f" {summary['weights_hash']}, training seed {seed}, fsrst"
            f" {summary['version']}, commit {commit}"
        )
    return "\n".join(lines)


def _paper_part(numbers: dict[str, Any]) -> str:
    """The paper's rows: its data sets among the results, else all of them as other data."""
    columns = numbers["applies"] or list(numbers["data"])
    mark = "" if numbers["applies"] else ", other data"
    titles = [f"{name}{mark}" for name in columns]
    tables = []
    for theirs in (numbers["table1"], numbers["table2"]):
        held = [name for name in columns if name in theirs["rows"][0]]
        if not held:
            continue
        tables.append(
            f"Its {theirs['source']}, PSNR [dB] / SSIM"
            f"{' - measured on other data, not comparable with the above' if mark else ''}:\n\n"
            + table(
                ["", "refs", *(titles[columns.index(name)] for name in held)],
                [
                    [row["model"], str(row["references"])]
                    + [f"{row[name][0]:.2f} / {row[name][1]:.4f}" for name in held]
                    for row in theirs["rows"]
                ],
            )
        )
    notes = "\n".join(f"- {note}" for note in numbers["notes"])
    return "\n\n".join(["### The paper's numbers", f"{numbers['source']}.\n{notes}", *tables])


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
