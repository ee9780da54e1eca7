"""The verb tokenize: a corpus becomes a folder of token ids, once, for several trainings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tfx_transformer.errors import InputError


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

    Duplicates are left out. An interrupted command goes on when it is repeated.

    Args:
        sources (TEXT|TABLE|FOLDER): Text files, folders of them, or tables, a source each; several
            with commas between them are one.
        tokenizer (BUNDLE|FILE): Bundle, folder or tokenizer.json whose tokenizer encodes.
        out (FOLDER): Folder to write.
        column (NAME): Column with the text, if sources are tables.
        weights (NUMBERS): How often a document of each source is written, such as 1,0.5,3. [1 each]
        validation (FILES): Held-out texts; their documents are left out of the training part.
        near_duplicates: Leave out documents that are nearly equal to an earlier one too.
        skip_bad_rows: Skip rows of a table that cannot be used.
        processes: Processes that encode.
    """
    from tfx_transformer.data.token_folder import Counts, Source, TokenWriter

    if not sources:
        raise InputError("there is nothing to tokenize.\n  Give text files, folders or tables.")
    file = tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer
    writer = TokenWriter(
        out,
        file,
        [Source(*pair) for pair in zip(sources, _weights(weights, len(sources)), strict=True)],
        column=column,
        skip_bad_rows=skip_bad_rows,
        validation=validation,
        near=near_duplicates,
        processes=processes,
    )
    begun, before = time.monotonic(), writer.counts.tokens

    def say(counts: Counts) -> None:
        print(f"{counts.tokens:>15,} tokens, {counts.documents:,} documents", flush=True)

    index = writer.write(say)
    counts = index["training"]
    print(
        f"{out}: {counts['tokens']:,} tokens of {counts['documents']:,} documents, "
        f"{counts['bytes']:,} bytes"
    )
    left = {"duplicates": "duplicates", "near_duplicates": "near-duplicates"}
    left |= {
        "in_validation": "in the validation text",
        "thinned": "by weight",
        "bad_rows": "bad rows",
    }
    found = [f"{counts[name]:,} {text}" for name, text in left.items() if counts[name]]
    print(f"left out: {', '.join(found) or 'nothing'}")
    return {
        "folder": str(out),
        "training": counts,
        "validation": index.get("validation"),
        "seconds": round(time.monotonic() - begun, 3),
    } | ({"tokens_before": before} if before else {})


def _weights(text: str, count: int) -> list[float]:
    """Return the number of every source.

    Raises:
        InputError: one is not a number, or there are more or fewer than sources.
    """
    if not text:
        return [1.0] * count
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"--weights {text!r}: not numbers.\n  Expected one for each source, such as 1,0.5."
        ) from error
    if len(weights) != count:
        raise InputError(
            f"--weights has {len(weights)} numbers for {count} sources.\n  Give one for each."
        )
    return weights
