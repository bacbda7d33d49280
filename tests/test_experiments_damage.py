"""damage.py: what is done to the inputs, and scores that fall with it."""

import json
import sys
from pathlib import Path

import numpy as np

from fsrst.data.degradation import degrade
from fsrst.data.manifest import Manifest
from fsrst.evaluate.metrics import psnr
from fsrst.image import Pixels

sys.path.append(str(Path(__file__).parents[1] / "experiments"))

import damage


def test_damages_are_of_the_reduced_picture_and_in_order_of_strength(
    drawn_faces: list[Pixels],
) -> None:
    hr = drawn_faces[0]
    clean = degrade(hr, damage.SCALE)
    made = {n: d(hr, np.random.default_rng(1)) for n, d in damage.DAMAGES.items()}
    assert all(lr.shape == clean.shape and lr.dtype == np.uint8 for lr in made.values())
    assert np.array_equal(made.pop("no damage"), clean)
    like = {name: psnr(lr, clean) for name, lr in made.items()}
    assert like["noise 2"] > like["noise 5"] > like["noise 10"]
    assert like["JPEG 90"] > like["JPEG 70"] > like["JPEG 50"] > like["JPEG 30"]
    assert all(15 < value < 60 for value in like.values())


def test_every_damage_is_scored_with_and_without_references(
    drawn_data: Manifest, tmp_path: Path
) -> None:
    out, again = tmp_path / "damage.json", tmp_path / "again.json"
    for path in (out, again):
        damage.main(
            ["fsrst2-small", "--data", str(drawn_data.root), "--output", str(path)],
        )
    result = json.loads(out.read_text())
    (found,) = result["sets"]
    assert found == json.loads(again.read_text())["sets"][0]  # the noise is of a seed
    assert found["pictures"] == len(drawn_data.split("val"))
    scored = found["models"]["fsrst2-small"]
    for means in (found["bicubic"]["none"], scored["right"], scored["none"]):
        assert list(means) == list(damage.DAMAGES)
        assert means["no damage"] > means["noise 5"] > means["noise 10"]
        assert means["no damage"] > means["JPEG 30"]
    assert scored["right"]["no damage"] > scored["none"]["no damage"]
    damaged = scored["references"]
    assert list(damaged) == list(damage.REFERENCE_DAMAGES)
    assert damaged["whole"] == scored["right"]["no damage"]
    assert damaged["whole"] > damaged["all but one at 0.25"] > damaged["kept at 0.25"]
    text = damage.markdown(result)
    assert f"| fsrst2-small | right | {scored['right']['no damage']:.2f} |" in text
