"""How near a picture is to the truth. Each number is named by its definition.

Everything is computed on 8-bit pictures (H, W, 3), over the whole picture without a border crop.

Convention of names:
``psnr``      over red, green and blue together.
``psnr_y``    over BT.601 full-range luma 0.299 R + 0.587 G + 0.114 B of 8-bit values, unrounded.
``ssim``      Gaussian window 11x11, sigma 1.5, population covariance, K1 = 0.01, K2 = 0.03, data
              range 255, mean over pixels (without the outermost 5) and over the three channels.
``ssim_y``    the same on the luma above.
``identity``  Euclidean distance between two 128-D face descriptors of dlib's recognition network.
``st_lpips``  ST-LPIPS, shift-tolerant perceptual distance, AlexNet. It is not LPIPS.

References: Wang et al. 2004 (SSIM); King, dlib face recognition (2017); Ghildyal and Liu, "Shift-
tolerant Perceptual Similarity Metric", ECCV 2022 (ST-LPIPS); Zhang et al., CVPR 2018 (LPIPS).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fsrst.errors import FsrstError
from fsrst.image import Pixels, luma

PSNR_CAP = 100.0  # [dB] an exact copy; a single level in a single value of 128x128 is 95 dB
SSIM_WINDOW = 11  # [px]

# Where dlib's face box lies in a head square aligned as FFHQ's, as parts of its side: left, top,
# right, bottom. Median of the boxes found on such pictures; used where the detector finds none.
ALIGNED_FACE_BOX = (0.23, 0.31, 0.79, 0.87)


def mean_squared_error(output: NDArray[Any], truth: NDArray[Any]) -> float:
    """Mean of (output - truth)^2 over all values, in squared grey levels (0..65025)."""
    _same_size(output, truth)
    return float(np.square(output.astype(np.float64) - truth).mean())


def psnr_of(error: float) -> float:
    """Mean squared error in squared grey levels -> PSNR [dB], at most ``PSNR_CAP``."""
    if error <= 0:
        return PSNR_CAP
    return min(PSNR_CAP, float(10 * np.log10(255.0**2 / error)))


def psnr(output: Pixels, truth: Pixels) -> float:
    """PSNR over RGB [dB], as scikit-image's, at most ``PSNR_CAP``."""
    return psnr_of(mean_squared_error(output, truth))


def psnr_y(output: Pixels, truth: Pixels) -> float:
    """PSNR over luma [dB]: see ``psnr_y`` above. A luma of 16..235 (TTSR's) gives 1.3 dB more."""
    return psnr_of(mean_squared_error(_luma(output), _luma(truth)))


def psnr_pooled(errors: Sequence[float], sizes: Sequence[int] | None = None) -> float:
    """PSNR [dB] of the squared error of a whole set: mean first, then the logarithm.

    The mean of per-image PSNRs is another, larger number (Jensen). ``errors`` are mean squared
    errors per image, ``sizes`` their numbers of values where pictures differ in size.
    """
    return psnr_of(float(np.average(np.asarray(errors, dtype=np.float64), weights=sizes)))


def ssim(output: Pixels, truth: Pixels) -> float:
    """Structural similarity over RGB (-1..1, 1 = equal): see ``ssim`` above."""
    _same_size(output, truth)
    return _ssim(output, truth, channel_axis=2)


def ssim_y(output: Pixels, truth: Pixels) -> float:
    """Structural similarity over luma: see ``ssim_y`` above."""
    _same_size(output, truth)
    return _ssim(_luma(output), _luma(truth), channel_axis=None)


def _same_size(output: NDArray[Any], truth: NDArray[Any]) -> None:
    if output.shape != truth.shape:
        raise FsrstError(
            f"cannot compare a {output.shape[1]}x{output.shape[0]} picture with a truth of"
            f" {truth.shape[1]}x{truth.shape[0]}; both must have one size"
        )


def _luma(pixels: Pixels) -> NDArray[np.floating]:
    return luma(pixels.astype(np.float64))


def _ssim(output: NDArray[Any], truth: NDArray[Any], channel_axis: int | None) -> float:
    if min(truth.shape[:2]) < SSIM_WINDOW:
        raise FsrstError(
            f"SSIM needs pictures of at least {SSIM_WINDOW} px; these have"
            f" {truth.shape[1]}x{truth.shape[0]}"
        )
    value = _scikit_image().structural_similarity(
        truth, output, data_range=255, channel_axis=channel_axis,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    return float(value)


def require_scores() -> None:
    """Say at once, not after an hour, that nothing can be scored."""
    _scikit_image()


def _scikit_image() -> Any:
    try:
        import skimage.metrics
    except ImportError as error:
        raise FsrstError(
            "scores need scikit-image; install it with: pip install 'fsrst[scores]'"
        ) from error
    return skimage.metrics


# Identity distance


class _Dlib(NamedTuple):
    detector: Any
    landmarks: Any
    descriptor: Any


@dataclass(frozen=True)
class IdentityDistances:
    """Descriptor distances of several pictures to one truth, in their order."""

    values: tuple[float, ...]  # 0 = equal; below 0.6 dlib calls it one person
    face_found: bool  # False: ALIGNED_FACE_BOX was used, since the detector found no face


def identity_distances(outputs: Sequence[Pixels], truth: Pixels) -> IdentityDistances:
    """Distance between the 128-D descriptors of each output and of the truth.

    The face box is found once, on the truth (dlib's HOG detector on the picture enlarged twice, the
    surest box), and holds for the outputs too: the same square is compared, and a blurred output
    does not fail for want of a detection. Five landmarks are then found on each picture by itself.
    Without a detection ``ALIGNED_FACE_BOX`` serves, which supposes an aligned head square.

    Raises
    ------
    FsrstError
        If dlib or its models are not installed.
    """
    tools = _dlib()
    boxes, sureness, _ = tools.detector.run(np.ascontiguousarray(truth), 1, 0.0)
    box = boxes[int(np.argmax(sureness))] if len(boxes) else _aligned_box(truth)
    true_descriptor = _descriptor(tools, truth, box)
    values = []
    for output in outputs:
        _same_size(output, truth)
        values.append(float(np.linalg.norm(_descriptor(tools, output, box) - true_descriptor)))
    return IdentityDistances(tuple(values), bool(len(boxes)))


def _descriptor(tools: _Dlib, pixels: Pixels, box: Any) -> NDArray[np.float64]:
    pixels = np.ascontiguousarray(pixels)
    points = tools.landmarks(pixels, box)
    return np.asarray(tools.descriptor.compute_face_descriptor(pixels, points))


def _aligned_box(pixels: Pixels) -> Any:
    import dlib

    height, width = pixels.shape[:2]
    left, top, right, bottom = ALIGNED_FACE_BOX
    return dlib.rectangle(
        round(left * width), round(top * height), round(right * width), round(bottom * height)
    )


@cache
def _dlib() -> _Dlib:
    try:
        import dlib
    except ImportError as error:
        raise FsrstError(
            "identity distance needs dlib; install it with: pip install 'fsrst[scores]',"
            " or leave --identity out"
        ) from error
    # The package's own __init__ imports pkg_resources, which newer setuptools lack: find its files.
    folder = _inside("face_recognition_models", "models", "identity distance", "--identity")
    return _Dlib(
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat")),
        dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat")),
    )


def _inside(package: str, path: str, what: str, flag: str) -> Path:
    """``path`` inside an installed package, found without importing the package."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / path).exists():
            return Path(folder) / path
    raise FsrstError(
        f"{what} needs the files of {package.replace('_', '-')}; install them with:"
        f" pip install 'fsrst[scores]', or leave {flag} out"
    )


# ST-LPIPS


def st_lpips(outputs: Sequence[Pixels], truth: Pixels) -> list[float]:
    """ST-LPIPS (AlexNet) of each output to the truth: 0 = equal, larger = farther.

    Five stages of a shift-tolerant AlexNet; at each the features are normalised to length 1 per
    pixel, the squared differences weighted per channel and averaged over the picture; the sum is
    the distance. Weights: the file inside the wheel of ``stlpips-pytorch``; none of its code runs.

    Raises
    ------
    FsrstError
        If torch or the weights are not installed.
    """
    weights = _st_lpips_weights()
    import torch

    for output in outputs:
        _same_size(output, truth)
    with torch.inference_mode():
        stack = torch.from_numpy(np.stack([truth, *outputs])).permute(0, 3, 1, 2).float()
        total = torch.zeros(len(outputs))
        for stage, features in enumerate(_shift_tolerant_alexnet(stack / 127.5 - 1, weights)):
            unit = features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
            difference = (unit[1:] - unit[:1]).square()  # (outputs, C, h, w)
            importance = weights[f"lin{stage}.model.1.weight"]  # (1, C, 1, 1), not negative
            total += (difference * importance).sum(dim=1).mean(dim=(1, 2))
    return [float(value) for value in total]


def _shift_tolerant_alexnet(pictures: Any, weights: dict[str, Any]) -> list[Any]:
    """(B, 3, H, W) in [-1, 1] -> the five ReLU outputs.

    Against AlexNet: first convolution with stride 1, each halving a [1 2 1] blur with stride 2
    after reflection by 2, pooling windows of stride 1 (ECCV 2022 paper, Section 3).
    """
    from torch.nn import functional as f

    def convolve(x: Any, name: str, padding: int) -> Any:
        return f.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding)

    def blur_and_halve(x: Any, name: str) -> Any:
        kernel = weights[f"{name}.filt"]  # (C, 1, 3, 3)
        return f.conv2d(f.pad(x, (2, 2, 2, 2), "reflect"), kernel, stride=2, groups=len(kernel))

    x = (pictures - weights["scaling_layer.shift"]) / weights["scaling_layer.scale"]
    x = blur_and_halve(convolve(x, "net.slice1.0", 2), "net.slice1.1")
    stages = [f.relu(x)]
    x = blur_and_halve(f.max_pool2d(stages[0], 3, 1), "net.slice2.4")
    stages.append(f.relu(convolve(x, "net.slice2.5", 2)))
    x = blur_and_halve(f.max_pool2d(stages[1], 3, 1), "net.slice3.8")
    stages.append(f.relu(convolve(x, "net.slice3.9", 1)))
    stages.append(f.relu(convolve(stages[2], "net.slice4.11", 1)))
    stages.append(f.relu(convolve(stages[3], "net.slice5.13", 1)))
    return stages


@cache
def _st_lpips_weights() -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise FsrstError(
            "ST-LPIPS needs torch; install it with: pip install 'fsrst[torch,scores]',"
            " or leave --st-lpips out"
        ) from error
    path = _inside(
        "stlpips_pytorch", "weights/vST0.0/alex_shift_tolerant.pth", "ST-LPIPS", "--st-lpips"
    )
    weights: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def require_identity() -> None:
    """Say at once, not after an hour, that identity distance cannot be computed."""
    _dlib()


def require_st_lpips() -> None:
    """Say at once, not after an hour, that ST-LPIPS cannot be computed."""
    _st_lpips_weights()
