"""Layers whose activations are computed again for the gradient, instead of being kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

    again = _again_on_jax(compute, len(given)) if on_jax else keras.remat(compute)
    result, *states = again(*tensors)
    for seed, state in zip(seeds, states if on_jax else ends, strict=True):
        seed.assign(state)
    return result


def _again_on_jax(compute: Callable[..., Any], inputs: int) -> Callable[..., Any]:
    """Return a function that computes the same, and once more for the gradient: layer by layer.

    `jax.checkpoint` leaves the order to barriers, which XLA removes on a CPU. If all gradients are
    needed together, for their norm, XLA then keeps what several layers compute again. So what is
    computed again depends on the slopes of the result, and the slopes of the inputs depend on the
    gradients of the weights: 0 times a sum is added. If that sum is not a finite number, the step
    has no finite gradient anyway.

    Args:
        compute: tensors -> a result, and integers without gradients.
        inputs: number of the first tensors that are inputs; the others are weights.
    """
    import jax  # pyright: ignore[reportMissingImports]

    @jax.custom_vjp
    def again(*tensors):
        return compute(*tensors)

    def backward(tensors, slopes):
        late = _after(slopes[:1], tensors[:inputs])
        tensors = jax.lax.optimization_barrier((*late, *tensors[inputs:]))
        gradients = jax.vjp(compute, *tensors)[1](slopes)
        of_weights = gradients[inputs:]
        return (*_after(of_weights, gradients[:inputs]), *of_weights)

    again.defvjp(lambda *tensors: (compute(*tensors), tensors), backward)
    return again


def _after(first: Sequence[Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors of the same values, which can be computed after others only."""
    nothing: Any = 0.0
    for one in first:
        nothing = nothing + 0 * ops.sum(ops.cast(one, "float32"))
    return [tensor + ops.cast(nothing, tensor.dtype) for tensor in tensors]
