"""Each measure against a value worked out by hand, or against its limits."""

import math
from itertools import pairwise

import numpy as np
import pytest

from fsrst.data.degradation import degrade
from fsrst.data.synthetic import draw_face
from fsrst.errors import FsrstError
from fsrst.evaluate import metrics
from fsrst.image import Pixels, luma, resize_bicubic


def flat(value: int, side: int = 16) -> Pixels:
    return np.full((side, side, 3), value, np.uint8)


@pytest.fixture(scope="module")
def truth() -> Pixels:
    return draw_face(3, 0, 128)


@pytest.fixture(scope="module")
def blurred(truth: Pixels) -> Pixels:
    return resize_bicubic(degrade(truth, 4), 128, 128)


def test_psnr_by_hand() -> None:
    # an error of 5 everywhere: 10 log10(255^2 / 25)
    assert metrics.mean_squared_error(flat(105), flat(100)) == 25
    assert metrics.psnr(flat(105), flat(100)) == pytest.approx(34.1514, abs=1e-4)
    assert metrics.psnr_of(25.0) == pytest.approx(34.1514, abs=1e-4)


def test_psnr_of_luma_by_hand() -> None:
    output = flat(100)
    output[..., 0] = 110  # red only: luma differs by 2.99
    assert metrics.psnr_y(output, flat(100)) == pytest.approx(20 * math.log10(255 / 2.99), abs=1e-6)
    assert metrics.psnr(output, flat(100)) == pytest.approx(10 * math.log10(255**2 * 3 / 100))


def test_a_difference_beyond_eight_bits_does_not_wrap() -> None:
    assert metrics.psnr(flat(255), flat(0)) == pytest.approx(0)


def test_an_exact_copy_is_capped(truth: Pixels) -> None:
    assert metrics.psnr(truth, truth) == metrics.PSNR_CAP
    assert metrics.psnr_y(truth, truth) == metrics.PSNR_CAP
    assert metrics.psnr_of(0.0) == metrics.PSNR_CAP
    assert metrics.ssim(truth, truth) == pytest.approx(1)
    nearly = truth.copy()
    nearly[0, 0, 0] ^= 1
    assert 95 < metrics.psnr(nearly, truth) < metrics.PSNR_CAP


def test_pooled_is_another_number_than_the_mean() -> None:
    errors = [25.0, 400.0]
    mean = sum(map(metrics.psnr_of, errors)) / 2
    pooled = metrics.psnr_pooled(errors)
    assert pooled == pytest.approx(metrics.psnr_of(212.5))
    assert mean - pooled == pytest.approx(3.2735, abs=1e-3)
    assert metrics.psnr_pooled([25.0, 25.0]) == pytest.approx(metrics.psnr_of(25.0))


def test_pooled_weighs_pictures_by_their_size() -> None:
    assert metrics.psnr_pooled([10.0, 40.0], [300, 100]) == pytest.approx(metrics.psnr_of(17.5))


def test_ssim_by_its_formula(truth: Pixels, blurred: Pixels) -> None:
    """Equation 13 of Wang et al., window 11, written out once more."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def smooth(values: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            views = np.lib.stride_tricks.sliding_window_view(values, 11, axis=axis)
            values = views @ window
        return values

    def similarity(x: np.ndarray, y: np.ndarray) -> float:
        mean_x, mean_y = smooth(x), smooth(y)
        var_x, var_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
        covariance = smooth(x * y) - mean_x * mean_y
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        value = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
            (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
        )
        return float(value.mean())

    x, y = truth.astype(np.float64), blurred.astype(np.float64)
    colours = [similarity(x[..., c], y[..., c]) for c in range(3)]
    assert metrics.ssim(blurred, truth) == pytest.approx(np.mean(colours), abs=1e-9)
    assert metrics.ssim_y(blurred, truth) == pytest.approx(similarity(luma(x), luma(y)), abs=1e-9)


def test_sizes_must_agree() -> None:
    with pytest.raises(FsrstError, match="16x16 picture with a truth of 32x32"):
        metrics.psnr(flat(0), flat(0, 32))
    with pytest.raises(FsrstError, match="at least 11 px"):
        metrics.ssim(flat(0, 8), flat(0, 8))


def test_identity_distance(truth: Pixels, blurred: Pixels) -> None:
    pytest.importorskip("dlib")
    metrics.require_identity()
    other = draw_face(11, 0, 128)
    distances = metrics.identity_distances([truth, blurred, other], truth)
    same, blur, someone_else = distances.values
    assert same == pytest.approx(0, abs=1e-6)
    assert 0 < blur < someone_else


def test_identity_without_a_detection_uses_the_aligned_box() -> None:
    pytest.importorskip("dlib")
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    distances = metrics.identity_distances([noise], noise)
    assert not distances.face_found
    assert distances.values == (pytest.approx(0, abs=1e-6),)


def test_st_lpips(truth: Pixels, blurred: Pixels) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("stlpips_pytorch")
    metrics.require_st_lpips()
    coarse = resize_bicubic(degrade(truth, 16), 128, 128)
    same, near, far = metrics.st_lpips([truth, blurred, coarse], truth)
    assert same == 0
    assert 0 < near < far
    # it tolerates a shift by one pixel far better than blur
    (shifted,) = metrics.st_lpips([np.roll(truth, 1, axis=1)], truth)
    assert shifted < near


def test_st_lpips_equals_the_original() -> None:
    """Values of stlpips_pytorch 0.0.2, net "alex", variant "shift_tolerant", on the same arrays."""
    pytest.importorskip("torch")
    pytest.importorskip("stlpips_pytorch")
    y, x = np.mgrid[:96, :80]
    truth = np.stack([(x * 3) % 256, (y * 5) % 256, (x * y) % 256], axis=2).astype(np.uint8)
    outputs = [resize_bicubic(truth[::4, ::4], 80, 96), truth[::-1], 255 - truth]
    assert metrics.st_lpips(outputs, truth) == pytest.approx(ORIGINAL, abs=1e-5)


ORIGINAL = [0.472818, 0.548105, 0.574483]


@pytest.mark.parametrize(
    ("package", "call", "hint"),
    [
        ("face_recognition_models", metrics.require_identity, "--identity"),
        ("stlpips_pytorch", metrics.require_st_lpips, "--st-lpips"),
    ],
)
def test_a_missing_extra_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, package: str, call: object, hint: str
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("dlib")
    found = metrics.find_spec
    monkeypatch.setattr(metrics, "find_spec", lambda n: None if n == package else found(n))
    metrics._dlib.cache_clear()
    metrics._st_lpips_weights.cache_clear()
    with pytest.raises(FsrstError, match=r"fsrst\[scores\]") as raised:
        call()  # type: ignore[operator]
    assert hint in str(raised.value)
    metrics._dlib.cache_clear()


def test_more_blur_scores_worse(truth: Pixels) -> None:
    levels = [resize_bicubic(degrade(truth, scale), 128, 128) for scale in (2, 4, 8)]
    for measure in (metrics.psnr, metrics.psnr_y, metrics.ssim, metrics.ssim_y):
        values = [measure(level, truth) for level in levels]
        assert all(better > worse for better, worse in pairwise(values)), measure.__name__
