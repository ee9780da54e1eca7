"""Updates of a variable that TensorFlow computes in one pass over its numbers.

An optimizer written in single operations reads and writes all weights and moments about twenty
times in a step. These take 0.4 of its processor time in models of about a million parameters:
benchmarks/README.md, "From a table to a bundle".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfx_transformer.annotations import Tensor


def can_fuse(variable: keras.Variable) -> bool:
    """Return True if the functions of this module update a variable as single operations do: on
    TensorFlow, in float32, without a strategy."""
    if keras.backend.backend() != "tensorflow" or variable.dtype != "float32":
        return False
    import tensorflow as tf

    return not tf.distribute.has_strategy()


def sum_of_squares(gradient: Tensor) -> Tensor:
    """Return float32 (), the sum of the squares of float32 numbers."""
    import tensorflow as tf

    return 2 * tf.nn.l2_loss(gradient)


def adam(
    variable: Any,
    moments: tuple[Any, Any],
    gradient: Tensor,
    scale: Tensor,
    betas: Sequence[Tensor],
    alpha: Tensor,
    epsilon: float,
) -> None:
    """Update a variable w and its moments m and v from the gradient g * scale:

    m += (g - m)(1 - beta_1),  v += (g^2 - v)(1 - beta_2),  w -= m alpha / (sqrt(v) + epsilon)

    With scale 0, betas 1 and alpha 0 all stay as they are, whatever is in the gradient.

    Args:
        variable: w, of TensorFlow or Keras.
        moments: m and v.
        gradient: g before it is scaled; with scale 0 it may hold NaN and infinite numbers.
        scale: float32 (), a factor on the gradient.
        betas: beta_1 and beta_2, float32 ().
        alpha: float32 (), the step size with Adam's correction.
        epsilon: keeps the divisor above 0.
    """
    import tensorflow as tf

    # The operation corrects alpha by powers of the betas; with powers of 0 it leaves it as it is.
    tf.raw_ops.ResourceApplyAdam(
        var=_handle(variable),
        m=_handle(moments[0]),
        v=_handle(moments[1]),
        beta1_power=0.0,
        beta2_power=0.0,
        lr=alpha,
        beta1=betas[0],
        beta2=betas[1],
        epsilon=epsilon,
        grad=tf.math.multiply_no_nan(gradient, scale),
    )


def subtract(variable: Any, factor: Tensor, delta: Tensor) -> None:
    """Subtract factor * delta from a variable; the factor is float32 (). With factor 0 the variable
    stays as it is, whatever is in delta."""
    import tensorflow as tf

    delta = tf.math.multiply_no_nan(delta, factor)
    tf.raw_ops.ResourceApplyGradientDescent(var=_handle(variable), alpha=1.0, delta=delta)


def _handle(variable):
    """Return the resource of a variable of TensorFlow or Keras."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
