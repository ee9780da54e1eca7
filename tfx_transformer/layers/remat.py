"""Layers whose activations are computed again for the gradient, instead of being kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from tfx_transformer.annotations import Tensor


def recompute(
    layer: keras.layers.Layer, inputs: Mapping[str, Tensor | None], **options: Any
) -> Any:
    """Return layer(**inputs, **options); the gradient computes the layer again, so that only its
    inputs stay in memory (Chen et al. 2016, section 4).

    Numbers drawn at random, for dropout, are the same both times: the states of the generators are
    inputs and results of what is computed twice.

    Args:
        layer: a layer that is built.
        inputs: name of an argument -> float tensor, for which there may be a gradient, or None.
        options: further arguments of the layer, without gradients.
    """
    weights = list(layer.trainable_variables)
    seeds = [variable for variable in layer.variables if "seed_generator" in variable.path]
    # In TensorFlow a variable is a tensor too, which changes when it is assigned to.
    starts = [ops.copy(variable.value) for variable in seeds]
    given = [name for name, value in inputs.items() if value is not None]
    # All that has a gradient is an argument of `compute`: TensorFlow finds no other gradients, and
    # the scope in `compute` hides the values that JAX has put into the variables.
    tensors = [inputs[name] for name in given]
    tensors += [ops.copy(weight.value) for weight in weights]
    fixed = [v for v in layer.non_trainable_variables if not any(v is seed for seed in seeds)]
    fixed = [(variable, ops.copy(variable.value)) for variable in fixed]
    on_jax, ends = keras.backend.backend() == "jax", []

    def compute(*tensors):
        values = dict(zip(given, tensors[: len(given)], strict=True))
        mapping = [*zip(weights, tensors[len(given) :], strict=True), *fixed]
        mapping += zip(seeds, starts, strict=True)
        with keras.StatelessScope(state_mapping=mapping) as scope:
            result = layer(**values, **options)
        states = [scope.get_current_value(seed) for seed in seeds]
        if on_jax:
            return result, *states
        # TensorFlow computes this in the surrounding graph, and integers may not be results.
        ends[:] = states
        return (result,)

    result, *states = keras.remat(compute)(*tensors)
    for seed, state in zip(seeds, states if on_jax else ends, strict=True):
        seed.assign(state)
    return result
