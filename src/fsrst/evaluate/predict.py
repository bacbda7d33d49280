"""Networks write pictures into a folder; nothing is judged here.

On disk::

    <out>/predictions.json            what made them: model, weights, data, options, version, commit
    <out>/right/<sample id>.png       the sample's own references
    <out>/none/<sample id>.png        no reference
    <out>/wrong/<sample id>.png       references of another person of the split

The input is the target, reduced by Pillow's bicubic on 8-bit values. One folder holds the pictures
of one set of options; a run that was stopped goes on where it was.
"""

import copy
import hashlib
import json
import shutil
import statistics
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import fsrst
from fsrst.data.degradation import degrade
from fsrst.data.manifest import Manifest, Sample, wrong_person
from fsrst.errors import FsrstError
from fsrst.files import write_json
from fsrst.image import Pixels, image_size, read_image, write_image
from fsrst.progress import Progress
from fsrst.runtime.upscaler import MAX_SIDE, MIN_SIDE

RECORD = "predictions.json"
CONDITIONS = ("right", "none", "wrong")
FORMAT = 1
UNKNOWN = "unknown"

MADE = ("commit", "command")  # of the call that made a picture last

# A difference in any of these makes other pictures; they must not lie in one folder.
DECISIVE = (
    "format", "model", "weights_hash", "graph_hash", "options", "backend", "precision",
    "self_ensemble", "scale", "data", "n_references", "version",
)  # fmt: skip


class Upscales(Protocol):
    """What is asked of an upscaler; ``fsrst.runtime.upscaler.Upscaler`` has it.

    ``info``: the header of the weights, of which ``weights_hash``, ``parameters``, ``options`` and
    ``training`` go into the record; ``lr_size`` is the one size of its inputs, None: any.
    """

    @property
    def model(self) -> str: ...
    @property
    def backend(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def self_ensemble(self) -> bool: ...
    @property
    def scale(self) -> int: ...
    @property
    def info(self) -> dict[str, Any]: ...
    @property
    def graph(self) -> Path | None: ...

    def check_size(self, height: int, width: int, /) -> None: ...
    def set_references(self, pictures: list[Pixels], /) -> None: ...
    def __call__(self, lr: Pixels, /) -> Pixels: ...


def predict(
    upscaler: Upscales,
    manifest: Manifest,
    split: str,
    out: str | Path,
    *,
    n_references: int = 3,
    conditions: Sequence[str] = CONDITIONS,
    command: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Upscale every sample of ``split`` under each condition; return the record.

    Pictures that are already there are kept, unless the data set's are newer or others.
    ``command`` is the command line to be printed beside the results. The right references are the
    sample's first ``n_references``; the wrong ones are as many pictures of ``wrong_person``.

    Raises
    ------
    FsrstError
        If ``out`` holds pictures made with other options (the option is named), or is in use for
        something else, or an argument is out of range, or the upscaler takes no pictures of the
        targets' size. Nothing is written then.
    """
    out = Path(out)
    _check_arguments(n_references, conditions)
    samples = manifest.split(split)
    _check_sizes(upscaler, manifest, samples)
    if "wrong" in conditions:
        wrong_person(samples, samples[0])  # one identity only: say so before the work starts
    record = _record(upscaler, manifest, split, n_references, command)
    earlier = _join(out, record, manifest)
    if earlier and not same_data(earlier["data"], record["data"]):
        for name in earlier["conditions"]:  # made from other pictures of these names
            shutil.rmtree(out / name, ignore_errors=True)
        earlier = {}
    both = {*earlier.get("conditions", ()), *conditions}
    record["conditions"] = [name for name in CONDITIONS if name in both]
    write_json(out / RECORD, {**record, **{key: earlier[key] for key in MADE if key in earlier}})

    read = lru_cache(maxsize=256)(read_image)  # references of a clip are shared by its frames
    set_now: tuple[str, ...] | None = None
    total, done = len(conditions) * len(samples), 0
    for condition in conditions:
        for sample in samples:
            path = prediction_path(out, condition, sample)
            names = references_of(sample, samples, condition, n_references)
            if not up_to_date(path, [manifest.root / name for name in (sample.target, *names)]):
                if names != set_now:  # encoding references is most of the cost
                    upscaler.set_references([read(manifest.root / name) for name in names])
                    set_now = names
                lr = degrade(read(manifest.root / sample.target), upscaler.scale)
                write_image(path, upscaler(lr))
                if earlier:  # now it is this call's too
                    write_json(out / RECORD, record)
                    earlier = {}
            done += 1
            if progress is not None:
                progress(done, total, f"upscale, {condition} references")
    return read_record(out)


def newest(manifest: Manifest, split: str) -> int:
    """When the last of the split's pictures was written [ns]: what was scored before is stale."""
    files = {file for s in manifest.split(split) for file in (s.target, *s.references)}
    return max((manifest.root / file).stat().st_mtime_ns for file in files)


def same_data(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two records' ``data`` mean the same pictures; those of earlier versions name the
    manifest alone."""
    told = "pictures" in first and "pictures" in second
    keys = ("name", "hash", "split") + (("pictures",) if told else ())
    return all(first.get(key) == second.get(key) for key in keys)


def up_to_date(path: Path, sources: Sequence[Path]) -> bool:
    """Whether ``path`` is there and was made after the pictures it was made from."""
    if not path.is_file():
        return False
    made = path.stat().st_mtime_ns
    return all(source.stat().st_mtime_ns <= made for source in sources)


def references_of(
    sample: Sample, samples: Sequence[Sample], condition: str, n_references: int
) -> tuple[str, ...]:
    """Paths of the references under ``condition``: as many wrong ones as right ones."""
    right = sample.references[:n_references]
    if condition == "right":
        return right
    if condition == "none":
        return ()
    other = wrong_person(samples, sample)
    return (*other.references, other.target)[: len(right)]


def prediction_path(out: Path, condition: str, sample: Sample) -> Path:
    return out / condition / f"{sample.id}.png"


def read_record(out: str | Path) -> dict[str, Any]:
    """The record of a folder of predictions.

    Raises
    ------
    FsrstError
        If there is none or it is damaged.
    """
    path = Path(out) / RECORD
    if not path.is_file():
        raise FsrstError(f"no {RECORD} in {out}; make predictions with `fsrst evaluate`")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FsrstError(f"{path} is damaged ({error}); delete the folder and predict again") from (
            error
        )
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise FsrstError(f"{path} is not a record of format {FORMAT}; predict again")
    return record


def _check_arguments(n_references: int, conditions: Sequence[str]) -> None:
    unknown = [name for name in conditions if name not in CONDITIONS]
    if unknown or not conditions or len(set(conditions)) != len(conditions):
        raise FsrstError(
            f"conditions {', '.join(conditions) or '(none given)'}: expected each of"
            f" {', '.join(CONDITIONS)} at most once"
        )
    if n_references < 0 or (n_references == 0 and set(conditions) != {"none"}):
        raise FsrstError(
            f"{n_references} references: expected 1 or more; for none at all use the condition none"
        )


def _check_sizes(upscaler: Upscales, manifest: Manifest, samples: Sequence[Sample]) -> None:
    """What the upscaler itself says of a size is advice for single pictures, not for a set."""
    scale, side = upscaler.scale, upscaler.info.get("lr_size")
    for width, height in sorted({image_size(manifest.root / s.target) for s in samples}):
        try:
            if width % scale or height % scale:
                raise FsrstError(f"not a multiple of {scale}")
            upscaler.check_size(height // scale, width // scale)
        except FsrstError as error:
            needed = f"--size {side * scale}" if side else f"a --size that is a multiple of {scale}"
            span = "" if side else f", {MIN_SIDE * scale} to {MAX_SIDE * scale}"
            raise FsrstError(
                f"{manifest.root} holds targets of {width}x{height} px, which"
                f" {model_name(upscaler.model)} cannot be scored on at {scale}x; prepare another"
                f" set with {needed}{span}"
            ) from error


def _record(
    upscaler: Upscales, manifest: Manifest, split: str, n_references: int, command: str | None
) -> dict[str, Any]:
    info = upscaler.info
    training = info.get("training") or {}
    return {
        "format": FORMAT,
        "model": model_name(upscaler.model),
        "weights_hash": info.get("weights_hash", UNKNOWN),
        # the same weights may run in another graph, when a network's code has changed
        "graph_hash": graph_hash(upscaler.graph),
        "network": info.get("model"),
        "parameters": info.get("parameters"),
        "options": info.get("options") or {},
        "backend": upscaler.backend,
        "precision": upscaler.precision,
        "self_ensemble": upscaler.self_ensemble,
        "scale": upscaler.scale,
        "data": {
            "name": manifest.name,
            "hash": manifest.hash,
            "split": split,
            "pictures": manifest.pictures_hash(split),
        },
        "references_listed": statistics.fmean(
            min(n_references, len(sample.references)) for sample in manifest.split(split)
        ),
        "prepared": {"size": manifest.info["size"], **prepared(manifest, split)},
        "data_root": str(manifest.root.resolve()),  # where the scorer finds the truth
        "n_references": n_references,
        # Of the training run: prediction has no chance in it. The weights' header has the rest.
        "seed": (training.get("options") or {}).get("seed"),
        "training_samples": training.get("samples"),
        "version": fsrst.__version__,
        "commit": commit(),
        "command": command,
    }


def prepared(manifest: Manifest, split: str) -> dict[str, Any]:
    """Which command made the split, and whether of half a data set; empty where nothing tells."""
    made_by = manifest.info.get("made_by")
    how = made_by.get(split) if isinstance(made_by, dict) else None
    if not isinstance(how, dict):
        return {}
    return {key: how[key] for key in ("prepare", "partial") if key in how}


def graph_hash(path: Path | None) -> str:
    """16 hex digits that name a graph's file, and its numbers where they lie beside it; where torch
    runs a network as it is written, the files that it is written in."""
    if path is None:
        files = sorted((Path(fsrst.__file__).parent / "models").rglob("*.py"))
    else:
        files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def model_name(model: str) -> str:
    """A model given as a file is named by the file, not by its place on one machine; what
    `fsrst train` wrote, a ``model.safetensors``, by the run's folder."""
    path = Path(model)
    name = path.name.removesuffix(".upscale.onnx").removesuffix(".safetensors")
    return path.parent.name if name == "model" and path.parent.name else name


def _join(out: Path, record: dict[str, Any], manifest: Manifest) -> dict[str, Any]:
    """The record of the pictures that ``out`` already holds, empty without any; refuse a folder
    that is not ours or was made otherwise."""
    if out.resolve() == manifest.root.resolve():
        raise FsrstError(f"{out} is the data set itself; choose another folder for predictions")
    if not (out / RECORD).is_file():
        if out.is_dir() and any(out.iterdir()):
            raise FsrstError(f"{out} holds other files and no {RECORD}; choose an empty folder")
        return {}
    if not any(next((out / name).glob("*.png"), None) for name in CONDITIONS):
        return {}  # a call that failed before its first picture
    if record["weights_hash"] == UNKNOWN:
        raise FsrstError(
            f"nothing tells whether {out} was made with these weights, since their header has no"
            " hash; choose another folder or delete it"
        )
    # Through JSON and back, so that tuples and lists compare equal.
    earlier = read_record(out)
    before, now = copy.deepcopy(earlier), json.loads(json.dumps(record))
    before.setdefault("self_ensemble", False)  # earlier versions had none
    for key in DECISIVE:
        if key == "graph_hash" and None in (before.get(key), now[key]):
            continue  # records of earlier versions do not tell
        if key == "data":  # other pictures are predicted anew, another set is not
            before[key].pop("pictures", None)
            now[key].pop("pictures")
        if before.get(key) != now.get(key):
            raise FsrstError(
                f"{out} holds predictions made with {_difference(key, before.get(key), now[key])};"
                " choose another folder or delete it"
            )
    return earlier


def _difference(key: str, before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                return _difference(f"{key}.{name}", before.get(name), now.get(name))
    return f"{key} = {before}, now it is {now}"


def commit() -> str | None:
    """Commit of the source tree that runs, with ``-dirty`` if it was changed; None outside one."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        # An installed package may lie inside somebody else's repository: ours tracks this file.
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], **_QUIET)
        answer = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], **_QUIET
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return str(answer.stdout).strip() or None


_QUIET: dict[str, Any] = {"capture_output": True, "text": True, "check": True, "timeout": 20}
