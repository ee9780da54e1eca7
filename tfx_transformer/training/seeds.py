"""Random numbers that are the same in every process."""

from __future__ import annotations

import keras

from tfx_transformer.training import distribution


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy and Keras; on a CPU also make TensorFlow's operations deterministic, so
    that two trainings with the same seed end with the same weights, bit for bit.

    On a GPU some operations have no deterministic form, so determinism is not enabled there.
    Models that are made from now on are on the devices of `--devices`.
    """
    keras.utils.set_random_seed(seed)
    distribution.begin()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            tf.config.experimental.enable_op_determinism()
