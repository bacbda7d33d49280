"""Where a model's files lie: shipped ones by their names, others by paths."""

from pathlib import Path

from fsrst.errors import FsrstError, did_you_mean

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
GRAPH_SUFFIX = ".upscale.onnx"
TORCH_SUFFIX = ".safetensors"


def shipped_models() -> list[str]:
    """Names of the models inside the package."""
    return sorted(file.name.removesuffix(GRAPH_SUFFIX) for file in WEIGHTS.glob(f"*{GRAPH_SUFFIX}"))


def find(model: str | Path, backend: str) -> tuple[Path, str]:
    """(stem of the model's files, suffix of the file that was meant).

    Raises
    ------
    FsrstError
        If there is none, or more than one that could be meant, or the place cannot be read.
    """
    shipped = shipped_models()
    try:
        return _found_file(model, shipped, backend)
    except OSError as error:  # such as a name longer than names may be
        raise FsrstError(f"cannot read model {str(model)[:200]!r}: {error.strerror}") from error


def _found_file(model: str | Path, shipped: list[str], backend: str) -> tuple[Path, str]:
    if str(model) in shipped:  # before a folder of that name, such as this program's own output
        return WEIGHTS / str(model), GRAPH_SUFFIX
    path = Path(model)
    if path.name.endswith(GRAPH_SUFFIX) or path.suffix == TORCH_SUFFIX:
        if not path.is_file():
            raise FsrstError(f"no model file {path}")
        suffix = TORCH_SUFFIX if path.suffix == TORCH_SUFFIX else GRAPH_SUFFIX
        return path.parent / path.name.removesuffix(suffix), suffix
    suffixes = {"auto": (GRAPH_SUFFIX, TORCH_SUFFIX), "torch": (TORCH_SUFFIX,)}.get(
        backend, (GRAPH_SUFFIX,)
    )
    found: list[Path] = []
    for suffix in suffixes:
        if (path.parent / f"{path.name}{suffix}").is_file():  # the STEM of `fsrst export`
            return path, suffix
        found = found or sorted(path.glob(f"*{suffix}"))
        if len(found) == 1:
            return path / found[0].name.removesuffix(suffix), suffix
    if path.is_dir():
        names = ", ".join(file.name for file in found) or "none"
        wanted = " or one *".join(suffixes)
        raise FsrstError(f"folder {path} must hold one *{wanted}, found {names}; name the file")
    if path.is_file():
        weights = path.with_name(f"model{TORCH_SUFFIX}")  # beside a run's checkpoint.pt
        raise FsrstError(
            f"{path} is no model file; expected *{GRAPH_SUFFIX} or a run's {weights.name}"
            f"{f'; name {weights}' if weights.is_file() else ''}"
        )
    hint = did_you_mean(model, shipped)
    raise FsrstError(
        f"unknown model {str(model)!r}: neither a file or folder nor one of"
        f" {', '.join(shipped) or 'the shipped models (none here)'}{hint}"
    )
