"""The comparison of a bundle's exports with its model on real inputs."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import keras

from tfx_transformer import bundle
from tfx_transformer.config import TransformerConfig
from tfx_transformer.console import COLUMNS, wrapped
from tfx_transformer.export.agreement import FILES, is_good, remove, variant_of
from tfx_transformer.export.tasks import task_of
from tfx_transformer.export.tensorflow_process import on_tensorflow
from tfx_transformer.export.verify_gpu import compare_gpu, sentence
from tfx_transformer.models.saving import load, update_config
from tfx_transformer.prediction.answers import TablePredictor

# Names in a bundle of all that can be verified.
EXPORTS = (bundle.SAVED_MODEL, *bundle.LITERT.values(), bundle.LITERTLM, bundle.MEDIAPIPE)


@on_tensorflow
def verify(
    path: str | os.PathLike,
    inputs: Sequence,
    model: keras.Model | None = None,
    files: Container[str] = EXPORTS,
    generator: TablePredictor | None = None,
) -> dict[str, dict[str, Any]]:
    """Run exports of a bundle on texts or image files, compare them with Keras, write the results
    into the bundle's `config.json` and README, and print them.

    An export that cannot be run, or does not answer as the model does (see `agreement`), is removed
    from the bundle; its result has "removed".

    Args:
        path: the bundle's folder.
        inputs: texts or image files.
        model: the bundle's model, if it is loaded already.
        files: names of the exports to run, such as "model.tflite"; missing ones are left out.
        generator: generator or predictor of the same model whose functions are compiled already;
            None: compile those of `model`.

    Returns: for each export "identical" (answers equal to Keras's), "of" (texts) and, for TFLite,
        "largest_logit_difference" over every step of some answers and the standard deviation of the
        logits, "logit_deviation"; for encoder-only models see `verify_encoder`. "error": why it
        could not be run; "removed": True if it was removed. With a GPU, a TFLite file that stays
        also has "gpu": see `verify_gpu.compare_gpu`.
    """
    path = Path(path)
    inputs = list(dict.fromkeys(inputs))
    config = bundle.read_config(path)
    tokenizer = None
    if model is None:
        model, tokenizer = load(path)
    elif not model.config.image_size:
        tokenizer = bundle.read_tokenizer(path, model.config.vocabulary_size)
    results = task_of(model).verify(path, inputs, model, tokenizer, files, generator)
    removed = [
        name for name, result in results.items() if not is_good(result, variant_of(name, config))
    ]
    for name in removed:
        results[name] |= {"removed": True, "summary": f"REMOVED: {results[name]['summary']}"}
    for variant, file in bundle.LITERT.items():
        if (name := f"TFLite {variant}") in results and name not in removed:
            _add_gpu(results[name], path / file, model.config)
    for name, result in results.items():
        print("\n".join(wrapped(f"  {name:<16} {result['summary']}", COLUMNS, " " * 19)))
    if removed:
        remove(path, removed)
        print(f"  {', '.join(removed)}: removed from {path}; the model itself is as it was")
    known = {
        name: result
        for name, result in config.get("verified", {}).items()
        if name in FILES and (result.get("removed") or (path / FILES[name]).exists())
    }
    update_config(path, verified=known | results)
    return results


def _add_gpu(result: dict[str, Any], file: Path, config: TransformerConfig) -> None:
    """Add the result of a TFLite file on a GPU to its results, if there is a GPU."""
    found = compare_gpu(file, config)
    if found is not None:
        result["gpu"] = found
        result["summary"] += f"; {sentence(found)}"
