"""Does an exported model answer as the trained one? Compared on real sentences."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfx_transformer import bundle, runtime
from tfx_transformer.export.saved_model import SavedModelGenerator
from tfx_transformer.models.decoding import decode_one_token, prepare, text_generator
from tfx_transformer.models.saving import annotate, load

# Sentences whose logits are compared step by step; answers are compared on all.
_LOGIT_SENTENCES = 20


def verify(path: str | os.PathLike, texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Runs every export of a bundle on texts and compares it with Keras; writes the result into
    the bundle's `config.json` and README, and prints it.

    Returns: for each export "identical" (answers equal to Keras's), "of" (texts) and, for TFLite,
        "largest_logit_difference" over every step of some answers, beside the logits' own
        "logit_deviation".
    """
    path = Path(path)
    texts = list(dict.fromkeys(texts))
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
            model, generator, zip(texts[:_LOGIT_SENTENCES], expected, strict=False)
        )
    for name, result in results.items():
        result["summary"] = _sentence(result)
        print(f"  {name:<15} {result['summary']}")
    annotate(path, verified=results)
    return results


def _agreement(expected: Sequence[str], answers: Sequence[str]) -> dict[str, Any]:
    pairs = list(zip(expected, answers, strict=True))
    return {"identical": sum(a == b for a, b in pairs), "of": len(pairs)}


def _logit_difference(model, generator, pairs) -> dict[str, float]:
    """Largest difference of any logit over the steps of given answers, and the logits' standard
    deviation for scale."""
    tokenizer, largest, logits = generator.tokenizer, 0.0, []
    for text, answer in pairs:
        limit = model.config.max_sequence_length
        source = [*tokenizer.encode(text)[: limit - 1], tokenizer.end_id]
        memory, mask = prepare(model, np.array([source], "int32"), 1)
        cache = model.new_cache(1, limit)
        steps = generator.engine.start(source)
        for position, token in enumerate([tokenizer.start_id, *tokenizer.encode(answer)][:limit]):
            ids = np.array([token], "int32")
            ours, cache = decode_one_token(model, ids, position, memory, mask, cache)
            theirs, _ = steps.step(ids, position, None)
            logits.append(np.asarray(ours))
            largest = max(largest, float(np.abs(logits[-1] - theirs).max()))
    return {
        "largest_logit_difference": float(f"{largest:.2g}"),
        "logit_deviation": float(f"{np.std(logits):.3g}"),
    }


def _sentence(result: dict[str, Any]) -> str:
    text = f"{result['identical']} of {result['of']} answers identical to Keras"
    if "largest_logit_difference" in result:
        text += (
            f"; logits differ by at most {result['largest_logit_difference']:g} "
            f"(their standard deviation is {result['logit_deviation']:g})"
        )
    return text
