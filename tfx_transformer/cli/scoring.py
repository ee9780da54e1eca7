"""The verb that scores a bundle: evaluate. One row for each kind of data that is scored."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tfx_transformer import files
from tfx_transformer.cli.classifiers import evaluate_classifier
from tfx_transformer.cli.comparing import compare
from tfx_transformer.cli.data import ScoredColumns, TableReading, check_given
from tfx_transformer.cli.engines import Variant, WritingEngine, check_writable, open_generator
from tfx_transformer.cli.regressors import evaluate_regressor
from tfx_transformer.cli.taggers import evaluate_tagger
from tfx_transformer.errors import InputError
from tfx_transformer.generation.options import GenerationOptions

# Tokenizers of sacrebleu that need no download.
Tokenize = Literal["13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "none"]


class Scored(NamedTuple):
    """The bundle to score and its config.json, the file and the names of its columns, and the flags
    of `evaluate`."""

    bundle: Path
    config: dict[str, Any]
    file: str | os.PathLike[str]
    columns: dict[str, str]
    skip_bad_rows: bool
    engine: WritingEngine
    variant: Variant | None
    tokenize: str | None
    save: Path | None
    generation: GenerationOptions


class Scoring(NamedTuple):
    """The row of a kind of data.

    score: the function that scores it; writes: it uses the flags of generation; splits_words: it
    uses --tokenize; saves: it uses --save.
    """

    score: Callable[[Scored], dict[str, Any]]
    writes: bool = False
    splits_words: bool = False
    saves: bool = True


def evaluate(
    bundle: Path,
    file: Path,
    /,
    *,
    columns: ScoredColumns,
    skip_bad_rows: bool = False,
    reading: TableReading,
    engine: WritingEngine = "keras",
    variant: Variant | None = None,
    tokenize: Tokenize | None = None,
    save: Path | None = None,
    against: Path | None = None,
    generation: GenerationOptions,
) -> dict[str, Any]:
    """Score a bundle on a file: translations, answers, labels, spans, numbers, bits per byte.

    Args:
        bundle: Folder of a bundle, such as saved_models/en_ja.
        file: Table or text to score the bundle on.
        columns: Names of columns, where they differ from the defaults.
        skip_bad_rows: Skip rows that cannot be used, and list them.
        reading: How to read the table, where that cannot be detected.
        engine: Program that runs the model.
        variant: TFLite file to run. [the first in the bundle]
        tokenize: Tokenizer of BLEU. [by the script of the references]
        save (FILE.csv): File to write to: sources, answers and references, or the mistakes.
        against (BUNDLE): Older bundle to compare with on the same rows: prints both scores, and
            their difference with a 95 % interval, instead of all scores.
        generation: How answers are written.
    """
    from tfx_transformer.bundle import read_config

    config = read_config(bundle)
    table = reading.file(file)
    task = config["task"]
    if task not in KINDS:
        raise InputError(
            f"{bundle}: a model of task {task!r} is not scored here.\n"
            "  An embedder: tfx-transformer similar BUNDLE --csv FILE --first … --second …\n"
            "  A masked model: fine-tune it with --base, and evaluate the model made of it."
        )
    kind = KINDS[task](config)
    check_given(kind, columns.given())
    scored = Scored(
        bundle,
        config,
        table,
        columns.of(kind),
        skip_bad_rows,
        engine,
        variant,
        tokenize,
        save,
        generation,
    )
    scoring = SCORINGS[kind]
    if unused := _unused(scored, scoring):
        raise InputError(
            f"{', '.join(unused)}: not used to score {bundle}, a model of task {task!r}.\n"
            "  Drop it."
        )
    check_writable(save=save)
    return compare(scored, kind, against) if against else scoring.score(scored)


def _unused(scored: Scored, scoring: Scoring) -> list[str]:
    """Return the given flags that have no effect."""
    unused = []
    if not scoring.writes:
        usual = vars(GenerationOptions())
        unused = [
            "--" + name.replace("_", "-")
            for name, value in vars(scored.generation).items()
            if value != usual[name]
        ]
    unused += ["--tokenize"] * bool(scored.tokenize and not scoring.splits_words)
    return unused + ["--save"] * bool(scored.save and not scoring.saves)


def _score_pairs(scored: Scored) -> dict[str, Any]:
    from tfx_transformer import data
    from tfx_transformer.evaluation import score_texts

    pairs = data.read_pairs(scored.file, **scored.columns, skip_bad_rows=scored.skip_bad_rows)
    generator: Any = open_generator(scored.bundle, scored.engine, scored.variant)
    answers = generator.generate(pairs.source, truncate=True, **vars(scored.generation))
    scores = score_texts(answers, pairs.target, scored.tokenize)
    if scored.engine == "keras":
        length = generator.max_prompt_tokens
        batches = data.pairs(pairs, generator.tokenizer, max_length=length, shuffle=False)
        scores["perplexity"] = _perplexity(generator, batches)
    print(
        f"BLEU {scores['bleu']:.2f} (tokenize={scores['bleu_tokenize']})  chrF {scores['chrf']:.2f}"
        f"  exactly right {100 * scores['exact_match']:.1f} % of {scores['count']:,}"
    )
    _save(scored.save, {"source": pairs.source, "answer": answers, "reference": pairs.target})
    return scores


def _score_answers(scored: Scored) -> dict[str, Any]:
    from tfx_transformer import data
    from tfx_transformer.evaluation import score_answers

    columns = scored.columns.values()
    read = data.read_instructions(scored.file, *columns, skip_bad_rows=scored.skip_bad_rows)
    prompts, references = read.prompts(), read.answers()
    generator: Any = open_generator(scored.bundle, scored.engine, scored.variant)
    answers = generator.generate(prompts, truncate=True, **vars(scored.generation))
    scores = score_answers(answers, references)
    if scored.engine == "keras":
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
    _save(scored.save, {"source": sources, "answer": answers, "reference": references})
    return scores


def _score_calls(scored: Scored) -> dict[str, Any]:
    from tfx_transformer import data
    from tfx_transformer.evaluation.calls import score_calls

    generator: Any = open_generator(scored.bundle, scored.engine, scored.variant)
    tools = generator.tokenizer.tools
    if tools is None:
        raise InputError(f"{scored.bundle}: tools.json is missing.\n  Copy the whole folder again.")
    columns = scored.columns.values()
    read = data.read_tool_calls(scored.file, tools, *columns, skip_bad_rows=scored.skip_bad_rows)
    answers = generator.generate(read.prompts(), truncate=True, **vars(scored.generation))
    scores = score_calls(answers, read.calls, tools)
    print(
        f"exact calls {100 * scores['exact_calls']:.1f} % of {scores['count']:,}"
        f"  right tool {100 * scores['right_tools']:.1f} %"
        f"  valid calls {100 * scores['valid_calls']:.1f} %"
    )
    sources, references = read.utterances, read.answers()
    _save(scored.save, {"source": sources, "answer": answers, "reference": references})
    return scores


def _score_text(scored: Scored) -> dict[str, Any]:
    import tempfile

    from tfx_transformer import data
    from tfx_transformer.models.losses import BitsPerByte, Perplexity
    from tfx_transformer.models.row_losses import row_losses
    from tfx_transformer.models.saving import load

    if scored.engine != "keras":
        raise InputError("only Keras gives the probability of a text.\n  Use --engine keras.")
    model, tokenizer = load(scored.bundle)
    with tempfile.TemporaryDirectory() as folder:
        documents = data.read_documents(
            scored.file, **scored.columns, skip_bad_rows=scored.skip_bad_rows
        )
        tokens = data.write_tokens(documents, tokenizer, Path(folder, "tokens.bin"))
        batches = data.blocks(
            tokens, length=model.config.max_sequence_length, batch_size=16, shuffle=False
        )
        model.compile(weighted_metrics=[Perplexity(), BitsPerByte(tokens.bytes_per_token)])
        measured = model.evaluate(batches, verbose=0, return_dict=True)
        intervals = row_losses(model, batches).intervals(tokens.bytes_per_token)
    # Keras averages the loss over batches, the metric over tokens.
    measured["loss"] = math.log(measured["perplexity"])
    scores = {name: round(float(value), 4) for name, value in measured.items()}
    print(
        f"loss {scores['loss']:.4f} per token  perplexity {scores['perplexity']:.3f}"
        f"  {scores['bits_per_byte']:.4f} bits per byte of {tokens.bytes:,}"
    )
    found = {name: [round(end, 4) for end in ends] for name, ends in intervals.items() if ends}
    for name, (low, high) in found.items():
        print(f"  {name.replace('_', ' ')}: 95 % {low:.4g} to {high:.4g}, over blocks of the text")
    scores |= {"intervals": found} if found else {}
    return scores | {"tokens": tokens.tokens, "bytes": tokens.bytes}


def _perplexity(generator, batches) -> float:
    model = generator.engine.model
    model.compile()
    value = round(model.evaluate(batches, verbose=0, return_dict=True)["perplexity"], 3)
    print(f"perplexity {value:.3f} per token", end="  ")
    return value


def _save(file: Path | None, table: dict[str, list[str]]) -> None:
    if file:
        import pandas

        files.write(file, pandas.DataFrame(table).to_csv(index=False))


def _causal_kind(config: dict[str, Any]) -> str:
    if config.get("tools"):
        return "calls"
    return "instructions" if config.get("chat") else "text"


SCORINGS = {
    "pairs": Scoring(_score_pairs, writes=True, splits_words=True),
    "instructions": Scoring(_score_answers, writes=True),
    "calls": Scoring(_score_calls, writes=True),
    "text": Scoring(_score_text, saves=False),
    "labels": Scoring(evaluate_classifier),
    "images": Scoring(evaluate_classifier),
    "numbers": Scoring(evaluate_regressor),
    "spans": Scoring(evaluate_tagger),
}
# config.json -> the kind of data that scores a bundle of a task.
KINDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "seq2seq": lambda config: "pairs",
    "causal": _causal_kind,
    "classification": lambda config: "images" if config["architecture"]["image_size"] else "labels",
    "regression": lambda config: "numbers",
    "tagging": lambda config: "spans",
}
