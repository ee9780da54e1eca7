"""The matrices of a model's layers, rounded to 4 bits on rows of its training data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfx_transformer.export.calibration import without_mask
from tfx_transformer.export.rounding import (
    Rounded,
    corrected,
    with_best_scales,
    with_least_change,
)
from tfx_transformer.layers import Linear, TokenEmbedding

# Largest difference of a matrix from the weights it was made from, relative to the largest one.
_TOLERANCE = 1e-5

# Rows of a matrix that are compared with the weights of a layer at once.
_COMPARED = 1024


class Target(NamedTuple):
    """A matrix to round: float32 (units, inputs), and the key of its result."""

    key: bytes
    numbers: np.ndarray


class Place(NamedTuple):
    """The place of a target in a model.

    Attributes:
        variable: the weights that the matrix was made of.
        transposed: True if the variable holds (inputs, units).
        target: the matrix.
        factors: float64 (inputs,), by which the converter multiplied each column.
    """

    variable: Any
    transposed: bool
    target: Target
    factors: np.ndarray

    def weights(self, rounded: Rounded) -> np.ndarray:
        """Return what the variable holds after rounding, float32."""
        weights = rounded.dequantized() / self.factors.astype("float32")
        return weights.T if self.transposed else weights


class _Done(Exception):
    """Raised in a model when its other layers need not run."""


def find_places(model: Any, targets: Sequence[Target]) -> list[Place]:
    """Return the places of targets in the linear layers, the table and the read-out of a model;
    a target that was made of none of them is left out.

    The converter multiplies the scale of a norm, and that of attention, into the matrix that
    follows: see `_factors`.
    """
    places, left = [], list(targets)
    for variable, transposed in _variables(model):
        weights = np.asarray(variable)
        weights = weights.T if transposed else weights
        others = []
        for target in left:
            factors = _factors(target.numbers, weights)
            if factors is None:
                others.append(target)
            else:
                places.append(Place(variable, transposed, target, factors))
        left = others
    return places


def _variables(model: Any) -> Iterator[tuple[Any, bool]]:
    """Yield the weights of linear layers and of the table or tables of a model; True for those that
    are held as (inputs, units)."""
    embedding = model.embedding
    if model.scores_tokens and not embedding.tie_weights:
        yield embedding.reverse_embeddings, True
    if isinstance(embedding, TokenEmbedding):
        yield embedding.embeddings, False
    for layer in model._flatten_layers():
        if isinstance(layer, Linear):
            yield layer.kernel, True


@contextlib.contextmanager
def rounded_weights(places: Sequence[Place], rounded: Mapping[bytes, Rounded]) -> Iterator[None]:
    """Give a model rounded weights, in the block."""
    before = [(place.variable, np.asarray(place.variable)) for place in places]
    try:
        for place in places:
            place.variable.assign(place.weights(rounded[place.target.key]))
        yield
    finally:
        for variable, weights in before:
            variable.assign(weights)


def round_layers(
    model: Any, inputs: Mapping[str, Any], places: Sequence[Place]
) -> dict[bytes, Rounded]:
    """Return the matrices of a model's linear layers and of its read-out, rounded so that their
    outputs change least.

    The model runs once, on all inputs twice: with the weights as they are, and with rounded
    weights. Each layer is rounded when the run reaches it: its inputs come from rounded layers, and
    its outputs shall be near those of the model before rounding. So memory holds the sums of one
    layer at a time (see `rounding.corrected`). A read-out whose table also looks up the tokens is
    rounded first, on the vectors of the model before rounding; a table that only looks them up gets
    its best scales.

    Args:
        model: a float32 model.
        inputs: its inputs by name; see `calibration.join_inputs`.
        places: matrices of a file of the model; see `find_places`.

    Returns: the results by the targets' keys.
    """
    padding_id = model.config.padding_id
    inputs = _tell_apart(without_mask(inputs), model.reads)
    texts = [inputs[name] for name in model.reads if inputs[name].ndim == 2]
    masks = {ids.shape[1]: ids != padding_id for ids in texts}
    rounding = _Rounding(masks, places)
    embedding = model.embedding
    with contextlib.ExitStack() as stack:
        if isinstance(embedding, TokenEmbedding):
            if model.scores_tokens and embedding.tie_weights:
                with contextlib.suppress(_Done), _replaced(embedding, rounding.read_out(embedding)):
                    model(inputs, training=False)
            stack.enter_context(_replaced(embedding, rounding.table(embedding)))
        for layer in model._flatten_layers():
            if isinstance(layer, Linear):
                stack.enter_context(_replaced(layer, rounding.linear(layer)))
        twice = {name: np.concatenate([value, value]) for name, value in inputs.items()}
        with contextlib.suppress(_Done):
            model(twice, training=False)
    return rounding.found


def _tell_apart(inputs: Mapping[str, Any], texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the inputs. If two texts are equally long, the last one loses a token: the padding in
    the inputs of a layer is found by their length."""
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    if len({arrays[name].shape[1] for name in texts}) < len(texts):
        arrays[texts[-1]] = arrays[texts[-1]][:, :-1]
    return arrays


@contextlib.contextmanager
def _replaced(layer: Any, call: Callable) -> Iterator[None]:
    """Replace the function that a layer computes, in the block."""
    layer.call = call
    try:
        yield
    finally:
        del layer.call


class _Rounding:
    """The calls of layers that round their weights.

    Args:
        masks: length of a text -> bool (rows, length), False for padding.
        places: the matrices to round.

    Attributes:
        found: the rounded matrices by key.
    """

    def __init__(self, masks: Mapping[int, np.ndarray], places: Sequence[Place]) -> None:
        self._masks, self._places = masks, places
        self.found: dict[bytes, Rounded] = {}

    def linear(self, layer: Linear) -> Callable:
        """Return the call of a linear layer that rounds its weights and computes with them."""
        usual, places = layer.call, self._of(layer.kernel)

        def call(inputs, training=None):
            before, after = np.split(np.asarray(inputs), 2)
            self._round(places, before, after)
            return self._both(usual, before, after, places)

        return call

    def read_out(self, embedding: Any) -> Callable:
        """Return the call of an embedding that rounds the matrix of the read-out and stops."""
        usual = embedding.call

        def call(inputs, reverse=False):
            if not reverse:
                return usual(inputs)
            vectors = np.asarray(inputs)
            self._round(self._of(embedding.embeddings), vectors, vectors)
            raise _Done

        return call

    def table(self, embedding: Any) -> Callable:
        """Return the call of an embedding that looks up rounded vectors, and stops after the
        read-out."""
        usual, places = embedding.call, self._of(embedding.embeddings)
        for place in places:
            if place.target.key not in self.found:
                self.found[place.target.key] = with_best_scales(place.target.numbers)

        def call(inputs, reverse=False):
            before, after = np.split(np.asarray(inputs), 2)
            if not reverse:
                return self._both(usual, before, after, places)
            if not embedding.tie_weights:
                self._round(self._of(embedding.reverse_embeddings), before, after)
            raise _Done

        return call

    def _both(
        self, usual: Callable, before: np.ndarray, after: np.ndarray, places: Sequence[Place]
    ) -> Any:
        """Return the outputs of a layer: from `before` with its weights, followed by those from
        `after` with rounded weights."""
        plain = usual(before)
        with rounded_weights(places, self.found):
            return ops.concatenate([plain, usual(after)])

    def _of(self, variable: Any) -> list[Place]:
        """Return the places in a variable."""
        return [place for place in self._places if place.variable is variable]

    def _round(self, places: Sequence[Place], before: np.ndarray, after: np.ndarray) -> None:
        """Round the targets that were made of the weights of a layer.

        Args:
            places: their places.
            before: inputs of the layer, float (rows, length, inputs) or (rows, inputs).
            after: the same after rounded layers.
        """
        left = [place for place in places if place.target.key not in self.found]
        if not left:
            return
        x, y = self._vectors(before), self._vectors(after)
        hessian, mixed = (y.T @ y).astype("float64"), (x.T @ y).astype("float64")
        for place in left:
            factors = np.outer(place.factors, place.factors)
            wanted = corrected(place.target.numbers, hessian / factors, mixed / factors)
            self.found[place.target.key] = with_least_change(wanted, hessian / factors)

    def _vectors(self, values: np.ndarray) -> np.ndarray:
        """Return the inputs of a layer that are not padding, float32 (vectors, inputs)."""
        mask = self._masks.get(values.shape[1]) if values.ndim == 3 else None
        return values.reshape(-1, values.shape[-1]) if mask is None else values[mask]


def _factors(numbers: np.ndarray, weights: np.ndarray) -> np.ndarray | None:
    """Return the factor on each column, float64 (inputs,), that makes a matrix of the weights of a
    layer; None: it was not made of them. A column of zeros has the factor 1. A matrix of zeros was
    made only of zeros: else it would belong to any layer of its shape.

    Args:
        numbers, weights: float32 (units, inputs).
    """
    if numbers.shape != weights.shape or (weights.any() and not numbers.any()):
        return None
    if _fitted(numbers[:8], weights[:8]) is None:  # enough to rule out nearly all other matrices
        return None
    return _fitted(numbers, weights)


def _fitted(numbers: np.ndarray, weights: np.ndarray) -> np.ndarray | None:
    """Return the factors, or None: see `_factors`."""
    parts = [slice(start, start + _COMPARED) for start in range(0, len(weights), _COMPARED)]
    squares, products = np.zeros((2, weights.shape[1]))
    for part in parts:
        ours = weights[part].astype("float64")
        squares += np.square(ours).sum(0)
        products += (ours * numbers[part]).sum(0)
    factors = products / np.where(squares > 0, squares, 1)
    error = max(np.abs(weights[part] * factors - numbers[part]).max() for part in parts)
    if error > _TOLERANCE * max(np.abs(numbers[part]).max() for part in parts):
        return None
    return np.where(factors != 0, factors, 1)
