"""Runs an exported bundle with ai-edge-litert, NumPy and tiktoken; never TensorFlow or Keras."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tfx_transformer.config import TransformerConfig
from tfx_transformer.errors import InputError
from tfx_transformer.generation import loop
from tfx_transformer.generation.options import GenerationOptions


class Signature:
    """One signature of a TFLite file, run on buffers that stay where they are.

    Outputs are written to buffers that can be the next call's inputs, so a key/value cache goes
    from step to step without being copied.
    """

    def __init__(self, model, name: str) -> None:
        self.model, self.name = model, name
        self.inputs = model.get_input_tensor_details(name)
        self.outputs = model.get_output_tensor_details(name)

    def input_buffer(self, name: str, values: np.ndarray | None = None):
        """A buffer for an input, zeros if no values are given."""
        buffer = self.model.create_input_buffer_by_name(self.name, name)
        details = self.inputs[name]
        if values is None:
            values = np.zeros(details["shape"], _DTYPES[details["dtype"]])
        buffer.write(values)
        return buffer

    def output_buffer(self, name: str):
        """A buffer for an output."""
        return self.model.create_output_buffer_by_name(self.name, name)

    def run(self, inputs: dict, outputs: dict) -> None:
        """Reads and writes the buffers given for every input and output name."""
        self.model.run_by_name(self.name, inputs, outputs)
