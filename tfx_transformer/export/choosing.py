"""The best of several ways to round the weights of a model, by its answers to other rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfx_transformer.errors import InputError
from tfx_transformer.evaluation.rounding import Choice
from tfx_transformer.export.calibration import COUNTED, without_mask
from tfx_transformer.export.round_layers import (
    Place,
    Target,
    find_places,
    round_layers,
    rounded_weights,
)
from tfx_transformer.export.rounding import Rounded, nearest, with_best_scales
from tfx_transformer.models.distillation import soft_divergence

# One row in so many is kept to compare the ways.
_SHARE = 4

# Most numbers that the model answers at once, and about the most in all, while ways are compared.
_AT_ONCE = 1 << 24
_IN_ALL = 1 << 26


def choose(
    model: Any, inputs: Mapping[str, Any], targets: Sequence[Target]
) -> tuple[dict[bytes, Rounded], Choice]:
    """Return the matrices of a model, rounded in the way that changes its answers least, and the
    choice.

    Every fourth row is held out: weights are rounded on the other rows, and the ways are compared
    on the held-out rows, where the chosen way is at least as good as rounding to nearest. With
    fewer than four rows only "nearest" and "scales" are compared, on all of them.

    Args:
        model: a float32 model.
        inputs: its inputs by name; see `calibration.join_inputs`.
        targets: matrices of a file of the model.

    Returns: the rounded matrices by the targets' keys, and the choice. Matrices that belong to no
        layer have their best scales.

    Raises:
        InputError: the model's answers are not finite numbers, as after a training that diverged.
    """
    rows = np.arange(len(inputs[model.reads[0]]))
    kept = rows[_SHARE - 1 :: _SHARE]
    used = np.setdiff1d(rows, kept) if len(kept) else kept
    kept = (kept if len(kept) else rows)[: _most_rows(model, inputs)]
    others = _take(inputs, kept)
    before = list(_first(answers_of(model, others)))
    if not all(np.isfinite(part).all() for part in before):
        raise InputError(
            "the answers of the model to training rows are not finite numbers, so its weights "
            "cannot be rounded to 4 bits.\n"
            "  Its training diverged. Train it again with a lower learning rate."
        )
    places = find_places(model, targets)
    scaled = {target.key: with_best_scales(target.numbers) for target in targets}
    ways = {
        "nearest": scaled | {one.target.key: nearest(one.target.numbers) for one in places},
        "scales": scaled,
    }
    if len(used):
        ways["rows"] = scaled | round_layers(model, _take(inputs, used), places)
    changes = _compare(model, others, before, places, ways)
    way = min(changes, key=lambda name: changes[name])
    return ways[way], Choice(way, changes, len(used), len(kept))


def changes_of(model: Any, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the change of each answer of a model, float (answers,).

    The change of logits is KL(p || q) in nats, with the probabilities p before and q after; that of
    a vector is 1 minus the cosine; that of a number is the square of its difference.

    Args:
        before, after: float (answers, width), from `answers_of`.
    """
    if model.makes_vectors:
        lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        return 1 - (before * after).sum(1) / np.maximum(lengths, np.finfo("float32").tiny)
    if model.gives_number:
        return np.square(before - after).reshape(len(before), -1).mean(1)
    return np.asarray(soft_divergence(before, after, multi_label=model.config.multi_label))


def answers_of(model: Any, inputs: Mapping[str, Any]) -> Iterator[np.ndarray]:
    """Yield the answers of a model, float (answers, width), at most `_AT_ONCE` numbers at a time if
    a single answer has fewer: the output for each row, or for each token that is not padding and
    that `calibration.COUNTED` does not leave out."""
    count = len(inputs[model.reads[0]])
    step = max(1, _AT_ONCE // _numbers(model, inputs))
    for start in range(0, count, step):
        part = _take(inputs, slice(start, start + step))
        with _without_read_out(model) if model.scores_tokens else contextlib.nullcontext():
            outputs = np.asarray(model(without_mask(part), training=False))
        if outputs.ndim == 3:
            padding = part[model.reads[-1]] == model.config.padding_id
            outputs = outputs[part.get(COUNTED, True) & ~padding]
        if model.scores_tokens:
            yield from _read_out(model, outputs)
        else:
            yield outputs


@contextlib.contextmanager
def _without_read_out(model: Any) -> Iterator[None]:
    """Make a model return the vectors that its logits are read from, in the block."""
    model.logits_of = lambda vectors: vectors
    try:
        yield
    finally:
        del model.logits_of


def _read_out(model: Any, vectors: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the logits of some tokens at a time, float (tokens, vocabulary_size), from all their
    vectors."""
    step = max(1, _AT_ONCE // model.config.vocabulary_size)
    for start in range(0, len(vectors), step):
        yield np.asarray(model.logits_of(vectors[None, start : start + step]))[0]


def _first(answers: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield answers until they have `_IN_ALL` numbers."""
    found = 0
    for part in answers:
        yield part
        found += part.size
        if found >= _IN_ALL:
            return


def _compare(
    model: Any,
    inputs: Mapping[str, Any],
    before: Sequence[np.ndarray],
    places: Sequence[Place],
    ways: Mapping[str, Mapping[bytes, Rounded]],
) -> dict[str, float]:
    """Return the mean change of the answers by each way; 0 if there are no answers.

    Args:
        before: the first of the model's answers to the inputs, in parts.
    """
    found = {}
    for way, rounded in ways.items():
        with rounded_weights(places, rounded):
            # `before` comes first: no answers are computed that it does not have.
            pairs = zip(before, answers_of(model, inputs), strict=False)
            changes = [changes_of(model, *pair) for pair in pairs if len(pair[0])]
        found[way] = float(np.concatenate(changes).mean()) if changes else 0.0
    return found


def _take(inputs: Mapping[str, Any], rows: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(value)[rows] for name, value in inputs.items()}


def _numbers(model: Any, inputs: Mapping[str, Any]) -> int:
    """Return the most numbers that the answers of a model to one row have."""
    if not model.scores_tokens:
        return model.config.hidden_dim * model.config.max_sequence_length
    return inputs[model.reads[-1]].shape[1] * model.config.vocabulary_size


def _most_rows(model: Any, inputs: Mapping[str, Any]) -> int:
    """Return the most rows on which ways are compared."""
    return max(1, _IN_ALL // _numbers(model, inputs))
