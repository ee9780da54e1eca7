"""A digest of examples, by which a continued training recognises data in memory."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from tfx_transformer.data.corpus import TokenFile
from tfx_transformer.data.labelled_image import LabelledImages

# Fields that say where the examples are and under which names, not what they are.
_PLACES = {"path", "columns", "rows", "bad_rows", "tables", "predicted", "open_rows"}


@functools.singledispatch
def content_of(read: Any) -> str:
    """Return the SHA-256 of examples in their order, in hexadecimal.

    Args:
        read: examples such as `data.Pairs`; their places and the names of columns do not count.
    """
    return _digest_of(getattr(read, name) for name in _fields(read))


@content_of.register
def _(read: LabelledImages) -> str:
    return _digest_of(
        read.digests() if name == "files" else getattr(read, name) for name in _fields(read)
    )


@content_of.register
def _(read: TokenFile) -> str:
    return hashlib.sha256(read.array()).hexdigest()


def _fields(read: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(read) if field.name not in _PLACES]


def _digest_of(columns: Iterable[Any]) -> str:
    total = hashlib.sha256()
    for column in columns:
        for value in column if isinstance(column, Sequence) else [column]:
            total.update(json.dumps(value, default=str).encode() + b"\n")
    return total.hexdigest()
