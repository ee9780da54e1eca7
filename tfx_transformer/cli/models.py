"""The verbs that use a bundle: generate, chat, export, info."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfx_transformer.cli.engines import generation_options, open_generator, read_texts
from tfx_transformer.errors import InputError
from tfx_transformer.generation.options import GenerationOptions

# Column of the texts that models answer, and that exports are verified on.
CHECKED = {"seq2seq": "source", "causal": "instruction"}


def generate(chosen: argparse.Namespace) -> dict[str, Any]:
    """translate, answer or continue texts with a bundle"""
    from tfx_transformer import bundle

    if chosen.csv and not chosen.column:
        chosen.column = CHECKED.get(bundle.read_config(chosen.bundle)["task"], "text")
    texts = read_texts(chosen.texts, chosen)
    options = generation_options(chosen)
    GenerationOptions(**options)  # refuses them before anything is loaded
    answers = open_generator(chosen).generate(texts, **options)
    print("\n".join(answers))
    pairs = zip(texts, answers, strict=True)
    return {"answers": [{"text": text, "answer": answer} for text, answer in pairs]}


def chat(chosen: argparse.Namespace) -> dict[str, Any]:
    """talk with a bundle, one message a line; an empty line ends"""
    from tfx_transformer.generation.chat import Chat

    conversation = Chat(open_generator(chosen), chosen.system)
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
        conversation.say(text, stream=_write, **generation_options(chosen))
        print(flush=True)


def export(chosen: argparse.Namespace) -> dict[str, Any]:
    """add a SavedModel, a TFLite or a .litertlm file, or a folder for transformers, to a bundle"""
    from tfx_transformer import bundle

    formats = chosen.to.split(",")
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"--to {name!r} is not a format.\n  Formats: {', '.join(FORMATS)}.")
    if _is_source(chosen.bundle):
        chosen.bundle = _import(chosen)
    config = bundle.read_config(chosen.bundle)
    texts = []
    if chosen.check and config["architecture"].get("image_size"):
        from tfx_transformer.data import read_labelled_images

        texts = read_labelled_images(chosen.check, chosen.column or "path").files
    elif chosen.check:
        from tfx_transformer.data.tables import read_table

        column = chosen.column or CHECKED.get(config["task"], "text")
        texts = read_table(chosen.check, {"column": column}).columns["column"]

    made = [make(chosen) for name, make in FORMATS.items() if name in formats]
    if not any(made):
        return {}
    if not texts:
        print("Exported, not verified: there are no texts. Pass --check FILE.csv")
        return {}
    from tfx_transformer import export

    results = export.verify(chosen.bundle, texts, files=[name for name in made if name])
    export.agreement.check(results)
    return results


def _quantize(chosen: argparse.Namespace) -> str | None:
    return None if chosen.quantize == "none" else chosen.quantize


def _to_saved_model(chosen: argparse.Namespace) -> str:
    from tfx_transformer import bundle, export

    export.saved_model(chosen.bundle)
    return bundle.SAVED_MODEL


def _to_litert(chosen: argparse.Namespace) -> str:
    from tfx_transformer import bundle, export

    export.litert(chosen.bundle, _quantize(chosen), chosen.beams, chosen.context)
    return bundle.LITERT[_quantize(chosen) or "float32"]


def _to_litertlm(chosen: argparse.Namespace) -> str:
    from tfx_transformer import bundle, export

    export.litertlm(chosen.bundle, variant=_quantize(chosen) or "float32")
    return bundle.LITERTLM


def _to_transformers(chosen: argparse.Namespace) -> None:
    from tfx_transformer import bundle, export

    export.transformers(chosen.bundle)
    print(f"Written and read again: {Path(chosen.bundle, bundle.TRANSFORMERS)}")


# What --to names -> what makes it, and returns the name in the bundle of what can be verified on
# texts; None: nothing, or it was verified as it was made.
FORMATS: dict[str, Callable[[argparse.Namespace], str | None]] = {
    "saved_model": _to_saved_model,
    "litert": _to_litert,
    "litertlm": _to_litertlm,
    "transformers": _to_transformers,
}


def info(chosen: argparse.Namespace) -> dict[str, Any]:
    """say what a bundle or a checkpoint is: task, size, files, scores; what it can be used for"""
    from tfx_transformer import bundle
    from tfx_transformer.model_card import body

    if _is_source(chosen.bundle):
        from tfx_transformer.models.pretrained.describing import describe_source

        description = describe_source(chosen.bundle)
        print("\n".join(description.lines()))
        return description.to_dict()

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

    config, card, sizes = read(chosen.bundle)
    print(body(card))
    for name, size in sizes.items():
        print(f"{size / 1e6:>9.2f} MB  {name}")
    return config | {"files": sizes}


def _is_source(name: str) -> bool:
    """Return True if this is not a bundle but a model of somebody else's."""
    from tfx_transformer import bundle

    if name.startswith(("hf://", "keras://")):
        return True
    if not Path(name).exists() or (Path(name) / bundle.SUMS).is_file():
        return False
    from tfx_transformer.models.pretrained import is_checkpoint
    from tfx_transformer.models.pretrained.refusals import refuse_other_form

    refuse_other_form(Path(name))
    return is_checkpoint(Path(name))


def _import(chosen: argparse.Namespace) -> Path:
    """Saves a checkpoint as the bundle saved_models/<name>/."""
    from tfx_transformer.models.pretrained import from_pretrained, import_details
    from tfx_transformer.models.saving import save
    from tfx_transformer.training import new_bundle_path

    name = chosen.name or chosen.bundle.rstrip("/").rpartition("/")[2]
    path = new_bundle_path(name, chosen.overwrite)
    model, tokenizer = from_pretrained(chosen.bundle, max_length=chosen.context)
    details = import_details(chosen.bundle, model.task)
    save(path, model, tokenizer, overwrite=chosen.overwrite, **details)
    print(f"Saved as {path}")
    return path


def _write(piece: str) -> None:
    print(piece, end="", flush=True)
