"""The comparison of exports of a model that writes with Keras on real sentences."""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from tfx_transformer import bundle, runtime
from tfx_transformer.export.agreement import variant_of
from tfx_transformer.export.saved_model_generator import SavedModelGenerator
from tfx_transformer.export.verify_encoder import can_run, try_export
from tfx_transformer.generation.text import TextGenerator
from tfx_transformer.models.decoding import forced_inputs, text_generator
from tfx_transformer.runtime import litertlm
from tfx_transformer.runtime.seq2seq import Seq2SeqRows
from tfx_transformer.text.tokenizer import Tokenizer

# Most texts for LiteRT-LM: it starts a session for each, which takes longer than a short answer.
_LITERTLM_TEXTS = 50
# Sentences whose logits are compared step by step; answers are compared on all sentences. Fewer for
# a large vocabulary, so that the logits take 256 MB at most.
_LOGIT_SENTENCES = 20
_LOGITS = 2**26

Written = tuple[list[int], list[int]]


class Stepping(NamedTuple):
    """The logits of a task's answers, step by step.

    Attributes:
        expected: (model, ids of prompts and of answers) -> Keras's logits of each answer, float32
            (steps, vocabulary_size).
        steps: (engine of a TFLite file, prompts with answers) -> for each way of the file to step
            through an answer, and for each of its steps: the answer's place, the number of the
            step, and the logits after it, float32 (vocabulary_size,), or (beams, vocabulary_size).
            They are compared as they come: all logits of many beams would take gigabytes.
        shares_context: True if prompt and answer share a cache, which may be shorter in an export.
    """

    expected: Callable[[keras.Model, Sequence[Written]], list[np.ndarray]]
    steps: Callable[[Any, Sequence[Written]], Iterator[tuple[int, int, np.ndarray]]]
    shares_context: bool


def verify_generator(
    stepping: Stepping,
    path: Path,
    texts: list[str],
    model: keras.Model,
    tokenizer: Tokenizer,
    files: Container[str],
    generator: TextGenerator | None,
) -> dict[str, dict[str, Any]]:
    """Run exports of a model that writes on texts, and compare them with Keras; see
    `verification.verify`."""
    keras_generator = generator or text_generator(model, tokenizer)
    # No graph holds answers to the form of calls.
    free: dict[str, Any] = {"free": True} if tokenizer.tools is not None else {}
    expected = keras_generator.generate(texts, truncate=True, **free)
    results: dict[str, dict[str, Any]] = {}
    if bundle.SAVED_MODEL in files and (path / bundle.SAVED_MODEL).is_dir():
        results["SavedModel"] = try_export(
            lambda: _agreement(expected, SavedModelGenerator(path).generate(texts))
        )
    size = model.config.max_sequence_length * model.config.vocabulary_size
    count = max(1, min(_LOGIT_SENTENCES, _LOGITS // size))
    written = [
        (keras_generator.encode(text, truncate=True), tokenizer.encode(answer))
        for text, answer in zip(texts[:count], expected, strict=False)
    ]
    logits = stepping.expected(model, written)
    answers: dict[str, list[str]] = {}

    def verify_tflite(variant: str) -> dict[str, Any]:
        generator = runtime.load(path, variant)
        answers[variant] = generator.generate(texts, truncate=True, **free)
        same = _comparable(stepping, keras_generator, generator, texts, expected)
        agreement = _agreement(expected, answers[variant], same)
        return agreement | _logit_difference(stepping, logits, generator, written)

    def verify_litertlm(variant: str) -> dict[str, Any]:
        generator, few = litertlm.load(path), texts[:_LITERTLM_TEXTS]
        found = generator.generate(few, truncate=True, **free)
        # LiteRT-LM reads a prompt that is cut inside a character in another way.
        same = [
            i
            for i in _comparable(stepping, keras_generator, generator, few, expected)
            if generator.encode(few[i], True) == keras_generator.encode(few[i], True)
        ]
        result = _agreement(expected, found, same)
        if variant not in answers and (path / bundle.LITERT[variant]).is_file():
            answers[variant] = runtime.load(path, variant).generate(few, truncate=True, **free)
        if variant in answers:  # a file of the same weights
            by_tflite = _agreement(answers[variant], found, same)
            result["identical_to_tflite"] = by_tflite["identical"]
        return result

    for variant, file in bundle.LITERT.items():
        if file in files and (path / file).is_file():
            results[f"TFLite {variant}"] = try_export(functools.partial(verify_tflite, variant))
    packed = bundle.LITERTLM in files and (path / bundle.LITERTLM).is_file()
    if packed and can_run("LiteRT-LM", "litert_lm"):
        variant = variant_of("LiteRT-LM", bundle.read_config(path))
        results["LiteRT-LM"] = try_export(functools.partial(verify_litertlm, variant))
    for result in results.values():
        if "summary" not in result:
            result["summary"] = _sentence(result)
    return results


def _comparable(
    stepping: Stepping,
    keras_generator: TextGenerator,
    generator: TextGenerator,
    texts: Sequence[str],
    expected: Sequence[str],
) -> list[int]:
    """Return the places of the texts that fit into both contexts with their answers: that of an
    export may be shorter or longer than the model's."""
    context = generator.engine.config.max_sequence_length
    longest = keras_generator.engine.config.max_sequence_length
    if not stepping.shares_context or context == longest:
        return list(range(len(texts)))
    context = min(context, longest)
    count = keras_generator.tokenizer.count
    return [
        i
        for i, text in enumerate(texts)
        if len(keras_generator.encode(text, truncate=True)) + count(expected[i]) < context
    ]


def _agreement(
    expected: Sequence[str], answers: Sequence[str], places: Sequence[int] | None = None
) -> dict[str, Any]:
    """Return the count of equal answers; places: those to compare, None: all."""
    places = range(len(expected)) if places is None else places
    return {"identical": sum(expected[i] == answers[i] for i in places), "of": len(places)}


def _logit_difference(
    stepping: Stepping,
    expected: Sequence[np.ndarray],
    generator: TextGenerator,
    written: Sequence[Written],
) -> dict[str, float]:
    """Return the largest difference of a logit over the steps of given answers, and the standard
    deviation of the logits.

    Args:
        expected: Keras's logits of each answer, float32 (steps, vocabulary_size).
        generator: generator of a TFLite file.
        written: the ids of each prompt and of its answer.
    """
    if not expected:
        return {}
    largest = 0.0
    for place, step, logits in stepping.steps(generator.engine, written):
        if step < len(expected[place]):
            largest = max(largest, float(np.abs(expected[place][step] - logits).max()))
    return {
        "largest_logit_difference": float(f"{largest:.2g}"),
        "logit_deviation": float(f"{_deviation(expected):.3g}"),
    }


def _deviation(arrays: Sequence[np.ndarray]) -> float:
    """Return the standard deviation of the numbers in several arrays, which are not copied into
    one: logits of a large vocabulary take hundreds of megabytes."""
    count = sum(array.size for array in arrays)
    mean = sum(float(array.sum(dtype="float64")) for array in arrays) / count
    squares = (float(np.square(array - mean).sum(dtype="float64")) for array in arrays)
    return (sum(squares) / count) ** 0.5


def _seq2seq_steps(engine, written: Sequence[Written]) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield the place of each answer, the number of a step and its logits, after the start token
    and after every other: by the steps for one text and by those for several, with each number of
    beams in the file, and by those that read several tokens of a text. From then on the engine
    drafts nothing.

    All beams hold the same text, and each continues another one.
    """
    engine.hits = None
    for reach in engine.reaches[:-1]:
        for place, (prompt, answer) in enumerate(written):
            if len(prompt) > reach.slots:
                continue
            steps = engine.start(prompt, fewest_slots=reach.slots)
            ids = [engine.config.start_id, *answer][: reach.slots]
            for step, index in enumerate(ids):
                yield place, step, steps.step(np.array([index]), step, None)[0][0]
    for beams in engine.decoders:
        alone = Seq2SeqRows(engine, beams, fewest=2)
        groups = [(alone, place, place + 1) for place in range(len(written))]
        if beams in engine.several:
            several = Seq2SeqRows(engine, beams, fewest=1)
            starts = range(0, len(written), several.count)
            groups += [(several, start, start + several.count) for start in starts]
        for rows, start, stop in groups:
            for row, step, logits in _forced_rows(rows, beams, written[start:stop]):
                yield start + row, step, logits
    for slots in (reach.slots for reach in engine.reaches if engine.verifier is not None):
        for place, (prompt, answer) in enumerate(written):
            if len(prompt) > slots:
                continue
            verify = engine.start(prompt, fewest_slots=slots).verify
            found = _verified(verify, [engine.config.start_id, *answer], 0, engine.drafted, slots)
            yield from ((place, step, logits) for step, logits in enumerate(found))


def _forced_rows(
    rows: Seq2SeqRows, beams: int, written: Sequence[Written]
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield the row of each answer, the number of a step and its logits, after the start token and
    every other."""
    answers = []
    for row, (prompt, answer) in enumerate(written):
        answers.append([rows.begin(row, prompt), *answer][: rows.room(prompt)])
    for step in range(max(map(len, answers))):
        places = [row for row, tokens in enumerate(answers) if step < len(tokens)]
        tokens = np.repeat(np.array([answers[row][step] for row in places], "int32"), beams)
        origins = np.tile(np.roll(np.arange(beams), 1), (len(places), 1))
        logits = rows.step(places, tokens, origins if step and beams > 1 else None)
        for row, several in zip(places, np.split(logits, len(places)), strict=True):
            yield row, step, several
            if step + 1 == len(answers[row]):
                rows.end(row)


def _causal_steps(engine, written: Sequence[Written]) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield the place of each answer, the number of a step and its logits, after the last token of
    the prompt and after every token: by the steps of each reach, as far as they go, one text at a
    time and, if the file can, several, and several tokens of a text.

    The last reach is the file's context, which may be shorter than the model's. From then on the
    engine drafts nothing."""
    engine.hits = None
    for reach in engine.reaches:
        fitting = [place for place, (prompt, _) in enumerate(written) if len(prompt) <= reach.slots]
        for rows in {1, engine.rows}:
            session = engine.session(rows, reach.slots)
            for start in range(0, len(fitting), rows):
                places = fitting[start : start + rows]
                texts = [[*written[i][0], *written[i][1]][: reach.slots] for i in places]
                begins = [len(written[i][0]) - 1 for i in places]
                for row, step, logits in _forced(session, texts, begins):
                    yield places[row], step, logits
        if reach.verifier is not None:
            session = engine.session(1, reach.slots)
            for place in fitting:
                *before, last = written[place][0]
                session.extend(before, 0)
                ids, begin = [last, *written[place][1]], len(before)
                found = _verified(session.verify, ids, begin, engine.drafted, reach.slots)
                yield from ((place, step, logits) for step, logits in enumerate(found))


def _verified(
    read: Callable[[Sequence[int], int], np.ndarray],
    ids: Sequence[int],
    position: int,
    length: int,
    slots: int,
) -> Iterator[np.ndarray]:
    """Yield the logits after each token of ids, which begin at `position`, as far as all `length`
    tokens of a step fit into the slots.

    Args:
        read: (ids, position) -> their logits, float32 (ids, vocabulary_size).
    """
    for start in range(0, min(len(ids), slots - length - position + 1), length):
        yield from read(ids[start : start + length], position + start)


def _forced(
    session, texts: Sequence[Sequence[int]], begins: Sequence[int]
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield the row of each text, the number of a step and the logits after its token, from the
    token at `begins` on."""
    for row, (ids, begin) in enumerate(zip(texts, begins, strict=True)):
        if begin:
            session.extend(ids[:begin], 0, row)
    most = max(len(ids) - begin for ids, begin in zip(texts, begins, strict=True))
    for step in range(most):
        places = [min(b + step, len(ids) - 1) for ids, b in zip(texts, begins, strict=True)]
        tokens = np.array([ids[p] for ids, p in zip(texts, places, strict=True)], "int32")
        for row, logits in enumerate(session.step(tokens, np.array(places, "int32"))):
            if begins[row] + step < len(texts[row]):  # else it repeats its last step
                yield row, step, logits


def _seq2seq_logits(model: keras.Model, written: Sequence[Written]) -> list[np.ndarray]:
    """Return the logits of every step of each answer, float32 (steps, vocabulary_size), from one
    forward pass: equal to those of cached steps but for rounding."""
    logits = np.asarray(model(forced_inputs(model, written), training=False), "float32")
    longest = model.config.max_sequence_length
    return [logits[i, : min(1 + len(answer), longest)] for i, (_, answer) in enumerate(written)]


def _causal_logits(model: keras.Model, written: Sequence[Written]) -> list[np.ndarray]:
    """Return the logits of each answer as `_seq2seq_logits`, from the last prompt token on."""
    logits = np.asarray(model(forced_inputs(model, written), training=False), "float32")
    longest = model.config.max_sequence_length
    return [
        logits[i, len(prompt) - 1 : min(len(prompt) + len(answer), longest)]
        for i, (prompt, answer) in enumerate(written)
    ]


SEQ2SEQ = Stepping(_seq2seq_logits, _seq2seq_steps, shares_context=False)
CAUSAL = Stepping(_causal_logits, _causal_steps, shares_context=True)


def _sentence(result: dict[str, Any]) -> str:
    text = f"{result['identical']} of {result['of']} answers identical to Keras"
    if not result["of"]:
        text = "no answer was compared: no text and its answer fit into the context"
    if "largest_logit_difference" in result:
        text += (
            f"; logits differ by at most {result['largest_logit_difference']:g} "
            f"(their standard deviation is {result['logit_deviation']:g})"
        )
    return text
