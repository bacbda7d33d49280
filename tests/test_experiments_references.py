"""references.py: which references a score is of, and what it refuses."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fsrst.data.manifest import Manifest, write_manifest
from fsrst.errors import FsrstError
from fsrst.image import Pixels

sys.path.append(str(Path(__file__).parents[1] / "experiments"))

import references


def grey(value: int) -> Pixels:
    return np.full((4, 4, 3), value, np.uint8)


def test_every_choice_of_the_three_and_the_same_draws_of_eight() -> None:
    right, wrong = [grey(v) for v in range(0, 80, 10)], [grey(200)] * 4
    runs = list(references.conditions(right, wrong, 0))
    values = [(key, [int(r[0, 0, 0]) for r in chosen]) for key, chosen in runs]
    assert [v for key, v in values if key == ("right", "1")] == [[0], [10], [20]]
    assert [v for key, v in values if key == ("right", "2")] == [[0, 10], [0, 20], [10, 20]]
    assert [v for key, v in values if key == ("right", "3")] == [[0, 10, 20]]
    assert [v for key, v in values if key == ("right", "0")] == [[]]
    drawn = [v for key, v in values if key == ("of 8", "5")]
    assert len(drawn) == references.DRAWS and all(len(set(v)) == 5 for v in drawn)
    assert len({tuple(v) for v in drawn}) > 1
    assert [v for key, v in values if key == ("of 8", "8")] == [list(range(0, 80, 10))]
    assert [v for key, v in values if key == ("light", "80 %")] == [[0, 8, 16]]
    assert values[-1] == (("other", "wrong"), [200] * 3)
    again = list(references.conditions(right, wrong, 0))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(runs, again, strict=True))
    three = [key for key, _ in references.conditions(right[:3], wrong, 0)]
    assert not any(group == "of 8" for group, _ in three)


def test_flicker_is_the_change_of_the_error() -> None:
    """A film that moves as its truth does flickers by nothing."""
    still = ([grey(9), grey(19)], [grey(0), grey(10)])
    restless = ([grey(50), grey(70)], [grey(50), grey(60)])
    found = references.summary({0: [still], 1: [restless]})
    assert found["flicker"] == 5 and found["flicker_of_clips"] == [0, 10]


def clip_of(drawn_data: Manifest, root: Path, frames: list[int]) -> Path:
    """The pictures of two drawn people as neighbouring frames of a clip each."""
    samples = []
    for sample in drawn_data.split("val"):
        number = len([s for s in samples if s.identity == sample.identity])
        if number < len(frames):
            source = f"{sample.identity}/clip.mp4 frame {frames[number]}"
            samples.append(replace(sample, source=source))
    for sample in samples:
        for file in (sample.target, *sample.references):
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((drawn_data.root / file).read_bytes())
    write_manifest(root, samples, {"name": "clips", "size": 128})
    return root


def test_clips_are_scored(drawn_data: Manifest, tmp_path: Path) -> None:
    data = clip_of(drawn_data, tmp_path / "clips", [7, 8])
    out = tmp_path / "references.json"
    references.main(["fsrst2-small", "--data", str(data), "--output", str(out)])
    result = json.loads(out.read_text())
    found = result["models"]["fsrst2-small"]
    assert list(found["light"]) == list(references.LIGHTS)
    assert found["right"]["3"]["psnr_mean"] > found["right"]["0"]["psnr_mean"]
    assert result["bicubic"]["flicker"] > 0
    assert len(set(result["people"])) == 2
    by_clip = found["right"]["1"]["psnr_of_clips"]
    assert len(by_clip) == 2 and np.mean(by_clip) == pytest.approx(
        found["right"]["1"]["psnr_mean"], abs=1e-3
    )


def test_frames_that_are_not_neighbours_are_refused(drawn_data: Manifest, tmp_path: Path) -> None:
    data = clip_of(drawn_data, tmp_path / "clips", [7, 9])
    with pytest.raises(FsrstError, match="not neighbouring frames"):
        references.main(["fsrst2-small", "--data", str(data), "--output", str(tmp_path / "r.json")])
    assert not (tmp_path / "r.json").exists()
