"""Does an exported model answer as the trained one? Compared on real sentences."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfx_transformer import bundle, runtime
from tfx_transformer.config import TransformerConfig
from tfx_transformer.export.agreement import is_good, remove
from tfx_transformer.export.saved_model import SavedModelGenerator
from tfx_transformer.export.verify_encoder import tried, verify_encoder
from tfx_transformer.export.verify_gpu import compare_gpu, sentence
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.models.decoding import pad_source, text_generator
from tfx_transformer.models.saving import annotate, load
from tfx_transformer.runtime import litertlm
from tfx_transformer.runtime.seq2seq import Seq2SeqEngine
from tfx_transformer.text.tokenizer import Tokenizer

# LiteRT-LM begins a session for each text, which takes longer than a short answer.
_LITERTLM_TEXTS = 50
# Sentences whose logits are compared step by step; answers are compared on all. Of a large
# vocabulary fewer, so that their logits take 256 MB at most.
_LOGIT_SENTENCES = 20
_LOGITS = 2**26

Written = tuple[list[int], list[int]]


# Names in a bundle of all that can be verified.
EXPORTS = (bundle.SAVED_MODEL, *bundle.LITERT.values(), bundle.LITERTLM)


def verify(
    path: str | os.PathLike,
    inputs: Sequence,
    model: keras.Model | None = None,
    files: Container[str] = EXPORTS,
) -> dict[str, dict[str, Any]]:
    """Runs exports of a bundle on texts (or image files) and compares them with Keras; writes the
    result into the bundle's `config.json` and README, and prints it.

    An export that cannot be run, or does not answer as the model does (see `agreement`), is removed
    from the bundle; its result says so.

    Args:
        path: the bundle's folder.
        inputs: texts or image files.
        model: the bundle's, if it is loaded already.
        files: names in the bundle of what to run, such as "model.tflite", if it is there.

    Returns: for each export "identical" (answers equal to Keras's), "of" (texts) and, for TFLite,
        "largest_logit_difference" over every step of some answers, beside the logits' own
        "logit_deviation"; of classifiers and embedders see `verify_encoder`. "error": why it could
        not be run; "removed": True if it was. Where there is a GPU, a TFLite file that stays also
        has "gpu": see `verify_gpu.compare_gpu`.
    """
    path = Path(path)
    inputs = list(dict.fromkeys(inputs))
    config = bundle.read_config(path)
    encoder = config["task"] in ("classification", "embedding")
    tokenizer = None
    if model is None:
        model, tokenizer = load(path)
    elif not model.config.image_size:
        tokenizer = bundle.read_tokenizer(path, model.config.vocabulary_size)
    compare = verify_encoder if encoder else _verify_generator
    results = compare(path, inputs, model, tokenizer, files)
    removed = [
        name for name, result in results.items() if not is_good(result, _variant(name, config))
    ]
    for name in removed:
        results[name] |= {"removed": True, "summary": f"REMOVED: {results[name]['summary']}"}
    for variant, file in bundle.LITERT.items():
        if (name := f"TFLite {variant}") in results and name not in removed:
            _add_gpu(results[name], path / file, model.config)
    for name, result in results.items():
        print(f"  {name:<16} {result['summary']}")
    if removed:
        remove(path, removed)
        print(f"  {', '.join(removed)}: removed from {path}; the model itself is as it was")
    annotate(path, verified=config.get("verified", {}) | results)
    return results


def _variant(name: str, config: dict[str, Any]) -> str:
    """Return the name of the number format of an export's weights."""
    if name == "LiteRT-LM":
        return config.get("litertlm", {}).get("variant", "int8")
    return name.removeprefix("TFLite ") if name.startswith("TFLite ") else "float32"


def _add_gpu(result: dict[str, Any], file: Path, config: TransformerConfig) -> None:
    """Add how a GPU answers to what was found of a TFLite file, if there is one."""
    found = compare_gpu(file, config)
    if found is not None:
        result["gpu"] = found
        result["summary"] += f"; {sentence(found)}"


def _verify_generator(
    path: Path,
    texts: list[str],
    model: keras.Model,
    tokenizer: Tokenizer,
    files: Container[str],
) -> dict[str, dict[str, Any]]:
    keras_generator = text_generator(model, tokenizer)
    expected = keras_generator.generate(texts, truncate=True)
    results: dict[str, dict[str, Any]] = {}
    if bundle.SAVED_MODEL in files and (path / bundle.SAVED_MODEL).is_dir():
        results["SavedModel"] = tried(
            lambda: _agreement(expected, SavedModelGenerator(path).generate(texts))
        )
    size = model.config.max_sequence_length * model.config.vocabulary_size
    count = max(1, min(_LOGIT_SENTENCES, _LOGITS // size))
    written = [
        (keras_generator.encode(text, truncate=True), tokenizer.encode(answer))
        for text, answer in zip(texts[:count], expected, strict=False)
    ]
    logits = (_seq2seq_logits if model.task == "seq2seq" else _causal_logits)(model, written)
    answers: dict[str, list[str]] = {}

    def verify_tflite(variant: str) -> dict[str, Any]:
        generator = runtime.load(path, variant)
        answers[variant] = generator.generate(texts, truncate=True)
        same = _comparable(keras_generator, generator, texts, expected)
        agreement = _agreement(expected, answers[variant], same)
        return agreement | _logit_difference(logits, generator, written)

    def verify_litertlm(variant: str) -> dict[str, Any]:
        generator, few = litertlm.load(path), texts[:_LITERTLM_TEXTS]
        found = generator.generate(few, truncate=True)
        # A prompt that is cut inside a character it reads in another way than the others do.
        same = [
            i
            for i in _comparable(keras_generator, generator, few, expected)
            if generator.encode(few[i], True) == keras_generator.encode(few[i], True)
        ]
        result = _agreement(expected, found, same)
        if variant not in answers and (path / bundle.LITERT[variant]).is_file():
            answers[variant] = runtime.load(path, variant).generate(few, truncate=True)
        if variant in answers:  # a file of the same weights
            by_tflite = _agreement(answers[variant], found, same)
            result["identical_to_tflite"] = by_tflite["identical"]
        return result

    for variant, file in bundle.LITERT.items():
        if file in files and (path / file).is_file():
            results[f"TFLite {variant}"] = tried(functools.partial(verify_tflite, variant))
    packed = bundle.LITERTLM in files and (path / bundle.LITERTLM).is_file()
    if packed and importlib.util.find_spec("litert_lm"):
        variant = _variant("LiteRT-LM", bundle.read_config(path))
        results["LiteRT-LM"] = tried(functools.partial(verify_litertlm, variant))
    for result in results.values():
        if "summary" not in result:
            result["summary"] = _sentence(result)
    return results


def _comparable(
    keras_generator: TextGenerator,
    generator: TextGenerator,
    texts: Sequence[str],
    expected: Sequence[str],
) -> list[int]:
    """Return the places of the texts for which an export has room, with their answers: it may have
    a shorter context."""
    context = generator.engine.config.max_sequence_length
    engine = keras_generator.engine
    if engine.model.task == "seq2seq" or context == engine.config.max_sequence_length:
        return list(range(len(texts)))
    count = keras_generator.tokenizer.count
    return [
        i
        for i, text in enumerate(texts)
        if len(keras_generator.encode(text, truncate=True)) + count(expected[i]) < context
    ]


def _agreement(
    expected: Sequence[str], answers: Sequence[str], places: Sequence[int] | None = None
) -> dict[str, Any]:
    """Count equal answers; places: of those to compare, None: all."""
    places = range(len(expected)) if places is None else places
    return {"identical": sum(expected[i] == answers[i] for i in places), "of": len(places)}


def _logit_difference(
    expected: Sequence[np.ndarray], generator: TextGenerator, written: Sequence[Written]
) -> dict[str, float]:
    """Largest difference of any logit over the steps of given answers, and the logits' standard
    deviation for scale.

    Args:
        expected: float32 (steps, vocabulary_size) of each answer, by Keras.
        generator: of a TFLite file.
        written: the ids of a prompt and of its answer.
    """
    if not expected:
        return {}
    largest = 0.0
    for ours, (prompt, answer) in zip(expected, written, strict=True):
        for step, theirs in zip(ours, _steps(generator.engine, prompt, answer), strict=False):
            largest = max(largest, float(np.abs(step - theirs).max()))
    return {
        "largest_logit_difference": float(f"{largest:.2g}"),
        "logit_deviation": float(f"{np.std(np.concatenate(expected)):.3g}"),
    }


def _steps(engine, prompt: list[int], answer: list[int]) -> Iterator[np.ndarray]:
    """Yield the logits of a TFLite file, float32 (1, vocabulary_size), step by step: after the
    start of the answer, or the last token of the prompt, and after every token of the answer."""
    if isinstance(engine, Seq2SeqEngine):
        steps = engine.start(prompt)
        for index, token in enumerate([engine.config.start_id, *answer]):
            yield steps.step(np.array([token], "int32"), index, None)[0]
        return
    if len(prompt) > engine.config.max_sequence_length:  # exported for a shorter context
        return
    session = engine.session()
    *before, last = prompt
    if before:
        session.extend(before, 0)
    room = engine.config.max_sequence_length - len(before)
    for position, token in enumerate([last, *answer][:room], start=len(before)):
        yield session.step(np.array([token], "int32"), position)


def _seq2seq_logits(model: keras.Model, written: Sequence[Written]) -> list[np.ndarray]:
    """Return the logits of every step of each answer, float32 (steps, vocabulary_size), by one
    forward pass: what a cached step computes, to rounding."""
    config = model.config
    rows = [[config.start_id, *answer][: config.max_sequence_length] for _, answer in written]
    inputs = {
        "encoder_token_ids": pad_source([prompt for prompt, _ in written], config.padding_id),
        "decoder_token_ids": pad_source(rows, config.padding_id),
    }
    logits = np.asarray(model(inputs, training=False), "float32")
    return [logits[i, : len(row)] for i, row in enumerate(rows)]


def _causal_logits(model: keras.Model, written: Sequence[Written]) -> list[np.ndarray]:
    """As `_seq2seq_logits`, from the last token of the prompt on."""
    config = model.config
    rows = [[*prompt, *answer][: config.max_sequence_length] for prompt, answer in written]
    inputs = {"token_ids": pad_source(rows, config.padding_id)}
    logits = np.asarray(model(inputs, training=False), "float32")
    return [
        logits[i, len(prompt) - 1 : len(row)]
        for i, (row, (prompt, _)) in enumerate(zip(rows, written, strict=True))
    ]


def _sentence(result: dict[str, Any]) -> str:
    text = f"{result['identical']} of {result['of']} answers identical to Keras"
    if "largest_logit_difference" in result:
        text += (
            f"; logits differ by at most {result['largest_logit_difference']:g} "
            f"(their standard deviation is {result['logit_deviation']:g})"
        )
    return text
