"""Advice on files that are not text in UTF-8: what they are, and lines of Python to convert them.

The lines run on every system, unlike `iconv`, never write over a file, and fail where they would
have to drop or replace anything. An encoding is named only if the whole file decodes in it.
"""

from __future__ import annotations

import codecs
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

# What errors="surrogateescape" makes of the bytes that are not UTF-8.
NOT_UTF8 = re.compile("[\udc80-\udcff]")

_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")
# What text in Windows-1252 does not hold, but damaged text does: signs that nobody types, and
# capitals in the middle of a word.
_NO_WESTERN = re.compile("[\x80-\x9fÿ¤¦¬¯¸]|[a-zß-ö][À-ÖØ-Þ]")

_SIGNATURES = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: it begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NAMES = {
    "cp1252": "Windows-1252 (Latin-1)",
    "cp932": "Shift-JIS (CP932)",
    "euc_jp": "EUC-JP",
}
_UNPACK = {"gzip": b"\x1f\x8b", "bz2": b"BZh", "lzma": b"\xfd7zXZ\0"}
_SPREADSHEET = (
    "open it in a spreadsheet program and save it as 'CSV UTF-8'.\n"
    "If that separates cells by semicolons, as it does where the system's list separator is one,\n"
    "the message about the new file has lines that convert it"
)
_OTHERS = (
    (b"\xd0\xcf\x11\xe0", f"an Excel workbook: {_SPREADSHEET}"),
    (b"PAR1", "a Parquet file: read it with pandas, and write it by to_csv(..., index=False)"),
    (b"SQLite format 3\0", "a database of SQLite: export the table as CSV"),
    (b"%PDF", "a PDF: copy its text into a text file"),
    (b"\x89PNG", "an image, not text"),
    (b"\xff\xd8\xff", "an image, not text"),
)
_WORKBOOK = (b"xl/", b"opendocument.spreadsheet")

_START = 65_536
# Characters that a message shows on each side of the first wrong byte, decoded.
_SHOWN = 20


def advise(path: Path, offset: int, table: bool = False) -> str:
    """Return advice on a file that is not text in UTF-8: what it may be, and how to convert it.

    Args:
        offset: of the first byte that is wrong.
        table: True if the lines have cells; the converted file separates them by commas.
    """
    with path.open("rb") as file:
        start = file.read(_START)
        file.seek(max(0, offset - _START))
        sample = file.read(2 * _START)
    if found := container(start, path):
        return found
    if is_mostly_utf8(sample):
        return "The text around it is UTF-8, so this place is damaged: write it anew."
    codec = next((codec for codec in _candidates(start, sample) if _decodes(path, codec)), None)
    if codec is None:
        lines = conversion(path, "ENCODING")
        return (
            "Text in UTF-8 is expected. If this place is damaged, write it anew. If the file is\n"
            "in another encoding, convert it in Python, with its name in place of ENCODING:\n"
            f"{lines}"
        )
    name = _NAMES.get(codec, codec.upper())
    shown = (
        "" if codec.startswith("utf") else f", in which it reads {_reading(path, offset, codec)!r}"
    )
    lines = conversion(path, codec, _separator(start, codec) if table else ",")
    return (
        f"Text in UTF-8 is expected. The encoding looks like {name}{shown}.\n"
        f"If that is right, convert the file in Python:\n{lines}\n"
        "If not, the place is damaged: write it anew."
    )


def advise_ending(path: Path) -> str:
    """Return advice on how to turn a file of records into a .csv, .json or .jsonl file."""
    with path.open("rb") as file:
        start = file.read(_START)
    if found := container(start, path):
        return found
    text = start.decode("utf-8-sig", "ignore").lstrip()
    if text.startswith(("[", "{")):
        return (
            "It looks like JSON: let its name end with .json if it is one array, with .jsonl if\n"
            "every line is an object."
        )
    separator = _separator(start, "utf-8-sig")
    if separator != ",":
        lines = conversion(path.with_suffix(".csv"), separator=separator, old=path)
        return f"It looks like a table, separated by {separator!r}. Convert it in Python:\n{lines}"
    if "," in text.partition("\n")[0]:
        return "It looks like a table, separated by commas: let its name end with .csv."
    return "Put its questions and answers into the columns instruction and output of a CSV file."


def conversion(
    path: Path, codec: str = "utf-8-sig", separator: str = ",", old: Path | None = None
) -> str:
    """Return lines of Python that write a file in UTF-8, with commas in place of its separator.

    Args:
        path: the file; with `old`, only the new file is named after it.
        codec: encoding of the file, by its Python name.
        separator: between its cells.
        old: the file, if not `path`.
    """
    source, new = str(old or path), _free_name(path, "commas" if codec == "utf-8-sig" else "utf8")
    if separator == ",":
        return (
            f"text = open({source!r}, 'rb').read().decode({codec!r})\n"
            f"open({new!r}, 'xb').write(text.encode())"
        )
    return (
        "import csv\n"
        f"file = open({source!r}, encoding={codec!r}, newline='')\n"
        f"rows = list(csv.reader(file, delimiter={separator!r}, strict=True))\n"
        f"file = open({new!r}, 'x', encoding='utf-8', newline='')\n"
        "csv.writer(file).writerows(rows)\n"
        "file.close()"
    )


def _free_name(path: Path, kind: str) -> str:
    """A name in the current folder that no file has."""
    for number in itertools.count(1):
        name = f"{path.stem}.{kind}{f'-{number}' if number > 1 else ''}{path.suffix}"
        if not os.path.lexists(name):
            return name
    raise AssertionError


def container(start: bytes, path: Path = Path("table.csv")) -> str | None:
    """Return the kind of a file that is not text, by its first bytes, and how to make it text; None
    for text."""
    for module, signature in _UNPACK.items():
        if start.startswith(signature):
            inner = (
                path if path.suffix.lower() not in (".gz", ".bz2", ".xz") else path.with_suffix("")
            )
            return (
                f"It looks like a packed file ({module}). Unpack it, for example in Python:\n"
                f"import {module}\n"
                f"data = {module}.open({str(path)!r}).read()\n"
                f"open({_free_name(inner, 'unpacked')!r}, 'xb').write(data)"
            )
    if start.startswith(b"PK\x03\x04"):
        if any(mark in start for mark in _WORKBOOK):
            return f"It looks like a workbook: {_SPREADSHEET}."
        return "It looks like a zip file: unpack it, and name one of the files in it."
    found = next((what for signature, what in _OTHERS if start.startswith(signature)), None)
    return f"It looks like {found}." if found else None


def is_mostly_utf8(sample: bytes) -> bool:
    """Return whether most characters beyond ASCII are UTF-8."""
    high = [character for character in sample.decode(errors="surrogateescape") if character > "~"]
    return 2 * sum(1 for character in high if NOT_UTF8.match(character)) < len(high)


def _candidates(start: bytes, sample: bytes) -> Iterator[str]:
    """Yield the encodings that a file may be in if not UTF-8, the likeliest first.

    Args:
        start: first bytes of the file.
        sample: bytes around the first wrong one.
    """
    for signature, codec in _SIGNATURES:
        if start.startswith(signature):
            yield codec
            return
    if b"\0" in start[:4]:
        yield "utf-16-be" if start.startswith(b"\0") else "utf-16-le"
        return
    kana = {c: len(_KANA.findall(sample.decode(c, errors="ignore"))) for c in ("cp932", "euc_jp")}
    yield from sorted(filter(kana.get, kana), key=kana.__getitem__, reverse=True)
    # Scripts other than Latin have a byte over 127 for nearly every letter.
    is_latin = 3 * sum(byte > 126 for byte in sample) < len(sample)
    if is_latin and not _NO_WESTERN.search(sample.decode("cp1252", "replace")):
        yield "cp1252"


def _separator(start: bytes, codec: str) -> str:
    """Return the separator of a table's cells: a comma, or what its first line has instead."""
    line = start.decode(codec, "ignore").lstrip().partition("\n")[0]
    return next((mark for mark in (",", ";", "\t", "|") if mark in line), ",")


def _decodes(path: Path, codec: str) -> bool:
    """Return whether all of a file is text in an encoding."""
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        for data in _blocks(path):
            decoder.decode(data)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            yield data


def _reading(path: Path, offset: int, codec: str) -> str:
    """Return the text around a byte in an encoding: a few characters of its line."""
    with path.open("rb") as file:
        file.seek(max(0, offset - _START))
        before = file.read(min(offset, _START)).rpartition(b"\n")[2]
        after = file.read(_START).partition(b"\n")[0]
    left, right = before.decode(codec, "replace"), after.decode(codec, "replace").rstrip("\r")
    return left[-_SHOWN:] + right[:_SHOWN]
