"""The verb that scores a bundle: evaluate. One row for each kind of data that is scored."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tfx_transformer import files
from tfx_transformer.cli.classifiers import evaluate_classifier
from tfx_transformer.cli.data import check_given, fill_columns, given_table
from tfx_transformer.cli.engines import GENERATION, generation_options, open_generator
from tfx_transformer.errors import InputError


class Scoring(NamedTuple):
    """The row of a kind of data: how it is scored.

    score: (flags, config.json) -> scores; writes: whether the flags of generation count;
    splits_words: whether --tokenize does; saves: whether --save does.
    """

    score: Callable[[argparse.Namespace, dict[str, Any]], dict[str, Any]]
    writes: bool = False
    splits_words: bool = False
    saves: bool = True


def evaluate(chosen: argparse.Namespace) -> dict[str, Any]:
    """score a bundle on a file: translations, answers, labels, or bits per byte of a text"""
    from tfx_transformer import bundle

    config = bundle.read_config(chosen.bundle)
    given = fill_columns(chosen)
    chosen.file = given_table(chosen)
    task = config["task"]
    if task not in KINDS:
        raise InputError(
            f"{chosen.bundle}: a model of task {task!r} is not scored here.\n"
            "  An embedder: tfx-transformer similar BUNDLE --csv FILE --first … --second …\n"
            "  A masked model: fine-tune it with --base, and evaluate the model made of it."
        )
    kind = KINDS[task](config)
    check_given(kind, given)
    scoring = SCORINGS[kind]
    if unused := _unused(chosen, scoring):
        raise InputError(
            f"{', '.join(unused)}: not used to score {chosen.bundle}, of task {task!r}.\n  Drop it."
        )
    output = Path(chosen.save or "answers.csv")
    if output.is_dir() or not output.parent.is_dir():
        raise InputError(f"--save {output} cannot be written.\n  Name a file in a folder.")
    return scoring.score(chosen, config)


def _unused(chosen: argparse.Namespace, scoring: Scoring) -> list[str]:
    """Return the flags that were given and do nothing."""
    unused = []
    if not scoring.writes:
        unused = [
            "--" + name.replace("_", "-")
            for name, (_, default, _) in GENERATION.items()
            if getattr(chosen, name) != default
        ] + ["--stop"] * bool(chosen.stop)
    unused += ["--tokenize"] * bool(chosen.tokenize and not scoring.splits_words)
    return unused + ["--save"] * bool(chosen.save and not scoring.saves)


def _score_pairs(chosen: argparse.Namespace, config: dict[str, Any]) -> dict[str, Any]:
    from tfx_transformer import data
    from tfx_transformer.evaluation import score_texts

    pairs = data.read_pairs(
        chosen.file, chosen.source, chosen.target, skip_bad_rows=chosen.skip_bad_rows
    )
    generator: Any = open_generator(chosen)
    answers = generator.generate(pairs.source, truncate=True, **generation_options(chosen))
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


def _score_answers(chosen: argparse.Namespace, config: dict[str, Any]) -> dict[str, Any]:
    from tfx_transformer import data
    from tfx_transformer.evaluation import score_answers

    columns = (chosen.instruction, chosen.input, chosen.output)
    read = data.read_instructions(chosen.file, *columns, skip_bad_rows=chosen.skip_bad_rows)
    prompts, references = read.prompts(), read.answers()
    generator: Any = open_generator(chosen)
    answers = generator.generate(prompts, truncate=True, **generation_options(chosen))
    scores = score_answers(answers, references)
    if chosen.engine == "keras":
        batches = data.instructions(
            read,
            generator.preprocessor.template,
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


def _score_text(chosen: argparse.Namespace, config: dict[str, Any]) -> dict[str, Any]:
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


SCORINGS = {
    "pairs": Scoring(_score_pairs, writes=True, splits_words=True),
    "instructions": Scoring(_score_answers, writes=True),
    "text": Scoring(_score_text, saves=False),
    "labels": Scoring(evaluate_classifier),
    "images": Scoring(evaluate_classifier),
}
# config.json -> the kind of data that scores a bundle of a task.
KINDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "seq2seq": lambda config: "pairs",
    "causal": lambda config: "instructions" if config.get("chat") else "text",
    "classification": lambda config: "images" if config["architecture"]["image_size"] else "labels",
}
