"""Images that are small as files and large when decoded; `limited.py` reads and resizes them, which
may answer or refuse, in time and memory."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tfx_transformer.images import read_image, resize

SECONDS = 1.0
MAY_ANSWER = True

# Bits and kind of colour of a PNG, and the channels that it has.
DEPTHS = {
    "1 bit": (1, 0, 1),
    "8 bits": (8, 0, 1),
    "16 bits": (16, 0, 1),
    "palette": (8, 3, 1),
    "colour": (8, 2, 3),
    "colour, 16 bits": (16, 2, 3),
    "grey, transparent": (8, 4, 2),
    "transparent": (8, 6, 4),
}
# Sides as long as are read, longer ones, and near the most pixels that are read.
SIDES = (
    (1, 1),
    (1_000_000, 1),
    (1, 1_000_000),
    (50_000_000, 1),
    (32_768, 1),
    (1, 32_768),
    (32_768, 1_500),
    (1_500, 32_768),
    (7_000, 7_100),
    (2**31 - 1, 1),
)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: str, more: bytes = b"") -> bytes:
    """A PNG of zeros; of one that is too large only the beginning."""
    bits, colour, channels = DEPTHS[depth]
    row = 1 + (width * bits * channels + 7) // 8
    deflater = zlib.compressobj(9)
    packed = deflater.compress(bytes(min(row * height, 420_000_000)))
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    palette = chunk(b"PLTE", bytes(range(9))) if colour == 3 else b""
    data = chunk(b"IDAT", packed + deflater.flush())
    return b"\x89PNG\r\n\x1a\n" + start + palette + more + data + chunk(b"IEND", b"")


def saved(kind: str, mode: str, size: tuple[int, int], **options) -> bytes:
    data = io.BytesIO()
    Image.new(mode, size).save(data, kind, **options)
    return data.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    f"PNG of {width} x {height}, {depth}": lambda w=width, h=height, d=depth: png(w, h, d)
    for width, height in SIDES
    for depth in DEPTHS
}
FILES |= {
    f"{kind} of {width} x {height}, {mode}": lambda k=kind, m=mode, w=width, h=height: saved(
        k, m, (w, h)
    )
    for kind, modes in {"JPEG": ("L", "CMYK"), "BMP": ("1", "RGB"), "GIF": ("P",)}.items()
    for mode in modes
    for width, height in ((32_768, 1), (1, 65_500), (7_000, 7_100))
}
FILES |= {
    "WebP of 16,383 x 1": lambda: saved("WEBP", "RGB", (16_383, 1)),
    "WebP of 4,999 x 4,999": lambda: saved("WEBP", "RGB", (4_999, 4_999)),
    "PNG with a profile of 60 MB": lambda: png(
        9, 9, "colour", chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(60_000_000)))
    ),
    "PNG with texts of 60 MB": lambda: png(
        9, 9, "colour", chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(60_000_000)))
    ),
    "PNG with 100,000 texts": lambda: png(9, 9, "colour", chunk(b"tEXt", b"a\0b") * 100_000),
}


def _case(make: Callable[[], bytes]) -> Callable[[Path], Callable[[], object]]:
    def prepare(folder: Path) -> Callable[[], object]:
        file = folder / "image"
        file.write_bytes(make())
        return lambda: resize(read_image(file), 224)

    return prepare


CASES = {name: _case(make) for name, make in FILES.items()}
