"""A training step whose batch is computed in parts, one after the other, and applied once."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfx_transformer.annotations import Tensor
from tfx_transformer.errors import InputError
from tfx_transformer.models.losses import WeightedLoss, reduction_of


def accumulate(model: Any, count: int) -> None:
    """Make the training steps of a model compute each batch in parts, one after the other, and
    apply the gradient of the whole batch. More parts take less memory.

    Args:
        model: a model of `tfx_transformer.models`.
        count: number of parts; 1: the batch as a whole.
    """
    step = train_on_jax if keras.backend.backend() == "jax" else train_on_tensorflow
    model.accumulate = count
    model.step_in_parts = step if count > 1 else None
    model.train_function = None  # Keras may have traced a step of other parts


def check(model: Any) -> None:
    """Raise if a batch of the model cannot be computed in parts.

    Raises:
        InputError: its loss compares the rows of a batch with each other; a strategy of TensorFlow
            distributes it; or the backend of Keras is neither TensorFlow nor JAX.
    """
    if isinstance(model.loss, WeightedLoss) and model.loss.compares_rows:
        raise InputError(
            f"accumulate is {model.accumulate}, but {type(model.loss).__name__} compares all rows "
            "of a batch.\n  Expected 1 for this loss."
        )
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax") or getattr(model, "_distribute_strategy", None):
        raise InputError(
            f"accumulate is {model.accumulate}.\n  Expected 1 on PyTorch, and under a strategy of "
            "TensorFlow."
        )


def split(batch: Any, count: int, group: int = 1) -> tuple[Any, Any, Tensor]:
    """Return a batch (x, y, sample_weight) in parts of equal size: each array as (count, rows, …).

    Example e is in part e % count, so that each part has rows of every device. Parts that lack an
    example get a copy of the last one, of weight 0.

    Args:
        batch: the batch; sample weights are those of examples, or of their tokens.
        count: number of parts.
        group: rows of an example in x and y, one after the other.
    """
    x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
    examples = examples_of(batch, group)
    size = (examples + count - 1) // count
    if weights is None:
        # One weight for each loss: integer labels of several axes are tokens.
        per_token = not keras.backend.is_float_dtype(y.dtype)
        weights = ops.ones(ops.shape(y) if per_token else (examples,))
    places = ops.arange(size * count, dtype="int32")
    divides = isinstance(examples, int) and examples == size * count

    def parts(array, group=group):
        rest = ops.shape(array)[1:]
        if group > 1:
            array = ops.reshape(array, (examples, group, *rest))
        if not divides:
            array = ops.take(array, ops.minimum(places, examples - 1), axis=0)
        array = ops.reshape(array, (size, count, *ops.shape(array)[1:]))
        array = ops.swapaxes(array, 0, 1)
        return ops.reshape(array, (count, size * group, *rest)) if group > 1 else array

    x, y = (keras.tree.map_structure(parts, part) for part in (x, y))
    weights = parts(weights, 1)
    real = ops.transpose(ops.reshape(places < examples, (size, count)))
    real = ops.reshape(real, (count, size, *[1] * (len(weights.shape) - 2)))
    return x, y, weights * ops.cast(real, weights.dtype)


def examples_of(batch: Any, group: int) -> Any:
    """Return the number of examples of a batch, whose arrays have `group` rows for each."""
    return ops.shape(keras.utils.unpack_x_y_sample_weight(batch)[1])[0] // group


def shares(model: keras.Model, weights: Tensor, examples: Tensor) -> Tensor:
    """Return float32 (count,), a factor for the loss of each part: the sum of the losses times
    these factors is the loss of the whole batch.

    Args:
        weights: sample weights, float (count, examples of a part, …).
        examples: number of examples of the whole batch.
    """
    count, size = ops.shape(weights)[0], ops.shape(weights)[1]
    reduction = reduction_of(model.loss)
    if reduction == "sum":
        return ops.ones((count,))
    if reduction != "mean_with_sample_weight":
        # This loss is a mean over all examples, whatever their weights.
        return ops.ones((count,)) * ops.cast(size, "float32") / ops.cast(examples, "float32")
    sums = ops.sum(ops.reshape(ops.cast(weights, "float32"), (count, -1)), axis=1)
    return ops.divide_no_nan(sums, ops.sum(sums))


def train_on_tensorflow(model: Any, batch: Any) -> None:
    """Make one step of a batch in parts: metrics, gradient and weights.

    The gradient is the sum over the parts, so it is that of the whole batch, to rounding.
    """
    check(model)
    import tensorflow as tf

    count, group = model.accumulate, _group(model)
    parts = split(batch, count, group)
    examples = examples_of(batch, group)
    factors = shares(model, parts[2], examples)
    weights = model.trainable_weights

    def add(index, loss, *sums):
        x, y, part = model.expand(keras.tree.map_structure(lambda array: array[index], parts))
        with tf.GradientTape() as tape:
            predicted = model(x, training=True)
            own = model.compute_loss(x, y, predicted, part, training=True) * factors[index]
            scaled = model.optimizer.scale_loss(own)
        model.compute_metrics(x, y, predicted, sample_weight=part)
        gradients: Any = tape.gradient(
            scaled, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        sums = [a + tf.convert_to_tensor(g) for a, g in zip(sums, gradients, strict=True)]
        return (index + 1, loss + tf.cast(own, tf.float32), *sums)

    state = (0, 0.0, *[tf.zeros(weight.shape, weight.dtype) for weight in weights])
    _, loss, *sums = tf.while_loop(lambda index, *_: index < count, add, state)
    model._loss_tracker.update_state(loss, sample_weight=ops.cast(examples, "float32"))
    model.optimizer.apply_gradients(zip(sums, weights, strict=True))


def train_on_jax(model: Any, state: Any, batch: Any) -> Any:
    """Make one step of a batch in parts, from a state of training: values of trained weights, other
    variables, optimizer and metrics.

    Returns: the state after the step, which is that of `train_on_tensorflow`.
    """
    check(model)
    import jax  # pyright: ignore[reportMissingImports]

    trained, others, optimizer, metrics = state
    parts = split(batch, model.accumulate, _group(model))
    examples = examples_of(batch, _group(model))
    factors = shares(model, parts[2], examples)
    gradient_of = jax.value_and_grad(model.compute_loss_and_updates, has_aux=True)

    def add(carried, part):
        (x, y, weights), factor = part
        x, y, weights = model.expand((x, y, weights))
        others, metrics, loss, sums = carried
        (_, found), gradients = gradient_of(
            trained, others, metrics, x, y, weights, training=True, optimizer_variables=optimizer
        )
        own, predicted, others, metrics = found
        metrics = _updated(
            model, metrics, lambda: model.compute_metrics(x, y, predicted, sample_weight=weights)
        )
        sums = [a + factor.astype(g.dtype) * g for a, g in zip(sums, gradients, strict=True)]
        return (others, metrics, loss + factor * own, sums), None

    zeros = [ops.zeros_like(value) for value in trained]
    first = (others, metrics, np.float32(0), zeros)
    (others, metrics, loss, sums), _ = jax.lax.scan(add, first, (parts, factors))
    trained, optimizer = model.optimizer.stateless_apply(optimizer, sums, trained)
    metrics = _updated(
        model, metrics, lambda: model._loss_tracker.update_state(loss, sample_weight=examples)
    )
    return trained, others, optimizer, metrics


def _group(model: Any) -> int:
    """Return the rows of an example in a batch: 2 for pairs of answers, 1 for a loss of Keras."""
    return model.loss.rows_of_example if isinstance(model.loss, WeightedLoss) else 1


def _updated(model, metrics, update):
    """Return the values of the metrics' variables after an update."""
    mapping = list(zip(model.metrics_variables, metrics, strict=True))
    with keras.StatelessScope(state_mapping=mapping) as scope:
        update()
    return [scope.get_current_value(variable) for variable in model.metrics_variables]
