"""The benchmarks run, and their files have what the results page reads."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("openvino")
ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import sizes  # noqa: E402
import speed  # noqa: E402


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "found.json"
    monkeypatch.setattr(
        sys, "argv", ["benchmark", "--smoke", "--threads", "1", "--output", str(path)]
    )
    return path


def published(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
    return found


def test_speed(arguments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every side agrees with torch; the same things are timed as in the published file."""
    monkeypatch.setattr(speed, "MODELS", {"fsrst-small": "fsrst-small-photo"})
    monkeypatch.setattr(speed, "ANY_SIZE", ("fsrst2-small",))
    monkeypatch.setattr(speed, "targets", lambda _: [])
    speed.main()
    found, before = json.loads(arguments.read_text()), published("speed")
    assert found["cold_start"].keys() == before["cold_start"].keys()
    for key, value in before["models"]["fsrst-small"].items():
        assert set(found["models"]["fsrst-small"][key]) <= set(value)  # bf16 is not everywhere
    for figures in (
        found["models"]["fsrst-small"]["agreement"],
        found["agreement"]["fsrst2-small"],
    ):
        for side, figure in figures.items():
            assert figure["largest_difference_levels"] <= (1 if side.endswith("f32") else 40)


def test_sizes(arguments: Path) -> None:
    sizes.main()
    found, before = json.loads(arguments.read_text()), published("sizes")
    assert set(found["frames"]) < set(before["frames"])
    assert all(
        found["frames"][size].keys() == before["frames"][size].keys() for size in found["frames"]
    )
