"""The answers of bundles by task: one row for each task.

A new task is a row here and its own code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfx_transformer import bundle
from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.generation.preprocessors import new_preprocessor
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.prediction.answers import as_number
from tfx_transformer.prediction.classification import (
    Classification,
    Labels,
    read_labels,
    read_thresholds,
)
from tfx_transformer.prediction.image import ImageClassifier
from tfx_transformer.prediction.tagging import TextTagger
from tfx_transformer.prediction.tags import Entity, read_tags
from tfx_transformer.prediction.text import Text, TextClassifier, TextEmbedder, TextRegressor
from tfx_transformer.runtime.causal import CausalEngine
from tfx_transformer.runtime.encoder import EncoderEngine
from tfx_transformer.runtime.seq2seq import Seq2SeqEngine

Model = TextGenerator | TextClassifier | ImageClassifier | TextEmbedder | TextRegressor | TextTagger


class Parts(NamedTuple):
    """The parts of a bundle that a model is loaded from.

    path: of the bundle; values: its config.json; file: the TFLite file to run; threads: threads of
    LiteRT, None: one per core.
    """

    path: Path
    values: dict[str, Any]
    file: Path
    threads: int | None = None

    @property
    def config(self) -> TransformerConfig:
        """The architecture."""
        return TransformerConfig.from_dict(self.values["architecture"])


class Answers(NamedTuple):
    """The answers to inputs.

    inputs: a text, image or row for each answer; answers: JSON values; shown: a line for each.
    """

    inputs: Sequence[Any]
    answers: Sequence[Any]
    shown: Sequence[str]


class Task(NamedTuple):
    """The row of a task: the loader of its bundles, and their answers.

    load: (parts of a bundle) -> the model; answer: (model, texts or images of the command line,
    config.json, options of `run.pyz`) -> answers; verb: of the command line for such bundles.
    """

    load: Callable[[Parts], Model]
    answer: Callable[[Any, Sequence[str], dict[str, Any], Any], Answers]
    verb: str


def _load_causal(parts: Parts) -> TextGenerator:
    return _generator(parts, CausalEngine(parts.file, parts.config, parts.threads))


def _load_seq2seq(parts: Parts) -> TextGenerator:
    return _generator(parts, Seq2SeqEngine(parts.file, parts.config, parts.threads))


def _generator(parts: Parts, engine: CausalEngine | Seq2SeqEngine) -> TextGenerator:
    tokenizer = bundle.read_tokenizer(parts.path, parts.config.vocabulary_size)
    preprocessor = new_preprocessor(parts.values["task"], tokenizer)
    return TextGenerator(engine, preprocessor, batch_size=None)


def _load_classifier(parts: Parts) -> TextClassifier | ImageClassifier:
    config = parts.config
    names = read_labels(parts.values, config.num_classes, parts.path)
    thresholds = read_thresholds(parts.values, names)
    labels = Labels(names, config.multi_label, thresholds)
    engine = EncoderEngine(parts.file, config, parts.threads, config.num_classes)
    if config.image_size:
        return ImageClassifier(engine, labels, config)
    tokenizer = bundle.read_tokenizer(parts.path, config.vocabulary_size)
    return TextClassifier(engine, tokenizer, labels, config.max_sequence_length)


def _load_regressor(parts: Parts) -> TextRegressor:
    config = parts.config
    engine = EncoderEngine(parts.file, config, parts.threads, 1)
    tokenizer = bundle.read_tokenizer(parts.path, config.vocabulary_size)
    return TextRegressor(engine, tokenizer, config.max_sequence_length)


def _load_embedder(parts: Parts) -> TextEmbedder:
    config = parts.config
    if config.image_size:
        raise InputError(
            f"{parts.path}: a model of images with the task 'embedding' answers nothing.\n"
            "  Expected a classifier."
        )
    engine = EncoderEngine(parts.file, config, parts.threads, config.vector_dim)
    return TextEmbedder(engine, bundle.read_tokenizer(parts.path, config.vocabulary_size), config)


def _load_tagger(parts: Parts) -> TextTagger:
    config = parts.config
    tags = read_tags(parts.values, config.num_classes, parts.path)
    if config.image_size:
        raise InputError(
            f"{parts.path}: a model of images with the task 'tagging' answers nothing.\n"
            "  Expected a classifier."
        )
    engine = EncoderEngine(parts.file, config, parts.threads, config.num_classes, each_token=True)
    tokenizer = bundle.read_tokenizer(parts.path, config.vocabulary_size)
    return TextTagger(engine, tokenizer, tags, config.max_sequence_length)


def _write(model: TextGenerator, texts, values, options) -> Answers:
    written = model.generate(texts, **options.generation)
    return Answers(texts, written, written)


def _classify(model: Any, texts, values, options) -> Answers:
    rows = rows_of(texts, values)
    found = model.classify(rows)
    return Answers(rows, [one._asdict() for one in found], list(map(describe, found)))


def _embed(model: TextEmbedder, texts, values, options) -> Answers:
    vectors = model.embed(texts, prompt=options.prompt).tolist()
    return Answers(texts, vectors, [" ".join(f"{x:.6f}" for x in vector) for vector in vectors])


def _tag(model: TextTagger, texts, values, options) -> Answers:
    found = model.tag(texts)
    answers = [[entity._asdict() for entity in entities] for entities in found]
    return Answers(texts, answers, list(map(describe_entities, found)))


def _predict(model: TextRegressor, texts, values, options) -> Answers:
    rows = rows_of(texts, values)
    numbers = model.predict(rows)
    return Answers(rows, numbers.tolist(), list(map(as_number, numbers)))


TASKS = {
    "causal": Task(_load_causal, _write, "generate"),
    "seq2seq": Task(_load_seq2seq, _write, "generate"),
    "classification": Task(_load_classifier, _classify, "classify"),
    "embedding": Task(_load_embedder, _embed, "embed"),
    "tagging": Task(_load_tagger, _tag, "tag"),
    "regression": Task(_load_regressor, _predict, "predict"),
}


def rows_of(texts: Sequence[str], config: dict[str, Any]) -> list[Text]:
    """Return texts in order, grouped into rows of as many texts as a bundle's model reads.

    Args:
        texts: from a command line.
        config: from `bundle.read_config`.

    Raises:
        InputError: the last row is not complete.
    """
    columns = config.get("text_columns", 1)
    if columns == 1:
        return list(texts)
    if len(texts) % columns:
        named = f" ({', '.join(config['columns'])})" if config.get("columns") else ""
        raise InputError(
            f"the model reads {columns} texts for each row{named}; {len(texts)} are given.\n"
            '  Give the texts of a row one after the other, "" for an empty one.'
        )
    return [tuple(texts[i : i + columns]) for i in range(0, len(texts), columns)]


def describe(found: Classification) -> str:
    """Return a classification as one line, such as "sport  97.1 %"."""
    sure = len(found.labels) == 1 and found.labels[0] == found.label
    if sure or len(found.probabilities) == 1:  # a score is shown, however small
        return f"{found.label}  {100 * found.probability:.1f} %"
    chosen = [f"{name}  {100 * found.probabilities[name]:.1f} %" for name in found.labels]
    return ", ".join(chosen) or "none"


def describe_entities(found: Sequence[Entity]) -> str:
    """Return the spans of a text as one line, such as "PERSON: Ann Lee  97.1 %"."""
    shown = (f"{one.label}: {one.text}  {100 * one.probability:.1f} %" for one in found)
    return ", ".join(shown) or "none"
