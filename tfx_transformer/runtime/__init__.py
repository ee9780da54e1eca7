"""Run an exported bundle with ai-edge-litert, NumPy and tiktoken, without TensorFlow or Keras."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar, overload

from tfx_transformer import bundle, flags
from tfx_transformer.arguments import refuse_files
from tfx_transformer.errors import InputError
from tfx_transformer.generation.options import GenerationOptions
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.prediction.classification import Classification
from tfx_transformer.prediction.image import ImageClassifier
from tfx_transformer.prediction.tagging import TextTagger
from tfx_transformer.prediction.tags import Entity
from tfx_transformer.prediction.text import TextClassifier, TextEmbedder, TextRegressor
from tfx_transformer.runtime.tasks import (
    TASKS,
    Model,
    Parts,
    describe,
    describe_entities,
    rows_of,
)

__all__ = [
    "Classification",
    "Entity",
    "ImageClassifier",
    "TextClassifier",
    "TextEmbedder",
    "TextGenerator",
    "TextRegressor",
    "TextTagger",
    "describe",
    "describe_entities",
    "load",
    "main",
    "rows_of",
]

# Options of models that write text, as flags of `run.pyz`: their types and help.
_GENERATION: dict[str, tuple[type, str]] = {
    "max_new_tokens": (int, "most tokens to write"),
    "beams": (int, "width of beam search: 1, or the width the file was exported for"),
    "length_penalty": (float, "a beam's score is divided by its length to this power"),
    "temperature": (float, "0: take the most probable token; above 0: draw"),
    "top_k": (int, "draw among the k most probable tokens"),
    "top_p": (float, "draw among the most probable tokens that together reach p"),
    "repetition_penalty": (float, "above 1: avoid tokens that are already written"),
    "seed": (int, "seed of the draws"),
    "schema": (Path, "JSON Schema that answers follow; needs llguidance"),
    "regex": (str, "regular expression that answers match; needs llguidance"),
}
_REPEATED = {
    "stop": "end before this text; may be repeated",
    "choices": "answer with one of the given texts; may be repeated; needs llguidance",
}

M = TypeVar(
    "M", TextGenerator, TextClassifier, ImageClassifier, TextEmbedder, TextRegressor, TextTagger
)


@overload
def load(
    path: str | os.PathLike, variant: str | None = None, threads: int | None = None
) -> Any: ...


@overload
def load(
    path: str | os.PathLike,
    variant: str | None = None,
    threads: int | None = None,
    *,
    kind: type[M],
) -> M: ...


def load(
    path: str | os.PathLike,
    variant: str | None = None,
    threads: int | None = None,
    *,
    kind: type[Any] | None = None,
) -> Any:
    """Return the model of a bundle: `load("saved_models/en_ja").generate("I love cats.")`; a
    classifier has `.classify(…)`, an embedder `.embed(…)`, a regressor `.predict(…)`, a tagger
    `.tag(…)`.

    Args:
        path: the bundle's folder.
        variant: "float32", "int8", "int4" or "full_int8"; None: the first that the bundle has.
        threads: threads of LiteRT; None: one per core that this process may use.
        kind: `TextGenerator`, `TextClassifier`, `ImageClassifier`, `TextEmbedder`, `TextRegressor`
            or `TextTagger`, so that type checkers know the returned type; None: any.

    Raises:
        InputError: the bundle is damaged, holds no TFLite file of this variant, or its model is not
            of this `kind`.
    """
    model, _ = _load(Path(path), variant, threads)
    if kind is not None and not isinstance(model, kind):
        raise InputError(
            f"{path}: the bundle is loaded as {type(model).__name__}, not as {kind.__name__}.\n"
            f"  Load it with kind={type(model).__name__}, or without kind."
        )
    return model


@bundle.consistent_read
def _load(path: Path, variant: str | None, threads: int | None) -> tuple[Model, dict[str, Any]]:
    """Return the model of a bundle and its config.json; only the files that they need are
    hashed."""
    present = [name for name, file in bundle.LITERT.items() if (path / file).is_file()]
    if variant is None and present:
        variant = present[0]
    models = [bundle.LITERT[variant]] if variant in present else []
    bundle.verify(path, [bundle.CONFIG, *bundle.TOKENIZER_FILES, *models])
    values = bundle.read_config(path)
    if (task := values.get("task")) not in TASKS:
        raise InputError(
            f"{path}: a model of task {task!r} answers nothing; models of {', '.join(TASKS)} do.\n"
            "  A masked model is a base: fine-tune it first."
        )
    if variant not in present:
        raise InputError(
            f"{path} holds no {variant or 'TFLite'} file for LiteRT; it holds: "
            f"{', '.join(present) or 'none'}.\n"
            f"  Make one: tfx-transformer export {path} --to litert"
        )
    parts = Parts(path, values, path / bundle.LITERT[variant], threads)
    model = TASKS[task].load(parts)
    if values.get("columns"):
        model.input_columns = values["columns"]
    return model, values


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer each text (or image) with the bundle that run.pyz is in: with a text, a label and its
    probability, a number, marked spans, or a vector. For a model of several columns, give the texts
    of a row one after the other. Without arguments, each line of standard input is a text."""
    parser = argparse.ArgumentParser(prog="run.pyz", description=main.__doc__)
    parser.add_argument("texts", nargs="*", metavar="TEXT|IMAGE")
    for name, (kind, text) in _GENERATION.items():
        parser.add_argument(
            "--" + name.replace("_", "-"), type=kind, help=text, metavar=kind.__name__.upper()
        )
    for name in ("stop", "choices"):
        parser.add_argument("--" + name, action="append", metavar="TEXT", help=_REPEATED[name])
    parser.add_argument("--variant", choices=list(bundle.LITERT), help="which TFLite file to run")
    parser.add_argument("--prompt", metavar="NAME", help="prompt of an embedder before each text")
    parser.add_argument(
        "--as-text", action="store_true", help="read TEXT as text even if it looks like a file name"
    )
    flags.add_common_flags(parser)
    options = parser.parse_args(arguments)

    def answer() -> dict[str, list[dict[str, Any]]]:
        path = Path(sys.argv[0]).resolve().parent
        names = (*_GENERATION, *_REPEATED)
        given_options = {n: getattr(options, n) for n in names if getattr(options, n) is not None}
        GenerationOptions(**given_options)  # raises for wrong ones before anything is loaded
        options.generation = given_options
        given = options.texts or _lines(sys.stdin)
        model, values = _load(path, options.variant, threads=None)
        if not values["architecture"].get("image_size"):
            remedy = "Give the texts themselves; tfx-transformer reads texts of a table (--csv)."
            refuse_files(options.texts, remedy, options.as_text)
        found = TASKS[values["task"]].answer(model, given, values, options)
        print("\n".join(found.shown))
        pairs = zip(found.inputs, found.answers, strict=True)
        return {"answers": [{"text": text, "answer": answer} for text, answer in pairs]}

    flags.run_action(answer, options)


def _lines(stream: TextIO) -> list[str]:
    """Return the lines of standard input, without blank ones at the end."""
    if stream is None or stream.isatty():
        raise InputError("there is no text.\n  Give texts after run.pyz, or on standard input.")
    data = stream.buffer.read()
    try:
        lines = [line.removesuffix("\r") for line in data.decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"standard input, line {line}: it is not UTF-8.\n  Convert it.") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise InputError("standard input is empty.\n  Give one text a line.")
    return lines
