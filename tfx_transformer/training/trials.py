"""The cost of each file of a bundle: bytes, milliseconds, and its score on held-out examples."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfx_transformer import bundle, runtime
from tfx_transformer.evaluation.comparison import (
    Comparison,
    compare_means,
    compare_scores,
    compare_shares,
    compare_texts,
)
from tfx_transformer.evaluation.texts import token_f1
from tfx_transformer.vectors import spearman, unit

# At most so many examples are tried, and the first file tries them for so many seconds.
_EXAMPLES = 200
_SECONDS = 4.0
# Examples that Keras is timed on: each new length may compile a graph.
_KERAS_EXAMPLES = 10
# A cosine that is larger by less is not nearer.
_SAME = 1e-6
# What is kept of the comparison of a file with the model.
_COMPARED = ("identical", "of", "largest_difference", "smallest_cosine", "rounded")
# The files that `runtime` does not run, by their names in the results of `export.verify`.
_OTHERS = {
    "SavedModel": bundle.SAVED_MODEL,
    "LiteRT-LM": bundle.LITERTLM,
    "MediaPipe": bundle.MEDIAPIPE,
}


class Trial(NamedTuple):
    """The held-out examples of a run, with functions that answer and score them.

    Attributes:
        model: the trained model.
        inputs: inputs of the examples.
        answer: (model or result of `runtime.load`, inputs) -> an answer for each input.
        score: answers to the first inputs -> scores; None if the right answers are not known.
        compare: (old, new answers to the first inputs) -> their comparison; None: not known.
        known: answers of the model to all inputs; None: it is asked again.
    """

    model: Any
    inputs: Sequence[Any]
    answer: Callable[[Any, Sequence[Any]], Sequence[Any]]
    score: Callable[[Sequence[Any]], Mapping[str, Any]] | None
    compare: Callable[[Sequence[Any], Sequence[Any]], Comparison] | None = None
    known: Sequence[Any] | None = None


def cost_of_files(
    path: Path, trial: Trial, verified: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return a row for the trained model and each of its exported files.

    All are tried on the same examples, one after the other: on as many as the first TFLite file
    answers in a few seconds.

    Args:
        path: the bundle's folder.
        trial: trial of the run.
        verified: result of `export.everything`.

    Returns: for each "name", "file", "bytes" (None if it is missing), "milliseconds" (median per
        example; None if it was not timed), "examples" (count of those tried), "scores", "summary"
        (agreement of its answers with the model's, or why it could not be run), "removed", and
        the entries `_COMPARED` of its comparison with the model. A quantized file also has
        "change", the comparison of its answers with those of the float32 file, as JSON values;
        see `Comparison`. An int4 file also has "rounded", the values of a `rounding.Choice`.
    """
    tried: list[dict[str, Any]] = []
    count = min(len(trial.inputs), _EXAMPLES)
    before: list[Any] = []
    for variant, file in bundle.LITERT.items():
        name = f"TFLite {variant}"
        row = _row(path, name, file, verified)
        if row["bytes"] is not None and count:
            found, answers = _try_file(path, variant, trial, count)
            row |= found
            count = row["examples"] or count
            if variant == "float32":
                before = answers
            elif before and answers:
                row |= _change(trial, before, answers)
        if row["bytes"] is not None or name in verified:
            tried.append(row)
    others = [_row(path, name, file, verified) for name, file in _OTHERS.items()]
    others = [row for row in others if row["bytes"] is not None or row["name"] in verified]
    first = _row(path, "Keras", bundle.WEIGHTS, {})
    if tried and count:
        first |= _try_model(trial, count)
    return [first, *tried, *others]


def _row(path: Path, name: str, file: str, verified: Mapping[str, Any]) -> dict[str, Any]:
    result = verified.get(name, {})
    place = path / file
    return {
        "name": name,
        "file": file,
        "bytes": bundle.size_of(place) if place.exists() else None,
        "milliseconds": None,
        "examples": 0,
        "scores": {},
        "summary": result.get("summary", ""),
        "removed": bool(result.get("removed")),
        **{name: result[name] for name in _COMPARED if name in result},
    }


def _change(trial: Trial, before: list[Any], after: list[Any]) -> dict[str, Any]:
    """Return the change of the answers to the examples that both files were tried on."""
    count = min(len(before), len(after))
    if trial.compare is None:
        return {}
    return {"change": trial.compare(before[:count], after[:count]).to_dict()}


def _try_file(
    path: Path, variant: str, trial: Trial, count: int
) -> tuple[dict[str, Any], list[Any]]:
    """Return figures of a file for its row, and its answers."""
    try:
        answers, milliseconds = _time(trial, runtime.load(path, variant), trial.inputs[:count])
    except Exception as error:  # any engine may fail in any way, and the training is done
        why = " ".join(str(error).split()) or type(error).__name__
        return {"summary": f"could not be run: {why}"}, []
    return {
        "milliseconds": milliseconds,
        "examples": len(answers),
        "scores": _scores(trial, answers),
    }, answers


def _try_model(trial: Trial, count: int) -> dict[str, Any]:
    answers = trial.known
    if answers is None:
        answers = trial.answer(trial.model, trial.inputs[:count])
    answers = answers[:count]
    _, milliseconds = _time(trial, trial.model, trial.inputs[: min(count, _KERAS_EXAMPLES)])
    return {
        "milliseconds": milliseconds,
        "examples": len(answers),
        "scores": _scores(trial, answers),
    }


def _time(trial: Trial, model: Any, inputs: Sequence[Any]) -> tuple[list[Any], float]:
    """Return the answers to the first inputs, as many as a few seconds allow, and the median
    milliseconds per input."""
    trial.answer(model, inputs[:1])  # the first call allocates and compiles
    answers, times = [], []
    end = time.monotonic() + _SECONDS
    for one in range(len(inputs)):
        begin = time.perf_counter()
        answers += list(trial.answer(model, inputs[one : one + 1]))
        times.append(time.perf_counter() - begin)
        if time.monotonic() > end:
            break
    return answers, round(1000 * float(np.median(times)), 3)


def _scores(trial: Trial, answers: Sequence[Any]) -> dict[str, float]:
    """Return the scores that are numbers."""
    found = trial.score(answers) if trial.score and len(answers) else {}
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, (int, float)) and name != "count"
    }


def compare_written(
    scores: Mapping[str, Any], references: Sequence[str]
) -> Callable[[Sequence[str], Sequence[str]], Comparison] | None:
    """Return the comparison of texts that two models wrote: by BLEU if that is among the scores,
    else by the mean token F1; None if no texts are expected."""
    if not references:
        return None
    if "bleu" in scores:
        tokenize = scores["bleu_tokenize"]
        return lambda old, new: compare_texts(old, new, references[: len(old)], tokenize)

    def compare(old: Sequence[str], new: Sequence[str]) -> Comparison:
        found = ([*map(token_f1, written, references)] for written in (old, new))
        return compare_means("token_f1", *found)

    return compare


def compare_vectors(
    ratings: Sequence[float] | None, old: Sequence[tuple], new: Sequence[tuple]
) -> Comparison:
    """Return the comparison of two models by the vectors of the first and second texts of pairs: by
    the rank correlation of cosine and rating; without ratings by the share of first texts whose own
    second text is the nearest one."""
    products = []
    for pairs in (old, new):
        first, second = (unit(np.stack([pair[side] for pair in pairs])) for side in (0, 1))
        products.append(first @ second.T)
    if ratings is None or not len(ratings):
        nearest = (np.diagonal(x) + _SAME >= x.max(axis=1) for x in products)
        return compare_shares("found", *nearest, unit="pair")
    measured = np.asarray(ratings[: len(old)], np.float64)

    def correlation(cosines: np.ndarray, rows: np.ndarray) -> float:
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(spearman(cosines[rows], measured[rows]))

    before, after = (np.diagonal(x) for x in products)
    return compare_scores("spearman", before, after, correlation, len(old), "pair")
