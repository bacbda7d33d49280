"""Fixtures that several test files share: drawn faces, a tiny exported model, the real data."""

import os
from pathlib import Path

import numpy as np
import pytest

from fsrst.data.manifest import Manifest
from fsrst.data.synthetic import draw_face, write_synthetic
from fsrst.image import Pixels


@pytest.fixture(scope="session")
def drawn_faces() -> list[Pixels]:
    """Four pictures of one drawn person, uint8 (128, 128, 3)."""
    return [draw_face(0, view, 128) for view in range(4)]


@pytest.fixture(scope="session")
def drawn_data(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A prepared data set of drawn faces: 6 people in train, 2 in val, 4 pictures each, 128 px.

    Shared by all tests: read it, do not change it.
    """
    root = tmp_path_factory.mktemp("drawn")
    return write_synthetic(root, identities=8, views=4, size=128, splits={"train": 6, "val": 2})


@pytest.fixture(scope="session")
def exported_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``<stem>.upscale.onnx`` of an FSRST-small with random weights; ``<stem>.safetensors`` and
    ``<stem>.encode.onnx`` lie beside it."""
    import torch

    from fsrst.models import build
    from fsrst.models.weights import save_weights
    from fsrst.runtime.export import export

    torch.manual_seed(13)
    stem = tmp_path_factory.mktemp("model") / "tiny"
    model = build("fsrst-small")
    save_weights(stem.with_suffix(".safetensors"), model)
    export(model, {"version": "test", "parameters": 869_792}, stem)
    return stem.parent / "tiny.upscale.onnx"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real pictures and clips: $FSRST_DATA, or ../shared/data beside the checkout."""
    named = os.environ.get("FSRST_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set FSRST_DATA to the folder that holds it")
    return folder


@pytest.fixture
def noise() -> Pixels:
    """A 32x32 picture of random values."""
    return np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
