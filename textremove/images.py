"""Photos in and out of bytes: guarded decoding, orientation, and writing back what came in.

The only place that decodes or encodes images, so that a photo is the same array in training, in
batch and online.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from textremove.errors import ImageError, ImageTooLargeError

MAX_PIXELS = 64_000_000
"""Largest photo decoded, in pixels. A small file can claim huge dimensions; this stops it early."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # MPO, two JPEGs in one, opens as JPEG
_MASK_THRESHOLD = 127
_TO_BLACK_AND_WHITE = [255 if level > _MASK_THRESHOLD else 0 for level in range(256)]
_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A decoded photo with what is needed to write a changed copy like it.

    Attributes:
        image: RGB uint8 (height, width, 3), orientation applied.
        format: "JPEG", "PNG" or "WEBP": what it came as, or the nearest of these.
        exif: EXIF block without the orientation, which has been applied; b"" when it had none.
        icc_profile: Colour profile the pixels are in, or None for sRGB.
        quantization: JPEG quantization tables, to keep the quality; None for other formats.
        subsampling: JPEG chroma subsampling as Pillow numbers it; -1 when unknown.
    """

    image: np.ndarray
    format: str
    exif: bytes
    icc_profile: bytes | None
    quantization: dict[int, list[int]] | None = None
    subsampling: int = -1


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """Reads the header only, and refuses what should not be decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit follows
            picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise ImageError("not an image (accepted: JPEG, PNG, WebP, BMP, TIFF, GIF)") from None
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"image too large: {error}", reason="too_large") from None
    except Exception as error:  # corrupt headers raise nearly anything: ValueError, struct.error, ...
        raise ImageError(f"image header cannot be read: {_one_line(error)}") from None
    width, height = picture.size
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"image too large: {width}x{height} is over the limit of {max_pixels:,} pixels",
            reason="too_large",
        )
    return picture


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _load(picture: Image.Image) -> None:
    try:
        picture.seek(0)  # of an animation, the first frame
        picture.load()
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise ImageError(f"image is cut off or corrupt: {_one_line(error)}", reason="truncated") from None


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode to 8-bit RGB. Transparency is laid over white; CMYK goes through its own profile."""
    if picture.mode == "CMYK" and picture.info.get("icc_profile"):
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.info["icc_profile"]))
            converted = ImageCms.profileToProfile(
                picture, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            return picture.convert("RGB")  # a broken profile: the plain formula is the best left
        return converted if converted is not None else picture.convert("RGB")
    if picture.mode.startswith("I") or picture.mode == "F":
        levels = np.asarray(picture, np.float64)
        top = 65535.0 if levels.max(initial=0) > 255 else 255.0  # 16-bit greys would be cut at 255
        return Image.fromarray(np.clip(levels / top * 255, 0, 255).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def decode_photo(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decodes a photo and keeps what is needed to write it back in kind.

    Raises:
        ImageError: Not an image, or a corrupt one; `reason` says which.
        ImageTooLargeError: More pixels than `max_pixels`.
    """
    picture = _open(data, max_pixels)
    _load(picture)
    original_mode = picture.mode
    image = np.asarray(_to_rgb(ImageOps.exif_transpose(picture)))
    exif = picture.getexif()
    exif.pop(_ORIENTATION_TAG, None)  # only now: exif_transpose reads this same block
    is_jpeg = picture.format in ("JPEG", "MPO")
    return Photo(
        image=image,
        format="JPEG" if is_jpeg else ("WEBP" if picture.format == "WEBP" else "PNG"),
        exif=exif.tobytes() if len(exif) else b"",
        # A CMYK or grey profile does not describe the RGB pixels that we hand out.
        icc_profile=picture.info.get("icc_profile") if original_mode in ("RGB", "RGBA", "P") else None,
        quantization=getattr(picture, "quantization", None) if is_jpeg and original_mode == "RGB" else None,
        subsampling=_subsampling(picture) if is_jpeg else -1,
    )


def _subsampling(picture: Image.Image) -> int:
    from PIL import JpegImagePlugin

    return JpegImagePlugin.get_sampling(picture)


def open_picture(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes an image to a Pillow picture in RGB, orientation applied. Raises as `decode_photo`.

    For those who only resize and encode it: an array in between would cost two copies of every pixel.
    """
    picture = _open(data, max_pixels)
    _load(picture)
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode != "RGB" or picture.has_transparency_data:
        picture = _to_rgb(picture)
    picture.info.clear()  # Pillow would write some of it into a copy: pixels are all that is handed on
    return picture


def open_mask(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes a mask to a Pillow picture of mode "L", 0 or 255. Raises as `decode_mask`."""
    picture = _open(data, max_pixels)
    _load(picture)
    ImageOps.exif_transpose(picture, in_place=True)
    return (picture if picture.mode == "L" else picture.convert("L")).point(_TO_BLACK_AND_WHITE)


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes an image to RGB uint8 (height, width, 3), orientation applied. Raises as `decode_photo`."""
    return np.asarray(open_picture(data, max_pixels=max_pixels))


def decode_mask(data: bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes a mask to uint8 (height, width), 0 or 255: 255 where it is lighter than mid-grey.

    Raises:
        ImageError: Not an image, or a corrupt one.
        ImageTooLargeError: More pixels than `max_pixels`.
    """
    return np.array(open_mask(data, max_pixels=max_pixels))


def read_photo(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Reads a photo from a file. Raises ImageError, naming the file, when it is missing or no image."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})", reason="unreadable") from None
    try:
        return decode_photo(data, max_pixels=max_pixels)
    except ImageError as error:
        raise type(error)(f"{path}: {error}", reason=error.reason) from None


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads an image file to RGB uint8 (height, width, 3). Raises as `read_photo`."""
    return read_photo(path, max_pixels=max_pixels).image


def encode_image(image: np.ndarray, *, format: str = "png", quality: int = 95) -> bytes:
    """Encodes RGB uint8 (height, width, 3) as "png", "jpeg" or "webp"; quality 1-100 for the lossy two."""
    return encode_picture(Image.fromarray(image), format=format, quality=quality)


def encode_picture(picture: Image.Image, *, format: str = "png", quality: int = 95) -> bytes:
    """Encodes a Pillow picture. Arguments as `encode_image`."""
    buffer = io.BytesIO()
    options: dict[str, object] = {} if format.lower() == "png" else {"quality": quality}
    picture.save(buffer, format.upper(), **options)
    return buffer.getvalue()


def encode_mask(mask: np.ndarray) -> bytes:
    """Encodes a mask, uint8 (height, width), as a one-channel PNG."""
    return encode_image(mask, format="png")


def encode_like(photo: Photo, image: np.ndarray) -> bytes:
    """Encodes a changed copy in the photo's own format, with its EXIF, colour profile and JPEG quality.

    Args:
        photo: What it was made from.
        image: RGB uint8 (height, width, 3).
    """
    buffer = io.BytesIO()
    options: dict[str, object] = {}
    if photo.exif:
        options["exif"] = photo.exif
    if photo.icc_profile:
        options["icc_profile"] = photo.icc_profile
    if photo.format == "JPEG":
        if photo.quantization:  # the photo's own tables: neither larger nor worse than it came
            options |= {"qtables": photo.quantization, "subsampling": max(photo.subsampling, 0)}
        else:
            options["quality"] = 95
    elif photo.format == "WEBP":
        options |= {"quality": 95}
    Image.fromarray(image).save(buffer, photo.format, **options)
    return buffer.getvalue()


LANCZOS_REACH = 3
"""How many pixels of a picture that is enlarged each new pixel is made of, to either side."""


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes RGB uint8 (height, width, 3) to `size`, (height, width) in pixels; anti-aliased."""
    if image.shape[:2] == tuple(size):
        return image
    return np.asarray(resize_picture(Image.fromarray(image), size))


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a mask, uint8 (height, width), to `size`, (height, width); nearest, so it stays 0 or 255."""
    if mask.shape == tuple(size):
        return mask
    return np.asarray(resize_picture(Image.fromarray(mask), size))


def resize_picture(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resizes a Pillow picture to `size`, (height, width): one of mode "L" as a mask, others as images."""
    height, width = size
    kind = Image.Resampling.NEAREST if picture.mode == "L" else Image.Resampling.LANCZOS
    return picture.resize((width, height), kind)
