"""Image files to RGB pixels; an error names the file that cannot be read."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfx_transformer.errors import InputError

# Named so that Pillow tries no other: some of its readers start programs (EPS) or are seldom used.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")

# The first bytes of such files; those of BMP, "BM", may begin a text as well.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"RIFF")

# Decoded, a pixel needs three to four bytes; Pillow itself refuses more than 179 million.
MAX_PIXELS = 50_000_000
# A WebP is decoded into three copies of its pixels; a transparent image takes twice as long.
_MAX_COSTLY_PIXELS = MAX_PIXELS // 2
# Longer sides are of no use to a model that reads squares, and cost as much as many pixels.
MAX_SIDE = 32_768
# More than the uncompressed pixels of any allowed image take.
_MAX_BYTES = 5 * MAX_PIXELS

_EXIF_ORIENTATION = 0x0112
# What turns an image of this orientation upright: True to exchange rows and columns, then the step
# through the rows and the step through the columns.
_UPRIGHT = {
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}

# Pixels of a side that `resize` weighs at a time, and numbers that it converts at a time. So few
# stay in a processor's cache, and their products are too small to be split among threads, which
# would wait for each other longer than they compute.
_PIECE = 256
_VALUES = 1 << 18


def read_image(source: str | os.PathLike | bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """uint8 (height, width, 3): the pixels of an image file, upright and in RGB.

    An EXIF orientation is applied. Palettes, grey of 1, 8 and 16 bits, and CMYK are converted;
    transparent pixels are laid on white; of an animation the first frame is read. The content of
    the file decides its format, not the ending of its name.

    Args:
        source: path of a JPEG, PNG, GIF, BMP or WebP file, or its bytes.
        max_pixels: larger images are refused before their pixels are decoded, WebP and transparent
            images above 25 million pixels; so are sides of more than `MAX_SIDE`.

    Raises:
        InputError: the file is missing, empty, not an image, damaged, cut short, or larger than
            allowed.
    """
    with _opening(source, max_pixels) as image:
        image.load()
        return _upright(image)


def pixels_of(image: Any) -> np.ndarray:
    """uint8 (height, width, 3): the pixels of an image in memory, as `read_image` reads a file.

    Args:
        image: a Pillow image; or uint8 (height, width, 3), or (height, width) and (height, width,
            1) of a grey one.

    Raises:
        ValueError: it is something else; the message says what, as in "is not …".
    """
    if hasattr(image, "getexif") and hasattr(image, "convert"):  # Pillow is imported already
        return _upright(image)
    if not isinstance(image, np.ndarray):
        raise ValueError(f"is not an image but of type {type(image).__name__}")
    grey = image.ndim == 2 or image.shape[2:] == (1,)
    if image.dtype != np.uint8 or not image.size or not (grey or image.shape[2:] == (3,)):
        held = f"{image.dtype} {image.shape}"
        raise ValueError(f"is not an image of uint8 (height, width, 3) but an array of {held}")
    return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2) if grey else image


def image_size(source: str | os.PathLike | bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height from the header of an image file; arguments as for `read_image`."""
    with _opening(source, max_pixels) as image:
        return image.size


def check_image(source: str | os.PathLike | bytes, max_pixels: int = MAX_PIXELS) -> None:
    """Raises what `read_image` would, at a fraction of its cost for a large JPEG."""
    with _opening(source, max_pixels) as image:
        # A JPEG is read to its end, but only an eighth of its width and height is computed.
        image.draft("RGB", (1, 1))
        image.load()


def resize(image: np.ndarray, size: int, how: Mapping[str, Any] | None = None) -> np.ndarray:
    """float32 (size, size, 3) from 0 to 255: the image resized.

    Without `how` the result is that of `tf.image.resize(image, (size, size), antialias=True)`, a
    triangle filter: pixel i of a side is the mean of the image's pixels j of that side, weighted by

        max(0, 1 - |(j + 1/2) - (i + 1/2) s| / max(s, 1)),  s = length / size.

    Args:
        image: uint8 (height, width, 3).
        size: width and height of the result; other proportions are squeezed into the square.
        how: the resizing that a checkpoint was trained with, see `TransformerConfig.image_resize`:
            Pillow resizes to whole colours, and the centre is cropped.
    """
    if how is not None:
        return _crop(_by_pillow(image, how), size)
    height, width = image.shape[:2]
    if height == width == size:
        return image.astype("float32")
    if height < size:  # in the other order the image would grow before it shrinks
        rows = np.stack([_across(row[None], size)[0] for row in image])
        return _down(rows.reshape(height, size * 3), size).reshape(size, size, 3)
    return _across(_down(image.reshape(height, width * 3), size).reshape(size, width, 3), size)


def _by_pillow(image: np.ndarray, how: Mapping[str, Any]) -> np.ndarray:
    from PIL import Image

    height, width = image.shape[:2]
    if "shortest_edge" in how:
        shortest, edge = min(height, width), how["shortest_edge"]
        height, width = (edge * length // shortest for length in (height, width))
    else:
        height, width = how["height"], how["width"]
    if height * width > MAX_PIXELS:
        raise InputError(
            f"the image has {image.shape[1]:,} x {image.shape[0]:,} pixels, which the model's "
            f"preparation would scale to {width:,} x {height:,}.\n"
            "  Cut it up, or leave it out."
        )
    kind = Image.Resampling[how["filter"].upper()]
    # The width first, as torchvision and Pillow up to release 12 do; checkpoints were trained with
    # these. Pillow 13 begins with a height that loses more than twice the pixels of the width.
    rows = Image.fromarray(image).resize((width, image.shape[0]), kind)
    return np.asarray(rows.resize((width, height), kind))


def _crop(image: np.ndarray, size: int) -> np.ndarray:
    """float32 (size, size, 3): the centre."""
    top, left = ((length - size) // 2 for length in image.shape[:2])
    return image[top : top + size, left : left + size].astype("float32")


def _down(rows: np.ndarray, size: int) -> np.ndarray:
    """float32 (size, columns) of rows (length, columns)."""
    result = np.zeros((size, rows.shape[1]), "float32")
    # Converted piece by piece: as floats a large image would need four times its memory.
    for part, reached, weights in _filter(len(rows), size, 1 + _VALUES // rows.shape[1]):
        result[reached] += weights @ rows[part].astype("float32")
    return result


def _across(image: np.ndarray, size: int) -> np.ndarray:
    """float32 (rows, size, 3) of an image (rows, length, 3)."""
    rows, length = image.shape[:2]
    result = np.zeros((rows, size, 3), "float32")
    for part, reached, weights in _filter(length, size, _PIECE):
        result[:, reached] += np.matmul(weights, image[:, part].astype("float32"))
    return result


def _filter(length: int, size: int, piece: int) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yield the weights of `resize` along one side, for some pixels of the image at a time.

    Yields: a slice of the image's pixels; the slice of the result's pixels that they reach; their
        weights, float32 (reached, pixels). All weights of a pixel of the result sum to 1.
    """
    scale = length / size
    support = max(scale, 1)
    centres = (np.arange(size) + 0.5) * scale

    def weights(centres: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        distance = np.abs(pixels + 0.5 - centres) / support
        return np.where((pixels >= 0) & (pixels < length), np.maximum(1 - distance, 0), 0)

    band = np.arange(-1, 2 * math.ceil(support) + 2)
    sums = [
        weights(centre, math.floor(centre - support) + band).sum() for centre in centres.tolist()
    ]
    sums = np.array(sums)
    piece = min(piece, _PIECE)
    for start in range(0, length, piece):
        end = min(start + piece, length)
        first = np.searchsorted(centres, start - support)
        last = np.searchsorted(centres, end + support, "right")
        reached = slice(int(first), int(last))
        part = weights(centres[reached, None], np.arange(start, end))
        yield slice(start, end), reached, (part / sums[reached, None]).astype("float32")


def _upright(image: Any) -> np.ndarray:
    """uint8 (height, width, 3) of a Pillow image, its EXIF orientation applied."""
    pixels = _rgb(image)
    exchanged, down, right = _UPRIGHT.get(_orientation(image) or 1, (False, 1, 1))
    if exchanged:
        pixels = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels[::down, ::right])


def _rgb(image) -> np.ndarray:
    """uint8 (height, width, 3) of a Pillow image, not turned."""
    pixels = np.empty((image.height, image.width, 3), "uint8")
    # Few rows at a time: Pillow takes four bytes a pixel, and that again for every step.
    rows = 1 + _VALUES // image.width
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = _rows_in_rgb(image.crop((0, top, image.width, bottom)))
    return pixels


def _rows_in_rgb(image) -> np.ndarray:
    """uint8 (height, width, 3), or (height, width, 1) of grey."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        values = np.asarray(image)
        if values.dtype != np.uint16:
            values = np.clip(values, 0, 65_535)
        return _bytes_of_16_bits()[values][:, :, None]
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[:, :, None]
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


@functools.cache
def _bytes_of_16_bits() -> np.ndarray:
    """uint8 (65536,): each value of 16 bits divided by 257 and rounded."""
    return ((np.arange(65_536, dtype="uint32") * 255 + 32_895) >> 16).astype("uint8")


def _orientation(image) -> int | None:
    try:
        return image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # damaged EXIF of any kind; the pixels are whole
        return None


@contextlib.contextmanager
def _opening(source: str | os.PathLike | bytes, max_pixels: int):
    """Yield a Pillow image, its header read; any failure in the `with` block is an InputError."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise InputError("reading images needs Pillow.\n  pip install pillow") from error
    held = isinstance(source, bytes)
    name = "the image" if held else os.fspath(source)
    try:
        size = len(source) if held else os.stat(source).st_size
        if size > _MAX_BYTES:
            raise InputError(
                f"{name}: the file has {size:,} bytes.\n"
                f"  Expected an image of {_MAX_BYTES:,} bytes at most. Make it smaller."
            )
        with Image.open(io.BytesIO(source) if held else source, formats=FORMATS) as image:
            if image.format == "WEBP" or image.has_transparency_data:
                max_pixels = min(max_pixels, _MAX_COSTLY_PIXELS)
            if image.width * image.height > max_pixels:
                raise _too_large(name, max_pixels)
            if max(image.size) > MAX_SIDE:
                raise InputError(
                    f"{name}: the image has {image.width:,} x {image.height:,} pixels.\n"
                    f"  Expected sides of {MAX_SIDE:,} at most. Cut it up, or leave it out."
                )
            yield image
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name, max_pixels) from error
    except UnidentifiedImageError as error:
        raise _no_image(source, name) from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InputError(
            f"{name}: the file cannot be opened: {error.strerror}.\n  Check the path."
        ) from error
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise InputError(
            f"{name}: the image is damaged or cut short: {error}.\n"
            "  Save or download it anew, or leave it out."
        ) from error


def _too_large(name: str, max_pixels: int) -> InputError:
    return InputError(
        f"{name}: the image has more than {max_pixels:,} pixels.\n"
        "  It would fill the memory when decoded. Make it smaller, or leave it out."
    )


def _no_image(source: str | os.PathLike | bytes, name: str) -> InputError:
    if isinstance(source, bytes):
        start = source[:16]
    else:
        with open(source, "rb") as file:
            start = file.read(16)
    what = f"this is not an image; it begins with {start!r}" if start else "the file is empty"
    if start.startswith(_SIGNATURES):
        what = "the image is damaged or cut short in its header"
    return InputError(f"{name}: {what}.\n  Expected a JPEG, PNG, GIF, BMP or WebP image.")
