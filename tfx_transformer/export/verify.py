"""Does an exported model answer as the trained one? Compared on real sentences."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfx_transformer import bundle, runtime
from tfx_transformer.export.saved_model import SavedModelGenerator
from tfx_transformer.export.verify_encoder import verify_encoder
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

    Args:
        path: the bundle's folder.
        inputs: texts or image files.
        model: the bundle's, if it is loaded already.
        files: names in the bundle of what to run, such as "model.tflite", if it is there.

    Returns: for each export "identical" (answers equal to Keras's), "of" (texts) and, for TFLite,
        "largest_logit_difference" over every step of some answers, beside the logits' own
        "logit_deviation"; of classifiers and embedders see `verify_encoder`.
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
    for name, result in results.items():
        print(f"  {name:<16} {result['summary']}")
    annotate(path, verified=config.get("verified", {}) | results)
    return results


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
        answers = SavedModelGenerator(path).generate(texts)
        results["SavedModel"] = _agreement(expected, answers)
    size = model.config.max_sequence_length * model.config.vocabulary_size
    count = max(1, min(_LOGIT_SENTENCES, _LOGITS // size))
    written = [
        (keras_generator.encode(text, truncate=True), tokenizer.encode(answer))
        for text, answer in zip(texts[:count], expected, strict=False)
    ]
    logits = (_seq2seq_logits if model.task == "seq2seq" else _causal_logits)(model, written)
    for variant, file in bundle.LITERT.items():
        if file not in files or not (path / file).is_file():
            continue
        generator = runtime.load(path, variant)
        answers = generator.generate(texts, truncate=True)
        results[f"TFLite {variant}"] = _agreement(expected, answers) | _logit_difference(
            logits, generator, written
        )
    packed = bundle.LITERTLM in files and (path / bundle.LITERTLM).is_file()
    if packed and importlib.util.find_spec("litert_lm"):
        few = texts[:_LITERTLM_TEXTS]
        answers = litertlm.load(path).generate(few, truncate=True)
        results["LiteRT-LM"] = _agreement(expected[: len(few)], answers)
    for result in results.values():
        result["summary"] = _sentence(result)
    return results


def _agreement(expected: Sequence[str], answers: Sequence[str]) -> dict[str, Any]:
    pairs = list(zip(expected, answers, strict=True))
    return {"identical": sum(a == b for a, b in pairs), "of": len(pairs)}


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
