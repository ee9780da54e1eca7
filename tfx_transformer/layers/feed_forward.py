"""The position-wise feed-forward layer, plain or gated."""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import ops

from tfx_transformer.layers.linear import Linear
from tfx_transformer.layers.serializable import serializable

ACTIVATIONS = {
    "relu": ops.relu,
    "gelu": functools.partial(ops.gelu, approximate=False),
    "gelu_tanh": functools.partial(ops.gelu, approximate=True),
    "silu": ops.silu,
}


@serializable
class FeedForward(keras.layers.Layer):
    """Two projections with an activation between them, the same at every position.

    FFN(x) = f(x W1 + b1) W2 + b2                     Vaswani et al. (2017), section 3.3
    GLU(x) = (f(x Wg + bg) * (x W1 + b1)) W2 + b2     gated: Shazeer (2020), equation 6

    Args:
        intermediate_dim: width between the projections.
        activation: f: "relu", "gelu" (exact), "gelu_tanh" or "silu".
        gated: use the second formula.
        use_bias: biases in the projections.
        dropout: rate before the second projection, in training.

    Call arguments:
        x: float (batch, length, hidden_dim).

    Returns: float (batch, length, hidden_dim), the dtype of x.
    """

    def __init__(
        self,
        intermediate_dim: int,
        activation: str = "gelu",
        gated: bool = False,
        use_bias: bool = True,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"There is no activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}."
            )
        self.intermediate_dim = intermediate_dim
        self.activation = activation
        self.gated = gated
        self.use_bias = use_bias
        self.dropout = dropout

    def build(self, input_shape):
        dense = {"use_bias": self.use_bias, "dtype": self.dtype_policy}
        inner_shape = (*input_shape[:-1], self.intermediate_dim)
        self.expand = Linear(self.intermediate_dim, name="expand", **dense)
        self.expand.build(input_shape)
        if self.gated:
            self.gate = Linear(self.intermediate_dim, name="gate", **dense)
            self.gate.build(input_shape)
        self.contract = Linear(input_shape[-1], name="contract", **dense)
        self.contract.build(inner_shape)
        self.inner_dropout = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)

    def call(self, x, training=None):
        activate = ACTIVATIONS[self.activation]
        inner = activate(self.gate(x)) * self.expand(x) if self.gated else activate(self.expand(x))
        return self.contract(self.inner_dropout(inner, training=training))

    def get_config(self):
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "activation": self.activation,
            "gated": self.gated,
            "use_bias": self.use_bias,
            "dropout": self.dropout,
        }
