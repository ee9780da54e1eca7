"""The verbs that use a bundle: generate, chat, export, info."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tfx_transformer import bases
from tfx_transformer.cli.data import TableReading
from tfx_transformer.cli.engines import (
    Engine,
    Variant,
    WritingEngine,
    open_generator,
    read_texts,
)
from tfx_transformer.errors import InputError
from tfx_transformer.generation.options import GenerationOptions

if TYPE_CHECKING:
    from tfx_transformer.generation.text import Answer

# Default column of the texts to answer, and to verify exports on.
CHECKED = {"seq2seq": "source", "causal": "instruction"}

# Formats whose files may hold weights in int4.
_ROUNDED = {"litert", "litertlm", "mediapipe"}

_WITHOUT_ROWS = (
    "Weights are rounded to int4 without training rows. Outputs change less with some hundred of\n"
    "them: --calibration FILE.csv"
)


def generate(
    bundle: Path,
    /,
    *texts: str,
    csv: Path | None = None,
    column: str | None = None,
    as_text: bool = False,
    engine: WritingEngine = "litert",
    variant: Variant | None = None,
    reading: TableReading,
    generation: GenerationOptions,
) -> dict[str, Any]:
    """Translate, answer or continue texts with a bundle.

    Args:
        bundle: Folder of a bundle, such as saved_models/en_ja.
        texts (TEXT): Texts to answer.
        csv (FILE.csv): Table whose column is read instead.
        column (NAME): Column of the texts in --csv. [source or instruction]
        as_text: Read TEXT as a text, even if it looks like the name of a file.
        engine: Program that runs the model.
        variant: TFLite file to run. [the first in the bundle]
        reading: How to read the table of --csv, where that cannot be detected.
        generation: How answers are written.
    """
    from tfx_transformer.bundle import read_config

    if csv and not column:
        config = read_config(bundle)
        (column, *_) = config.get("columns") or [CHECKED.get(config["task"], "text")]
    found = read_texts(texts, csv, column, as_text, reading)
    if generation.has_form:
        from tfx_transformer.generation.constraint import check

        check(generation)  # before anything is loaded
    generator = open_generator(bundle, engine, variant)
    if generation.logprobs is None:
        answers = generator.generate(found, **vars(generation))
        print("\n".join(answers))
        pairs = zip(found, answers, strict=True)
        return {"answers": [{"text": text, "answer": answer} for text, answer in pairs]}
    answer = getattr(generator, "answer", None)
    if answer is None:
        raise InputError(
            f"--engine {engine} does not say how probable its tokens are.\n"
            "  Use --engine litert or keras, or drop --logprobs."
        )
    pairs = zip(found, answer(found, **vars(generation)), strict=True)
    return {"answers": [{"text": text} | _describe(one) for text, one in pairs]}


def _describe(answer: Answer) -> dict[str, Any]:
    """Print an answer with the probabilities of its tokens; return both as JSON values."""
    print(answer.text)
    for token in answer.tokens or ():
        others = "  ".join(f"{name!r} {100 * math.exp(value):.1f} %" for name, value in token.top)
        print(f"  {100 * math.exp(token.logprob):5.1f} %  {token.token!r:<16}  {others}".rstrip())
    total = sum(token.logprob for token in answer.tokens or ())
    return {
        "answer": answer.text,
        "logprob": total,
        "tokens": [token._asdict() for token in answer.tokens or ()],
    }


def chat(
    bundle: Path,
    /,
    *,
    system: str = "",
    engine: Engine = "litert",
    variant: Variant | None = None,
    generation: GenerationOptions,
) -> dict[str, Any]:
    """Talk with a bundle, one message a line; an empty line ends the chat.

    A chat that is longer than the model reads goes on without its oldest turns.

    Args:
        bundle: Folder of a bundle, such as saved_models/assistant.
        system: Message that tells the model how to answer.
        engine: Program that runs the model.
        variant: TFLite file to run. [the first in the bundle]
        generation: How answers are written.
    """
    from tfx_transformer.generation.chat import Chat

    conversation = Chat(open_generator(bundle, engine, variant), system, forget=True)
    is_noted = False
    lively = sys.stdin.isatty()
    if lively:
        print("Write a message; an empty line ends the chat.")
    while True:
        if lively:
            print("\n> ", end="", flush=True)
        try:
            text = sys.stdin.readline().strip()
        except UnicodeDecodeError as error:
            raise InputError("a message is not UTF-8.\n  Convert the input.") from error
        if not text:
            return {"messages": conversation.messages}
        conversation.say(text, stream=_write, **vars(generation))
        print(flush=True)
        if conversation.forgotten and not is_noted:
            is_noted = True
            tokens = conversation.generator.engine.config.max_sequence_length
            print(
                f"(The model reads {tokens:,} tokens: from here on the oldest turns are left out.)",
                file=sys.stderr,
                flush=True,
            )


class Exported(NamedTuple):
    """The bundle to export, and the flags of the formats. quantize: None for float32; calibration:
    examples on which weights are rounded."""

    bundle: Path
    quantize: str | None
    beams: int
    context: int | None
    calibration: Sequence[Any] = ()


def export(
    bundle: str,
    /,
    *,
    name: str = "",
    overwrite: bool = False,
    to: str = "saved_model,litert",
    quantize: Literal["none", "int8", "int4"] = "none",
    beams: int = 4,
    context: int | None = None,
    head: Path | None = None,
    calibration: Path | None = None,
    check: Path | None = None,
    column: str | None = None,
    reading: TableReading,
) -> dict[str, Any]:
    """Add an export to a bundle: SavedModel, LiteRT, LiteRT-LM, MediaPipe, transformers.

    Args:
        bundle: Folder of a bundle; or a checkpoint, which becomes one: a folder, a name of
            tfx-transformer bases, or hf://owner/name.
        name: Name of the bundle that a checkpoint becomes, or a bundle with --head. [the
            checkpoint's; BUNDLE-taught]
        overwrite: Replace a bundle of that name.
        to (FORMATS): Formats, separated by commas: saved_model, litert, litertlm, mediapipe,
            transformers.
        quantize: Number format of the weights; none is float32.
        beams: Width of the exported beam search.
        context: Most tokens of prompt and answer together, in a decoder-only model. [all; in a
            .litertlm file at least 1024 if the positions are rotary]
        head (HEAD.json): Classifier that was taught in the bundle's page and saved there; the
            bundle with this classifier becomes a new bundle, which is then exported.
        calibration (FILE.csv): Table of the training texts or images, with the columns of --check;
            weights in int4 are rounded so that the answers to its first rows change least. [none:
            only the scales of the weights are chosen]
        check (FILE.csv): Table of texts or images to verify the exports on.
        column (NAME): Column of the texts or images in --check and --calibration; several are
            separated by commas. [as in training, else source, instruction, text or path]
        reading: How to read the tables of --check and --calibration, where that cannot be detected.
    """
    from tfx_transformer.bundle import read_config
    from tfx_transformer.evaluation.rounding import trained_format

    formats = to.split(",")
    for one in formats:
        if one not in FORMATS:
            raise InputError(f"--to {one!r} is not a format.\n  Formats: {', '.join(FORMATS)}.")
    is_source = _is_source(bundle)
    if is_source and head is not None:
        raise InputError(
            f"--head goes with the bundle in whose page it was taught; {bundle} is a checkpoint.\n"
            f"  First make a bundle of it: tfx-transformer export {bundle}"
        )
    if calibration is not None and quantize != "int4":
        raise InputError("--calibration is for weights in int4.\n  Pass --quantize int4 too.")
    reading.given_file(check or calibration, "--check")
    table, known = (file and reading.file(file) for file in (check, calibration))
    described = _description(bundle, is_source, head is not None) if table or known else {}
    # A wrong table or column is refused before a bundle is saved.
    texts = _checked_inputs(table, column, described) if table and described else []
    rows = _checked_inputs(known, column, described) if known and described else []
    path = _import(bundle, name, overwrite, context) if is_source else Path(bundle)
    if head is not None:
        path = _teach(path, head, name, overwrite)
    config = read_config(path)
    if table and not described:
        texts = _checked_inputs(table, column, config)
    if known and not described:
        rows = _checked_inputs(known, column, config)
    needs_rows = quantize == "int4" and trained_format(config) != "int4"
    if needs_rows and not rows and not _ROUNDED.isdisjoint(formats):
        print(_WITHOUT_ROWS)
    exported = Exported(path, None if quantize == "none" else quantize, beams, context, rows)
    made = [make(exported) for format, make in FORMATS.items() if format in formats]
    if not any(made):
        return {}
    if not texts:
        print("Exported, but not verified. To verify it, pass texts: --check FILE.csv")
        return {}
    from tfx_transformer import export

    results = export.verify(path, texts, files=[name for name in made if name])
    export.agreement.check(results)
    return results


def _description(name: str, is_source: bool, is_base: bool) -> dict[str, Any]:
    """Return the part of a bundle's config.json that says what the model reads, before the bundle
    is made; empty if that is not known yet.

    Args:
        name: of a bundle or checkpoint.
        is_source: True for a checkpoint.
        is_base: True if the new bundle has a head that reads one text.
    """
    from tfx_transformer.bundle import read_config

    if not is_source:
        values = read_config(name)
        return {**values, "columns": None} if is_base else values
    if name.startswith("keras://"):
        return {}
    from tfx_transformer.models.pretrained.describing import describe_source

    found = describe_source(name)
    return {"task": found.task, "architecture": {"image_size": not found.vocabulary_size}}


def _checked_inputs(
    file: str | os.PathLike[str], column: str | None, config: dict[str, Any]
) -> Sequence[Any]:
    """Return the texts, tuples of texts or image files to verify exports on."""
    if config["architecture"].get("image_size"):
        from tfx_transformer.data.labelled_image import read_image_files

        return read_image_files(file, column or "path")
    from tfx_transformer.data.labelled_text import text_columns
    from tfx_transformer.data.tables import read_table

    column = column or config.get("columns") or CHECKED.get(config["task"], "text")
    columns = text_columns(column, role="column")
    several = len(columns) > 1
    table = read_table(file, columns, allow_empty=columns if several else ())
    rows = list(zip(*table.columns.values(), strict=True))
    return rows if several else [text for (text,) in rows]


def _to_saved_model(exported: Exported) -> str:
    from tfx_transformer import bundle, export

    export.saved_model(exported.bundle)
    return bundle.SAVED_MODEL


def _to_litert(exported: Exported) -> str:
    from tfx_transformer import bundle, export

    rows = exported.calibration
    export.litert(exported.bundle, exported.quantize, exported.beams, exported.context, rows)
    return bundle.LITERT[exported.quantize or "float32"]


def _to_litertlm(exported: Exported) -> str:
    from tfx_transformer import bundle, export

    variant = exported.quantize or "float32"
    rows = exported.calibration
    export.litertlm(exported.bundle, variant=variant, context=exported.context, calibration=rows)
    return bundle.LITERTLM


def _to_mediapipe(exported: Exported) -> str:
    from tfx_transformer import bundle, export

    variant = exported.quantize or "float32"
    export.mediapipe(exported.bundle, variant=variant, calibration=exported.calibration)
    return bundle.MEDIAPIPE


def _to_transformers(exported: Exported) -> None:
    from tfx_transformer import bundle, export

    export.transformers(exported.bundle)
    print(f"Written and read again: {exported.bundle / bundle.TRANSFORMERS}")


# Format of --to -> function that makes it, and returns the name in the bundle of the export to be
# verified on texts; None: nothing is to be verified.
FORMATS: dict[str, Callable[[Exported], str | None]] = {
    "saved_model": _to_saved_model,
    "litert": _to_litert,
    "litertlm": _to_litertlm,
    "mediapipe": _to_mediapipe,
    "transformers": _to_transformers,
}


def info(bundle: str, /) -> dict[str, Any]:
    """Describe a bundle or a checkpoint: task, size, files, scores, and how to use it.

    Args:
        bundle: Folder of a bundle; or a checkpoint: a folder, a name of tfx-transformer bases, or
            hf://owner/name.
    """
    from tfx_transformer.model_card import body

    if _is_source(bundle):
        from tfx_transformer.models.pretrained.describing import describe_source

        description = describe_source(bundle)
        print("\n".join(description.lines()))
        return description.to_dict()
    config, card, sizes = _read_bundle(bundle)
    print(body(card))
    for name, size in sizes.items():
        print(f"{size / 1e6:>9.2f} MB  {name}")
    return config | {"files": sizes}


def _read_bundle(name: str) -> tuple[dict[str, Any], str, dict[str, int]]:
    """Return config.json, the model card, and the sizes of files and folders of a bundle."""
    from tfx_transformer import bundle

    @bundle.consistent_read
    def read(path: str) -> tuple[dict[str, Any], str, dict[str, int]]:
        bundle.verify(path)
        sizes = {
            entry.name: sum(p.stat().st_size for p in [entry, *entry.rglob("*")] if p.is_file())
            for entry in sorted(Path(path).iterdir())
        }
        file = Path(path, "README.md")
        card = file.read_text("utf-8", "replace") if file.is_file() else ""
        return bundle.read_config(path), card, sizes

    return read(name)


def _is_source(name: str) -> bool:
    """Return True if a name is that of a checkpoint, and not of a bundle."""
    from tfx_transformer import bundle

    if name.startswith(("hf://", "keras://")):
        return True
    if not Path(name).exists() and bases.find(name) is not None:
        return True
    if not Path(name).exists() or (Path(name) / bundle.SUMS).is_file():
        return False
    from tfx_transformer.models.pretrained import is_checkpoint
    from tfx_transformer.models.pretrained.refusals import refuse_other_form

    refuse_other_form(Path(name))
    return is_checkpoint(Path(name))


def _import(source: str, name: str, overwrite: bool, context: int | None) -> Path:
    """Save a checkpoint as the bundle saved_models/<name>/."""
    from tfx_transformer.models.pretrained import from_pretrained, import_details
    from tfx_transformer.models.saving import save
    from tfx_transformer.training import new_bundle_path

    path = new_bundle_path(name or source.rstrip("/").rpartition("/")[2], overwrite)
    model, tokenizer = from_pretrained(source, max_length=context)
    details = import_details(source, model.task)
    save(path, model, tokenizer, overwrite=overwrite, **details)
    print(f"Saved as {path}")
    return path


def _teach(base: Path, file: Path, name: str, overwrite: bool) -> Path:
    """Save a bundle with the head in a file as the bundle saved_models/<name>/."""
    from tfx_transformer.models.heads import add_head, read_head
    from tfx_transformer.models.saving import load, save
    from tfx_transformer.training import new_bundle_path

    head = read_head(file)
    path = new_bundle_path(name or f"{base.resolve().name}-taught", overwrite)
    model, tokenizer = load(base)
    save(path, add_head(model, head), tokenizer, overwrite=overwrite, labels=head.labels)
    print(f"Saved as {path}")
    return path


def _write(piece: str) -> None:
    print(piece, end="", flush=True)
