"""Does an exported model answer as the trained one? Compared on real sentences."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfx_transformer import bundle, runtime
from tfx_transformer.export.saved_model import SavedModelGenerator
from tfx_transformer.export.verify_encoder import verify_encoder
from tfx_transformer.models.decoding import text_generator
from tfx_transformer.models.saving import annotate, load
from tfx_transformer.runtime import litertlm

# LiteRT-LM begins a session for each text, which takes longer than a short answer.
_LITERTLM_TEXTS = 50
# Sentences whose logits are compared step by step; answers are compared on all.
_LOGIT_SENTENCES = 20


def verify(path: str | os.PathLike, inputs: Sequence) -> dict[str, dict[str, Any]]:
    """Runs every export of a bundle on texts (or image files) and compares it with Keras; writes
    the result into the bundle's `config.json` and README, and prints it.

    Returns: for each export "identical" (answers equal to Keras's), "of" (texts) and, for TFLite,
        "largest_logit_difference" over every step of some answers, beside the logits' own
        "logit_deviation"; of classifiers and embedders see `verify_encoder`.
    """
    path = Path(path)
    inputs = list(dict.fromkeys(inputs))
    encoder = bundle.read_config(path)["task"] in ("classification", "embedding")
    results = (verify_encoder if encoder else _verify_generator)(path, inputs)
    for name, result in results.items():
        print(f"  {name:<16} {result['summary']}")
    annotate(path, verified=results)
    return results


def _verify_generator(path: Path, texts: list[str]) -> dict[str, dict[str, Any]]:
    model, tokenizer = load(path)
    keras_generator = text_generator(model, tokenizer)
    expected = keras_generator.generate(texts, truncate=True)
    results: dict[str, dict[str, Any]] = {}
    if (path / bundle.SAVED_MODEL).is_dir():
        answers = SavedModelGenerator(path).generate(texts)
        results["SavedModel"] = _agreement(expected, answers)
    for variant, file in bundle.LITERT.items():
        if not (path / file).is_file():
            continue
        generator = runtime.load(path, variant)
        results[f"TFLite {variant}"] = _agreement(
            expected, generator.generate(texts, truncate=True)
        ) | _logit_difference(
            keras_generator, generator, zip(texts[:_LOGIT_SENTENCES], expected, strict=False)
        )
    if (path / bundle.LITERTLM).is_file() and importlib.util.find_spec("litert_lm"):
        few = texts[:_LITERTLM_TEXTS]
        answers = litertlm.load(path).generate(few, truncate=True)
        results["LiteRT-LM"] = _agreement(expected[: len(few)], answers)
    for result in results.values():
        result["summary"] = _sentence(result)
    return results


def _agreement(expected: Sequence[str], answers: Sequence[str]) -> dict[str, Any]:
    pairs = list(zip(expected, answers, strict=True))
    return {"identical": sum(a == b for a, b in pairs), "of": len(pairs)}


def _logit_difference(keras_generator, generator, pairs) -> dict[str, float]:
    """Largest difference of any logit over the steps of given answers, and the logits' standard
    deviation for scale."""
    tokenizer = generator.tokenizer
    steps = _seq2seq_steps if keras_generator.engine.model.task == "seq2seq" else _causal_steps
    largest, logits = 0.0, []
    for text, answer in pairs:
        prompt = keras_generator.encode(text, truncate=True)
        for ours, theirs in steps(keras_generator, generator, prompt, tokenizer.encode(answer)):
            logits.append(ours)
            largest = max(largest, float(np.abs(ours - theirs).max()))
    return {
        "largest_logit_difference": float(f"{largest:.2g}"),
        "logit_deviation": float(f"{np.std(logits):.3g}"),
    }


def _seq2seq_steps(keras_generator, generator, prompt, answer):
    """Logits of both, float32 (1, vocabulary_size), after every token of an answer."""
    model, config = keras_generator.engine.model, keras_generator.engine.config
    limit = config.max_sequence_length
    _, context, cache = model.begin(np.array([prompt], "int32"), len(prompt), limit)
    steps = generator.engine.start(prompt)
    for index, token in enumerate([config.start_id, *answer][:limit]):
        ids = np.array([token], "int32")
        ours, cache = model.step(ids, index, context, cache)
        theirs, _ = steps.step(ids, index, None)
        yield np.asarray(ours), theirs


def _causal_steps(keras_generator, generator, prompt, answer):
    """As `_seq2seq_steps`, after the last token of the prompt and every token of the answer."""
    sessions = [keras_generator.engine.session(), generator.engine.session()]
    *before, last = prompt
    if before:
        for session in sessions:
            session.extend(before, 0)
    room = keras_generator.engine.config.max_sequence_length - len(before)
    for position, token in enumerate([last, *answer][:room], start=len(before)):
        ids = np.array([token], "int32")
        yield tuple(session.step(ids, position) for session in sessions)


def _sentence(result: dict[str, Any]) -> str:
    text = f"{result['identical']} of {result['of']} answers identical to Keras"
    if "largest_logit_difference" in result:
        text += (
            f"; logits differ by at most {result['largest_logit_difference']:g} "
            f"(their standard deviation is {result['logit_deviation']:g})"
        )
    return text
