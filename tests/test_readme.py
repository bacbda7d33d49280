"""What README and docs say is true: commands parse, links lead somewhere, tables are made."""

import importlib
import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from fsrst.cli import app
from fsrst.errors import FsrstError
from fsrst.models.weights import read_header
from fsrst.runtime.model_files import shipped_models

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").rglob("*.md")])


def commands(page: Path) -> list[str]:
    """All `fsrst ...` lines of code blocks, without comments."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("fsrst ")]


ALL = [(page, line) for page in PAGES for line in commands(page)]


@pytest.mark.parametrize(
    ("page", "line"), ALL, ids=[f"{page.stem}: {line[:40]}" for page, line in ALL]
)
def test_documented_commands_parse(page: Path, line: str) -> None:
    command = typer.main.get_command(app)
    arguments = shlex.split(line, comments=True)[1:]
    context = None
    while hasattr(command, "resolve_command"):  # a group: its own options, then the next word
        context = command.make_context("fsrst", list(arguments), parent=context)
        rest = [*getattr(context, "_protected_args", []), *context.args]
        _, command, arguments = command.resolve_command(context, rest)
        assert command is not None, line
    command.make_context("command", list(arguments), parent=context)  # raises what a user would see


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_are_headings(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            there = (page.parent / target if target else page).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.+)$", there, re.M)
            slugs = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in slugs, f"{page.name}: {target}#{anchor}"


SCRIPT = re.compile(r"python ((?:experiments|benchmarks)/\w+\.py)([^`\n]*)")
SCRIPTS = {(page.name, *found) for page in PAGES for found in SCRIPT.findall(page.read_text())}


@pytest.mark.parametrize("found", sorted(SCRIPTS), ids=lambda found: f"{found[0]}: {found[1]}")
def test_documented_scripts_have_the_options_that_are_named(found: tuple[str, str, str]) -> None:
    page, script, rest = found
    path = ROOT / script
    source = path.read_text(encoding="utf-8")
    if "parser_of(" in source:
        source += (path.parent / "protocol.py").read_text(encoding="utf-8")
    for option in re.findall(r"(?<!\S)--[a-z-]+", rest.split("#")[0]):
        assert f'"{option}"' in source, f"{page}: {script} has no {option}"


def test_the_table_of_scores_is_that_of_the_shipped_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert shipped_models(), "no weights are shipped"
    monkeypatch.syspath_prepend(ROOT / "experiments")
    release = importlib.import_module("release")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert release.with_scores(readme) == readme


def test_what_is_said_of_the_self_ensemble_was_measured() -> None:
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    part = page.partition("### Self-ensemble")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (fsrst\S+) \| \S+ \| (\S+) \| \+(\S+) ±", part, re.M)
    gains = sorted(float(gain) for _, _, gain in rows)
    said = f"{gains[0]:.2f} to {gains[-1]:.2f} dB"
    places = ("README.md", "docs/runtimes.md", "src/fsrst/runtime/upscaler.py", "CHANGELOG.md")
    for place in (*places, "src/fsrst/cli/upscale.py"):
        assert said in (ROOT / place).read_text(encoding="utf-8"), place
    psnr = {name: value for name, value, _ in rows}
    two = [f"{psnr[f'{m}-call']} and {psnr[f'{m}-photo']}" for m in ("fsrst2", "fsrst2-small")]
    said = f"fsrst2 has {two[0]}, fsrst2-small {two[1]}"
    assert said in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_cards_are_what_the_weights_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    release = importlib.import_module("release")
    sets = json.loads((ROOT / "benchmarks/results/aggregation.json").read_text())["data"]
    manifests = {s["name"]: SimpleNamespace(name=s["name"], info=s) for s in sets}
    for path in sorted(release.WEIGHTS.glob("*.safetensors")):
        header = read_header(path)
        scored = [found["data"].split()[0] for found in release.scores_in(header)]
        card = release.card(path.stem, header, [manifests[name] for name in scored])
        assert (release.CARDS / f"{path.stem}.md").read_text(encoding="utf-8") == card


def test_model_cards_tell_the_whole_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    release = importlib.import_module("release")
    for name in shipped_models():
        training = read_header(release.WEIGHTS / f"{name}.safetensors")["training"]
        text = (release.CARDS / f"{name}.md").read_text(encoding="utf-8")
        assert f"\n- budget: {release.budget(training)}\n" in text
    # Every part is told, and together they are the total: FSRST2 was trained in several.
    card = (release.CARDS / "fsrst2.md").read_text(encoding="utf-8")
    told = re.search(r"- budget: ([\d,]+) samples \(([\d, +]+), one after the other\)", card)
    assert told is not None
    total, *parts = (int(text.replace(",", "")) for text in (told[1], *told[2].split(" + ")))
    assert len(parts) > 1 and sum(parts) == total
    assert parts[-1] == read_header(release.WEIGHTS / "fsrst2.safetensors")["training"]["samples"]
    with pytest.raises(FsrstError, match="say among EARLIER"):
        release.budget({**training, "started_from": "0123456789abcdef"})


@pytest.mark.parametrize(
    ("name", "started_from", "config"),
    [
        ("fsrst2", "fsrst2-sizes", "cpu-fsrst2-single"),
        ("fsrst2", "fsrst2-single", "cpu-fsrst2-found"),
        ("fsrst2-small", "fsrst2-small-sizes", "cpu-fsrst2-small-found"),  # it has no -single
    ],
)
def test_a_card_names_the_config_of_the_last_part(
    name: str, started_from: str, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    release = importlib.import_module("release")
    options = {"init_from": f"runs/{started_from}/model.safetensors"}
    assert release.config_of(name, options) == config


def test_the_annotated_trees_name_files_that_exist() -> None:
    for page in (ROOT / "README.md", ROOT / "ARCHITECTURE.md"):
        text = page.read_text(encoding="utf-8")
        for path in re.findall(
            r"^((?:src|configs|docs|experiments|benchmarks)/[\w./-]*)", text, re.M
        ):
            assert (ROOT / path).exists(), f"{page.name}: {path}"
    architecture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    tree = architecture.split("```")[1]
    named = set(re.findall(r"\b\w+\.py\b", tree))
    apart = ("baselines", "drawing", "tests", "benchmarks")  # rooms whose files are not listed
    there = {
        path.name
        for folder in ("src", "experiments")
        for path in (ROOT / folder).rglob("*.py")
        if not set(path.parts) & set(apart) and path.name not in ("__init__.py", "__main__.py")
    }
    in_cli = {path.name for path in (ROOT / "src/fsrst/cli").glob("*.py")}
    assert named - {"__init__.py"} <= there | in_cli, "named, and not there"
    assert there - in_cli <= named, "there, and not named"
    for file, name in re.findall(r"`([a-z_/]+\.py): (\w+)`", architecture):
        assert name in (ROOT / "src/fsrst" / file).read_text(encoding="utf-8"), f"{file}: {name}"
