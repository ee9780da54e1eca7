"""The 4-bit weights of a TFLite file, rounded better than the quantizer rounds them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfx_transformer.evaluation.rounding import Choice
from tfx_transformer.export.choosing import choose
from tfx_transformer.export.round_layers import Target
from tfx_transformer.export.rounding import BLOCK, nearest, with_best_scales


class _Matrix(NamedTuple):
    """A matrix in 4 bits: the tensor, its scales' buffer, and its numbers before quantization."""

    tensor: Any
    scales: Any
    numbers: np.ndarray

    @property
    def key(self) -> bytes:
        """The hash of its numbers: each signature has a tensor of its own."""
        return hashlib.sha256(self.numbers).digest() + str(self.numbers.shape).encode()


def round_weights(
    file: Any, plain: Any, model: Any, inputs: Mapping[str, Any] | None
) -> Choice | None:
    """Round the 4-bit matrices of an unpacked TFLite file again, in place, and return the way.

    If the last epochs of the training rounded them to nearest, so does this. Else the way is chosen
    on the inputs: see `choosing.choose`. Without inputs each matrix gets the scales with the
    smallest error, and None is returned.

    Args:
        file: the quantized file: see `compact.unpack`.
        plain: the float32 file that it was made from.
        model: the model of both.
        inputs: inputs of the model by name; None: none are known.
    """
    matrices = list(_matrices(file, plain))
    different = {matrix.key: matrix.numbers for matrix in matrices}
    choice = None
    if model.trained_format == "int4":
        rounded = {key: nearest(numbers) for key, numbers in different.items()}
        choice = Choice("trained", {}, 0, 0)
    elif inputs is None:
        rounded = {key: with_best_scales(numbers) for key, numbers in different.items()}
    else:
        targets = [Target(key, numbers) for key, numbers in different.items()]
        rounded, choice = choose(model, inputs, targets)
    for matrix in matrices:
        codes, scales = rounded[matrix.key].packed()
        file.buffers[matrix.tensor.buffer].data = codes
        matrix.scales.data = scales
    return choice


def _matrices(file: Any, plain: Any) -> Iterator[_Matrix]:
    """Yield the 4-bit matrices of a file. The quantizer keeps the places of tensors."""
    for graph, before in zip(file.subgraphs, plain.subgraphs, strict=True):
        for tensor, old in zip(graph.tensors, before.tensors, strict=False):
            details = tensor.quantization.details if tensor.quantization else None
            if tensor.type != schema.TensorType.INT4 or details is None:
                continue
            if tensor.name != old.name or details.blockSize != BLOCK:
                raise RuntimeError(f"the quantizer moved the tensor {tensor.name!r}.")
            numbers = np.asarray(plain.buffers[old.buffer].data, np.uint8).view("float32")
            scales = file.buffers[graph.tensors[details.scales].buffer]
            yield _Matrix(tensor, scales, numbers.reshape(old.shape))
