"""What every benchmark shares: how times are taken, and what a result says of its origin.

Contract: every side is warmed up, then all sides take turns in the same run for several rounds, so
that a busy minute of the machine hits them all. A figure is the median and the interquartile range
over all timed calls. Results are JSON with machine, versions and commit.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("numpy", "onnxruntime", "openvino", "nncf", "torch", "lightning-fabric")


def take_turns(
    sides: dict[str, Callable[[], object]], *, rounds: int, calls: int, warm_up: int
) -> dict[str, dict[str, float]]:
    """Time each side: {name: {"median_ms", "q25_ms", "q75_ms", "calls"}}.

    In each round every side gets ``warm_up`` untimed and ``calls`` timed calls in a row; the order
    turns by one from round to round.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            run = sides[name]
            for _ in range(warm_up):
                run()
            for _ in range(calls):
                begin = time.perf_counter()
                run()
                times[name].append((time.perf_counter() - begin) * 1000)
    return {name: spread(values) for name, values in times.items()}


def spread(values_ms: list[float]) -> dict[str, float]:
    """Median and quartiles of times [ms]."""
    q25, median, q75 = np.percentile(values_ms, [25, 50, 75])
    return {
        "median_ms": round(float(median), 4),
        "q25_ms": round(float(q25), 4),
        "q75_ms": round(float(q75), 4),
        "calls": len(values_ms),
    }


def peak_rss_gb() -> float:
    """Peak resident memory of this process [GB], on Linux. (Not getrusage: its peak begins with
    that of the process that started this one.)"""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e6


def target(what: str, reached: float, bound: float, *, at_most: bool = False) -> dict[str, Any]:
    """One target: what was asked, what was reached."""
    met = reached <= bound if at_most else reached >= bound
    return {
        "what": what,
        "to_reach": f"{'at most' if at_most else 'at least'} {bound:g}",
        "reached": round(reached, 4),
        "met": bool(met),
    }


def origin(threads: int, smoke: bool) -> dict[str, Any]:
    """Machine, versions, commit and time of a run."""
    return {
        "machine": {
            "cpu": _cpu_name(),
            "cores": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        },
        "threads": threads,
        "versions": {"python": platform.python_version()} | _versions(),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "smoke": smoke,
    }


def finish(result: dict[str, Any], output: Path | None) -> int:
    """Print the targets, write the JSON; 0 if every target is met (or in a smoke run)."""
    for line in result["targets"]:
        mark = "met   " if line["met"] else "MISSED"
        print(f"{mark} {line['what']}: {line['reached']:g} ({line['to_reach']})")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"written: {output}")
    return 0 if result["smoke"] or all(line["met"] for line in result["targets"]) else 1


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def _commit() -> str:
    """Commit of the checkout, with a plus if it was changed since."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit("this file is no benchmark; run speed.py or training.py")
