"""Predictions on disk -> numbers. Nothing here knows which network made the pictures.

``<out>/scores.csv``    one line per picture and condition, bicubic among the conditions
``<out>/summary.json``  the record of the predictions, and the numbers of each condition

Bicubic is computed here: Pillow's bicubic enlargement of the 8-bit low-resolution picture, the
same that the networks were given. Definitions of the measures: ``fsrst.evaluate.metrics``.
"""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fsrst.data.degradation import degrade
from fsrst.data.manifest import Manifest, Sample, load_manifest
from fsrst.errors import FsrstError
from fsrst.evaluate import metrics
from fsrst.evaluate.predict import prediction_path, read_record
from fsrst.files import write_json, write_text
from fsrst.image import Pixels, read_image, resize_bicubic
from fsrst.progress import Progress

SCORES = "scores.csv"
SUMMARY = "summary.json"
BICUBIC = "bicubic"

Row = dict[str, Any]  # one line of scores.csv


def score(
    out: str | Path,
    manifest: Manifest | None = None,
    *,
    identity: bool = False,
    st_lpips: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score every condition in ``out`` and bicubic; write scores.csv and summary.json.

    ``manifest``: the data set, if it is no longer where the predictions were made. ``identity`` and
    ``st_lpips`` ask for the two measures that need more packages; without them their columns are
    absent. Returns the summary::

        {<the record>, "conditions": {"bicubic": {"psnr_mean", "psnr_pooled", "psnr_y", "ssim",
         "ssim_y", "psnr_spread", "psnr_standard_error", "n", "identities"}, "right": ...},
         "worth_of_references_db": right - none, "harm_of_wrong_db": none - wrong, and of both the
         "..._standard_error_db"}

    PSNR differences are of means per image. Spread: standard deviation of the means of the people.
    Standard error: of the mean, clustered by person, since pictures of one person are alike.

    Raises
    ------
    FsrstError
        If predictions are missing, the data set is another one, or a measure is not installed.
    """
    out = Path(out)
    record = read_record(out)
    manifest, samples = data_of(record, manifest)
    if identity:
        metrics.require_identity()
    if st_lpips:
        metrics.require_st_lpips()
    _check_complete(out, record["conditions"], samples)

    rows: list[Row] = []
    for done, sample in enumerate(samples, start=1):
        truth = read_image(manifest.root / sample.target)
        outputs = {BICUBIC: bicubic(truth, record["scale"])}
        for condition in record["conditions"]:
            outputs[condition] = read_image(prediction_path(out, condition, sample))
        rows += _rows(sample, truth, outputs, identity=identity, st_lpips=st_lpips)
        if progress is not None:
            progress(done, len(samples), "score")
    _write_csv(out / SCORES, rows)
    summary = _summary(record, rows)
    write_json(out / SUMMARY, summary)
    return summary


def data_of(record: dict[str, Any], manifest: Manifest | None) -> tuple[Manifest, list[Sample]]:
    """The data set that a record speaks of, and the samples of its split.

    Raises
    ------
    FsrstError
        If it is gone or has changed since.
    """
    if manifest is None:
        manifest = load_manifest(record["data_root"])
    if manifest.hash != record["data"]["hash"]:
        raise FsrstError(
            f"{manifest.root} is not the data set of the predictions (hash {manifest.hash}, theirs"
            f" {record['data']['hash']}); give that one or predict again"
        )
    split = record["data"]["split"]
    if record["data"].get("pictures") not in (None, manifest.pictures_hash(split)):
        raise FsrstError(
            f"{manifest.root} has other pictures than when the predictions were made; predict again"
        )
    return manifest, manifest.split(split)


def bicubic(truth: Pixels, scale: int) -> Pixels:
    """The reference point: the truth reduced and enlarged again by Pillow's bicubic, 8 bits."""
    height, width = truth.shape[:2]
    return resize_bicubic(degrade(truth, scale), width, height)


def read_scores(out: str | Path) -> list[Row]:
    """The lines of scores.csv, numbers as floats."""
    path = Path(out) / SCORES
    if not path.is_file():
        raise FsrstError(f"no {SCORES} in {out}; score it with `fsrst evaluate`")
    with path.open(encoding="utf-8", newline="") as lines:
        return [
            {k: v if k in ("id", "identity", "condition") else float(v) for k, v in row.items()}
            for row in csv.DictReader(lines)
        ]


def _check_complete(out: Path, conditions: Sequence[str], samples: Sequence[Sample]) -> None:
    for condition in conditions:
        missing = [s.id for s in samples if not prediction_path(out, condition, s).is_file()]
        if missing:
            raise FsrstError(
                f"{out}: {len(missing)} of {len(samples)} predictions are missing under"
                f" {condition!r} (first: {missing[0]}); run `fsrst evaluate` again to go on"
            )


def _rows(
    sample: Sample, truth: Pixels, outputs: dict[str, Pixels], *, identity: bool, st_lpips: bool
) -> list[Row]:
    """The lines of one sample: a condition each."""
    rows: list[Row] = [
        {
            "id": sample.id,
            "identity": sample.identity,
            "condition": condition,
            "psnr": metrics.psnr(output, truth),
            "psnr_y": metrics.psnr_y(output, truth),
            "ssim": metrics.ssim(output, truth),
            "ssim_y": metrics.ssim_y(output, truth),
            "mse": metrics.mean_squared_error(output, truth),
            "values": truth.size,
        }
        for condition, output in outputs.items()
    ]
    if identity:
        distances = metrics.identity_distances(list(outputs.values()), truth)
        for row, value in zip(rows, distances.values, strict=True):
            row["identity_distance"] = value
            row["face_found"] = int(distances.face_found)
    if st_lpips:
        values = metrics.st_lpips(list(outputs.values()), truth)
        for row, value in zip(rows, values, strict=True):
            row["st_lpips"] = value
    return rows


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6f}" if isinstance(v, float) else v for k, v in row.items()})
    write_text(path, text.getvalue())


def _summary(record: dict[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    # Where the data lay is a fact of one machine, not of the result.
    kept = {key: value for key, value in record.items() if key != "data_root"}
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["condition"], []).append(row)
    summary = {**kept, "conditions": {name: _means(group) for name, group in groups.items()}}
    first = rows[0]
    summary["definitions"] = {
        "psnr_mean": "mean of per-image PSNR over RGB, 8 bits, no border crop [dB]",
        "psnr_pooled": "PSNR of the squared error of the whole set over RGB [dB]",
        "psnr_y": "mean of per-image PSNR over BT.601 full-range luma [dB]",
        "ssim": "Gaussian 11x11, sigma 1.5, population covariance, RGB (scikit-image)",
        "ssim_y": "the same over BT.601 full-range luma",
        "psnr_spread": "standard deviation of the people's mean PSNRs [dB]",
        "psnr_standard_error": "of psnr_mean, clustered by person [dB]",
        BICUBIC: "Pillow's bicubic enlargement of the 8-bit low-resolution picture",
    }
    if "identity_distance" in first:
        summary["definitions"]["identity_distance"] = (
            "Euclidean distance of dlib's 128-D descriptors, face box from the truth"
        )
        summary["identity_without_detection"] = sum(
            not row["face_found"] for row in groups[BICUBIC]
        )
    if "st_lpips" in first:
        summary["definitions"]["st_lpips"] = "ST-LPIPS, AlexNet (not LPIPS)"
    for name, better, worse in (
        ("worth_of_references", "right", "none"),
        ("harm_of_wrong", "none", "wrong"),
    ):
        if better in groups and worse in groups:
            difference = np.array(
                [a["psnr"] - b["psnr"] for a, b in zip(groups[better], groups[worse], strict=True)]
            )
            people = [row["identity"] for row in groups[better]]
            summary[f"{name}_db"] = float(difference.mean())
            summary[f"{name}_standard_error_db"] = clustered_standard_error(difference, people)
    return summary


def _means(group: Sequence[Row]) -> dict[str, Any]:
    psnrs = np.array([row["psnr"] for row in group])
    people = [row["identity"] for row in group]
    means: dict[str, Any] = {
        "psnr_mean": float(psnrs.mean()),
        "psnr_pooled": metrics.psnr_pooled(
            [row["mse"] for row in group], [row["values"] for row in group]
        ),
        "psnr_spread": spread(psnrs, people),
        "psnr_standard_error": clustered_standard_error(psnrs, people),
        "n": len(group),
        "identities": len(set(people)),
    }
    for measure in ("psnr_y", "ssim", "ssim_y", "identity_distance", "st_lpips"):
        if measure in group[0]:
            values = np.array([row[measure] for row in group])
            means[measure] = float(values.mean())
            if measure in ("identity_distance", "st_lpips"):
                means[f"{measure}_spread"] = spread(values, people)
    return means


def spread(values: np.ndarray[Any, np.dtype[np.float64]], people: Sequence[str]) -> float | None:
    """Sample standard deviation of the means per person; None for one person."""
    names = np.asarray(people)
    means = [values[names == name].mean() for name in sorted(set(people))]
    return float(np.std(means, ddof=1)) if len(means) > 1 else None


def clustered_standard_error(
    values: np.ndarray[Any, np.dtype[np.float64]], people: Sequence[str]
) -> float | None:
    """Standard error of the mean of ``values`` when those of one person hang together.

    sqrt(G / (G - 1) * sum over people of (sum of their deviations)^2) / N; with one value per
    person it is the ordinary one. None for one person. Source: Liang and Zeger 1986.
    """
    names = np.asarray(people)
    groups = sorted(set(people))
    if len(groups) < 2:
        return None
    deviations = values - values.mean()
    sums = np.array([deviations[names == name].sum() for name in groups])
    count = len(groups)
    return math.sqrt(count / (count - 1) * float((sums**2).sum())) / len(values)
