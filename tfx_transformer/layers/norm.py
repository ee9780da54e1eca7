"""The normalizations of a Transformer by their names in `TransformerConfig`."""

from __future__ import annotations

import keras
from keras import ops

from tfx_transformer.layers.serializable import serializable


@serializable
class LayerNorm(keras.layers.LayerNormalization):
    """y = (x - mean) * (gamma / sqrt(variance + epsilon)) + beta, over the last axis.

    Ba et al. (2016), equation 4. Keras computes x * s + (beta - mean * s), where s is the bracket:
    two more operations in a TFLite file, where the number of operations decides the time of short
    texts. With `center=False` there is no beta (ModernBERT).

    Call arguments:
        inputs: float (…, width); computed in float32 or more.

    Returns: float (…, width), the compute dtype of the policy.
    """

    def call(self, inputs):
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        x = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(x), axis=-1, keepdims=True)
        scale = ops.rsqrt(variance + self.epsilon) * ops.cast(self.gamma, x.dtype)
        x = x * scale if self.beta is None else x * scale + ops.cast(self.beta, x.dtype)
        return ops.cast(x, self.compute_dtype)


def _rms_norm(**arguments):
    """Keras' layer of Zhang & Sennrich (2019); it sees each vector alone, so it passes masks on."""
    layer = keras.layers.RMSNormalization(**arguments)
    layer.supports_masking = True
    return layer


NORMS = {"layer_norm": LayerNorm, "rms_norm": _rms_norm}


def new_norm(kind, use_bias=True, **arguments):
    """A layer of `NORMS` by its name; without beta unless `use_bias`."""
    if kind == "layer_norm" and not use_bias:
        arguments["center"] = False
    return NORMS[kind](**arguments)
