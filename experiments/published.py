"""What benchmarks/results/ holds, as the page of results (results.py) and its targets read it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from release import scores_in

from fsrst.data.prepare.video import DFD_FIRST_TARGET
from fsrst.evaluate.score import clustered_standard_error, read_scores
from fsrst.runtime.upscaler import open_upscaler

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "benchmarks/results"
SIZED = ("fsrst2", "fsrst2-small")


def further(name: str) -> list[Path]:
    """What was run later: other networks, lengths or batches."""
    return sorted(MEASURED.glob(f"{name}-*.json"), key=lambda path: path.stem)


def read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def measured(name: str) -> dict[str, Any] | None:
    """What an experiment wrote, or None if it has not been run to its end."""
    path = MEASURED / f"{name}.json"
    return read_json(path) if path.is_file() else None


def sets_of_scores(name: str) -> dict[str, dict[str, Any]]:
    """{"call": scores, ...} from the header of a shipped model."""
    header = open_upscaler(name, "onnxruntime").info
    return {each["data"].split()[0]: each for each in scores_in(header)}


def by_rule(folder: Path) -> dict[str, dict[str, float]]:
    """Mean PSNR per condition of the pictures of long and of short clips, by their ids
    (``<clip>-<frame>``)."""
    rows = read_scores(folder)
    first: dict[str, int] = {}
    for row in rows:
        clip, _, frame = row["id"].rpartition("-")
        first[clip] = min(int(frame), first.get(clip, int(frame)))
    found: dict[str, dict[str, float]] = {}
    for rule, long in (("the paper's rule", True), ("short", False)):
        mine = [r for r in rows if (first[r["id"].rpartition("-")[0]] == DFD_FIRST_TARGET) == long]
        if mine:
            psnrs = {
                condition: [r["psnr"] for r in mine if r["condition"] == condition]
                for condition in {r["condition"] for r in mine}
            }
            found[rule] = {c: float(np.mean(values)) for c, values in psnrs.items()}
            found[rule]["pictures"] = len(psnrs["right"])
            found[rule]["people"] = len({r["identity"] for r in mine})
    return found


def nearest_at_equal_time(table1: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of photographs on photographs, of one length of training, the nearest first."""
    rows = [
        row
        for row in table1["rows"]
        if (row["train"], row["test"]) == ("photo", "photo")
        and row["model"] != "bicubic"
        and "identity_distance" in row.get("right", {})
    ]
    lengths = [(row["budget"], row.get("rates_of")) for row in rows]
    alike = [r for r, length in zip(rows, lengths, strict=True) if length == lengths[0]]
    return sorted(alike, key=distance)


def distance(row: dict[str, Any]) -> float:
    return float(row["right"]["identity_distance"])


def scores_of(folders: Sequence[Path], name: str, condition: str) -> dict[str, Any]:
    """Picture -> its line of scores.csv, for the folder that is called ``name``."""
    found = [folder for folder in folders if folder.name == name]
    rows = [row for folder in found for row in read_scores(folder)]
    return {
        row["id"]: row
        for row in rows
        if row["condition"] == condition and "identity_distance" in row
    }


def jackknife(
    statistic: Callable[[NDArray[np.intp]], float], people: Sequence[str]
) -> tuple[float, float | None]:
    """``statistic`` of all positions, and its standard error, by leaving out one person at a time
    (None for one person)."""
    who, every = np.array(people), np.arange(len(people))
    without = [statistic(every[who != person]) for person in sorted(set(people))]
    if (count := len(without)) < 2:
        return statistic(every), None
    return statistic(every), float(np.sqrt((count - 1) * np.var(without)))


def paired_identity(first: dict[str, Any], second: dict[str, Any]) -> tuple[float, float | None]:
    """Mean of second less first over the pictures of both, and its standard error by person."""
    shared = sorted(first.keys() & second.keys())
    differences = np.array(
        [second[i]["identity_distance"] - first[i]["identity_distance"] for i in shared]
    )
    error = clustered_standard_error(differences, [first[i]["identity"] for i in shared])
    return float(differences.mean()), error
