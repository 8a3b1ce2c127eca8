"""`load_image`: whatever a user has comes out upright and in RGB, or with a plain reason."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from blip_refine.data.images import CroppedImage, load_image, read_image_bytes
from blip_refine.errors import BlipRefineError, ConfigurationError, ImageDecodeError

from .photos import difference, encode, make_photo

ROTATIONS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What a camera does to the picture before it writes each EXIF orientation."""


def with_orientation(picture: Image.Image, orientation: int, format: str = "JPEG") -> bytes:
    stored = picture if ROTATIONS[orientation] is None else picture.transpose(ROTATIONS[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(stored, format, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_all_orientations_come_out_upright(orientation, format):
    picture = make_photo(1, (96, 64))
    loaded = load_image(with_orientation(picture, orientation, format))
    assert loaded.size == (96, 64)
    assert difference(loaded, picture) < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_decode_is_upright_too(orientation):
    picture = make_photo(2, (1200, 800))
    loaded = load_image(with_orientation(picture, orientation), target_size=(150, 100))
    assert loaded.size == (300, 200)
    assert difference(loaded.resize((96, 64)), picture.resize((96, 64))) < 4


@pytest.mark.parametrize("kind", ["Landscape", "Portrait"])
def test_the_orientations_of_real_cameras(test_data, kind):
    folder = test_data / "robust_images" / "exif_orientation"
    upright = load_image(folder / f"{kind}_1.jpg").resize((90, 60))
    for orientation in range(9):
        loaded = load_image(folder / f"{kind}_{orientation}.jpg")
        assert loaded.size == ((1800, 1200) if kind == "Landscape" else (1200, 1800))
        # Each of these files has its own number written across it.
        assert difference(loaded.resize((90, 60)), upright) < 8, orientation


EXPECTED_COLORS = {
    # File: mean red, green and blue, of the pixels as other programs show them.
    "1_trns.png": None,
    "broken.png": "not an image",
    "broken_exif_dpi.jpg": (0, 128, 1),
    "exif-dpi-zerodivision.jpg": None,
    "exif_imagemagick_orientation.png": None,
    "flower2.jpg": (116, 79, 77),
    "hopper.bmp": (90, 80, 95),
    "hopper.jpg": (90, 80, 95),
    "hopper.webp": (90, 80, 95),
    "hopper_g4.tif": None,
    "hopper_idat_after_image_end.png": (90, 80, 95),
    "hopper_orientation_6.jpg": (90, 80, 95),
    "i_trns.png": None,
    "invalid-exif.jpg": None,
    "junk_jpeg_header.jpg": None,
    "multiple_exif.jpg": None,
    "pil123p.png": None,
    "pil_sample_cmyk.jpg": None,
    "tiff_16bit_RGBa.tiff": None,
    "truncated_app14.jpg": None,
}


@pytest.mark.parametrize("name", EXPECTED_COLORS)
def test_each_odd_file_gives_pixels_or_a_reason(test_data, name):
    path = test_data / "robust_images" / "pillow" / name
    if isinstance(EXPECTED_COLORS[name], str):
        with pytest.raises(ImageDecodeError, match=f"{name}.*{EXPECTED_COLORS[name]}"):
            load_image(path)
        return
    loaded = load_image(path)
    assert loaded.mode == "RGB" and min(loaded.size) >= 1
    if EXPECTED_COLORS[name] is not None:
        assert np.abs(np.asarray(loaded, dtype=float).mean((0, 1)) - EXPECTED_COLORS[name]).max() < 2


def test_every_odd_file_is_expected_here(test_data):
    assert {path.name for path in (test_data / "robust_images" / "pillow").iterdir()} == set(EXPECTED_COLORS)


def test_a_rotated_copy_of_a_real_photo_is_the_photo(test_data):
    folder = test_data / "robust_images" / "pillow"
    assert difference(load_image(folder / "hopper_orientation_6.jpg"), load_image(folder / "hopper.jpg")) < 6


def pixel(picture: Image.Image) -> tuple[int, ...]:
    return picture.getpixel((0, 0))


def of(mode: str, color) -> Image.Image:
    return Image.new(mode, (4, 4), color)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (of("1", 1), (255, 255, 255)),
        (of("L", 70), (70, 70, 70)),
        (of("RGB", (10, 20, 30)), (10, 20, 30)),
        (of("RGBA", (255, 0, 0, 255)), (255, 0, 0)),
        (of("RGBA", (0, 0, 0, 0)), (255, 255, 255)),
        (of("RGBA", (0, 0, 0, 128)), (127, 127, 127)),
        (of("LA", (0, 0)), (255, 255, 255)),
        (of("CMYK", (0, 255, 255, 0)), (255, 0, 0)),
        (of("I;16", 65535), (255, 255, 255)),
        (of("I;16", 257 * 40), (40, 40, 40)),
        (of("I", 257 * 40), (40, 40, 40)),
        (of("I", 40), (40, 40, 40)),
        (of("F", 0.5), (128, 128, 128)),
        (of("F", 200.0), (200, 200, 200)),
        (of("HSV", (0, 255, 255)), (255, 0, 0)),
        (of("YCbCr", (76, 85, 255)), (254, 0, 0)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value),
)
def test_every_mode_keeps_its_colors(picture, expected):
    loaded = load_image(picture)
    assert loaded.mode == "RGB"
    assert np.abs(np.array(pixel(loaded)) - expected).max() <= 1


def test_lab_pictures_keep_their_colors():
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    picture = make_photo(3, (40, 30))
    assert difference(load_image(ImageCms.applyTransform(picture, transform)), picture) < 3


def test_values_without_a_known_range_are_stretched():
    values = np.array([[-1000.0, 0.0], [np.nan, 1000.0]], dtype=np.float32)
    loaded = np.asarray(load_image(Image.fromarray(values)))[:, :, 0]
    assert loaded.tolist() == [[0, 128], [0, 255]]


def test_a_palette_with_transparency_lies_on_white():
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.putpixel((1, 0), 1)
    data = encode(picture, "PNG", transparency=0)
    loaded = load_image(data)
    assert pixel(loaded) == (255, 255, 255) and loaded.getpixel((1, 0)) == (255, 0, 0)
    assert pixel(load_image(data, background=(0, 0, 255))) == (0, 0, 255)


def test_sixteen_bit_png_is_scaled_and_not_clipped():
    values = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    loaded = np.asarray(load_image(encode(Image.fromarray(values), "PNG")))[:, :, 0]
    assert np.abs(loaded.astype(int) - np.arange(256).reshape(16, 16)).max() <= 1


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_taken(format):
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "green", "blue")]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:])
    assert np.abs(np.array(pixel(load_image(data))) - (255, 0, 0)).max() <= 4


def test_mpo_and_avif_are_read():
    picture = make_photo(4, (64, 48))
    mpo = encode(picture, "MPO", save_all=True, append_images=[make_photo(5, (64, 48))])
    assert difference(load_image(mpo, target_size=32), picture) < 8
    if "AVIF" in Image.SAVE or (Image.init() and "AVIF" in Image.SAVE):
        assert difference(load_image(encode(picture, "AVIF")), picture) < 8


def test_a_picture_in_memory_is_not_changed():
    picture = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    load_image(picture)
    assert picture.mode == "RGBA" and picture.getpixel((0, 0)) == (0, 0, 0, 0)
    plain = Image.new("RGB", (4, 4))
    assert load_image(plain) is plain


def test_paths_bytes_and_pictures_are_the_same(tmp_path):
    picture = make_photo(6)
    path = tmp_path / "photo.png"
    picture.save(path)
    for image in (path, str(path), path.read_bytes(), picture):
        assert difference(load_image(image), picture) == 0


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "TIFF", "BMP"])
def test_truncated_files_are_errors_by_default_and_recoverable_by_choice(format, tmp_path):
    picture = make_photo(7, (200, 150))
    data = encode(picture, format)
    path = tmp_path / f"cut.{format.lower()}"
    path.write_bytes(data[: int(len(data) * 0.7)])
    with pytest.raises(ImageDecodeError, match=r"cut\..*truncated.*truncated=\"recover\""):
        load_image(path)
    recovered = load_image(path, truncated="recover")
    assert recovered.size == (200, 150)
    top, bottom = (0, 0, 200, 50), (0, 100, 200, 150)
    there = bottom if format == "BMP" else top  # a BMP starts with its last row
    assert difference(recovered.crop(there), load_image(data).crop(there)) < 1
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_recovering_one_file_does_not_let_another_broken_one_pass():
    data = encode(make_photo(8, (300, 300)), "PNG")
    broken = data[: len(data) // 2]
    passed: list[object] = []
    stop = threading.Event()

    def strictly():
        while not stop.is_set():
            try:
                passed.append(load_image(broken))
            except ImageDecodeError:
                pass

    threads = [threading.Thread(target=strictly) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        assert load_image(broken, truncated="recover").size == (300, 300)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert passed == []


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes with a huge size in its header."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def test_decompression_bombs_are_refused_before_they_are_decoded():
    with pytest.raises(ImageDecodeError, match="decompression bomb"):
        load_image(png_that_claims(50_000, 50_000))
    with pytest.raises(ImageDecodeError, match="claims 200x100 pixels, more than the 10000"):
        load_image(encode(make_photo(1, (200, 100))), max_pixels=10_000)


def test_large_files_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "large.jpg"
    with path.open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(ImageDecodeError, match=r"large\.jpg.*1000000000 bytes, more than the 1000"):
        load_image(path, max_bytes=1000)
    with pytest.raises(ImageDecodeError, match="more than the 10 bytes"):
        load_image(b"\xff" * 11, max_bytes=10)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"hello", "no known image format"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "PostScript"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow-heif"),
        (b"\xff\xd8\xff\xe0", "broken|cannot be decoded|no known"),
    ],
)
def test_what_is_no_image_is_named_with_a_hint(tmp_path, content, reason):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageDecodeError, match=f"photo.jpg.*(?:{reason})"):
        load_image(path)


def test_postscript_never_reaches_another_program(tmp_path, monkeypatch):
    """Pillow would hand it to Ghostscript."""
    monkeypatch.setattr("subprocess.check_call", lambda *arguments, **options: pytest.fail("a program was started"))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    assert Image.open(io.BytesIO(eps)).format == "EPS"
    with pytest.raises(ImageDecodeError):
        load_image(eps)


def test_missing_files_folders_and_other_things_are_named(tmp_path):
    with pytest.raises(ImageDecodeError, match=r"nowhere\.jpg' cannot be read: No such file"):
        load_image(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageDecodeError, match="cannot be read"):
        load_image(tmp_path)
    with pytest.raises(ImageDecodeError, match="null"):
        load_image("a\0b.jpg")
    with pytest.raises(ImageDecodeError, match="not a ndarray"):
        load_image(np.zeros((3, 3)))  # type: ignore[arg-type]
    with pytest.raises(ImageDecodeError, match="no pixels"):
        load_image(Image.new("RGB", (0, 5)))
    with pytest.raises(ConfigurationError, match="truncated must be"):
        load_image(make_photo(0), truncated="maybe")  # type: ignore[arg-type]


@pytest.mark.posix
@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(tmp_path):
    path = tmp_path / "secret.jpg"
    path.write_bytes(encode(make_photo(1)))
    path.chmod(0)
    with pytest.raises(ImageDecodeError, match=r"secret\.jpg' cannot be read: Permission denied"):
        load_image(path)


def test_random_damage_gives_a_picture_or_a_plain_error():
    rng = np.random.default_rng(0)
    originals = [encode(make_photo(1, (60, 40)), format) for format in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP")]
    outcomes = {"picture": 0, "error": 0}
    for turn in range(300):
        data = bytearray(originals[turn % len(originals)])
        for place in rng.integers(0, len(data), 8):
            data[place] = rng.integers(0, 256)
        try:
            assert load_image(bytes(data), truncated=("error", "recover")[turn % 2]).mode == "RGB"
            outcomes["picture"] += 1
        except BlipRefineError as error:
            assert isinstance(error, ImageDecodeError) and "cannot" in str(error) or "not an image" in str(error)
            outcomes["error"] += 1
    assert min(outcomes.values()) > 20


def test_a_jpeg_is_decoded_no_larger_than_needed_and_stays_close():
    picture = make_photo(9, (1600, 1200))
    data = encode(picture, quality=92)
    small = load_image(data, target_size=144)
    assert small.size == (400, 300)
    assert load_image(data, target_size=601).size == (1600, 1200)
    whole = load_image(data).resize((144, 144), Image.Resampling.BICUBIC)
    assert difference(small.resize((144, 144), Image.Resampling.BICUBIC), whole) < 1.5


def test_the_reduced_decode_of_real_photos_is_within_the_stated_tolerance(test_data):
    """docs/data.md: of 255 levels, at most 1 on average over a photo and at most 16 in any pixel."""
    reduced = 0
    for path in sorted((test_data / "coco85" / "val2017").iterdir()):
        small, whole = load_image(path, target_size=112), load_image(path)
        reduced += small.size != whole.size
        one, other = (np.asarray(picture.resize((112, 112), 3), dtype=int) for picture in (small, whole))
        assert np.abs(one - other).mean() <= 1.0 and np.abs(one - other).max() <= 16, path.name
    assert reduced > 30


def test_an_odd_size_is_not_shifted_by_a_reduced_decode():
    """231 rows at half scale stand for 461, not for 462."""
    data = encode(make_photo(0, (641, 461)), quality=95)
    small, whole = load_image(data, target_size=112), load_image(data)
    assert small.size != whole.size
    one, other = (np.asarray(picture.resize((112, 112), 3), dtype=int) for picture in (small, whole))
    assert np.abs(one - other).mean() < 0.5  # 0.96 where it is shifted


def test_a_part_of_a_picture_is_a_picture():
    picture = make_photo(10, (100, 80))
    data = encode(picture, "PNG")
    part = CroppedImage(data, (20, 10, 60, 200))
    assert difference(load_image(part), picture.crop((20, 10, 60, 80))) == 0
    assert read_image_bytes(part) == data
    with pytest.raises(ImageDecodeError, match="outside of its picture of 100x80"):
        load_image(CroppedImage(data, (100, 0, 120, 10)))
