"""One TFLite file in LiteRT: its signatures and the buffers they read and write."""

from __future__ import annotations

import functools
import math
import os
from typing import Any

import numpy as np

from tfx_transformer import flags
from tfx_transformer.errors import InputError


class Signature:
    """One signature of a TFLite file and the buffers it reads and writes.

    Args:
        model: `ai_edge_litert.compiled_model.CompiledModel`.
        name: of the signature.
    """

    def __init__(self, model, name: str) -> None:
        self.model, self.name = model, name
        self.inputs = model.get_input_tensor_details(name)
        self.outputs = model.get_output_tensor_details(name)
        self.rows = self.inputs["tokens"]["shape"][0] if "tokens" in self.inputs else 1

    def input_buffer(self, name: str, values: np.ndarray | None = None):
        """A buffer for an input, holding values or zeros."""
        details = self.inputs[name]
        buffer = self.model.create_input_buffer_by_name(self.name, name)
        buffer.write(np.zeros(details["shape"], details["dtype"]) if values is None else values)
        return buffer

    def output_buffer(self, name: str):
        """A buffer for an output."""
        return self.model.create_output_buffer_by_name(self.name, name)

    def invoke(self, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        """Computes; reads and writes the buffers given for every input and output."""
        self.model.run_by_name(self.name, inputs, outputs)

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Computes from arrays or buffers into new buffers."""
        outputs = {name: self.output_buffer(name) for name in self.outputs}
        buffers = {
            name: self.input_buffer(name, value) if isinstance(value, np.ndarray) else value
            for name, value in inputs.items()
        }
        self.invoke(buffers, outputs)
        return outputs

    def read(self, name: str, buffer) -> np.ndarray:
        """The values of an output's buffer."""
        shape = self.outputs[name]["shape"]
        return buffer.read(math.prod(shape), np.float32).reshape(shape)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _environment() -> Any:
    """LiteRT's environment, one for all models: it logs when it is made, and when it is gone."""
    import ai_edge_litert
    from ai_edge_litert.environment import Environment, EnvironmentOptions

    libraries = os.path.dirname(os.path.abspath(ai_edge_litert.__file__))
    return Environment.create(options=EnvironmentOptions(runtime_path=libraries))


def compile_file(file: str | os.PathLike, threads: int | None = None):
    """A `CompiledModel`; LiteRT's start-up messages are dropped.

    Args:
        file: a TFLite file that `export.litert` wrote.
        threads: of LiteRT; None: one per core that this process may use.

    Raises:
        InputError: LiteRT cannot read the file.
    """
    with flags.muted():
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        from ai_edge_litert.options import CpuOptions, Options

        options = Options(
            hardware_accelerators=HardwareAccelerator.CPU,
            cpu_options=CpuOptions(num_threads=threads or _cores()),
        )
        try:
            return CompiledModel.from_file(str(file), environment=_environment(), options=options)
        except Exception as error:
            raise InputError(f"{file} cannot be read as a TFLite model: {error}") from error
