"""The verbs that use a bundle: generate, chat, evaluate, export, info."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from tfx_transformer import files
from tfx_transformer.cli.classifiers import evaluate_classifier
from tfx_transformer.cli.data import check_given, fill_columns
from tfx_transformer.cli.engines import read_texts
from tfx_transformer.errors import InputError
from tfx_transformer.generation.options import GenerationOptions

ENGINES = ("litert", "keras", "saved_model", "litertlm")
FORMATS = ("saved_model", "litert", "litertlm", "transformers")
# Column of the texts that models answer, and that exports are verified on.
CHECKED = {"seq2seq": "source", "causal": "instruction"}
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


def generate(chosen: argparse.Namespace) -> dict[str, Any]:
    """translate, answer or continue texts with a bundle"""
    from tfx_transformer import bundle

    if chosen.csv and not chosen.column:
        chosen.column = CHECKED.get(bundle.read_config(chosen.bundle)["task"], "text")
    texts = read_texts(chosen.texts, chosen)
    options = _generation(chosen)
    GenerationOptions(**options)  # refuses them before anything is loaded
    answers = _generator(chosen).generate(texts, **options)
    print("\n".join(answers))
    pairs = zip(texts, answers, strict=True)
    return {"answers": [{"text": text, "answer": answer} for text, answer in pairs]}


def chat(chosen: argparse.Namespace) -> dict[str, Any]:
    """talk with a bundle, one message a line; an empty line ends"""
    from tfx_transformer.generation.chat import Chat

    conversation = Chat(_generator(chosen), chosen.system)
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
        conversation.say(text, stream=_write, **_generation(chosen))
        print(flush=True)


def evaluate(chosen: argparse.Namespace) -> dict[str, Any]:
    """score a bundle on a file: translations, answers, labels, or bits per byte of a text"""
    from tfx_transformer import bundle

    config = bundle.read_config(chosen.bundle)
    _check_used(chosen, config, fill_columns(chosen))
    output = Path(chosen.save or "answers.csv")
    if output.is_dir() or not output.parent.is_dir():
        raise InputError(f"--save {output} cannot be written.\n  Name a file in a folder.")
    if config["task"] == "classification":
        return evaluate_classifier(chosen, config)
    if config["task"] == "seq2seq":
        return _evaluate_pairs(chosen)
    if config["task"] != "causal":
        raise InputError(
            f"{chosen.bundle}: a model of task {config['task']!r} is not scored here.\n"
            "  An embedder: tfx-transformer similar BUNDLE --csv FILE --first … --second …\n"
            "  A masked model: fine-tune it with --base, and evaluate the model made of it."
        )
    return _evaluate_answers(chosen) if config.get("chat") else _evaluate_text(chosen)


def _check_used(chosen: argparse.Namespace, config: dict[str, Any], given: set[str]) -> None:
    """Refuses flags of `evaluate` that do nothing for a bundle of this task."""
    task, writes = config["task"], config["task"] in ("seq2seq", "causal")
    if task == "classification":
        kind = "images" if config["architecture"].get("image_size") else "labels"
    elif task == "causal":
        kind = "instructions" if config.get("chat") else "text"
    else:
        kind = "pairs"
    if writes or task == "classification":
        check_given(kind, given)
    unused = []
    if not writes or kind == "text":
        unused = [
            "--" + name.replace("_", "-")
            for name, (_, default, _) in GENERATION.items()
            if getattr(chosen, name) != default
        ] + ["--stop"] * bool(chosen.stop)
    if task != "seq2seq" and chosen.tokenize:
        unused.append("--tokenize")
    if kind == "text" and chosen.save:
        unused.append("--save")
    if unused:
        raise InputError(
            f"{', '.join(unused)}: not used to score {chosen.bundle}, of task {task!r}.\n  Drop it."
        )


def export(chosen: argparse.Namespace) -> dict[str, Any]:
    """add a SavedModel, a TFLite or a .litertlm file, or a folder for transformers, to a bundle"""
    from tfx_transformer import bundle

    formats = chosen.to.split(",")
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"--to {name!r} is no format.\n  Formats: {', '.join(FORMATS)}.")
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

    from tfx_transformer import export

    quantize = None if chosen.quantize == "none" else chosen.quantize
    made = []
    if "saved_model" in formats:
        export.saved_model(chosen.bundle)
        made.append(bundle.SAVED_MODEL)
    if "litert" in formats:
        export.litert(chosen.bundle, quantize, chosen.beams, chosen.context)
        made.append(bundle.LITERT[quantize or "float32"])
    if "litertlm" in formats:
        export.litertlm(chosen.bundle, variant=quantize or "float32")
        made.append(bundle.LITERTLM)
    if "transformers" in formats:
        export.transformers(chosen.bundle)
        print(f"Written and read again: {Path(chosen.bundle, bundle.TRANSFORMERS)}")
        if formats == ["transformers"]:
            return {}
    if not texts:
        print("Exported; not verified, for want of texts: pass --check FILE.csv")
        return {}
    results = export.verify(chosen.bundle, texts, files=made)
    export.agreement.check(results)
    return results


def info(chosen: argparse.Namespace) -> dict[str, Any]:
    """say what a bundle or a checkpoint is: task, size, files, scores; what it can be used for"""
    from tfx_transformer import bundle

    if _is_source(chosen.bundle):
        from tfx_transformer.models.pretrained.describing import describe_source

        description = describe_source(chosen.bundle)
        print("\n".join(description.lines()))
        return description.to_dict()

    @bundle.whole
    def read(path: str) -> tuple[dict[str, Any], str, dict[str, int]]:
        bundle.verify(path)
        sizes = {
            entry.name: sum(p.stat().st_size for p in [entry, *entry.rglob("*")] if p.is_file())
            for entry in sorted(Path(path).iterdir())
        }
        return bundle.read_config(path), Path(path, "README.md").read_text("utf-8"), sizes

    config, card, sizes = read(chosen.bundle)
    print(card)
    for name, size in sizes.items():
        print(f"{size / 1e6:>9.2f} MB  {name}")
    return config | {"files": sizes}


def _is_source(name: str) -> bool:
    """Whether this is no bundle but a model of somebody else's."""
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


def _evaluate_pairs(chosen: argparse.Namespace) -> dict[str, Any]:
    from tfx_transformer import data
    from tfx_transformer.evaluation import score_texts

    pairs = data.read_pairs(
        chosen.file, chosen.source, chosen.target, skip_bad_rows=chosen.skip_bad_rows
    )
    generator = _generator(chosen)
    answers = generator.generate(pairs.source, truncate=True, **_generation(chosen))
    scores = score_texts(answers, pairs.target, chosen.tokenize)
    if chosen.engine == "keras":
        length = generator.max_prompt_tokens
        batches = data.pairs(pairs, generator.tokenizer, max_length=length, shuffle=False)
        scores["perplexity"] = _perplexity(generator, batches)
    print(
        f"BLEU {scores['bleu']:.2f} (tokenize={scores['bleu_tokenize']})  chrF {scores['chrf']:.2f}"
        f"  exactly right {100 * scores['exact_match']:.1f} % of {scores['count']:,}"
    )
    _save(chosen, {"source": pairs.source, "answer": answers, "reference": pairs.target})
    return scores


def _evaluate_answers(chosen: argparse.Namespace) -> dict[str, Any]:
    from tfx_transformer import data
    from tfx_transformer.evaluation import score_answers

    columns = (chosen.instruction, chosen.input, chosen.output)
    read = data.read_instructions(chosen.file, *columns, skip_bad_rows=chosen.skip_bad_rows)
    prompts, references = read.prompts(), read.answers()
    generator = _generator(chosen)
    answers = generator.generate(prompts, truncate=True, **_generation(chosen))
    scores = score_answers(answers, references)
    if chosen.engine == "keras":
        batches = data.instructions(
            read,
            generator.encoder.template,
            max_length=generator.engine.config.max_sequence_length,
            pack=False,
            shuffle=False,
        )
        scores["perplexity"] = _perplexity(generator, batches)
    print(
        f"exactly right {100 * scores['exact_match']:.1f} % of {scores['count']:,}"
        f"  token F1 {scores['token_f1']:.3f}  chrF {scores['chrf']:.2f}"
    )
    sources = [prompt[-1]["content"] for prompt in prompts]
    _save(chosen, {"source": sources, "answer": answers, "reference": references})
    return scores


def _evaluate_text(chosen: argparse.Namespace) -> dict[str, Any]:
    import tempfile

    from tfx_transformer import data
    from tfx_transformer.models.losses import BitsPerByte, Perplexity
    from tfx_transformer.models.saving import load

    if chosen.engine != "keras":
        raise InputError("a text is scored by its probability.\n  Use --engine keras.")
    model, tokenizer = load(chosen.bundle)
    with tempfile.TemporaryDirectory() as folder:
        documents = data.read_documents(
            chosen.file, chosen.column, skip_bad_rows=chosen.skip_bad_rows
        )
        tokens = data.write_tokens(documents, tokenizer, Path(folder, "tokens.bin"))
        batches = data.blocks(
            tokens, length=model.config.max_sequence_length, batch_size=16, shuffle=False
        )
        model.compile(weighted_metrics=[Perplexity(), BitsPerByte(tokens.bytes_per_token)])
        measured = model.evaluate(batches, verbose=0, return_dict=True)
    # Keras averages the loss over batches, the metric over tokens.
    measured["loss"] = math.log(measured["perplexity"])
    scores = {name: round(float(value), 4) for name, value in measured.items()}
    print(
        f"loss {scores['loss']:.4f} per token  perplexity {scores['perplexity']:.3f}"
        f"  {scores['bits_per_byte']:.4f} bits per byte of {tokens.bytes:,}"
    )
    return scores | {"tokens": tokens.tokens, "bytes": tokens.bytes}


def _perplexity(generator, batches) -> float:
    model = generator.engine.model
    model.compile()
    value = round(model.evaluate(batches, verbose=0, return_dict=True)["perplexity"], 3)
    print(f"perplexity {value:.3f} per token", end="  ")
    return value


def _save(chosen: argparse.Namespace, table: dict[str, list[str]]) -> None:
    if chosen.save:
        import pandas

        files.write(chosen.save, pandas.DataFrame(table).to_csv(index=False))


def _generator(chosen: argparse.Namespace):
    """What answers texts: the bundle on the chosen engine."""
    if chosen.variant and chosen.engine != "litert":
        raise InputError(
            f"--variant chooses a TFLite file; --engine {chosen.engine} has none.\n  Drop it."
        )
    if chosen.engine == "litert":
        from tfx_transformer import runtime

        return runtime.load(chosen.bundle, chosen.variant)
    if chosen.engine == "litertlm":
        from tfx_transformer.runtime import litertlm

        return litertlm.load(chosen.bundle)
    if chosen.engine == "keras":
        from tfx_transformer.models.decoding import text_generator
        from tfx_transformer.models.saving import load

        return text_generator(*load(chosen.bundle))
    from tfx_transformer import bundle
    from tfx_transformer.export.saved_model_generator import SavedModelGenerator

    @bundle.whole
    def open_saved_model(path: str) -> SavedModelGenerator:
        bundle.verify(path)
        return SavedModelGenerator(path)

    return open_saved_model(chosen.bundle)


def _generation(chosen: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in GENERATION} | {"stop": tuple(chosen.stop)}


def _write(piece: str) -> None:
    print(piece, end="", flush=True)
