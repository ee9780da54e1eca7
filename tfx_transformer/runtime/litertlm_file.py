"""`.litertlm` files from any source: LiteRT-LM ends the process if a file is cut short, so files
are checked before it opens them.

The format: 32 bytes (the text LITERTLM, the version, the end of the header), the header (a
flatbuffer that lists sections), and the sections.
https://github.com/google-ai-edge/LiteRT-LM/blob/main/schema/core/litertlm_header_schema.fbs
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib

from tfx_transformer import json_files
from tfx_transformer.errors import InputError
from tfx_transformer.runtime import model_file
from tfx_transformer.runtime.flatbuffer import Table, root

_MAGIC, _MAJOR = b"LITERTLM", 1
_BEGIN = 32  # first byte of the header
_MAX_HEADER = 1 << 20

# Kinds of sections in our files, by their number in the schema.
_MODEL, _METADATA, _TOKENIZER, _EMBEDDING_METADATA = 3, 5, 6, 8
_KINDS = {_MODEL, _METADATA, _TOKENIZER, _EMBEDDING_METADATA}
_MAX_METADATA = 1 << 20


def check(file: str | os.PathLike, embeds: bool = False) -> None:
    """Raise if LiteRT-LM cannot open a `.litertlm` file safely.

    Args:
        file: its path.
        embeds: True if it must be of an embedder, False if of a model that writes.

    Raises:
        InputError: the file is cut short or damaged, has parts that `export.litertlm` never writes,
            or is of another kind of model.
    """
    try:
        with (
            open(file, "rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            _check(data, file, embeds)
    except (ValueError, struct.error, zlib.error, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{file} is not a file for LiteRT-LM that can be run: {error}.\n"
            "  Copy the file again, or export it again --to litertlm."
        ) from error


def _check(data: mmap.mmap, file: str | os.PathLike, embeds: bool) -> None:
    magic, major, _, _, _, end = struct.unpack_from("<8s4IQ", data, 0)
    if magic != _MAGIC or major != _MAJOR:
        raise ValueError(f"it begins with {data[:12]!r}")
    if not _BEGIN < end <= min(len(data), _BEGIN + _MAX_HEADER):
        raise ValueError(f"its header ends at byte {end:,} of {len(data):,}")
    kinds = []
    for start, stop, kind in _sections(data[_BEGIN:end]):
        if not end <= start <= stop <= len(data):
            raise ValueError(f"a section is from byte {start:,} to {stop:,} of {len(data):,}")
        if kind not in _KINDS:
            raise ValueError(f"it has a section of kind {kind}, which no model here needs")
        _check_section(data[start:stop], kind, file)
        kinds.append(kind)
        end = stop
    for kind, name in {_MODEL: "model", _TOKENIZER: "tokenizer"}.items():
        if kind not in kinds:
            raise ValueError(f"it has no {name}")
    if embeds != (_EMBEDDING_METADATA in kinds):
        raise ValueError(f"it is of {'a model that writes' if embeds else 'an embedder'}")


def _sections(header: bytes) -> list[tuple[int, int, int]]:
    """Return begin, end and kind of every section, in the order of the file."""
    metadata = root(header)
    if not metadata.at(0) or not metadata.at(1):
        raise ValueError("its header is not complete")
    for entry in metadata.table(0).tables(0):
        _check_entry(entry)
    sections = []
    for section in metadata.table(1).tables(0):
        for entry in section.tables(0):
            _check_entry(entry)
        sections.append((section.long(1), section.long(2), section.byte(3)))
    return sorted(sections)


def _check_entry(entry: Table) -> None:
    """Read a key and its value, so that an offset out of the header raises."""
    entry.text(0)
    if entry.at(2):
        entry.table(2)


def _check_section(content: bytes, kind: int, file: str | os.PathLike) -> None:
    if kind == _MODEL:
        model_file.check_content(content, f"{file}: its model")
    elif kind == _TOKENIZER:
        _check_tokenizer(content)
    elif len(content) > _MAX_METADATA:
        raise ValueError("its metadata is larger than that of any model")


def _check_tokenizer(content: bytes) -> None:
    """Check a tokenizer: a length, and a `tokenizer.json` of that length, deflated."""
    (length,) = struct.unpack_from("<Q", content, 0)
    if length > json_files.MAX_BYTES:
        raise ValueError("its tokenizer is larger than that of any model")
    inflater = zlib.decompressobj()
    text = inflater.decompress(content[8:], length + 1)
    if len(text) != length or not inflater.eof:
        raise ValueError("its tokenizer is damaged")
    tree = json_files.parse(text.decode())
    json.dumps(tree).encode()
