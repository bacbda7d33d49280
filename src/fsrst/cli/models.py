"""``fsrst info``, ``fsrst convert``, ``fsrst export``: what there is, and files from files."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsrst import __version__
from fsrst.cli.output import say, say_json
from fsrst.errors import FsrstError

if TYPE_CHECKING:
    from fsrst.image import Pixels

CALIBRATION_SAMPLES = 128
AUTHORS_NETWORKS = ("fsrst", "fsrst-small")
CONDITIONS = ("bicubic", "none", "right", "wrong")  # columns of the scores in a weights header


def info(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A shipped name or a model file.")
    ] = None,
    networks: Annotated[
        bool, typer.Option("--networks", help="List what can be trained, the compared systems too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """List the shipped models and the backends found, or all that one model says of itself."""
    if networks:
        if model is not None:
            raise FsrstError(f"--networks lists all of them: leave out {model}, or --networks")
        _say_networks(as_json)
        return
    from fsrst.runtime.model_files import shipped_models
    from fsrst.runtime.upscaler import BACKENDS, open_upscaler

    if model is not None:
        header = open_upscaler(model, "auto").info
        if as_json:
            say_json(header)
        else:
            for key, value in _flat(header):
                say(f"{key:<28} {value}")
        return
    headers = {name: open_upscaler(name, "onnxruntime").info for name in shipped_models()}
    backends = _versions(BACKENDS[1:])  # named as their modules
    if as_json:
        say_json({"version": __version__, "models": headers, "backends": backends})
        return
    say(f"fsrst {__version__}")
    say(f"{'model':<20}{'parameters':>12}  {'enlarges':<18}PSNR [dB] bicubic/none/right/wrong")
    for name, header in headers.items():
        side, scale = header["lr_size"], header["scale"]
        sizes = f"{side}x{side} -> {side * scale}x{side * scale}" if side else f"any size {scale}x"
        say(f"{name:<20}{header['parameters']:>12,}  {sizes:<18}{_scores(header)}")
    if headers:
        say(
            "right, wrong, none: references of the same person, of another, no references; call:"
            " frames of video calls, photo: photographs of other days (2 of the 200 have their own"
            " copy among their references), of people in no training set"
        )
    else:
        say("no models are shipped with this copy")
    found = ", ".join(f"{name} {version}" for name, version in backends.items() if version)
    missing = ", ".join(name for name, version in backends.items() if not version)
    say(f"backends: {found}" + (f" (not installed: {missing})" if missing else ""))
    say("networks to train, and the compared systems: fsrst info --networks")


def _say_networks(as_json: bool) -> None:
    """Every network of ``fsrst.models``, made without memory for its numbers."""
    import torch

    from fsrst.models import MODELS, build

    found: dict[str, dict[str, Any]] = {}
    for name in MODELS:
        with torch.device("meta"):
            network = build(name)
            counts = [sum(p.numel() for p in n.parameters()) for n in (network, network.fuse())]
        words = sys.modules[type(network).__module__].__doc__ or ""
        found[name] = {
            "parameters": counts[0],
            "parameters_at_run_time": counts[1],
            "references": network.reference_limit,  # None: any number
            "lr_size": network.lr_size,
            "what": words.partition("\n")[0].rstrip("."),
        }
    if as_json:
        say_json(found)
        return
    say(f"{'network':<14}{'parameters':>12}  {'refs':<6}{'input':<8}what")
    for name, facts in found.items():
        limit, side = facts["references"], facts["lr_size"]
        size = f"{side}x{side}" if side else "any"
        count, fused = facts["parameters"], facts["parameters_at_run_time"]
        less = f" ({fused:,} at run time)" if fused != count else ""
        refs = "any" if limit is None else str(limit)
        say(f"{name:<14}{count:>12,}  {refs:<6}{size:<8}{facts['what']}{less}")


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="AUTHORS.pth", help="A state dict of the authors' script.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file to write.")],
    model: Annotated[str, typer.Option(help="fsrst or fsrst-small.")],
) -> None:
    """Read a checkpoint that the paper authors' training script wrote."""
    _need_suffix(output, ".safetensors")
    if model not in AUTHORS_NETWORKS:
        raise FsrstError(f"--model {model}: expected {' or '.join(AUTHORS_NETWORKS)}, the authors'")
    from fsrst.models.weights import convert_author_checkpoint, save_weights

    network = convert_author_checkpoint(checkpoint, model)
    made_by = {"converted_from": checkpoint.name}
    save_weights(output, network, {"training": made_by, "version": __version__})
    count = sum(parameter.numel() for parameter in network.parameters())
    say(f"{output}: {model} {network.scale}x, {count:,} parameters")


def export(
    weights: Annotated[Path, typer.Argument(metavar="MODEL.safetensors", help="Trained weights.")],
    output: Annotated[
        str,  # a Path forgets the slash behind a folder
        typer.Option(
            "-o", "--output", metavar="STEM", help="Writes STEM.encode.onnx and STEM.upscale.onnx."
        ),
    ],
    int8: Annotated[bool, typer.Option("--int8", help="Also quantise for OpenVINO.")] = False,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DATA",
            help="A prepared data set; its train split calibrates --int8. Repeat for more.",
        ),
    ] = None,
) -> None:
    """Write the two graphs that upscaling needs, and compare them with torch."""
    from fsrst.runtime.export import check_stem
    from fsrst.runtime.export import export as run

    _need_suffix(weights, ".safetensors")
    stem = check_stem(output)
    if int8 and not data:
        raise FsrstError("--int8 needs --data with a prepared data set to calibrate on")
    if data and not int8:
        raise FsrstError("--data calibrates --int8; give both")
    for package in ("nncf", "openvino") if int8 else ():  # said before graphs are written
        if find_spec(package) is None:
            hint = "install it with: pip install 'fsrst[int8]'"
            raise FsrstError(f"--int8 needs {package}; {hint}")
    samples = _calibration(data) if int8 and data else []
    from fsrst.models.weights import load_weights

    network, header = load_weights(weights)
    done = run(network, header, stem)
    worst = max(done["parity"].values())
    for name, size in done["bytes"].items():
        say(f"{stem}.{name}.onnx: {size / 1e6:.2f} MB")
    but = ", 2 % of the values left out" if network.chooses else ""
    say(f"largest difference to torch{but}: {worst * 255:.5f} grey levels")
    if samples:
        from fsrst.data.degradation import degrade
        from fsrst.runtime.int8 import quantize_int8

        int8_done = quantize_int8(
            stem,
            [(degrade(truth, network.scale), references) for truth, references in samples],
        )
        say(
            f"{stem}.int8.xml and .bin: {int8_done['bytes'] / 1e6:.2f} MB, calibrated on"
            f" {int8_done['samples']} training samples, {int8_done['rms']:.2f} grey levels (rms)"
            " from float32"
        )


def _calibration(places: list[Path]) -> list[tuple[Pixels, list[Pixels]]]:
    """(target, references) of training samples, evenly spread over the sets.

    With three, two, one and no reference in turn, so that the ranges hold for any number.
    """
    from fsrst.data.manifest import evenly_spread, load_manifest
    from fsrst.image import read_image

    found = []
    for manifest in map(load_manifest, places):
        chosen = evenly_spread(manifest.split("train"), CALIBRATION_SAMPLES // len(places))
        for index, sample in enumerate(chosen):
            files = sample.references[: 3 - index % 4]
            references = [read_image(manifest.root / file) for file in files]
            found.append((read_image(manifest.root / sample.target), references))
    return found


def _need_suffix(path: Path, suffix: str) -> None:
    if path.suffix != suffix:
        raise FsrstError(f"{path}: expected a name that ends in {suffix}")


def _versions(modules: tuple[str, ...]) -> dict[str, str | None]:
    """Versions of what brings the modules, whatever its name (onnxruntime-gpu); None: nothing."""
    from importlib.metadata import packages_distributions, version

    brought_by = packages_distributions()
    return {name: version(brought_by[name][0]) if name in brought_by else None for name in modules}


def _scores(header: dict[str, Any]) -> str:
    found = header.get("scores") or []
    lines = []
    for scores in found if isinstance(found, list) else [found]:  # one data set, or several
        psnr = scores.get("psnr_mean", {})
        values = "/".join(f"{psnr[name]:.2f}" if name in psnr else "-" for name in CONDITIONS)
        lines.append(f"{values} on {scores.get('data', 'unnamed data')}")
    return "; ".join(lines) or "not scored"


def _flat(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested keys joined by dots, in order; what a list holds is numbered from 1."""
    found: list[tuple[str, Any]] = []
    for key, inner in value.items():
        if isinstance(inner, list) and inner and all(isinstance(one, dict) for one in inner):
            inner = {str(number): one for number, one in enumerate(inner, start=1)}
        if isinstance(inner, dict) and inner:
            found += _flat(inner, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", inner))
    return found
