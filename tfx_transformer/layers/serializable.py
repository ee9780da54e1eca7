"""The registration of a class of this package with Keras."""

from __future__ import annotations

from typing import TypeVar

import keras

from tfx_transformer.registration import FORMER_PACKAGE, PACKAGE

Class = TypeVar("Class", bound=type)


def serializable(cls: Class) -> Class:
    """Registers a class, which `registration.CLASSES` names, so that Keras can load it by name."""
    keras.saving.register_keras_serializable(FORMER_PACKAGE)(cls)
    return keras.saving.register_keras_serializable(PACKAGE)(cls)
