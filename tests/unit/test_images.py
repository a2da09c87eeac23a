"""Decoding with limits, orientation, odd modes, and writing photos back in kind."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from textremove.errors import ImageError, ImageTooLargeError
from textremove.images import (
    decode_image,
    decode_mask,
    decode_photo,
    encode_image,
    encode_like,
    encode_mask,
    read_photo,
    resize_image,
    resize_mask,
)


def _bytes(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def _picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def test_png_round_trip_is_exact() -> None:
    image = np.asarray(_picture())
    assert np.array_equal(decode_image(encode_image(image)), image)


def test_orientation_is_applied_and_then_gone() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: must be rotated by 90 degrees to be seen upright
    exif[0x010F] = "A camera"
    data = _bytes(_picture(), "JPEG", exif=exif)
    photo = decode_photo(data)
    assert photo.image.shape == (40, 30, 3)
    again = Image.open(io.BytesIO(encode_like(photo, photo.image)))
    assert 0x0112 not in again.getexif()
    assert again.getexif()[0x010F] == "A camera"
    assert again.size == (30, 40)


def test_jpeg_stays_jpeg_at_its_own_quality_with_its_profile() -> None:
    profile = b"an ICC profile, opaque to us" * 10
    data = _bytes(_picture(size=(200, 160)), "JPEG", quality=60, icc_profile=profile)
    photo = decode_photo(data)
    again = encode_like(photo, photo.image)
    reread = Image.open(io.BytesIO(again))
    assert reread.format == "JPEG"
    assert reread.info["icc_profile"] == profile
    assert reread.quantization == Image.open(io.BytesIO(data)).quantization
    assert 0.7 < len(again) / len(data) < 1.3


@pytest.mark.parametrize(
    ("format", "kept"), [("PNG", "PNG"), ("WEBP", "WEBP"), ("BMP", "PNG"), ("TIFF", "PNG")]
)
def test_other_formats_stay_or_become_png(format: str, kept: str) -> None:
    photo = decode_photo(_bytes(_picture(), format))
    assert Image.open(io.BytesIO(encode_like(photo, photo.image))).format == kept


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "RGBA"])
def test_odd_modes_become_rgb(mode: str) -> None:
    format = "JPEG" if mode == "CMYK" else "PNG"
    image = decode_image(_bytes(_picture(mode), format))
    assert image.shape == (30, 40, 3)
    assert image.dtype == np.uint8


def test_sixteen_bit_grey_is_scaled_not_cut() -> None:
    levels = np.linspace(0, 65535, 30 * 40).reshape(30, 40).astype(np.uint16)
    image = decode_image(_bytes(Image.fromarray(levels), "PNG"))
    assert image[0, 0, 0] == 0
    assert image[15, 0, 0] == pytest.approx(127, abs=2)
    assert image[-1, -1, 0] == 255


def test_transparency_is_laid_over_white() -> None:
    picture = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert np.all(decode_image(_bytes(picture, "PNG")) == 255)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    image = decode_image(_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert tuple(image[0, 0]) == (255, 0, 0)


def test_a_truncated_photo_is_named_so() -> None:
    data = _bytes(_picture(size=(300, 300)), "JPEG")
    with pytest.raises(ImageError) as caught:
        decode_image(data[: len(data) // 2])
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" + b"\0" * 50])
def test_what_is_no_image_is_one_clear_line(data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    assert caught.value.reason in ("not_an_image", "truncated")
    assert str(caught.value).startswith(("not an image", "image is cut off or corrupt", "image header"))
    assert "\n" not in str(caught.value)
    assert "MPO" not in str(caught.value)


def test_huge_dimensions_in_a_tiny_file_are_refused_before_decoding() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(ImageTooLargeError) as caught:
        decode_image(data)
    assert caught.value.reason == "too_large"
    with pytest.raises(ImageTooLargeError, match="over the limit of 100 pixels"):
        decode_image(encode_image(np.asarray(_picture())), max_pixels=100)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_raise_nothing_but_image_errors(data: st.DataObject) -> None:
    whole = bytearray(
        _bytes(_picture(), data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"])))
    )
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode_image(bytes(whole), max_pixels=1_000_000)
    except ImageError:
        return
    assert image.dtype == np.uint8
    assert image.shape[2] == 3


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ImageError, match=r"nowhere\.jpg: cannot be read"):
        read_photo(Path("nowhere.jpg"))


def test_masks_are_thresholded_and_resized_without_greys() -> None:
    grey = np.array([[0, 127, 128, 255]], np.uint8)
    assert decode_mask(encode_mask(grey)).tolist() == [[0, 0, 255, 255]]
    assert set(np.unique(resize_mask(np.eye(50, dtype=np.uint8) * 255, (33, 71)))) <= {0, 255}
    assert resize_image(np.zeros((10, 20, 3), np.uint8), (5, 7)).shape == (5, 7, 3)
