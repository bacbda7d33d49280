"""The arrows of ARCHITECTURE.md, read from the source, and what the light imports leave out."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fsrst

PACKAGE = Path(fsrst.__file__).parent
REPOSITORY = PACKAGE.parent.parent

# room -> rooms that it may import. errors, files and progress are open to all.
EVERYWHERE = {"errors", "files", "progress"}
ARROWS: dict[str, set[str]] = {
    "": {"runtime"},  # fsrst/__init__.py: public names, lazily
    "__main__": {"cli"},
    "errors": set(),
    "files": set(),
    "progress": set(),
    "image": set(),
    "models": {"image"},
    "data": {"image"},
    "options": {"data"},
    "train": {"", "models", "data", "options", "muon", "checkpoint", "train_log"},
    "muon": set(),
    "checkpoint": {"models", "options"},
    "train_log": set(),
    "runtime": {"", "image", "models"},
    "evaluate": {"", "image", "runtime", "data"},
    "demo": {"image", "runtime", "data", "evaluate"},
    "cli": {
        *("", "image", "models", "data", "options"),
        *("train", "runtime", "evaluate", "demo"),
    },
}
HEAVY = {"torch", "torchvision", "lightning_fabric", "lightning", "safetensors", "tensorboard"}


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts[0] == "__init__" else parts[0]


def imported_modules(path: Path) -> set[str]:
    """Full names of everything imported anywhere in the file, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            for alias in node.names:
                inner = base.split(".") + [alias.name]
                is_module = base.split(".")[0] == "fsrst" and (
                    PACKAGE.joinpath(*inner[1:]).with_suffix(".py").is_file()
                    or PACKAGE.joinpath(*inner[1:], "__init__.py").is_file()
                )
                found.add(".".join(inner) if is_module else base)
    return found


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows(path: Path) -> None:
    room = room_of(path)
    assert room in ARROWS, f"{room} is a new room: give it a line in ARROWS and in ARCHITECTURE.md"
    for name in imported_modules(path):
        if name.split(".")[0] != "fsrst":
            continue
        other = "" if name == "fsrst" else name.split(".")[1]
        assert other == room or other in EVERYWHERE | ARROWS[room], f"{path} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_depends_on_torchvision(path: Path) -> None:
    assert not any(name.split(".")[0] == "torchvision" for name in imported_modules(path))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450


def loaded_after(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after ``code``."""
    script = f"import sys\n{code}\nprint(' '.join({{n.split('.')[0] for n in sys.modules}}))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    return set(done.stdout.split())


def test_import_fsrst_is_light() -> None:
    loaded = loaded_after("import fsrst; fsrst.__version__")
    assert not loaded & (HEAVY | {"numpy", "PIL", "onnxruntime", "typer"})


def test_command_line_loads_nothing_heavy_before_a_command() -> None:
    loaded = loaded_after("import fsrst.cli")
    assert not loaded & (HEAVY | {"numpy", "PIL", "onnxruntime", "rich", "yaml", "pydantic"})


@pytest.mark.parametrize(
    "module",
    [
        "runtime.upscaler",
        "runtime.onnx_backend",
        "data.manifest",
        "data.degradation",
        "image",
        "demo",
    ],
)
def test_light_modules_leave_torch_out(module: str) -> None:
    assert not loaded_after(f"import fsrst.{module}") & HEAVY


def test_public_names() -> None:
    assert not loaded_after("from fsrst import Upscaler, open_upscaler") & HEAVY
    with pytest.raises(AttributeError, match="no attribute 'upscaler'"):
        _ = fsrst.upscaler


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt", "Makefile"])
def test_set_up_files_name_no_torchvision_requirement(file: str) -> None:
    for line in (REPOSITORY / file).read_text(encoding="utf-8").splitlines():
        code = line.partition("#")[0]
        assert "torchvision" not in code
