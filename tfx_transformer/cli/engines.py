"""The flags that choose what runs a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

# What runs encoder-only models; models that write have more.
ENGINES = ("litert", "keras")
# TFLite files: the keys of `bundle.LITERT`, whose import would delay --help.
VARIANTS = ("float32", "int8", "int4", "full_int8")


def add_engine(
    parser: argparse.ArgumentParser, default: str = "litert", engines: Sequence[str] = ENGINES
) -> None:
    """Adds --engine and --variant."""
    parser.add_argument("--engine", choices=engines, default=default, help=f"[{default}]")
    parser.add_argument("--variant", choices=VARIANTS, help="which TFLite file")
