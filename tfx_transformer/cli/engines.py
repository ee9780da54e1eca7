"""The parts that verbs share: engines, texts to answer, and files to write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tfx_transformer.cli.data import TableReading
from tfx_transformer.errors import InputError

# Programs that run encoder-only models, and models that write.
Engine = Literal["litert", "keras"]
WritingEngine = Literal["litert", "keras", "saved_model", "litertlm"]
# TFLite files: the keys of `bundle.LITERT`, whose import would delay --help.
Variant = Literal["float32", "int8", "int4", "full_int8"]


def read_texts(
    texts: Sequence[str],
    csv: Path | None,
    column: str | None,
    as_text: bool,
    reading: TableReading,
) -> list[str]:
    """Return the texts of the command line, or of --csv.

    Raises:
        InputError: neither or both are given, or a text looks like a file.
    """
    from tfx_transformer.arguments import refuse_files
    from tfx_transformer.data.tables import read_table

    if not texts and not csv:
        raise InputError("there is no text.\n  Give texts, or --csv FILE.csv.")
    if texts and csv:
        raise InputError("there are texts and --csv.\n  Give one of the two.")
    if table := reading.given_file(csv):
        return list(read_table(table, {"column": column or "text"}).columns["column"])
    remedy = "The texts in a table are read with --csv FILE.csv --column COLUMN."
    refuse_files(texts, remedy, as_text)
    return list(texts)


def check_writable(**files: Path | None) -> None:
    """Raise if one of the files cannot be written, before anything is computed.

    Args:
        files: by the names of their flags.
    """
    for flag, path in files.items():
        if path and (path.is_dir() or not path.parent.is_dir()):
            raise InputError(f"--{flag} {path} cannot be written.\n  Name a file in a folder.")


def open_generator(path: Path, engine: WritingEngine, variant: Variant | None):
    """Return the model that writes answers: the bundle at a path, on an engine.

    Raises:
        InputError: its model does not write texts, or has no such engine.
    """
    if variant and engine != "litert":
        raise InputError(
            f"--variant chooses a TFLite file; --engine {engine} has none.\n  Drop it."
        )
    if engine == "litert":
        from tfx_transformer import runtime

        model = runtime.load(path, variant)
        if not isinstance(model, runtime.TextGenerator):
            raise InputError(
                f"{path}: this model does not write texts.\n"
                "  A classifier answers `classify`, a tagger `tag`, an embedder `embed` and "
                "`similar`."
            )
        return model
    if engine == "litertlm":
        from tfx_transformer.runtime import litertlm

        return litertlm.load(path)
    if engine == "keras":
        from tfx_transformer.models.decoding import text_generator
        from tfx_transformer.models.saving import load

        return text_generator(*load(path))
    from tfx_transformer import bundle
    from tfx_transformer.export.saved_model_generator import SavedModelGenerator

    @bundle.consistent_read
    def open_saved_model(opened: str) -> SavedModelGenerator:
        bundle.verify(opened, [bundle.CONFIG, *bundle.TOKENIZER_FILES, bundle.SAVED_MODEL])
        return SavedModelGenerator(opened)

    return open_saved_model(path)
