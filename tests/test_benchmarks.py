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
import training  # noqa: E402


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
    """The sides are those of the published file (bf16 is not everywhere), and agree with torch."""
    monkeypatch.setattr(speed, "MODELS", {"fsrst-small": "fsrst-small-photo"})
    monkeypatch.setattr(speed, "ANY_SIZE", ("fsrst2-small",))
    monkeypatch.setattr(speed, "targets", lambda _: [])  # they compare two models
    speed.main()
    found, before = json.loads(arguments.read_text()), published("speed")
    assert found["cold_start"].keys() >= before["cold_start"].keys()
    ours, theirs = (each["models"]["fsrst-small"] for each in (found, before))
    for key in ("graph", "whole_call", "speedup", "frames_per_s", "agreement"):
        assert ours[key] and set(ours[key]) <= set(theirs[key])
    for figures in (ours["agreement"], found["agreement"]["fsrst2-small"]):
        for side, figure in figures.items():
            assert figure["largest_difference_levels"] <= (1 if side.endswith("f32") else 40)


def test_targets_of_speed() -> None:
    agreement = {"torch f32": {"largest_difference_levels": 0, "psnr_loss_db": 0.0}}
    worse = {"openvino bf16": {"largest_difference_levels": 9, "psnr_loss_db": 0.03}}
    model = {"speedup": {"openvino bf16": 4.0}, "frames_per_s": {"openvino bf16": 300.0}}
    cold = {"fsrst --help": {"median_ms": 299.0}, "fsrst upscale": {"median_ms": 1001.0}}
    lines = speed.targets(
        {
            "models": {name: {**model, "agreement": agreement} for name in speed.MODELS},
            "agreement": {"fsrst2": worse},
            "cold_start": cold,
        }
    )
    missed = [line["what"] for line in lines if not line["met"]]
    assert missed == [
        "FSRST frame, openvino bf16, times faster than naive torch",
        "fsrst2, openvino bf16, PSNR loss [dB]",
        "fsrst upscale from a cold start [ms]",
    ]
    assert len(lines) == 7


def test_training(arguments: Path) -> None:
    training.main()
    found, before = json.loads(arguments.read_text()), published("training")
    assert found.keys() == before.keys()
    assert found["samples_per_s"].keys() == before["samples_per_s"].keys()
    assert min(found["samples_per_s"].values()) > 0
    assert 0.1 < found["peak_memory_gb"] < 4


def test_sizes(arguments: Path) -> None:
    sizes.main()
    found, before = json.loads(arguments.read_text()), published("sizes")
    assert set(found["frames"]) < set(before["frames"])
    assert all(
        found["frames"][size].keys() == before["frames"][size].keys() for size in found["frames"]
    )
