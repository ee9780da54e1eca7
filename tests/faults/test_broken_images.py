"""Image files that are cut short, forged, oversized or only called so: read right, or named."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from tfx_transformer.errors import InputError
from tfx_transformer.images import check_image, read_image

SIDE = 24


def pixels(channels: int = 3) -> np.ndarray:
    """A smooth picture, so that compression with loss changes little."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] * 10
    return np.stack([x, y, (x + y) // 2, 255 - x][:channels], axis=-1).astype("uint8")


def saved(kind: str, image: Image.Image | None = None, **options) -> bytes:
    data = io.BytesIO()
    (image or Image.fromarray(pixels())).save(data, kind, **options)
    return data.getvalue()


def chunk(name: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A chunk of a PNG; `length` as it claims."""
    size = struct.pack(">I", len(data) if length is None else length)
    return size + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int = SIDE, height: int = SIDE, depth: int = 8, colour: int = 2, data: bytes = b""):
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", data) + chunk(b"IEND")


def inserted(*chunks: bytes) -> bytes:
    """A whole PNG with chunks put behind its header."""
    whole = saved("PNG")
    return whole[:33] + b"".join(chunks) + whole[33:]


def changed(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def frames(kind: str) -> bytes:
    later = [Image.fromarray(255 - pixels()) for _ in range(3)]
    return saved(kind, save_all=True, append_images=later, duration=9)


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header claims another size."""
    whole = saved("JPEG")
    place = whole.index(b"\xff\xc0") + 5
    return changed(whole, place, struct.pack(">HH", height, width))


CMYK = Image.fromarray(pixels(4), "CMYK")
GREY = Image.fromarray(pixels(1)[:, :, 0])
SIXTEEN = Image.fromarray(pixels(1)[:, :, 0].astype("uint16") * 257)
EXIF = b"Exif\0\0"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# What is read as the picture that was saved: name, bytes, what the pixels are, how far off.
READ = [
    ("PNG", saved("PNG"), pixels(), 0),
    ("BMP", saved("BMP"), pixels(), 0),
    ("WebP without loss", saved("WEBP", lossless=True), pixels(), 0),
    ("JPEG", saved("JPEG", quality=95), pixels(), 12),
    ("progressive JPEG", saved("JPEG", quality=95, progressive=True), pixels(), 12),
    ("grey JPEG", saved("JPEG", GREY, quality=95), pixels(1).repeat(3, 2), 12),
    ("CMYK JPEG", saved("JPEG", CMYK, quality=95), np.asarray(CMYK.convert("RGB")), 24),
    ("16 bits", saved("PNG", SIXTEEN), pixels(1).repeat(3, 2), 0),
    ("a GIF of frames, the first", frames("GIF"), pixels(), 48),
    ("a PNG of frames, the first", frames("PNG"), pixels(), 0),
    ("a WebP of frames, the first", frames("WEBP"), pixels(), 24),
    ("a GIF whose later frames are cut off", frames("GIF")[:-300], pixels(), 48),
    ("a profile of colours", saved("PNG", icc_profile=PROFILE), pixels(), 0),
    ("garbage for a profile", saved("JPEG", icc_profile=b"garbage" * 99, quality=95), pixels(), 12),
    ("a PNG with garbage for a profile", saved("PNG", icc_profile=b"\xff" * 99), pixels(), 0),
    ("garbage for EXIF", saved("JPEG", exif=EXIF + b"\xff" * 99, quality=95), pixels(), 12),
    ("EXIF that leads nowhere", saved("JPEG", exif=EXIF + b"MM\0*\x7f\xff\xff\xff", quality=95),
        pixels(), 12),
    ("EXIF of a text for the orientation", saved("JPEG", exif=EXIF + (
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc\0\0\0\0\0"), quality=95), pixels(), 12),
    ("bytes after the end of a PNG", saved("PNG") + b"<?php 1/0 ?>" * 99, pixels(), 0),
    ("bytes after the end of a JPEG", saved("JPEG", quality=95) + b"PK\x03\x04" * 9, pixels(), 12),
    ("a long text in a PNG", inserted(chunk(b"tEXt", b"a\0" + b"x" * 9_999)), pixels(), 0),
    ("an unknown chunk", inserted(chunk(b"viRT", b"x" * 99)), pixels(), 0),
]  # fmt: skip

# What is named: name, bytes, what is said.
NAMED = [
    ("nothing", b"", "the file is empty"),
    ("one byte", b"\xff", "this is not an image; it begins with"),
    ("a text", b"not an image at all\n" * 9, "not an image; it begins with b'not an image at"),
    ("HTML for a missing image", b"<!DOCTYPE html><title>404</title>", "this is not an image"),
    ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "this is not an image"),
    ("PDF", b"%PDF-1.7\n", "this is not an image"),
    ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "this is not an image"),
    ("TIFF", saved("TIFF"), "this is not an image; .*\n  Expected a JPEG, PNG"),
    ("an icon", saved("ICO"), "this is not an image"),
    ("TGA", saved("TGA"), "this is not an image"),
    ("PPM", saved("PPM"), "this is not an image"),
    ("a zip", b"PK\x03\x04" + bytes(99), "this is not an image"),
    ("NULs", bytes(999), "this is not an image"),
    ("HEIC", b"\0\0\0\x18ftypheic" + bytes(99), "this is not an image"),
    ("AVIF", b"\0\0\0\x1cftypavif" + bytes(99), "this is not an image"),
    ("a Photoshop file", b"8BPS\0\x01" + bytes(99), "this is not an image"),
    ("half a PNG", saved("PNG")[: len(saved("PNG")) // 2], "damaged or cut short"),
    ("a PNG without its data", saved("PNG")[:40], "damaged or cut short"),
    ("a PNG's signature", b"\x89PNG\r\n\x1a\n", "damaged or cut short"),
    ("half a JPEG", saved("JPEG")[: len(saved("JPEG")) * 3 // 4], "damaged or cut short"),
    ("a JPEG's signature", b"\xff\xd8\xff\xe0", "damaged or cut short"),
    ("half a GIF", saved("GIF")[:-200], "damaged or cut short"),
    ("a GIF's signature", b"GIF89a", "damaged or cut short"),
    ("half a BMP", saved("BMP")[:-300], "damaged or cut short"),
    ("half a WebP", saved("WEBP")[:-30], "damaged or cut short"),
    ("a changed sum", changed(saved("PNG"), 29, b"\0\0\0\0"), "damaged or cut short"),
    ("data that is not deflated", png(data=b"\xff" * 999), "damaged or cut short"),
    ("too little data", png(data=zlib.compress(bytes(9))), "damaged or cut short"),
    ("a depth of 7 bits", png(depth=7), "damaged or cut short"),
    ("a colour that is none", png(colour=9), "damaged or cut short"),
    ("no width", png(width=0), "damaged or cut short"),
    ("no height", png(height=0), "damaged or cut short"),
    ("a GIF without a picture", b"GIF89a\x18\0\x18\0\0\0\0;", "damaged or cut short"),
    ("a WebP's signature", b"RIFF\x04\0\0\0WEBP", "damaged or cut short"),
    ("a bomb of zeros", png(60_000, 60_000, data=zlib.compress(bytes(9_999_999))), "more than 50"),
    ("four billion pixels of a PNG", png(65_535, 65_535), "more than 50,000,000 pixels"),
    ("a line of two billion", png(2**31 - 1, 1), "more than 50,000,000 pixels"),
    ("a JPEG of four billion", jpeg_of(65_000, 65_000), "more than 50,000,000 pixels"),
    ("a GIF of four billion", changed(saved("GIF"), 6, b"\xff\xff\xff\xff"), "more than 50,000,0"),
    ("a BMP of four billion", changed(saved("BMP"), 18, struct.pack("<ii", 60_000, 60_000)),
        "more than 50,000,000 pixels"),
    ("a bomb of text", inserted(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(70_000_000)))),
        "damaged or cut short"),
    ("a chunk longer than the file", inserted(chunk(b"tEXt", b"a\0b", 1 << 31)), "damaged or cut"),
]  # fmt: skip


@pytest.mark.parametrize("case", READ, ids=[case[0] for case in READ])
@pytest.mark.filterwarnings("ignore")
def test_what_can_be_read_is_read_right(tmp_path, case):
    _, data, expected, tolerance = case
    path = tmp_path / "image.txt"  # what a file is its content decides
    path.write_bytes(data)
    check_image(path)
    difference = np.abs(read_image(path).astype(int) - expected)
    assert difference.mean() <= tolerance / 4 and difference.max() <= 4 * tolerance


@pytest.mark.parametrize("case", NAMED, ids=[case[0] for case in NAMED])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_read_is_named(tmp_path, case):
    _, data, message = case
    path = tmp_path / "image.png"
    path.write_bytes(data)
    for read in (read_image, check_image):
        with pytest.raises(InputError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n  " in str(caught.value), "a remedy follows"


def test_there_are_as_many_cases_as_the_readme_says():
    assert (len(READ), len(NAMED)) == (22, 42)
