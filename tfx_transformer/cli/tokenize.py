"""The verb tokenize: write the token ids of a corpus once, for several trainings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tfx_transformer.errors import InputError
from tfx_transformer.reprs import quantity

# Count of what was left out -> its words after the number.
_LEFT_OUT = {
    "duplicates": "equal to an earlier document",
    "near_duplicates": "nearly equal to an earlier document",
    "in_validation": "in the validation text",
    "thinned": "by the weight of their source",
    "bad_rows": "in rows that cannot be used",
}


def tokenize(
    *sources: str,
    tokenizer: Path,
    out: Path,
    column: str = "",
    weights: str = "",
    validation: str = "",
    near_duplicates: bool = False,
    skip_bad_rows: bool = False,
    processes: int = 1,
) -> dict[str, Any]:
    """Write the token ids of a corpus to a folder, for `run pretraining --tokens FOLDER`.

    Duplicates are left out. Repeat an interrupted command, and it goes on.

    Args:
        sources (TEXT|TABLE|FOLDER): Sources: text files, folders of them, or tables, here or at
            addresses such as s3://bucket/*.parquet. Names with commas between them are one source.
        tokenizer (BUNDLE|FILE): Tokenizer: a bundle, the folder of a checkpoint, or a
            tokenizer.json.
        out (FOLDER): Folder to write.
        column (NAME): Column with the text, if sources are tables.
        weights (NUMBERS): Times that the documents of each source are written, such as 1,0.5,3; 0.5
            is half of them. [1 each]
        validation (FILES): Held-out texts; their documents are left out of the training part.
        near_duplicates: Also leave out documents that are nearly equal to an earlier one.
        skip_bad_rows: Skip rows of a table that cannot be used.
        processes: Number of processes that encode.
    """
    from tfx_transformer.data.token_writer import Counts, Source, TokenWriter

    if not sources:
        raise InputError("there is nothing to tokenize.\n  Give text files, folders or tables.")
    writer = TokenWriter(
        out,
        tokenizer,
        [Source(*pair) for pair in zip(sources, _weights(weights, len(sources)), strict=True)],
        column=column,
        skip_bad_rows=skip_bad_rows,
        validation=validation,
        near=near_duplicates,
        processes=processes,
    )
    begun = time.monotonic()

    def say(counts: Counts) -> None:
        documents = quantity(counts.documents, "document")
        print(f"{counts.tokens:>15,} tokens, {documents}", flush=True)

    index = writer.write(say)
    counts = index["training"]
    print(
        f"{out}: {quantity(counts['tokens'], 'token')} of "
        f"{quantity(counts['documents'], 'document')}, {quantity(counts['bytes'], 'byte')}"
    )
    found = [f"{counts[name]:,} {text}" for name, text in _LEFT_OUT.items() if counts[name]]
    print(f"left out: {', '.join(found) or 'nothing'}")
    return {
        "folder": str(out),
        "training": counts,
        "validation": index.get("validation"),
        "seconds": round(time.monotonic() - begun, 3),
    }


def _weights(text: str, count: int) -> list[float]:
    """Return the weight of every source.

    Raises:
        InputError: a weight is not a number, or their number is not that of the sources.
    """
    if not text:
        return [1.0] * count
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"--weights {text!r}: not numbers.\n  Expected a number for each source, such as 1,0.5."
        ) from error
    if len(weights) != count:
        raise InputError(
            f"--weights has {quantity(len(weights), 'number')} for {quantity(count, 'source')}.\n"
            "  Give one number for each."
        )
    return weights
