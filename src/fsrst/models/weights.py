"""The only place where weights are read and written: safetensors with a header.

A file rebuilds its network by itself: the header names the model and its options, and says which
run made the numbers. Shipped files hold float16 values; they are float32 again when loaded.
"""

import contextlib
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fsrst.errors import FsrstError
from fsrst.files import written_whole
from fsrst.models import ReferenceSR, build

HEADER_KEY = "fsrst"
FORMAT = 1


def save_weights(
    path: str | Path,
    model: ReferenceSR,
    header: dict[str, Any] | None = None,
    *,
    half: bool = False,
) -> None:
    """Write ``model`` to ``path``, whole or not at all; ``half`` stores float16.

    ``header`` may say anything about the run (``training``, ``scores``); format, model, options,
    parameter count and a hash of the stored numbers are added here.
    """
    dtype = torch.float16 if half else torch.float32
    tensors = {
        key: value.detach()
        .to("cpu", dtype if value.is_floating_point() else value.dtype)
        .contiguous()
        for key, value in model.state_dict().items()
    }
    full_header = {
        **(header or {}),
        "format": FORMAT,
        "model": model.name,
        "options": model.options,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights_hash": _hash(tensors),
    }
    with written_whole(path) as temporary:
        # not save_file: its files are private, whatever the umask says
        temporary.write_bytes(save(tensors, {HEADER_KEY: json.dumps(full_header)}))


def read_header(path: str | Path) -> dict[str, Any]:
    """The header alone, without loading tensors.

    Raises
    ------
    FsrstError
        If the file is missing, damaged or was not written by ``save_weights``.
    """
    path = Path(path)
    if not path.is_file():
        raise FsrstError(f"no weights at {path}: expected a .safetensors file of fsrst")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise FsrstError(f"{path} is not a readable safetensors file: {error}") from error
    if HEADER_KEY not in metadata:
        raise FsrstError(
            f"{path} has no fsrst header; authors' checkpoints go through `fsrst convert` first"
        )
    header: Any = None
    with contextlib.suppress(json.JSONDecodeError):
        header = json.loads(metadata[HEADER_KEY])
    if not isinstance(header, dict) or not {"format", "model", "options"} <= header.keys():
        raise FsrstError(f"{path} is damaged: its header is not one that `fsrst train` writes")
    if header.get("format") != FORMAT:
        raise FsrstError(
            f"{path} has weights format {header.get('format')}, this version reads {FORMAT};"
            " use the fsrst version that wrote it"
        )
    known: dict[str, Any] = header
    return known


def load_weights(path: str | Path) -> tuple[ReferenceSR, dict[str, Any]]:
    """Rebuild the network of a weights file: (model in evaluation mode, header).

    Raises
    ------
    FsrstError
        As ``read_header``, and if the tensors do not fit the model that the header names.
    """
    header = read_header(path)
    model = build(header["model"], **header["options"])
    try:
        with safe_open(Path(path), framework="pt") as file:
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        model.load_state_dict(tensors)
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FsrstError(f"{path} does not hold a whole {header['model']}: {reason}") from error
    return model.eval(), header


def _hash(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].float().numpy().tobytes())
    return digest.hexdigest()[:16]


# --- checkpoints of the paper authors' training script --------------------------------------------

AUTHOR_PREFIXES = {  # their state-dict prefix -> our submodule
    "feature_extraction_lq.model.": "extractor_lr.trunk",
    "feature_extraction_ref.model.": "extractor_refs.trunk",
    "feature_align.conv.": "alignment.localisation",
    "feature_align.fc.": "alignment.localisation",
    "reconstruction.model.": "constructor.trunk",
    "last.": "constructor.last",
}


def convert_author_checkpoint(path: str | Path, name: str) -> ReferenceSR:
    """Read a state dict that the paper authors' script saved into our network ``name``.

    Keys may start with ``module.`` (data-parallel training). Layers are matched by their order
    under each prefix and by shape; the scale (4 or 8) by the reference extractor's input.

    Raises
    ------
    FsrstError
        If the file is not such a state dict, or holds a network of another size.
    """
    path = Path(path)
    build(name)  # an unknown name is said before the file is read
    if not path.is_file():
        raise FsrstError(f"no checkpoint at {path}")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here, with advice that is not ours
        raise FsrstError(
            f"{path} is not a torch state dict, or holds more than tensors; expected the authors'"
            " <epoch>_mdl.pth or best_mdl.pth"
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise FsrstError(
            f"{path} is not a bare state dict of tensors (an optimizer's file?); expected the"
            " authors' <epoch>_mdl.pth or best_mdl.pth"
        )
    theirs = {key.removeprefix("module."): value for key, value in loaded.items()}
    unknown = [key for key in theirs if not key.startswith(tuple(AUTHOR_PREFIXES))]
    missing = [
        prefix for prefix in AUTHOR_PREFIXES if not any(k.startswith(prefix) for k in theirs)
    ]
    if unknown or missing:
        what = f"has unknown key {unknown[0]!r}" if unknown else f"has no key {missing[0]}*"
        raise FsrstError(f"{path} {what}: not an FSRST of the paper's authors")

    inputs = theirs[_in_order(theirs, "feature_extraction_ref.model.")[0]].shape[1]
    scale = {16: 4, 64: 8}.get(inputs)
    if scale is None:
        raise FsrstError(
            f"{path} takes references of {inputs} channels; expected 16 (4x) or 64 (8x)"
        )
    model = build(name, scale=scale)
    ours = model.state_dict()
    for module in dict.fromkeys(AUTHOR_PREFIXES.values()):
        prefixes = [prefix for prefix, target in AUTHOR_PREFIXES.items() if target == module]
        sources = [key for prefix in prefixes for key in _in_order(theirs, prefix)]
        targets = [key for key in ours if key.startswith(module + ".")]
        shapes_theirs = [tuple(theirs[key].shape) for key in sources]
        if shapes_theirs != [tuple(ours[key].shape) for key in targets]:
            width = theirs[_in_order(theirs, "reconstruction.model.")[0]].shape[0]
            right = {64: "fsrst", 32: "fsrst-small"}.get(width, "no model of the paper")
            raise FsrstError(
                f"{path} does not fit --model {name}: its blocks have {width} channels ({right})"
                if right != name
                else f"{path} does not fit --model {name}: other layers under {prefixes[0]}*"
            )
        for target, source in zip(targets, sources, strict=True):
            ours[target] = theirs[source].float()
    model.load_state_dict(ours)
    return model.eval()


def _in_order(state: dict[str, Tensor], prefix: str) -> list[str]:
    """Keys under ``prefix``, layers by number, weight before bias."""

    def order(key: str) -> tuple[list[int], bool]:
        return [int(part) for part in re.findall(r"\d+", key)], key.endswith("bias")

    return sorted((key for key in state if key.startswith(prefix)), key=order)
