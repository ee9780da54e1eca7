"""The flags that choose what runs a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tfx_transformer.errors import InputError

# What runs encoder-only models; models that write have more.
ENGINES = ("litert", "keras")
# TFLite files: the keys of `bundle.LITERT`, whose import would delay --help.
VARIANTS = ("float32", "int8", "int4", "full_int8")


def add_texts(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds texts, or a file of them by --csv and --column, and --as-text; default: in words."""
    parser.add_argument("texts", nargs="*", metavar="TEXT")
    parser.add_argument("--csv", metavar="FILE.csv", help="read a column of it instead")
    parser.add_argument("--column", help=f"of the texts in --csv [{default}]")
    add_as_text(parser)


def add_as_text(parser: argparse.ArgumentParser) -> None:
    """Adds --as-text."""
    parser.add_argument(
        "--as-text", action="store_true", help="TEXT that looks like the name of a file is a text"
    )


def read_texts(texts: Sequence[str], chosen: argparse.Namespace) -> list[str]:
    """The texts of the command line, or of --csv.

    Raises:
        InputError: there are none, or both, or one looks like a file.
    """
    from tfx_transformer.arguments import refuse_files
    from tfx_transformer.data.tables import read_table

    if bool(texts) == bool(chosen.csv):
        raise InputError("there are no texts, or two kinds.\n  Give texts, or --csv FILE.csv.")
    if chosen.csv:
        return list(read_table(chosen.csv, {"text": chosen.column or "text"}).columns["text"])
    remedy = "The texts in a table are read with --csv FILE.csv --column COLUMN."
    refuse_files(texts, remedy, chosen.as_text)
    return list(texts)


def add_engine(
    parser: argparse.ArgumentParser, default: str = "litert", engines: Sequence[str] = ENGINES
) -> None:
    """Adds --engine and --variant."""
    parser.add_argument("--engine", choices=engines, default=default, help=f"[{default}]")
    parser.add_argument("--variant", choices=VARIANTS, help="which TFLite file")
