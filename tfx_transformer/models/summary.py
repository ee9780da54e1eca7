"""Shapes and parts of a model's layers, for `keras.Model.summary`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import keras


@contextlib.contextmanager
def describing(model: keras.Model, signature: Mapping[str, keras.InputSpec]) -> Iterator[None]:
    """Let Keras see the parts and the output shape of every layer, in the `with` block.

    Keras describes layers that are models or nodes of a graph; of others it knows neither parts nor
    output shapes.

    Args:
        signature: shape and dtype of the inputs, by name.
    """
    shapes = output_shapes(model, signature)
    layers = model._flatten_layers(include_self=False)
    before = [(layer, dict(vars(layer))) for layer in layers]
    try:
        for layer, attributes in before:
            parts = layer._flatten_layers(include_self=False, recursive=False)
            _set(layer, "layers", [part for part in parts if part.weights])
            if layer in shapes:
                _set(layer, "output_shape", shapes[layer])
                _set(layer, "_build_shapes_dict", attributes.get("_build_shapes_dict") or {"x": ()})
        yield
    finally:
        for layer, attributes in before:
            for name in ("layers", "output_shape", "_build_shapes_dict"):
                _put_back(layer, name, attributes)


def output_shapes(
    model: keras.Model, signature: Mapping[str, keras.InputSpec]
) -> dict[keras.layers.Layer, tuple[int | None, ...]]:
    """Return the output shape of each layer at its first call; None for an axis whose length the
    input decides. Layers that the model does not call are left out."""
    shapes = {}

    def record_shape(layer, call):
        def call_and_record(*arguments, **options):
            result = call(*arguments, **options)
            shapes.setdefault(layer, tuple(keras.tree.flatten(result)[0].shape))
            return result

        return call_and_record

    layers = list(model._flatten_layers(include_self=False))
    before = [(layer, dict(vars(layer))) for layer in layers]
    inputs = {name: keras.KerasTensor(spec.shape, spec.dtype) for name, spec in signature.items()}
    try:
        for layer in layers:
            _set(layer, "call", record_shape(layer, layer.call))
        model.compute_output_spec(inputs)
    finally:
        for layer, attributes in before:
            _put_back(layer, "call", attributes)
    return shapes


def _set(layer, name: str, value) -> None:
    """Set an attribute without Keras tracking it."""
    object.__setattr__(layer, name, value)


def _put_back(layer, name: str, attributes: Mapping) -> None:
    if name in attributes:
        _set(layer, name, attributes[name])
    else:
        vars(layer).pop(name, None)
