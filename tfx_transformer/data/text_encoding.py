"""The encoding of a text table, by exact rules; an error if several encodings fit.

A byte order mark decides. A file with NUL bytes may be UTF-16; a file that decodes as UTF-8 is
UTF-8. Other files are read as Shift-JIS, EUC-JP and Windows-1252. A reading counts only if the
whole file decodes in it and its characters are those of ordinary text: for Japanese a tenth of
kana, and nearly all other characters of the first level of JIS; for Windows-1252 words whose
letters all belong to the alphabet of one language. If one reading counts, it is taken; if two or
none do, an error asks the user to name the encoding.
"""

from __future__ import annotations

import codecs
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tfx_transformer.arguments import flag_for
from tfx_transformer.data import encodings
from tfx_transformer.data.sources import row_error
from tfx_transformer.errors import InputError

NAMES = {
    "utf-8": "UTF-8",
    "utf-8-sig": "UTF-8",
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16 (little endian)",
    "utf-16-be": "UTF-16 (big endian)",
    "utf-32": "UTF-32",
    "cp932": "Shift-JIS",
    "euc_jp": "EUC-JP",
    "iso2022_jp": "ISO-2022-JP",
    "cp1252": "Windows-1252",
}
# Encodings in which the bytes of each line can be counted: see `line_size`.
_SIZES = {
    "utf-8": "utf-8",
    "utf-8-sig": "utf-8",
    "utf-16": "utf-16-le",
    "utf-16-le": "utf-16-le",
    "utf-16-be": "utf-16-le",
    "utf-32": "utf-32-le",
    "cp932": "cp932",
    "euc_jp": "euc_jp",
    "cp1252": "cp1252",
    "latin-1": "latin-1",
}
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: it begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
# Encodings that a message names if no rule decides and the file decodes in them: for a text with
# many bytes beyond ASCII, and for one with few.
_DENSE = ("cp932", "euc_jp", "gb18030", "euc_kr", "big5", "cp1251", "cp1250", "mac_roman")
_SPARSE = ("cp1252", "cp1250", "mac_roman", "cp932", "euc_jp", "cp1251")
_NAMED = 4

_BLOCK = 1 << 16
# Bytes of lines beyond ASCII whose characters are checked.
_SAMPLE = 1 << 20
_SHOWN = 24

_KANA = re.compile("[ぁ-ゖァ-ヺー]")
# Ordinary Japanese characters except kanji: kana, punctuation, wide forms, signs.
_JAPANESE = re.compile("[、-〟・ーぁ-ゖァ-ヺ！-～￥※○●◎△▲▽▼□■◇◆☆★→←↑↓×÷±℃№㈱①-⑳―…‥─◯々〆〒　ｦ-ﾟ]")
_KANA_SHARE, _RARE_SHARE = 0.1, 0.05
# The kanji of the first two years of school: about four in ten kanji of ordinary text, and one in
# twelve of a text in a wrong encoding. Kana alone do not distinguish EUC-JP from GB 18030.
_COMMON = frozenset(
    "一右雨円王音下火花貝学気九休玉金空月犬見五口校左三山子四糸字耳七車手十出女小上森人水正生青夕石"
    "赤千川先早草足村大男竹中虫町天田土二日入年白八百文木本名目立力林六引羽雲園遠何科夏家歌画回会海"
    "絵外角楽活間丸岩顔汽記帰弓牛魚京強教近兄形計元言原戸古午後語工公広交光考行高黄合谷国黒今才細作"
    "算止市矢姉思紙寺自時室社弱首秋週春書少場色食心新親図数西声星晴切雪船線前組走多太体台地池知茶昼"
    "長鳥朝直通弟店点電刀冬当東答頭同道読内南肉馬売買麦半番父風分聞米歩母方北毎妹万明鳴毛門夜野友用"
    "曜来里理話私"
)
_COMMON_SHARE = 0.2
# Characters of three or four bytes in UTF-8.
_UTF8_LIKE = re.compile(rb"[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf7][\x80-\xbf]{3}")

# Letters beyond ASCII of the languages that are written in Windows-1252.
_ALPHABETS = [
    frozenset(letters + letters.upper().replace("SS", ""))
    for letters in (
        "äöüßé",  # German
        "àâäæçéèêëîïôœùûü",  # French
        "áéíóúüñïçªº",  # Spanish
        "áâãàçéêíóôõúüªº",  # Portuguese
        "àèéìíîòóùú",  # Italian
        "åäöéüàáæøô",  # Danish, Norwegian, Swedish
        "áðéíóúýþæö",  # Icelandic
        "áéíóúëïèöü",  # Dutch, Irish
        "àçèéíïòóúü",  # Catalan
        "äöåšžõü",  # Finnish, Estonian
    )
]
_WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿŠšŽžŒœŸªº\x80-\xa9«-¹»-¿×÷€‚ƒ„…†‡ˆ‰‹‘’“”•–—˜™›]+")
# Signs that are never between two letters; an apostrophe, a hyphen, a middle dot and dashes may be.
_INSIDE = re.compile(
    r"(?<=[A-Za-zÀ-ÖØ-öø-ÿŠšŽžŒœŸ])[\x80-\xa0€‚ƒ„…†‡ˆ‰‹“”•˜™›¡-©«¬®-¶¸¹»-¿×÷]"
    r"(?=[A-Za-zÀ-ÖØ-öø-ÿŠšŽžŒœŸ])"
)
_CAPITAL_INSIDE = re.compile("[a-zß-öø-ÿšžœ][À-ÖØ-ÞŠŽŒŸ]")
_UNTYPED = re.compile("[\x80-\x9fƒˆ˜†‡¤¦¨¬¯¸]")
_STRANGE_SHARE = 0.02

# For UTF-16 without a mark: characters that are not text; those beyond Latin-1; those whose two
# bytes are both ASCII characters.
_NO_TEXT = re.compile("[\0-\x08\x0e-\x1f\ue000-\uf8ff\ufffe\uffff]")
_WIDE = re.compile("[^\0-\xff]")
_PAIR_SHARE = 0.8  # of Japanese text about 0.6
_RANGES = "\\u{0:02x}20-\\u{0:02x}7e\\u{0:02x}09\\u{0:02x}0a\\u{0:02x}0d"
_PAIRS = re.compile(f"[{''.join(map(_RANGES.format, (9, 10, 13, *range(32, 127))))}]")


def decoded_name(codec: str) -> str:
    """Return the common name of an encoding."""
    return NAMES.get(codec, codec)


def line_size(codec: str) -> str | None:
    """Return the encoding in which a decoded line has as many bytes as in the file, or None."""
    return _SIZES.get(codec)


def find_encoding(file: Path, name: str, given: str = "") -> str:
    """Return the encoding of a text table, by its Python name.

    Args:
        file: the file to read.
        name: of the table in messages.
        given: the encoding that the user named; "": it is detected.

    Raises:
        InputError: `given` is not an encoding or the file does not decode in it, or several
            readings are possible.
    """
    status = os.stat(file)
    return _find(file, name, given, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _find(file: Path, name: str, given: str, *stamp: int) -> str:
    if given:
        return _check_given(file, name, given)
    with file.open("rb") as opened:
        start = opened.read(_BLOCK)
    for mark, codec in _MARKS:
        if start.startswith(mark):
            if (place := _first_error(file, codec)) is None or codec == "utf-8-sig":
                return codec
            what = f"it begins as {decoded_name(codec)}, but byte {place:,} is not in it."
            raise row_error(name, what, "The place is damaged: write the file anew.")
    has_nul, has_escape = _holds(file, b"\0"), _holds(file, b"\x1b$")
    if has_nul and (codec := _utf16(file)):
        return codec
    if _first_error(file, "utf-8") is None:
        japanese = has_escape and _first_error(file, "iso2022_jp") is None
        return "iso2022_jp" if japanese else "utf-8"
    if encodings.container(start) or has_nul or encodings.is_mostly_utf8(_sample(file)):
        return "utf-8"  # it is damaged: reading it reports the place
    return _choose(file, name)


def _check_given(file: Path, name: str, given: str) -> str:
    try:
        codec = codecs.lookup(given).name
        b"".decode(codec)
        codecs.getincrementaldecoder(codec)
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{flag_for('encoding') or 'encoding'} {given}: there is no encoding of this name.\n"
            "  Expected one such as utf-8, cp932 (Shift-JIS), euc_jp, utf-16, cp1252 (Windows)."
        ) from error
    codec = {"shift_jis": "cp932", "iso8859-1": "latin-1"}.get(codec, codec)
    with file.open("rb") as opened:
        start = opened.read(4)
    if codec == "utf-8" and start.startswith(codecs.BOM_UTF8):
        codec = "utf-8-sig"
    if codec in ("utf-16-le", "utf-16-be") and start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        codec = "utf-16"
    if (place := _first_error(file, codec)) is not None:
        flag = flag_for("encoding") or "the encoding"
        what = f"byte {place:,} of the file is not {decoded_name(codec)}, which {flag} names."
        remedy = f"Leave {flag} out, or name another one."
        raise row_error(name, what, remedy)
    return codec


def _choose(file: Path, name: str) -> str:
    """Return the one of Shift-JIS, EUC-JP and Windows-1252 that reads as ordinary text."""
    sample = _sample(file)
    decodes = [c for c in ("cp932", "euc_jp", "cp1252") if _first_error(file, c) is None]
    ordinary = [codec for codec in decodes if _is_ordinary(sample.decode(codec, "ignore"), codec)]
    like_utf8 = sum(map(len, _UTF8_LIKE.findall(sample)))
    beyond = sum(byte > 127 for byte in sample)
    if like_utf8 > 0.8 * beyond or (not ordinary and (like_utf8 > 0.4 * beyond or beyond < 3)):
        return "utf-8"  # and damaged
    if len(ordinary) == 1:
        return ordinary[0]
    is_dense = 3 * sum(byte > 126 for byte in sample) > len(sample)
    others = (c for c in (_DENSE if is_dense else _SPARSE) if _first_error(file, c) is None)
    possible = ordinary or [c for c in others if not _NO_TEXT.search(sample.decode(c, "ignore"))]
    if not possible:
        return "utf-8"
    flag = flag_for("encoding")
    readings = [
        f"{decoded_name(codec)}{f' ({flag} {codec})' if flag else ''}, in which it reads "
        f"{_reading(sample, codec)!r}"
        for codec in possible[:_NAMED]
    ]
    remedy = f"Name it: {flag} NAME, in Python tfx.data.TableFile(path, encoding=...)."
    raise row_error(
        name,
        "the encoding is not certain.",
        "It may be "
        + ",\nor ".join(readings)
        + f".\n{remedy if flag else 'Convert the file to UTF-8.'}"
        + "\nIf a place is damaged, write it anew.",
    )


def _is_ordinary(text: str, codec: str) -> bool:
    """Return True if a text has the characters of a language that its encoding is used for."""
    if codec == "cp1252":
        return _is_western(text)
    beyond = [character for character in text if character > "\x7f"]
    rare = sum(not _JAPANESE.match(c) and not _is_first_level(c) for c in beyond)
    kana = len(_KANA.findall(text))
    if kana < _KANA_SHARE * len(beyond) or rare > _RARE_SHARE * len(beyond):
        return False
    if codec != "euc_jp":
        return True
    chinese = text.encode("euc_jp", "ignore").decode("gb18030", "ignore")
    here, there = _common_share(text), _common_share(chinese)
    return here >= _COMMON_SHARE and (here > there or here == 1.0)


def _common_share(text: str) -> float:
    """Return the share of common kanji among all kanji of a text; 1 if it has no kanji."""
    kanji = re.findall("[一-鿿]", text)
    return sum(character in _COMMON for character in kanji) / len(kanji) if kanji else 1.0


def _is_first_level(character: str) -> bool:
    """Return True for one of the 2,965 kanji in the first level of JIS X 0208."""
    try:
        data = character.encode("euc_jp")
    except UnicodeEncodeError:
        return False
    return len(data) == 2 and 0xB0 <= data[0] <= 0xCF


def _is_western(text: str) -> bool:
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    return sum(map(_is_strange, words)) <= _STRANGE_SHARE * len(words)


def _is_strange(word: str) -> bool:
    """Return True if a word is not spelled with the letters of one language."""
    if _INSIDE.search(word) or _CAPITAL_INSIDE.search(word) or _UNTYPED.search(word):
        return True
    letters = {letter for letter in word if letter.isalpha() and letter > "\x7f"}
    return not any(letters <= alphabet for alphabet in _ALPHABETS)


def _reading(sample: bytes, codec: str) -> str:
    """Return the text around the first byte beyond ASCII."""
    text = sample.decode(codec, "ignore")
    first = next((i for i, character in enumerate(text) if character > "\x7f"), 0)
    line = text[text.rfind("\n", 0, first) + 1 :].partition("\n")[0]
    return line.rstrip("\r")[:_SHOWN]


def _sample(file: Path) -> bytes:
    """Return the lines that are not ASCII, up to a megabyte."""
    found, size = [], 0
    with file.open("rb") as opened:
        while line := opened.readline(_BLOCK):
            if not line.isascii():
                found.append(line)
                size += len(line)
            if size > _SAMPLE:
                break
    return b"".join(found)


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while data := opened.read(_BLOCK):
            yield data


def _holds(file: Path, wanted: bytes) -> bool:
    last = b""
    for data in _blocks(file):
        if wanted in last + data:
            return True
        last = data[-len(wanted) :]
    return False


def _first_error(file: Path, codec: str) -> int | None:
    """Return the approximate place of the first byte that is not text in an encoding, or None."""
    decoder = codecs.getincrementaldecoder(codec)()
    place = 0
    try:
        for data in _blocks(file):
            decoder.decode(data)
            place += len(data)
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        return place + getattr(error, "start", 0)
    return None


def _utf16(file: Path) -> str | None:
    """Return UTF-16 in the only byte order in which a file without a mark is text, else None."""
    found = [codec for codec in ("utf-16-le", "utf-16-be") if _is_text(file, codec)]
    return found[0] if len(found) == 1 else None


def _is_text(file: Path, codec: str) -> bool:
    """Return True if a file decodes to lines without control or private characters, and is not
    ASCII text damaged by NUL bytes, in which all wide characters are pairs of ASCII characters."""
    with file.open("rb") as opened:
        raw = re.split(rb"[\r\n]", opened.read(_BLOCK).lstrip(b"\r\n\0"))[0]
    if b"\0" not in raw:
        return False
    decoder = codecs.getincrementaldecoder(codec)()
    lines = wide = pairs = 0
    first = ""
    try:
        for data in (*_blocks(file), b""):
            text = decoder.decode(data, final=not data)
            if _NO_TEXT.search(text):
                return False
            first = first or text.lstrip("\r\n")
            lines += text.count("\n") + text.count("\r")
            wide += len(_WIDE.findall(text))
            pairs += len(_PAIRS.findall(text))
    except UnicodeError:
        return False
    header = re.split("[\r\n]", first)[0]
    return lines > 0 and re.search("[ -~]", header) is not None and pairs <= _PAIR_SHARE * wide
