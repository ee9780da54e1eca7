"""A folder with the token ids of a corpus, written once and read by several runs.

`token_writer` writes it; `read_token_folder` returns its training and its validation part.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from tfx_transformer.data.corpus import TokenFile, hold_out
from tfx_transformer.errors import InputError
from tfx_transformer.json_files import read_object
from tfx_transformer.text.tokenizer import Tokenizer

INDEX, TOKENIZER = "tokens.json", "tokenizer.json"
TRAINING, VALIDATION = "training.bin", "validation.bin"
# The record of an unfinished folder.
PROGRESS = ".progress.json"


def identity(tokenizer: Tokenizer) -> str:
    """Return the SHA-256 of a tokenizer: equal tokenizers write the same ids."""
    return hashlib.sha256(tokenizer.to_json().encode()).hexdigest()


def read_token_folder(
    folder: str | os.PathLike[str], tokenizer: Tokenizer, share: float = 0.1
) -> tuple[TokenFile, TokenFile]:
    """Return the training and the validation part of a folder of tokens.

    `tfx-transformer tokenize` writes such a folder.

    Args:
        folder: the folder.
        tokenizer: the tokenizer of the model.
        share: share of the ids to hold out, if the folder was written without --validation.

    Raises:
        InputError: it is not such a folder, is unfinished, was cut short, or has the ids of another
            tokenizer.
    """
    index = _read_index(Path(folder))
    try:
        training = _part(Path(folder, TRAINING), index, index["training"])
        held_out = index.get("validation")
        validation = _part(Path(folder, VALIDATION), index, held_out) if held_out else None
        written_by = index["settings"]["tokenizer"]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{Path(folder, INDEX)}: not an index of tokens.\n  Write the folder again."
        ) from error
    if written_by != identity(tokenizer):
        raise InputError(
            f"{folder}: its ids are those of another tokenizer than the model's.\n"
            "  Write it with the tokenizer of the base, or begin a new model: without --base and "
            "--tokenizer it takes the tokenizer of the folder."
        )
    return (training, validation) if validation else hold_out(training, share, tokenizer)


def _part(path: Path, index: dict[str, Any], counts: dict[str, Any]) -> TokenFile:
    """Return one file of ids.

    Raises:
        InputError: it has no tokens, or was cut short.
        KeyError, TypeError: the index is damaged.
    """
    if index["dtype"] not in ("uint16", "uint32"):
        raise TypeError(index["dtype"])
    tokens = TokenFile(
        path,
        index["dtype"],
        counts["tokens"],
        counts["bytes"],
        counts["documents"],
        tuple(index["sources"]),
    )
    if not tokens.tokens:
        raise InputError(f"{path}: there are no tokens.\n  Write the folder from more text.")
    tokens.array()  # raises if the file was cut short
    return tokens


def check_token_folder(
    folder: str | os.PathLike[str], text: object = None, validation: object = None
) -> None:
    """Raise if a folder of tokens is not finished, or if other text is given too.

    Args:
        folder: the folder.
        text, validation: text that a run was given besides the folder.
    """
    if text or validation:
        raise InputError(
            f"text is given besides the tokens of {folder}.\n  Give one or the other: a folder of "
            "tokens has its own validation part."
        )
    _read_index(Path(folder))


def _read_index(folder: Path) -> dict[str, Any]:
    if not (folder / INDEX).is_file():
        unfinished = (folder / PROGRESS).is_file()
        what = "its writing was interrupted" if unfinished else f"it has no {INDEX}"
        remedy = "Repeat the command" if unfinished else "Write one: `tfx-transformer tokenize`"
        raise InputError(f"{folder}: not a finished folder of tokens: {what}.\n  {remedy}.")
    return read_object(folder / INDEX)
