"""Arguments that a person typed: texts, and files that would be taken for texts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from tfx_transformer.errors import InputError

TABLES = (".csv", ".tsv", ".tab", ".xlsx", ".xls", ".ods", ".parquet", ".jsonl", ".json", ".sqlite",
          ".db", ".txt", ".md", ".gz", ".zip")  # fmt: skip
IMAGES = (".png", ".jpg", ".jpeg", ".jfif", ".heic", ".heif", ".avif", ".webp", ".gif", ".bmp",
          ".tif", ".tiff", ".svg")  # fmt: skip
OTHERS = (".pdf", ".doc", ".docx", ".odt", ".rtf", ".html", ".htm", ".xml", ".eml", ".pptx",
          ".mp3", ".wav", ".mp4", ".mov")  # fmt: skip
_ENDINGS = TABLES + IMAGES + OTHERS

# How a path begins that leaves no doubt; with a blank in it, it may be a sentence.
_PATH = re.compile(r"(\.{1,2}[/\\]|~[/\\]|[A-Za-z]:[/\\]|/[^/\s]+/)[^\s]*")
# Longer names exist on no system.
_LONGEST = 4096


def looks_like_file(text: str) -> bool:
    """Return True if a text is more likely the name of a file or folder: it exists, ends as files
    do and has no blanks, or begins as a path."""
    if not text.strip() or len(text) > _LONGEST or "\n" in text or "\0" in text:
        return False
    if os.path.exists(text):
        return True
    if "://" in text or re.search(r"\s", text):
        return False
    return text.lower().endswith(_ENDINGS) or bool(_PATH.fullmatch(text))


def is_image_name(text: str) -> bool:
    """Return True if a name ends as those of images do."""
    return text.lower().endswith(IMAGES)


def refuse_files(texts: Iterable[str], remedy: str, as_text: bool = False) -> None:
    """Refuses names of files where texts are expected.

    Args:
        remedy: how the texts in a file are read.
        as_text: the texts are meant as they are.

    Raises:
        InputError: the first text that looks like a file is named.
    """
    found = None if as_text else next(filter(looks_like_file, texts), None)
    if found is None:
        return
    if is_image_name(found):
        remedy = "This model reads texts, not images: use one that `run image_classification` made."
    kind = "a folder" if os.path.isdir(found) else "a file"
    raise InputError(
        f"{found!r} looks like {kind}, and would be taken for a text.\n"
        f"  {remedy}\n"
        "  If it is a text: pass --as-text."
    )
