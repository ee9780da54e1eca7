"""Weights of a model's layers, rounded to 4 bits on rows of its training data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfx_transformer.data.batches import Batches, pad
from tfx_transformer.export.rounding import Rounded, with_least_change
from tfx_transformer.images import read_image, resize
from tfx_transformer.layers import Linear
from tfx_transformer.models.decoding import forced_inputs, pad_source, text_generator
from tfx_transformer.text.framing import frame
from tfx_transformer.text.tokenizer import Tokenizer

# Most rows on which weights are rounded, and most tokens of all of them, padding included.
ROWS = 256
_TOKENS = 1 << 14

# Most tokens of a row: attention holds the square of their number in scores. A longer row is cut.
_LONGEST = 1024

# Texts that a model answers, so that its weights are rounded on its answers too.
_WRITTEN = 128

# Names of optional inputs that say where a token is.
_PLACES = ("positions", "segment_ids")

# Largest difference of a matrix from the weights it was made from, relative to the largest one.
_TOLERANCE = 1e-5


class Target(NamedTuple):
    """A matrix to round: float32 (units, inputs), and the key of its result."""

    key: bytes
    numbers: np.ndarray


class _Done(Exception):
    """Raised in a model when its other layers need not run."""


def round_layers(
    model: Any, inputs: Mapping[str, Any], targets: Sequence[Target]
) -> dict[bytes, Rounded]:
    """Return the matrices of a model's linear layers and of its read-out, rounded so that their
    outputs change least.

    The model runs once, on all inputs together. Each layer is rounded when it is reached, from the
    vectors that it gets from the rounded layers before it, and computes with rounded weights; so
    memory holds the Hessian of one layer at a time. The read-out is rounded first, on the vectors
    of the model before rounding, since its table may also look up the tokens.

    Args:
        model: a float32 model.
        inputs: its inputs by name; see `join_inputs`.
        targets: matrices of a file of the model. The converter multiplies the scale of a norm, and
            that of attention, into the matrix that follows: see `_factors`.

    Returns: the results by the targets' keys; without those that belong to no layer.
    """
    padding_id = model.config.padding_id
    inputs = _tell_apart(inputs, model.reads)
    texts = [inputs[name] for name in model.reads if inputs[name].ndim == 2]
    rounding = _Rounding({ids.shape[1]: ids != padding_id for ids in texts}, targets)
    with contextlib.ExitStack() as stack:
        if model.scores_tokens:
            embedding = model.embedding
            with contextlib.suppress(_Done), _replaced(embedding, rounding.read_out(embedding)):
                model(inputs, training=False)
            stack.enter_context(_replaced(embedding, rounding.without_read_out(embedding)))
        for layer in model._flatten_layers():
            if isinstance(layer, Linear):
                stack.enter_context(_replaced(layer, rounding.linear(layer)))
        with contextlib.suppress(_Done):
            model(inputs, training=False)
    return rounding.found


def join_inputs(model: Any, batches: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return the inputs of several batches as one batch: at most `ROWS` rows, fewer if they are
    long, each cut after 1,024 tokens.

    Args:
        model: the model that reads them.
        batches: inputs by name, int (rows, length) each, or images.
    """
    joined = {}
    for name in (name for name in (*model.reads, *_PLACES) if name in batches[0]):
        arrays = [np.asarray(batch[name]) for batch in batches]
        if arrays[0].ndim == 2:
            fill = model.config.padding_id if name in model.reads else 0
            rows = [row[:_LONGEST] for array in arrays for row in array]
            joined[name] = pad(rows, fill, model.config.max_sequence_length)
        else:
            joined[name] = np.concatenate(arrays)
    vectors = model.config.max_sequence_length  # of an image
    longest = max(x.shape[1] if x.ndim == 2 else vectors for x in joined.values())
    rows = max(1, min(ROWS, _TOKENS // longest))
    return {name: array[:rows] for name, array in joined.items()}


def training_rows(model: Any, batches: Batches) -> dict[str, np.ndarray]:
    """Return the inputs of a model in the first training batches, as `join_inputs`."""
    found: list[Mapping[str, Any]] = []
    rows = 0
    for step in range(len(batches)):
        x, *_ = batches.batch(batches.examples(step))
        found.append({name: np.asarray(value) for name, value in model.by_name(x).items()})
        rows += len(found[-1][model.reads[0]])
        if rows >= ROWS:
            break
    return join_inputs(model, found)


def read_inputs(
    model: Any, tokenizer: Tokenizer | None, examples: Sequence
) -> dict[str, np.ndarray] | None:
    """Return the inputs of a model for the first of some examples, as `join_inputs`; None: there
    are no examples. A model that writes answers them, and the answers are inputs too.

    Args:
        tokenizer: its tokenizer, if it reads texts.
        examples: texts, tuples of texts, or image files.
    """
    examples = list(examples)[:ROWS]
    if not examples:
        return None
    config = model.config
    if config.image_size:
        images = [resize(read_image(x), config.image_size, config.image_resize) for x in examples]
        inputs = {"images": np.stack(images)}
    elif model.writes:
        inputs = _written(model, tokenizer, examples)
    else:
        start = config.prompt(None) if model.makes_vectors else ""
        texts = [start + x if isinstance(x, str) else (start + x[0], *x[1:]) for x in examples]
        ids = [frame(tokenizer, text, config.max_sequence_length) for text in texts]
        inputs = {"token_ids": pad_source(ids, config.padding_id)}
    return join_inputs(model, [inputs])


def _written(model: Any, tokenizer: Any, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the inputs of a model that writes: texts, and its answers to them."""
    generator = text_generator(model, tokenizer)
    free: dict[str, Any] = {"free": True} if tokenizer.tools is not None else {}
    few = texts[:_WRITTEN]
    answers = generator.generate(few, truncate=True, **free)
    return forced_inputs(
        model,
        [
            (generator.encode(text, truncate=True), tokenizer.encode(answer))
            for text, answer in zip(few, answers, strict=True)
        ],
    )


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
        targets: the matrices to round.

    Attributes:
        found: the rounded matrices by key.
    """

    def __init__(self, masks: Mapping[int, np.ndarray], targets: Sequence[Target]) -> None:
        self._masks, self._left = masks, list(targets)
        self.found: dict[bytes, Rounded] = {}
        self._table: np.ndarray | None = None

    def linear(self, layer: Linear) -> Callable:
        """Return the call of a linear layer that rounds its weights and computes with them."""
        usual, rounded = layer.call, None

        def call(inputs, training=None):
            nonlocal rounded
            weights = np.asarray(layer.kernel)
            if rounded is None:
                rounded = self._round(weights.T, inputs).T
            layer.kernel.assign(rounded)
            try:
                return usual(inputs, training=training)
            finally:
                layer.kernel.assign(weights)

        return call

    def read_out(self, embedding: Any) -> Callable:
        """Return the call of an embedding that rounds the matrix of the read-out and stops."""
        usual = embedding.call

        def call(inputs, reverse=False):
            if not reverse:
                return usual(inputs)
            (matrix,) = (np.asarray(variable) for variable in embedding.reverse_variables)
            tied = embedding.tie_weights
            rounded = self._round(matrix if tied else matrix.T, inputs)
            self._table = rounded if tied else None
            raise _Done

        return call

    def without_read_out(self, embedding: Any) -> Callable:
        """Return the call of an embedding that looks up rounded vectors, and stops at the read-out;
        `read_out` was called before."""
        usual = embedding.call

        def call(inputs, reverse=False):
            if reverse:
                raise _Done
            if self._table is None:
                return usual(inputs)
            return ops.convert_to_tensor(self._table[np.asarray(inputs)] * embedding.scale)

        return call

    def _round(self, weights: np.ndarray, x: Any) -> np.ndarray:
        """Round the targets that were made of the weights of a layer, and return the weights that
        the layer then has, float32 (units, inputs).

        Args:
            weights: float32 (units, inputs).
            x: inputs of the layer, float (rows, length, inputs) or (rows, inputs).
        """
        result, hessian, left = weights, None, []
        for target in self._left:
            factors = _factors(target.numbers, weights)
            if factors is None:
                left.append(target)
                continue
            if hessian is None:
                hessian = self._hessian(x)
            rounded = with_least_change(target.numbers, hessian / np.outer(factors, factors))
            self.found[target.key] = rounded
            result = rounded.dequantized() / factors
        self._left = left
        return result.astype("float32")

    def _hessian(self, x: Any) -> np.ndarray:
        """Return the sum of x x^T over inputs that are not padding, float64 (inputs, inputs)."""
        values = np.asarray(x)
        mask = self._masks.get(values.shape[1]) if values.ndim == 3 else None
        rows = values.reshape(-1, values.shape[-1]) if mask is None else values[mask]
        return (rows.T @ rows).astype("float64")


def _factors(numbers: np.ndarray, weights: np.ndarray) -> np.ndarray | None:
    """Return the factor on each column, float64 (inputs,), that makes a matrix of the weights of a
    layer; None: it was not made of them. A column of zeros has the factor 1.

    Args:
        numbers, weights: float32 (units, inputs).
    """
    if numbers.shape != weights.shape:
        return None
    few = slice(0, 8)  # enough to rule out nearly all other matrices
    for part in (few, slice(None)):
        ours, theirs = weights[part].astype("float64"), numbers[part].astype("float64")
        squares = np.square(ours).sum(0)
        factors = (ours * theirs).sum(0) / np.where(squares > 0, squares, 1)
        error = np.abs(ours * factors - theirs).max()
        if error > _TOLERANCE * np.abs(theirs).max():
            return None
    return np.where(factors != 0, factors, 1)
