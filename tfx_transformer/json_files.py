"""JSON files from any source: the memory to parse one is estimated and limited before.

A parsed value takes more memory than its text: `[],` becomes 80 bytes, `{"a":0},` 240. So a file
that is small enough to read may still take gigabytes. The estimate counts the characters that begin
or separate values, in milliseconds.
"""

from __future__ import annotations

import collections
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

from tfx_transformer.errors import InputError

# The largest JSON file of a known model, Gemma 3's tokenizer.json, has 33 MB: 262,144 tokens and
# 514,906 merges. By the estimate below the values take 200 MB, the text with its wide characters
# about 120 MB.
MAX_BYTES = 64 * 1024 * 1024
MAX_MEMORY = 500_000_000

# Most bytes that CPython takes for the value after each character: a list with its first item, an
# object with one key, another short text or number, a new key with its value.
_BYTES = {"[": 100, "{": 200, ",": 75, ":": 150}


def check(text: str, file: str | os.PathLike | None = None) -> None:
    """Raise if a text and its parsed values could take more than `MAX_MEMORY` bytes.

    Args:
        text: JSON.
        file: the file of the text, for the message.

    Raises:
        InputError: they could.
    """
    memory = sys.getsizeof(text) + sum(text.count(mark) * size for mark, size in _BYTES.items())
    if memory > MAX_MEMORY:
        raise InputError(
            "it holds more values than any file of a real model: reading them could take "
            f"{memory // 1_000_000:,} MB of memory.\n"
            f"  Expected {MAX_MEMORY // 1_000_000} MB at most. Copy the file again, or omit it.",
            file,
        )


def parse(text: str, file: str | os.PathLike | None = None, unique: bool = False) -> Any:
    """Return the value of a JSON text, as Python's `json` reads it: NaN is a number, and the last
    of two equal keys counts.

    Args:
        text, file: see `check`.
        unique: raise if an object has two equal keys.

    Raises:
        InputError: see `check`.
        ValueError: the text is not JSON, or, with `unique`, has a key twice.
        RecursionError: the text is nested too deep.
    """
    check(text, file)
    return json.loads(text, object_pairs_hook=unique_keys if unique else None)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of pairs from `json.loads`, as its `object_pairs_hook`.

    Raises:
        ValueError: a key is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = collections.Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def read_object(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        InputError: the file is missing, too large, has too many values or is not a JSON object.
    """
    try:
        facts = file.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise InputError("it is not a regular file.\n  Expected a JSON file.", file)
        if facts.st_size > MAX_BYTES:
            raise InputError(
                "it is larger than any JSON file of a real model.\n"
                f"  Expected {MAX_BYTES >> 20} MiB at most. Copy the file again, or omit it.",
                file,
            )
        values = parse(file.read_text(encoding="utf-8"), file)
        if not isinstance(values, dict):
            remedy = "Expected {...}. Copy the file again."
            raise InputError(f"it is not a JSON object.\n  {remedy}", file)
        return values
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}.", file) from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is not JSON: {error}.\n  Copy the file again.", file) from error
