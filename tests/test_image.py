"""image.py and files.py: what comes in as pixels, what is refused, and that files appear whole."""

import json
import os
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fsrst.data.augmentation import as_jpeg
from fsrst.data.synthetic import draw_face
from fsrst.errors import FsrstError
from fsrst.files import write_json, write_text, written_whole
from fsrst.image import (
    animated,
    crop_to,
    from_planes,
    further_pages,
    greyed,
    image_size,
    luma,
    monochrome,
    read_image,
    resize_bicubic,
    to_float,
    to_planes,
    to_uint8,
    write_image,
)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 200 // width, y * 200 // height, (x + y) * 200 // (width + height)]
    return np.stack(planes, axis=-1).astype(np.uint8)


# --- reading --------------------------------------------------------------------------------------


def test_png_round_trip_is_exact(tmp_path: Path) -> None:
    pixels = noise(7, 5)
    write_image(tmp_path / "a.png", pixels)
    assert np.array_equal(read_image(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp", ".tif"])
def test_other_formats_come_back_close(tmp_path: Path, suffix: str) -> None:
    pixels = smooth(24, 32)
    write_image(tmp_path / f"a{suffix}", pixels)
    back = read_image(tmp_path / f"a{suffix}")
    assert back.shape == pixels.shape and back.dtype == np.uint8
    assert np.abs(back.astype(int) - pixels).mean() < 3


def swapped_profile() -> bytes:
    """An RGB profile whose red and green are exchanged: wrong handling cannot look right."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return (
        bytes(profile)
        .replace(b"sRGB", b"test")
        .replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_follow_their_profile(tmp_path: Path, mode: str) -> None:
    pixels = smooth(8, 9)
    picture = Image.fromarray(pixels).convert(mode)
    picture.save(tmp_path / "a.png", icc_profile=swapped_profile())
    back = read_image(tmp_path / "a.png").astype(int)
    assert np.abs(back - pixels[..., [1, 0, 2]]).max() <= 2


def test_profiles_that_say_srgb_or_nothing_change_nothing(tmp_path: Path) -> None:
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = smooth(8, 9)
    for number, profile in enumerate((srgb, b"no profile at all")):
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path, icc_profile=profile)
        assert np.array_equal(read_image(path), pixels)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png", icc_profile=swapped_profile())
    assert np.array_equal(read_image(tmp_path / "grey.png")[..., 0], pixels[..., 0])


def test_grey_becomes_three_equal_planes(tmp_path: Path) -> None:
    grey = noise(6, 4)[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.stack([grey] * 3, axis=-1))


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.eye(8, dtype=bool)).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png")[..., 1], np.eye(8, dtype=np.uint8) * 255)


def test_sixteen_bits_are_divided_by_257_and_rounded(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read.shape == (1, 6, 3)
    assert read[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_a_transparent_level_of_sixteen_bits_becomes_white(tmp_path: Path) -> None:
    """As of its twin in 8 bits."""
    values = np.array([[0, 257, 514, 515]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png", transparency=514)
    Image.fromarray((values // 257).astype(np.uint8)).save(tmp_path / "b.png", transparency=2)
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 255, 2]
    assert read_image(tmp_path / "b.png")[0, :, 0].tolist() == [0, 1, 255, 255]


def test_float_tiff_is_taken_as_unit_range(tmp_path: Path) -> None:
    values = np.array([[-0.05, 0.0, 0.5, 1.0, 1.05]], dtype=np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(
    ("values", "dtype", "words"),
    [
        ([0, 100, 255], np.float32, r"float values are 0 to 255, expected 0 \(black\) to 1 "),
        ([-1, 0, 1], np.float32, "float values are -1 to 1,"),
        ([0, np.nan, 1], np.float32, r"not all numbers \(NaN\)"),
        ([0, np.inf, 1], np.float32, "0 to inf"),
        ([0, 100, 255], np.int32, "integer values are 0 to 255, expected .* to 65535 "),
        ([0, 1, 65536], np.int32, "0 to 65536"),
        ([-1, 0, 65535], np.int32, "-1 to 65535"),
    ],
)
def test_values_that_would_be_black_or_white_are_refused(
    tmp_path: Path, values: list[float], dtype: type, words: str
) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([values], dtype=dtype)).save(path)
    with pytest.raises(FsrstError, match=rf"cannot read .*a\.tif: .*{words}.*; save it as 8 or 16"):
        read_image(path)


def test_dark_pictures_of_sixteen_bits_are_no_mistake(tmp_path: Path) -> None:
    """Pillow shows signed ones and those of PGM as 32 bits."""
    dark = np.array([[0, 129, 255]], dtype=np.uint16)
    Image.fromarray(dark).save(tmp_path / "a.png")
    Image.fromarray(dark).save(tmp_path / "b.tif")
    Image.fromarray(dark).save(tmp_path / "c.tif", tiffinfo={339: 2})  # SampleFormat: signed
    (tmp_path / "d.pgm").write_bytes(b"P5\n3 1\n65535\n" + dark.astype(">u2").tobytes())
    for path in sorted(tmp_path.iterdir()):
        assert read_image(path)[0, :, 0].tolist() == [0, 1, 1], path
    for black in (np.int32, np.float32):
        Image.fromarray(np.zeros((1, 3), black)).save(tmp_path / "black.tif")
        assert not read_image(tmp_path / "black.tif").any()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    picture = Image.new("RGBA", (3, 1), (0, 0, 0, 255))
    picture.putpixel((1, 0), (0, 0, 0, 0))
    picture.putpixel((2, 0), (0, 0, 0, 127))
    picture.convert(mode).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 255, 128]


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.png", transparency=1)
    assert read_image(tmp_path / "a.png")[0].tolist() == [[255, 0, 0], [0, 0, 255]]
    assert read_image(tmp_path / "b.png")[0].tolist() == [[255, 0, 0], [255, 255, 255]]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red = read_image(tmp_path / "a.jpg").reshape(-1, 3).mean(axis=0)
    assert red[0] > 240 and red[1] < 15 and red[2] < 15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = smooth(16, 24)
    stored = {  # how a camera that marks the picture so has laid it down
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), upright)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_animations_are_known(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / f"b.{suffix}")
    assert animated(tmp_path / f"a.{suffix}") == (suffix != "tif")  # those are pages
    assert not animated(tmp_path / f"b.{suffix}")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_further_pages_of_a_tiff_are_counted(tmp_path: Path) -> None:
    """Thumbnails are none, and a damaged one does not take the first away."""
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    pages[2].encoderinfo = {"tiffinfo": {254: 1}}
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "c.tif")
    pages[0].save(tmp_path / "d.gif", save_all=True, append_images=pages[1:])
    counted = [further_pages(path) for path in sorted(tmp_path.iterdir())]
    assert counted == [2, 1, 0, 0]
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "e.tif").write_bytes(whole[: len(whole) // 2])
    assert further_pages(tmp_path / "e.tif") <= 1
    assert read_image(tmp_path / "e.tif")[0, 0].tolist() == [255, 0, 0]


def test_suffix_does_not_have_to_tell_the_truth(tmp_path: Path) -> None:
    pixels = noise(4, 4)
    write_image(tmp_path / "a.png", pixels)
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.array_equal(read_image(tmp_path / "a.jpg"), pixels)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_truncated_pictures_are_refused(tmp_path: Path, suffix: str, part: float) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise(64, 64)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(FsrstError, match=r"damaged or truncated|not a picture") as caught:
        read_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"\x89PNG\r\n\x1a\n", "cannot read"), (b"not a picture", "not a picture")],
)
def test_other_content_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(FsrstError, match=words):
        read_image(tmp_path / "a.png")


def test_a_rare_tiff_is_not_called_a_wrong_suffix(tmp_path: Path) -> None:
    """Of three floats a pixel, which Pillow does not know."""
    entries = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 3, 0), (262, 3, 1, 2), (277, 3, 1, 3)]
    entries += [(273, 4, 1, 200), (279, 4, 1, 48), (278, 3, 1, 2), (339, 3, 3, 0)]
    content = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    content += b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries)) + b"\0" * 4
    (tmp_path / "a.tif").write_bytes(content.ljust(300, b"\0"))
    with pytest.raises(FsrstError, match=r"a\.tif: not a picture; or a TIFF of a rare kind"):
        read_image(tmp_path / "a.tif")


def test_a_pipe_is_no_empty_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    for read in (read_image, image_size):
        with pytest.raises(FsrstError, match="it is a pipe or device; save it as a file first"):
            read(tmp_path / "a.png")


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FsrstError, match="no such file"):
        read_image(tmp_path / "a.png")
    with pytest.raises(FsrstError, match="a folder"):
        read_image(tmp_path)


def test_a_bomb_is_refused_without_decoding(tmp_path: Path) -> None:
    Image.new("1", (11_000, 11_000)).save(tmp_path / "a.png")
    with pytest.raises(FsrstError, match="over 100 megapixels"):
        read_image(tmp_path / "a.png")


# --- writing --------------------------------------------------------------------------------------


def test_notes_become_png_text(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", noise(2, 2), {"Software": "fsrst", "References": "2"})
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.info["Software"] == "fsrst" and picture.info["References"] == "2"


@pytest.mark.parametrize("name", ["a.txt", "a", "a.gif.zip"])
def test_unknown_suffix_is_refused_and_nothing_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(FsrstError, match="results are no"):
        write_image(tmp_path / name, noise(2, 2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "longest"), [("webp", 16_383), ("jpg", 65_500)])
def test_what_a_format_cannot_hold_is_one_line(tmp_path: Path, suffix: str, longest: int) -> None:
    path = tmp_path / f"a.{suffix}"
    with pytest.raises(FsrstError, match=rf"1x{longest + 1}, .* {longest} px .* use \.png"):
        write_image(path, noise(longest + 1, 1))
    assert not list(tmp_path.iterdir())
    write_image(path, noise(longest, 1))
    write_image(tmp_path / "a.png", noise(longest + 1, 1))


def test_written_whole_replaces_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.txt"
    write_text(path, "one\n")
    write_text(path, "zwei ü\n")
    assert path.read_text(encoding="utf-8") == "zwei ü\n"
    assert os.listdir(path.parent) == ["a.txt"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_written_through(tmp_path: Path, exists: bool) -> None:
    """Also one that dangles, and one through another: what is replaced is the file at the end."""
    (tmp_path / "elsewhere").mkdir()
    if exists:
        (tmp_path / "elsewhere" / "keep").write_text("old")
    (tmp_path / "second.txt").symlink_to("elsewhere/keep")
    (tmp_path / "first.txt").symlink_to(tmp_path / "second.txt")
    with written_whole(tmp_path / "first.txt") as temporary:
        assert temporary.parent == (tmp_path / "elsewhere").resolve()
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
    assert (tmp_path / "first.txt").is_symlink() and (tmp_path / "second.txt").is_symlink()
    assert (tmp_path / "elsewhere" / "keep").read_text() == "new"
    assert os.listdir(tmp_path / "elsewhere") == ["keep"]


def test_links_in_a_circle_or_to_where_nothing_can_be_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for link, to in {"a": "b.txt", "b": "a.txt", "below": "file/c.txt", "folder": "."}.items():
        (tmp_path / f"{link}.txt").symlink_to(to)
    below = r", a link to .*/file/c\.txt: .*another place"
    for link, words in (("a", ": .* circle"), ("below", below), ("folder", ": it is a folder")):
        with pytest.raises(FsrstError, match=rf"cannot write .*/{link}\.txt{words}"):
            write_text(tmp_path / f"{link}.txt", "new")
        assert (tmp_path / f"{link}.txt").is_symlink()
    assert len(os.listdir(tmp_path)) == 5


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="half way"), written_whole(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_interrupt_while_writing_leaves_no_rest(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), written_whole(tmp_path / "a.txt"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    said = pytest.raises(FsrstError, match=r"cannot write .*a\.txt: No space left")
    with said, written_whole(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_a_folder_or_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(FsrstError, match="it is a folder"):
        write_image(tmp_path / "folder.png", noise(2, 2))
    with pytest.raises(FsrstError, match="cannot write"):
        write_image(tmp_path / "file" / "a.png", noise(2, 2))


def test_written_files_obey_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {"b": 1, "a": [2]})
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [2], "b": 1}


# --- pixels <-> numbers ---------------------------------------------------------------------------


def test_every_level_survives_the_way_to_float_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    assert np.array_equal(to_uint8(to_float(levels)), levels)
    assert np.array_equal(from_planes(to_planes(levels)), levels)
    assert to_float(levels).dtype == np.float32


def test_to_uint8_clamps_and_rounds() -> None:
    values = np.array([-1.0, 0.0, 0.5 / 255, 1.5 / 255, 1.0, 7.0, np.inf, -np.inf])
    assert to_uint8(values).tolist() == [0, 0, 0, 2, 255, 255, 255, 0]


def test_to_uint8_refuses_what_is_no_number() -> None:
    with pytest.raises(FsrstError, match=r"1 of 3 values are not numbers \(NaN\)"):
        to_uint8(np.array([0.5, np.nan, 1.0]))


def test_planes_are_channels_first_and_contiguous() -> None:
    pixels = noise(5, 9)
    planes = to_planes(pixels)
    assert planes.shape == (3, 5, 9) and planes.flags.c_contiguous
    assert planes[1, 2, 3] == np.float32(pixels[2, 3, 1]) / np.float32(255)


def test_luma_is_pillows_within_rounding() -> None:
    pixels = noise(64, 64)
    theirs = np.asarray(Image.fromarray(pixels).convert("L")).astype(np.float64)
    ours = luma(pixels.astype(np.float64))
    assert np.abs(ours - theirs).max() <= 0.51
    assert luma(to_float(pixels)).dtype == np.float32
    assert luma(np.ones((1, 1, 3))).item() == pytest.approx(1.0)


# --- resampling -----------------------------------------------------------------------------------


def test_bicubic_is_pillows_and_no_copy_at_the_same_size() -> None:
    pixels = noise(128, 128)
    wanted = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(resize_bicubic(pixels, 32, 32), np.asarray(wanted))
    assert resize_bicubic(pixels, 128, 128) is pixels


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (100, 200, (50, 0, 150, 100)),  # wide: the middle
        (200, 100, (0, 50, 100, 150)),  # tall: the middle
        (64, 64, (0, 0, 64, 64)),
        (65, 64, (0, 0, 64, 64)),  # an odd row goes at the bottom
    ],
)
def test_crop_rule_takes_the_centred_square(
    height: int, width: int, box: tuple[int, int, int, int]
) -> None:
    pixels = noise(height, width)
    wanted = Image.fromarray(pixels).crop(box).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(crop_to(pixels, 32, 32), np.asarray(wanted))


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 7), (4000, 3)])
def test_crop_rule_works_for_any_shape(shape: tuple[int, int]) -> None:
    assert crop_to(noise(*shape), 32, 24).shape == (24, 32, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".webp"])
@pytest.mark.parametrize("orientation", [None, 3, 6])
def test_the_size_is_known_without_the_picture(
    suffix: str, orientation: int | None, tmp_path: Path
) -> None:
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    Image.new("RGB", (48, 32)).save(path, exif=exif)
    height, width = read_image(path).shape[:2]
    assert image_size(path) == (width, height) == ((32, 48) if orientation == 6 else (48, 32))


def test_webp_is_written_without_loss(tmp_path: Path) -> None:
    pixels = noise(20, 30)
    write_image(tmp_path / "a.webp", pixels)
    assert np.array_equal(read_image(tmp_path / "a.webp"), pixels)


def test_grey_and_toned_pictures_are_monochrome() -> None:
    pixels = noise(16, 16)
    grey = greyed(pixels)
    assert (grey == grey[..., :1]).all() and grey[0, 0, 0] == round(float(luma(pixels[0, 0] * 1.0)))
    assert monochrome(grey)
    assert monochrome((grey * np.array([1.0, 0.8, 0.6])).round().astype(np.uint8))
    assert monochrome(np.full((8, 8, 3), (200, 30, 90), np.uint8))  # nothing to see
    assert not monochrome(pixels)


@pytest.mark.parametrize("light", [0.1, 0.2, 0.35, 1.0])
def test_colours_in_the_dark_are_colours(light: float) -> None:
    for seed in range(8):
        face = draw_face(seed, 0, 64)
        assert not monochrome(np.rint(light * face).astype(np.uint8))
        grey = np.rint(light * greyed(face)).astype(np.uint8)
        assert monochrome(grey) and monochrome(as_jpeg(grey, 75))
    assert monochrome(np.zeros((16, 16, 3), np.uint8))


@pytest.mark.parametrize("side", [64, 128, 300])
def test_toned_jpegs_are_monochrome_though_their_pixels_are_not(side: int) -> None:
    for seed in range(3):
        face = draw_face(seed, 0, side)
        assert not monochrome(face) and not monochrome(as_jpeg(face, 75))
        shades = luma(face.astype(np.float32))[..., None] * np.float32((1.0, 0.85, 0.65))
        for quality in (95, 85, 75):
            assert monochrome(as_jpeg(np.rint(shades).astype(np.uint8), quality))


ORIENTATION_6 = (0x0112, 3, 1, struct.pack("<HH", 6, 0))
ODD_TAGS = {  # tag, type, count, four bytes: Pillow reads them and cannot write them back
    "a unit as text": (0x0128, 2, 4, b"inc\0"),
    "a width as a quotient": (0x0100, 5, 1, struct.pack("<I", 38)),  # where it lies
    "a resolution as bytes": (0x011A, 7, 4, b"\0\1\2\3"),
    "an orientation as text": (0x0112, 2, 2, b"6\0\0\0"),
    "an orientation of 9": (0x0112, 3, 1, struct.pack("<HH", 9, 0)),
}


@pytest.mark.parametrize("odd", ODD_TAGS)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_odd_tags_are_no_damage(tmp_path: Path, odd: str, suffix: str) -> None:
    """Pillow issues 7839, 8605 and 8965: pictures of phones and editors have such."""
    entries = {ORIENTATION_6[0]: ORIENTATION_6, ODD_TAGS[odd][0]: ODD_TAGS[odd]}
    packed = b"".join(struct.pack("<HHI", *e[:3]) + e[3] for e in sorted(entries.values()))
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + struct.pack("<I", 0)
    exif += struct.pack("<II", 40, 1)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise(20, 40)).save(path, exif=exif)
    size = (40, 20) if "orientation" in odd else (20, 40)
    assert read_image(path).shape[1::-1] == image_size(path) == size


def test_reading_leaves_warnings_as_they_are(tmp_path: Path) -> None:
    """In several threads too: `catch_warnings` left them off for good."""
    write_image(tmp_path / "a.png", noise(64, 64))
    before = list(warnings.filters)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(read_image, [tmp_path / "a.png"] * 60))
    assert warnings.filters == before


@pytest.mark.parametrize("pixels", [np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8, 3)), None])
def test_what_is_no_picture_is_not_written(tmp_path: Path, pixels: Any) -> None:
    with pytest.raises(FsrstError, match=r"must be a uint8 array \(H, W, 3\)"):
        write_image(tmp_path / "a.png", pixels)
    assert not list(tmp_path.iterdir())


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(FsrstError, match="cannot read a*: .*File name too long"):
        read_image("a" * 300)


def test_tags_that_cannot_be_read_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise(20, 40)).save(path, exif=b"Exif\0\0no TIFF at all")
    assert read_image(path).shape[1::-1] == image_size(path) == (40, 20)


def test_where_warnings_are_errors_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "a.png", noise(30, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 800)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FsrstError, match="900 pixels.* exceeds limit of 800 pixels"):
            read_image(tmp_path / "a.png")


def test_a_name_with_a_zero() -> None:
    with pytest.raises(FsrstError, match="cannot read .*null byte"):
        read_image("a\0.png")
