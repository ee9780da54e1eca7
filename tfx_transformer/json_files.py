"""JSON files from anywhere: what reading one takes is bounded before it is parsed.

A parsed value takes more memory than its text: `[],` becomes 80 bytes, `{"a":0},` 240. So a file
that is small enough to read may still take gigabytes. Here the characters that begin or part values
are counted first, in milliseconds.
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

# The largest of real models, Gemma 3's tokenizer.json, has 33 MB: 262,144 tokens and 514,906 pairs
# to merge. These take 200 MB by the estimate below, the text with its wide characters some 120.
MAX_BYTES = 64 * 1024 * 1024
MAX_MEMORY = 500_000_000

# Bytes that CPython takes for what follows, at most: a list and its first place, an object with
# one key, a further short text or number, a key that is new and its place.
_BYTES = {"[": 100, "{": 200, ",": 75, ":": 150}


def check(text: str, file: str | os.PathLike | None = None) -> None:
    """Refuses a text that, itself included, could take more than `MAX_MEMORY` when it is parsed.

    Args:
        text: JSON.
        file: where it was read, which the error names.

    Raises:
        InputError: it could.
    """
    memory = sys.getsizeof(text) + sum(text.count(mark) * size for mark, size in _BYTES.items())
    if memory > MAX_MEMORY:
        raise InputError(
            "it holds more values than any file of a real model: reading them could take "
            f"{memory // 1_000_000:,} MB of memory.\n"
            f"  Expected {MAX_MEMORY // 1_000_000} MB at most. Copy the file again, or do without.",
            file,
        )


def parse(text: str, file: str | os.PathLike | None = None, unique: bool = False) -> Any:
    """The value of a JSON text, as Python reads it: NaN is a number, the last of two equal keys
    counts.

    Args:
        text, file: see `check`.
        unique: refuse two equal keys.

    Raises:
        InputError: see `check`.
        ValueError: it is not JSON, or has a key twice.
        RecursionError: it is nested too deep.
    """
    check(text, file)
    return json.loads(text, object_pairs_hook=unique_keys if unique else None)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of keys and values that `json.loads` found.

    Raises:
        ValueError: a key is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = collections.Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def read_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: no file, too large, too many values, or no JSON object.
    """
    try:
        facts = file.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise InputError("it is not a regular file.\n  Expected a JSON file.", file)
        if facts.st_size > MAX_BYTES:
            raise InputError(
                "it is larger than any JSON file of a real model.\n"
                f"  Expected {MAX_BYTES >> 20} MiB at most. Copy the file again, or do without.",
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
