"""The pixel contract: how pictures enter and leave, and the only resampling that scores rest on.

A picture is ``uint8 (H, W, 3)``, sRGB. A tensor is ``float32`` in [0, 1]. Between the two lies a
division by 255 and, on the way back, clamping and rounding to nearest (halves to even).

References: ITU-R BT.601 full range luma (the Y of JPEG's YCbCr); Pillow's bicubic is antialiased
with a = -0.5, as the paper's low-resolution inputs were made.
"""

import io
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from fsrst.errors import FsrstError
from fsrst.files import written_whole

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
WRITTEN_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")  # a .bmp can hold no notes
READ_SUFFIXES = (*WRITTEN_SUFFIXES, ".bmp", ".jfif", ".gif")  # of a .gif the first picture
MAX_PIXELS = 100_000_000
LONGEST = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500}  # side [px] that a format can hold
MONOCHROME = 2.0  # [grey levels]; colour photographs of faces have 2.6 and more
MONOCHROME_PART = 0.025  # of the mean luma, in the dark; colour photographs there have more
FLOAT_SLACK = 0.1  # of float values beyond [0, 1]: a bicubic overshoots by so much
ORIENTATION, IMAGE_DESCRIPTION, SOFTWARE = 0x0112, 0x010E, 0x0131  # EXIF
BITS, SUBFILE = 258, 254  # TIFF's BitsPerSample and NewSubfileType
NO_PAGE = 1 | 4  # a reduced copy, or a mask
UPRIGHT = {  # by it; from 5 on width and height change places
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, ZeroDivisionError,
          struct.error)  # fmt: skip
# Pillow warns of sizes that are refused here
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_HEIC = "export it as JPEG or PNG first"
_CLIP = "clips are made large by `fsrst video`"
UNREADABLE = {
    **dict.fromkeys((".heic", ".heif", ".avif"), _HEIC),
    **dict.fromkeys((".tif", ".tiff"), "or a TIFF of a rare kind; save it with 8 or 16 bits"),
    **dict.fromkeys((".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"), _CLIP),
}
PROFILED = {"RGB": "RGB", "RGBA": "RGB", "L": "GRAY", "CMYK": "CMYK"}  # mode -> its profiles' space


class NoPictureError(FsrstError):
    """What a network computed is no picture."""


def read_image(path: str | Path) -> Pixels:
    """Read any common picture as uint8 (H, W, 3) sRGB.

    EXIF orientation is applied; colours with a profile of another space become sRGB; transparency
    is laid on white; grey, palette and CMYK pictures become RGB; 16-bit grey values are divided by
    257 and rounded (of 16-bit colours Pillow keeps the upper 8 bits). Float values are taken as
    [0, 1], 32-bit integers as 0 to 65535.

    Raises
    ------
    FsrstError
        If the file is missing, empty, a folder, not a picture, truncated or over 100 megapixels, or
        if its float or 32-bit values are of another range.
    """
    with _opened(Path(path)) as picture:
        picture.load()
        _check_range(picture, path)
        turn = UPRIGHT.get(_orientation(picture))
        upright = picture if turn is None else picture.transpose(turn)
        return np.asarray(_to_rgb(_to_srgb(upright)))


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of the picture as ``read_image`` returns it, from the file's beginning alone.

    Raises
    ------
    FsrstError
        As ``read_image``, but for damage and values further on.
    """
    with _opened(Path(path)) as picture:
        # Pillow has turned the size of a TIFF already, and would decode a whole PNG to tell
        if picture.format == "TIFF" or (picture.format == "PNG" and "exif" not in picture.info):
            return picture.size
        return picture.size[::-1] if _orientation(picture) >= 5 else picture.size


def animated(path: str | Path) -> bool:
    """Whether it is an animation (GIF, WebP, PNG), of which ``read_image`` takes the first picture.

    Raises
    ------
    FsrstError
        As ``image_size``.
    """
    with _opened(Path(path)) as picture:
        moving = picture.format in ("GIF", "WEBP", "PNG")  # other formats hold pages or previews
        return moving and bool(getattr(picture, "is_animated", False))


def further_pages(path: str | Path) -> int:
    """How many pages follow the first of a TIFF, which ``read_image`` takes; 0 of other formats.
    Reduced copies (thumbnails, pyramids) and masks are no pages, nor is what cannot be read.

    Raises
    ------
    FsrstError
        As ``image_size``.
    """
    with _opened(Path(path)) as picture:
        pages = 0
        try:
            frames = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
            for number in range(1, frames):
                picture.seek(number)
                pages += not getattr(picture, "tag_v2", {}).get(SUBFILE, 0) & NO_PAGE
        except (*DAMAGE, Warning):
            pass  # the first page may well be whole
        return pages


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise FsrstError(f"cannot read {path}: no such file") from error
    except (OSError, ValueError) as error:  # too long a name, or one with a zero in it
        raise FsrstError(f"cannot read {path}: {error}") from error
    if path.is_dir():
        raise FsrstError(f"cannot read {path}: it is a folder, a picture was expected")
    if not path.is_file():
        raise FsrstError(f"cannot read {path}: it is a pipe or device; save it as a file first")
    if size == 0:
        raise FsrstError(f"cannot read {path}: the file is empty (0 bytes)")
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise FsrstError(
                    f"cannot read {path}: {picture.width}x{picture.height} is over 100 megapixels;"
                    " crop it first"
                )
            yield picture
    except UnidentifiedImageError as error:
        hint = UNREADABLE.get(path.suffix.lower(), f"expected one of {', '.join(READ_SUFFIXES)}")
        raise FsrstError(f"cannot read {path}: not a picture; {hint}") from error
    except Image.DecompressionBombWarning as error:  # where warnings are errors
        raise FsrstError(f"cannot read {path}: {error}") from error
    except Image.DecompressionBombError as error:
        raise FsrstError(f"cannot read {path}: over 100 megapixels; crop it first") from error
    except PermissionError as error:
        raise FsrstError(f"cannot read {path}: no permission") from error
    except DAMAGE as error:
        raise FsrstError(f"cannot read {path}: damaged or truncated picture ({error})") from error


def _check_range(picture: Image.Image, path: str | Path) -> None:
    """Refuse values that would all come out black or white, such as 0 to 255 in a float TIFF."""
    if picture.mode not in ("I", "F"):
        return
    values = np.asarray(picture)
    low, high = values.min().item(), values.max().item()
    found = f"{low:.6g} to {high:.6g}"
    if picture.mode == "F":
        kind, white = "float", 1
        good = low >= -FLOAT_SLACK and high <= 1 + FLOAT_SLACK
        if np.isnan(low):
            found = "not all numbers (NaN)"
    else:
        kind, white = "integer", 65535
        wide = getattr(picture, "tag_v2", {}).get(BITS) == (32,)  # 16-bit pictures may be so dark
        good = low >= 0 and high <= white and not (wide and 0 < high <= 255)
    if not good:
        raise FsrstError(
            f"cannot read {path}: its {kind} values are {found}, expected 0 (black) to {white}"
            " (white); save it as 8 or 16 bit"
        )


def _orientation(picture: Image.Image) -> int:
    """EXIF's, 1 to 8; 1 where it says nothing that can be used."""
    try:
        found = picture.getexif().get(ORIENTATION)
    except (*DAMAGE, Warning):
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _to_srgb(picture: Image.Image) -> Image.Image:
    """Colours by the picture's own profile, as of phones and scanners; a profile that says sRGB,
    fits no picture of this kind or is damaged changes nothing."""
    profile = picture.info.get("icc_profile")
    if profile and picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    if not profile or picture.mode not in PROFILED:
        return picture
    from PIL import ImageCms  # 10 ms, and few pictures need it

    try:
        theirs = ImageCms.getOpenProfile(io.BytesIO(profile))
        named = ImageCms.getProfileDescription(theirs).lower()
        if "srgb" in named or theirs.profile.xcolor_space.strip() != PROFILED[picture.mode]:
            return picture
        colours = picture.convert("RGB") if picture.mode == "RGBA" else picture
        ours = ImageCms.createProfile("sRGB")
        shown = ImageCms.profileToProfile(colours, theirs, ours, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture
    assert shown is not None  # it is only where the picture itself is changed
    if picture.mode == "RGBA":
        shown.putalpha(picture.getchannel("A"))
    return shown


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        values = np.asarray(picture).astype(np.float64)
        if picture.mode == "F":  # as [0, 1]
            values = values * 65535
        grey = np.rint(np.clip(values, 0, 65535) / 257).astype(np.uint8)
        if isinstance(clear := picture.info.get("transparency"), int):  # a level of PNG's
            grey[values == clear] = 255
        return Image.fromarray(grey).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        over = picture.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, over).convert("RGB")
    return picture.convert("RGB")


def write_image(path: str | Path, pixels: Pixels, notes: Mapping[str, str] | None = None) -> None:
    """Write uint8 (H, W, 3) by the suffix of ``path``; ``notes`` become PNG text entries, or Exif
    ones of JPEG, WebP and TIFF.

    Raises
    ------
    FsrstError
        If it is no uint8 RGB picture, the suffix is not a picture's, the format cannot hold so many
        pixels or the place cannot be written.
    """
    path = Path(path)
    check_picture(pixels, f"what is written to {path}")
    if path.suffix.lower() not in WRITTEN_SUFFIXES:
        raise FsrstError(
            f"cannot write {path}: results are no {path.suffix or 'files without a suffix'};"
            " use .png (lossless) or .jpg"
        )
    longest = LONGEST.get(path.suffix.lower(), max(pixels.shape))
    if max(pixels.shape) > longest:
        raise FsrstError(
            f"cannot write {path}: {pixels.shape[1]}x{pixels.shape[0]}, and {path.suffix} holds"
            f" {longest} px a side at most; use .png"
        )
    with written_whole(path) as temporary:
        picture = Image.fromarray(pixels)
        exif = Image.Exif()
        if notes:
            exif[SOFTWARE] = notes.get("Software", "fsrst")
            exif[IMAGE_DESCRIPTION] = "; ".join(f"{key}: {text}" for key, text in notes.items())
        if path.suffix.lower() == ".png":
            info = PngImagePlugin.PngInfo()
            for key, text in (notes or {}).items():
                info.add_text(key, text)
            picture.save(temporary, pnginfo=info)
        elif path.suffix.lower() in (".jpg", ".jpeg"):
            picture.save(temporary, quality=95, subsampling=0, exif=exif)
        elif path.suffix.lower() == ".webp":
            picture.save(temporary, lossless=True, exif=exif)
        else:
            picture.save(temporary, exif=exif)


def made_here(path: str | Path) -> bool:
    """Whether ``write_image`` wrote it with notes of this program; False for what is no picture."""
    try:
        with _opened(Path(path)) as picture:
            software = picture.info.get("Software") or picture.getexif().get(SOFTWARE, "")
            return str(software).startswith("fsrst ")
    except FsrstError:
        return False


def check_picture(picture: Pixels, what: str) -> None:
    """Refuse what is no uint8 (H, W, 3).

    Raises
    ------
    FsrstError
        That names ``what``, and what it is instead.
    """
    if (
        not isinstance(picture, np.ndarray)
        or picture.dtype != np.uint8
        or picture.ndim != 3
        or picture.shape[2] != 3
        or 0 in picture.shape
    ):
        found = (
            f"{picture.dtype} {picture.shape}"
            if isinstance(picture, np.ndarray)
            else type(picture).__name__
        )
        raise FsrstError(f"{what} must be a uint8 array (H, W, 3), got {found}; use read_image")


def to_float(pixels: Pixels) -> Floats:
    """uint8 (..., 3) -> float32 in [0, 1]."""
    return pixels.astype(np.float32) / np.float32(255)


def to_uint8(values: NDArray[np.floating]) -> Pixels:
    """Clamp to [0, 1], scale by 255, round to nearest -> uint8.

    Raises
    ------
    NoPictureError
        If a value is NaN: no picture shows that, so it would be taken for black.
    """
    if np.isnan(values).any():
        raise NoPictureError(
            f"{int(np.isnan(values).sum())} of {values.size} values are not numbers (NaN): the"
            " network or its exported file computes no picture here"
        )
    pixels: Pixels = np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
    return pixels


def to_planes(pixels: Pixels) -> Floats:
    """uint8 (H, W, 3) -> float32 (3, H, W) in [0, 1], contiguous."""
    return np.ascontiguousarray(to_float(pixels).transpose(2, 0, 1))


def from_planes(planes: NDArray[np.floating]) -> Pixels:
    """float (3, H, W) -> uint8 (H, W, 3): clamped and rounded; contiguous."""
    return np.ascontiguousarray(to_uint8(planes).transpose(1, 2, 0))


def luma(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """BT.601 full-range luma of (..., 3), same range and dtype as the input's."""
    weights = np.asarray(LUMA_WEIGHTS, dtype=values.dtype)
    result: NDArray[np.floating] = values @ weights
    return result


def monochrome(pixels: Pixels) -> bool:
    """Whether the colours of uint8 (H, W, 3) are one colour's shades, as of grey and toned prints:
    each channel follows from the luma, but for ``MONOCHROME`` grey levels (root mean square), in
    the dark ``MONOCHROME_PART`` of the mean luma.

    Means of at most 8 x 8 blocks are looked at: JPEG leaves colours in every pixel.
    """
    grid = min(8, pixels.shape[1]), min(8, pixels.shape[0])
    means = Image.fromarray(pixels).resize(grid, Image.Resampling.BOX)
    values = np.asarray(means).reshape(-1, 3).astype(np.float32)
    bound = min(MONOCHROME, MONOCHROME_PART * float(luma(values).mean()))
    values = values - values.mean(axis=0)
    shade = luma(values)
    variance = float(shade @ shade) + 1e-6
    rest = values - np.outer(shade, shade @ values / variance)
    return float(np.sqrt(np.mean(rest**2))) <= bound


def greyed(pixels: Pixels) -> Pixels:
    """uint8 (H, W, 3) -> the same shape, three times the luma."""
    return np.repeat(np.rint(luma(pixels.astype(np.float32)))[..., None], 3, axis=2).astype(
        np.uint8
    )


def resize_bicubic(pixels: Pixels, width: int, height: int) -> Pixels:
    """Pillow's antialiased bicubic (a = -0.5) on 8-bit values: uint8 in, uint8 out."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def crop_to(pixels: Pixels, width: int, height: int) -> Pixels:
    """The rule for pictures of another size or aspect: largest centred crop of the wanted aspect,
    then Pillow's bicubic to ``width x height`` [px]."""
    have_height, have_width = pixels.shape[:2]
    scale = min(have_width / width, have_height / height)
    crop_width = max(1, min(have_width, round(width * scale)))
    crop_height = max(1, min(have_height, round(height * scale)))
    left = (have_width - crop_width) // 2
    top = (have_height - crop_height) // 2
    crop = pixels[top : top + crop_height, left : left + crop_width]
    return resize_bicubic(np.ascontiguousarray(crop), width, height)
