"""Texts on the command line, names of files that would be read as texts, and flags in messages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from tfx_transformer.errors import InputError

# The flags of the running command, such as "--column"; None: no command is running.
_flags: frozenset[str] | None = None

TABLES = (".csv", ".tsv", ".tab", ".xlsx", ".xls", ".ods", ".parquet", ".jsonl", ".json", ".sqlite",
          ".db", ".txt", ".md", ".gz", ".zip")  # fmt: skip
IMAGES = (".png", ".jpg", ".jpeg", ".jfif", ".heic", ".heif", ".avif", ".webp", ".gif", ".bmp",
          ".tif", ".tiff", ".svg")  # fmt: skip
OTHERS = (".pdf", ".doc", ".docx", ".odt", ".rtf", ".html", ".htm", ".xml", ".eml", ".pptx",
          ".mp3", ".wav", ".mp4", ".mov")  # fmt: skip
_ENDINGS = TABLES + IMAGES + OTHERS

# The beginning of a path; a text with blanks may be a sentence instead.
_PATH = re.compile(r"(\.{1,2}[/\\]|~[/\\]|[A-Za-z]:[/\\]|/[^/\s]+/)[^\s]*")
# Longer names exist on no system.
_LONGEST = 4096


def use_flags(flags: Iterable[str] | None) -> None:
    """Note the flags of the command that runs, which messages may name; None: it has ended."""
    global _flags
    _flags = None if flags is None else frozenset(flags)


def flag_for(setting: str) -> str:
    """Return the flag of the running command for a setting of reading, such as "--skip-bad-rows"
    for "skip_bad_rows"; "" if the command has none. While no command runs, any setting has one.

    A command whose flag of that name means something else has a flag with "table-" in front.
    """
    name = setting.replace("_", "-")
    if _flags is None:
        return f"--{name}"
    return next((flag for flag in (f"--table-{name}", f"--{name}") if flag in _flags), "")


def naming(*settings: str) -> str:
    """Return how settings are given, such as "--column NAME (column=...)"; if the running command
    does not have such flags, as "column=..."."""
    values = ", ".join(f"{setting}=..." for setting in settings)
    flags = [f"{flag} NAME" for flag in map(flag_for, settings) if flag]
    return f"{' or '.join(flags)} ({values})" if flags else values


def looks_like_file(text: str) -> bool:
    """Return True if a text is probably the name of a file or folder: it exists, has the ending of
    a file and no blanks, or begins like a path."""
    if not text.strip() or len(text) > _LONGEST or "\n" in text or "\0" in text:
        return False
    if os.path.exists(text):
        return True
    if "://" in text or re.search(r"\s", text):
        return False
    return text.lower().endswith(_ENDINGS) or bool(_PATH.fullmatch(text))


def is_image_name(text: str) -> bool:
    """Return True if a name has the ending of an image file."""
    return text.lower().endswith(IMAGES)


def check_search(texts: Sequence[str], count: int, command: str) -> None:
    """Check the arguments of a search.

    Args:
        texts: the texts to search for.
        count: number of rows to find.
        command: an example for the message.

    Raises:
        InputError: there is no text, a text is empty, or the count is below 1.
    """
    if not texts or not all(map(str.strip, texts)):
        what = "a text to search for is empty" if texts else "there is no text to search for"
        raise InputError(f"{what}.\n  Give a text: {command}")
    if count < 1:
        raise InputError(f"--count is {count}.\n  Expected 1 or more.")


def refuse_files(texts: Iterable[str], remedy: str, as_text: bool = False) -> None:
    """Raise if texts look like names of files.

    Args:
        texts: the texts.
        remedy: sentence of the message that tells how to read the texts in a file.
        as_text: True: do not raise.

    Raises:
        InputError: a text looks like a file; the message names the first.
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
