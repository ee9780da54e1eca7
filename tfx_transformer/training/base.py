"""The model that a training begins with."""

from __future__ import annotations

import os
from typing import Any

from tfx_transformer.errors import InputError
from tfx_transformer.models.pretrained import from_pretrained
from tfx_transformer.reprs import short_list
from tfx_transformer.text.tokenizer import Tokenizer


def text_base(
    source: str | os.PathLike,
    dtype: str = "float32",
    task: str | None = None,
    max_length: int | None = None,
    base_dtype: str | None = None,
    *,
    keep_tools: bool = False,
) -> tuple[Any, Tokenizer]:
    """Return the model and the tokenizer of a base that reads texts; see `from_pretrained`.

    Args:
        keep_tools: a base that calls tools keeps them. With them all its answers would be calls:
            else they are left out, which is printed.

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
    if tokenizer.tools is not None and not keep_tools:
        names = short_list(list(tokenizer.tools.parameters))
        print(f"The tools of the base are left out: answers are texts, not calls ({names}).")
        tokenizer.tools = None
    return model, tokenizer
