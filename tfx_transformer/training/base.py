"""The model that a training begins with."""

from __future__ import annotations

import os
from typing import Any

from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained import from_pretrained
from tfx_transformer.text.tokenizer import Tokenizer


def text_base(
    source: str | os.PathLike,
    dtype: str = "float32",
    task: str | None = None,
    max_length: int | None = None,
    base_dtype: str | None = None,
) -> tuple[Any, Tokenizer]:
    """Return the model and the tokenizer of a base that reads texts; see `from_pretrained`.

    Raises:
        InputError: as in `from_pretrained`; or the base reads images, or has no tokenizer.
    """
    model, tokenizer = from_pretrained(source, dtype, task, max_length, base_dtype)
    if model.config.image_size:
        raise InputError(f"the base {source} reads images, not texts.\n  Choose a base that does.")
    if tokenizer is None:
        raise InputError(
            f"the base {source} has no tokenizer, so it reads no text.\n"
            "  Put the tokenizer's files next to its config.json, such as tokenizer.json."
        )
    return model, tokenizer
