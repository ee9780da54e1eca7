"""The comparison of an encoder-only model's exports with Keras on real inputs."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfx_transformer import bundle, runtime
from tfx_transformer.export import saved_model_file, verify_mediapipe
from tfx_transformer.models.decoding import pad_source
from tfx_transformer.models.predicting import predictor
from tfx_transformer.prediction.tagging import TaggedTokens, TextTagger
from tfx_transformer.prediction.tags import Entity, Tags, read_tags
from tfx_transformer.runtime import litertlm_embedder
from tfx_transformer.text.framing import frame
from tfx_transformer.text.offsets import trimmed
from tfx_transformer.text.tokenizer import Tokenizer

# Relative difference of two equal computations in float32.
_ROUNDING = 1e-5


class Reading(NamedTuple):
    """The functions that read and compare the outputs of a task.

    Attributes:
        output: (predictor, inputs) -> float32 (inputs, width); (inputs,) for a regressor, a list
            for a tagger.
        compare: (output of Keras, output of an export) -> result of `verify_encoder`.
        prompted: (predictor, inputs) -> inputs after the model's prompt.
        serve: (bundle's folder, inputs, tokenizer) -> output of the SavedModel.
        mediapipe: (bundle's folder, inputs after the prompt) -> output of MediaPipe; None: it has
            no such task.
    """

    output: Callable[[Any, Sequence], Any]
    compare: Callable[[Any, Any], dict[str, Any]]
    prompted: Callable[[Any, Sequence], Sequence]
    serve: Callable[[Path, Sequence, Any], Any]
    mediapipe: Callable[[Path, Sequence], Any] | None = None


def verify_encoder(
    reading: Reading,
    path: Path,
    inputs: Sequence,
    model: keras.Model,
    tokenizer: Tokenizer | None,
    files: Container[str],
    generator: Any,
) -> dict[str, dict[str, Any]]:
    """Run exports of a bundle on texts or images, and compare them with Keras.

    Args:
        reading: functions of the task.
        path: the bundle's folder.
        inputs: texts or image files.
        model, tokenizer: model and tokenizer of the bundle.
        files: names of the exports to run; missing ones are left out.
        generator: the model's predictor, if it is compiled already; see `verification.verify`.

    Returns: for each export "of" (inputs) and, for a classifier, "identical" (most probable labels
        equal to Keras's) and "largest_probability_difference"; for an embedder "identical" (vectors
        equal but for rounding) and "smallest_cosine"; for a regressor "identical" (numbers equal
        but for rounding), "largest_difference" and the numbers' "deviation"; for a tagger
        "identical" (texts with equal spans) and "largest_probability_difference" of a tag.
    """
    config = bundle.read_config(path)
    answering = generator
    if answering is None:
        answering = predictor(model, tokenizer, config.get("labels", ()))
        answering.engine.begin_eagerly()
    expected = reading.output(answering, inputs)
    results = {}
    if bundle.SAVED_MODEL in files and (path / bundle.SAVED_MODEL).is_dir():
        # If its inputs are ids, the prompt must be put before the text here.
        by_ids = tokenizer is not None and not tokenizer.is_plain
        given = reading.prompted(answering, inputs) if by_ids else inputs
        results["SavedModel"] = try_export(
            lambda: reading.compare(expected, reading.serve(path, given, tokenizer))
        )
    for variant, file in bundle.LITERT.items():
        if file in files and (path / file).is_file():
            results[f"TFLite {variant}"] = try_export(
                lambda variant=variant: reading.compare(
                    expected, reading.output(runtime.load(path, variant), inputs)
                )
            )
    packed = bundle.LITERTLM in files and (path / bundle.LITERTLM).is_file()
    if packed and can_run("LiteRT-LM", "litert_lm"):
        results["LiteRT-LM"] = try_export(
            lambda: reading.compare(expected, litertlm_embedder.load(path).embed(inputs))
        )
    made = bundle.MEDIAPIPE in files and (path / bundle.MEDIAPIPE).is_file()
    if made and reading.mediapipe and can_run("MediaPipe", "mediapipe"):
        given = reading.prompted(answering, inputs)
        results["MediaPipe"] = try_export(
            lambda: reading.compare(expected, reading.mediapipe(path, given))
        )
    return results


def can_run(name: str, module: str) -> bool:
    """Return True if the package that runs a file is installed; else print that the file is not
    compared.

    Args:
        name: of the program.
        module: of its package.
    """
    if importlib.util.find_spec(module) is not None:
        return True
    package = module.replace("_", "-")
    print(f"  {name}'s file was not compared; for that: pip install {package}")
    return False


def try_export(verification: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of a verification, or why the export could not be run: an engine may fail
    in any way, and that must not end the run of a trained model."""
    try:
        return verification()
    except (ImportError, OSError):  # not the export's fault
        raise
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        return {"error": why, "summary": f"could not be run: {why}"}


def _run_saved_model(
    output: str, path: Path, inputs: Sequence, tokenizer=None, batch_size: int = 64
) -> np.ndarray:
    """Return a named output of the SavedModel for texts or image files."""
    served = saved_model_file.load(path / bundle.SAVED_MODEL)
    by_ids = tokenizer is not None and not tokenizer.is_plain
    results, longest = [], bundle.read_config(path)["architecture"]["max_sequence_length"]
    for start in range(0, len(inputs), batch_size):
        batch = inputs[start : start + batch_size]
        if isinstance(batch[0], Path):
            batch = [file.read_bytes() for file in batch]
        if by_ids:
            ids = [frame(tokenizer, item, longest) for item in batch]
            answer = served.serve(tf.constant(pad_source(ids, tokenizer.padding_id)))
            results.append(answer[output].numpy())
            continue
        rows = [item if isinstance(item, tuple) else (item,) for item in batch]
        answer = served.serve(*map(tf.constant, zip(*rows, strict=True)))
        results.append(answer[output].numpy())
    return np.concatenate(results)


def _compare_vectors(expected: np.ndarray, output: np.ndarray) -> dict[str, Any]:
    count = len(expected)
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(output, axis=1)
    cosines = (expected * output).sum(axis=1) / np.maximum(lengths, 1e-12)
    rounding = _ROUNDING * np.maximum(np.linalg.norm(expected, axis=1), 1)
    equal = int((np.abs(expected - output).max(axis=1) <= rounding).sum())
    smallest = float(f"{cosines.min():.6f}")
    summary = f"vectors of {count} texts have cosines of at least {smallest} with those of Keras"
    return {"identical": equal, "of": count, "smallest_cosine": smallest, "summary": summary}


def _compare_labels(expected: np.ndarray, output: np.ndarray) -> dict[str, Any]:
    count = len(expected)
    equal = int((expected.argmax(axis=1) == output.argmax(axis=1)).sum())
    largest = float(f"{np.abs(expected - output).max():.2g}")
    return {
        "identical": equal,
        "of": count,
        "largest_probability_difference": largest,
        "summary": f"{equal} of {count} labels identical to Keras; "
        f"probabilities differ by at most {largest:g}",
    }


# The spans of a text, and the probabilities of the tags of its tokens.
_Marked = tuple[list[Entity], np.ndarray]


def _mark(tagger: TextTagger, texts: Sequence[str]) -> list[_Marked]:
    return _decode_tags(tagger.tags, texts, tagger.tokens(texts))


def _decode_tags(tags: Tags, texts: Sequence[str], tokens: Sequence[TaggedTokens]) -> list[_Marked]:
    found = []
    for text, (offsets, logits) in zip(texts, tokens, strict=True):
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        found.append((tags.entities(text, offsets, logits), probabilities))
    return found


class _Served:
    """A `prediction.text.TextEngine` of a SavedModel that takes token ids."""

    def __init__(self, served: Any, padding_id: int) -> None:
        self._served, self._padding_id = served, padding_id

    def run_ids(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        found = self._served.serve(tf.constant(pad_source(rows, self._padding_id)))
        return _logits(found["probabilities"].numpy())


def _run_saved_tagger(
    path: Path, texts: Sequence[str], tokenizer: Tokenizer, batch_size: int = 64
) -> list[_Marked]:
    """Return the spans and tag probabilities of texts by the SavedModel of a tagger."""
    served = saved_model_file.load(path / bundle.SAVED_MODEL)
    config = bundle.read_config(path)
    architecture = config["architecture"]
    tags = read_tags(config, architecture["num_classes"], path)
    if not tokenizer.is_plain:
        engine = _Served(served, tokenizer.padding_id)
        longest = architecture["max_sequence_length"]
        return _mark(TextTagger(engine, tokenizer, tags, longest), texts)
    tokens = []
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        answer = {n: value.numpy() for n, value in served.serve(tf.constant(batch)).items()}
        for row, text in enumerate(batch):
            kept = answer["probabilities"][row].sum(axis=1) > 0
            places = (answer[name][row][kept].tolist() for name in ("starts", "ends"))
            offsets = trimmed(text, list(zip(*places, strict=True)))
            tokens.append(TaggedTokens(offsets, _logits(answer["probabilities"][row][kept])))
    return _decode_tags(tags, texts, tokens)


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, np.finfo("float32").tiny))


def _compare_spans(expected: list[_Marked], output: list[_Marked]) -> dict[str, Any]:
    pairs = list(zip(expected, output, strict=True))
    equal = sum(_places(ours) == _places(theirs) for (ours, _), (theirs, _) in pairs)
    different = [np.abs(ours - theirs).max() for (_, ours), (_, theirs) in pairs if ours.size]
    largest = float(f"{max(different, default=0.0):.2g}")
    return {
        "identical": equal,
        "of": len(pairs),
        "largest_probability_difference": largest,
        "summary": f"spans of {equal} of {len(pairs)} texts identical to Keras; "
        f"probabilities of tags differ by at most {largest:g}",
    }


def _places(entities: Sequence[Entity]) -> list[tuple[int, int, str]]:
    return [entity[:3] for entity in entities]


def _compare_numbers(expected: np.ndarray, output: np.ndarray) -> dict[str, Any]:
    count = len(expected)
    differences = np.abs(expected - output)
    # The spread of the numbers may be small compared with their mean.
    scale = max(float(np.abs(expected).max()), float(np.ptp(expected)), 1e-30)
    equal = int((differences <= _ROUNDING * scale).sum())
    largest = float(f"{differences.max():.2g}")
    return {
        "identical": equal,
        "of": count,
        "largest_difference": largest,
        "deviation": float(f"{expected.std():.3g}"),
        "summary": f"{count} numbers differ from those of Keras by at most {largest:g}",
    }


CLASSIFIER = Reading(
    lambda answering, inputs: answering.probabilities(inputs),
    _compare_labels,
    lambda answering, inputs: inputs,
    functools.partial(_run_saved_model, "probabilities"),
    verify_mediapipe.probabilities,
)
REGRESSOR = Reading(
    lambda answering, inputs: answering.predict(inputs),
    _compare_numbers,
    lambda answering, inputs: inputs,
    functools.partial(_run_saved_model, "predictions"),
)
EMBEDDER = Reading(
    lambda answering, inputs: answering.embed(inputs),
    _compare_vectors,
    lambda answering, inputs: answering.add_prompts(inputs),
    functools.partial(_run_saved_model, "embeddings"),
    verify_mediapipe.vectors,
)
TAGGER = Reading(_mark, _compare_spans, lambda answering, inputs: inputs, _run_saved_tagger)
