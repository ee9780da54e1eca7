"""Image files of every kind and kinds of damage, made here with Pillow or byte by byte."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tfx_transformer.errors import InputError
from tfx_transformer.images import MAX_PIXELS, check_image, image_size, read_image, resize

FORMATS = ["JPEG", "PNG", "GIF", "BMP", "WEBP"]


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width=13, height=11):
    """An image that no code compresses to a few bytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), "uint8")
    return Image.fromarray(pixels)


def png_header(width: int, height: int) -> bytes:
    """A PNG of that size, cut off where its pixels would begin."""
    data = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + data + struct.pack(">I", zlib.crc32(data))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 0x7FFFFFFF) + b"IDAT"


def message_of(source, **options) -> str:
    """What `read_image` raises; `check_image` must raise the same."""
    with pytest.raises(InputError) as caught:
        read_image(source, **options)
    message = str(caught.value)
    first, *remedy = message.split("\n")
    name = "the image" if isinstance(source, bytes) else str(source)
    assert first.startswith(f"{name}: "), "the first line names the file"
    assert remedy and all(line.startswith("  ") for line in remedy), "an indented remedy follows"
    with pytest.raises(InputError) as caught:
        check_image(source, **options)
    assert str(caught.value) == message
    return message


# What is read


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_pixels_of_lossless_files(tmp_path, kind):
    path = tmp_path / "image"
    path.write_bytes(saved(noise(), kind))
    pixels = read_image(path)
    assert (pixels.shape, pixels.dtype) == ((11, 13, 3), "uint8")
    assert pixels.tolist() == np.asarray(noise()).tolist()
    assert pixels.tolist() == read_image(path.read_bytes()).tolist()
    assert image_size(path) == (13, 11)
    check_image(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_kind_is_read_whatever_its_name_says(tmp_path, kind):
    path = tmp_path / "image.jpg"
    path.write_bytes(saved(Image.new("RGB", (13, 11), (200, 100, 0)), kind))
    assert read_image(path).shape == (11, 13, 3)
    assert np.abs(read_image(path).astype(int) - (200, 100, 0)).max() <= 2
    check_image(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(noise(), kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    pixels = read_image(file)
    assert pixels.shape == ((13, 11, 3) if 5 <= orientation <= 8 else (11, 13, 3))
    assert pixels.tolist() == np.asarray(upright).tolist()
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("exif", [b"no TIFF header", b"MM\0\x2a\xff\xff\xff\xff", b""])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_cost_the_image(exif):
    file = saved(noise(), exif=b"Exif\0\0" + exif)
    assert read_image(file).tolist() == np.asarray(noise()).tolist()


def test_palette_with_transparency():
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    opaque = [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    assert read_image(saved(image)).tolist() == [opaque]
    see_through = saved(image, transparency=1)
    assert read_image(see_through).tolist() == [[opaque[0], [255] * 3, opaque[2]]]
    # An alpha for every colour: 90 of 255 is what colour 0 leaves of the white.
    half = saved(image, transparency=bytes([165, 255, 0]))
    ((r, g, b),) = [[round(c * 165 / 255 + 90) for c in opaque[0]]]
    assert read_image(half).tolist() == [[[r, g, b], opaque[1], [255] * 3]]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 51), (255, 204, 204)),
        ("RGBA", (1, 2, 3, 255), (1, 2, 3)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (0, 51), (204, 204, 204)),
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("1", 0, (0, 0, 0)),
    ],
)
def test_grey_and_transparent(mode, colour, expected):
    pixels = read_image(saved(Image.new(mode, (3, 2), colour)))
    assert pixels.tolist() == [[list(expected)] * 3] * 2


def test_a_colour_that_means_transparent():
    file = saved(Image.new("RGB", (1, 1), (1, 2, 3)), transparency=(1, 2, 3))
    assert read_image(file).tolist() == [[[255] * 3]]


def test_grey_of_16_bits():
    # v / 257, rounded: 65,535 is white as 255 is.
    grey = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], "uint16")
    pixels = read_image(saved(Image.fromarray(grey)))
    assert pixels[0].tolist() == [[v] * 3 for v in (0, 0, 1, 1, 128, 254, 255, 255)]


@pytest.mark.parametrize(
    ("ink", "expected"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 255, 0), (255, 0, 0)),
        ((0, 0, 0, 255), (0, 0, 0)),
    ],
)
def test_cmyk(ink, expected):
    pixels = read_image(saved(Image.new("CMYK", (8, 8), ink), "JPEG"))
    assert np.abs(pixels.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation(kind):
    frames = [Image.new("RGB", (5, 7), colour) for colour in ("red", "lime", "blue")]
    file = saved(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert Image.open(io.BytesIO(file)).n_frames == 3
    assert read_image(file).tolist() == [[[255, 0, 0]] * 5] * 7


def test_large_but_legal():
    file = saved(Image.new("1", (7057, 7079), 1))
    assert MAX_PIXELS > 7057 * 7079
    pixels = read_image(file)
    assert pixels.shape == (7079, 7057, 3)
    assert pixels.min() == 255


# What is refused


def test_no_image(tmp_path):
    path = tmp_path / "dog.jpg"
    path.write_text("woof woof, said the dog")
    assert "this is not an image; it begins with b'woof woof, said '" in message_of(path)
    assert "this is not an image" in message_of(path.read_bytes())
    # Pillow reads these too, but with programs and code that nobody should feed unknown files.
    for kind in ("EPS", "TIFF", "PPM", "ICO"):
        assert "this is not an image" in message_of(saved(noise(), kind))


def test_no_bytes(tmp_path):
    path = tmp_path / "dog.png"
    path.touch()
    assert "the file is empty" in message_of(path)
    assert "the file is empty" in message_of(b"")


def test_no_file(tmp_path):
    assert "No such file" in message_of(tmp_path / "dog.png")
    assert "Is a directory" in message_of(tmp_path)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_cut_short(tmp_path, kind, share):
    path = tmp_path / "dog.jpg"
    whole = saved(noise(61, 67), kind)
    path.write_bytes(whole[: int(share * len(whole))])
    message_of(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_a_header_cut_short(kind):
    assert "the image is damaged or cut short" in message_of(saved(noise(), kind)[:9])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("width", "height"), [(50_000, 50_000), (10_000, 10_000), (5_003, 10_007), (2**31 - 1, 1)]
)
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, width, height):
    path = tmp_path / "dog.png"
    path.write_bytes(png_header(width, height))
    read_image(saved(noise()))  # Pillow loads its readers when it opens the first file
    tracemalloc.start()
    try:
        assert "more than 50,000,000 pixels" in message_of(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_the_bound_is_the_callers():
    file = saved(noise(13, 11))
    assert read_image(file, max_pixels=143).shape == (11, 13, 3)
    assert "more than 142 pixels" in message_of(file, max_pixels=142)


def test_a_size_of_nothing():
    message_of(png_header(0, 5))


@given(
    st.sampled_from(FORMATS).map(lambda kind: saved(noise(), kind)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12),
    st.floats(0.05, 1),
)
@settings(max_examples=300)
def test_any_damage_is_survived_or_named(file, changes, share):
    damaged = bytearray(file)
    for place, byte in changes:
        damaged[int(place * len(damaged))] = byte
    try:
        pixels = read_image(bytes(damaged[: int(share * len(damaged))]), max_pixels=1_000_000)
    except InputError as error:
        assert str(error).startswith("the image: ")  # any other exception fails
    else:
        assert pixels.dtype == "uint8"
        assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size


# Resizing


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (7, 11, 5),
        (5, 3, 13),
        (3, 17, 11),
        (1, 1, 7),
        (23, 29, 1),
        (31, 32, 32),
        (521, 37, 13),  # more rows than are taken at a time
        (259, 771, 257),
    ],
)
def test_resize_is_that_of_tensorflow(height, width, size):
    import tensorflow as tf

    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), "uint8")
    resized = resize(image, size)
    assert (resized.shape, resized.dtype) == ((size, size, 3), "float32")
    expected = tf.image.resize(image, (size, size), antialias=True).numpy()
    np.testing.assert_allclose(resized, expected, atol=1e-2)


def test_resize_by_hand():
    # Halved: each pixel weighs its neighbours 1, 3, 3, 1 (of 8); at the edge 3, 3, 1 (of 7).
    row = np.array([0, 80, 160, 240], "uint8")
    image = np.tile(row[None, :, None], (4, 1, 3))
    left = (3 * 0 + 3 * 80 + 160) / 7
    np.testing.assert_allclose(resize(image, 2)[0, :, 0], [left, 240 - left], rtol=1e-6)


def test_the_same_size_changes_nothing():
    image = np.asarray(noise(11, 11))
    assert resize(image, 11).tolist() == image.tolist()
    assert resize(image, 11).dtype == "float32"
