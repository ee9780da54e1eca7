"""The flags that choose what runs a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from tfx_transformer.errors import InputError

# What runs encoder-only models, and models that write.
ENGINES = ("litert", "keras")
WRITING_ENGINES = (*ENGINES, "saved_model", "litertlm")
# The flags of generation: type, default and help.
GENERATION = {
    "max_new_tokens": (int, None, "most tokens to write [as many as the model can]"),
    "beams": (int, 1, "width of beam search [1: none]"),
    "length_penalty": (float, 1.0, "exponent of the length that beam scores are divided by [1]"),
    "temperature": (
        float,
        None,
        "0 takes the most probable token, above 0 draws [0; with --top-k or --top-p 1]",
    ),
    "top_k": (int, 0, "draw among the k most probable tokens [0: all]"),
    "top_p": (float, 1.0, "draw among the most probable that reach p together [1: all]"),
    "repetition_penalty": (float, 1.0, "above 1 avoids tokens already written [1]"),
    "seed": (int, 0, "of the draws [0]"),
}
# TFLite files: the keys of `bundle.LITERT`, whose import would delay --help.
VARIANTS = ("float32", "int8", "int4", "full_int8")


def add_texts(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds texts, or a file of them by --csv and --column, and --as-text; default: in words."""
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="texts to answer")
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
    parser.add_argument(
        "--engine", choices=engines, default=default, help=f"what runs the model [{default}]"
    )
    parser.add_argument(
        "--variant", choices=VARIANTS, help="which TFLite file runs [the first that is there]"
    )


def open_generator(chosen: argparse.Namespace):
    """Return what answers texts: the bundle on the chosen engine.

    Raises:
        InputError: its model does not write texts, or has no such engine.
    """
    if chosen.variant and chosen.engine != "litert":
        raise InputError(
            f"--variant chooses a TFLite file; --engine {chosen.engine} has none.\n  Drop it."
        )
    if chosen.engine == "litert":
        from tfx_transformer import runtime

        model = runtime.load(chosen.bundle, chosen.variant)
        if not isinstance(model, runtime.TextGenerator):
            raise InputError(
                f"{chosen.bundle}: this model does not write texts.\n"
                "  A classifier answers `classify`, an embedder `embed` and `similar`."
            )
        return model
    if chosen.engine == "litertlm":
        from tfx_transformer.runtime import litertlm

        return litertlm.load(chosen.bundle)
    if chosen.engine == "keras":
        from tfx_transformer.models.decoding import text_generator
        from tfx_transformer.models.saving import load

        return text_generator(*load(chosen.bundle))
    from tfx_transformer import bundle
    from tfx_transformer.export.saved_model_generator import SavedModelGenerator

    @bundle.consistent_read
    def open_saved_model(path: str) -> SavedModelGenerator:
        bundle.verify(path, [bundle.CONFIG, *bundle.TOKENIZER_FILES, bundle.SAVED_MODEL])
        return SavedModelGenerator(path)

    return open_saved_model(chosen.bundle)


def generation_options(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return the options of generation that were given, and the defaults of the others."""
    return {name: getattr(chosen, name) for name in GENERATION} | {"stop": tuple(chosen.stop)}
