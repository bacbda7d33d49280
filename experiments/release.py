"""A trained run becomes a shipped model: weights, graphs, scores, model card.

    python experiments/release.py runs/fsrst-photo fsrst-photo --data data/photo
    python experiments/release.py runs/fsrst2-single fsrst2 --data data/call --data data/photo

1. rounds the run's weights to float16 -> src/fsrst/weights/<name>.safetensors
2. exports the two graphs and the int8 one (calibrated on the train splits) beside it
3. scores every precision on the val splits -> <results>/<name>[-<data>][-bf16|-int8]/
4. writes the scores into the headers, and docs/models/<name>.md
"""

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from protocol import finished

from fsrst.cli import run as run_command
from fsrst.cli.models import CALIBRATION_SAMPLES
from fsrst.data.manifest import Manifest, load_manifest
from fsrst.errors import FsrstError
from fsrst.evaluate.predict import predict
from fsrst.evaluate.report import strips, table
from fsrst.evaluate.score import score
from fsrst.files import write_text
from fsrst.models import ReferenceSR
from fsrst.models.weights import load_weights, read_header, save_weights
from fsrst.runtime.model_files import shipped_models
from fsrst.runtime.upscaler import open_upscaler

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "src/fsrst/weights"
CARDS = ROOT / "docs/models"
CONDITIONS = ("bicubic", "right", "none", "wrong")  # columns of the scores


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder that `fsrst train` wrote")
    parser.add_argument("name", help="name of the shipped model")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        action="append",
        help="prepared data set with a val split; repeat for more",
    )
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    arguments = parser.parse_args(argv)
    manifests = [load_manifest(root) for root in arguments.data]
    release(arguments.run, arguments.name, manifests, arguments.results)


def release(run: Path, name: str, manifests: list[Manifest], results: Path) -> None:
    stem = WEIGHTS / name
    model, header = load_weights(run / "model.safetensors")
    budget(header["training"])  # refuses, if it does, before hours of scoring
    header = without_places(header, name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    ship(model, header, stem, manifests)
    header["scores"] = [
        measured(name, manifest, results, alone=len(manifests) == 1) for manifest in manifests
    ]
    ship(model, header, stem, manifests)
    write_text(CARDS / f"{name}.md", card(name, read_header(f"{stem}.safetensors"), manifests))
    readme = ROOT / "README.md"
    write_text(readme, with_scores(readme.read_text(encoding="utf-8")))


def measured(name: str, manifest: Manifest, results: Path, *, alone: bool) -> dict[str, Any]:
    """Predict and score the val split of one set in every precision."""
    place = name if alone else f"{name}-{manifest.name}"
    sides = [("onnxruntime", "f32"), ("openvino", "bf16"), ("openvino", "int8")]
    summaries = {}
    for backend, precision in sides:
        out = results / (place if precision == "f32" else f"{place}-{precision}")
        shutil.rmtree(out, ignore_errors=True)  # the same weights may have run in another graph
        upscaler = open_upscaler(name, backend, precision=precision)
        if upscaler.precision != precision:
            raise FsrstError(f"this processor cannot compute in {precision}")
        conditions = ("right", "none", "wrong") if precision == "f32" else ("right",)
        command = (
            f"fsrst evaluate --model {name} --backend {backend} --precision {precision}"
            f" --data data/{manifest.name} --identity -o results/{out.name}"
        )
        predict(upscaler, manifest, "val", out, conditions=conditions, command=command)
        summaries[precision] = score(out, manifest, identity=precision == "f32")
    strips(results / place, manifest, conditions=("right", "none"))
    return scores(summaries, manifest)


def scores_in(header: dict[str, Any]) -> list[dict[str, Any]]:
    """The scores in a header: one set, or a list of them."""
    found = header["scores"]
    return found if isinstance(found, list) else [found]


def without_places(header: dict[str, Any], name: str) -> dict[str, Any]:
    """The header without the folders of one machine."""
    options = dict(header["training"]["options"])
    for key in ("data", "large_data"):
        options[key] = [f"data/{Path(place).name}" for place in options.get(key, [])]
    options["out"] = f"runs/{name}"
    options.pop("threads", None)  # a shipped file, released again in new graphs, has none
    if options["init_from"]:
        options["init_from"] = f"runs/{Path(options['init_from']).parent.name}/model.safetensors"
    return {**header, "training": {**header["training"], "options": options}}


def ship(
    model: ReferenceSR, header: dict[str, Any], stem: Path, calibration: list[Manifest]
) -> None:
    path = stem.with_name(f"{stem.name}.safetensors")
    save_weights(path, model, header, half=True)
    arguments = ["export", str(path), "-o", str(stem), "--int8"]
    for manifest in calibration:
        arguments += ["--data", str(manifest.root)]
    if run_command(arguments):
        raise SystemExit(2)


def scores(summaries: dict[str, Any], manifest: Manifest) -> dict[str, Any]:
    """What a header says of its own quality."""
    full = summaries["f32"]
    measured = {"data": f"{manifest.name} val", "data_hash": manifest.hash, "n": None}
    for condition, values in full["conditions"].items():
        measured["n"] = values["n"]
        for measure in ("psnr_mean", "psnr_standard_error", "psnr_pooled", "ssim"):
            measured.setdefault(measure, {})[condition] = round(values[measure], 6)
        if "identity_distance" in values:
            measured.setdefault("identity_distance", {})[condition] = round(
                values["identity_distance"], 6
            )
    right = full["conditions"]["right"]["psnr_mean"]
    measured["loss_db"] = {
        precision: round(right - summary["conditions"]["right"]["psnr_mean"], 6)
        for precision, summary in summaries.items()
        if precision != "f32"
    }
    return measured


def card(name: str, header: dict[str, Any], manifests: list[Manifest]) -> str:
    """Markdown: data, budget, seed, command, scores, limits, terms."""
    options = header["training"]["options"]
    beyond = header["model"].startswith("fsrst2")
    kind = "photographs" if name.endswith("photo") else "video calls"
    use = "photographs and video calls, any size, 4x" if beyond else f"{kind}, 32x32 -> 128x128"
    lines = [
        f"# {name}",
        "",
        f"{header['model']}, {header['parameters']:,} parameters, {use},"
        f" weights `{header['weights_hash']}`. Written by `experiments/release.py`.",
        "",
        "## Scores",
        "",
    ]
    for found, manifest in zip(scores_in(header), manifests, strict=True):
        lines += score_lines(name, found, manifest)
    recipe = {key: options[key] for key in RECIPE if key in options}
    counts = [
        f"{manifest.name} has {manifest.info['counts']['train']['samples']} targets of"
        f" {manifest.info['counts']['train']['identities']} people"
        for manifest in manifests
    ]
    lines += [
        "## Training",
        "",
        f"- data: train splits of {passes(options['data'])}; {'; '.join(counts)}",
        *larger_inputs(options),
        f"- {options['holdout_identities']} people of each set were held out to watch the run",
        f"- budget: {budget(header['training'])}",
        f"- started from: {started_from(header['training'], name)}",
        f"- command: `fsrst train configs/{config_of(name, options)}.yaml`; "
        + (
            "the recipe for a GPU is `configs/fsrst2.yaml`"
            if beyond
            else "the recipe for a GPU is `configs/paper.yaml`"
        ),
        f"- recipe: `{json.dumps(recipe, sort_keys=True)}`",
        "- the checkpoint is the last one; none was chosen on the val split"
        + (CONTINUED if beyond and options["init_from"] else "")
        + (CALL if options["batch_size"] != USUAL_BATCH else ""),
        "",
        "## Limits",
        "",
        DAMAGED if beyond else UNDAMAGED,
        "- Fine detail is an estimate. Do not identify people by it.",
        "- The training pictures are mostly of adults in front of cameras: public figures, actors."
        " Expect worse results for children, strong side views and covered faces.",
        LIMITS_BEYOND if beyond else LIMITS_PAPER,
        "",
        "## Terms",
        "",
        "The code is Apache-2.0. The weights were trained on data for non-commercial research"
        " (CelebA, LFW) and, all but the photo models, on public talking-head clips without stated"
        " rights: use the weights for research.",
    ]
    return "\n".join(lines) + "\n"


def score_lines(name: str, found: dict[str, Any], manifest: Manifest) -> list[str]:
    counts = manifest.info["counts"]
    lines = [
        f"{manifest.name}, val split: {counts['val']['samples']} samples of"
        f" {counts['val']['identities']} people who are in no training set; three references.",
        "",
        "| | bicubic | right references | no references | references of a wrong person |",
        "| --- | --- | --- | --- | --- |",
    ]
    titles = {
        "psnr_mean": ("PSNR, mean per image [dB]", 2),
        "psnr_standard_error": ("its standard error, by person [dB]", 2),
        "psnr_pooled": ("PSNR, pooled [dB]", 2),
        "ssim": ("SSIM (Gaussian 11, sigma 1.5)", 4),
        "identity_distance": ("identity distance (dlib), less is better", 4),
    }
    for measure, (title, digits) in titles.items():
        if measure in found:
            cells = [f"{found[measure][condition]:.{digits}f}" for condition in CONDITIONS]
            lines.append(f"| {title} | {' | '.join(cells)} |")
    loss = found["loss_db"]
    text = (
        f"OpenVINO bf16 loses {loss['bf16']:.3f} dB of the mean PSNR with right references, int8"
        f" {loss['int8']:.3f} dB (calibrated on {CALIBRATION_SAMPLES} training samples)."
    )
    if not (WEIGHTS / f"{name}.int8.xml").is_file():
        text += " Its int8 graph is not shipped; `fsrst export --int8` makes it."
    if manifest.name == "photo":
        most = (
            ", and most of what references give in PSNR comes from them" if "fsrst2" in name else ""
        )
        text += f" Two of these pictures have the same photograph among their references{most}"
        text += " (docs/results.md)."
    return [*lines, "", text, ""]


def passes(places: list[str]) -> str:
    """data/call, data/call, data/photo -> "call (2 times), photo"."""
    times = Counter(Path(place).name for place in places)
    return ", ".join(f"{name} ({n} times)" if n > 1 else name for name, n in times.items())


def larger_inputs(options: dict[str, Any]) -> list[str]:
    """The card's line on batches of larger pictures; none without them."""
    if not options.get("large_data"):
        return []
    return [
        f"- larger inputs: {passes(options['large_data'])} in {options['large_batches']:.0%} of the"
        " batches, a quarter as many; each counts as a whole batch in the budget"
    ]


def budget(training: dict[str, Any]) -> str:
    """Samples, batch and seeds of the whole chain of runs that ends with this one.

    Raises
    ------
    FsrstError
        If a run before it is not among ``EARLIER``.
    """
    options = training["options"]
    counts, seeds, before = [training["samples"]], [options["seed"]], training["started_from"]
    while before:
        if before not in EARLIER:
            raise FsrstError(f"say among EARLIER in release.py how the weights {before} were made")
        samples, seed, before = EARLIER[before]
        counts.insert(0, samples)
        seeds.insert(0, seed)
    whole = f"{sum(counts):,} samples"
    if len(counts) > 1:
        whole += f" ({' + '.join(f'{count:,}' for count in counts)}, one after the other)"
    different = list(dict.fromkeys(seeds))
    said = "one seed" if len(different) == 1 else "seeds"
    batch = f"batch {options['batch_size']}"
    if len(counts) > 1 and options["batch_size"] != USUAL_BATCH:
        batch = f"batch {USUAL_BATCH}, then {options['batch_size']}"
    return f"{whole}, {batch}, {said} ({', '.join(map(str, different))})"


def started_from(training: dict[str, Any], name: str) -> str:
    start, options = training["started_from"], training["options"]
    if not start:
        return "random weights"
    before = ""
    if name.startswith("fsrst2"):
        before = f", made by `configs/cpu-{name}{PARTS[_part(options, name)]}.yaml`"
    return f"`{options['init_from']}` (weights `{start}`){before}"


def with_scores(readme: str) -> str:
    """The README with its table made anew from the headers of the shipped models."""
    rows = []
    for name in shipped_models():
        header = open_upscaler(name, "onnxruntime").info
        link = f"[{name}](docs/models/{name}.md)"
        for found in scores_in(header):
            psnrs = (f"{found['psnr_mean'][c]:.2f}" for c in CONDITIONS)
            rows.append([link, f"{header['parameters']:,}", found["data"], *psnrs])
    before, rest = readme.split(OPEN_MARK)
    after = rest.split(CLOSE_MARK)[1]
    scores = table(["model", "parameters", "data", *CONDITIONS], rows)
    return f"{before}{OPEN_MARK}\n{scores}\n{CLOSE_MARK}{after}"


CONTINUED = (
    ", though the scores there of fsrst2-small's first part were seen before the second part"
    " began; what the second part adds was chosen on held-out training people (docs/log.md). The"
    " first part was trained before the drift existed: its config now trains with it. When the"
    " coarse pose is used is no weight but a rule of the run-time; it was made stricter after the"
    " val scores of an ablation had been seen, and one comparison on call val had a part in it"
    " (docs/log.md). That the light of references is matched is such a rule too, chosen on"
    " training people. The third part shows photographs twice as often, because of the identity"
    " distance on the photographs' val split; its recipe and length were written down before it"
    " was trained, and nothing else was tried on that split. The fourth part shows damaged inputs;"
    " its recipe was fixed before it was trained, and it was taken because on both val splits it"
    " gives much more for such inputs than it loses without damage (docs/log.md). The fifth part"
    " shows fewer references more often, because of what one alone gave on the clips' val split;"
    " recipe, length and the rule by which it was taken were written down before it was scored. So"
    " were those of the sixth part, which shows more strangers among the references, in pictures"
    " of the target's kind, because of the harm they did on that split; and those of the seventh,"
    " which is longer and has another loss, chosen on training people, of the eighth, which shows"
    " faces of the clips in all sizes and in other light, because the part before gained more on"
    " its training people than on those of the val splits, of the ninth, in which a fifth of the"
    " batches hold inputs of 64x64 px, of one that fsrst2 alone has, in which half of the samples"
    " have one reference, because of what one alone gave on the clips' val split, and of the last,"
    " in which half of the samples keep their references as they are found, chosen on training"
    " people, and others have them before another background, because a reader found such"
    " references worthless; a bound of the drift that this part was trained with was taken away"
    " after it had cost one person of the val clips a decibel (docs/log.md)"
)
CALL = (
    ". That references stay as they are found, and batches are of 4, was chosen on people of the"
    " train split who were kept aside; Table 1's scores on this val split, seen before this model"
    " was trained, say the same (docs/log.md)"
)
# Weights that a shipped model's last run, or one before it, started from -> samples and seed of the
# run that made them, and what that started from
EARLIER: dict[str, tuple[int, int, str | None]] = {
    "17b00661f0a32a92": (80_000, 13, None),  # fsrst-photo
    "2694ccc670c43c02": (80_000, 13, None),  # fsrst-small-photo
    "d9a50ba474d4805d": (64_000, 22, "86f27d317b14eca8"),  # fsrst2
    "86f27d317b14eca8": (80_000, 21, "2d7378357d8e3914"),
    "2d7378357d8e3914": (80_000, 20, "7a606964c557c8d1"),
    "7a606964c557c8d1": (64_000, 19, "3c72c1835ecc7d4a"),
    "3c72c1835ecc7d4a": (40_000, 18, "e5b98f537c096518"),
    "e5b98f537c096518": (24_000, 17, "d8f0964d994a06f8"),
    "d8f0964d994a06f8": (24_000, 16, "fcee80b936743af8"),
    "fcee80b936743af8": (60_000, 15, "c2624d9eb64db9ae"),
    "c2624d9eb64db9ae": (8_000, 14, "1ace1f7dcfc97524"),
    "1ace1f7dcfc97524": (54_000, 13, None),
    "84f13a84eb8b0086": (160_000, 21, "a8b27bb90469edde"),  # fsrst2-small
    "a8b27bb90469edde": (160_000, 20, "5a636db8ede76f05"),
    "5a636db8ede76f05": (128_000, 19, "429d4a806aa78332"),
    "429d4a806aa78332": (40_000, 18, "ef8b035a6f69d4e5"),
    "ef8b035a6f69d4e5": (40_000, 17, "c6c05ee632e415dc"),
    "c6c05ee632e415dc": (24_000, 16, "5087d74bd121d6c4"),
    "5087d74bd121d6c4": (60_000, 15, "38de146e9bbf05a3"),
    "38de146e9bbf05a3": (8_000, 14, "2a95b434daddee33"),
    "2a95b434daddee33": (60_000, 13, None),
}
USUAL_BATCH = 16  # of all runs but the call models' last
# FSRST2 is trained in parts: ending of a run's folder -> ending of the config that makes it
PARTS = {
    "-first": "",
    "": "-finish",
    "-photographs": "-photographs",
    "-damaged": "-damaged",
    "-fewer": "-fewer",
    "-strangers": "-strangers",
    "-longer": "-longer",
    "-people": "-people",
    "-sizes": "-sizes",
    "-single": "-single",  # of fsrst2 alone
    "-found": "-found",
}
UNDAMAGED = (
    "- 32x32 inputs made by a bicubic reduction; other blurs, noise and compression were not"
    " trained."
)
DAMAGED = (
    "- Inputs made by a bicubic reduction are restored best. In the last parts of the training a"
    " quarter of them were reduced by other filters, noisy or JPEGs: such inputs are restored less"
    " well (docs/results.md), strong noise and blocks hardly. Blur of a lens or of motion was not"
    " trained."
)
LIMITS_BEYOND = (
    "- References help where they show the pose of the input, as in a call. Of"
    " photographs of other days the network uses little (see the columns)."
)
LIMITS_PAPER = (
    "- References give a few tenths of a dB at most (see the columns), FSRST2's several in a call:"
    " the paper's design passes them through three channels at low resolution."
)
OPEN_MARK, CLOSE_MARK = "<!-- scores -->", "<!-- /scores -->"
RECIPE = (
    "loss",
    "learning_rate",
    "schedule",
    "ema",
    "clip_norm",
    "precision",
    "large_batches",
    "augmentation",
)


def config_of(name: str, options: dict[str, Any]) -> str:
    if not name.startswith("fsrst2"):
        return "cpu-" + name.removeprefix("fsrst-")
    if not options["init_from"]:
        return f"cpu-{name}"
    parts = list(PARTS)
    later = (PARTS[part] for part in parts[parts.index(_part(options, name)) + 1 :])
    mine = (f"cpu-{name}{ending}" for ending in later)
    return next(config for config in mine if (ROOT / f"configs/{config}.yaml").exists())


def _part(options: dict[str, Any], name: str) -> str:
    """Ending of the folder of the run that this one started from, a key of ``PARTS``."""
    return Path(options["init_from"]).parent.name.removeprefix(name)


if __name__ == "__main__":
    sys.exit(finished(main))
